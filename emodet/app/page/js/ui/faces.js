/** Panel of the faces in a frame: emotion and a bar per class for each. Elements are reused. */

import { colourOf } from "./overlay.js";
import { element, percent } from "./page.js";

const MOST = 4;

/** List of the colours of the classes and, by default, of uncertain faces. */
export function legend(place, { class_names: names, colours }, more = ["uncertain"]) {
  const entries = [...names, ...more].map((name) => {
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.background = colours[name];
    return element("li", {}, swatch, name);
  });
  place.replaceChildren(...entries);
}

export class FacesPanel {
  /** @param {HTMLElement} place @param {object} model of page.json */
  constructor(place, model) {
    this.place = place;
    this.model = model;
    this.cards = [];
    this.empty = element("p", {}, "No face yet.");
    this.more = element("p", { hidden: true });
    place.append(this.empty, this.more);
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
    this.place.insertBefore(card, this.more);
    return { card, title, note, bars, swatch };
  }

  /** @param {object[]} faces faces of the frame, of which the largest are shown */
  show(faces) {
    const wide = ({ box }) => box[2] - box[0];
    const shown = [...faces].sort((a, b) => wide(b) - wide(a)).slice(0, MOST);
    shown.sort((a, b) => (a.track_id ?? 0) - (b.track_id ?? 0));
    while (this.cards.length < shown.length) this.cards.push(this.card());
    this.empty.hidden = shown.length > 0;
    this.empty.textContent = "No face in the picture.";
    this.more.hidden = faces.length <= MOST;
    this.more.textContent = `and ${faces.length - MOST} more faces`;
    this.cards.forEach(({ card, title, note, bars, swatch }, at) => {
      const face = shown[at];
      card.hidden = !face;
      if (!face) return;
      title.textContent = face.emotion === "uncertain" ? `uncertain (${face.most_probable}?)` : face.emotion;
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
