/** Faces drawn into a canvas: boxes, labels, hidden faces. Positions are pixels of the picture. */

const INK = "#14181e";
const CELLS = 6; // number of cells across a hidden face
const CROWD = 6;
const GROW = 0.3; // fraction of its side hidden around a face, for hair and ears

export const colourOf = (colours, emotion) => colours[emotion] ?? colours.uncertain;

const bright = (colour) => {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 120;
};

const small = document.createElement("canvas");

/** Average each box and its surroundings over a few large cells, so that nobody can be recognised. */
export function hideFaces(context, boxes) {
  const { width, height } = context.canvas;
  for (const [x1, y1, x2, y2] of boxes) {
    const grow = GROW * Math.max(x2 - x1, y2 - y1);
    const left = Math.max(0, Math.floor(x1 - grow));
    const top = Math.max(0, Math.floor(y1 - grow));
    const wide = Math.min(width, Math.ceil(x2 + grow)) - left;
    const high = Math.min(height, Math.ceil(y2 + grow)) - top;
    if (wide <= 0 || high <= 0) continue;
    small.width = Math.min(CELLS, wide);
    small.height = Math.min(CELLS, high);
    small.getContext("2d").drawImage(context.canvas, left, top, wide, high, 0, 0, small.width, small.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, small.width, small.height, left, top, wide, high);
    context.imageSmoothingEnabled = true;
  }
}

const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

/** Draw the label above its box, or below it if that place is taken. */
function label(context, face, box, colours, unit, taken) {
  const number = face.track_id === null ? "" : `#${face.track_id} `;
  const doubt = face.emotion === "uncertain" ? ` (${face.most_probable}?)` : "";
  let text = `${number}${face.emotion}${doubt} ${Math.round(face.confidence * 100)}%`;
  const size = Math.max(11 * unit, Math.min(20 * unit, (box[2] - box[0]) / 9));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const pad = size * 0.35;
  // Among many faces, a label that is much wider than its face would cover others: show only number and colour.
  if (taken.length >= CROWD && number && context.measureText(text).width > 1.6 * (box[2] - box[0])) text = number.trim();
  const wide = context.measureText(text).width + 2 * pad;
  const high = size + 2 * pad;
  const x = Math.min(Math.max(0, box[0]), Math.max(0, context.canvas.width - wide));
  let y = box[1] >= high ? box[1] - high : Math.max(0, box[1]);
  if (taken.some((other) => meet([x, y, x + wide, y + high], other)) && box[3] + high <= context.canvas.height) y = box[3];
  taken.push([x, y, x + wide, y + high]);
  const colour = colourOf(colours, face.emotion);
  context.fillStyle = colour;
  context.fillRect(x, y, wide, high);
  context.fillStyle = bright(colour) ? INK : "#fff";
  context.textBaseline = "middle";
  context.fillText(text, x + pad, y + high / 2);
}

/**
 * Draw boxes and labels over the content of the canvas.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {object[]} faces
 * @param {Record<string, string>} colours of the emotions
 * @param {boolean} mirrored whether the picture was drawn mirrored: boxes are mirrored, text is not
 */
export function drawFaces(context, faces, colours, mirrored = false) {
  const { width, height } = context.canvas;
  // One pixel of the screen; a canvas that is not on the page counts as 1000 pixels wide.
  const unit = Math.max(0.8, width / (context.canvas.clientWidth || Math.min(width, 1000)));
  const boxes = faces.map(({ box: [x1, y1, x2, y2] }) => (mirrored ? [width - x2, y1, width - x1, y2] : [x1, y1, x2, y2]));
  faces.forEach((face, at) => {
    const [x1, y1, x2, y2] = boxes[at];
    for (const [line, colour] of [[4, INK], [2, colourOf(colours, face.emotion)]]) {
      context.lineWidth = line * unit;
      context.strokeStyle = colour;
      context.setLineDash(face.emotion === "uncertain" ? [8 * unit, 4 * unit] : []);
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
  });
  context.setLineDash([]);
  const taken = faces.length > 1 ? [...boxes] : [];
  const order = faces.map((_, at) => at).sort((a, b) => boxes[b][3] - boxes[b][1] - (boxes[a][3] - boxes[a][1]));
  for (const at of order) label(context, faces[at], boxes[at], colours, unit, taken);
}
