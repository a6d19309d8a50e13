/** The video tab: a file is recognised in this browser or on the server, then played with its results. */

import { emotionList, FacesPanel } from "./faces.js";
import { seek, UNREADABLE, waitForEvent, withHiddenVideo } from "./media.js";
import { drawFaces, hideFaces } from "./overlay.js";
import { acceptDrops, byId, download, formatTime, hideError, onSampleClick, percent, showError } from "./page.js";
import { recordAnnotated } from "./recording.js";
import { CsvRows } from "./rows.js";
import { addServerOptions, selectedServerModel, VideoJob } from "./server.js";
import { Timeline } from "./timeline.js";

const MAX_DURATION_S = 3600;
const STEP_S = 1; // step of the arrow keys
const PAGE_STEP_S = 10; // step of the page keys

export class VideoTab {
  constructor({ description, backend, ready }) {
    Object.assign(this, { description, backend, ready });
    this.player = byId("video-player");
    this.canvas = byId("video-canvas");
    this.panel = new FacesPanel(byId("video-faces"), description.model);
    this.timelineCanvas = byId("video-timeline");
    this.timeline = new Timeline(this.timelineCanvas, description.model.colours);
    const input = byId("video-file");
    input.addEventListener("change", () => {
      this.recogniseFile([...input.files]);
      input.value = "";
    });
    acceptDrops(byId("video"), (files) => this.recogniseFile(files));
    onSampleClick(byId("video-sample"), "drawn-faces.mp4", (files) => this.recogniseFile(files));
    byId("video-cancel").addEventListener("click", () => this.abortController?.abort());
    byId("video-close").addEventListener("click", () => this.close());
    byId("video-rows").addEventListener("click", () => download(this.rows.toBlob(), `${this.stem}-emodet.csv`));
    byId("video-save").addEventListener("click", (event) => this.downloadAnnotated(event.target));
    byId("video-blur").addEventListener("change", () => this.draw());
    for (const event of ["timeupdate", "seeked", "loadeddata"]) this.player.addEventListener(event, () => this.draw());
    this.player.addEventListener("play", () => this.drawWhilePlaying());
    this.timelineCanvas.addEventListener("pointerdown", (event) => this.seekToPointer(event));
    this.timelineCanvas.addEventListener("pointermove", (event) => event.buttons && this.seekToPointer(event));
    this.timelineCanvas.addEventListener("keydown", (event) => this.seekByKey(event));
    window.addEventListener("resize", () => this.draw());
    window.addEventListener("pagehide", () => this.job?.delete());
    addServerOptions(byId("video-where"), description);
  }

  note(text) {
    byId("video-note").textContent = text;
  }

  progress(text, fraction, remainingS = null) {
    byId("video-bar").value = fraction ?? 0;
    if (fraction === null) byId("video-bar").removeAttribute("value");
    const left = remainingS === null ? "" : `, ${formatTime(remainingS)} left`;
    byId("video-share").textContent = fraction === null ? `${text} …` : `${text}: ${percent(fraction)}${left}`;
  }

  /** Recognise the first of the files, and show the player with its results. */
  async recogniseFile([file, ...others]) {
    if (!file) return;
    if (this.abortController) return this.note("Only one video at a time can be recognised. Cancel this one first.");
    this.close();
    hideError();
    if (others.length) this.note(`Only ${file.name} is recognised: one video at a time.`);
    this.abortController = new AbortController();
    this.stem = file.name.replace(/\.[^.]*$/, "") || "video";
    this.url = URL.createObjectURL(file);
    byId("video-progress").hidden = false;
    this.timeline.clear();
    this.progress("Opening", 0);
    const { signal } = this.abortController;
    try {
      if (!file.size) throw new Error("The file is empty.");
      const serverModel = selectedServerModel(byId("video-where"));
      const result = await withHiddenVideo(this.url, (video) =>
        serverModel ? this.recogniseOnServer(file, video, serverModel, signal) : this.recogniseHere(video, signal),
      );
      await this.show(file, result);
      if (result.note) this.note(result.note);
    } catch (error) {
      this.close();
      if (error.name === "AbortError") this.note("Stopped.");
      else showError(`${file.name}: ${error.message}`);
    } finally {
      this.abortController = null;
      byId("video-progress").hidden = true;
    }
    return undefined;
  }

  /** Recognise the video in this browser, seeking to one frame after another. */
  async recogniseHere(video, signal) {
    await waitForEvent(video, "loadeddata", signal);
    if (!video.videoWidth) throw new Error("The file has sound but no picture. Choose a video.");
    // Recordings of browsers often have no duration until their end is read.
    if (video.duration === Infinity) {
      video.currentTime = 1e9;
      await waitForEvent(video, "durationchange", signal);
    }
    const { duration } = video;
    if (duration > MAX_DURATION_S) {
      throw new Error(`A length of ${formatTime(duration)} exceeds the limit of one hour in the browser. Cut the video, or use “python -m emodet.predict”.`);
    }
    await this.ready.catch(() => {
      throw new Error("The models could not be loaded. Reload the page.");
    });
    const rate = Number(byId("video-rate").value);
    const hide = byId("video-blur").checked;
    const prior = byId("video-prior").value;
    const { stream_side: longestSide, stream_every_s: detectEveryS } = this.description.detector;
    await this.backend.request("startStream", { stream: "video", longestSide, detectEveryS });
    const count = Math.max(1, Math.floor(duration * rate));
    const frames = [];
    const startedAt = performance.now();
    for (let index = 0; index < count; index += 1) {
      const time = Math.min(duration, (index + 0.5) / rate);
      await seek(video, time, signal);
      const bitmap = await createImageBitmap(video);
      const content = { stream: "video", bitmap, timeS: time, minConfidence: this.description.min_confidence, hide, prior };
      const { faces, hidden, bitmap: image } = await this.backend.request("frame", content, [bitmap]);
      const frame = { time, faces, hidden };
      if (!signal.aborted) this.showPreview(image, video, frame);
      image.close();
      signal.throwIfAborted();
      frames.push(frame);
      const remainingMs = ((performance.now() - startedAt) / (index + 1)) * (count - index - 1);
      this.progress("Recognising", (index + 1) / count, remainingMs / 1000);
    }
    return { frames, step: 1 / rate, note: "" };
  }

  /** Recognise the file on the server; `video` is for the preview. */
  async recogniseOnServer(file, video, model, signal) {
    this.job = new VideoJob(this.description.model.class_names);
    const prior = byId("video-prior").value;
    const options = { model, minConfidence: this.description.min_confidence, blur: byId("video-blur").checked, prior };
    const preview = async (frame) => {
      if (!video.videoWidth || video.seeking) return;
      await seek(video, frame.time, signal);
      this.showPreview(video, video, frame);
    };
    const callbacks = {
      onProgress: (text, fraction) => this.progress(text, fraction),
      // There is no preview if this browser cannot play the file.
      onFrame: (frame) => preview(frame).catch(() => {}),
    };
    return this.job.recognise(file, options, callbacks, signal);
  }

  /** Show the last recognised frame of a video during recognition. */
  showPreview(image, { videoWidth: width, videoHeight: height, duration }, frame) {
    const canvas = byId("video-preview");
    if (byId("video-result").hidden) {
      this.setRecognising(true);
      byId("video-result").hidden = false;
      byId("video-stage").scrollIntoView({ block: "nearest" });
    }
    Object.assign(canvas, { width, height });
    this.paint(canvas.getContext("2d"), image, frame);
    this.panel.show(frame.faces);
    this.timeline.add(frame.time, frame.faces);
    this.timeline.draw(0, duration || 1, { cursor: frame.time });
  }

  /** Show the preview during recognition, or the player with the buttons for the result. */
  setRecognising(isRecognising) {
    byId("video-preview").hidden = !isRecognising;
    for (const id of ["video-player", "video-canvas", "video-tools"]) byId(id).hidden = isRecognising;
  }

  /** Load the file into the player, with the results in timeline and rows. */
  async show(file, { frames, step }) {
    Object.assign(this, { frames, step });
    this.timeline.clear();
    this.rows = new CsvRows(this.description);
    frames.forEach(({ time, faces, number }, index) => {
      this.timeline.add(time, faces);
      this.rows.add(file.name, number ?? index, time, faces);
    });
    this.player.src = this.url;
    this.setRecognising(false);
    byId("video-result").hidden = false;
    const canPlay = await waitForEvent(this.player, "loadeddata").then(() => true, () => false);
    if (!canPlay) {
      if (!this.job?.files?.annotated) throw new Error(UNREADABLE);
      // The server reads more video formats than this browser plays; its annotated video can be played.
      URL.revokeObjectURL(this.url);
      this.url = URL.createObjectURL(await this.job.file("annotated"));
      this.annotated = true;
      this.player.src = this.url;
      await waitForEvent(this.player, "loadeddata");
    }
    this.timelineCanvas.setAttribute("aria-valuemax", this.player.duration.toFixed(1));
    this.draw();
    if (frames.every(({ faces }) => !faces.length)) this.note("No face was found in the video.");
    this.player.focus({ preventScroll: true });
  }

  /** Return the recognised frame at a time, or null. */
  frameAt(time) {
    const { step } = this;
    const frames = this.frames ?? [];
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
    const frame = this.frameAt(player.currentTime);
    if (!this.annotated) this.paint(canvas.getContext("2d"), byId("video-blur").checked ? player : null, frame);
    const faces = frame?.faces ?? [];
    this.panel.show(faces);
    this.timeline.draw(0, player.duration || 1, { cursor: player.currentTime, maxGapS: this.step * 1.5 });
    this.timelineCanvas.setAttribute("aria-valuenow", player.currentTime.toFixed(1));
    this.timelineCanvas.setAttribute("aria-valuetext", `${formatTime(player.currentTime)}: ${emotionList(faces)}`);
  }

  /** Draw the boxes of a frame, and the picture unless it is visible below the canvas. */
  paint(context, image, frame) {
    if (image) context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
    if (byId("video-blur").checked) hideFaces(context, frame ? (frame.hidden ?? frame.faces.map(({ box }) => box)) : []);
    drawFaces(context, frame?.faces ?? [], this.description.model.colours);
  }

  /** Draw at each repaint until the player stops. */
  drawWhilePlaying() {
    this.draw();
    if (!this.player.paused && !this.player.ended) requestAnimationFrame(() => this.drawWhilePlaying());
  }

  seekToPointer(event) {
    const { left, width } = this.timelineCanvas.getBoundingClientRect();
    this.seekTo(this.timeline.timeAt((event.clientX - left) / width, 0, this.player.duration));
  }

  seekByKey(event) {
    const { currentTime: current, duration } = this.player;
    const target = {
      ArrowRight: current + STEP_S, ArrowLeft: current - STEP_S, ArrowUp: current + STEP_S, ArrowDown: current - STEP_S,
      PageUp: current + PAGE_STEP_S, PageDown: current - PAGE_STEP_S, Home: 0, End: duration,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.seekTo(target);
  }

  seekTo(time) {
    this.player.currentTime = Math.min(this.player.duration, Math.max(0, time));
  }

  /** Download the annotated video of the server, or record one while the player plays it once. */
  async downloadAnnotated(button) {
    button.disabled = true;
    try {
      if (this.job?.files?.annotated) {
        download(await this.job.file("annotated"), `${this.stem}-emodet.mp4`);
      } else {
        this.note("Recording while the video plays once …");
        const { blob, extension } = await recordAnnotated(this.player, (context) =>
          this.paint(context, this.player, this.frameAt(this.player.currentTime)),
        );
        download(blob, `${this.stem}-emodet.${extension}`);
        this.note("The annotated video is in your downloads.");
      }
    } catch (error) {
      this.note(error.message);
    }
    button.disabled = false;
  }

  close() {
    this.job?.delete();
    this.player.pause();
    this.player.removeAttribute("src");
    this.player.load();
    if (this.url) URL.revokeObjectURL(this.url);
    Object.assign(this, { frames: null, job: null, url: null, annotated: false });
    byId("video-result").hidden = true;
    this.note("");
  }

  setVisible(isVisible) {
    if (isVisible) this.draw();
    else this.player.pause();
  }
}
