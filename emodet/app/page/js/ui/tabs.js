/** The four tabs, with the keyboard control of the ARIA pattern; the address's fragment, such as #picture, selects one. */

/** @param {(name: string) => void} onOpen called with the name of the tab that was opened */
export function initTabs(onOpen) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  function open(tab, focus) {
    for (const other of tabs) {
      const selected = other === tab;
      other.setAttribute("aria-selected", String(selected));
      other.tabIndex = selected ? 0 : -1;
      panelOf(other).hidden = !selected;
    }
    if (focus) tab.focus();
    history.replaceState(null, "", `#${panelOf(tab).id}`);
    onOpen(panelOf(tab).id);
  }

  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => open(tab, false));
    tab.addEventListener("keydown", (event) => {
      const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      open(tabs[(target + tabs.length) % tabs.length], true);
    });
  });
  const initial = tabs.find((tab) => `#${panelOf(tab).id}` === location.hash);
  if (initial) open(initial, false);
}
