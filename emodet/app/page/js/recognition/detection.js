/** Face detection at several sizes, like `emodet.inference.detectors.find_faces`, with its constants from page.json. */

import { fractionInside, overlap, rollOf, scaled, sideOf } from "./boxes.js";
import { crop } from "./crop.js";
import { reduced } from "./resize.js";

/** Shrink an image to at most `longestSide` pixels along the longer side. */
function reduceImage(image, longestSide) {
  const scale = longestSide / Math.max(image.width, image.height);
  if (scale >= 1) return image;
  const width = Math.max(1, Math.round(image.width * scale));
  const height = Math.max(1, Math.round(image.height * scale));
  return { width, height, data: reduced(image.data, image.width, image.height, 4, width, height) };
}

/** Convert a square from RGB to RGBA. */
function toRgba(pixels, side) {
  const data = new Uint8ClampedArray(side * side * 4).fill(255);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) data.set(pixels.subarray(from, from + 3), to);
  return { width: side, height: side, data };
}

export class FaceDetector {
  /**
   * @param {import("./centerface.js").CenterFace} network
   * @param {object} settings `detector` of page.json
   */
  constructor(network, settings) {
    this.network = network;
    this.settings = settings;
  }

  /**
   * Find every face once: boxes of one face are merged, boxes inside a larger face are dropped, and doubtful faces are
   * checked by a second detection.
   *
   * @param {{width: number, height: number, data: Uint8ClampedArray}} image RGBA
   * @param {number[]} sides sizes of the search: pixels along the longer side
   * @param {number} minScore score threshold; a lower one also returns faces that were not confirmed
   * @returns {Promise<object[]>} highest score first
   */
  async detect(image, sides, minScore = this.settings.min_score) {
    const { inside, min_score: threshold } = this.settings;
    const copy = reduceImage(image, Math.max(...sides));
    const detections = this.merge(await this.search(copy, sides, minScore));
    const kept = [];
    for (const face of detections.sort((a, b) => sideOf(b) - sideOf(a))) {
      const isPart = (other) => other.score >= threshold && fractionInside(face.box, other.box) > inside;
      if (kept.some(isPart)) continue;
      const checked = await this.check(copy, face);
      if (checked.score >= minScore) kept.push(checked);
    }
    const [x, y] = [image.width / copy.width, image.height / copy.height];
    return kept.sort((a, b) => b.score - a.score).map((face) => scaled(face, x, y));
  }

  /** Run the detector at each size; returns [{side, face}]. */
  async search(image, sides, minScore) {
    const { max_face: maxFace, next_side: nextSide } = this.settings;
    const longest = Math.max(image.width, image.height);
    const searched = [];
    for (const side of [...new Set(sides.map((each) => Math.min(each, longest)))].sort((a, b) => b - a)) {
      if (!searched.length || side <= nextSide * searched.at(-1)) searched.push(side);
    }
    const detections = [];
    let small = image;
    for (const side of searched) {
      small = reduceImage(small, side);
      const [x, y] = [image.width / small.width, image.height / small.height];
      for (const face of await this.network.detect(small, minScore)) {
        if (sideOf(face) <= maxFace || side === searched.at(-1)) detections.push({ side, face: scaled(face, x, y) });
      }
    }
    return detections;
  }

  /** Keep one detection per face: of the finest search with a score close to the best one. */
  merge(detections) {
    const { same_face: sameFace, score_step: step } = this.settings;
    const groups = [];
    for (const item of detections.sort((a, b) => b.face.score - a.face.score)) {
      const group = groups.find(([best]) => overlap(best.face.box, item.face.box) > sameFace);
      if (group) group.push(item);
      else groups.push([item]);
    }
    return groups.map((group) => {
      const close = group.filter((item) => item.face.score > group[0].face.score - step);
      return close.reduce((best, item) => (item.side > best.side ? item : best)).face;
    });
  }

  /**
   * Check a face by a second detection; without a confirmation, lower its score below the threshold. The first landmarks
   * of turned faces are often wrong and are replaced by later ones.
   */
  async check(image, face) {
    const { min_score: threshold, sure_score: sureScore, smallest_doubtful: smallest, turned: maxRoll } = this.settings;
    const { roll_error: rollError, upright_score: uprightScore } = this.settings;
    const large = sideOf(face) > this.settings.large;
    const turned = Math.abs(rollOf(face.landmarks)) > maxRoll;
    const sure = face.score >= (large ? this.settings.sure_large_score : sureScore);
    if (face.score < threshold || (sure && !turned)) return face;
    if (sideOf(face) >= smallest) {
      let roll = rollOf(face.landmarks);
      let second = await this.redetect(image, face, roll);
      if (turned && !second) {
        roll = 0;
        second = await this.redetect(image, face, roll);
      }
      if (second) {
        if (second.error > rollError || (large && second.score < uprightScore)) {
          const candidates = [second];
          for (const angle of [90, 180, 270]) candidates.push(await this.redetect(image, face, roll + angle));
          const upright = candidates.filter((each) => each && each.error <= this.settings.quarter_error);
          second = upright.reduce((best, each) => (each.score > best.score ? each : best), { score: 0, landmarks: null });
        }
        const { landmarks } = second;
        const error = Math.abs(((rollOf(landmarks) - rollOf(face.landmarks) + 540) % 360) - 180);
        const isRight = landmarks && error <= rollError && Math.abs(rollOf(landmarks)) <= maxRoll;
        return isRight ? face : { ...face, landmarks };
      }
      if (face.score >= sureScore) return large ? { ...face, landmarks: null } : face;
    }
    return { ...face, score: Math.min(face.score, threshold - 0.01) };
  }

  /**
   * Detect a face again, enlarged and turned upright by `roll` degrees. Returns {score, error: absolute roll in the crop
   * in degrees, landmarks in pixels of the image}, or null if it is not found.
   */
  async redetect(image, face, roll) {
    const { check, check_score: minScore } = this.settings;
    const { size, margin } = check;
    const angle = (roll * Math.PI) / 180;
    const eyes = [[0, 0], [Math.cos(angle), Math.sin(angle)]];
    const enlarged = toRgba(crop(image, face.box, eyes, check), size);
    const edge = (size * margin) / (1 + 2 * margin);
    const middle = [edge, edge, size - edge, size - edge];
    let [best, bestOverlap] = [null, this.settings.check_overlap];
    for (const detection of await this.network.detect(enlarged, minScore)) {
      const shared = overlap(middle, detection.box);
      if (shared > bestOverlap) [best, bestOverlap] = [detection, shared];
    }
    if (!best) return null;
    const scale = (sideOf(face) * (1 + 2 * margin)) / size;
    const [cos, sin] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
    const [centreX, centreY] = [(face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2];
    const landmarks = best.landmarks.map(([x, y]) => {
      const [dx, dy] = [x - size / 2, y - size / 2];
      return [centreX + cos * dx - sin * dy, centreY + sin * dx + cos * dy];
    });
    return { score: best.score, error: Math.abs(rollOf(best.landmarks)), landmarks };
  }
}
