/**
 * Worker that runs the recognition, so that the page stays responsive. Its response to {id, ask, …} is {id, result} or
 * {id, problem}, after messages {bytes} while loading. Requests run in order: an ONNX Runtime session runs one at a time.
 */

import { openNetworks } from "./recognition/networks.js";
import { FaceStream, Recognizer } from "./recognition/recognizer.js";

let recognizer = null;
let canvas = null;
const streams = new Map();
const stills = new Map();

/** Return the pixels of a bitmap, {width, height, data: RGBA}, composited on white. */
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

const ASKS = {
  async open({ base, description }) {
    const networks = await openNetworks(base, description, (bytes) => self.postMessage({ bytes }));
    recognizer = new Recognizer(networks, description);
    // Warm up: the first run of each network takes several times as long as later ones.
    const side = description.detector.live_side;
    const black = { width: side, height: (side * 3) / 4, data: new Uint8ClampedArray((side * side * 3)) };
    await recognizer.detector.find(black, [side]);
    await recognizer.readings(black, [{ box: [0, 0, 64, 64], landmarks: null }]);
    return { threads: networks.threads, gpu: networks.gpu, version: networks.version };
  },

  start({ stream, longestSide, detectEvery }) {
    streams.set(stream, new FaceStream(recognizer, { longestSide, detectEvery }));
  },

  /** Recognise a frame of a started stream; its bitmap is returned with the result, for drawing. */
  async frame({ stream, bitmap, time, leastConfidence, hide, prior }) {
    const begun = performance.now();
    const answer = await streams.get(stream).step(pixelsOf(bitmap, false), time, { leastConfidence, hide, prior });
    return { ...answer, bitmap, took: performance.now() - begun };
  },

  async still({ bitmap, key, leastConfidence, prior }) {
    const picture = pixelsOf(bitmap, true);
    bitmap.close();
    // Not the canvas of frames, which would stay large.
    canvas = null;
    const faces = await recognizer.still(picture, leastConfidence, prior);
    if (key !== undefined && faces.length) stills.set(key, picture);
    return { faces };
  },

  async heat({ key, face, className }) {
    const picture = stills.get(key);
    return recognizer.heat(picture, face, className);
  },

  forget({ key }) {
    stills.delete(key);
  },
};

let last = Promise.resolve();

self.onmessage = ({ data: { id, ask, ...rest } }) => {
  last = last.then(async () => {
    try {
      const result = await ASKS[ask](rest);
      self.postMessage({ id, result }, result?.bitmap ? [result.bitmap] : []);
    } catch (problem) {
      rest.bitmap?.close?.();
      self.postMessage({ id, problem: String(problem?.message ?? problem) });
    }
  });
};
