/** Assignment of detections to tracks, like `emodet.inference.tracking`. */

import { overlap, sideOf } from "./boxes.js";

const LEAST_AFFINITY = 0.25;

/** Similarity of two detections, 0..1: mean of the boxes' overlap and the landmarks' proximity. */
export function affinity(one, other) {
  const shared = overlap(one.box, other.box);
  if (!one.landmarks || !other.landmarks) return shared;
  const scale = (sideOf(one) + sideOf(other)) / 2;
  if (!(scale > 0)) return 0;
  const distances = one.landmarks.map(([x, y], at) => Math.hypot(x - other.landmarks[at][0], y - other.landmarks[at][1]));
  const distance = distances.reduce((sum, each) => sum + each, 0) / distances.length;
  return (shared + Math.exp(-distance / (scale / 4))) / 2;
}

/** Numbers faces from frame to frame. */
export class Tracker {
  /** @param {number} patience time in seconds after which the track of an undetected face ends */
  constructor(patience) {
    this.patience = patience;
    this.next = 1;
    this.last = -Infinity;
    this.tracks = [];
  }

  /**
   * @param {object[]} detections detections of a frame
   * @param {number} time seconds, not decreasing
   * @returns {object[]} the track of each detection, in their order
   */
  update(detections, time) {
    // Counted from the last search, so that tracks survive at one frame per second.
    this.tracks = this.tracks.filter((track) => Math.min(this.last, time) - track.seen <= this.patience);
    this.last = time;
    const pairs = this.tracks.flatMap((track) =>
      detections.map((detection, position) => ({ track, position, likeness: affinity(track.detection, detection) })),
    );
    pairs.sort((a, b) => b.likeness - a.likeness || a.track.number - b.track.number || a.position - b.position);
    const taken = new Map();
    const used = new Set();
    for (const { track, position, likeness } of pairs) {
      if (likeness < LEAST_AFFINITY) break;
      if (taken.has(position) || used.has(track.number)) continue;
      taken.set(position, track);
      used.add(track.number);
    }
    for (const track of this.tracks) track.visible = false;
    return detections.map((detection, position) => {
      let track = taken.get(position);
      if (!track) {
        track = { number: this.next, detection, seen: time, visible: true };
        this.next += 1;
        this.tracks.push(track);
      }
      return Object.assign(track, { detection, seen: time, visible: true });
    });
  }
}
