/** The four tabs with the keyboard control of the ARIA pattern; #picture in the address opens a tab. */

/** @param {(name: string) => void} shown called with the name of the tab that was opened */
export function tabs(shown) {
  const all = [...document.querySelectorAll("[role=tab]")];
  const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  function open(tab, focus) {
    for (const other of all) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      panelOf(other).hidden = !chosen;
    }
    if (focus) tab.focus();
    history.replaceState(null, "", `#${panelOf(tab).id}`);
    shown(panelOf(tab).id);
  }

  all.forEach((tab, at) => {
    tab.addEventListener("click", () => open(tab, false));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      open(all[(to + all.length) % all.length], true);
    });
  });
  const named = all.find((tab) => `#${panelOf(tab).id}` === location.hash);
  if (named) open(named, false);
}
