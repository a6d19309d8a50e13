/** Recording of the player with its annotations as a video. */

import { seek } from "./media.js";

const FORMATS = [
  ["video/mp4;codecs=avc1.42E01E", "mp4"],
  ["video/webm;codecs=vp9", "webm"],
  ["video/webm;codecs=vp8", "webm"],
  ["video/webm", "webm"],
];

/**
 * Play the video once from the beginning and record it.
 *
 * @param {HTMLVideoElement} player
 * @param {(context: CanvasRenderingContext2D) => void} paint draws the current frame
 * @returns {Promise<{blob: Blob, extension: string}>}
 */
export async function recordAnnotated(player, paint) {
  const format = typeof MediaRecorder === "function" && FORMATS.find(([type]) => MediaRecorder.isTypeSupported(type));
  if (!format) throw new Error("This browser cannot record videos. Download the CSV, or use “python -m emodet.predict VIDEO --annotate”.");
  const [mimeType, extension] = format;
  const canvas = document.createElement("canvas");
  // Encoders require even sides.
  canvas.width = player.videoWidth - (player.videoWidth % 2);
  canvas.height = player.videoHeight - (player.videoHeight % 2);
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType, videoBitsPerSecond: 4_000_000 });
  const chunks = [];
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  player.pause();
  if (player.currentTime !== 0) await seek(player, 0);
  const { muted } = player;
  player.muted = true;
  paint(context);
  recorder.start(1000);
  try {
    await player.play();
    await new Promise((resolve) => {
      const next = () => {
        paint(context);
        if (player.ended || player.paused) resolve();
        else requestAnimationFrame(next);
      };
      next();
    });
  } finally {
    player.muted = muted;
    recorder.stop();
    await stopped;
    for (const track of recorder.stream.getTracks()) track.stop();
  }
  return { blob: new Blob(chunks, { type: mimeType }), extension };
}
