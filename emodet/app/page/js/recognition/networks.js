/** Loading and running of the two networks with ONNX Runtime Web. */

const MOST_THREADS = 4;
const BATCH = 32;

/** Whether this browser has a hardware GPU for WebGPU; a software adapter is a hundred times slower than WebAssembly. */
async function hasGpu(softwareToo) {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
    return Boolean(adapter) && (softwareToo || !isSoftware);
  } catch {
    return false;
  }
}

/**
 * Load and configure ONNX Runtime. Threads need cross-origin isolation, which plain file servers do not provide; WebGPU
 * needs a separate build, which `make page WEBGPU=1` adds.
 */
async function runtime({ webgpu }, progress) {
  const gpu = webgpu && (await hasGpu(webgpu === "also software"));
  const ort = await import(`../../runtime/${gpu ? "ort-webgpu" : "ort"}.js`);
  const program = new URL(`../../runtime/ort-wasm-simd-threaded${gpu ? ".asyncify" : ""}`, import.meta.url).href;
  ort.env.wasm.wasmPaths = { mjs: `${program}.js` };
  // Fetched here and not by ONNX Runtime, to show the progress.
  ort.env.wasm.wasmBinary = await decompressed(await fetched(`${program}.wasm.gzip`, progress));
  // Half of the cores: the page, the camera and the browser need the others, and on busy cores more threads are slower.
  const cores = navigator.hardwareConcurrency ?? 1;
  const threads = self.crossOriginIsolated ? Math.max(1, Math.min(MOST_THREADS, cores >> 1)) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  return { ort, gpu, threads };
}

/** Download an address; `progress` is called with the size of each chunk. */
async function fetched(url, progress) {
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new Error(`unreachable: ${url}`);
  }
  if (!answer.ok) throw new Error(`missing: ${url} (${answer.status})`);
  const pieces = [];
  const reader = answer.body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    progress(piece.value.length);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

async function decompressed(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function opened(ort, bytes, gpu) {
  const options = {
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
    // Spinning threads would take cores from the page, the camera and the other network.
    extra: { session: { intra_op: { allow_spinning: "0" } } },
  };
  try {
    return await ort.InferenceSession.create(bytes, { ...options, executionProviders: gpu ? ["webgpu", "wasm"] : ["wasm"] });
  } catch (problem) {
    if (!gpu) throw problem;
    return ort.InferenceSession.create(bytes, { ...options, executionProviders: ["wasm"] });
  }
}

/** Open both: {readings, columns, detect, threads, gpu, version}; `progress` is called with the size of each chunk. */
export async function openNetworks(base, description, progress = () => {}) {
  const { model, detector } = description;
  const [{ ort, gpu, threads }, modelBytes, detectorBytes] = await Promise.all([
    runtime(description, progress),
    fetched(new URL(model.file, base), progress),
    fetched(new URL(detector.file, base), progress),
  ]);
  // Only the detector runs on the GPU: for face crops the transfer would take longer than the computation.
  const emotions = opened(ort, modelBytes, false);
  // WebGPU fails while the other network still starts WebAssembly.
  if (gpu) await emotions;
  const faces = opened(ort, detectorBytes, gpu);
  return networks(await emotions, await faces, description, { ort, gpu, threads });
}

/** Run the two sessions. */
function networks(emotions, faces, { model }, { ort, gpu, threads }) {
  const { size } = model.preprocessing;
  const columns = model.class_names.length + (model.outputs.includes("valence_arousal") ? 2 : 0);

  /** Crops, count × size × size × 3, to rows of probabilities, followed by valence and arousal if the model has them. */
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

  return { readings, columns, detect, threads, gpu, version: ort.env.versions.web };
}
