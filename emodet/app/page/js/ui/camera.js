/**
 * The camera tab. It shows only recognised frames, so that boxes match the picture and faces are never visible before they
 * are hidden.
 */

import { emotionList, FacesPanel } from "./faces.js";
import { drawFaces, hideFaces } from "./overlay.js";
import { byId, confidenceSlider, download, downloadPng, hideError, showError, timestamp } from "./page.js";
import { CsvRows } from "./rows.js";
import { Timeline } from "./timeline.js";

const TIMELINE_S = 30; // length of the timeline
const ANNOUNCE_EVERY_S = 3; // time between messages to screen readers
const NO_FRAME_S = 3; // time without a frame after which the page shows a message

const ERRORS = {
  NotAllowedError:
    "The camera is not allowed. Allow it for this page (camera icon in the address bar, or the browser's settings), then press “Start the camera” again.",
  NotFoundError: "No camera was found. Connect one, then press “Start the camera” again; pictures and videos work without a camera.",
  NotReadableError:
    "The camera could not be opened: another program, or another tab, may be using it. Close it, then press “Start the camera” again.",
  OverconstrainedError: "The selected camera is no longer connected. Press “Start the camera” to use another one.",
  SecurityError: "The browser blocks the camera on this page. Open the page in its own tab, over HTTPS or from this machine (localhost).",
};

const noCameraText = () =>
  window.isSecureContext
    ? "This browser provides no camera access. Use a current Firefox, Chrome, Edge or Safari; pictures and videos work in this one."
    : "Browsers allow the camera only on pages over HTTPS or from this machine (localhost, 127.0.0.1). Open the page at such an address; pictures and videos work at this one.";

export class CameraTab {
  constructor({ description, backend, ready }) {
    Object.assign(this, { description, backend, ready });
    this.video = byId("camera-video");
    this.canvas = byId("camera-canvas");
    this.context = this.canvas.getContext("2d");
    this.panel = new FacesPanel(byId("camera-faces"), description.model);
    this.timeline = new Timeline(byId("camera-timeline"), description.model.colours);
    this.confidence = confidenceSlider("camera-confidence", description.min_confidence);
    this.stream = null;
    this.rows = null;
    this.paused = false;
    this.shouldRun = false;
    this.drawTimes = [];
    this.latencies = [];
    this.announced = { text: "", timeS: -Infinity };
    byId("camera-start").addEventListener("click", () => this.start());
    byId("camera-sample").addEventListener("click", () => {
      byId("tab-video").click();
      byId("video-sample").click();
    });
    byId("camera-stop").addEventListener("click", () => this.stop());
    byId("camera-pause").addEventListener("click", () => this.togglePause());
    byId("camera-snapshot").addEventListener("click", () => this.snapshot());
    byId("camera-record").addEventListener("click", () => this.toggleRecording());
    byId("camera-choice").addEventListener("change", (event) => this.start(event.target.value));
    navigator.mediaDevices?.addEventListener("devicechange", () => this.stream && this.listCameras());
    this.watchOtherTabs();
  }

  note(text) {
    byId("camera-note").textContent = text;
  }

  /** Request the camera and show the live view. */
  async start(deviceId = byId("camera-choice").value) {
    hideError();
    if (!navigator.mediaDevices?.getUserMedia) return showError(noCameraText());
    const button = byId("camera-start");
    button.disabled = true;
    this.release();
    const startedAt = performance.now();
    try {
      const choice = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
      const size = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { ...choice, ...size }, audio: false });
    } catch (error) {
      button.disabled = false;
      this.showNotice();
      byId("camera-choice").replaceChildren();
      return showError(ERRORS[error.name] ?? `The camera could not be started (${error.name}). Try again, or use another browser.`);
    }
    const { stream } = this;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (this.stream !== stream) return;
      this.showNotice();
      showError("The camera was unplugged, or its permission withdrawn. Connect and allow it, then press “Start the camera”.");
    });
    this.video.srcObject = stream;
    byId("notice").hidden = true;
    byId("live").hidden = false;
    button.disabled = false;
    this.note("Loading the models …");
    this.shouldRun = true;
    await this.video.play().catch(() => {});
    this.listCameras();
    try {
      await this.ready;
    } catch {
      return this.showNotice();
    }
    if (this.stream !== stream) return undefined;
    this.note("");
    this.channel?.postMessage("camera?");
    const { live_side: longestSide, live_every_s: detectEveryS } = this.description.detector;
    await this.backend.request("startStream", { stream: "camera", longestSide, detectEveryS });
    Object.assign(this, { startedAt, paused: false, frameCount: 0, drawTimes: [], latencies: [], lastFrameAt: performance.now() });
    this.timeline.clear();
    byId("camera-pause").setAttribute("aria-pressed", "false");
    this.loop(stream);
    byId("camera-pause").focus({ preventScroll: true });
    return undefined;
  }

  /** Recognise the newest frame repeatedly while `stream` is the current one. */
  async loop(stream) {
    let newest = null;
    let wake = () => {};
    const onFrame = (now) => {
      newest = now;
      this.lastFrameAt = performance.now();
      wake();
      awaitFrame();
    };
    const awaitFrame = () => {
      if (this.stream !== stream) return;
      if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(onFrame);
      else requestAnimationFrame(onFrame);
    };
    awaitFrame();
    while (this.stream === stream) {
      if (newest === null || this.paused) {
        await new Promise((resolve) => {
          wake = resolve;
          setTimeout(resolve, 500);
        });
        if (!this.paused && !document.hidden && performance.now() - this.lastFrameAt > NO_FRAME_S * 1000) {
          this.note("The camera sends no frames. Check that it is switched on, and that no other program uses it.");
          this.noFrames = true;
        }
        continue;
      }
      const capturedAt = newest;
      newest = null;
      if (this.noFrames) this.note("");
      this.noFrames = false;
      try {
        await this.step(capturedAt);
      } catch (error) {
        if (this.stream !== stream) return;
        console.warn(error);
        this.showNotice();
        showError("Recognition has stopped. Press “Start the camera” to try again; if it stops again, reload the page.");
      }
    }
  }

  /** Recognise the current frame, captured at a time of `performance.now`, and show it. */
  async step(capturedAt) {
    if (!this.video.videoWidth) return;
    const bitmap = await createImageBitmap(this.video);
    const timeS = capturedAt / 1000;
    const hide = byId("camera-blur").checked;
    const content = { stream: "camera", bitmap, timeS, minConfidence: this.confidence(), hide, prior: byId("camera-prior").value };
    const result = await this.backend.request("frame", content, [bitmap]);
    if (!this.stream || this.paused) return result.bitmap.close();
    this.draw(result, hide);
    const now = performance.now();
    this.frameCount += 1;
    this.canvas.dataset.frames = String(this.frameCount);
    if (this.startedAt !== null) {
      document.documentElement.dataset.firstResult = String(Math.round(now - this.startedAt));
      this.startedAt = null;
    }
    this.drawTimes.push(now);
    this.latencies.push(now - capturedAt);
    while (this.drawTimes.length > 2 && now - this.drawTimes[0] > 2000) this.drawTimes.shift();
    if (this.latencies.length > 60) this.latencies.shift();
    this.rows?.add("camera", this.frameCount - 1, (now - this.recordingStartedAt) / 1000, result.faces);
    this.showResult(result.faces, timeS);
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
    if (hide || byId("camera-blur").checked) hideFaces(context, hidden, mirrored);
    drawFaces(context, faces, this.description.model.colours, mirrored);
  }

  /** Update bars, timeline, frame rate, latency and the message to screen readers. */
  showResult(faces, timeS) {
    this.panel.show(faces);
    byId("camera-empty").hidden = faces.length > 0;
    this.timeline.add(timeS, faces, timeS - TIMELINE_S);
    this.timeline.draw(timeS - TIMELINE_S, timeS, { relative: true });
    const seconds = (this.drawTimes.at(-1) - this.drawTimes[0]) / 1000;
    if (seconds > 0 && (this.frameCount % 5 === 0 || this.drawTimes.length < 5)) {
      byId("camera-rate").textContent = ((this.drawTimes.length - 1) / seconds).toFixed(seconds > this.drawTimes.length / 5 ? 1 : 0);
      byId("camera-latency").textContent = [...this.latencies].sort((a, b) => a - b)[this.latencies.length >> 1].toFixed(0);
      if (this.rows) this.note(`Recording: ${this.rows.count} rows.`);
    }
    const text = emotionList(faces);
    if (text !== this.announced.text && timeS - this.announced.timeS > ANNOUNCE_EVERY_S) {
      this.announced = { text, timeS };
      byId("camera-announcement").textContent = text;
      this.canvas.setAttribute("aria-label", `Camera picture: ${text}`);
      byId("camera-timeline").setAttribute("aria-label", `Emotions of the last 30 seconds; now ${text}`);
    }
  }

  togglePause() {
    this.paused = !this.paused;
    byId("camera-pause").setAttribute("aria-pressed", String(this.paused));
    this.note(this.paused ? "Paused." : "");
  }

  async snapshot() {
    if (!this.frameCount) return this.note("There is no frame yet.");
    if (await downloadPng(this.canvas, `emodet-${timestamp()}.png`)) this.note("The snapshot is in your downloads.");
    return undefined;
  }

  toggleRecording() {
    if (this.rows) {
      const rows = this.rows;
      this.rows = null;
      byId("camera-record").setAttribute("aria-pressed", "false");
      byId("camera-record").textContent = "Record CSV";
      download(rows.toBlob(), `emodet-${timestamp()}.csv`);
      this.note(`${rows.count} rows are in your downloads.`);
    } else {
      this.rows = new CsvRows(this.description);
      this.recordingStartedAt = performance.now();
      byId("camera-record").setAttribute("aria-pressed", "true");
      byId("camera-record").textContent = "Stop and download";
    }
  }

  async listCameras() {
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    const current = this.stream?.getVideoTracks()[0]?.getSettings().deviceId;
    const options = cameras.map(({ deviceId, label }, index) => new Option(label || `Camera ${index + 1}`, deviceId, false, deviceId === current));
    byId("camera-choice").replaceChildren(...options);
  }

  /** Release the camera without a message. */
  release() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }

  /** Release the camera and show the notice. */
  showNotice() {
    if (this.rows?.count) this.toggleRecording();
    this.shouldRun = false;
    this.release();
    byId("live").hidden = true;
    byId("notice").hidden = false;
  }

  stop() {
    this.showNotice();
    byId("camera-start").focus();
  }

  /** Release the camera while the tab is hidden, and start it again afterwards. */
  setVisible(isVisible) {
    if (!isVisible) this.release();
    else if (this.shouldRun && !this.stream) this.start();
  }

  /** Detect another tab that uses the camera: both become slow, and some systems allow only one. */
  watchOtherTabs() {
    if (typeof BroadcastChannel !== "function") return;
    this.channel = new BroadcastChannel("emodet");
    this.channel.onmessage = ({ data }) => {
      if (!this.stream) return;
      if (data === "camera?") this.channel.postMessage("camera!");
      this.note("Another tab uses the camera too, which makes both slower. Stop the camera in one of them.");
    };
  }
}
