/** Entry point: loads page.json and the networks, and creates the tabs. */

import { Backend } from "./backend.js";
import { CameraTab } from "./ui/camera.js";
import { fillLegend } from "./ui/faces.js";
import { ModelTab } from "./ui/model.js";
import { addPriorOptions, byId, hideError, megabytes, showError } from "./ui/page.js";
import { PictureTab } from "./ui/picture.js";
import { initTabs } from "./ui/tabs.js";
import { VideoTab } from "./ui/video.js";

/** Return the reason why this browser cannot run the page, or null. */
function unsupportedReason() {
  const missing = [
    [typeof Worker === "function", "workers"],
    [typeof OffscreenCanvas === "function", "OffscreenCanvas"],
    [typeof createImageBitmap === "function", "createImageBitmap"],
    [typeof DecompressionStream === "function", "DecompressionStream"],
    // A minimal WebAssembly program with a SIMD instruction: ONNX Runtime Web requires SIMD.
    [
      WebAssembly.validate(
        Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11),
      ),
      "WebAssembly SIMD",
    ],
  ].find(([available]) => !available);
  return missing
    ? `This browser does not support ${missing[1]}, which this page needs. Use a current Firefox, Chrome, Edge or Safari.`
    : null;
}

async function loadDescription() {
  const response = await fetch("page.json");
  if (!response.ok) throw new Error(`page.json: ${response.status}`);
  return response.json();
}

async function start() {
  const loading = byId("loading");
  byId("problem").querySelector("button").addEventListener("click", hideError);
  const reason = unsupportedReason();
  if (reason) return showError(reason);
  let description;
  try {
    description = await loadDescription();
  } catch {
    return showError("The page's description (page.json) could not be loaded. Check that the page's server is running, then reload the page.");
  }
  byId("version").textContent = description.emodet;
  if (description.server) Object.assign(byId("docs"), { href: "docs", hidden: false });
  if (description.project) Object.assign(byId("project"), { href: description.project, hidden: false });
  const bar = byId("loading-bar");
  const wasm = Object.entries(description.runtime_bytes).find(([name]) => !name.includes("asyncify"))[1];
  const size = description.model.bytes + description.detector.bytes + wasm;
  loading.firstElementChild.textContent = `Loading the models (${megabytes(size)}) …`;
  bar.hidden = false;
  let loaded = 0;
  const backend = new Backend((bytes) => {
    loaded += bytes;
    bar.value = Math.min(1, loaded / size);
  });
  const ready = backend.request("load", { base: document.baseURI, description });
  const context = { description, backend, ready };
  const camera = new CameraTab(context);
  new PictureTab(context);
  const video = new VideoTab(context);
  const model = new ModelTab(context);
  initTabs((name) => {
    hideError();
    camera.setVisible(name === "camera");
    video.setVisible(name === "video");
    if (name === "model") model.show();
  });
  addPriorOptions(description.model);
  for (const element of document.querySelectorAll(".legend")) fillLegend(element, description.model);
  for (const element of document.querySelectorAll(".server-only")) element.hidden = !description.server;
  byId("server-hint").hidden = !description.server;
  try {
    const { threads } = await ready;
    bar.hidden = true;
    loading.firstElementChild.textContent = threads > 1 ? `Ready (${threads} threads).` : "Ready.";
    document.documentElement.dataset.ready = "yes";
    return undefined;
  } catch (error) {
    console.warn(error);
    return showError("The models could not be loaded. Check that the page's server is running, then reload the page.");
  }
}

await start();
