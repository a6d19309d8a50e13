/** Emotions over time, one line per track: colour shows the emotion, height the confidence. */

import { colourOf } from "./overlay.js";
import { clock } from "./page.js";

const LINES = 4;
const GONE = 0.5; // seconds without a prediction after which a line is interrupted
const LEFT = 34;
const BOTTOM = 18;

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

  /** Add the faces of one frame; faces before `from` are removed. */
  add(time, faces, from = -Infinity) {
    for (const { track_id: number, emotion, confidence } of faces) {
      if (!this.tracks.has(number)) this.tracks.set(number, []);
      this.tracks.get(number).push({ time, emotion, confidence });
    }
    for (const [number, points] of this.tracks) {
      while (points.length && points[0].time < from) points.shift();
      if (!points.length) this.tracks.delete(number);
    }
  }

  /** Return the tracks with the most predictions, by number. */
  rows() {
    return [...this.tracks.entries()]
      .sort((a, b) => b[1].length - a[1].length)
      .slice(0, LINES)
      .sort((a, b) => a[0] - b[0]);
  }

  /** Convert a time to a share of the canvas width, and back. */
  timeAt(share, from, to) {
    const wide = this.canvas.clientWidth;
    return from + ((share * wide - LEFT) / (wide - LEFT - 4)) * (to - from);
  }

  /**
   * @param {number} from seconds @param {number} to
   * @param {{at?: number, gap?: number, ago?: boolean}} options position of a mark; longest gap within a line; whether ticks count backwards
   */
  draw(from, to, { at = null, gap = GONE, ago = false } = {}) {
    const ratio = window.devicePixelRatio || 1;
    const wide = this.canvas.clientWidth;
    const high = this.canvas.clientHeight;
    if (!wide || !high) return;
    if (this.canvas.width !== Math.round(wide * ratio)) this.canvas.width = Math.round(wide * ratio);
    if (this.canvas.height !== Math.round(high * ratio)) this.canvas.height = Math.round(high * ratio);
    const style = getComputedStyle(this.canvas);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, high);
    const x = (time) => LEFT + ((time - from) / Math.max(1e-6, to - from)) * (wide - LEFT - 4);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "alphabetic";
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--quiet");
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800].find((each) => (to - from) / each <= 7) ?? 3600;
    for (let tick = ago ? to : Math.ceil(from / step) * step; tick >= from && tick <= to + 1e-6; tick += ago ? -step : step) {
      context.beginPath();
      context.moveTo(x(tick), 0);
      context.lineTo(x(tick), high - BOTTOM);
      context.stroke();
      const text = ago ? (tick === to ? "now" : `−${Math.round(to - tick)} s`) : clock(tick);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(wide - 2 * half - 1, Math.max(0, x(tick) - half)), high - 4);
    }
    const rows = this.rows();
    const each = (high - BOTTOM) / Math.max(2, rows.length);
    rows.forEach(([number, points], place) => {
      const base = (place + 1) * each - 3;
      context.fillStyle = style.getPropertyValue("--quiet");
      context.fillText(`#${number}`, 2, base - each / 2 + 6);
      points.forEach(({ time, emotion, confidence }, index) => {
        const next = points[index + 1]?.time ?? time + gap;
        const until = Math.min(next, time + gap, to);
        const tall = Math.max(2, confidence * (each - 8));
        context.fillStyle = colourOf(this.colours, emotion);
        const left = Math.round(x(time));
        context.fillRect(left, base - tall, Math.max(1, Math.round(x(until)) - left), tall);
      });
    });
    if (at !== null) {
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillRect(x(at) - 1, 0, 2, high - BOTTOM);
    }
  }
}
