/**
 * Worker that runs the recognition, so that the page stays responsive. Its response to {id, type, …} is {id, result} or
 * {id, error}, after messages {bytes} while loading. Requests run in order: an ONNX Runtime session runs one at a time.
 */

import { openNetworks } from "./recognition/networks.js";
import { Recognizer } from "./recognition/recognizer.js";
import { FaceStream } from "./recognition/stream.js";

let recognizer = null;
let canvas = null;
const streams = new Map();
const images = new Map(); // for heat maps

/** Return the pixels of a bitmap, {width, height, data: RGBA}, composited on white if it can be transparent. */
function pixelsOf(bitmap, transparent) {
  if (canvas?.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  }
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (transparent) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, bitmap.width, bitmap.height);
  }
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

const HANDLERS = {
  async load({ base, description }) {
    const networks = await openNetworks(base, description, (bytes) => self.postMessage({ bytes }));
    recognizer = new Recognizer(networks, description);
    // Warm up: the first run of each network takes several times as long as later ones.
    const side = description.detector.live_side;
    const black = { width: side, height: (side * 3) / 4, data: new Uint8ClampedArray(side * side * 3) };
    await recognizer.detector.detect(black, [side]);
    await recognizer.predictions(black, [{ box: [0, 0, 64, 64], landmarks: null }]);
    return { threads: networks.threads, gpu: networks.gpu, version: networks.version };
  },

  startStream({ stream, ...options }) {
    streams.set(stream, new FaceStream(recognizer, options));
  },

  /** Recognise a frame of a started stream; its bitmap is returned with the result, for drawing. */
  async frame({ stream, bitmap, timeS, ...options }) {
    const result = await streams.get(stream).step(pixelsOf(bitmap, false), timeS, options);
    return { ...result, bitmap };
  },

  /** Recognise a picture; with a key, its pixels are kept for `heatMap` until `forget`. */
  async still({ bitmap, key, minConfidence, prior }) {
    const image = pixelsOf(bitmap, true);
    bitmap.close();
    canvas = null; // frames must not use a canvas as large as this picture
    const faces = await recognizer.recognise(image, minConfidence, prior);
    if (key !== undefined && faces.length) images.set(key, image);
    return { faces };
  },

  async heatMap({ key, face, className }) {
    return recognizer.heatMap(images.get(key), face, className);
  },

  forget({ key }) {
    images.delete(key);
  },
};

let last = Promise.resolve();

self.onmessage = ({ data: { id, type, ...content } }) => {
  last = last.then(async () => {
    try {
      const result = await HANDLERS[type](content);
      self.postMessage({ id, result }, result?.bitmap ? [result.bitmap] : []);
    } catch (error) {
      content.bitmap?.close?.();
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
