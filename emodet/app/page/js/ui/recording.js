/** Recording of the player with its annotations as a video. */

const KINDS = [
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
 * @returns {Promise<{blob: Blob, ending: string}>}
 */
export async function recorded(player, paint) {
  const kind = typeof MediaRecorder === "function" && KINDS.find(([type]) => MediaRecorder.isTypeSupported(type));
  if (!kind) throw new Error("This browser cannot record videos. Download the CSV, or use “python -m emodet.predict VIDEO --annotate”.");
  const canvas = document.createElement("canvas");
  // Encoders need even sides.
  canvas.width = player.videoWidth - (player.videoWidth % 2);
  canvas.height = player.videoHeight - (player.videoHeight % 2);
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: kind[0], videoBitsPerSecond: 4_000_000 });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  player.pause();
  if (player.currentTime !== 0) {
    const there = new Promise((resolve) => player.addEventListener("seeked", resolve, { once: true }));
    player.currentTime = 0;
    await there;
  }
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
  return { blob: new Blob(parts, { type: kind[0] }), ending: kind[1] };
}
