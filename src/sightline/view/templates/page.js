"use strict";

function valueOf(row, column) {                      // a number where the cell has one, else its text
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
}

function sortBy(table, column, button) {
  const head = button.closest("th"), upwards = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows];
  rows.sort((one, two) => {
    const a = valueOf(one, column), b = valueOf(two, column);
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);  // what is undefined stays below
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, {numeric: true});
    return upwards ? order : -order;
  });
  table.tBodies[0].append(...rows);
}

function filter(controls) {                          // rows of the table, and figures of galleries that follow it
  const table = document.getElementById(controls.dataset.controls);
  const chosen = [...controls.querySelectorAll("select")].filter((select) => select.value);
  const search = controls.querySelector("[data-search]");
  const words = search ? search.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
  let count = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !chosen.every((select) => row.cells[select.dataset.column].textContent.trim() === select.value)
      || !words.every((word) => text.includes(word));
    count += row.hidden ? 0 : 1;
  }
  controls.querySelector("[data-count]").textContent = `${count} of ${table.tBodies[0].rows.length} shown`;
  for (const figure of document.querySelectorAll(`[data-follows="${table.id}"] figure`)) {
    const values = JSON.parse(figure.dataset.values), text = figure.textContent.toLowerCase();
    figure.hidden = !chosen.every((select) => values[select.dataset.title] === select.value)
      || !words.every((word) => text.includes(word));
  }
}

for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => sortBy(button.closest("table"), Number(button.dataset.sort), button));
}
for (const controls of document.querySelectorAll("[data-controls]")) {
  controls.addEventListener("input", () => filter(controls));
  controls.addEventListener("change", () => filter(controls));
  filter(controls);
}
for (const choice of document.querySelectorAll("[data-groups] input")) {
  const show = () => {
    const chosen = document.querySelector("[data-groups] input:checked").value;
    for (const section of document.querySelectorAll("section[data-group]")) section.hidden = section.dataset.group !== chosen;
  };
  choice.addEventListener("change", show);
  show();
}
