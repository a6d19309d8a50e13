/**
 * Resizing like OpenCV, so that crops equal those in Python: reduction averages areas, enlargement is linear, cubic or
 * nearest. Canvas scaling differs between browsers.
 *
 * Pixels are Uint8Array, row by row, `channels` values each.
 */

/** One axis of an area average: source pixels and their weights for each target pixel. */
function areaTable(fromSize, toSize) {
  const scale = fromSize / toSize;
  const starts = new Int32Array(toSize + 1);
  const sources = [];
  const weights = [];
  for (let target = 0; target < toSize; target += 1) {
    starts[target] = sources.length;
    const begin = target * scale;
    const end = begin + scale;
    const width = Math.min(scale, fromSize - begin);
    const last = Math.min(Math.floor(end), fromSize - 1);
    const first = Math.min(Math.ceil(begin), last);
    if (first - begin > 1e-3) {
      sources.push(first - 1);
      weights.push((first - begin) / width);
    }
    for (let source = first; source < last; source += 1) {
      sources.push(source);
      weights.push(1 / width);
    }
    if (end - last > 1e-3) {
      sources.push(last);
      weights.push(Math.min(Math.min(end - last, 1), width) / width);
    }
  }
  starts[toSize] = sources.length;
  return { starts, sources: Int32Array.from(sources), weights: Float32Array.from(weights) };
}

/** Round halves to even, like OpenCV. */
function roundHalfEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Reduction by whole factors: average blocks of `factorX` × `factorY` pixels. */
function averageBlocks(pixels, width, channels, toWidth, toHeight, factorX, factorY) {
  const result = new Uint8Array(toWidth * toHeight * channels);
  const weight = Math.fround(1 / (factorX * factorY));
  const row = width * channels;
  let index = 0;
  for (let y = 0; y < toHeight; y += 1) {
    for (let x = 0; x < toWidth; x += 1) {
      const corner = y * factorY * row + x * factorX * channels;
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 0;
        for (let j = 0; j < factorY; j += 1) {
          let source = corner + j * row + channel;
          for (let i = 0; i < factorX; i += 1, source += channels) sum += pixels[source];
        }
        result[index++] = factorX === 2 && factorY === 2 ? (sum + 2) >> 2 : roundHalfEven(Math.fround(sum * weight));
      }
    }
  }
  return result;
}

/**
 * Reduce an image by averaging areas. Neither side may grow.
 *
 * @param {Uint8Array | Uint8ClampedArray} pixels
 * @returns {Uint8Array} toWidth × toHeight × channels
 */
export function reduced(pixels, width, height, channels, toWidth, toHeight) {
  if (width % toWidth === 0 && height % toHeight === 0) {
    return averageBlocks(pixels, width, channels, toWidth, toHeight, width / toWidth, height / toHeight);
  }
  const horizontal = areaTable(width, toWidth);
  const vertical = areaTable(height, toHeight);
  const span = toWidth * channels;
  const line = new Float32Array(span);
  const sums = new Float32Array(span);
  const result = new Uint8Array(toHeight * span);
  for (let y = 0; y < toHeight; y += 1) {
    sums.fill(0);
    for (let entry = vertical.starts[y]; entry < vertical.starts[y + 1]; entry += 1) {
      const start = vertical.sources[entry] * width * channels;
      const weight = vertical.weights[entry];
      line.fill(0);
      for (let x = 0; x < toWidth; x += 1) {
        for (let part = horizontal.starts[x]; part < horizontal.starts[x + 1]; part += 1) {
          const source = start + horizontal.sources[part] * channels;
          const fraction = horizontal.weights[part];
          for (let channel = 0; channel < channels; channel += 1) {
            line[x * channels + channel] += pixels[source + channel] * fraction;
          }
        }
      }
      for (let target = 0; target < span; target += 1) sums[target] += weight * line[target];
    }
    for (let target = 0; target < span; target += 1) result[y * span + target] = Math.min(255, roundHalfEven(sums[target]));
  }
  return result;
}

/** Left source pixel and weight of the right one for each target pixel; edges are repeated. */
function interpolationTable(fromSize, toSize) {
  const scale = fromSize / toSize;
  return Array.from({ length: toSize }, (_, target) => {
    const exact = Math.fround((target + 0.5) * scale - 0.5);
    const left = Math.floor(exact);
    return { left, fraction: Math.fround(exact - left) };
  });
}

export const clamp = (value, max) => (value < 0 ? 0 : value > max ? max : value);

function linear(pixels, side, channels, size) {
  // The 11-bit weights and shifts of OpenCV's fixed-point code, whose results differ from exact ones by one grey level.
  const columns = interpolationTable(side, size).map(({ left, fraction }) => {
    const inside = left >= 0 && left < side - 1;
    const weight = inside ? fraction : 0;
    return {
      left: clamp(left, side - 1) * channels,
      right: clamp(left + 1, side - 1) * channels,
      leftWeight: roundHalfEven(Math.fround(1 - weight) * 2048),
      rightWeight: roundHalfEven(weight * 2048),
    };
  });
  const line = side * channels;
  const horizontal = new Int32Array(side * size * channels);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const { left, right, leftWeight, rightWeight } = columns[x];
      for (let channel = 0; channel < channels; channel += 1) {
        const source = y * line + channel;
        horizontal[(y * size + x) * channels + channel] =
          pixels[source + left] * leftWeight + pixels[source + right] * rightWeight;
      }
    }
  }
  const span = size * channels;
  const result = new Uint8Array(size * span);
  const rows = interpolationTable(side, size);
  for (let y = 0; y < size; y += 1) {
    const { left, fraction } = rows[y];
    const upper = clamp(left, side - 1) * span;
    const lower = clamp(left + 1, side - 1) * span;
    const upperWeight = roundHalfEven(Math.fround(1 - fraction) * 2048);
    const lowerWeight = roundHalfEven(fraction * 2048);
    for (let target = 0; target < span; target += 1) {
      const above = (upperWeight * (horizontal[upper + target] >> 4)) >> 16;
      const below = (lowerWeight * (horizontal[lower + target] >> 4)) >> 16;
      result[y * span + target] = (above + below + 2) >> 2;
    }
  }
  return result;
}

function cubicWeights(fraction) {
  const a = -0.75; // OpenCV's parameter of the cubic
  const first = ((a * (fraction + 1) - 5 * a) * (fraction + 1) + 8 * a) * (fraction + 1) - 4 * a;
  const second = ((a + 2) * fraction - (a + 3)) * fraction * fraction + 1;
  const rest = 1 - fraction;
  const third = ((a + 2) * rest - (a + 3)) * rest * rest + 1;
  return [first, second, third, 1 - first - second - third].map((weight) => roundHalfEven(weight * 2048));
}

function cubic(pixels, side, channels, size) {
  const taps = interpolationTable(side, size).map(({ left, fraction }) => ({
    sources: [-1, 0, 1, 2].map((step) => clamp(left + step, side - 1)),
    weights: cubicWeights(fraction),
  }));
  const span = size * channels;
  const horizontal = new Int32Array(side * span);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const { sources, weights } = taps[x];
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 0;
        for (let tap = 0; tap < 4; tap += 1) sum += pixels[(y * side + sources[tap]) * channels + channel] * weights[tap];
        horizontal[y * span + x * channels + channel] = sum;
      }
    }
  }
  const result = new Uint8Array(size * span);
  for (let y = 0; y < size; y += 1) {
    const { sources, weights } = taps[y];
    for (let target = 0; target < span; target += 1) {
      let sum = 0;
      for (let tap = 0; tap < 4; tap += 1) sum += horizontal[sources[tap] * span + target] * weights[tap];
      result[y * span + target] = clamp(roundHalfEven(sum / (2048 * 2048)), 255);
    }
  }
  return result;
}

function nearest(pixels, side, channels, size) {
  const result = new Uint8Array(size * size * channels);
  const scale = side / size;
  const sources = Array.from({ length: size }, (_, target) => Math.min(side - 1, Math.floor(target * scale)));
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const source = (sources[y] * side + sources[x]) * channels;
      for (let channel = 0; channel < channels; channel += 1) {
        result[(y * size + x) * channels + channel] = pixels[source + channel];
      }
    }
  }
  return result;
}

const ENLARGE = { linear, cubic, nearest };

/**
 * Enlarge a square.
 *
 * @param {Uint8Array} pixels side × side × channels
 * @param {"linear" | "cubic" | "nearest"} method
 * @returns {Uint8Array} size × size × channels
 */
export function enlarged(pixels, side, channels, size, method) {
  return ENLARGE[method](pixels, side, channels, size);
}
