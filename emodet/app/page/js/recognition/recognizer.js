/** The recognizer: detects faces and classifies their emotions, like `emodet.inference.recognizer`. */

import { CenterFace } from "./centerface.js";
import { crop } from "./crop.js";
import { FaceDetector } from "./detection.js";
import { occlusionMap } from "./occlusion.js";
import { argmax } from "./smoothing.js";

export class Recognizer {
  /** @param {object} networks result of `openNetworks` @param {object} description page.json */
  constructor(networks, description) {
    this.networks = networks;
    this.model = description.model;
    this.detector = new FaceDetector(new CenterFace(networks.runDetector, description.detector), description.detector);
    this.streamSettings = description.stream;
    this.classWeights = (this.model.class_shares ?? []).map((share) => share ** -description.balance);
  }

  /**
   * Return one row per face: probabilities, followed by valence and arousal if the model file has them. With `prior`
   * "balanced", probabilities are divided by a power of the class shares and rescaled.
   */
  async predictions(image, detections, prior = "trained") {
    const { preprocessing } = this.model;
    const cropBytes = preprocessing.size ** 2 * 3;
    const crops = new Uint8Array(detections.length * cropBytes);
    detections.forEach(({ box, landmarks }, index) =>
      crops.set(crop(image, box, landmarks, preprocessing), index * cropBytes),
    );
    const values = await this.networks.predict(crops, detections.length);
    const { columns } = this.networks;
    const rows = detections.map((_, index) => Array.from(values.subarray(index * columns, (index + 1) * columns)));
    return prior === "balanced" ? rows.map((row) => this.balanced(row)) : rows;
  }

  balanced(row) {
    const weighted = this.classWeights.map((weight, column) => row[column] * weight);
    const sum = weighted.reduce((total, value) => total + value, 0);
    return [...weighted.map((value) => value / sum), ...row.slice(weighted.length)];
  }

  /** Build a face with the fields of `emodet.inference.faces.Face`; `label` is the index of its class. */
  face(detection, prediction, label, certain, trackId = null) {
    const names = this.model.class_names;
    const probabilities = prediction.slice(0, names.length);
    const [valence = null, arousal = null] = prediction.slice(names.length);
    return {
      box: detection.box,
      landmarks: detection.landmarks,
      detection_score: detection.score,
      emotion: certain ? names[label] : "uncertain",
      most_probable: names[argmax(probabilities)],
      confidence: probabilities[label],
      probabilities,
      valence,
      arousal,
      track_id: trackId,
    };
  }

  /** Recognise the faces of an image, highest detection score first. */
  async recognise(image, minConfidence, prior) {
    const detections = await this.detector.detect(image, this.detector.settings.still_sides);
    const predictions = await this.predictions(image, detections, prior);
    return detections.map((detection, index) => {
      const prediction = predictions[index];
      const label = argmax(prediction.slice(0, this.model.class_names.length));
      return this.face(detection, prediction, label, prediction[label] >= minConfidence);
    });
  }

  /** Return the crop of a face and its occlusion map for a class. */
  async heatMap(image, { box, landmarks }, className) {
    const { class_names: names, preprocessing } = this.model;
    const faceCrop = crop(image, box, landmarks, preprocessing);
    const heat = await occlusionMap(this.networks, faceCrop, names.indexOf(className), names.length);
    return { crop: faceCrop, heat, size: preprocessing.size };
  }
}
