"use strict";
// Tables: a heading sorts, up and then down; a field above a long one leaves the rows that hold its words.
const MANY = 12;

function keyOf(row, place) {
  const cell = row.cells[place];
  if (cell.dataset.key !== undefined) return Number(cell.dataset.key);
  return cell.textContent.trim();
}

function compared(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "") || 0;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sort(table, heading, place) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [keyOf(row, place), row]);
  rows.sort(([a], [b]) => (a === "" || b === "" || !down ? compared(a, b) : compared(b, a)));
  body.append(...rows.map(([, row]) => row));
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((heading, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading, place));
    heading.append(button);
  });
}

function filterable(table) {
  const rows = [...table.tBodies[0].rows];
  const words = rows.map((row) => row.textContent.toLowerCase());
  const line = document.createElement("div");
  const label = document.createElement("label");
  const field = document.createElement("input");
  const shown = document.createElement("output");
  line.className = "filter";
  field.type = "search";
  label.append("Filter rows ", field);
  field.setAttribute("aria-label", `Filter rows of: ${table.caption.textContent.trim()}`);
  const show = () => {
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, n) => { row.hidden = !wanted.every((word) => words[n].includes(word)); });
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  field.addEventListener("input", show);
  show();
  line.append(label, shown);
  table.parentElement.before(line);
}

for (const table of document.querySelectorAll("table")) {
  sortable(table);
  if (table.tBodies[0].rows.length >= MANY) filterable(table);
}

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
