"use strict";
// The grid: prompts down the side, the axes across, down, or inside of a cell.

const PLACES = ["across", "down", "inside"];
const ACROSS_MOST = 12; // columns that are drawn unless somebody asks for more
const DOWN_MOST = 8; // rows of one prompt
const SHOWN_MOST = 4; // images of one request that a tile shows

/** The axes that vary, those by which one chooses a provider first. */
function varying(head) {
  const axes = head.axes.filter((axis) => axis.values.length > 1);
  return axes.sort((one, other) => (other.name === "target") - (one.name === "target"));
}

/** Where each axis goes unless somebody says otherwise: across, as long as that fits. */
function usualPlaces(head) {
  let columns = 1;
  let rows = 1;
  const place = ({ name, values }) => {
    if (columns * values.length <= ACROSS_MOST) {
      columns *= values.length;
      return [name, "across"];
    }
    if (rows * values.length <= DOWN_MOST) {
      rows *= values.length;
      return [name, "down"];
    }
    return [name, "inside"];
  };
  return Object.fromEntries(varying(head).map(place));
}

class Grid {
  #tiles = new Map();
  #shown = "";

  constructor(source, marks, open) {
    Object.assign(this, { source, marks, open });
    this.element = byId("grid");
  }

  get head() {
    return this.source.head;
  }

  /** Draw these rows; what has not changed keeps its element, and with it the focus. */
  show(rows, choice, places) {
    const spelled = JSON.stringify([rows, choice, places, this.head.axes]);
    if (spelled === this.#shown) return;
    this.#shown = spelled;
    const named = (place) => varying(this.head).map((axis) => axis.name).filter((name) => (places[name] ?? "inside") === place);
    const [across, down, inside] = PLACES.map(named);
    const focused = document.activeElement?.dataset?.seq;
    const known = this.#tiles;
    this.#tiles = new Map();
    const columns = this.#columns(rows, across, choice);
    const body = rows.map((row) => this.#row(row, columns, across, down, inside, known));
    const table = make("table", { className: across.length ? "headed" : "" }, this.#header(columns, across, down), body);
    table.style.setProperty("--columns", columns.length);
    put(this.element, table);
    this.fit();
    if (focused) this.tile(focused)?.focus({ preventScroll: true });
    this.#rove();
  }

  /** Where it is too wide it moves by itself; else its header stays in sight as the page moves. */
  fit() {
    const left = this.element.scrollLeft;
    this.element.classList.remove("scrolls");
    this.element.classList.toggle("scrolls", this.element.scrollWidth > this.element.clientWidth);
    this.element.scrollLeft = left;
    document.body.style.setProperty("--tools", `${byId("tools").offsetHeight}px`);
  }

  tile(seq) {
    return this.element.querySelector(`[data-seq="${Number(seq)}"]`);
  }

  tiles() {
    return [...this.element.querySelectorAll(".tile")];
  }

  /** One of the tiles can be reached with the tabulator, all others with the arrows. */
  #rove() {
    const tiles = this.tiles();
    if (tiles.length && !tiles.some((tile) => tile.tabIndex === 0)) tiles[0].tabIndex = 0;
  }

  focus(tile) {
    for (const each of this.element.querySelectorAll('.tile[tabindex="0"]')) each.tabIndex = -1;
    tile.tabIndex = 0;
    tile.focus();
    tile.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** The tile that lies next in a direction, as the eye sees it. */
  beside(tile, key) {
    const tiles = this.tiles();
    if (key === "ArrowLeft") return tiles[tiles.indexOf(tile) - 1];
    if (key === "ArrowRight") return tiles[tiles.indexOf(tile) + 1];
    const here = tile.getBoundingClientRect();
    const way = key === "ArrowDown" ? 1 : -1;
    let best = null;
    let least = Infinity;
    for (const each of tiles) {
      const there = each.getBoundingClientRect();
      const down = (there.top - here.top) * way;
      const far = down * 1000 + Math.abs(there.left - here.left);
      if (down > here.height / 2 && far < least) [best, least] = [each, far];
    }
    return best;
  }

  /** The combinations that are wanted, or occur in these rows, as lists of values in the order of the axes' values. */
  #columns(rows, across, choice) {
    const rank = new Map(across.map((name) => [name, this.head.axes.find((axis) => axis.name === name).values]));
    const samples = this.head.axes.find((axis) => axis.samples)?.values ?? [1];
    const wanted = Object.keys(this.head.variants).filter((variant) => this.head.variants[variant].wanted);
    const likely = wanted.flatMap((variant) => samples.map((sample) => ({ variant, sample, state: "any" })));
    const asked = likely.filter((task) => suits(this.head, task, { ...choice, states: [] }));
    const found = new Map();
    for (const task of [...asked, ...rows.flatMap((row) => row.tasks)]) {
      const values = across.map((name) => valueOf(this.head, task, name));
      found.set(JSON.stringify(values), values);
    }
    const at = (values) => values.map((value, i) => rank.get(across[i]).indexOf(value));
    return [...found].map(([key, values]) => ({ key, values, at: at(values) })).sort((one, other) => {
      const i = one.at.findIndex((each, n) => each !== other.at[n]);
      return i < 0 ? 0 : one.at[i] - other.at[i];
    });
  }

  #header(columns, across, down) {
    if (!across.length) return null;
    const rows = across.map((name, level) => {
      const cells = [];
      for (const column of columns) {
        const key = JSON.stringify(column.values.slice(0, level + 1));
        if (cells.at(-1)?.key === key) cells.at(-1).span += 1;
        else cells.push({ key, span: 1, value: column.values[level] });
      }
      const title = make("th", { scope: "col", className: "axis", colSpan: 1 + down.length }, words(name));
      return make("tr", {}, title, cells.map((cell) => make("th", { scope: "colgroup", colSpan: cell.span }, words(cell.value || "–"))));
    });
    return make("thead", {}, rows);
  }

  #row(row, columns, across, down, inside, known) {
    const lines = new Map();
    for (const task of row.tasks) {
      const values = down.map((name) => valueOf(this.head, task, name));
      const key = JSON.stringify(values);
      if (!lines.has(key)) lines.set(key, { values, cells: new Map() });
      const cells = lines.get(key).cells;
      const column = JSON.stringify(across.map((name) => valueOf(this.head, task, name)));
      cells.set(column, [...(cells.get(column) ?? []), task]);
    }
    const body = make("tbody");
    for (const { values, cells } of lines.values()) {
      const line = make("tr", {}, body.children.length ? null : this.#title(row, lines.size));
      line.append(...values.map((value) => make("th", { scope: "row", className: "value" }, words(value || "–"))));
      for (const { key } of columns) {
        const tiles = (cells.get(key) ?? []).map((task) => this.#kept(task, row, across, inside, known));
        line.append(make("td", { className: tiles.length ? "" : "none" }, make("div", { className: "cell" }, tiles)));
      }
      body.append(line);
    }
    return body;
  }

  #title(row, span) {
    const parts = [words(brief(row.text, 400), "p")];
    if (row.names) parts.push(make("p", { className: "names" }, words(row.names.join(", "))));
    if (row.inputs) parts.push(make("p", { className: "names" }, "from ", words(row.inputs.join(", "))));
    return make("th", { scope: "rowgroup", className: "prompt", rowSpan: span }, make("div", {}, parts));
  }

  #kept(task, row, across, inside, known) {
    const spelled = JSON.stringify([task, across, inside]);
    const before = known.get(task.seq);
    const element = before?.spelled === spelled ? before.element : this.#tile(task, row, across, inside);
    this.#tiles.set(task.seq, { spelled, element });
    this.mark(element, task.key);
    return element;
  }

  mark(tile, key) {
    tile.classList.toggle("marked", this.marks.has(key));
    tile.ariaDescription = this.marks.has(key) ? "marked" : null;
  }

  #tile(task, row, across, inside) {
    const state = stateOf(task);
    const values = (names) => names.map((name) => valueOf(this.head, task, name)).filter(Boolean).join(" · ");
    const told = [brief(row.text, 80), values([...across, ...inside]), STATES[state], task.attempts ? between(task.low, task.high) : ""];
    const tile = make(
      "button",
      { type: "button", className: `tile is-${state}`, tabIndex: -1, "aria-label": told.filter(Boolean).join(", ") },
      make("span", { className: "frame" }, task.images ? this.#images(task) : this.#word(task, state)),
      across.length ? make("span", { className: "label across" }, words(values(across))) : null,
      values(inside) ? make("span", { className: "label" }, words(values(inside))) : null,
      this.#caption(task, state),
    );
    Object.assign(tile.dataset, { seq: task.seq, key: task.key });
    tile.addEventListener("click", () => this.open(task.seq));
    return tile;
  }

  #images(task) {
    const shown = task.images.slice(0, task.images.length > SHOWN_MOST ? SHOWN_MOST : undefined);
    const parts = shown.map((image) => this.#thumb(image));
    const more = task.images.length - shown.length;
    if (more > 0) parts.push(make("span", { className: "more" }, `+${more}`));
    return make("span", { className: shown.length > 1 ? "several" : "one" }, parts);
  }

  #thumb(image) {
    const src = this.source.thumb(image);
    if (!src) return make("span", { className: "gone" }, "no thumbnail");
    const picture = make("img", { alt: "", decoding: "async", loading: "lazy", draggable: false, width: image.width, height: image.height });
    picture.addEventListener("error", () => picture.replaceWith(make("span", { className: "gone" }, "no thumbnail")), { once: true });
    picture.src = src;
    return picture;
  }

  #word(task, state) {
    const why = task.said || task.code;
    return make("span", { className: "word" }, make("b", {}, STATES[state]), why ? words(why, "span") : null);
  }

  #caption(task, state) {
    const parts = [];
    if (task.attempts) parts.push(make("span", {}, scarcely(task.low, task.high)));
    if (task.seconds !== undefined) parts.push(make("span", {}, lasting(task.seconds)));
    const flags = [];
    const flag = (sign, says, kind = "") => flags.push(make("abbr", { className: kind, title: says, textContent: sign }));
    if (task.images && state !== "done") flag(STATES[state], SAYS[state]);
    if (task.unknown) flag(STATES.unknown, `${count(task.unknown, "request")} without a usable answer: perhaps billed`, "is-unknown");
    const missing = missingOf(this.head, task);
    if (missing) flag(`${missing} missing`, "of the images that were asked for", "is-failed");
    const same = Math.max(0, ...(task.images ?? []).map((image) => image.same ?? 0));
    if (same) flag("= equal", `the same bytes as ${count(same, "other image")}`, "is-held");
    return make("span", { className: "caption" }, parts, flags);
  }
}
