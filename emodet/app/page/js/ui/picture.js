/** The picture tab: dropped, pasted or selected pictures with faces, heat maps and downloads. */

import { CELLS, drawFaces, emotionText, hideFaces } from "./overlay.js";
import { acceptDrops, byId, confidenceSlider, download, downloadPng, element, hideError, megabytes, onSampleClick, percent, showError, timestamp } from "./page.js";
import { CsvRows } from "./rows.js";
import { addServerOptions, recogniseOnServer, selectedServerModel } from "./server.js";

const MAX_PIXELS = 64e6; // as in Python
const MAX_BYTES = 100e6;
const MAX_FILES = 200;
const MAX_HEAT_MAPS = 6;
const HEAT_MAP_SIDE = 192;

/** Read width and height without decoding every pixel. */
function readSize(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
    image.onerror = reject;
    image.src = url;
  });
}

/** Decode a file to an upright bitmap; an error has a message for the user. */
async function decode(file) {
  if (!file.size) throw new Error("the file is empty.");
  if (file.size > MAX_BYTES) throw new Error(`${megabytes(file.size)} exceed the limit of ${megabytes(MAX_BYTES)}. Reduce the picture.`);
  const url = URL.createObjectURL(file);
  try {
    const [width, height] = await readSize(url);
    if (width * height > MAX_PIXELS) {
      throw new RangeError(`${width} × ${height} pixels exceed the limit of 64 megapixels. Reduce the picture.`);
    }
    return await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch (error) {
    if (error instanceof RangeError) throw error;
    throw new Error("the file is damaged, or not a picture that this browser can read. Open it in an image viewer and save it as JPEG or PNG.", { cause: error });
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Draw a heat map over its crop: bright regions contribute most to the prediction. */
function heatMapCanvas({ crop, heat, size }, hidden) {
  const max = Math.max(1e-6, ...heat);
  const pixels = new ImageData(size, size);
  const cell = hidden ? size / CELLS : 1;
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const index = y * size + x;
      const source = (Math.floor(Math.floor(y / cell) * cell) * size + Math.floor(Math.floor(x / cell) * cell)) * 3;
      const luma = 0.299 * crop[source] + 0.587 * crop[source + 1] + 0.114 * crop[source + 2];
      const strength = Math.max(0, heat[index]) / max;
      const opacity = 0.75 * strength;
      const colour = [255 * Math.min(1, strength * 1.6), 255 * Math.max(0, strength * 1.5 - 0.5), 90 * Math.sin(Math.PI * strength)];
      colour.forEach((value, channel) => (pixels.data[index * 4 + channel] = luma * (1 - opacity) + value * opacity));
      pixels.data[index * 4 + 3] = 255;
    }
  }
  const small = element("canvas", { width: size, height: size });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const large = element("canvas", { width: HEAT_MAP_SIDE, height: HEAT_MAP_SIDE });
  large.getContext("2d").drawImage(small, 0, 0, HEAT_MAP_SIDE, HEAT_MAP_SIDE);
  return large;
}

/** One recognised picture; its pixels are in the worker under `key` once the worker has recognised it. */
class PictureResult {
  constructor(tab, file, bitmap, faces, key, serverModel) {
    Object.assign(this, { tab, file, bitmap, faces, key, serverModel, inWorker: serverModel === null });
    this.canvas = element("canvas", { role: "img" });
    this.heatMaps = element("div", { className: "heat-maps" });
    const tools = element("div", { className: "tools" });
    const addButton = (text, onClick) => {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => onClick(button));
      tools.append(button);
    };
    addButton("Download annotated", () => downloadPng(this.canvas, `${this.stem()}-emodet.png`));
    if (faces.length) addButton("Heat map", (button) => this.showHeatMaps(button));
    addButton("Remove", () => this.remove());
    this.card = element(
      "article",
      { className: "card result" },
      element("h2", {}, file.name || "pasted picture"),
      element("p", {}, this.summary()),
      element("div", { className: "shown" }, this.canvas),
      tools,
      this.heatMaps,
      ...(faces.length ? [this.table()] : []),
    );
  }

  stem() {
    return (this.file.name || "pasted").replace(/\.[^.]*$/, "");
  }

  summary() {
    const { faces } = this;
    if (!faces.length) return "No face was found. Faces should look towards the camera and be at least about 20 pixels wide.";
    const counts = new Map();
    for (const { emotion } of faces) counts.set(emotion, (counts.get(emotion) ?? 0) + 1);
    const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([emotion, count]) => (faces.length === 1 ? emotion : `${count} ${emotion}`));
    return `${faces.length === 1 ? "One face" : `${faces.length} faces`}: ${parts.join(", ")}.`;
  }

  table() {
    const { class_names: names } = this.tab.description.model;
    const head = element("tr", {}, ...["face", "emotion", ...names].map((name) => element("th", { scope: "col" }, name)));
    const rows = this.faces.map((face, index) => {
      const max = Math.max(...face.probabilities);
      const cells = face.probabilities.map((value, column) =>
        element("td", { className: value === max ? "best" : "", "data-name": names[column] }, percent(value)),
      );
      const number = element("th", { scope: "row" }, String(index + 1));
      return element("tr", {}, number, element("td", { className: "emotion" }, emotionText(face)), ...cells);
    });
    return element("div", { className: "wide" }, element("table", { className: "found" }, element("thead", {}, head), element("tbody", {}, ...rows)));
  }

  /** Replace the results. */
  update(faces) {
    this.faces = faces;
    this.card.querySelector("p").textContent = this.summary();
    this.card.querySelector(".wide")?.replaceWith(this.table());
    this.draw();
  }

  draw() {
    const { canvas, bitmap, faces } = this;
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.setAttribute("aria-label", this.summary());
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0);
    if (byId("picture-blur").checked) hideFaces(context, faces.map(({ box }) => box));
    const numbered = faces.length > 1 ? faces.map((face, index) => ({ ...face, track_id: index + 1 })) : faces;
    drawFaces(context, numbered, this.tab.description.model.colours);
    this.heatMaps.replaceChildren();
  }

  /** Show heat maps of the largest faces. */
  async showHeatMaps(button) {
    button.disabled = true;
    const widthOf = ({ face: { box } }) => box[2] - box[0];
    const numbered = this.faces.map((face, index) => ({ face, number: index + 1 }));
    const largest = numbered.sort((a, b) => widthOf(b) - widthOf(a)).slice(0, MAX_HEAT_MAPS);
    this.heatMaps.replaceChildren();
    try {
      await this.tab.ready;
      if (!this.inWorker) {
        const bitmap = await createImageBitmap(this.bitmap);
        await this.tab.backend.request("still", { bitmap, key: this.key, minConfidence: 0 }, [bitmap]);
        this.inWorker = true;
      }
      for (const { face, number } of largest) {
        const content = { key: this.key, face, className: face.most_probable };
        const canvas = heatMapCanvas(await this.tab.backend.request("heatMap", content), byId("picture-blur").checked);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `Heat map of face ${number} for ${face.most_probable}`);
        const text = `Face ${number}: ${face.most_probable} ${percent(Math.max(...face.probabilities))}. Covering a bright region makes this emotion less probable.`;
        this.heatMaps.append(element("figure", {}, canvas, element("figcaption", {}, text)));
      }
    } catch {
      showError("The heat map could not be computed. Remove the picture and add it again.");
    }
    button.disabled = false;
  }

  remove() {
    this.card.remove();
    this.bitmap.close();
    this.tab.forget(this);
  }
}

export class PictureTab {
  constructor({ description, backend, ready }) {
    Object.assign(this, { description, backend, ready, results: [], queue: [], busy: false, lastKey: 0 });
    this.confidence = confidenceSlider("picture-confidence", description.min_confidence, () => this.applyMinConfidence());
    const input = byId("picture-files");
    input.addEventListener("change", () => {
      this.addFiles([...input.files]);
      input.value = "";
    });
    acceptDrops(byId("picture"), (dropped) => this.addFiles(dropped));
    onSampleClick(byId("picture-sample"), "drawn-faces.jpg", (files) => this.addFiles(files));
    document.addEventListener("paste", (event) => {
      const pasted = [...(event.clipboardData?.files ?? [])];
      if (!byId("picture").hidden && pasted.length) this.addFiles(pasted);
    });
    byId("picture-prior").addEventListener("change", () => this.recogniseAgain());
    byId("picture-blur").addEventListener("change", () => this.results.forEach((result) => result.draw()));
    byId("picture-clear").addEventListener("click", () => {
      this.queue = [];
      [...this.results].forEach((result) => result.remove());
    });
    byId("picture-rows").addEventListener("click", () => this.downloadRows());
    addServerOptions(byId("picture-where"), description);
  }

  note(text) {
    byId("picture-note").textContent = text;
  }

  /** Show the buttons and the legend for all pictures if there are any. */
  updateButtons() {
    for (const id of ["picture-clear", "picture-rows", "picture-legend"]) byId(id).hidden = !this.results.length;
  }

  downloadRows() {
    const rows = new CsvRows(this.description);
    for (const { file, faces } of [...this.results].reverse()) rows.add(file.name || "pasted picture", 0, null, faces);
    download(rows.toBlob(), `emodet-${timestamp()}.csv`);
  }

  async addFiles(files) {
    if (!files.length) return;
    hideError();
    this.queue.push(...files.slice(0, MAX_FILES));
    if (files.length > MAX_FILES) showError(`Only the first ${MAX_FILES} of ${files.length} pictures are recognised. Add the others afterwards.`);
    if (this.busy) return;
    this.busy = true;
    const errors = [];
    while (this.queue.length) {
      const file = this.queue.shift();
      const name = file.name || "The pasted picture";
      this.note(`Recognising ${name} …`);
      try {
        await this.recognise(file);
      } catch (error) {
        errors.push(`${name}: ${error.message}`);
        showError(errors.slice(-4).join("\n"));
      }
    }
    this.busy = false;
    this.note("");
  }

  async recognise(file) {
    const bitmap = await decode(file);
    this.lastKey += 1;
    const [key, serverModel] = [this.lastKey, selectedServerModel(byId("picture-where"))];
    const faces = await this.faces(file, bitmap, key, serverModel);
    const result = new PictureResult(this, file, bitmap, faces, key, serverModel);
    this.results.unshift(result);
    byId("picture-results").prepend(result.card);
    result.draw(); // after insertion, so that labels have the size of the page's text
    this.updateButtons();
  }

  /** Recognise a picture with a model of the server, or in this browser if that is null. */
  async faces(file, bitmap, key, serverModel) {
    const options = { minConfidence: this.confidence(), prior: byId("picture-prior").value };
    if (serverModel) return recogniseOnServer(file, { ...options, model: serverModel }, this.description.model.class_names);
    await this.ready.catch(() => {
      throw new Error("the models could not be loaded. Reload the page.");
    });
    const copy = await createImageBitmap(bitmap);
    return (await this.backend.request("still", { ...options, bitmap: copy, key }, [copy])).faces;
  }

  /** Recognise all pictures again after a change of the prior. */
  async recogniseAgain() {
    const prior = byId("picture-prior").value;
    const isCurrent = () => byId("picture-prior").value === prior;
    try {
      for (const result of [...this.results]) {
        if (!this.results.includes(result)) continue; // removed meanwhile
        const faces = await this.faces(result.file, result.bitmap, result.key, result.serverModel);
        if (!isCurrent()) return;
        result.update(faces);
      }
    } catch (error) {
      if (isCurrent()) showError(error.message);
    }
  }

  /** Update which faces are uncertain after a change of the minimum confidence. */
  applyMinConfidence() {
    for (const result of this.results) {
      for (const face of result.faces) face.emotion = face.confidence >= this.confidence() ? face.most_probable : "uncertain";
      result.update(result.faces);
    }
  }

  forget(result) {
    this.results = this.results.filter((other) => other !== result);
    this.backend.request("forget", { key: result.key }).catch(() => {});
    this.updateButtons();
  }
}
