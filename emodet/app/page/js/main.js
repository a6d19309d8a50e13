/** Entry point: loads description and models, then creates the tabs. */

import { Backend } from "./backend.js";
import { CameraTab } from "./ui/camera.js";
import { legend } from "./ui/faces.js";
import { ModelTab } from "./ui/model.js";
import { PictureTab } from "./ui/picture.js";
import { byId, hideProblem, megabytes, offerPriors, showProblem } from "./ui/page.js";
import { tabs } from "./ui/tabs.js";
import { VideoTab } from "./ui/video.js";

/** Return the reason why this browser cannot run the page, or null. */
function unsupported() {
  const missing = [
    [typeof Worker === "function", "workers"],
    [typeof OffscreenCanvas === "function", "OffscreenCanvas"],
    [typeof createImageBitmap === "function", "createImageBitmap"],
    [typeof DecompressionStream === "function", "DecompressionStream"],
    // The smallest WebAssembly program with a SIMD instruction, which ONNX Runtime Web requires.
    [
      WebAssembly.validate(
        Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11),
      ),
      "WebAssembly SIMD",
    ],
  ].find(([there]) => !there);
  return missing
    ? `This browser lacks ${missing[1]}, which this page needs. Use a current Firefox, Chrome, Edge or Safari.`
    : null;
}

async function description() {
  const answer = await fetch("page.json");
  if (!answer.ok) throw new Error(`page.json: ${answer.status}`);
  return answer.json();
}

async function start() {
  const loading = byId("loading");
  const lacking = unsupported();
  if (lacking) return showProblem(lacking);
  byId("problem").querySelector("button").addEventListener("click", hideProblem);
  let about;
  try {
    about = await description();
  } catch {
    return showProblem("This page could not load its description (page.json). Check that its server runs, then reload the page.");
  }
  byId("version").textContent = about.emodet;
  if (about.server) Object.assign(byId("docs"), { href: "docs", hidden: false });
  if (about.project) Object.assign(byId("project"), { href: about.project, hidden: false });
  const bar = byId("loading-bar");
  const wasm = Object.entries(about.runtime_bytes).find(([name]) => !name.includes("asyncify"))[1];
  const size = about.model.bytes + about.detector.bytes + wasm;
  loading.firstElementChild.textContent = `Loading the models (${megabytes(size)}) …`;
  bar.hidden = false;
  let loaded = 0;
  const backend = new Backend((bytes) => {
    loaded += bytes;
    bar.value = Math.min(1, loaded / size);
  });
  const ready = backend.ask("open", { base: document.baseURI, description: about });
  const all = { about, backend, ready };
  const camera = new CameraTab(all);
  new PictureTab(all);
  const video = new VideoTab(all);
  const model = new ModelTab(all);
  tabs((name) => {
    hideProblem();
    camera.visible(name === "camera");
    video.visible(name === "video");
    if (name === "model") model.show();
  });
  offerPriors(about.model);
  for (const place of document.querySelectorAll(".legend")) legend(place, about.model);
  for (const place of document.querySelectorAll(".server-only")) place.hidden = !about.server;
  byId("unless-server").hidden = !about.server;
  try {
    const { threads } = await ready;
    bar.hidden = true;
    loading.firstElementChild.textContent = threads > 1 ? `Ready, with ${threads} threads.` : "Ready.";
    document.documentElement.dataset.ready = "yes";
    return undefined;
  } catch (problem) {
    console.warn(problem);
    return showProblem(
      "The models could not be loaded. Check the connection to this page's server, then reload the page.",
    );
  }
}

await start();
