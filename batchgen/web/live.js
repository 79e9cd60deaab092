"use strict";
// The page that is served: what the run does now, looked at again and again.

const LOOK = 1000; // milliseconds between two looks at the run
const ROWS = 3; // looks until the rows are asked for again
const HEAD = 10; // looks until everything is
const NEWEST = 24; // images that landed last
const BACKLOG = 400; // letters of what a lane told

class Live {
  #last = 0;
  #looks = 0;
  #worked = true;

  constructor(source) {
    this.source = source;
  }

  async begin() {
    for (;;) {
      try {
        await this.source.look();
        this.page = await begin(this.source);
        break;
      } catch (error) {
        complain(error.message);
        await rest(LOOK);
      }
    }
    for (;;) {
      if (!document.hidden) await this.#look();
      await rest(LOOK);
    }
  }

  /** What has ended is looked at seldom; what cannot be read is asked for again. */
  async #look() {
    try {
      const now = await this.source.get(`now?after=${this.#last}&most=${NEWEST}`);
      showWork(now);
      this.#land(now.newest);
      Object.assign(this.source.head.report, now.report);
      this.page.tally();
      this.#looks += 1;
      const busy = now.working || this.#worked;
      if (busy && this.#looks % HEAD === 0) {
        await this.source.look();
        this.page.summarize();
      }
      if (busy && this.#looks % ROWS === 0) await this.page.show();
      this.#worked = now.working;
      complain("");
    } catch (error) {
      complain(`This is what was seen last: ${error.message}`);
    }
  }

  /** New images, the latest first. */
  #land(images) {
    const box = byId("newest");
    if (images.length) {
      this.#last = images[0].id;
      const made = images.map((image) => {
        const button = make("button", { type: "button", "aria-label": `Image ${image.id}, open it` }, make("img", { src: this.source.thumb(image), alt: "", decoding: "async" }));
        button.addEventListener("click", () => this.page.detail.open(image.task));
        return button;
      });
      const before = [...box.querySelectorAll("button")].slice(0, NEWEST - made.length);
      put(box, make("span", {}, "newest"), made, before);
    }
    box.hidden = !box.children.length;
  }
}

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** How far the run is, what it may spend, what it waits for, and how its pace changed. */
function showWork(now) {
  const { tasks, cost } = now.report;
  const over = tasks.total - tasks.todo - tasks.doing;
  const share = tasks.total ? (100 * over) / tasks.total : 0;
  const kind = now.paused ? "paused" : now.working ? "" : "still";
  const line = make(
    "p",
    { className: `progress ${kind}` },
    make("span", { className: "pulse", "aria-hidden": "true" }),
    make("b", {}, `${whole.format(over)} of ${count(tasks.total, "task")}`),
    make("span", {}, `${share.toFixed(share < 99.95 || over === tasks.total ? 0 : 1)} %`),
    words(now.paused ? `paused, ${now.state}` : now.state, "span"),
  );
  const lines = [];
  const say = (name, ...texts) => texts.length && lines.push(make("dt", {}, name), make("dd", {}, texts.map((text) => words(brief(text, BACKLOG), "p"))));
  say("Pace", ...now.pace);
  say("Batches", ...now.batches);
  say("Waits", ...now.waits);
  say("Set", ...now.set);
  say("Throttle", ...now.changes.slice(-6).reverse().map(([at, what]) => `${at.slice(11, 19)} UTC ${what}`));
  put(byId("work"), make("div", {}, line, budget(cost, now.budget)), make("dl", { className: "work-lines" }, lines));
  byId("work").hidden = false;
}

/** What is spent at least and at most, beside what may be. */
function budget(cost, limit) {
  const spent = cost.high === null ? `${usd(cost.low)} or more` : between(cost.low, cost.high);
  const pretend = cost.pretend ? " of pretend money" : "";
  if (limit === null) return make("p", {}, `${spent}${pretend} spent; no budget`);
  const meter = make("span", { className: "meter", "aria-hidden": "true" });
  const bar = (value, className) => {
    const part = make("span", { className });
    part.style.width = `${limit ? Math.min(100, (100 * value) / limit) : 100}%`;
    return part;
  };
  meter.append(bar(cost.high ?? cost.low, "perhaps"), bar(cost.low, ""));
  return make("p", { className: "budget" }, meter, make("span", {}, `${spent}${pretend} spent, of a budget of ${usd(limit)}`));
}

new Live(new Served()).begin();
