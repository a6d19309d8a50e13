/** Smoothed prediction of one face over time, like `emodet.inference.tracking.Smoother`. */

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
   * @param {ArrayLike<number>} reading probabilities, followed by other values to smooth
   * @param {number} classes number of probabilities
   * @param {number} time seconds, not decreasing
   * @param {number} least confidence threshold
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
