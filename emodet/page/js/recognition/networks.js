/** The two networks in ONNX Runtime Web, and what runs them. */

import * as ort from "../../runtime/ort.js";

const MOST_THREADS = 4;
const BATCH = 32;

let settled = null;

/** Set ONNX Runtime up, once. Threads need a page that is cross-origin isolated, which a plain file server's is not. */
function setUp() {
  if (settled) return settled;
  const folder = new URL("../../runtime/", import.meta.url).href;
  ort.env.wasm.wasmPaths = { mjs: `${folder}ort-wasm-simd-threaded.js`, wasm: `${folder}ort-wasm-simd-threaded.wasm` };
  // Half of the cores: the page, the camera and the browser's drawing need the others, and threads that wait for each
  // other lose more than they win where cores are busy.
  const cores = navigator.hardwareConcurrency ?? 1;
  const threads = self.crossOriginIsolated ? Math.max(1, Math.min(MOST_THREADS, cores >> 1)) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  settled = { threads, version: ort.env.versions.web };
  return settled;
}

async function fetched(url) {
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new Error(`unreachable: ${url}`);
  }
  if (!answer.ok) throw new Error(`missing: ${url} (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function opened(url) {
  const bytes = await fetched(url);
  return ort.InferenceSession.create(bytes, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
    // Threads that spin while they wait take the cores from the page, the camera and the other network.
    extra: { session: { intra_op: { allow_spinning: "0" } } },
  });
}

/** Opens both at once: {probabilities, detect, threads, version}. */
export async function openNetworks(base, description) {
  const { threads, version } = setUp();
  const { model, detector } = description;
  const [emotions, faces] = await Promise.all([
    opened(new URL(model.file, base)),
    opened(new URL(detector.file, base)),
  ]);
  const { size } = model.preprocessing;
  const columns = model.class_names.length + (model.outputs.includes("valence_arousal") ? 2 : 0);

  /** Crops, count × size × size × 3, to rows of probabilities, with valence and arousal behind them where there are. */
  async function readings(crops, count) {
    const result = new Float32Array(count * columns);
    const each = size * size * 3;
    for (let start = 0; start < count; start += BATCH) {
      const some = Math.min(BATCH, count - start);
      const part = crops.slice(start * each, (start + some) * each);
      const outputs = await emotions.run({ crops: new ort.Tensor("uint8", part, [some, size, size, 3]) });
      let at = 0;
      for (const name of model.outputs) {
        const wide = outputs[name].dims[1];
        for (let row = 0; row < some; row += 1) {
          const values = outputs[name].data.subarray(row * wide, (row + 1) * wide);
          result.set(values, (start + row) * columns + at);
        }
        at += wide;
      }
    }
    return result;
  }

  async function detect(values, width, height) {
    const tensor = new ort.Tensor("float32", values, [1, 3, height, width]);
    const outputs = await faces.run({ [faces.inputNames[0]]: tensor });
    const [heat, extent, offset, points] = faces.outputNames.map((name) => outputs[name].data);
    return { heat, size: extent, offset, points };
  }

  return { readings, columns, detect, threads, version };
}
