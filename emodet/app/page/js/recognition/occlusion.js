/**
 * Occlusion maps: the decrease of a prediction when a patch is covered (Zeiler and Fergus 2014, section 4.2), like
 * `emodet.inference.heatmaps`.
 */

const PATCH = 0.25; // of the crop's side
const STEPS = 9; // positions along each side
const MIN_PROBABILITY = 1e-12; // a float32 softmax can be 0, and log(0) is not finite

/** Gaussian blur of a square; edges are mirrored. */
function gaussianBlur(values, side, sigma) {
  const radius = Math.max(1, Math.round(sigma * 4));
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, tap) => Math.exp(-((tap - radius) ** 2) / (2 * sigma * sigma)));
  const sum = kernel.reduce((total, weight) => total + weight, 0);
  const mirrored = (position) => {
    let index = position;
    while (index < 0 || index >= side) index = index < 0 ? -index : 2 * (side - 1) - index;
    return index;
  };
  const blurLines = (source, indexOf) => {
    const result = new Float32Array(source.length);
    for (let line = 0; line < side; line += 1) {
      for (let position = 0; position < side; position += 1) {
        let value = 0;
        for (let tap = -radius; tap <= radius; tap += 1) {
          value += kernel[tap + radius] * source[indexOf(line, mirrored(position + tap))];
        }
        result[indexOf(line, position)] = value / sum;
      }
    }
    return result;
  };
  const horizontal = blurLines(values, (row, column) => row * side + column);
  return blurLines(horizontal, (column, row) => row * side + column);
}

/** ln(p / (1 - p)) of a class, from one row of probabilities; the sum of the other classes is more precise than 1 - p. */
function logOdds(row, column) {
  const others = row.reduce((sum, value, index) => (index === column ? sum : sum + value), 0);
  return Math.log(Math.max(row[column], MIN_PROBABILITY)) - Math.log(Math.max(others, MIN_PROBABILITY));
}

/** Mean of each channel. */
function meanColour(crop) {
  return [0, 1, 2].map((channel) => {
    let sum = 0;
    for (let index = channel; index < crop.length; index += 3) sum += crop[index];
    return Math.round(sum / (crop.length / 3));
  });
}

/**
 * @param {{predict: (crops: Uint8Array, count: number) => Promise<Float32Array>, columns: number}} networks result of
 *   `openNetworks`
 * @param {Uint8Array} crop size × size × 3, RGB
 * @param {number} column index of the class
 * @param {number} classes number of classes
 * @returns {Promise<Float32Array>} size × size: decrease of the class's log odds when the surroundings of a pixel are
 *   covered with the crop's mean colour
 */
export async function occlusionMap({ predict, columns }, crop, column, classes) {
  const size = Math.sqrt(crop.length / 3);
  const patch = Math.max(1, Math.round(size * PATCH));
  const starts = Array.from({ length: STEPS }, (_, step) => Math.round(((size - patch) * step) / (STEPS - 1)));
  const patches = starts.flatMap((top) =>
    starts.map((left) => {
      const pixels = [];
      for (let y = top; y < top + patch; y += 1) for (let x = left; x < left + patch; x += 1) pixels.push(y * size + x);
      return pixels;
    }),
  );
  const colour = meanColour(crop);
  const crops = new Uint8Array((1 + patches.length) * crop.length);
  crops.set(crop);
  patches.forEach((pixels, index) => {
    const covered = crops.subarray((index + 1) * crop.length, (index + 2) * crop.length);
    covered.set(crop);
    for (const pixel of pixels) covered.set(colour, pixel * 3);
  });
  const rows = await predict(crops, 1 + patches.length);
  const oddsOf = (index) => logOdds(rows.subarray(index * columns, index * columns + classes), column);
  const uncovered = oddsOf(0);
  const heat = new Float32Array(size * size);
  const counts = new Float32Array(size * size);
  patches.forEach((pixels, index) => {
    const decrease = uncovered - oddsOf(index + 1);
    for (const pixel of pixels) {
      heat[pixel] += decrease;
      counts[pixel] += 1;
    }
  });
  return gaussianBlur(heat.map((value, pixel) => value / Math.max(1, counts[pixel])), size, patch / 4);
}
