/** Chart of the emotions over time, one line per track: colour shows the emotion, height the confidence. */

import { colourOf } from "./overlay.js";
import { formatTime } from "./page.js";

const MAX_TRACKS = 4;
const MAX_GAP_S = 0.5; // time without a prediction after which a line is interrupted
const MARGIN_LEFT = 34;
const MARGIN_BOTTOM = 18;

export class Timeline {
  /** @param {HTMLCanvasElement} canvas @param {Record<string, string>} colours */
  constructor(canvas, colours) {
    this.canvas = canvas;
    this.colours = colours;
    this.tracks = new Map();
  }

  clear() {
    this.tracks.clear();
  }

  /** Add the faces of one frame, and remove faces before `start`. */
  add(time, faces, start = -Infinity) {
    for (const { track_id: number, emotion, confidence } of faces) {
      if (!this.tracks.has(number)) this.tracks.set(number, []);
      this.tracks.get(number).push({ time, emotion, confidence });
    }
    for (const [number, points] of this.tracks) {
      while (points.length && points[0].time < start) points.shift();
      if (!points.length) this.tracks.delete(number);
    }
  }

  /** Return the tracks with the most predictions, by number. */
  longestTracks() {
    return [...this.tracks.entries()]
      .sort((a, b) => b[1].length - a[1].length)
      .slice(0, MAX_TRACKS)
      .sort((a, b) => a[0] - b[0]);
  }

  /** Convert a position, as a fraction of the canvas width, to a time. */
  timeAt(fraction, start, end) {
    const width = this.canvas.clientWidth;
    return start + ((fraction * width - MARGIN_LEFT) / (width - MARGIN_LEFT - 4)) * (end - start);
  }

  /**
   * @param {number} start first time in seconds
   * @param {number} end last time
   * @param {{cursor?: number, maxGapS?: number, relative?: boolean}} options time of a cursor; longest gap within a line;
   *   whether ticks are relative to `end`
   */
  draw(start, end, { cursor = null, maxGapS = MAX_GAP_S, relative = false } = {}) {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width || !height) return;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const style = getComputedStyle(this.canvas);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const x = (time) => MARGIN_LEFT + ((time - start) / Math.max(1e-6, end - start)) * (width - MARGIN_LEFT - 4);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "alphabetic";
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--quiet");
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800].find((each) => (end - start) / each <= 7) ?? 3600;
    const [first, increment] = relative ? [end, -step] : [Math.ceil(start / step) * step, step];
    for (let tick = first; tick >= start && tick <= end + 1e-6; tick += increment) {
      context.beginPath();
      context.moveTo(x(tick), 0);
      context.lineTo(x(tick), height - MARGIN_BOTTOM);
      context.stroke();
      const text = relative ? (tick === end ? "now" : `−${Math.round(end - tick)} s`) : formatTime(tick);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(width - 2 * half - 1, Math.max(0, x(tick) - half)), height - 4);
    }
    const tracks = this.longestTracks();
    const rowHeight = (height - MARGIN_BOTTOM) / Math.max(2, tracks.length);
    tracks.forEach(([number, points], row) => {
      const bottom = (row + 1) * rowHeight - 3;
      context.fillStyle = style.getPropertyValue("--quiet");
      context.fillText(`#${number}`, 2, bottom - rowHeight / 2 + 6);
      points.forEach(({ time, emotion, confidence }, index) => {
        const until = Math.min(points[index + 1]?.time ?? Infinity, time + maxGapS, end);
        const barHeight = Math.max(2, confidence * (rowHeight - 8));
        context.fillStyle = colourOf(this.colours, emotion);
        const left = Math.round(x(time));
        context.fillRect(left, bottom - barHeight, Math.max(1, Math.round(x(until)) - left), barHeight);
      });
    });
    if (cursor !== null) {
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillRect(x(cursor) - 1, 0, 2, height - MARGIN_BOTTOM);
    }
  }
}
