/**
 * Occlusion maps: the decrease of a prediction when a patch is covered (Zeiler and Fergus 2014, section 4.2), like
 * `emodet.inference.heatmaps`.
 */

const PATCH = 0.25; // of the crop's side
const STEPS = 9; // positions along each side
const LEAST = 1e-12; // a float32 softmax can be 0, and log(0) is not finite

function blurred(values, side, sigma) {
  const reach = Math.max(1, Math.round(sigma * 4));
  const kernel = Array.from({ length: 2 * reach + 1 }, (_, at) => Math.exp(-((at - reach) ** 2) / (2 * sigma * sigma)));
  const sum = kernel.reduce((total, each) => total + each, 0);
  const mirrored = (at) => {
    let place = at;
    while (place < 0 || place >= side) place = place < 0 ? -place : 2 * (side - 1) - place;
    return place;
  };
  const pass = (source, index) => {
    const result = new Float32Array(source.length);
    for (let row = 0; row < side; row += 1) {
      for (let column = 0; column < side; column += 1) {
        let value = 0;
        for (let tap = -reach; tap <= reach; tap += 1) {
          value += kernel[tap + reach] * source[index(row, mirrored(column + tap))];
        }
        result[index(row, column)] = value / sum;
      }
    }
    return result;
  };
  const across = pass(values, (row, column) => row * side + column);
  return pass(across, (row, column) => column * side + row);
}

/** ln(p / (1 - p)) of a class, from one row of probabilities; the sum of the other classes is more precise than 1 - p. */
function logOdds(row, column) {
  const others = row.reduce((sum, value, at) => (at === column ? sum : sum + value), 0);
  return Math.log(Math.max(row[column], LEAST)) - Math.log(Math.max(others, LEAST));
}

/**
 * @param {(crops: Uint8Array, count: number) => Promise<Float32Array>} readings of crops, row by row: probabilities first
 * @param {Uint8Array} crop size × size × 3, RGB
 * @param {number} column index of the class
 * @param {number} classes number of classes
 * @param {number} wide number of values per row
 * @returns {Promise<Float32Array>} size × size: decrease of the class's log odds when the surroundings of a pixel are covered
 */
export async function occlusionMap(readings, crop, column, classes, wide) {
  const size = Math.sqrt(crop.length / 3);
  const patch = Math.max(1, Math.round(size * PATCH));
  const starts = Array.from({ length: STEPS }, (_, at) => Math.round(((size - patch) * at) / (STEPS - 1)));
  const colour = [0, 1, 2].map((channel) => {
    let sum = 0;
    for (let at = channel; at < crop.length; at += 3) sum += crop[at];
    return Math.round(sum / (size * size));
  });
  const places = starts.flatMap((top) => starts.map((left) => ({ top, left })));
  const covered = new Uint8Array((1 + places.length) * crop.length);
  covered.set(crop);
  places.forEach(({ top, left }, at) => {
    const own = covered.subarray((at + 1) * crop.length, (at + 2) * crop.length);
    own.set(crop);
    for (let y = top; y < top + patch; y += 1) {
      for (let x = left; x < left + patch; x += 1) own.set(colour, (y * size + x) * 3);
    }
  });
  const answers = await readings(covered, 1 + places.length);
  const odds = (at) => logOdds(answers.subarray(at * wide, at * wide + classes), column);
  const before = odds(0);
  const heat = new Float32Array(size * size);
  const times = new Float32Array(size * size);
  places.forEach(({ top, left }, at) => {
    const fall = before - odds(at + 1);
    for (let y = top; y < top + patch; y += 1) {
      for (let x = left; x < left + patch; x += 1) {
        heat[y * size + x] += fall;
        times[y * size + x] += 1;
      }
    }
  });
  return blurred(heat.map((value, at) => value / Math.max(1, times[at])), size, patch / 4);
}
