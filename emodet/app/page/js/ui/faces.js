/** Panel of the faces in a frame: emotion and one bar per class. Elements are reused. */

import { colourOf, emotionText } from "./overlay.js";
import { element, percent } from "./page.js";

const MAX_SHOWN = 4;

/** Fill a list with the colours of the classes and of `others`. */
export function fillLegend(container, { class_names: names, colours }, others = ["uncertain"]) {
  const entries = [...names, ...others].map((name) => {
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.background = colours[name];
    return element("li", {}, swatch, name);
  });
  container.replaceChildren(...entries);
}

/** The emotions of a frame as text for screen readers. */
export const emotionList = (faces) => faces.map(({ emotion }) => emotion).join(", ") || "no face";

export class FacesPanel {
  /** @param {HTMLElement} container @param {object} model `model` of page.json */
  constructor(container, model) {
    this.container = container;
    this.model = model;
    this.cards = [];
    this.empty = element("p", {}, "No face yet.");
    this.extra = element("p", { hidden: true });
    container.append(this.empty, this.extra);
  }

  card() {
    const title = element("span");
    const note = element("small");
    const bars = this.model.class_names.map((name) => {
      const length = element("span");
      length.style.background = this.model.colours[name];
      const share = element("span", { className: "share" });
      const label = element("span", {}, name);
      const row = element("li", {}, label, element("span", { className: "length", "aria-hidden": "true" }, length), share);
      return { row, length, share };
    });
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    const card = element(
      "div",
      { className: "face" },
      element("h3", {}, swatch, title, note),
      element("ul", { className: "bars" }, ...bars.map(({ row }) => row)),
    );
    this.container.insertBefore(card, this.extra);
    return { card, title, note, bars, swatch };
  }

  /** Show the largest faces of a frame. */
  show(faces) {
    const widthOf = ({ box }) => box[2] - box[0];
    const shown = [...faces].sort((a, b) => widthOf(b) - widthOf(a)).slice(0, MAX_SHOWN);
    shown.sort((a, b) => (a.track_id ?? 0) - (b.track_id ?? 0));
    while (this.cards.length < shown.length) this.cards.push(this.card());
    this.empty.hidden = shown.length > 0;
    this.empty.textContent = "No face in the picture.";
    const hidden = faces.length - shown.length;
    this.extra.hidden = hidden === 0;
    this.extra.textContent = hidden === 1 ? "and one more face" : `and ${hidden} more faces`;
    this.cards.forEach(({ card, title, note, bars, swatch }, index) => {
      const face = shown[index];
      card.hidden = !face;
      if (!face) return;
      title.textContent = emotionText(face);
      note.textContent = face.track_id === null ? percent(face.confidence) : `face ${face.track_id}, ${percent(face.confidence)}`;
      swatch.style.background = colourOf(this.model.colours, face.emotion);
      bars.forEach(({ row, length, share }, column) => {
        const value = face.probabilities[column];
        length.style.width = `${(value * 100).toFixed(1)}%`;
        share.textContent = percent(value);
        row.classList.toggle("best", this.model.class_names[column] === face.most_probable);
      });
    });
  }
}
