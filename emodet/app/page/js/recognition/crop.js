/**
 * Face crops, like `emodet.preprocessing.Preprocessing`; the parameters are those of the model file.
 *
 * An image is {width, height, data} with RGBA bytes, like ImageData; a crop is size × size × 3 bytes, RGB.
 */

import { rollOf } from "./boxes.js";
import { clamp, enlarged, reduced } from "./resize.js";

const MAX_SQUARE = 16_384;

const roundHalfUp = (value) => Math.floor(value + 0.5);

/** Cut an upright square at whole pixels; edges are repeated outside the image. */
function cutSquare({ width, height, data }, [x, y], side) {
  const size = Math.max(1, roundHalfUp(side));
  const left = roundHalfUp(x - size / 2);
  const top = roundHalfUp(y - size / 2);
  const result = new Uint8Array(size * size * 3);
  let target = 0;
  for (let row = top; row < top + size; row += 1) {
    const start = clamp(row, height - 1) * width;
    for (let column = left; column < left + size; column += 1) {
      const source = (start + clamp(column, width - 1)) * 4;
      result[target++] = data[source];
      result[target++] = data[source + 1];
      result[target++] = data[source + 2];
    }
  }
  return { pixels: result, side: size };
}

/** Cut a square that is rotated by `angle` degrees about its centre, and turn it upright. */
function cutRotatedSquare({ width, height, data }, centre, side, angle) {
  const size = Math.max(1, roundHalfUp(side));
  const radians = (angle * Math.PI) / 180;
  // Map pixels of the result to the image. Pixel centres have integer coordinates here, half-integer ones in boxes.
  const step = side / size;
  const cos = Math.cos(radians) * step;
  const sin = Math.sin(radians) * step;
  const middle = (size - 1) / 2;
  const x0 = centre[0] - 0.5;
  const y0 = centre[1] - 0.5;
  const result = new Uint8Array(size * size * 3);
  let target = 0;
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const x = x0 + (column - middle) * cos - (row - middle) * sin;
      const y = y0 + (column - middle) * sin + (row - middle) * cos;
      const left = Math.floor(x);
      const top = Math.floor(y);
      const fractionX = x - left;
      const fractionY = y - top;
      const a = clamp(left, width - 1) * 4;
      const b = clamp(left + 1, width - 1) * 4;
      const upper = clamp(top, height - 1) * width * 4;
      const lower = clamp(top + 1, height - 1) * width * 4;
      for (let channel = 0; channel < 3; channel += 1) {
        const above = data[upper + a + channel] * (1 - fractionX) + data[upper + b + channel] * fractionX;
        const below = data[lower + a + channel] * (1 - fractionX) + data[lower + b + channel] * fractionX;
        result[target++] = Math.floor(above * (1 - fractionY) + below * fractionY + 0.5);
      }
    }
  }
  return { pixels: result, side: size };
}

/** Replace the three channels by the luma, with OpenCV's 15-bit weights. */
function toGrey(crop) {
  for (let index = 0; index < crop.length; index += 3) {
    const luma = (crop[index] * 9798 + crop[index + 1] * 19235 + crop[index + 2] * 3735 + 16384) >> 15;
    crop.fill(luma, index, index + 3);
  }
  return crop;
}

function resize({ pixels, side }, { size, detail, interpolation }) {
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
 * @param {{width: number, height: number, data: Uint8ClampedArray}} image RGBA
 * @param {number[] | null} box x1, y1, x2, y2 in pixels; null if the image is a face crop already
 * @param {number[][] | null} landmarks the eyes first, the left one in the image, then the right one
 * @param {object} preprocessing parameters of the model file
 * @returns {Uint8Array} size × size × 3, RGB
 */
export function crop(image, box, landmarks, preprocessing) {
  let centre = [image.width / 2, image.height / 2];
  let side = Math.max(image.width, image.height);
  let angle = 0;
  if (box !== null) {
    const [x1, y1, x2, y2] = box;
    centre = [(x1 + x2) / 2, (y1 + y2) / 2];
    side = Math.max(x2 - x1, y2 - y1) * (1 + 2 * preprocessing.margin);
    if (preprocessing.alignment === "eyes") angle = rollOf(landmarks);
  }
  if (!(side > 0 && side <= MAX_SQUARE)) throw new RangeError(`the face crop must have 1 to ${MAX_SQUARE} pixels, not ${side}`);
  const square = angle ? cutRotatedSquare(image, centre, side, angle) : cutSquare(image, centre, side);
  const result = resize(square, preprocessing);
  return preprocessing.colour === "grey" ? toGrey(result) : result;
}
