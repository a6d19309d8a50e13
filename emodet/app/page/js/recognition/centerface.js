/**
 * CenterFace (Xu et al. 2019), like `emodet.inference.centerface`: boxes, five landmarks, scores.
 * A detection is {box: [x1, y1, x2, y2], landmarks: five [x, y], score}, in pixels of the image.
 */

import { orderedLandmarks, overlap } from "./boxes.js";

/** Convert an image to the input of the network: RGB planes, padded with black to the right and below. */
function toPlanes({ width, height, data }, multiple) {
  const padded = { width: Math.ceil(width / multiple) * multiple, height: Math.ceil(height / multiple) * multiple };
  const area = padded.width * padded.height;
  const values = new Float32Array(3 * area);
  for (let y = 0; y < height; y += 1) {
    let source = y * width * 4;
    let target = y * padded.width;
    for (let x = 0; x < width; x += 1, source += 4, target += 1) {
      values[target] = data[source];
      values[target + area] = data[source + 1];
      values[target + 2 * area] = data[source + 2];
    }
  }
  return { values, padded };
}

function nonMaxSuppression(detections, maxOverlap) {
  const kept = [];
  for (const one of detections.sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(one.box, other.box) <= maxOverlap)) kept.push(one);
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
   * Detect the faces of an image at its own size.
   *
   * @param {{width: number, height: number, data: Uint8ClampedArray}} image RGBA
   * @returns {Promise<object[]>} highest score first
   */
  async detect(image, minScore) {
    const { min_side: minSide, multiple, stride, overlap: maxOverlap } = this.settings;
    if (Math.min(image.width, image.height) < minSide) return [];
    const { values, padded } = toPlanes(image, multiple);
    const { heat, size, offset, points } = await this.run(values, padded.width, padded.height);
    const columns = padded.width / stride;
    const area = columns * (padded.height / stride);
    const detections = [];
    for (let index = 0; index < area; index += 1) {
      const score = heat[index];
      if (score < minScore) continue;
      const row = Math.floor(index / columns);
      const column = index % columns;
      const boxHeight = Math.exp(size[index]) * stride;
      const boxWidth = Math.exp(size[index + area]) * stride;
      const top = (row + offset[index] + 0.5) * stride - boxHeight / 2;
      const left = (column + offset[index + area] + 0.5) * stride - boxWidth / 2;
      const landmarks = [];
      for (let point = 0; point < 5; point += 1) {
        const y = points[index + 2 * point * area] * boxHeight + top;
        const x = points[index + (2 * point + 1) * area] * boxWidth + left;
        landmarks.push([x, y]);
      }
      detections.push({ box: [left, top, left + boxWidth, top + boxHeight], landmarks: orderedLandmarks(landmarks), score });
    }
    return nonMaxSuppression(detections, maxOverlap);
  }
}
