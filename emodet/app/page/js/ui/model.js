/** The model tab: card, metrics, classes, terms, and the runtime in use. */

import { legend } from "./faces.js";
import { markdown } from "./markdown.js";
import { byId, element, megabytes } from "./page.js";

const METRICS = { brier: "Brier score", ece: "calibration error", macro_f1: "macro F1", nll: "NLL" };
const figure = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(3));

function definitions(pairs) {
  const rows = pairs.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, ...[value].flat())),
  );
  return element("div", { className: "wide" }, element("table", {}, element("tbody", {}, ...rows)));
}

export class ModelTab {
  constructor({ about, ready }) {
    Object.assign(this, { about, ready, shown: false });
  }

  async show() {
    if (this.shown) return;
    this.shown = true;
    const { model, detector } = this.about;
    const running = element("span", {}, "loading …");
    const classes = element("ul", { className: "classes" });
    legend(classes, model, []);
    const cut = model.preprocessing;
    const facts = [
      ["Model file", `${model.file.split("/").at(-1)}, ${megabytes(model.bytes)}, ${model.precision}`],
      ["Classes", classes],
      ["Crop", `${cut.size} × ${cut.size} pixels, ${cut.colour}, margin ${cut.margin}, alignment: ${cut.alignment}`],
      ["Temperature", model.temperature.toFixed(3)],
      ...(model.class_shares ? [["Shares in training", model.class_names.map((name, at) => `${name} ${(100 * model.class_shares[at]).toFixed(1)} %`).join(", ")]] : []),
      ["Face detector", `CenterFace, ${megabytes(detector.bytes)}`],
      ["Runs with", running],
    ];
    const metrics = Object.entries(model.metrics).map(([split, values]) => [
      split,
      Object.entries(values).map(([name, value]) => `${METRICS[name] ?? name.replaceAll("_", " ")} ${figure(value)}`).join(", "),
    ]);
    const terms = model.training_data.map(({ name, terms: text }) => [name, text]);
    byId("model-content").replaceChildren(
      element("h2", {}, "The model"),
      definitions(facts),
      element("h2", {}, "Accuracy of this model"),
      definitions(metrics.length ? metrics : [["none", "The model file contains no metrics."]]),
      element("h2", {}, "Training data and its terms"),
      definitions(terms),
      element("h2", {}, "Prohibited uses"),
      element(
        "p",
        {},
        "Inferring emotions of people at work or in education (prohibited in the European Union by Article 5(1)(f) of the AI Act, medical and safety reasons excepted), and decisions on hiring, insurance, policing or credit. An expression is not a feeling.",
      ),
      ...(model.card ? markdown(model.card) : []),
    );
    try {
      const { threads, gpu, version } = await this.ready;
      running.textContent = `ONNX Runtime Web ${version}, WebAssembly, ${threads === 1 ? "one thread" : `${threads} threads`}${gpu ? "; face detection with WebGPU" : ""}`;
    } catch {
      running.textContent = "nothing: it could not be loaded";
    }
  }
}
