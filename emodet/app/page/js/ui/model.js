/** The model tab: model file, metrics, terms of the training data, model card, and the runtime in use. */

import { fillLegend } from "./faces.js";
import { markdown } from "./markdown.js";
import { byId, element, megabytes } from "./page.js";

const METRICS = { brier: "Brier score", ece: "calibration error", macro_f1: "macro F1", nll: "NLL" };
const formatNumber = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(3));

function factTable(pairs) {
  const rows = pairs.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, ...[value].flat())),
  );
  return element("div", { className: "wide" }, element("table", {}, element("tbody", {}, ...rows)));
}

export class ModelTab {
  constructor({ description, ready }) {
    Object.assign(this, { description, ready, isFilled: false });
  }

  /** Fill the tab when it is opened for the first time. */
  async show() {
    if (this.isFilled) return;
    this.isFilled = true;
    const { model, detector } = this.description;
    const runtime = element("span", {}, "loading …");
    const classes = element("ul", { className: "classes" });
    fillLegend(classes, model, []);
    const { size, colour, margin, alignment } = model.preprocessing;
    const shares = model.class_names.map((name, index) => `${name} ${(100 * model.class_shares?.[index]).toFixed(1)} %`);
    const facts = [
      ["Model file", `${model.file.split("/").at(-1)}, ${megabytes(model.bytes)}, ${model.precision}`],
      ["Classes", classes],
      ["Face crop", `${size} × ${size} pixels, ${colour}, margin ${margin}, alignment: ${alignment}`],
      ["Calibration temperature", model.temperature.toFixed(3)],
      ...(model.class_shares?.length ? [["Class shares in the training data", shares.join(", ")]] : []),
      ["Face detector", `CenterFace, ${megabytes(detector.bytes)}`],
      ["Runtime", runtime],
    ];
    const metrics = Object.entries(model.metrics).map(([split, values]) => [
      split,
      Object.entries(values).map(([name, value]) => `${METRICS[name] ?? name.replaceAll("_", " ")} ${formatNumber(value)}`).join(", "),
    ]);
    const terms = model.training_data.map(({ name, terms: text }) => [name, text]);
    byId("model-content").replaceChildren(
      element("h2", {}, "The model"),
      factTable(facts),
      element("h2", {}, "Metrics"),
      factTable(metrics.length ? metrics : [["none", "The model file contains no metrics."]]),
      element("h2", {}, "Training data and its terms of use"),
      factTable(terms),
      element("h2", {}, "Prohibited uses"),
      element(
        "p",
        {},
        "Inferring emotions of people at work or in education (prohibited in the European Union by Article 5(1)(f) of the AI Act, except for medical or safety reasons), and decisions on hiring, insurance, policing or credit. An expression is not a feeling.",
      ),
      ...(model.card ? markdown(model.card) : []),
    );
    try {
      const { threads, gpu, version } = await this.ready;
      runtime.textContent = `ONNX Runtime Web ${version}, WebAssembly, ${threads === 1 ? "one thread" : `${threads} threads`}${gpu ? "; face detection with WebGPU" : ""}`;
    } catch {
      runtime.textContent = "could not be loaded; check the connection to the page's server, then reload the page";
    }
  }
}
