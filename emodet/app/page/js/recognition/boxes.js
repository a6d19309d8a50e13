/** Boxes [x1, y1, x2, y2] and detections {box, landmarks, score}, in pixels, like `emodet.inference.faces`. */

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

/** Longer side of a detection's box. */
export const sideOf = ({ box: [x1, y1, x2, y2] }) => Math.max(x2 - x1, y2 - y1);

/** Area of the intersection. */
function sharedArea([ax, ay, bx, by], [cx, cy, dx, dy]) {
  const width = Math.min(bx, dx) - Math.max(ax, cx);
  const height = Math.min(by, dy) - Math.max(ay, cy);
  return Math.max(0, width) * Math.max(0, height);
}

/** Intersection over union, 0..1. */
export function overlap(one, other) {
  const shared = sharedArea(one, other);
  return shared ? shared / (area(one) + area(other) - shared) : 0;
}

/** Fraction of the area of `box` inside `other`, 0..1. */
export const fractionInside = (box, other) => sharedArea(box, other) / area(box);

/** Order two eyes, nose tip and two mouth corners: left and right follow from the direction from eyes to mouth. */
export function orderedLandmarks([a, b, nose, c, d]) {
  const downX = (c[0] + d[0] - a[0] - b[0]) / 2;
  const downY = (c[1] + d[1] - a[1] - b[1]) / 2;
  const ordered = (one, other) =>
    (other[0] - one[0]) * downY - (other[1] - one[1]) * downX < 0 ? [other, one] : [one, other];
  return [...ordered(a, b), nose, ...ordered(c, d)];
}

/** Scale box and landmarks by the factors `x` and `y`. */
export const scaled = ({ box: [x1, y1, x2, y2], landmarks, score }, x, y) => ({
  box: [x1 * x, y1 * y, x2 * x, y2 * y],
  landmarks: landmarks && landmarks.map(([px, py]) => [px * x, py * y]),
  score,
});

/** Angle of the line through the eyes in degrees, clockwise, -180..180; 0 without landmarks. */
export function rollOf(landmarks) {
  const [[ax, ay], [bx, by]] = landmarks ?? [[0, 0], [0, 0]];
  return (Math.atan2(by - ay, bx - ax) * 180) / Math.PI;
}
