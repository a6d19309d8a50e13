/** The video tab: a file is recognised in this browser or on the server, then played with its results. */

import { FacesPanel } from "./faces.js";
import { drawFaces, hideFaces } from "./overlay.js";
import { byId, clock, download, offerSample, percent, showProblem, takesDrops } from "./page.js";
import { Rows } from "./rows.js";
import { offerServer, ServerVideo } from "./server.js";
import { Timeline } from "./timeline.js";
import { recorded } from "./recording.js";

const LONGEST_S = 3600;
const PATIENCE_MS = 20_000; // time limit for decoding a frame
const STEP_S = 1; // step of the arrow keys

const UNREADABLE = "This browser cannot play the file, or it is damaged. Convert it to MP4 (H.264) or WebM and try again.";

/** Wait for an event of a media element; rejects with a message for the user if it fails or takes too long. */
function happens(video, event, signal) {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const end = (result) => {
      clearTimeout(timer);
      video.removeEventListener(event, good);
      video.removeEventListener("error", bad);
      signal?.removeEventListener("abort", stopped);
      result();
    };
    const good = () => end(resolve);
    const bad = () => end(() => reject(new Error(UNREADABLE)));
    const stopped = () => end(() => reject(signal.reason));
    const timer = setTimeout(bad, PATIENCE_MS);
    video.addEventListener(event, good);
    video.addEventListener("error", bad);
    signal?.addEventListener("abort", stopped);
  });
}

export class VideoTab {
  constructor({ about, backend, ready }) {
    Object.assign(this, { about, backend, ready });
    this.player = byId("video-player");
    this.canvas = byId("video-canvas");
    this.panel = new FacesPanel(byId("video-faces"), about.model);
    this.line = byId("video-timeline");
    this.timeline = new Timeline(this.line, about.model.colours);
    const picked = byId("video-file");
    picked.addEventListener("change", () => {
      this.take([...picked.files]);
      picked.value = "";
    });
    takesDrops(byId("video"), (files) => this.take(files));
    offerSample(byId("video-sample"), "drawn-faces.mp4", (files) => this.take(files));
    byId("video-cancel").addEventListener("click", () => this.stopping?.abort());
    byId("video-close").addEventListener("click", () => this.close());
    byId("video-rows").addEventListener("click", () => download(this.rows.asCsv(), `${this.stem}-emodet.csv`));
    byId("video-save").addEventListener("click", (event) => this.save(event.target));
    byId("video-blur").addEventListener("change", () => this.draw());
    for (const event of ["timeupdate", "seeked", "loadeddata"]) this.player.addEventListener(event, () => this.draw());
    this.player.addEventListener("play", () => this.follow());
    this.line.addEventListener("pointerdown", (event) => this.pointTo(event));
    this.line.addEventListener("pointermove", (event) => event.buttons && this.pointTo(event));
    this.line.addEventListener("keydown", (event) => this.steer(event));
    window.addEventListener("resize", () => this.draw());
    window.addEventListener("pagehide", () => this.remote?.forget());
    offerServer(byId("video-where"), about);
  }

  note(text) {
    byId("video-note").textContent = text;
  }

  progress(text, share) {
    byId("video-bar").value = share ?? 0;
    if (share === null) byId("video-bar").removeAttribute("value");
    byId("video-share").textContent = share === null ? `${text} …` : `${text}: ${percent(share)}`;
  }

  async take([file, ...others]) {
    if (!file) return;
    if (this.stopping) return this.note("One video at a time: cancel this one first.");
    this.close();
    byId("problem").hidden = true;
    if (others.length) this.note(`One video at a time: ${file.name} is taken.`);
    this.stopping = new AbortController();
    this.stem = file.name.replace(/\.[^.]*$/, "") || "video";
    this.url = URL.createObjectURL(file);
    byId("video-progress").hidden = false;
    this.timeline.clear();
    this.progress("Opening", 0);
    const { signal } = this.stopping;
    try {
      if (!file.size) throw new Error("The file is empty.");
      const where = byId("video-where").value;
      const found = where === "here" ? await this.here(signal) : await this.onServer(file, where, signal);
      await this.show(file, found);
      if (found.note) this.note(found.note);
    } catch (problem) {
      this.close();
      if (problem.name === "AbortError") this.note("Stopped.");
      else showProblem(`${file.name}: ${problem.message}`);
    } finally {
      this.stopping = null;
      byId("video-progress").hidden = true;
    }
    return undefined;
  }

  /** Recognise the video in this browser, seeking to each time in turn. */
  async here(signal) {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, preload: "auto", src: this.url });
    try {
      await happens(video, "loadeddata", signal);
      if (!video.videoWidth) throw new Error("The file has sound but no picture. Pick a video.");
      // Recordings of browsers often have no duration until their end is read.
      if (video.duration === Infinity) {
        video.currentTime = 1e9;
        await happens(video, "durationchange", signal);
      }
      const { duration } = video;
      if (duration > LONGEST_S) {
        throw new Error(`${clock(duration)} are longer than the hour that is recognised here. Cut it, or use “python -m emodet.predict”.`);
      }
      await this.ready.catch(() => {
        throw new Error("The models could not be loaded. Reload the page.");
      });
      return await this.recognise(video, duration, signal);
    } finally {
      video.removeAttribute("src");
      video.load();
    }
  }

  async recognise(video, duration, signal) {
    const rate = Number(byId("video-rate").value);
    const hide = byId("video-blur").checked;
    const prior = byId("video-prior").value;
    const { stream_side: longestSide, stream_every_s: detectEvery } = this.about.detector;
    await this.backend.ask("start", { stream: "video", longestSide, detectEvery });
    const count = Math.max(1, Math.floor(duration * rate));
    const frames = [];
    const begun = performance.now();
    for (let index = 0; index < count; index += 1) {
      const time = Math.min(duration, (index + 0.5) / rate);
      const there = happens(video, "seeked", signal);
      video.currentTime = time;
      await there;
      const bitmap = await createImageBitmap(video);
      const ask = { stream: "video", bitmap, time, leastConfidence: this.about.min_confidence, hide, prior };
      const answer = await this.backend.ask("frame", ask, [bitmap]);
      const frame = { time, faces: answer.faces, hidden: answer.hidden };
      if (!signal.aborted) this.preview(answer.bitmap, [video.videoWidth, video.videoHeight], frame, duration);
      answer.bitmap.close();
      signal.throwIfAborted();
      frames.push(frame);
      const left = ((performance.now() - begun) / (index + 1)) * (count - index - 1);
      this.progress(`Recognising, ${clock(left / 1000)} left`, (index + 1) / count);
    }
    return { frames, step: 1 / rate, note: "" };
  }

  async onServer(file, model, signal) {
    this.remote = new ServerVideo(this.about.model.class_names);
    const prior = byId("video-prior").value;
    const wish = { model, leastConfidence: this.about.min_confidence, blur: byId("video-blur").checked, prior };
    const video = document.createElement("video");
    Object.assign(video, { muted: true, preload: "auto", src: this.url });
    const seen = async (frame) => {
      if (!video.videoWidth || video.seeking) return;
      const there = happens(video, "seeked", signal);
      video.currentTime = frame.time;
      await there;
      this.preview(video, [video.videoWidth, video.videoHeight], frame, video.duration);
    };
    const report = {
      progress: (text, share) => this.progress(text, share),
      // There is no preview if this browser cannot play the file.
      seen: (frame) => seen(frame).catch(() => {}),
    };
    try {
      return await this.remote.recognise(file, wish, report, signal);
    } finally {
      video.removeAttribute("src");
      video.load();
    }
  }

  /** Show the last recognised frame during recognition. */
  preview(picture, [width, height], frame, duration) {
    const canvas = byId("video-preview");
    if (byId("video-result").hidden) {
      this.working(true);
      byId("video-result").hidden = false;
      byId("video-stage").scrollIntoView({ block: "nearest" });
    }
    Object.assign(canvas, { width, height });
    this.paint(canvas.getContext("2d"), picture, frame);
    this.panel.show(frame.faces);
    this.timeline.add(frame.time, frame.faces);
    this.timeline.draw(0, duration || 1, { at: frame.time });
  }

  /** Show the preview, or the player with the buttons for the result. */
  working(is) {
    byId("video-preview").hidden = !is;
    for (const id of ["video-player", "video-canvas", "video-tools"]) byId(id).hidden = is;
  }

  async show(file, { frames, step }) {
    Object.assign(this, { frames, step });
    this.timeline.clear();
    this.rows = new Rows(this.about);
    frames.forEach(({ time, faces, number }, index) => {
      this.timeline.add(time, faces);
      this.rows.add(file.name, number ?? index, time, faces);
    });
    this.player.src = this.url;
    this.working(false);
    byId("video-result").hidden = false;
    const played = await happens(this.player, "loadeddata").then(() => true, () => false);
    if (!played) {
      if (!this.remote?.files?.annotated) throw new Error(UNREADABLE);
      // The server reads more video formats than this browser plays; its annotated video can be played.
      URL.revokeObjectURL(this.url);
      this.url = URL.createObjectURL(await this.remote.file("annotated"));
      this.annotated = true;
      this.player.src = this.url;
      await happens(this.player, "loadeddata");
    }
    this.line.setAttribute("aria-valuemax", this.player.duration.toFixed(1));
    this.draw();
    const seen = new Set(frames.flatMap(({ faces }) => faces.map(({ track_id: number }) => number))).size;
    if (!seen) this.note("No face was found in the video.");
    this.player.focus({ preventScroll: true });
  }

  /** Return the result at a time, or null. */
  at(time) {
    const { frames = [], step } = this;
    let low = 0;
    let high = frames.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (frames[middle].time <= time + step / 2) low = middle;
      else high = middle - 1;
    }
    const frame = frames[low];
    return frame && Math.abs(frame.time - time) <= step * 1.5 ? frame : null;
  }

  draw() {
    const { player, canvas } = this;
    if (!this.frames || !player.videoWidth) return;
    canvas.width = player.videoWidth;
    canvas.height = player.videoHeight;
    // Draw in pixels of the picture, in a canvas over the player with the same fit.
    const frame = this.at(player.currentTime);
    if (!this.annotated) this.paint(canvas.getContext("2d"), byId("video-blur").checked ? player : null, frame);
    const faces = frame?.faces ?? [];
    this.panel.show(faces);
    this.timeline.draw(0, player.duration || 1, { at: player.currentTime, gap: this.step * 1.5 });
    this.line.setAttribute("aria-valuenow", player.currentTime.toFixed(1));
    const said = faces.length ? faces.map(({ emotion }) => emotion).join(", ") : "no face";
    this.line.setAttribute("aria-valuetext", `${clock(player.currentTime)}: ${said}`);
  }

  /** Draw the boxes of a frame, and the picture unless it is visible below the canvas. */
  paint(context, picture, frame) {
    if (picture) context.drawImage(picture, 0, 0, context.canvas.width, context.canvas.height);
    if (byId("video-blur").checked) hideFaces(context, frame ? (frame.hidden ?? frame.faces.map(({ box }) => box)) : []);
    drawFaces(context, frame?.faces ?? [], this.about.model.colours);
  }

  follow() {
    this.draw();
    if (!this.player.paused && !this.player.ended) requestAnimationFrame(() => this.follow());
  }

  pointTo(event) {
    const { left, width } = this.line.getBoundingClientRect();
    const time = this.timeline.timeAt((event.clientX - left) / width, 0, this.player.duration);
    this.player.currentTime = Math.min(this.player.duration, Math.max(0, time));
  }

  steer(event) {
    const { currentTime: now, duration } = this.player;
    const to = { ArrowRight: now + STEP_S, ArrowLeft: now - STEP_S, ArrowUp: now + STEP_S, ArrowDown: now - STEP_S, PageUp: now + 10, PageDown: now - 10, Home: 0, End: duration }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.player.currentTime = Math.min(duration, Math.max(0, to));
  }

  /** Download the annotated video of the server, or record one while the player plays it once. */
  async save(button) {
    button.disabled = true;
    try {
      if (this.remote?.files?.annotated) {
        download(await this.remote.file("annotated"), `${this.stem}-emodet.mp4`);
      } else {
        this.note("Recording: the video is played through once …");
        const { blob, ending } = await recorded(this.player, (context) =>
          this.paint(context, this.player, this.at(this.player.currentTime)),
        );
        download(blob, `${this.stem}-emodet.${ending}`);
        this.note("The annotated video is in your downloads.");
      }
    } catch (problem) {
      this.note(problem.message);
    }
    button.disabled = false;
  }

  close() {
    this.remote?.forget();
    this.player.pause();
    this.player.removeAttribute("src");
    this.player.load();
    if (this.url) URL.revokeObjectURL(this.url);
    Object.assign(this, { frames: null, remote: null, url: null, annotated: false });
    byId("video-result").hidden = true;
    this.note("");
  }

  visible(open) {
    if (open) this.draw();
    else this.player.pause();
  }
}
