/** Drawing of faces on a canvas: boxes, labels, hidden faces. Positions are in pixels of the picture. */

const INK = "#14181e";
export const CELLS = 6; // number of cells across a hidden face
const MANY_FACES = 6; // from which labels that are much wider than their face are shortened
const HIDDEN_MARGIN = 0.3; // fraction of its side hidden around a face, for hair and ears

export const colourOf = (colours, emotion) => colours[emotion] ?? colours.uncertain;

/** The emotion of a face, with the most probable class if it is uncertain. */
export const emotionText = ({ emotion, most_probable: best }) => (emotion === "uncertain" ? `uncertain (${best}?)` : emotion);

const isBright = (colour) => {
  const [red, green, blue] = [1, 3, 5].map((index) => parseInt(colour.slice(index, index + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 120;
};

const mirrored = ([x1, y1, x2, y2], width) => [width - x2, y1, width - x1, y2];

const cellCanvas = document.createElement("canvas");

/**
 * Average each box and its surroundings over a few large cells, so that no face can be identified.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number[][]} boxes
 * @param {boolean} isMirrored whether the picture is drawn mirrored
 */
export function hideFaces(context, boxes, isMirrored = false) {
  const { width, height } = context.canvas;
  for (const box of boxes) {
    const [x1, y1, x2, y2] = isMirrored ? mirrored(box, width) : box;
    const margin = HIDDEN_MARGIN * Math.max(x2 - x1, y2 - y1);
    const left = Math.max(0, Math.floor(x1 - margin));
    const top = Math.max(0, Math.floor(y1 - margin));
    const area = [left, top, Math.min(width, Math.ceil(x2 + margin)) - left, Math.min(height, Math.ceil(y2 + margin)) - top];
    if (area[2] <= 0 || area[3] <= 0) continue;
    cellCanvas.width = Math.min(CELLS, area[2]);
    cellCanvas.height = Math.min(CELLS, area[3]);
    const cells = [0, 0, cellCanvas.width, cellCanvas.height];
    cellCanvas.getContext("2d").drawImage(context.canvas, ...area, ...cells);
    context.imageSmoothingEnabled = false;
    context.drawImage(cellCanvas, ...cells, ...area);
    context.imageSmoothingEnabled = true;
  }
}

const intersects = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

/** Draw the label above its box, or below it if the area above is occupied. */
function drawLabel(context, face, box, colours, unit, occupied) {
  const number = face.track_id === null ? "" : `#${face.track_id} `;
  let text = `${number}${emotionText(face)} ${Math.round(face.confidence * 100)}%`;
  const size = Math.max(11 * unit, Math.min(20 * unit, (box[2] - box[0]) / 9));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const padding = size * 0.35;
  // Among many faces, a label that is much wider than its face covers others: show only number and colour.
  if (occupied.length >= MANY_FACES && number && context.measureText(text).width > 1.6 * (box[2] - box[0])) text = number.trim();
  const width = context.measureText(text).width + 2 * padding;
  const height = size + 2 * padding;
  const x = Math.min(Math.max(0, box[0]), Math.max(0, context.canvas.width - width));
  let y = box[1] >= height ? box[1] - height : Math.max(0, box[1]);
  const isOccupied = occupied.some((other) => intersects([x, y, x + width, y + height], other));
  if (isOccupied && box[3] + height <= context.canvas.height) y = box[3];
  occupied.push([x, y, x + width, y + height]);
  const colour = colourOf(colours, face.emotion);
  context.fillStyle = colour;
  context.fillRect(x, y, width, height);
  context.fillStyle = isBright(colour) ? INK : "#fff";
  context.textBaseline = "middle";
  context.fillText(text, x + padding, y + height / 2);
}

/**
 * Draw boxes and labels over the content of the canvas.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {object[]} faces
 * @param {Record<string, string>} colours of the emotions
 * @param {boolean} isMirrored whether the picture is drawn mirrored: boxes are mirrored, text is not
 */
export function drawFaces(context, faces, colours, isMirrored = false) {
  const { width, height } = context.canvas;
  // One pixel of the screen; a canvas that is not on the page counts as 1000 pixels wide.
  const unit = Math.max(0.8, width / (context.canvas.clientWidth || Math.min(width, 1000)));
  const boxes = faces.map(({ box }) => (isMirrored ? mirrored(box, width) : box));
  faces.forEach((face, index) => {
    const [x1, y1, x2, y2] = boxes[index];
    for (const [line, colour] of [[4, INK], [2, colourOf(colours, face.emotion)]]) {
      context.lineWidth = line * unit;
      context.strokeStyle = colour;
      context.setLineDash(face.emotion === "uncertain" ? [8 * unit, 4 * unit] : []);
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
  });
  context.setLineDash([]);
  const occupied = faces.length > 1 ? [...boxes] : [];
  const order = faces.map((_, index) => index).sort((a, b) => boxes[b][3] - boxes[b][1] - (boxes[a][3] - boxes[a][1]));
  for (const index of order) drawLabel(context, faces[index], boxes[index], colours, unit, occupied);
}
