/**
 * The live view. It shows recognised frames and never the camera's own picture, so that boxes do not lag behind and no
 * face is visible before it is hidden.
 */

import { FacesPanel } from "./faces.js";
import { drawFaces, hideFaces } from "./overlay.js";
import { asPng, byId, confidenceSlider, download, showProblem, stamp } from "./page.js";
import { Rows } from "./rows.js";
import { Timeline } from "./timeline.js";

const SPAN = 30; // seconds of the timeline
const SAID_EVERY = 3; // seconds between messages to screen readers
const SILENT = 3; // seconds without a frame after which the page shows a message

const SENTENCES = {
  NotAllowedError:
    "The camera was not allowed. Allow it for this page (the camera sign in the address bar, or the browser's settings), then press “Start the camera” again.",
  NotFoundError: "No camera was found. Plug one in, then press “Start the camera” again; pictures and videos work without one, and there are samples of both.",
  NotReadableError:
    "The camera could not be opened: another program, or another tab, may be using it. Close that one, then press “Start the camera” again.",
  OverconstrainedError: "The chosen camera is gone. Press “Start the camera” to take another one.",
  SecurityError: "This browser forbids the camera here. Open the page at its own address, over HTTPS or on this machine.",
};

const noCamera = () =>
  window.isSecureContext
    ? "This browser gives pages no camera. Use a current Firefox, Chrome, Edge or Safari; pictures and videos work here."
    : "Browsers give the camera only to pages over HTTPS, or from this machine (localhost, 127.0.0.1). Pictures and videos work here.";

export class CameraTab {
  constructor({ about, backend, ready }) {
    Object.assign(this, { about, backend, ready });
    this.video = byId("camera-video");
    this.canvas = byId("camera-canvas");
    this.context = this.canvas.getContext("2d");
    this.panel = new FacesPanel(byId("camera-faces"), about.model);
    this.timeline = new Timeline(byId("camera-timeline"), about.model.colours);
    this.confidence = confidenceSlider("camera-confidence", about.min_confidence);
    this.stream = null;
    this.rows = null;
    this.paused = false;
    this.wanted = false;
    this.drawn = [];
    this.latencies = [];
    this.said = { text: "", time: -Infinity };
    byId("camera-start").addEventListener("click", () => this.start());
    byId("camera-sample").addEventListener("click", () => {
      byId("tab-video").click();
      byId("video-sample").click();
    });
    byId("camera-stop").addEventListener("click", () => this.stop());
    byId("camera-pause").addEventListener("click", () => this.pause());
    byId("camera-snapshot").addEventListener("click", () => this.snapshot());
    byId("camera-record").addEventListener("click", () => this.record());
    byId("camera-choice").addEventListener("change", (event) => this.start(event.target.value));
    navigator.mediaDevices?.addEventListener("devicechange", () => this.stream && this.listCameras());
    this.watchOtherTabs();
  }

  note(text) {
    byId("camera-note").textContent = text;
  }

  /** Request the camera and show the live view. */
  async start(deviceId = byId("camera-choice").value) {
    byId("problem").hidden = true;
    if (!navigator.mediaDevices?.getUserMedia) return showProblem(noCamera());
    const button = byId("camera-start");
    button.disabled = true;
    this.release();
    const begun = performance.now();
    try {
      const choice = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
      const size = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { ...choice, ...size }, audio: false });
    } catch (problem) {
      button.disabled = false;
      this.leave();
      byId("camera-choice").replaceChildren();
      return showProblem(SENTENCES[problem.name] ?? `The camera could not be started (${problem.name}). Try again, or another browser.`);
    }
    const { stream } = this;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (this.stream !== stream) return;
      this.leave();
      showProblem("The camera was unplugged, or taken away from this page. Plug it in again, then press “Start the camera”.");
    });
    this.video.srcObject = stream;
    byId("notice").hidden = true;
    byId("live").hidden = false;
    button.disabled = false;
    this.note("Loading the models …");
    this.wanted = true;
    await this.video.play().catch(() => {});
    this.listCameras();
    try {
      await this.ready;
    } catch {
      return this.leave();
    }
    if (this.stream !== stream) return undefined;
    this.note("");
    this.channel?.postMessage("camera?");
    const { live_side: longestSide, live_every_s: detectEvery } = this.about.detector;
    await this.backend.ask("start", { stream: "camera", longestSide, detectEvery });
    Object.assign(this, { begun, paused: false, frame: 0, drawn: [], latencies: [], last: performance.now() });
    this.timeline.clear();
    byId("camera-pause").setAttribute("aria-pressed", "false");
    this.loop(stream);
    byId("camera-pause").focus({ preventScroll: true });
    return undefined;
  }

  /** Recognise the newest frame repeatedly until `stream` is no longer shown. */
  async loop(stream) {
    let newest = null;
    let wake = () => {};
    const arrived = (now) => {
      newest = now;
      this.last = performance.now();
      wake();
      again();
    };
    const again = () => {
      if (this.stream !== stream) return;
      if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(arrived);
      else requestAnimationFrame(arrived);
    };
    again();
    while (this.stream === stream) {
      if (newest === null || this.paused) {
        await new Promise((resolve) => {
          wake = resolve;
          setTimeout(resolve, 500);
        });
        if (!this.paused && !document.hidden && performance.now() - this.last > SILENT * 1000) {
          this.note("The camera sends no frames. Check that it is not covered or switched off, and that no other program uses it.");
          this.silent = true;
        }
        continue;
      }
      const taken = newest;
      newest = null;
      if (this.silent) this.note("");
      this.silent = false;
      try {
        await this.step(taken);
      } catch (problem) {
        if (this.stream !== stream) return;
        console.warn(problem);
        this.leave();
        showProblem("Recognition stopped. Press “Start the camera” to try again; if it happens again, reload the page.");
      }
    }
  }

  async step(taken) {
    if (!this.video.videoWidth) return;
    const bitmap = await createImageBitmap(this.video);
    const time = taken / 1000;
    const hide = byId("camera-blur").checked;
    const ask = { stream: "camera", bitmap, time, leastConfidence: this.confidence(), hide, prior: byId("camera-prior").value };
    const answer = await this.backend.ask("frame", ask, [bitmap]);
    if (!this.stream || this.paused) return answer.bitmap.close();
    this.draw(answer, hide);
    const now = performance.now();
    this.frame += 1;
    this.canvas.dataset.frames = String(this.frame);
    if (this.begun !== null) {
      document.documentElement.dataset.firstResult = String(Math.round(now - this.begun));
      this.begun = null;
    }
    this.drawn.push(now);
    this.latencies.push(now - taken);
    while (this.drawn.length > 2 && now - this.drawn[0] > 2000) this.drawn.shift();
    if (this.latencies.length > 60) this.latencies.shift();
    this.rows?.add("camera", this.frame - 1, (now - this.recordedFrom) / 1000, answer.faces);
    this.tell(answer.faces, time);
    return undefined;
  }

  draw({ bitmap, faces, hidden }, hide) {
    const { context, canvas } = this;
    const { width, height } = bitmap;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const mirrored = byId("camera-mirror").checked;
    context.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? width : 0, 0);
    context.drawImage(bitmap, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    bitmap.close();
    // Also in frames that were in progress when blurring was switched on.
    if (hide || byId("camera-blur").checked) hideFaces(context, hidden.map(([x1, y1, x2, y2]) => (mirrored ? [width - x2, y1, width - x1, y2] : [x1, y1, x2, y2])));
    drawFaces(context, faces, this.about.model.colours, mirrored);
  }

  /** Update bars, timeline, rate and the message to screen readers. */
  tell(faces, time) {
    this.panel.show(faces);
    byId("camera-empty").hidden = faces.length > 0;
    this.timeline.add(time, faces, time - SPAN);
    this.timeline.draw(time - SPAN, time, { ago: true });
    const span = (this.drawn.at(-1) - this.drawn[0]) / 1000;
    if (span > 0 && (this.frame % 5 === 0 || this.drawn.length < 5)) {
      byId("camera-rate").textContent = ((this.drawn.length - 1) / span).toFixed(span > this.drawn.length / 5 ? 1 : 0);
      byId("camera-latency").textContent = [...this.latencies].sort((a, b) => a - b)[this.latencies.length >> 1].toFixed(0);
      if (this.rows) this.note(`Recording: ${this.rows.count} rows.`);
    }
    const text = faces.length ? faces.map(({ emotion }) => emotion).join(", ") : "no face";
    if (text !== this.said.text && time - this.said.time > SAID_EVERY) {
      this.said = { text, time };
      byId("camera-said").textContent = text;
      this.canvas.setAttribute("aria-label", `Camera picture: ${text}`);
      byId("camera-timeline").setAttribute("aria-label", `Emotions of the last 30 seconds; now ${text}`);
    }
  }

  pause() {
    this.paused = !this.paused;
    byId("camera-pause").setAttribute("aria-pressed", String(this.paused));
    this.note(this.paused ? "Paused." : "");
  }

  async snapshot() {
    if (!this.frame) return this.note("There is no frame yet.");
    download(await asPng(this.canvas), `emodet-${stamp()}.png`);
    return this.note("The snapshot is in your downloads.");
  }

  record() {
    if (this.rows) {
      const rows = this.rows;
      this.rows = null;
      byId("camera-record").setAttribute("aria-pressed", "false");
      byId("camera-record").textContent = "Record CSV";
      download(rows.asCsv(), `emodet-${stamp()}.csv`);
      this.note(`${rows.count} rows are in your downloads.`);
    } else {
      this.rows = new Rows(this.about);
      this.recordedFrom = performance.now();
      byId("camera-record").setAttribute("aria-pressed", "true");
      byId("camera-record").textContent = "Stop and download";
    }
  }

  async listCameras() {
    const all = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    const current = this.stream?.getVideoTracks()[0]?.getSettings().deviceId;
    const options = all.map(({ deviceId, label }, at) => new Option(label || `Camera ${at + 1}`, deviceId, false, deviceId === current));
    byId("camera-choice").replaceChildren(...options);
  }

  /** Release the camera without a message. */
  release() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }

  /** Return to the notice. */
  leave() {
    if (this.rows?.count) this.record();
    this.wanted = false;
    this.release();
    byId("live").hidden = true;
    byId("notice").hidden = false;
  }

  stop() {
    this.leave();
    byId("camera-start").focus();
  }

  /** Handle opening or leaving the tab: the camera is released while the tab is hidden. */
  visible(open) {
    if (open && this.wanted && !this.stream) this.start();
    else if (!open && this.stream) {
      this.release();
      this.wanted = true;
    }
  }

  /** Detect another tab that uses the camera: both become slow, and some systems allow only one. */
  watchOtherTabs() {
    if (typeof BroadcastChannel !== "function") return;
    this.channel = new BroadcastChannel("emodet");
    this.channel.onmessage = ({ data }) => {
      if (!this.stream) return;
      if (data === "camera?") this.channel.postMessage("camera!");
      this.note("Another tab of this page uses the camera too: both are slower. Stop one of them.");
    };
  }
}
