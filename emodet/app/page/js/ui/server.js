/** Requests to the page's server, if there is one. */

const UNREACHABLE = "The server could not be reached: it may have been stopped. Start it again, then try once more; or choose “in this browser”.";
const REFUSED = "The server needs its token. Open the address that “python -m emodet.app” printed; it contains the token.";
const RETRIES = 3; // attempts to reconnect without an event in between

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** An error response; `status` is the HTTP status. */
function sentence(status, body) {
  if (status === 401) return REFUSED;
  const { message, way_out: wayOut } = body?.error ?? {};
  return message ? `${message} ${wayOut ?? ""}`.trim() : `The server answered ${status}. Try again, or choose “in this browser”.`;
}

async function asked(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Error(UNREACHABLE, { cause: problem });
  }
  if (!answer.ok) throw Object.assign(new Error(sentence(answer.status, await answer.json().catch(() => null))), { answer });
  return answer;
}

/** Format query parameters, without undefined ones. */
const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== ""));

const POINTS = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"];

/** Convert a face or row of the server to the format of the page. */
function faceOf(face, names) {
  return {
    ...face,
    box: face.box ?? [face.x1, face.y1, face.x2, face.y2],
    probabilities: names.map((name) => face.probabilities[name] ?? 0),
    landmarks: face.landmarks ? POINTS.map((point) => face.landmarks[point]) : null,
    track_id: face.track_id ?? null,
  };
}

/** Fill the choices of where to recognise: in this browser, or with a model of the server. */
export function offerServer(select, about) {
  for (const { name } of about.server?.models ?? []) select.append(new Option(`on the server (${name})`, name));
}

/** Recognise a picture on the server; waits while the server is busy. */
export async function recognisePicture(file, { model, leastConfidence, prior }, names) {
  const url = `v1/recognize?${query({ model, min_confidence: leastConfidence, prior })}`;
  for (;;) {
    try {
      const answer = await asked(url, { method: "POST", body: file });
      const { faces } = await answer.json();
      return faces.map((face) => faceOf(face, names));
    } catch (problem) {
      if (problem.answer?.status !== 429) throw problem;
      await pause(1000 * Number(problem.answer.headers.get("Retry-After") ?? 1));
    }
  }
}

/** Upload a video and report the progress; returns the job's status. `signal` aborts the upload. */
function upload(file, url, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => progress(total ? loaded / total : 0);
    request.onload = () =>
      request.status < 300 ? resolve(request.response) : reject(new Error(sentence(request.status, request.response)));
    request.onerror = () => reject(new Error(UNREACHABLE));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

export class ServerVideo {
  /** @param {string[]} names class names */
  constructor(names) {
    this.names = names;
    this.id = null;
  }

  /**
   * Upload a video and wait for its results.
   *
   * @param {{progress: (text: string, share: number | null) => void, seen: (frame: object) => void}} report `seen` is
   *   called with the newest frame
   * @returns {Promise<{frames: {time: number, faces: object[]}[], note: string}>}
   */
  async recognise(file, { model, leastConfidence, blur, prior }, { progress, seen }, signal) {
    const wish = query({ model, min_confidence: leastConfidence, blur_faces: blur, prior, annotate: true });
    const { id } = await upload(file, `v1/videos?${wish}`, (share) => progress("Sending", share), signal);
    this.id = id;
    const frames = new Map();
    const take = (row) => {
      if (!frames.has(row.frame)) frames.set(row.frame, { number: row.frame, time: row.time_s, faces: [] });
      frames.get(row.frame).faces.push(faceOf(row, this.names));
    };
    const rows = (found) => {
      found.forEach(take);
      seen(frames.get(found.at(-1).frame));
    };
    const job = await this.end({ rows, progress }, signal);
    this.files = job.files ?? {};
    const failed = job.error ? sentence(0, job) : "";
    if (failed && !job.rows) throw new Error(failed);
    const damaged = job.damaged ? `${job.damaged} frames are damaged or missing and were not recognised.` : "";
    return { frames: [...frames.values()], step: 1 / (job.frame_rate || 25), note: failed || damaged };
  }

  /** Follow the events of the video; returns its final status. */
  end({ rows, progress }, signal) {
    return new Promise((resolve, reject) => {
      const source = new EventSource(`v1/videos/${this.id}/events`);
      const close = (settle, value) => {
        source.close();
        settle(value);
      };
      let failures = 0;
      const on = (name, act) => source.addEventListener(name, ({ data }) => {
        failures = 0;
        act(JSON.parse(data));
      });
      on("rows", rows);
      on("progress", (job) => progress(job.state === "waiting" ? "Waiting for others" : "Recognising", job.progress));
      for (const name of ["done", "failed"]) on(name, (job) => close(resolve, job));
      // The browser reconnects automatically, and the server continues after the last rows.
      source.onerror = () => {
        failures += 1;
        if (source.readyState === EventSource.CLOSED || failures > RETRIES) close(reject, new Error(UNREACHABLE));
      };
      signal.addEventListener("abort", () => close(reject, signal.reason));
    });
  }

  async file(name) {
    return (await asked(this.files[name])).blob();
  }

  /** Delete the video and its results on the server, also while the page is being closed. */
  forget() {
    if (this.id) fetch(`v1/videos/${this.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    this.id = null;
  }
}
