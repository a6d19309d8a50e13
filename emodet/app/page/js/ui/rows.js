/** Rows, one per face and frame, with the columns of `python -m emodet.predict --rows csv`. */

const POINTS = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"];

const rounded = (value, digits) => (value === null || value === undefined ? null : Number(value.toFixed(digits)));

/** Convert a face to values by column. */
function rowOf(source, frame, time, place, face, names) {
  const [x1, y1, x2, y2] = face.box.map((value) => rounded(value, 1));
  const row = {
    source, frame, time_s: rounded(time, 3), face: place, track_id: face.track_id, x1, y1, x2, y2,
    detection_score: rounded(face.detection_score, 4),
    emotion: face.emotion,
    most_probable: face.most_probable,
    confidence: rounded(face.confidence, 4),
    valence: rounded(face.valence, 4),
    arousal: rounded(face.arousal, 4),
  };
  names.forEach((name, column) => (row[`p_${name}`] = rounded(face.probabilities[column], 5)));
  POINTS.forEach((point, at) => {
    row[`${point}_x`] = rounded(face.landmarks?.[at][0], 1);
    row[`${point}_y`] = rounded(face.landmarks?.[at][1], 1);
  });
  return row;
}

// A spreadsheet would execute text that begins with these.
const quoted = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

export class Rows {
  /** @param {object} about page.json */
  constructor(about) {
    this.columns = about.columns;
    this.names = about.model.class_names;
    this.lines = [this.columns.join(",")];
  }

  get count() {
    return this.lines.length - 1;
  }

  /** Add the faces of a frame; `time` is null for pictures. */
  add(source, frame, time, faces) {
    faces.forEach((face, place) => {
      const row = rowOf(source, frame, time, place, face, this.names);
      this.lines.push(this.columns.map((column) => quoted(row[column])).join(","));
    });
  }

  asCsv() {
    return new Blob([`${this.lines.join("\n")}\n`], { type: "text/csv" });
  }
}
