/** A calm reading of one face over time; as `emodet.inference.smoothing`. */

export const bestOf = (values) => values.reduce((best, value, at) => (value > values[best] ? at : best), 0);

export class Smoother {
  /** @param {{seconds: number, margin: number}} smoothing */
  constructor(smoothing) {
    this.smoothing = smoothing;
    this.mean = null;
    this.time = 0;
    this.shown = 0;
    this.certain = true;
  }

  /**
   * @param {ArrayLike<number>} reading the probabilities, with anything else that is to be smoothed after them
   * @param {number} classes how many of them are probabilities
   * @param {number} time seconds, not decreasing
   * @param {number} least the least confidence of a certain answer
   */
  update(reading, classes, time, least) {
    const { seconds } = this.smoothing;
    const first = this.mean === null;
    let { margin } = this.smoothing;
    if (first || seconds === 0) {
      this.mean = Array.from(reading);
      margin = 0;
    } else {
      const weight = 1 - Math.exp(-Math.max(0, time - this.time) / seconds);
      this.mean = this.mean.map((mean, at) => mean + weight * (reading[at] - mean));
    }
    this.time = time;
    const best = bestOf(this.mean.slice(0, classes));
    if (first || seconds === 0 || this.mean[best] - this.mean[this.shown] > margin) this.shown = best;
    const wanted = least + (this.certain || first ? 0 : Math.min(margin, (1 - least) / 2));
    this.certain = this.mean[this.shown] >= wanted;
    return { reading: this.mean.slice(), shown: this.shown, certain: this.certain };
  }
}
