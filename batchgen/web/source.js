"use strict";
// Where rows come from: written into this page, or served beside it. Both answer alike.

/** Whether a task is asked for: by its state (of what is wanted, any) and by its values on the axes. */
function suits(head, task, choice) {
  const states = task.unknown ? [stateOf(task), "unknown"] : [stateOf(task)];
  const asked = choice.states.length ? states.some((each) => choice.states.includes(each)) : !task.wanted;
  return asked && Object.entries(choice.axes).every(([name, value]) => valueOf(head, task, name) === value);
}

/** A task's value on an axis; nothing where it has none. */
function valueOf(head, task, name) {
  const at = head.axes.findIndex((each) => each.name === name);
  const axis = head.axes[at];
  if (!axis) return "";
  if (axis.samples) return String(task.sample ?? 1);
  return axis.values[head.variants[task.variant].at[at]] ?? "";
}

/** How many images of an answer did not come, or came broken. */
function missingOf(head, task) {
  const asked = Number(head.variants[task.variant].params.n ?? 1);
  return task.state === "done" ? Math.max(0, asked - (task.images ?? []).length) : 0;
}

const sum = (tasks, figure) => tasks.reduce((total, task) => total + (figure(task) ?? 0), 0);
const ORDERS = {
  manifest: null,
  newest: (row) => -Math.max(0, ...row.tasks.flatMap((task) => (task.images ?? []).map((image) => image.id))),
  dearest: (row) => -sum(row.tasks, (task) => task.high),
  slowest: (row) => -Math.max(0, ...row.tasks.map((task) => task.seconds ?? 0)),
  prompt: (row) => row.text.toLowerCase(),
};

/** The rows of the page that was written down: blocks of JSON, each of which holds a page of them. */
class Embedded {
  live = false;
  #blocks = new Map();
  #rows = null;
  #homes = null;

  constructor() {
    this.head = this.#read("head");
    this.ready = new Promise((resolve) => {
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
      else resolve();
    });
  }

  #read(id) {
    if (!this.#blocks.has(id)) {
      const element = byId(id);
      if (!element) return null;
      this.#blocks.set(id, JSON.parse(element.textContent));
    }
    return this.#blocks.get(id);
  }

  /** A page of rows; their images know where their thumbnails stand. */
  #block(number) {
    const known = this.#blocks.has(`rows-${number}`);
    const rows = this.#read(`rows-${number}`);
    if (!known && rows) {
      const tasks = rows.flatMap((row) => row.tasks);
      for (const task of tasks) task.block = number;
      tasks.flatMap((task) => task.images ?? []).forEach((image, at) => Object.assign(image, { block: number, at }));
    }
    return rows;
  }

  /** Every row, once the page is there to its end. */
  async #all() {
    await this.ready;
    this.#rows ??= this.#joined(Array.from({ length: this.head.blocks }, (_, number) => this.#block(number)).flat());
    return this.#rows;
  }

  /** What is wanted no more stands in blocks of its own, behind the others: here each prompt has one row again. */
  #joined(rows) {
    const found = new Map();
    for (const row of rows) {
      const key = JSON.stringify([row.text, row.inputs]);
      const before = found.get(key);
      found.set(key, before ? { ...before, tasks: [...before.tasks, ...row.tasks] } : row);
    }
    return [...found.values()];
  }

  async rows(choice, offset) {
    const page = this.head.page;
    const narrow = choice.text || choice.states.length || Object.keys(choice.axes).length || choice.order !== "manifest";
    const { total } = this.head;
    if (!narrow && offset >= total.rows) return { rows: [], total }; // blocks further on are of what is wanted no more
    if (!narrow) {
      if (!this.#block(offset / page)) await this.ready;
      return { rows: this.#block(offset / page) ?? [], total };
    }
    const found = this.#chosen(await this.#all(), choice);
    const tasks = sum(found, (row) => row.tasks.length);
    return { rows: found.slice(offset, offset + page), total: { rows: found.length, tasks } };
  }

  #chosen(rows, choice) {
    const text = choice.text.toLowerCase();
    const found = [];
    for (const row of rows) {
      const held = !text || [row.text, ...(row.names ?? [])].some((each) => each.toLowerCase().includes(text));
      const tasks = row.tasks.filter((task) => (held || task.key.includes(text)) && suits(this.head, task, choice));
      if (tasks.length) found.push({ ...row, tasks });
    }
    const order = ORDERS[choice.order];
    if (!order) return found;
    const ranked = found.map((row) => [order(row), row]);
    ranked.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
    return ranked.map(([, row]) => row);
  }

  /** A task with its row and all its attempts. */
  async task(seq) {
    const rows = await this.#all();
    this.#homes ??= new Map(rows.flatMap((row, at) => row.tasks.map((task) => [task.seq, at])));
    const row = rows[this.#homes.get(seq)];
    if (!row) return null;
    const task = row.tasks.find((each) => each.seq === seq);
    return { row, task, detail: this.#read(`details-${task.block}`)[seq] };
  }

  /** Where its thumbnail is; nothing where there is none. */
  thumb(image) {
    if (!this.head.embedded) return `${this.head.folder}thumbs/${image.sha256.slice(0, 2)}/${image.sha256}.webp`;
    const data = this.#read(`thumbs-${image.block}`)?.[image.at];
    return data ? `data:image/webp;base64,${data}` : "";
  }

  /** Where it lies itself, where no page can show it; nothing where one can. */
  far(image) {
    return /^(s3|gs|az):/.test(this.head.images) ? this.head.images + image.path : "";
  }

  /** Where it lies itself, seen from this page; nothing where its path leads out of the images' folder, or to no image. */
  full(image) {
    const parts = image.path.split("/");
    const safe = !parts.includes("..") && /\.(png|jpg|webp|gif)$/.test(image.path);
    return safe && !this.far(image) ? `${this.head.images}${parts.map(encodeURIComponent).join("/")}` : "";
  }
}

/** The rows of a ledger that is looked at as the page asks. */
class Served {
  live = true;
  ready = Promise.resolve();
  head = null;

  async get(path) {
    const answer = await fetch(path, { credentials: "omit" });
    const said = await answer.json().catch(() => ({ error: `the server says ${answer.status}` }));
    if (!answer.ok) throw new Error(said.error ?? `the server says ${answer.status}`);
    return said;
  }

  async look() {
    this.head = await this.get("head");
  }

  async rows(choice, offset) {
    const asked = new URLSearchParams({ offset, most: this.head.page, text: choice.text, order: choice.order, states: choice.states.join(" ") });
    for (const [name, value] of Object.entries(choice.axes)) asked.append("axis", JSON.stringify([name, value]));
    const found = await this.get(`rows?${asked}`);
    const strange = found.rows.some((row) => row.tasks.some((task) => !(task.variant in this.head.variants)));
    if (strange) await this.look();
    return found;
  }

  async task(seq) {
    const { row, detail } = await this.get(`task/${seq}`);
    return { row, task: row.tasks[0], detail };
  }

  thumb(image) {
    return `thumb/${image.id}`;
  }

  far() {
    return "";
  }

  full(image) {
    return `image/${image.id}`;
  }
}
