/** CSV rows, one per face and frame, with the columns of `python -m emodet.predict --rows csv`. */

export const LANDMARKS = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"];

const rounded = (value, digits) => (value === null || value === undefined ? null : Number(value.toFixed(digits)));

/** Convert a face to values by column. */
function faceRow(source, frame, time, index, face, names) {
  const [x1, y1, x2, y2] = face.box.map((value) => rounded(value, 1));
  const values = {
    source, frame, time_s: rounded(time, 3), face: index, track_id: face.track_id, x1, y1, x2, y2,
    detection_score: rounded(face.detection_score, 4),
    emotion: face.emotion,
    most_probable: face.most_probable,
    confidence: rounded(face.confidence, 4),
    valence: rounded(face.valence, 4),
    arousal: rounded(face.arousal, 4),
  };
  names.forEach((name, column) => (values[`p_${name}`] = rounded(face.probabilities[column], 5)));
  LANDMARKS.forEach((name, index) => {
    values[`${name}_x`] = rounded(face.landmarks?.[index][0], 1);
    values[`${name}_y`] = rounded(face.landmarks?.[index][1], 1);
  });
  return values;
}

/** Quote a cell if necessary; an apostrophe prevents spreadsheets from executing text that begins with an operator. */
const csvCell = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

export class CsvRows {
  /** @param {object} description page.json */
  constructor(description) {
    this.columns = description.columns;
    this.names = description.model.class_names;
    this.lines = [this.columns.join(",")];
  }

  get count() {
    return this.lines.length - 1;
  }

  /** Add the faces of a frame; `time` is null for pictures. */
  add(source, frame, time, faces) {
    faces.forEach((face, index) => {
      const row = faceRow(source, frame, time, index, face, this.names);
      this.lines.push(this.columns.map((column) => csvCell(row[column])).join(","));
    });
  }

  toBlob() {
    return new Blob([`${this.lines.join("\n")}\n`], { type: "text/csv" });
  }
}
