/** Requests to the page's server, if there is one. */

import { LANDMARKS } from "./rows.js";

const UNREACHABLE = "The server could not be reached. Check that it is running and try again, or choose “in this browser”.";
const UNAUTHORISED = "The server requires its token. Open the address that “python -m emodet.app” printed; it contains the token.";
const MAX_RETRIES = 3; // attempts to reconnect without an event in between

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The message of an error response, with the way out. */
function errorMessage(status, body) {
  if (status === 401) return UNAUTHORISED;
  const { message, way_out: wayOut } = body?.error ?? {};
  return message ? `${message} ${wayOut ?? ""}`.trim() : `The server failed with status ${status}. Try again, or choose “in this browser”.`;
}

/** Send a request; an error has the `response` of the server, if there is one. */
async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    throw new Error(UNREACHABLE, { cause: error });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw Object.assign(new Error(errorMessage(response.status, body)), { response });
}

/** Format query parameters, without undefined and empty ones. */
const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== ""));

/** Convert a face or row of the server to the format of the page. */
function faceOf(face, names) {
  return {
    ...face,
    box: face.box ?? [face.x1, face.y1, face.x2, face.y2],
    probabilities: names.map((name) => face.probabilities[name] ?? 0),
    landmarks: face.landmarks ? LANDMARKS.map((name) => face.landmarks[name]) : null,
    track_id: face.track_id ?? null,
  };
}

/** Add the server's models to the options of where to recognise. */
export function addServerOptions(select, description) {
  for (const { name } of description.server?.models ?? []) select.append(new Option(`on the server (${name})`, name));
}

/** Return the selected model of the server, or null for “in this browser”. */
export const selectedServerModel = ({ value }) => (value === "here" ? null : value);

/** Recognise a picture on the server; waits while the server is busy. */
export async function recogniseOnServer(file, { model, minConfidence, prior }, names) {
  const url = `v1/recognize?${query({ model, min_confidence: minConfidence, prior })}`;
  for (;;) {
    try {
      const response = await request(url, { method: "POST", body: file });
      const { faces } = await response.json();
      return faces.map((face) => faceOf(face, names));
    } catch (error) {
      if (error.response?.status !== 429) throw error;
      await sleep(1000 * Number(error.response.headers.get("Retry-After") ?? 1));
    }
  }
}

/** Upload a video and report the progress; returns the job's status. `signal` aborts the upload. */
function upload(file, url, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", url);
    xhr.responseType = "json";
    xhr.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    xhr.onload = () => (xhr.status < 300 ? resolve(xhr.response) : reject(new Error(errorMessage(xhr.status, xhr.response))));
    xhr.onerror = () => reject(new Error(UNREACHABLE));
    xhr.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => xhr.abort());
    xhr.send(file);
  });
}

/** Recognition of one video on the server. */
export class VideoJob {
  /** @param {string[]} names class names */
  constructor(names) {
    this.names = names;
    this.id = null;
  }

  /**
   * Upload a video and wait for its results.
   *
   * @param {{onProgress: (text: string, fraction: number | null) => void, onFrame: (frame: object) => void}} callbacks
   *   `onFrame` is called with the newest frame
   * @returns {Promise<{frames: {time: number, faces: object[]}[], step: number, note: string}>}
   */
  async recognise(file, { model, minConfidence, blur, prior }, { onProgress, onFrame }, signal) {
    const parameters = query({ model, min_confidence: minConfidence, blur_faces: blur, prior, annotate: true });
    const { id } = await upload(file, `v1/videos?${parameters}`, (fraction) => onProgress("Uploading", fraction), signal);
    this.id = id;
    const frames = new Map();
    const onRows = (rows) => {
      for (const row of rows) {
        if (!frames.has(row.frame)) frames.set(row.frame, { number: row.frame, time: row.time_s, faces: [] });
        frames.get(row.frame).faces.push(faceOf(row, this.names));
      }
      onFrame(frames.get(rows.at(-1).frame));
    };
    const job = await this.waitForEnd({ onRows, onProgress }, signal);
    this.files = job.files ?? {};
    const error = job.error ? errorMessage(0, job) : "";
    if (error && !job.rows) throw new Error(error);
    const damaged = job.damaged ? `${job.damaged} frames are damaged or missing and were not recognised.` : "";
    return { frames: [...frames.values()], step: 1 / (job.frame_rate || 25), note: error || damaged };
  }

  /** Receive the events of the video; returns its final status. */
  waitForEnd({ onRows, onProgress }, signal) {
    return new Promise((resolve, reject) => {
      const source = new EventSource(`v1/videos/${this.id}/events`);
      const close = (settle, value) => {
        source.close();
        settle(value);
      };
      let failures = 0;
      const on = (name, handler) => source.addEventListener(name, ({ data }) => {
        failures = 0;
        handler(JSON.parse(data));
      });
      on("rows", onRows);
      on("progress", (job) => onProgress(job.state === "waiting" ? "Waiting for other videos" : "Recognising", job.progress));
      for (const name of ["done", "failed"]) on(name, (job) => close(resolve, job));
      // The browser reconnects automatically, and the server continues after the last rows.
      source.onerror = () => {
        failures += 1;
        if (source.readyState === EventSource.CLOSED || failures > MAX_RETRIES) close(reject, new Error(UNREACHABLE));
      };
      signal.addEventListener("abort", () => close(reject, signal.reason));
    });
  }

  async file(name) {
    return (await request(this.files[name])).blob();
  }

  /** Delete the video and its results on the server, also while the page is being closed. */
  delete() {
    if (this.id) fetch(`v1/videos/${this.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    this.id = null;
  }
}
