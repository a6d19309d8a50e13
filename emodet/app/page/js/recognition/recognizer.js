/** The recognizer: detects faces and classifies their emotions, like `emodet.inference.recognizer`. */

import { CenterFace } from "./centerface.js";
import { crop } from "./crop.js";
import { FaceDetector } from "./detection.js";
import { Follower } from "./following.js";
import { occlusionMap } from "./occlusion.js";
import { bestOf, Smoother } from "./smoothing.js";
import { Tracker } from "./tracking.js";

export class Recognizer {
  /** @param {object} networks result of `openNetworks` @param {object} description page.json */
  constructor(networks, description) {
    this.networks = networks;
    this.model = description.model;
    this.detector = new FaceDetector(new CenterFace(networks.detect, description.detector), description.detector);
    this.settings = description.stream;
    this.classWeights = (this.model.class_shares ?? []).map((share) => share ** -description.balance);
  }

  /**
   * Return one row per face: probabilities, followed by valence and arousal if the model file has them. With `prior`
   * "balanced", probabilities are divided by a power of the class shares and rescaled.
   */
  async readings(picture, detections, prior = "trained") {
    const { preprocessing } = this.model;
    const each = preprocessing.size ** 2 * 3;
    const crops = new Uint8Array(detections.length * each);
    detections.forEach(({ box, landmarks }, at) => crops.set(crop(picture, box, landmarks, preprocessing), at * each));
    const values = await this.networks.readings(crops, detections.length);
    const wide = this.networks.columns;
    const rows = detections.map((_, at) => Array.from(values.subarray(at * wide, (at + 1) * wide)));
    return prior === "balanced" ? rows.map((row) => this.balanced(row)) : rows;
  }

  balanced(row) {
    const weighted = this.classWeights.map((weight, column) => row[column] * weight);
    const sum = weighted.reduce((total, value) => total + value, 0);
    return [...weighted.map((value) => value / sum), ...row.slice(weighted.length)];
  }

  /** Build a face with the fields of `emodet.inference.faces.Face`. */
  face(detection, reading, shown, certain, track = null) {
    const names = this.model.class_names;
    const probabilities = reading.slice(0, names.length);
    const more = reading.length > names.length;
    return {
      box: detection.box,
      landmarks: detection.landmarks,
      detection_score: detection.score,
      emotion: certain ? names[shown] : "uncertain",
      most_probable: names[bestOf(probabilities)],
      confidence: probabilities[shown],
      probabilities,
      valence: more ? reading[names.length] : null,
      arousal: more ? reading[names.length + 1] : null,
      track_id: track,
    };
  }

  /** Recognise the faces of a picture, highest detection score first. */
  async still(picture, leastConfidence, prior) {
    const found = await this.detector.find(picture, this.detector.settings.still_sides);
    const readings = await this.readings(picture, found, prior);
    return found.map((detection, at) => {
      const shown = bestOf(readings[at].slice(0, this.model.class_names.length));
      return this.face(detection, readings[at], shown, readings[at][shown] >= leastConfidence);
    });
  }

  /** Return the crop of a face and its heat map for a class. */
  async heat(picture, { box, landmarks }, className) {
    const { class_names: names, preprocessing } = this.model;
    const cut = crop(picture, box, landmarks, preprocessing);
    const run = (crops, count) => this.networks.readings(crops, count);
    const heat = await occlusionMap(run, cut, names.indexOf(className), names.length, this.networks.columns);
    return { crop: cut, heat, size: preprocessing.size };
  }
}

/** State of one video or camera: tracks, smoothed predictions and detection schedule. */
export class FaceStream {
  /**
   * @param {Recognizer} recognizer
   * @param {{longestSide: number, detectEvery: number}} pace size of the search in pixels, and interval between searches
   *   in seconds
   */
  constructor(recognizer, { longestSide, detectEvery }) {
    this.recognizer = recognizer;
    this.longestSide = longestSide;
    this.detectEvery = detectEvery;
    this.tracker = new Tracker(recognizer.settings.patience_s);
    this.follower = new Follower();
    this.smoothers = new Map();
    this.searched = -Infinity;
  }

  /**
   * Recognise the next frame.
   *
   * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA
   * @param {number} time seconds, not decreasing
   * @param {{leastConfidence: number, hide: boolean, prior: string}} wish `hide` detects faces in every frame and with a
   *   lower threshold, so that all can be hidden
   * @returns {Promise<{faces: object[], hidden: number[][]}>} faces by track number, and boxes of all faces seen in the
   *   last second
   */
  async step(picture, time, { leastConfidence, hide, prior }) {
    const tracks = (await this.locate(picture, time, hide)).sort((a, b) => a.number - b.number);
    const least = this.recognizer.detector.settings.min_score;
    const sure = tracks.filter((track) => track.detection.score >= least);
    const readings = await this.recognizer.readings(picture, sure.map((track) => track.detection), prior);
    const classes = this.recognizer.model.class_names.length;
    const faces = sure.map((track, at) => {
      if (!this.smoothers.has(track.number)) {
        this.smoothers.set(track.number, new Smoother(this.recognizer.settings.smoothing));
      }
      const calm = this.smoothers.get(track.number).update(readings[at], classes, time, leastConfidence);
      return this.recognizer.face(track.detection, calm.reading, calm.shown, calm.certain, track.number);
    });
    return { faces, hidden: this.tracker.tracks.map((track) => track.detection.box) };
  }

  async locate(picture, time, hide) {
    const followed = this.follow(picture, time, hide);
    if (followed) return followed;
    const { settings } = this.recognizer.detector;
    const score = hide ? Math.min(this.recognizer.settings.score_to_hide, settings.min_score) : settings.min_score;
    // Without tracks, also search for very large faces.
    const sides = this.tracker.tracks.length ? [this.longestSide] : [this.longestSide, settings.still_sides.at(-1)];
    const found = await this.recognizer.detector.find(picture, sides, score);
    const tracks = this.tracker.update(found, time);
    const alive = new Set(this.tracker.tracks.map((track) => track.number));
    for (const number of this.smoothers.keys()) if (!alive.has(number)) this.smoothers.delete(number);
    this.searched = time;
    return tracks;
  }

  /** Move the visible tracks to this frame; returns null if faces must be detected. */
  follow(picture, time, hide) {
    this.follower.look(picture);
    const visible = this.tracker.tracks.filter((track) => track.visible);
    // While a face is missing, detect in every frame until its track ends.
    const missed = visible.length < this.tracker.tracks.length;
    if (hide || !visible.length || missed || time - this.searched >= this.detectEvery - 1e-6) return null;
    const moved = visible.map((track) => this.follower.follow(track.detection));
    if (moved.includes(null)) return null;
    visible.forEach((track, at) => Object.assign(track, { detection: moved[at], seen: time }));
    return visible;
  }
}
