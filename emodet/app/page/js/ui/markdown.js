/** Converts the Markdown of model cards to elements: headings, paragraphs, tables, lists, bold, code. */

import { element } from "./page.js";

/** Convert bold, code and links (to their text) within a line. */
function inline(text) {
  const parts = text.split(/(\*\*[^*]+\*\*|`[^`]+`|\[[^\]]+\]\([^)]+\))/);
  return parts.filter(Boolean).map((part) => {
    if (part.startsWith("**")) return element("strong", {}, ...inline(part.slice(2, -2)));
    if (part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    if (/^\[.*\)$/.test(part)) return part.slice(1, part.indexOf("]"));
    return part;
  });
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(lines) {
  const [head, , ...body] = lines;
  return element(
    "div",
    { className: "wide" },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...cells(head).map((cell) => element("th", { scope: "col" }, ...inline(cell))))),
      element("tbody", {}, ...body.map((line) => element("tr", {}, ...cells(line).map((cell) => element("td", {}, ...inline(cell)))))),
    ),
  );
}

/** @returns {HTMLElement[]} */
export function markdown(text) {
  return text
    .split(/\n\s*\n/)
    .map((block) => block.split("\n").filter((line) => line.trim()))
    .filter((lines) => lines.length)
    .map((lines) => {
      const heading = /^(#+)\s+(.*)/.exec(lines[0]);
      // The page already has a first-level heading.
      if (heading) return element(heading[1].length > 1 ? "h3" : "h2", {}, ...inline(heading[2]));
      if (lines[0].startsWith("|") && lines.length > 2) return table(lines);
      if (lines.every((line) => /^\s*[-*] /.test(line))) {
        return element("ul", {}, ...lines.map((line) => element("li", {}, ...inline(line.replace(/^\s*[-*] /, "")))));
      }
      return element("p", {}, ...inline(lines.join(" ")));
    });
}
