/** Functions shared by the tabs: elements, errors, downloads, number formats, inputs. */

export const byId = (id) => document.getElementById(id);

/** Create an element with properties and children. */
export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export const showError = (text) => window.emodetShowError(text);

export function hideError() {
  byId("problem").hidden = true;
}

export const percent = (fraction) => `${Math.round(fraction * 100)} %`;
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** Format seconds: 75.4 → 1:15 */
export function formatTime(seconds) {
  const total = Math.floor(seconds);
  return `${Math.floor(total / 60)}:${String(total % 60).padStart(2, "0")}`;
}

/** Download a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Download a canvas as PNG; returns whether it could be encoded. */
export async function downloadPng(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (blob) download(blob, name);
  else showError("The picture is too large to be saved as PNG. Use a smaller one.");
  return Boolean(blob);
}

/** Current time for file names: 2026-11-22T22-55-03 */
export const timestamp = () => new Date().toISOString().slice(0, 19).replaceAll(":", "-");

/** Set up the slider of the minimum confidence and its text; returns a function that reads the value. */
export function confidenceSlider(id, initial, onChange = () => {}) {
  const slider = byId(id);
  const show = () => (byId(`${id}-value`).textContent = percent(slider.valueAsNumber));
  slider.value = initial;
  show();
  slider.addEventListener("input", () => {
    show();
    onChange();
  });
  return () => slider.valueAsNumber;
}

/** Add the options of `prior`, as in `emodet.Recognizer`; hidden if the model file lacks the class shares. */
export function addPriorOptions({ class_shares: shares }) {
  if (!shares?.length || shares.includes(0)) return;
  for (const label of document.querySelectorAll(".prior")) {
    label.hidden = false;
    label.title = "“More often” predicts emotions that are rare in the training data more often, at a cost in accuracy.";
    label.querySelector("select").append(new Option("as in training", "trained"), new Option("more often", "balanced"));
  }
}

/** Call `onFiles` with one of the page's samples when a button is pressed. */
export function onSampleClick(button, name, onFiles) {
  button.addEventListener("click", async () => {
    try {
      const response = await fetch(`samples/${name}`);
      if (!response.ok) throw new Error(String(response.status));
      await onFiles([new File([await response.blob()], name)]);
    } catch {
      showError("The sample could not be loaded. Check that the page's server is running, then try again.");
    }
  });
}

/** Call `onFiles` with files that are dropped onto an element; highlight it while they are dragged over it. */
export function acceptDrops(target, onFiles) {
  target.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("drag-over");
  });
  target.addEventListener("dragleave", () => target.classList.remove("drag-over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("drag-over");
    onFiles([...event.dataTransfer.files]);
  });
}
