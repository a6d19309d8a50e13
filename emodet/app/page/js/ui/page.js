/** Functions shared by the tabs: elements, error messages, downloads, number formats. */

export const byId = (id) => document.getElementById(id);

/** Create an element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const showProblem = (text) => window.emodetTell(text);

export function hideProblem() {
  byId("problem").hidden = true;
}

export const percent = (share) => `${Math.round(share * 100)} %`;
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** Format seconds: 75.4 → 1:15 */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
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

/** Convert a canvas to a PNG. */
export const asPng = (canvas) =>
  new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large to be saved"))), "image/png");
  });

/** Current time for file names: 2026-11-22T22-55-03 */
export const stamp = () => new Date().toISOString().slice(0, 19).replaceAll(":", "-");

/** Set up the slider of the minimum confidence and its text; `changed` is called after each change. */
export function confidenceSlider(id, initial, changed = () => {}) {
  const slider = byId(id);
  const show = () => (byId(`${id}-value`).textContent = percent(slider.valueAsNumber));
  slider.value = initial;
  show();
  slider.addEventListener("input", () => {
    show();
    changed();
  });
  return () => slider.valueAsNumber;
}

/** Fill the choices of `prior`, as in `emodet.Recognizer`; hidden if the model file lacks the class shares. */
export function offerPriors({ class_shares: shares }) {
  if (!shares?.length || shares.includes(0)) return;
  for (const label of document.querySelectorAll(".prior")) {
    label.hidden = false;
    label.title = "More often: emotions that are rare in the training data are predicted more often, at a cost in accuracy.";
    label.querySelector("select").append(new Option("as in training", "trained"), new Option("more often", "balanced"));
  }
}

/** Call `take` with one of the page's own files when a button is pressed. */
export function offerSample(button, name, take) {
  button.addEventListener("click", async () => {
    try {
      const answer = await fetch(`samples/${name}`);
      if (!answer.ok) throw new Error(String(answer.status));
      await take([new File([await answer.blob()], name)]);
    } catch {
      showProblem("The sample could not be loaded. Check that this page's server runs, then try again.");
    }
  });
}

/** Accept files dropped onto an element, which is highlighted. */
export function takesDrops(place, take) {
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over-it");
  });
  place.addEventListener("dragleave", () => place.classList.remove("over-it"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over-it");
    take([...event.dataTransfer.files]);
  });
}
