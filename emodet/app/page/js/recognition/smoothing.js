/** Smoothed prediction of one track, like `emodet.inference.tracking.Smoother`. */

export const argmax = (values) => values.reduce((best, value, index) => (value > values[best] ? index : best), 0);

export class Smoother {
  /** @param {{seconds: number, margin: number}} smoothing */
  constructor(smoothing) {
    this.smoothing = smoothing;
    this.mean = null;
    this.timeS = 0;
    this.label = 0;
    this.certain = true;
  }

  /**
   * Add the prediction of a frame.
   *
   * @param {ArrayLike<number>} prediction probabilities, followed by other values to smooth
   * @param {number} classes number of probabilities
   * @param {number} timeS seconds, non-decreasing
   * @param {number} minConfidence confidence threshold
   * @returns {{prediction: number[], label: number, certain: boolean}} smoothed prediction, index of the label, and
   *   whether the label reaches the confidence threshold
   */
  update(prediction, classes, timeS, minConfidence) {
    const { seconds, margin } = this.smoothing;
    const fresh = this.mean === null || seconds === 0;
    if (fresh) {
      this.mean = Array.from(prediction);
    } else {
      const weight = 1 - Math.exp(-Math.max(0, timeS - this.timeS) / seconds);
      this.mean = this.mean.map((mean, index) => mean + weight * (prediction[index] - mean));
    }
    this.timeS = timeS;
    const best = argmax(this.mean.slice(0, classes));
    if (fresh || this.mean[best] - this.mean[this.label] > margin) this.label = best;
    const rise = this.certain || fresh ? 0 : Math.min(margin, (1 - minConfidence) / 2);
    this.certain = this.mean[this.label] >= minConfidence + rise;
    return { prediction: this.mean.slice(), label: this.label, certain: this.certain };
  }
}
