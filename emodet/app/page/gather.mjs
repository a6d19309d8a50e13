/**
 * Copies ONNX Runtime Web from node_modules/ to runtime/: `npm ci && npm run build`, or `make page`. WEBGPU=1 adds the
 * build for face detection on a GPU, 7 MB.
 *
 * WebAssembly files are compressed to a quarter of their size. The page decompresses them, because not every file server
 * supports compression. Their suffix is .gzip: some servers send .gz files with a Content-Encoding, and the browser would
 * decompress them first. Modules get the suffix .js: some servers send .mjs with a type that browsers reject.
 */

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const FROM = new URL("node_modules/onnxruntime-web/", import.meta.url);
const TO = new URL("runtime/", import.meta.url);
const FILES = {
  "dist/ort.wasm.min.mjs": "ort.js",
  "dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
  "dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm.gzip",
};
if (process.env.WEBGPU === "1") {
  Object.assign(FILES, {
    "dist/ort.webgpu.min.mjs": "ort-webgpu.js",
    "dist/ort-wasm-simd-threaded.asyncify.mjs": "ort-wasm-simd-threaded.asyncify.js",
    "dist/ort-wasm-simd-threaded.asyncify.wasm": "ort-wasm-simd-threaded.asyncify.wasm.gzip",
  });
}

await rm(TO, { recursive: true, force: true });
await mkdir(TO, { recursive: true });
for (const [source, target] of Object.entries(FILES)) {
  const [from, to] = [new URL(source, FROM), new URL(target, TO)];
  if (target.endsWith(".gzip")) await writeFile(to, gzipSync(await readFile(from), { level: 9 }));
  else await copyFile(from, to);
}
console.log(`${Object.keys(FILES).length} files of onnxruntime-web copied to ${fileURLToPath(TO)}`);
