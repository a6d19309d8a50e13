/**
 * Resizing like OpenCV, so that crops equal those in Python: reduction averages areas, enlargement is linear, cubic or
 * nearest. Canvas scaling differs between browsers.
 *
 * Pixels are Uint8Array, row by row, `channels` values each.
 */

/** One axis of an area average: source pixels and their weights for each target pixel. */
function areaTable(from, to) {
  const scale = from / to;
  const starts = new Int32Array(to + 1);
  const sources = [];
  const weights = [];
  for (let place = 0; place < to; place += 1) {
    starts[place] = sources.length;
    const begin = place * scale;
    const end = begin + scale;
    const width = Math.min(scale, from - begin);
    const last = Math.min(Math.floor(end), from - 1);
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
  starts[to] = sources.length;
  return { starts, sources: Int32Array.from(sources), weights: Float32Array.from(weights) };
}

/** Round halves to even, like the processor. */
function rounded(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

function wholeFactors(pixels, width, channels, toWidth, toHeight, across, down) {
  const result = new Uint8Array(toWidth * toHeight * channels);
  const area = across * down;
  const share = Math.fround(1 / area);
  const row = width * channels;
  let at = 0;
  for (let y = 0; y < toHeight; y += 1) {
    for (let x = 0; x < toWidth; x += 1) {
      const corner = y * down * row + x * across * channels;
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 0;
        for (let j = 0; j < down; j += 1) {
          let source = corner + j * row + channel;
          for (let i = 0; i < across; i += 1, source += channels) sum += pixels[source];
        }
        result[at++] = across === 2 && down === 2 ? (sum + 2) >> 2 : rounded(Math.fround(sum * share));
      }
    }
  }
  return result;
}

/**
 * Reduce a picture by averaging areas. Neither side may grow.
 *
 * @param {Uint8Array | Uint8ClampedArray} pixels
 * @returns {Uint8Array} toWidth × toHeight × channels
 */
export function reduced(pixels, width, height, channels, toWidth, toHeight) {
  if (width % toWidth === 0 && height % toHeight === 0) {
    return wholeFactors(pixels, width, channels, toWidth, toHeight, width / toWidth, height / toHeight);
  }
  const across = areaTable(width, toWidth);
  const down = areaTable(height, toHeight);
  const span = toWidth * channels;
  const line = new Float32Array(span);
  const sums = new Float32Array(span);
  const result = new Uint8Array(toHeight * span);
  for (let y = 0; y < toHeight; y += 1) {
    sums.fill(0);
    for (let entry = down.starts[y]; entry < down.starts[y + 1]; entry += 1) {
      const start = down.sources[entry] * width * channels;
      const weight = down.weights[entry];
      line.fill(0);
      for (let x = 0; x < toWidth; x += 1) {
        for (let part = across.starts[x]; part < across.starts[x + 1]; part += 1) {
          const source = start + across.sources[part] * channels;
          const share = across.weights[part];
          for (let channel = 0; channel < channels; channel += 1) {
            line[x * channels + channel] += pixels[source + channel] * share;
          }
        }
      }
      for (let place = 0; place < span; place += 1) sums[place] += weight * line[place];
    }
    for (let place = 0; place < span; place += 1) result[y * span + place] = Math.min(255, rounded(sums[place]));
  }
  return result;
}

/** Left source pixel and weight of the right one for each target pixel; edges are repeated. */
function between(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, place) => {
    const exact = Math.fround((place + 0.5) * scale - 0.5);
    const left = Math.floor(exact);
    return { left, share: Math.fround(exact - left) };
  });
}

const clamp = (value, most) => (value < 0 ? 0 : value > most ? most : value);

function linear(pixels, side, channels, to) {
  // The 11-bit weights and shifts of OpenCV's fixed-point code, whose results differ from exact ones by one grey level.
  const places = between(side, to).map(({ left, share }) => {
    const inside = left >= 0 && left < side - 1;
    const weight = inside ? share : 0;
    return {
      here: clamp(left, side - 1),
      next: clamp(left + 1, side - 1),
      mine: rounded(Math.fround(1 - weight) * 2048),
      its: rounded(weight * 2048),
    };
  });
  const line = side * channels;
  const stretched = new Int32Array(side * to * channels);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < to; x += 1) {
      const { here, next, mine, its } = places[x];
      for (let channel = 0; channel < channels; channel += 1) {
        stretched[(y * to + x) * channels + channel] =
          pixels[y * line + here * channels + channel] * mine + pixels[y * line + next * channels + channel] * its;
      }
    }
  }
  const span = to * channels;
  const result = new Uint8Array(to * span);
  const rows = between(side, to);
  for (let y = 0; y < to; y += 1) {
    const { left, share } = rows[y];
    const upper = clamp(left, side - 1) * span;
    const lower = clamp(left + 1, side - 1) * span;
    const mine = rounded(Math.fround(1 - share) * 2048);
    const its = rounded(share * 2048);
    for (let place = 0; place < span; place += 1) {
      const one = (mine * (stretched[upper + place] >> 4)) >> 16;
      const other = (its * (stretched[lower + place] >> 4)) >> 16;
      result[y * span + place] = (one + other + 2) >> 2;
    }
  }
  return result;
}

const SHARPNESS = -0.75; // OpenCV's parameter of the cubic

function cubicWeights(share) {
  const a = SHARPNESS;
  const first = ((a * (share + 1) - 5 * a) * (share + 1) + 8 * a) * (share + 1) - 4 * a;
  const second = ((a + 2) * share - (a + 3)) * share * share + 1;
  const rest = 1 - share;
  const third = ((a + 2) * rest - (a + 3)) * rest * rest + 1;
  return [first, second, third, 1 - first - second - third].map((weight) => rounded(weight * 2048));
}

function cubic(pixels, side, channels, to) {
  const places = between(side, to).map(({ left, share }) => ({
    from: [-1, 0, 1, 2].map((step) => clamp(left + step, side - 1)),
    weights: cubicWeights(share),
  }));
  const span = to * channels;
  const stretched = new Int32Array(side * span);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < to; x += 1) {
      const { from, weights } = places[x];
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 0;
        for (let tap = 0; tap < 4; tap += 1) sum += pixels[(y * side + from[tap]) * channels + channel] * weights[tap];
        stretched[y * span + x * channels + channel] = sum;
      }
    }
  }
  const result = new Uint8Array(to * span);
  for (let y = 0; y < to; y += 1) {
    const { from, weights } = places[y];
    for (let place = 0; place < span; place += 1) {
      let sum = 0;
      for (let tap = 0; tap < 4; tap += 1) sum += stretched[from[tap] * span + place] * weights[tap];
      result[y * span + place] = clamp(rounded(sum / (2048 * 2048)), 255);
    }
  }
  return result;
}

function nearest(pixels, side, channels, to) {
  const result = new Uint8Array(to * to * channels);
  const scale = side / to;
  const sources = Array.from({ length: to }, (_, place) => Math.min(side - 1, Math.floor(place * scale)));
  for (let y = 0; y < to; y += 1) {
    for (let x = 0; x < to; x += 1) {
      const source = (sources[y] * side + sources[x]) * channels;
      for (let channel = 0; channel < channels; channel += 1) {
        result[(y * to + x) * channels + channel] = pixels[source + channel];
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
 * @returns {Uint8Array} to × to × channels
 */
export function enlarged(pixels, side, channels, to, method) {
  return ENLARGE[method](pixels, side, channels, to);
}
