// Enlarges figures, and sorts and filters long tables. Pages are complete without it.
const box = document.body.appendChild(document.createElement("dialog"));
box.className = "enlarged";
box.addEventListener("click", () => box.close());
document.querySelectorAll("a.enlarge").forEach((link) =>
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const image = link.firstElementChild.cloneNode();
    image.tabIndex = 0;
    box.setAttribute("aria-label", image.alt);
    box.replaceChildren(image);
    box.showModal();
  }),
);
const number = (cell) => parseFloat(cell.textContent.replace("\u2212", "-").replace(/\u202f/g, ""));
document.querySelectorAll("figure.table table").forEach((table) => {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 8) return;
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort !== "descending";
      const compare = (a, b) => {
        const [x, y] = [a.cells[column], b.cells[column]];
        const [m, n] = [number(x), number(y)];
        if (isNaN(m) !== isNaN(n)) return isNaN(m) ? 1 : -1;
        return (down ? -1 : 1) * (isNaN(m) ? x.textContent.localeCompare(y.textContent) : m - n);
      };
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = down ? "descending" : "ascending";
      body.append(...[...body.rows].sort(compare));
    });
  });
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Filter rows";
  field.setAttribute("aria-label", "Filter the rows of this table");
  field.addEventListener("input", () => {
    const sought = field.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(sought);
  });
  table.parentElement.before(field);
});
