/** Media elements: waiting for their events, and seeking. */

const TIMEOUT_MS = 20_000;

export const UNREADABLE = "This browser cannot play the file, or the file is damaged. Convert it to MP4 (H.264) or WebM and try again.";

/** Wait for an event of a media element; rejects with a message for the user if it fails or takes too long. */
export function waitForEvent(video, event, signal) {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const settle = (result) => {
      clearTimeout(timer);
      video.removeEventListener(event, onEvent);
      video.removeEventListener("error", onError);
      signal?.removeEventListener("abort", onAbort);
      result();
    };
    const onEvent = () => settle(resolve);
    const onError = () => settle(() => reject(new Error(UNREADABLE)));
    const onAbort = () => settle(() => reject(signal.reason));
    const timer = setTimeout(onError, TIMEOUT_MS);
    video.addEventListener(event, onEvent);
    video.addEventListener("error", onError);
    signal?.addEventListener("abort", onAbort);
  });
}

/** Move to a time in seconds and wait until its frame is decoded. */
export function seek(video, time, signal) {
  const seeked = waitForEvent(video, "seeked", signal);
  video.currentTime = time;
  return seeked;
}

/** Call `use` with a hidden player of a video, and release the player afterwards. */
export async function withHiddenVideo(url, use) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, preload: "auto", src: url });
  try {
    return await use(video);
  } finally {
    video.removeAttribute("src");
    video.load();
  }
}
