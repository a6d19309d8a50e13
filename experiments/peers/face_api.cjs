// Predict labels of face crops with face-api.js: node face_api.cjs NODE_FOLDER CROPS.raw SIDE COUNT. Used by compare.py.
// CROPS.raw: uint8 RGB, COUNT × SIDE × SIDE × 3. Prints JSON: labels, CPU time per face in milliseconds.
const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");

const [folder, file, side, count] = [process.argv[2], process.argv[3], Number(process.argv[4]), Number(process.argv[5])];
const packageFrom = createRequire(path.join(path.resolve(folder), "node_modules", "_"));

async function main() {
  packageFrom("@tensorflow/tfjs");
  packageFrom("@tensorflow/tfjs-backend-wasm").setThreadsCount(1);
  const faceapi = packageFrom("@vladmandic/face-api/dist/face-api.node-wasm.js");
  await faceapi.tf.setBackend("wasm");
  await faceapi.tf.ready();
  const net = faceapi.nets.faceExpressionNet;
  await net.loadFromDisk(path.join(path.dirname(packageFrom.resolve("@vladmandic/face-api/package.json")), "model"));
  const pixels = fs.readFileSync(file);
  const labels = [];
  let start = process.cpuUsage();
  for (let n = -10; n < count; n++) {
    if (n === 0) start = process.cpuUsage(); // ten warm-up predictions of the first crop compile the kernels
    const at = Math.max(n, 0) * side * side * 3;
    const crop = faceapi.tf.tensor3d(pixels.subarray(at, at + side * side * 3), [side, side, 3], "int32");
    const found = await net.predictExpressions(crop);
    crop.dispose();
    if (n >= 0) labels.push(found.asSortedArray()[0].expression);
  }
  const used = process.cpuUsage(start);
  console.log(JSON.stringify({ labels, milliseconds: (used.user + used.system) / 1000 / count }));
}

main().catch((problem) => {
  console.error(String(problem));
  process.exit(1);
});
