/**
 * Motion of known faces since the last frame by sparse optical flow, which is much faster than detection: pyramidal
 * Lucas-Kanade (Lucas and Kanade 1981, Bouguet 2001) with the forward-backward check of Kalal et al. 2010.
 */

import { reduced } from "./resize.js";

const LONGEST_SIDE = 320; // of the picture for optical flow
const LEVELS = 4;
const REACH = 6; // half size of the compared window around a point, in pixels
const STEPS = 8;
const SMALL_STEP = 0.03;
const GRID = 5; // points along each side of a face, besides the landmarks
const LEAST_POINTS = 8;
const LARGEST_RETURN_ERROR = 1;
const LARGEST_RESIDUAL = 2;
const LARGEST_RESIZE = 1.2; // from one frame to the next
const LEAST_CONTRAST = 1e-3;

function luma({ width, height, data }) {
  const values = new Uint8Array(width * height);
  for (let at = 0, source = 0; at < values.length; at += 1, source += 4) {
    values[at] = (data[source] * 9798 + data[source + 1] * 19235 + data[source + 2] * 3735 + 16384) >> 15;
  }
  return { width, height, values };
}

function halved({ width, height, values }) {
  const w = width >> 1;
  const h = height >> 1;
  const result = new Float32Array(w * h);
  for (let y = 0; y < h; y += 1) {
    for (let x = 0; x < w; x += 1) {
      const at = 2 * y * width + 2 * x;
      result[y * w + x] = (values[at] + values[at + 1] + values[at + width] + values[at + width + 1]) / 4;
    }
  }
  return { width: w, height: h, values: result };
}

function pyramid(picture) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
  const width = Math.max(1, Math.round(picture.width * scale));
  const height = Math.max(1, Math.round(picture.height * scale));
  let { values } = luma(picture);
  if (scale < 1) values = reduced(values, picture.width, picture.height, 1, width, height);
  const levels = [{ width, height, values: Float32Array.from(values) }];
  while (levels.length < LEVELS && Math.min(levels.at(-1).width, levels.at(-1).height) >= 40) {
    levels.push(halved(levels.at(-1)));
  }
  return { scale, levels };
}

const SIDE = 2 * REACH + 1;
const patch = new Float32Array((SIDE + 2) * (SIDE + 2));
const moved = new Float32Array((SIDE + 2) * (SIDE + 2));

/** Sample the window around (x, y) with linear interpolation; edges are repeated. */
function sample({ width, height, values }, x, y, reach, into) {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const right = x - left;
  const below = y - top;
  const weights = [(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below];
  let at = 0;
  const inside = left - reach >= 0 && top - reach >= 0 && left + reach + 1 < width && top + reach + 1 < height;
  for (let j = top - reach; j <= top + reach; j += 1) {
    for (let i = left - reach; i <= left + reach; i += 1) {
      let corner;
      let across = 1;
      let down = width;
      if (inside) {
        corner = j * width + i;
      } else {
        const column = i < 0 ? 0 : i >= width ? width - 1 : i;
        const row = j < 0 ? 0 : j >= height ? height - 1 : j;
        corner = row * width + column;
        across = i >= 0 && i + 1 < width ? 1 : 0;
        down = j >= 0 && j + 1 < height ? width : 0;
      }
      into[at++] =
        values[corner] * weights[0] +
        values[corner + across] * weights[1] +
        values[corner + down] * weights[2] +
        values[corner + down + across] * weights[3];
    }
  }
}

/** Track one point at one level from an initial guess; null if the window has too little texture. */
function step(before, after, x, y, guessX, guessY) {
  sample(before, x, y, REACH + 1, patch);
  const wide = SIDE + 2;
  let xx = 0;
  let xy = 0;
  let yy = 0;
  for (let j = 1; j <= SIDE; j += 1) {
    for (let i = 1; i <= SIDE; i += 1) {
      const at = j * wide + i;
      const dx = (patch[at + 1] - patch[at - 1]) / 2;
      const dy = (patch[at + wide] - patch[at - wide]) / 2;
      xx += dx * dx;
      xy += dx * dy;
      yy += dy * dy;
    }
  }
  const determinant = xx * yy - xy * xy;
  const least = (xx + yy - Math.hypot(xx - yy, 2 * xy)) / 2 / (SIDE * SIDE * 255);
  if (least < LEAST_CONTRAST || determinant <= 0) return null;
  let shiftX = guessX;
  let shiftY = guessY;
  for (let round = 0; round < STEPS; round += 1) {
    sample(after, x + shiftX, y + shiftY, REACH, moved);
    let bx = 0;
    let by = 0;
    for (let j = 0; j < SIDE; j += 1) {
      for (let i = 0; i < SIDE; i += 1) {
        const at = (j + 1) * wide + i + 1;
        const difference = patch[at] - moved[j * SIDE + i];
        bx += (difference * (patch[at + 1] - patch[at - 1])) / 2;
        by += (difference * (patch[at + wide] - patch[at - wide])) / 2;
      }
    }
    const dx = (yy * bx - xy * by) / determinant;
    const dy = (xx * by - xy * bx) / determinant;
    shiftX += dx;
    shiftY += dy;
    if (Math.hypot(dx, dy) < SMALL_STEP) break;
  }
  return [shiftX, shiftY];
}

/** Track a point from one pyramid to another; null if it is lost. */
function flow(before, after, [x, y]) {
  let shift = [0, 0];
  for (let level = before.length - 1; level >= 0; level -= 1) {
    const scale = 2 ** level;
    const next = step(before[level], after[level], (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5, ...shift);
    if (next === null && level === 0) return null;
    shift = next ?? shift;
    if (level > 0) shift = [shift[0] * 2, shift[1] * 2];
  }
  const result = [x + shift[0], y + shift[1]];
  const { width, height } = after[0];
  return result[0] >= 0 && result[1] >= 0 && result[0] < width && result[1] < height ? result : null;
}

/** Least-squares similarity transform (a, b, tx, ty) between two sets of points. */
function similarity(pairs) {
  const count = pairs.length;
  const mean = [0, 0, 0, 0];
  for (const [[x, y], [u, v]] of pairs) [x, y, u, v].forEach((value, at) => (mean[at] += value / count));
  let a = 0;
  let b = 0;
  let spread = 0;
  for (const [[x, y], [u, v]] of pairs) {
    const [dx, dy, du, dv] = [x - mean[0], y - mean[1], u - mean[2], v - mean[3]];
    a += dx * du + dy * dv;
    b += dx * dv - dy * du;
    spread += dx * dx + dy * dy;
  }
  if (!(spread > 0)) return null;
  a /= spread;
  b /= spread;
  return { a, b, tx: mean[2] - a * mean[0] + b * mean[1], ty: mean[3] - b * mean[0] - a * mean[1] };
}

const apply = ({ a, b, tx, ty }, [x, y]) => [a * x - b * y + tx, b * x + a * y + ty];

/** Like `similarity`, for inliers: the pair with the largest residual is removed until all residuals are small. */
function agreeing(pairs) {
  let rest = pairs;
  while (rest.length >= LEAST_POINTS) {
    const found = similarity(rest);
    if (found === null) return null;
    const residuals = rest.map(([here, there]) => {
      const [x, y] = apply(found, here);
      return Math.hypot(x - there[0], y - there[1]);
    });
    const worst = residuals.indexOf(Math.max(...residuals));
    if (residuals[worst] <= LARGEST_RESIDUAL) return found;
    rest = rest.filter((_, at) => at !== worst);
  }
  return null;
}

/** Points to track: the landmarks and a grid over the middle of the face, in pixels of the small picture. */
function pointsOf({ box: [x1, y1, x2, y2], landmarks }, scale) {
  const points = [...(landmarks ?? [])];
  for (let j = 0; j < GRID; j += 1) {
    for (let i = 0; i < GRID; i += 1) {
      const share = (at) => 0.2 + (0.6 * at) / (GRID - 1);
      points.push([x1 + (x2 - x1) * share(i), y1 + (y2 - y1) * share(j)]);
    }
  }
  return points.map(([x, y]) => [x * scale - 0.5, y * scale - 0.5]);
}

/** Stores the last frame and moves detections from it to the next one. */
export class Follower {
  constructor() {
    this.last = null;
    this.now = null;
  }

  /** Add the next frame, {width, height, data: RGBA}. */
  look(picture) {
    this.last = this.now;
    this.now = pyramid(picture);
  }

  /** Move a detection from the last frame to this one; null if the face is lost. */
  follow(detection) {
    const { last, now } = this;
    const ground = now?.levels[0];
    if (!last || last.levels[0].width !== ground.width || last.levels[0].height !== ground.height) return null;
    const pairs = [];
    for (const here of pointsOf(detection, now.scale)) {
      const there = flow(last.levels, now.levels, here);
      const back = there && flow(now.levels, last.levels, there);
      if (back && Math.hypot(back[0] - here[0], back[1] - here[1]) < LARGEST_RETURN_ERROR) pairs.push([here, there]);
    }
    const moved = agreeing(pairs);
    const resize = moved && Math.hypot(moved.a, moved.b);
    if (!moved || resize > LARGEST_RESIZE || resize < 1 / LARGEST_RESIZE) return null;
    const carry = ([x, y]) => {
      const [u, v] = apply(moved, [x * now.scale - 0.5, y * now.scale - 0.5]);
      return [(u + 0.5) / now.scale, (v + 0.5) / now.scale];
    };
    const [x1, y1, x2, y2] = detection.box;
    // Move and scale the box without rotating it.
    const [x, y] = carry([(x1 + x2) / 2, (y1 + y2) / 2]);
    const wide = ((x2 - x1) / 2) * resize;
    const high = ((y2 - y1) / 2) * resize;
    return {
      box: [x - wide, y - high, x + wide, y + high],
      landmarks: detection.landmarks?.map(carry) ?? null,
      score: detection.score,
    };
  }
}
