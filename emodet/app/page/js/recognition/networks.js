/** Loads and runs the two networks, classifier and face detector, with ONNX Runtime Web. */

const MAX_THREADS = 4;
const BATCH_SIZE = 32;

/** Whether this browser has a hardware GPU for WebGPU; a software adapter is a hundred times slower than WebAssembly. */
async function hasGpu(allowSoftware) {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
    return Boolean(adapter) && (allowSoftware || !isSoftware);
  } catch {
    return false;
  }
}

/**
 * Load and configure ONNX Runtime. Threads need cross-origin isolation, which plain file servers do not provide; WebGPU
 * needs a separate build, which `make page WEBGPU=1` adds.
 */
async function loadRuntime({ webgpu }, onProgress) {
  const gpu = webgpu && (await hasGpu(webgpu === "also software"));
  const ort = await import(`../../runtime/${gpu ? "ort-webgpu" : "ort"}.js`);
  const path = new URL(`../../runtime/ort-wasm-simd-threaded${gpu ? ".asyncify" : ""}`, import.meta.url).href;
  ort.env.wasm.wasmPaths = { mjs: `${path}.js` };
  // Downloaded here and not by ONNX Runtime, to report the progress.
  ort.env.wasm.wasmBinary = await decompress(await download(`${path}.wasm.gzip`, onProgress));
  // Half of the cores: the page, the camera and the browser need the others, and on busy cores more threads are slower.
  const cores = navigator.hardwareConcurrency ?? 1;
  const threads = self.crossOriginIsolated ? Math.max(1, Math.min(MAX_THREADS, cores >> 1)) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  return { ort, gpu, threads };
}

/** Download a file; `onProgress` is called with the size of each chunk. */
async function download(url, onProgress) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error(`unreachable: ${url}`);
  }
  if (!response.ok) throw new Error(`missing: ${url} (${response.status})`);
  const chunks = [];
  const reader = response.body.getReader();
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    chunks.push(chunk.value);
    onProgress(chunk.value.length);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

async function decompress(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function createSession(ort, bytes, gpu) {
  const options = {
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
    // Spinning threads would take cores from the page, the camera and the other network.
    extra: { session: { intra_op: { allow_spinning: "0" } } },
  };
  try {
    return await ort.InferenceSession.create(bytes, { ...options, executionProviders: gpu ? ["webgpu", "wasm"] : ["wasm"] });
  } catch (error) {
    if (!gpu) throw error;
    return ort.InferenceSession.create(bytes, { ...options, executionProviders: ["wasm"] });
  }
}

/**
 * Open both networks: {predict, columns, runDetector, threads, gpu, version}. `onProgress` is called with the size of each
 * chunk of a download.
 */
export async function openNetworks(base, description, onProgress = () => {}) {
  const { model, detector } = description;
  const [{ ort, gpu, threads }, modelBytes, detectorBytes] = await Promise.all([
    loadRuntime(description, onProgress),
    download(new URL(model.file, base), onProgress),
    download(new URL(detector.file, base), onProgress),
  ]);
  // Only the detector runs on the GPU: for face crops the transfer would take longer than the computation.
  const classifierSession = createSession(ort, modelBytes, false);
  // WebGPU fails while the other network still starts WebAssembly.
  if (gpu) await classifierSession;
  const detectorSession = createSession(ort, detectorBytes, gpu);
  return {
    ...makeClassifier(ort, await classifierSession, model),
    runDetector: makeDetector(ort, await detectorSession),
    threads,
    gpu,
    version: ort.env.versions.web,
  };
}

function makeClassifier(ort, session, model) {
  const { size } = model.preprocessing;
  const columns = model.class_names.length + (model.outputs.includes("valence_arousal") ? 2 : 0);

  /** Crops, count × size × size × 3, to rows of probabilities, followed by valence and arousal if the model has them. */
  async function predict(crops, count) {
    const result = new Float32Array(count * columns);
    const cropBytes = size * size * 3;
    for (let start = 0; start < count; start += BATCH_SIZE) {
      const batch = Math.min(BATCH_SIZE, count - start);
      const values = crops.slice(start * cropBytes, (start + batch) * cropBytes);
      const outputs = await session.run({ crops: new ort.Tensor("uint8", values, [batch, size, size, 3]) });
      let column = 0;
      for (const name of model.outputs) {
        const width = outputs[name].dims[1];
        for (let row = 0; row < batch; row += 1) {
          const part = outputs[name].data.subarray(row * width, (row + 1) * width);
          result.set(part, (start + row) * columns + column);
        }
        column += width;
      }
    }
    return result;
  }

  return { predict, columns };
}

function makeDetector(ort, session) {
  return async (values, width, height) => {
    const tensor = new ort.Tensor("float32", values, [1, 3, height, width]);
    const outputs = await session.run({ [session.inputNames[0]]: tensor });
    const [heat, size, offset, points] = session.outputNames.map((name) => outputs[name].data);
    return { heat, size, offset, points };
  };
}
