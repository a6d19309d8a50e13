/**
 * CenterFace (Xu et al. 2019), like `emodet.inference.centerface`: boxes, five landmarks, scores.
 * A detection is {box: [x1, y1, x2, y2], landmarks: five [x, y], score}, in pixels of the picture.
 */

import { orderedLandmarks, overlap } from "./boxes.js";

/** Input of the network: RGB planes, padded with black to the right and below. */
function planes({ width, height, data }, multiple) {
  const full = { width: Math.ceil(width / multiple) * multiple, height: Math.ceil(height / multiple) * multiple };
  const area = full.width * full.height;
  const values = new Float32Array(3 * area);
  for (let y = 0; y < height; y += 1) {
    let source = y * width * 4;
    let target = y * full.width;
    for (let x = 0; x < width; x += 1, source += 4, target += 1) {
      values[target] = data[source];
      values[target + area] = data[source + 1];
      values[target + 2 * area] = data[source + 2];
    }
  }
  return { values, full };
}

/** Non-maximum suppression. */
function separate(found, most) {
  const kept = [];
  for (const one of found.sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(one.box, other.box) <= most)) kept.push(one);
  }
  return kept;
}

export class CenterFace {
  /**
   * @param {(values: Float32Array, width: number, height: number) => Promise<object>} run runs the network and returns
   *   its four maps by name
   * @param {object} settings `detector` of page.json
   */
  constructor(run, settings) {
    this.run = run;
    this.settings = settings;
  }

  /**
   * Detect the faces of a picture at its own size.
   *
   * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA
   */
  async find(picture, minScore) {
    const { min_side: minSide, multiple, stride, overlap: most } = this.settings;
    if (Math.min(picture.width, picture.height) < minSide) return [];
    const { values, full } = planes(picture, multiple);
    const { heat, size, offset, points } = await this.run(values, full.width, full.height);
    const columns = full.width / stride;
    const area = columns * (full.height / stride);
    const found = [];
    for (let at = 0; at < area; at += 1) {
      const score = heat[at];
      if (score < minScore) continue;
      const row = Math.floor(at / columns);
      const column = at % columns;
      const high = Math.exp(size[at]) * stride;
      const wide = Math.exp(size[at + area]) * stride;
      const top = (row + offset[at] + 0.5) * stride - high / 2;
      const left = (column + offset[at + area] + 0.5) * stride - wide / 2;
      const landmarks = [];
      for (let point = 0; point < 5; point += 1) {
        const y = points[at + 2 * point * area] * high + top;
        const x = points[at + (2 * point + 1) * area] * wide + left;
        landmarks.push([x, y]);
      }
      found.push({ box: [left, top, left + wide, top + high], landmarks: orderedLandmarks(landmarks), score });
    }
    return separate(found, most);
  }
}
