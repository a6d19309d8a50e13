/** Assignment of detections to tracks, like `emodet.inference.tracking`. */

import { overlap, sideOf } from "./boxes.js";

const MIN_AFFINITY = 0.25;

/** Similarity of two detections in successive frames, 0..1: mean of the boxes' overlap and the landmarks' proximity. */
function affinity(one, other) {
  const shared = overlap(one.box, other.box);
  if (!one.landmarks || !other.landmarks) return shared;
  const scale = (sideOf(one) + sideOf(other)) / 2;
  if (!(scale > 0)) return 0;
  const distances = one.landmarks.map(([x, y], index) => Math.hypot(x - other.landmarks[index][0], y - other.landmarks[index][1]));
  const distance = distances.reduce((sum, each) => sum + each, 0) / distances.length;
  return (shared + Math.exp(-distance / (scale / 4))) / 2;
}

/** Assigns detections to tracks greedily, best pair first. */
export class Tracker {
  /** @param {number} patienceS time in seconds after which the track of an undetected face ends */
  constructor(patienceS) {
    this.patienceS = patienceS;
    this.nextNumber = 1;
    this.lastTimeS = -Infinity;
    this.tracks = [];
  }

  /**
   * @param {object[]} detections detections of a frame
   * @param {number} timeS seconds, non-decreasing
   * @returns {object[]} the track of each detection, in their order
   */
  update(detections, timeS) {
    // The patience counts from the last detection, so that tracks survive at one frame per second.
    this.tracks = this.tracks.filter((track) => Math.min(this.lastTimeS, timeS) - track.seenS <= this.patienceS);
    this.lastTimeS = timeS;
    const pairs = this.tracks.flatMap((track) =>
      detections.map((detection, position) => ({ track, position, similarity: affinity(track.detection, detection) })),
    );
    pairs.sort((a, b) => b.similarity - a.similarity || a.track.number - b.track.number || a.position - b.position);
    const matched = new Map();
    const numbers = new Set();
    for (const { track, position, similarity } of pairs) {
      if (similarity < MIN_AFFINITY) break;
      if (matched.has(position) || numbers.has(track.number)) continue;
      matched.set(position, track);
      numbers.add(track.number);
    }
    for (const track of this.tracks) track.visible = false;
    return detections.map((detection, position) => {
      let track = matched.get(position);
      if (!track) {
        track = { number: this.nextNumber, detection, seenS: timeS, visible: true };
        this.nextNumber += 1;
        this.tracks.push(track);
      }
      return Object.assign(track, { detection, seenS: timeS, visible: true });
    });
  }
}
