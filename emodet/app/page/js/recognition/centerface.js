/**
 * CenterFace (Xu et al. 2019) as `emodet.inference.centerface` runs it: boxes, five landmarks, scores.
 * A detection is {box: [x1, y1, x2, y2], landmarks: five [x, y], score}, in pixels of the picture as it came.
 */

import { reduced } from "./resize.js";

/** What the network is given: planes of RGB, filled up with black to a multiple to the right and below. */
function planes(picture, scale, multiple) {
  const width = Math.max(1, Math.round(picture.width * scale));
  const height = Math.max(1, Math.round(picture.height * scale));
  const small =
    scale < 1 ? reduced(picture.data, picture.width, picture.height, 4, width, height) : picture.data;
  const full = { width: Math.ceil(width / multiple) * multiple, height: Math.ceil(height / multiple) * multiple };
  const area = full.width * full.height;
  const values = new Float32Array(3 * area);
  for (let y = 0; y < height; y += 1) {
    let source = y * width * 4;
    let target = y * full.width;
    for (let x = 0; x < width; x += 1, source += 4, target += 1) {
      values[target] = small[source];
      values[target + area] = small[source + 1];
      values[target + 2 * area] = small[source + 2];
    }
  }
  return { values, full, width, height };
}

const overlap = ([ax, ay, bx, by], [cx, cy, dx, dy]) => {
  const width = Math.min(bx, dx) - Math.max(ax, cx);
  const height = Math.min(by, dy) - Math.max(ay, cy);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  return shared / ((bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - shared);
};

/** Of those that lie over each other only the surest. */
function separate(found, most) {
  const kept = [];
  for (const one of found.sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(one.box, other.box) <= most)) kept.push(one);
  }
  return kept;
}

const byX = (a, b) => a[0] - b[0];

export class CenterFace {
  /**
   * @param {(values: Float32Array, width: number, height: number) => Promise<object>} run the network: its four maps
   *   by name, each {data, dims}
   * @param {object} settings the detector's part of page.json
   */
  constructor(run, settings) {
    this.run = run;
    this.settings = settings;
  }

  /**
   * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA
   * @param {number} longestSide a larger picture is searched at this many pixels
   * @param {number} leastScore leave out what is less sure
   */
  async find(picture, longestSide, leastScore = this.settings.min_score) {
    const { least_side, multiple, stride, overlap: most } = this.settings;
    if (Math.min(picture.width, picture.height) < least_side) return [];
    const scale = Math.min(1, longestSide / Math.max(picture.width, picture.height));
    const { values, full, width, height } = planes(picture, scale, multiple);
    const { heat, size, offset, points } = await this.run(values, full.width, full.height);
    const columns = full.width / stride;
    const area = columns * (full.height / stride);
    const stretchX = picture.width / width;
    const stretchY = picture.height / height;
    const found = [];
    for (let at = 0; at < area; at += 1) {
      const score = heat[at];
      if (score < leastScore) continue;
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
        landmarks.push([x * stretchX, y * stretchY]);
      }
      found.push({
        box: [left * stretchX, top * stretchY, (left + wide) * stretchX, (top + high) * stretchY],
        landmarks: [
          ...landmarks.slice(0, 2).sort(byX),
          landmarks[2],
          ...landmarks.slice(3).sort(byX),
        ],
        score,
      });
    }
    return separate(found, most);
  }
}

export { overlap };
