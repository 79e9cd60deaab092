"use strict";
// The page: what is chosen, drawn; and what keys do.

const KEYS = [
  ["← ↑ ↓ →", "from picture to picture"],
  ["Enter", "open it; Escape closes it"],
  ["x", "mark it to be made again"],
  ["n  p", "next, previous page"],
  ["/", "find"],
  ["+  −", "larger, smaller pictures"],
  ["f", "figures, and back"],
  ["?", "these keys"],
];
const NOTHING = { text: "", states: [], axes: {}, order: "manifest" };

class Page {
  constructor(source) {
    this.source = source;
    this.state = { choice: NOTHING, page: 0, places: {}, tile: 116, laidOut: false };
    this.turn = 0;
  }

  get head() {
    return this.source.head;
  }

  async begin() {
    const { run, redo, report } = this.head;
    const again = () => this.grid.tiles().forEach((tile) => this.grid.mark(tile, tile.dataset.key));
    this.marks = new Marks(run, report.not_wanted.replaced, redo, again);
    this.grid = new Grid(this.source, this.marks, (seq) => this.detail.open(seq));
    this.detail = new Detail(this.source, this.marks, (seq, by) => this.#step(seq, by));
    this.state.places = usualPlaces(this.head);
    this.#recall();
    this.#listen();
    this.summarize();
    this.marks.show();
    await this.show();
  }

  /** Everything but the rows. */
  summarize() {
    this.tally();
    this.#tell();
  }

  /** Totals, money and states. */
  tally() {
    showSummary(this.head);
    showStates(this.head, this.state.choice.states, (state) => {
      const { states } = this.state.choice;
      const others = states.filter((each) => each !== state);
      this.act({ choice: { ...this.state.choice, states: others.length < states.length ? others : [...states, state] } });
    });
  }

  #tell() {
    if (!byId("tools").contains(document.activeElement)) showTools(this.head, this.state, (change) => this.act(change));
    showPlots(this.head);
  }

  /** Change what is shown. */
  act(change) {
    Object.assign(this.state, change);
    if (change.choice) this.state.page = 0;
    this.#note();
    if (change.tile) {
      document.body.style.setProperty("--tile", `${this.state.tile}px`);
      return this.grid.fit();
    }
    this.summarize();
    return this.show();
  }

  /** Draw the rows that are chosen; of two looks that overlap the later one counts. */
  async show() {
    const turn = ++this.turn;
    const { choice, page } = this.state;
    // of what went wrong there is little in each row: beside each other it can be overlooked
    const places = choice.states.length && !choice.states.includes("done") ? {} : this.state.places;
    try {
      const found = await this.source.rows(choice, page * this.head.page);
      if (turn !== this.turn) return;
      if (!found.rows.length && page > 0 && found.total.rows > 0) return this.act({ page: Math.ceil(found.total.rows / this.head.page) - 1 });
      this.grid.show(found.rows, choice, places);
      this.#count(found);
      complain("");
    } catch (error) {
      complain(error.message);
    }
  }

  #count({ rows, total }) {
    const pages = Math.ceil(total.rows / this.head.page);
    const from = this.state.page * this.head.page;
    const narrow = this.state.choice !== NOTHING && JSON.stringify(this.state.choice) !== JSON.stringify(NOTHING);
    byId("empty").hidden = rows.length > 0;
    byId("empty").textContent = narrow ? "Nothing here is like that." : "No tasks yet: nothing was asked for.";
    const told = rows.length ? `Prompts ${whole.format(from + 1)}–${whole.format(from + rows.length)} of ${whole.format(total.rows)}, ${count(total.tasks, "task")}` : "";
    const turn = (text, page, says) => {
      const button = make("button", { type: "button", textContent: text, title: says, disabled: page < 0 || page >= pages });
      button.addEventListener("click", () => this.turnTo(page));
      return button;
    };
    const number = make("input", { type: "number", min: 1, max: pages, value: this.state.page + 1, "aria-label": "Page" });
    number.addEventListener("change", () => this.turnTo(Math.min(pages, Math.max(1, Math.round(Number(number.value) || 1))) - 1));
    const paging = pages > 1 ? [turn("‹ Previous", this.state.page - 1, "p"), make("span", {}, "page ", number, ` of ${whole.format(pages)}`), turn("Next ›", this.state.page + 1, "n")] : [];
    put(byId("pager"), make("span", { role: "status" }, told), paging);
  }

  async turnTo(page) {
    await this.act({ page });
    byId("pictures").scrollIntoView({ block: "start" });
    const first = this.grid.tiles()[0];
    if (first) this.grid.focus(first);
  }

  /** The picture beside the one that is open; behind the last of a page comes the next page. */
  async #step(seq, by) {
    const tiles = this.grid.tiles();
    const at = tiles.indexOf(this.grid.tile(seq));
    const next = at < 0 ? null : tiles[at + by];
    if (next) {
      this.grid.focus(next);
      await this.detail.open(Number(next.dataset.seq), by < 0);
    }
  }

  /** The choice stands in the address, so that a page can be left and found again. */
  #note() {
    const { choice, page } = this.state;
    const noted = new URLSearchParams();
    if (choice.text) noted.set("find", choice.text);
    for (const state of choice.states) noted.append("state", state);
    for (const [name, value] of Object.entries(choice.axes)) noted.append("axis", JSON.stringify([name, value]));
    if (choice.order !== "manifest") noted.set("sort", choice.order);
    if (page) noted.set("page", page + 1);
    history.replaceState(null, "", `#${noted}`);
  }

  #recall() {
    const noted = new URLSearchParams(location.hash.slice(1));
    const known = Object.fromEntries(this.head.axes.map((axis) => [axis.name, axis.values]));
    const axes = noted.getAll("axis").map(pair).filter(([name, value]) => known[name]?.includes(value));
    const choice = {
      text: noted.get("find") ?? "",
      states: noted.getAll("state").filter((state) => Object.hasOwn(STATES, state)),
      axes: Object.fromEntries(axes),
      order: Object.hasOwn(SORTS, noted.get("sort") ?? "") ? noted.get("sort") : "manifest",
    };
    Object.assign(this.state, { choice, page: Math.max(0, (Number.parseInt(noted.get("page"), 10) || 1) - 1) });
  }

  #listen() {
    document.addEventListener("keydown", (event) => this.#key(event));
    byId("grid").addEventListener("focusin", (event) => {
      if (event.target.classList.contains("tile") && event.target.tabIndex !== 0) this.grid.focus(event.target);
    });
    byId("detail").addEventListener("close", () => {
      const tile = this.detail.found && this.grid.tile(this.detail.found.task.seq);
      if (tile) this.grid.focus(tile);
    });
    for (const tab of byId("tabs").querySelectorAll("[data-view]")) tab.addEventListener("click", () => this.view(tab.dataset.view));
    byId("help-button").addEventListener("click", () => this.#help());
    byId("tools").addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("resize", () => this.grid.fit());
    window.addEventListener("hashchange", () => {
      this.#recall();
      this.summarize();
      this.show();
    });
  }

  view(name) {
    for (const tab of byId("tabs").querySelectorAll("[data-view]")) tab.setAttribute("aria-pressed", tab.dataset.view === name);
    byId("pictures").hidden = name !== "pictures";
    byId("plots").hidden = name !== "plots";
  }

  #help() {
    const lines = KEYS.map(([key, says]) => [make("dt", {}, key.split("  ").map((each) => make("kbd", {}, each))), make("dd", {}, says)]);
    const close = make("button", { type: "button", textContent: "Close" });
    close.addEventListener("click", () => byId("help").close());
    put(byId("help"), make("h2", {}, "Keys"), make("dl", { className: "lines" }, lines), close);
    byId("help").showModal();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    if (this.detail.isOpen) return this.detail.key(event);
    const typing = event.target.matches("input, select, textarea");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = this.#acts[event.key];
    if (!act) return;
    if (act(event.target.closest(".tile"), event.key) !== false) event.preventDefault();
  }

  #acts = {
    "/": () => byId("find").focus(),
    "?": () => this.#help(),
    n: () => byId("pager").querySelector("button:last-of-type:not([disabled])")?.click(),
    p: () => byId("pager").querySelector("button:first-of-type:not([disabled])")?.click(),
    f: () => this.view(byId("plots").hidden ? "plots" : "pictures"),
    "+": () => this.act({ tile: Math.min(256, this.state.tile + 24) }),
    "-": () => this.act({ tile: Math.max(72, this.state.tile - 24) }),
    x: (tile) => (tile ? this.marks.toggle(tile.dataset.key) : false),
    ...Object.fromEntries(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].map((key) => [key, (tile) => this.#arrow(tile, key)])),
  };

  #arrow(tile, key) {
    if (!tile && !byId("grid").contains(document.activeElement) && document.activeElement !== document.body) return false;
    const next = tile ? this.grid.beside(tile, key) : this.grid.tiles()[0];
    if (next) this.grid.focus(next);
    return Boolean(next);
  }
}

/** A pair of texts, as the address holds it; two empty ones where it is none. */
function pair(text) {
  try {
    const found = JSON.parse(text);
    return Array.isArray(found) ? found.map(String) : ["", ""];
  } catch {
    return ["", ""];
  }
}

/** What is wrong, if anything, in sight of all. */
function complain(text) {
  byId("notice").hidden = !text;
  byId("notice").textContent = text;
}

async function begin(source) {
  document.body.classList.toggle("live", source.live);
  const page = new Page(source);
  await page.begin();
  return page;
}
