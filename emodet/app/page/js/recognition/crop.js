/**
 * Face crops, like `emodet.preprocessing.Preprocessing`; the parameters are those of the model file.
 *
 * A picture is {width, height, data} with RGBA bytes, like ImageData; a crop is size × size × 3 bytes, RGB.
 */

import { enlarged, reduced } from "./resize.js";

const LARGEST_SQUARE = 16_384;

const whole = (value) => Math.floor(value + 0.5);
const clamp = (value, most) => (value < 0 ? 0 : value > most ? most : value);

/** Angle of the line through the eyes in degrees, clockwise; 0 if they coincide. */
function roll([[x1, y1], [x2, y2]]) {
  return x1 === x2 && y1 === y2 ? 0 : (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
}

/** Cut an upright square at whole pixels; edges are repeated outside the picture. */
function square({ width, height, data }, [x, y], side) {
  const pixels = Math.max(1, whole(side));
  const left = whole(x - pixels / 2);
  const top = whole(y - pixels / 2);
  const result = new Uint8Array(pixels * pixels * 3);
  let at = 0;
  for (let row = top; row < top + pixels; row += 1) {
    const start = clamp(row, height - 1) * width;
    for (let column = left; column < left + pixels; column += 1) {
      const source = (start + clamp(column, width - 1)) * 4;
      result[at++] = data[source];
      result[at++] = data[source + 1];
      result[at++] = data[source + 2];
    }
  }
  return { pixels: result, side: pixels };
}

/** Cut a square that is rotated by `angle` degrees about its centre, and turn it upright. */
function turnedSquare({ width, height, data }, centre, side, angle) {
  const pixels = Math.max(1, whole(side));
  const radians = (angle * Math.PI) / 180;
  // Maps pixels of the result to the picture. Pixel centres have integer coordinates here, half-integer ones in boxes.
  const step = side / pixels;
  const cos = Math.cos(radians) * step;
  const sin = Math.sin(radians) * step;
  const middle = (pixels - 1) / 2;
  const x0 = centre[0] - 0.5;
  const y0 = centre[1] - 0.5;
  const result = new Uint8Array(pixels * pixels * 3);
  let at = 0;
  for (let row = 0; row < pixels; row += 1) {
    for (let column = 0; column < pixels; column += 1) {
      const x = x0 + (column - middle) * cos - (row - middle) * sin;
      const y = y0 + (column - middle) * sin + (row - middle) * cos;
      const left = Math.floor(x);
      const top = Math.floor(y);
      const right = x - left;
      const below = y - top;
      const a = clamp(left, width - 1) * 4;
      const b = clamp(left + 1, width - 1) * 4;
      const upper = clamp(top, height - 1) * width * 4;
      const lower = clamp(top + 1, height - 1) * width * 4;
      for (let channel = 0; channel < 3; channel += 1) {
        const high = data[upper + a + channel] * (1 - right) + data[upper + b + channel] * right;
        const low = data[lower + a + channel] * (1 - right) + data[lower + b + channel] * right;
        result[at++] = Math.floor(high * (1 - below) + low * below + 0.5);
      }
    }
  }
  return { pixels: result, side: pixels };
}

/** Luma in all three channels, with OpenCV's 15-bit weights. */
function grey(crop) {
  for (let at = 0; at < crop.length; at += 3) {
    const luma = (crop[at] * 9798 + crop[at + 1] * 19235 + crop[at + 2] * 3735 + 16384) >> 15;
    crop[at] = crop[at + 1] = crop[at + 2] = luma;
  }
  return crop;
}

function resized({ pixels, side }, { size, detail, interpolation }) {
  if (detail !== null && side > detail) {
    pixels = reduced(pixels, side, side, 3, detail, detail);
    side = detail;
  }
  if (side === size) return pixels;
  return side > size ? reduced(pixels, side, side, 3, size, size) : enlarged(pixels, side, 3, size, interpolation);
}

/**
 * Crop a face.
 *
 * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA
 * @param {number[] | null} box x1, y1, x2, y2 in pixels; null: the whole picture is the face
 * @param {number[][] | null} landmarks the two eyes first: the left one in the picture, then the right one
 * @param {object} preprocessing parameters of the model file
 * @returns {Uint8Array} size × size × 3, RGB
 */
export function crop(picture, box, landmarks, preprocessing) {
  let centre = [picture.width / 2, picture.height / 2];
  let side = Math.max(picture.width, picture.height);
  let angle = 0;
  if (box !== null) {
    const [x1, y1, x2, y2] = box;
    centre = [(x1 + x2) / 2, (y1 + y2) / 2];
    side = Math.max(x2 - x1, y2 - y1) * (1 + 2 * preprocessing.margin);
    if (preprocessing.alignment === "eyes" && landmarks) angle = roll(landmarks);
  }
  if (!(side > 0 && side <= LARGEST_SQUARE)) throw new RangeError(`a square of ${side} pixels cannot be cut`);
  const cut = angle ? turnedSquare(picture, centre, side, angle) : square(picture, centre, side);
  const result = resized(cut, preprocessing);
  return preprocessing.colour === "grey" ? grey(result) : result;
}
