/** Face search at several sizes, like `emodet.inference.detectors.find_faces`, with its constants from page.json. */

import { overlap, shareInside, sideOf, stretched } from "./boxes.js";
import { crop } from "./crop.js";
import { reduced } from "./resize.js";

/** Shrink a picture to at most this many pixels along the longer side. */
function reducedPicture(picture, longestSide) {
  const scale = longestSide / Math.max(picture.width, picture.height);
  if (scale >= 1) return picture;
  const width = Math.max(1, Math.round(picture.width * scale));
  const height = Math.max(1, Math.round(picture.height * scale));
  return { width, height, data: reduced(picture.data, picture.width, picture.height, 4, width, height) };
}

/** RGB to RGBA. */
function withAlpha(pixels, side) {
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
   * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA
   * @param {number[]} sides sizes of the search: pixels along the longer side
   * @param {number} minScore score threshold; a lower one also returns faces that were not confirmed
   * @returns {Promise<object[]>} highest score first
   */
  async find(picture, sides, minScore = this.settings.min_score) {
    const { inside, min_score: certain } = this.settings;
    const copy = reducedPicture(picture, Math.max(...sides));
    const found = this.merged(await this.search(copy, sides, minScore));
    const kept = [];
    for (const face of found.sort((a, b) => sideOf(b) - sideOf(a))) {
      const isPart = (other) => other.score >= certain && shareInside(face.box, other.box) > inside;
      if (kept.some(isPart)) continue;
      const checked = await this.checked(copy, face);
      if (checked.score >= minScore) kept.push(checked);
    }
    const [x, y] = [picture.width / copy.width, picture.height / copy.height];
    return kept.sort((a, b) => b.score - a.score).map((face) => stretched(face, x, y));
  }

  /** Run the detector at each size; returns [{side, face}]. */
  async search(picture, sides, minScore) {
    const { max_face: maxFace, next_side: nextSide } = this.settings;
    const longest = Math.max(picture.width, picture.height);
    const searched = [];
    for (const side of [...new Set(sides.map((each) => Math.min(each, longest)))].sort((a, b) => b - a)) {
      if (!searched.length || side <= nextSide * searched.at(-1)) searched.push(side);
    }
    const found = [];
    let small = picture;
    for (const side of searched) {
      small = reducedPicture(small, side);
      const [x, y] = [picture.width / small.width, picture.height / small.height];
      for (const face of await this.network.find(small, minScore)) {
        if (sideOf(face) <= maxFace || side === searched.at(-1)) found.push({ side, face: stretched(face, x, y) });
      }
    }
    return found;
  }

  /** Keep one detection per face: of the finest search with a score close to the best one. */
  merged(found) {
    const { same_face: sameFace, score_step: step } = this.settings;
    const groups = [];
    for (const item of found.sort((a, b) => b.face.score - a.face.score)) {
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
  async checked(picture, face) {
    const { min_score: certain, sure_score: sureScore, smallest_doubtful: smallest, turned } = this.settings;
    const { roll_error: rollError, upright_score: uprightScore } = this.settings;
    const [large, isTurned] = [sideOf(face) > this.settings.large, Math.abs(roll(face.landmarks)) > turned];
    const sure = face.score >= (large ? this.settings.sure_large_score : sureScore);
    if (face.score < certain || (sure && !isTurned)) return face;
    if (sideOf(face) >= smallest) {
      let start = roll(face.landmarks);
      let look = await this.secondLook(picture, face, start);
      if (isTurned && !look) {
        start = 0;
        look = await this.secondLook(picture, face, start);
      }
      if (look) {
        if (look.error > rollError || (large && look.score < uprightScore)) {
          const looks = [look];
          for (const angle of [90, 180, 270]) looks.push(await this.secondLook(picture, face, start + angle));
          const upright = looks.filter((each) => each && each.error <= this.settings.quarter_error);
          look = upright.reduce((best, each) => (each.score > best.score ? each : best), { score: 0, landmarks: null });
        }
        const { landmarks } = look;
        const error = Math.abs(((roll(landmarks) - roll(face.landmarks) + 540) % 360) - 180);
        const isRight = landmarks && error <= rollError && Math.abs(roll(landmarks)) <= turned;
        return isRight ? face : { ...face, landmarks };
      }
      if (face.score >= sureScore) return large ? { ...face, landmarks: null } : face;
    }
    return { ...face, score: Math.min(face.score, certain - 0.01) };
  }

  /**
   * Detect a face again, enlarged and turned upright by `degrees`. Returns {score, error: absolute roll in the crop in
   * degrees, landmarks in pixels of the picture}, or null if it is not found.
   */
  async secondLook(picture, face, degrees) {
    const { check, check_score: minScore } = this.settings;
    const { size, margin } = check;
    const angle = (degrees * Math.PI) / 180;
    const eyes = [[0, 0], [Math.cos(angle), Math.sin(angle)]];
    const enlarged = withAlpha(crop(picture, face.box, eyes, check), size);
    const edge = (size * margin) / (1 + 2 * margin);
    const middle = [edge, edge, size - edge, size - edge];
    let [best, most] = [null, this.settings.check_overlap];
    for (const found of await this.network.find(enlarged, minScore)) {
      const share = overlap(middle, found.box);
      if (share > most) [best, most] = [found, share];
    }
    if (!best) return null;
    const scale = (sideOf(face) * (1 + 2 * margin)) / size;
    const [cos, sin] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
    const [centreX, centreY] = [(face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2];
    const landmarks = best.landmarks.map(([x, y]) => {
      const [dx, dy] = [x - size / 2, y - size / 2];
      return [centreX + cos * dx - sin * dy, centreY + sin * dx + cos * dy];
    });
    return { score: best.score, error: Math.abs(roll(best.landmarks)), landmarks };
  }
}

/** Angle of the line through the eyes in degrees, clockwise, -180..180; 0 without landmarks. */
function roll(landmarks) {
  if (!landmarks) return 0;
  const [[ax, ay], [bx, by]] = landmarks;
  return (Math.atan2(by - ay, bx - ax) * 180) / Math.PI;
}
