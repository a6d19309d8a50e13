/**
 * Copies what the page takes from npm into runtime/: `npm ci && npm run build`, or `make page`. WEBGPU=1 adds the build
 * that finds faces on a graphics processor, which is 27 MB more.
 *
 * Modules are called .js: there are file servers that do not know .mjs and send it as a type that browsers refuse.
 */

import { copyFile, mkdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const FROM = new URL("node_modules/onnxruntime-web/", import.meta.url);
const TO = new URL("runtime/", import.meta.url);
const FILES = {
  "dist/ort.wasm.min.mjs": "ort.js",
  "dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
  "dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
};
if (process.env.WEBGPU === "1") {
  Object.assign(FILES, {
    "dist/ort.webgpu.min.mjs": "ort-webgpu.js",
    "dist/ort-wasm-simd-threaded.asyncify.mjs": "ort-wasm-simd-threaded.asyncify.js",
    "dist/ort-wasm-simd-threaded.asyncify.wasm": "ort-wasm-simd-threaded.asyncify.wasm",
  });
}

await rm(TO, { recursive: true, force: true });
await mkdir(TO, { recursive: true });
for (const [source, target] of Object.entries(FILES)) await copyFile(new URL(source, FROM), new URL(target, TO));
console.log(`${Object.keys(FILES).length} files of onnxruntime-web are in ${fileURLToPath(TO)}`);
