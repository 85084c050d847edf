"use strict";
// The tables of the first page: sorted by any column, filtered by track and badge. Without this file they are whole.
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v === "") return null;
    return cell.dataset.v === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.v);
  };

  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en");

  const sort = (table, column) => {
    const headers = [...table.tHead.rows[0].cells];
    const down = headers[column].getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    rows.sort(([one], [other]) => {
      if (one === null || other === null) return (one === null) - (other === null);
      return down ? compare(other, one) : compare(one, other);
    });
    body.append(...rows.map(([, row]) => row));
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  const makeSortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, column));
      header.append(button);
    });
  };

  const filter = (form) => {
    const chosen = (name) => new Set([...form.querySelectorAll(`input[name=${name}]:checked`)].map((box) => box.value));
    const tracks = chosen("track");
    const badges = chosen("badge");
    let shown = 0;
    let all = 0;
    for (const suite of document.querySelectorAll("[data-suite]")) {
      const hidden = new Set();
      for (const row of suite.querySelectorAll("tr[data-track]")) {
        all += 1;
        if (tracks.has(row.dataset.track) && badges.has(row.dataset.badge)) shown += 1;
        else hidden.add(row.dataset.entry);
      }
      for (const part of suite.querySelectorAll("[data-entry]")) part.classList.toggle("out", hidden.has(part.dataset.entry));
    }
    form.querySelector("output").textContent = `${shown} of ${all} entries shown`;
  };

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("table.sortable").forEach(makeSortable);
    const form = document.getElementById("filters");
    if (!form) return;
    form.hidden = false;
    form.addEventListener("change", () => filter(form));
    filter(form);
  });
})();
