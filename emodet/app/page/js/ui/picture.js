/** The picture tab: dropped, pasted or selected pictures with faces, heat map and download. */

import { drawFaces, hideFaces } from "./overlay.js";
import { asPng, byId, confidenceSlider, download, element, megabytes, offerSample, percent, showProblem, stamp, takesDrops } from "./page.js";
import { Rows } from "./rows.js";
import { offerServer, recognisePicture } from "./server.js";

const MOST_PIXELS = 64e6; // as in Python
const MOST_BYTES = 100e6;
const MOST_AT_ONCE = 200;
const HEAT_SIDE = 192;

/** Read width and height without decoding every pixel. */
function sizeOf(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
    image.onerror = () => reject(new Error("no picture"));
    image.src = url;
  });
}

/** Decode a file to an upright bitmap; rejects with a message for the user. */
async function decoded(file) {
  if (!file.size) throw new Error("the file is empty.");
  if (file.size > MOST_BYTES) throw new Error(`${megabytes(file.size)} are more than the limit of ${megabytes(MOST_BYTES)}; save it smaller.`);
  const url = URL.createObjectURL(file);
  try {
    const [width, height] = await sizeOf(url);
    if (width * height > MOST_PIXELS) {
      throw new RangeError(`${width} × ${height} pixels are more than the limit of 64 megapixels; save it smaller.`);
    }
    return await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch (problem) {
    if (problem instanceof RangeError) throw problem;
    throw new Error("this is no picture that this browser can read, or it is damaged. Open it in an image viewer and save it as JPEG or PNG.", { cause: problem });
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Draw a heat map over its crop: bright regions contribute most to the prediction. */
function heatCanvas({ crop, heat, size }, hidden) {
  const most = Math.max(1e-6, ...heat);
  const pixels = new ImageData(size, size);
  const cell = hidden ? size / 6 : 1;
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const at = y * size + x;
      const source = (Math.floor(Math.floor(y / cell) * cell) * size + Math.floor(Math.floor(x / cell) * cell)) * 3;
      const luma = 0.299 * crop[source] + 0.587 * crop[source + 1] + 0.114 * crop[source + 2];
      const strength = Math.max(0, heat[at]) / most;
      const share = 0.75 * strength;
      const glow = [255 * Math.min(1, strength * 1.6), 255 * Math.max(0, strength * 1.5 - 0.5), 90 * Math.sin(Math.PI * strength)];
      glow.forEach((value, channel) => (pixels.data[at * 4 + channel] = luma * (1 - share) + value * share));
      pixels.data[at * 4 + 3] = 255;
    }
  }
  const small = element("canvas", { width: size, height: size });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const large = element("canvas", { width: HEAT_SIDE, height: HEAT_SIDE });
  large.getContext("2d").drawImage(small, 0, 0, HEAT_SIDE, HEAT_SIDE);
  return large;
}

let keys = 0;

class PictureResult {
  constructor(tab, file, bitmap, faces, key, where) {
    Object.assign(this, { tab, file, bitmap, faces, key, where, kept: where === "here" });
    this.canvas = element("canvas", { role: "img" });
    this.heats = element("div", { className: "heats" });
    const said = element("p", {}, this.summary());
    const tools = element("div", { className: "tools" });
    const save = element("button", { type: "button" }, "Download annotated");
    save.addEventListener("click", async () => download(await asPng(this.canvas), `${this.stem()}-emodet.png`));
    tools.append(save);
    if (faces.length) {
      const explain = element("button", { type: "button" }, "Heat map");
      explain.addEventListener("click", () => this.explain(explain));
      tools.append(explain);
    }
    const remove = element("button", { type: "button" }, "Remove");
    remove.addEventListener("click", () => this.remove());
    tools.append(remove);
    this.place = element(
      "article",
      { className: "card result" },
      element("h2", {}, file.name || "pasted picture"),
      said,
      element("div", { className: "shown" }, this.canvas),
      tools,
      this.heats,
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
    const { class_names: names } = this.tab.about.model;
    const head = element("tr", {}, ...["face", "emotion", ...names].map((name) => element("th", { scope: "col" }, name)));
    const rows = this.faces.map((face, at) => {
      const shown = face.emotion === "uncertain" ? `uncertain (${face.most_probable}?)` : face.emotion;
      const most = Math.max(...face.probabilities);
      const cells = face.probabilities.map((value, column) =>
        element("td", { className: value === most ? "best" : "", "data-name": names[column] }, percent(value)),
      );
      const number = element("th", { scope: "row" }, String(at + 1));
      return element("tr", {}, number, element("td", { className: "emotion" }, shown), ...cells);
    });
    return element("div", { className: "wide" }, element("table", { className: "found" }, element("thead", {}, head), element("tbody", {}, ...rows)));
  }

  /** Show other results. */
  show(faces) {
    this.faces = faces;
    this.place.querySelector("p").textContent = this.summary();
    this.place.querySelector(".wide")?.replaceWith(this.table());
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
    const numbered = faces.length > 1 ? faces.map((face, at) => ({ ...face, track_id: at + 1 })) : faces;
    drawFaces(context, numbered, this.tab.about.model.colours);
    this.heats.replaceChildren();
  }

  /** Show heat maps of the largest faces. */
  async explain(button) {
    button.disabled = true;
    const wide = ({ box }) => box[2] - box[0];
    const largest = this.faces.map((face, at) => ({ face, at })).sort((a, b) => wide(b.face) - wide(a.face)).slice(0, 6);
    this.heats.replaceChildren();
    try {
      await this.tab.ready;
      if (!this.kept) {
        const bitmap = await createImageBitmap(this.bitmap);
        await this.tab.backend.ask("still", { bitmap, key: this.key, leastConfidence: 0 }, [bitmap]);
        this.kept = true;
      }
      for (const { face, at } of largest) {
        const ask = { key: this.key, face, className: face.most_probable };
        const answer = await this.tab.backend.ask("heat", ask);
        const canvas = heatCanvas(answer, byId("picture-blur").checked);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `Heat map of face ${at + 1} for ${face.most_probable}`);
        const text = `face ${at + 1}: ${face.most_probable} ${percent(Math.max(...face.probabilities))}. Bright: covering it makes the answer less probable.`;
        this.heats.append(element("figure", {}, canvas, element("figcaption", {}, text)));
      }
    } catch {
      showProblem("The heat map could not be made. Remove the picture and add it again.");
    }
    button.disabled = false;
  }

  remove() {
    this.place.remove();
    this.bitmap.close();
    this.tab.forget(this);
  }
}

export class PictureTab {
  constructor({ about, backend, ready }) {
    Object.assign(this, { about, backend, ready, results: [], waiting: [] });
    this.confidence = confidenceSlider("picture-confidence", about.min_confidence, () => this.judgeAgain());
    const files = byId("picture-files");
    files.addEventListener("change", () => {
      this.take([...files.files]);
      files.value = "";
    });
    takesDrops(byId("picture"), (dropped) => this.take(dropped));
    offerSample(byId("picture-sample"), "drawn-faces.jpg", (files) => this.take(files));
    document.addEventListener("paste", (event) => {
      const pasted = [...(event.clipboardData?.files ?? [])];
      if (!byId("picture").hidden && pasted.length) this.take(pasted);
    });
    byId("picture-prior").addEventListener("change", () => this.recogniseAgain());
    byId("picture-blur").addEventListener("change", () => this.results.forEach((result) => result.draw()));
    byId("picture-clear").addEventListener("click", () => {
      this.waiting = [];
      [...this.results].forEach((result) => result.remove());
    });
    byId("picture-rows").addEventListener("click", () => this.save());
    offerServer(byId("picture-where"), about);
  }

  note(text) {
    byId("picture-note").textContent = text;
  }

  /** Show the buttons for all pictures if there are any. */
  offer() {
    for (const id of ["picture-clear", "picture-rows", "picture-legend"]) byId(id).hidden = !this.results.length;
  }

  save() {
    const rows = new Rows(this.about);
    for (const { file, faces } of [...this.results].reverse()) rows.add(file.name || "pasted picture", 0, null, faces);
    download(rows.asCsv(), `emodet-${stamp()}.csv`);
  }

  async take(files) {
    if (!files.length) return;
    byId("problem").hidden = true;
    this.waiting.push(...files.slice(0, MOST_AT_ONCE));
    if (files.length > MOST_AT_ONCE) showProblem(`Of ${files.length} pictures only the first ${MOST_AT_ONCE} are taken; add the others afterwards.`);
    if (this.busy) return;
    this.busy = true;
    const troubles = [];
    while (this.waiting.length) {
      const file = this.waiting.shift();
      const name = file.name || "The pasted picture";
      this.note(`Recognising ${name} …`);
      try {
        await this.recognise(file);
      } catch (problem) {
        troubles.push(`${name}: ${problem.message}`);
        showProblem(troubles.slice(-4).join("\n"));
      }
    }
    this.busy = false;
    this.note("");
  }

  async recognise(file) {
    const bitmap = await decoded(file);
    keys += 1;
    const where = byId("picture-where").value;
    const faces = await this.faces(file, bitmap, keys, where);
    const result = new PictureResult(this, file, bitmap, faces, keys, where);
    this.results.unshift(result);
    byId("picture-results").prepend(result.place);
    result.draw(); // after insertion, so that labels have the size of the page's text
    this.offer();
  }

  /** Recognise a picture in this browser ("here") or with a model of the server. */
  async faces(file, bitmap, key, where) {
    const wish = { leastConfidence: this.confidence(), prior: byId("picture-prior").value };
    if (where !== "here") return recognisePicture(file, { ...wish, model: where }, this.about.model.class_names);
    await this.ready.catch(() => {
      throw new Error("what recognises faces could not be loaded. Reload the page.");
    });
    const copy = await createImageBitmap(bitmap);
    return (await this.backend.ask("still", { ...wish, bitmap: copy, key }, [copy])).faces;
  }

  /** Recognise all pictures again after a change of the prior. */
  async recogniseAgain() {
    const prior = byId("picture-prior").value;
    const isAsked = () => byId("picture-prior").value === prior;
    try {
      for (const result of [...this.results]) {
        if (!this.results.includes(result)) continue; // removed in the meantime
        const faces = await this.faces(result.file, result.bitmap, result.key, result.where);
        if (!isAsked()) return;
        result.show(faces);
      }
    } catch (problem) {
      if (isAsked()) showProblem(problem.message);
    }
  }

  /** Update which faces are uncertain after a change of the minimum confidence. */
  judgeAgain() {
    for (const result of this.results) {
      for (const face of result.faces) face.emotion = face.confidence >= this.confidence() ? face.most_probable : "uncertain";
      result.show(result.faces);
    }
  }

  forget(result) {
    this.results = this.results.filter((other) => other !== result);
    this.backend.ask("forget", { key: result.key }).catch(() => {});
    this.offer();
  }
}
