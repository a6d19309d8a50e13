/**
 * Sparse optical flow, like `emodet.inference.tracking.Follower`: moves detections to the next frame faster than
 * detection does. Pyramidal Lucas-Kanade (Lucas and Kanade 1981, Bouguet 2001) with the forward-backward check of Kalal
 * et al. 2010.
 */

import { reduced } from "./resize.js";

const FLOW_SIDE = 320; // longer side of the image for optical flow
const LEVELS = 4;
const RADIUS = 6; // half size of the window around a point, in pixels
const WINDOW = 2 * RADIUS + 1;
const MAX_ITERATIONS = 8;
const MIN_STEP = 0.03;
const GRID = 5; // points along each side of a face, besides the landmarks
const MIN_POINTS = 8;
const MAX_RETURN_ERROR = 1; // forward-backward error, in pixels of the reduced image
const MAX_RESIDUAL = 2;
const MAX_RESIZE = 1.2; // from one frame to the next
const MIN_EIGENVALUE = 1e-3; // of the gradient matrix: less texture cannot be tracked

function toGrey({ width, height, data }) {
  const values = new Uint8Array(width * height);
  for (let index = 0, source = 0; index < values.length; index += 1, source += 4) {
    values[index] = (data[source] * 9798 + data[source + 1] * 19235 + data[source + 2] * 3735 + 16384) >> 15;
  }
  return values;
}

function halve({ width, height, values }) {
  const w = width >> 1;
  const h = height >> 1;
  const result = new Float32Array(w * h);
  for (let y = 0; y < h; y += 1) {
    for (let x = 0; x < w; x += 1) {
      const index = 2 * y * width + 2 * x;
      result[y * w + x] = (values[index] + values[index + 1] + values[index + width] + values[index + width + 1]) / 4;
    }
  }
  return { width: w, height: h, values: result };
}

function buildPyramid(image) {
  const scale = Math.min(1, FLOW_SIDE / Math.max(image.width, image.height));
  const width = Math.max(1, Math.round(image.width * scale));
  const height = Math.max(1, Math.round(image.height * scale));
  let values = toGrey(image);
  if (scale < 1) values = reduced(values, image.width, image.height, 1, width, height);
  const levels = [{ width, height, values: Float32Array.from(values) }];
  while (levels.length < LEVELS && Math.min(levels.at(-1).width, levels.at(-1).height) >= 40) {
    levels.push(halve(levels.at(-1)));
  }
  return { scale, levels };
}

const template = new Float32Array((WINDOW + 2) * (WINDOW + 2));
const candidate = new Float32Array(WINDOW * WINDOW);

/** Sample the window around (x, y) with linear interpolation; edges are repeated. */
function sampleWindow({ width, height, values }, x, y, radius, output) {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const right = x - left;
  const below = y - top;
  const weights = [(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below];
  let index = 0;
  const inside = left - radius >= 0 && top - radius >= 0 && left + radius + 1 < width && top + radius + 1 < height;
  for (let j = top - radius; j <= top + radius; j += 1) {
    for (let i = left - radius; i <= left + radius; i += 1) {
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
      output[index++] =
        values[corner] * weights[0] +
        values[corner + across] * weights[1] +
        values[corner + down] * weights[2] +
        values[corner + down + across] * weights[3];
    }
  }
}

/** Track one point at one level from an initial guess; null if the window has too little texture. */
function trackAtLevel(before, after, x, y, guessX, guessY) {
  sampleWindow(before, x, y, RADIUS + 1, template);
  const stride = WINDOW + 2;
  let xx = 0;
  let xy = 0;
  let yy = 0;
  for (let j = 1; j <= WINDOW; j += 1) {
    for (let i = 1; i <= WINDOW; i += 1) {
      const index = j * stride + i;
      const dx = (template[index + 1] - template[index - 1]) / 2;
      const dy = (template[index + stride] - template[index - stride]) / 2;
      xx += dx * dx;
      xy += dx * dy;
      yy += dy * dy;
    }
  }
  const determinant = xx * yy - xy * xy;
  const eigenvalue = (xx + yy - Math.hypot(xx - yy, 2 * xy)) / 2 / (WINDOW * WINDOW * 255);
  if (eigenvalue < MIN_EIGENVALUE || determinant <= 0) return null;
  let shiftX = guessX;
  let shiftY = guessY;
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration += 1) {
    sampleWindow(after, x + shiftX, y + shiftY, RADIUS, candidate);
    let bx = 0;
    let by = 0;
    for (let j = 0; j < WINDOW; j += 1) {
      for (let i = 0; i < WINDOW; i += 1) {
        const index = (j + 1) * stride + i + 1;
        const difference = template[index] - candidate[j * WINDOW + i];
        bx += (difference * (template[index + 1] - template[index - 1])) / 2;
        by += (difference * (template[index + stride] - template[index - stride])) / 2;
      }
    }
    const dx = (yy * bx - xy * by) / determinant;
    const dy = (xx * by - xy * bx) / determinant;
    shiftX += dx;
    shiftY += dy;
    if (Math.hypot(dx, dy) < MIN_STEP) break;
  }
  return [shiftX, shiftY];
}

/** Track a point from one pyramid to another; null if it is lost. */
function trackPoint(before, after, [x, y]) {
  let shift = [0, 0];
  for (let level = before.length - 1; level >= 0; level -= 1) {
    const scale = 2 ** level;
    const next = trackAtLevel(before[level], after[level], (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5, ...shift);
    if (next === null && level === 0) return null;
    shift = next ?? shift;
    if (level > 0) shift = [shift[0] * 2, shift[1] * 2];
  }
  const result = [x + shift[0], y + shift[1]];
  const { width, height } = after[0];
  return result[0] >= 0 && result[1] >= 0 && result[0] < width && result[1] < height ? result : null;
}

/** Least-squares similarity transform (a, b, tx, ty) between two sets of points. */
function fitSimilarity(pairs) {
  const count = pairs.length;
  const mean = [0, 0, 0, 0];
  for (const [[x, y], [u, v]] of pairs) [x, y, u, v].forEach((value, index) => (mean[index] += value / count));
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

const transform = ({ a, b, tx, ty }, [x, y]) => [a * x - b * y + tx, b * x + a * y + ty];

/** Fit a similarity transform to the inliers: remove the pair with the largest residual until all residuals are small. */
function fitInliers(pairs) {
  let inliers = pairs;
  while (inliers.length >= MIN_POINTS) {
    const fit = fitSimilarity(inliers);
    if (fit === null) return null;
    const residuals = inliers.map(([start, end]) => {
      const [x, y] = transform(fit, start);
      return Math.hypot(x - end[0], y - end[1]);
    });
    const worst = residuals.indexOf(Math.max(...residuals));
    if (residuals[worst] <= MAX_RESIDUAL) return fit;
    inliers = inliers.filter((_, index) => index !== worst);
  }
  return null;
}

/** Points to track: the landmarks and a grid over the middle of the face, in pixels of the reduced image. */
function facePoints({ box: [x1, y1, x2, y2], landmarks }, scale) {
  const points = [...(landmarks ?? [])];
  for (let j = 0; j < GRID; j += 1) {
    for (let i = 0; i < GRID; i += 1) {
      const fraction = (index) => 0.2 + (0.6 * index) / (GRID - 1);
      points.push([x1 + (x2 - x1) * fraction(i), y1 + (y2 - y1) * fraction(j)]);
    }
  }
  return points.map(([x, y]) => [x * scale - 0.5, y * scale - 0.5]);
}

/** Moves detections from the previous frame to the current one. */
export class Follower {
  constructor() {
    this.previous = null;
    this.current = null;
  }

  /** Add the next frame, {width, height, data: RGBA}. */
  addFrame(image) {
    this.previous = this.current;
    this.current = buildPyramid(image);
  }

  /** Move a detection from the previous frame to the current one; null for a lost face. */
  follow(detection) {
    const { previous, current } = this;
    if (!previous) return null;
    const [before, after] = [previous.levels[0], current.levels[0]];
    if (before.width !== after.width || before.height !== after.height) return null;
    const pairs = [];
    for (const start of facePoints(detection, current.scale)) {
      const end = trackPoint(previous.levels, current.levels, start);
      const back = end && trackPoint(current.levels, previous.levels, end);
      if (back && Math.hypot(back[0] - start[0], back[1] - start[1]) < MAX_RETURN_ERROR) pairs.push([start, end]);
    }
    const motion = fitInliers(pairs);
    const resize = motion && Math.hypot(motion.a, motion.b);
    if (!motion || resize > MAX_RESIZE || resize < 1 / MAX_RESIZE) return null;
    const move = ([x, y]) => {
      const [u, v] = transform(motion, [x * current.scale - 0.5, y * current.scale - 0.5]);
      return [(u + 0.5) / current.scale, (v + 0.5) / current.scale];
    };
    const [x1, y1, x2, y2] = detection.box;
    // Scale and move the box without rotating it.
    const [x, y] = move([(x1 + x2) / 2, (y1 + y2) / 2]);
    const halfWidth = ((x2 - x1) / 2) * resize;
    const halfHeight = ((y2 - y1) / 2) * resize;
    return {
      box: [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight],
      landmarks: detection.landmarks?.map(move) ?? null,
      score: detection.score,
    };
  }
}
