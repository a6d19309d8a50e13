/** Recognition of successive frames, like `emodet.inference.stream`: detect or track faces, classify them, and smooth. */

import { Follower } from "./optical_flow.js";
import { Smoother } from "./smoothing.js";
import { Tracker } from "./tracking.js";

const TOLERANCE_S = 1e-6; // rounding error of frame times

/** State of one video or camera: tracks, smoothed predictions and detection schedule. */
export class FaceStream {
  /**
   * @param {import("./recognizer.js").Recognizer} recognizer
   * @param {{longestSide: number, detectEveryS: number}} options size of the search in pixels along the longer side, and
   *   interval of face detection in seconds
   */
  constructor(recognizer, { longestSide, detectEveryS }) {
    this.recognizer = recognizer;
    this.longestSide = longestSide;
    this.detectEveryS = detectEveryS;
    this.tracker = new Tracker(recognizer.streamSettings.patience_s);
    this.follower = new Follower();
    this.smoothers = new Map();
    this.detectedAtS = -Infinity;
  }

  /**
   * Recognise the next frame.
   *
   * @param {{width: number, height: number, data: Uint8ClampedArray}} image RGBA
   * @param {number} timeS seconds, non-decreasing
   * @param {{minConfidence: number, hide: boolean, prior: string}} options `hide` detects faces in every frame and with a
   *   lower threshold, so that all can be hidden
   * @returns {Promise<{faces: object[], hidden: number[][]}>} faces by track number, and the boxes of all active tracks
   */
  async step(image, timeS, { minConfidence, hide, prior }) {
    const { detector, model, streamSettings } = this.recognizer;
    const visible = (await this.locate(image, timeS, hide)).sort((a, b) => a.number - b.number);
    const tracks = visible.filter((track) => track.detection.score >= detector.settings.min_score);
    const predictions = await this.recognizer.predictions(image, tracks.map((track) => track.detection), prior);
    const faces = tracks.map((track, index) => {
      if (!this.smoothers.has(track.number)) this.smoothers.set(track.number, new Smoother(streamSettings.smoothing));
      const smoother = this.smoothers.get(track.number);
      const smoothed = smoother.update(predictions[index], model.class_names.length, timeS, minConfidence);
      return this.recognizer.face(track.detection, smoothed.prediction, smoothed.label, smoothed.certain, track.number);
    });
    return { faces, hidden: this.tracker.tracks.map((track) => track.detection.box) };
  }

  /** Detect or track the faces of the next frame; returns the visible tracks. */
  async locate(image, timeS, hide) {
    const followed = this.follow(image, timeS, hide);
    if (followed) return followed;
    const { detector, streamSettings } = this.recognizer;
    const { min_score: detectorScore, still_sides: stillSides } = detector.settings;
    const minScore = hide ? Math.min(streamSettings.score_to_hide, detectorScore) : detectorScore;
    // Without tracks, also search for very large faces.
    const sides = this.tracker.tracks.length ? [this.longestSide] : [this.longestSide, stillSides.at(-1)];
    const tracks = this.tracker.update(await detector.detect(image, sides, minScore), timeS);
    const active = new Set(this.tracker.tracks.map((track) => track.number));
    for (const number of this.smoothers.keys()) if (!active.has(number)) this.smoothers.delete(number);
    this.detectedAtS = timeS;
    return tracks;
  }

  /** Move the visible tracks to this frame; returns null if faces must be detected. */
  follow(image, timeS, hide) {
    this.follower.addFrame(image);
    const visible = this.tracker.tracks.filter((track) => track.visible);
    // While a face is missing, detect in every frame until its track ends.
    const missing = visible.length < this.tracker.tracks.length;
    const due = timeS - this.detectedAtS >= this.detectEveryS - TOLERANCE_S;
    if (hide || !visible.length || missing || due) return null;
    const moved = visible.map((track) => this.follower.follow(track.detection));
    if (moved.includes(null)) return null;
    visible.forEach((track, index) => Object.assign(track, { detection: moved[index], seenS: timeS }));
    return visible;
  }
}
