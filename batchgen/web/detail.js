"use strict";
// One picture at its full size, with all that is known of it.

class Detail {
  #at = 0;

  /** `step` leads from a task to the one beside it; `marks` knows what is marked. */
  constructor(source, marks, step) {
    Object.assign(this, { source, marks, step });
    this.element = byId("detail");
    this.element.addEventListener("click", (event) => {
      if (event.target === this.element) this.element.close();
    });
  }

  get isOpen() {
    return this.element.open;
  }

  /** Show a task; of several images the first, or the last where one comes from behind. */
  async open(seq, fromBehind = false) {
    const found = await this.source.task(seq);
    if (!found) return;
    this.found = found;
    this.#at = fromBehind ? Math.max(0, this.images.length - 1) : 0;
    this.#draw();
    if (this.isOpen) return;
    this.element.showModal();
    this.element.focus();
  }

  get images() {
    return this.found.task.images ?? [];
  }

  /** One image on, or back; behind the last one comes the next task. */
  move(by) {
    const next = this.#at + by;
    if (next < 0 || next >= this.images.length) return this.step(this.found.task.seq, by);
    this.#at = next;
    return this.#draw();
  }

  key(event) {
    const ways = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key in ways && !event.target.closest(".facts")) {
      event.preventDefault();
      this.move(ways[event.key]);
    }
    if (event.key === "x") this.#mark();
  }

  #mark() {
    this.marks.toggle(this.found.task.key);
    this.#draw();
  }

  #draw() {
    put(this.element, this.#stage(), make("div", { className: "facts", tabIndex: 0 }, this.#facts()));
  }

  #stage() {
    const { task } = this.found;
    const image = this.images[this.#at];
    const marked = this.marks.has(task.key);
    const button = (text, says, act, more = {}) => {
      const made = make("button", { type: "button", title: says, "aria-label": says, textContent: text, ...more });
      made.addEventListener("click", act);
      return made;
    };
    const bar = make(
      "div",
      { className: "bar" },
      button("‹", "The one before (←)", () => this.move(-1)),
      button("›", "The next one (→)", () => this.move(1)),
      button(marked ? "✕ Marked" : "Mark", "Mark it to be made again (x)", () => this.#mark(), { "aria-pressed": marked }),
      make("span", { className: "room" }),
      button("Close", "Back to the grid (Escape)", () => this.element.close()),
    );
    return make("div", { className: "stage" }, bar, image ? this.#picture(image) : this.#nothing(task), this.#film());
  }

  #picture(image) {
    const box = make("div", { className: "view" });
    const src = this.source.full(image);
    const picture = make("img", { alt: brief(this.found.row.text, 200), title: "Click for its real size", width: image.width, height: image.height });
    picture.addEventListener("click", () => box.classList.toggle("actual"));
    picture.addEventListener("error", () => put(box, this.#lost(image)), { once: true });
    picture.src = src;
    put(box, src ? picture : this.#lost(image));
    return box;
  }

  #lost(image) {
    const small = this.source.thumb(image);
    const far = this.source.far(image);
    const why = far ? "it lies in a bucket. batchgen view shows it." : "it is not where it was when this page was made.";
    return make(
      "div",
      { className: "lost" },
      small ? make("img", { src: small, alt: "" }) : null,
      make("p", {}, `The image file cannot be shown: ${why}`),
      words(far || image.path, "code"),
    );
  }

  #nothing(task) {
    const state = stateOf(task);
    const last = this.found.detail.sendings.at(-1);
    return make(
      "div",
      { className: `view nothing is-${state}` },
      make("b", {}, STATES[state]),
      make("p", {}, SAYS[state]),
      last?.said ? words(last.said, "p") : null,
    );
  }

  /** All images of the request, where there are several. */
  #film() {
    if (this.images.length < 2) return null;
    const frames = this.images.map((image, at) => {
      const frame = make("button", { type: "button", "aria-label": `Image ${at + 1} of ${this.images.length}`, "aria-pressed": at === this.#at });
      frame.append(make("img", { src: this.source.thumb(image), alt: "" }));
      frame.addEventListener("click", () => {
        this.#at = at;
        this.#draw();
      });
      return frame;
    });
    return make("div", { className: "film" }, frames);
  }

  #facts() {
    const { row, task, detail } = this.found;
    const image = this.images[this.#at];
    const variant = this.source.head.variants[task.variant];
    const state = stateOf(task);
    const parts = [make("h2", { className: "prompt" }, words(row.text, "span"))];
    if (image?.revised) parts.push(make("h3", {}, "As the provider rewrote it"), words(image.revised, "p"));
    const flags = [make("b", { className: `state is-${state}` }, STATES[state])];
    if (task.unknown) flags.push(make("b", { className: "state is-unknown" }, `${count(task.unknown, "request")} without a usable answer: perhaps billed`));
    if (image?.same) flags.push(make("b", { className: "state is-held" }, `the same bytes as ${count(image.same, "other image")}`));
    const missing = missingOf(this.source.head, task);
    if (missing) flags.push(make("b", { className: "state is-failed" }, `${count(missing, "image")} missing from the answer`));
    parts.push(make("p", { className: "flags" }, flags));
    parts.push(facts(this.#money(task), this.#asked(row, task, variant), image ? this.#file(image) : []));
    for (const flawed of detail.flawed) parts.push(make("p", { className: "meta" }, `image ${flawed.index + 1}: ${flawed.state} `, words(flawed.note)));
    if (detail.replaces?.length) parts.push(make("p", {}, "Replaces ", detail.replaces.map((seq) => this.#link(seq))));
    parts.push(make("h3", {}, count(detail.sendings.length, "attempt")), ...detail.sendings.map(sending));
    return parts;
  }

  #link(seq) {
    const link = make("button", { type: "button", className: "link", textContent: `what was made before (no. ${seq})` });
    link.addEventListener("click", () => this.open(seq));
    return link;
  }

  #money(task) {
    const lines = [["cost", between(task.low, task.high)]];
    if (task.seconds !== undefined) lines.push(["latency", lasting(task.seconds)]);
    const sums = ["tokens_in", "tokens_out"].map((name) => sum(this.found.detail.sendings, (each) => each[name]));
    if (sums.some(Boolean)) lines.push(["tokens", `${whole.format(sums[0])} in, ${whole.format(sums[1])} out`]);
    return lines;
  }

  #asked(row, task, variant) {
    const axes = this.source.head.axes.map((axis) => [axis.name, valueOf(this.source.head, task, axis.name)]);
    const lines = [...axes, ["provider", variant.provider], ["model", variant.model], ["operation", variant.operation], ...Object.entries(variant.params)];
    if (row.names) lines.push(["id", row.names.join(", ")]);
    if (row.inputs) lines.push(["from", row.inputs.join(", ")]);
    if (task.take > 1) lines.push(["made again", `take ${task.take}`]);
    const once = new Map(lines.filter(([, value]) => value));
    return [...once, ["key", words(task.key, "code")]];
  }

  #file(image) {
    const src = this.source.full(image);
    const name = src ? make("a", { href: src, target: "_blank", rel: "noopener" }, words(image.path)) : words(image.path);
    return [["file", name], ["pixels", `${image.width} × ${image.height}, ${image.format}, ${size(image.bytes)}`], ["sha256", words(image.sha256, "code")]];
  }
}

/** Names and values; each group under the one before. */
function facts(...groups) {
  const lines = groups.flat().map(([name, value]) => [words(name, "dt"), value instanceof Node ? make("dd", {}, value) : words(value, "dd")]);
  return make("dl", { className: "lines" }, lines);
}

/** One attempt, as its provider's support would want to hear of it. */
function sending(one) {
  const told = [one.sent_at.slice(0, 19).replace("T", " ") + " UTC"];
  if (one.seconds) told.push(lasting(one.seconds));
  told.push(one.high === null ? "price not known" : between(one.low, one.high));
  if (one.status) told.push(`HTTP ${one.status}`);
  return make(
    "div",
    { className: "sending" },
    make("p", {}, make("b", { className: `attempt at-${one.state}` }, one.state), " ", told.join(" · ")),
    one.code || one.said ? make("p", { className: "said" }, words([one.code, one.said].filter(Boolean).join(": "))) : null,
    make("p", { className: "ids" }, words(one.id), one.request_id ? [" · ", words(one.request_id)] : null),
  );
}
