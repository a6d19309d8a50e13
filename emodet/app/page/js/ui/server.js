/** What the page asks of the server that stands behind it, where there is one. */

const UNREACHABLE = "The server could not be reached: it may have been stopped. Start it again, then try once more; or choose “in this browser”.";
const REFUSED = "The server needs its token. Open the address that “python -m emodet.app” printed; it contains the token.";
const WAIT_MS = 500;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A sentence of an answer that is none; `status` is the HTTP status. */
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

/** Query parameters without those that are not set. */
const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== ""));

const POINTS = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"];

/** A face or a row of the server in this page's form. */
function faceOf(face, names) {
  return {
    ...face,
    box: face.box ?? [face.x1, face.y1, face.x2, face.y2],
    probabilities: names.map((name) => face.probabilities[name] ?? 0),
    landmarks: face.landmarks ? POINTS.map((point) => face.landmarks[point]) : null,
    track_id: face.track_id ?? null,
  };
}

/** Fill a choice of where to recognise: in this browser, or on the server with one of its models. */
export function offerServer(select, about) {
  for (const { name } of about.server?.models ?? []) select.append(new Option(`on the server (${name})`, name));
}

/** The faces of one picture; waits while the server is busy. */
export async function recognisePicture(file, model, leastConfidence, names) {
  const url = `v1/recognize?${query({ model, min_confidence: leastConfidence })}`;
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

/** Send a video with its progress; gives the job's description. `signal` stops it. */
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
  /** @param {string[]} names the classes' */
  constructor(names) {
    this.names = names;
    this.id = null;
  }

  /**
   * Send a video and wait until it is recognised.
   *
   * @param {(text: string, share: number | null) => void} progress
   * @returns {Promise<{frames: {time: number, faces: object[]}[], note: string}>}
   */
  async recognise(file, { model, leastConfidence, blur }, progress, signal) {
    const wish = query({ model, min_confidence: leastConfidence, blur_faces: blur, annotate: true });
    let job = await upload(file, `v1/videos?${wish}`, (share) => progress("Sending", share), signal);
    this.id = job.id;
    while (job.state === "waiting" || job.state === "running") {
      progress(job.state === "waiting" ? "Waiting for others" : "Recognising", job.progress);
      await pause(WAIT_MS);
      job = await (await asked(`v1/videos/${this.id}`, { signal })).json();
    }
    this.files = job.files;
    const failed = job.error ? sentence(0, job) : "";
    if (!job.files.rows_jsonl || (failed && !job.rows)) throw new Error(failed || "The server found nothing in the video.");
    const lines = (await (await asked(job.files.rows_jsonl, { signal })).text()).split("\n").filter(Boolean);
    const frames = new Map();
    for (const row of lines.map((line) => JSON.parse(line))) {
      if (!frames.has(row.frame)) frames.set(row.frame, { time: row.time_s, faces: [] });
      frames.get(row.frame).faces.push(faceOf(row, this.names));
    }
    return { frames: [...frames.values()], step: 1 / (job.frame_rate || 25), note: failed };
  }

  async file(name) {
    return (await asked(this.files[name])).blob();
  }

  /** Delete everything of it on the server, also while the page is being left. */
  forget() {
    if (this.id) fetch(`v1/videos/${this.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    this.id = null;
  }
}
