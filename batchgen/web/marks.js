"use strict";
// What is marked to be made again: keys of tasks, kept in this browser, and the command that makes them.

const KEY = /^[a-z2-7]{16}$/; // of a task; a ledger that holds another one puts no word into a shell

class Marks {
  #keys = new Set();

  /** Once any of them was made again, what is marked is over: `replaced` tells of that. */
  constructor(run, replaced, redo, changed) {
    Object.assign(this, { redo, changed, place: `batchgen marks ${replaced} ${run}` });
    try {
      for (const key of JSON.parse(localStorage.getItem(this.place) ?? "[]")) if (KEY.test(key)) this.#keys.add(key);
    } catch {
      // a browser that keeps nothing, or what somebody else has left there
    }
  }

  has(key) {
    return this.#keys.has(key);
  }

  toggle(key) {
    if (!this.#keys.delete(key) && KEY.test(key)) this.#keys.add(key);
    this.#keep();
  }

  #keep() {
    try {
      localStorage.setItem(this.place, JSON.stringify([...this.#keys]));
    } catch {
      // then they last as long as this page
    }
    this.show();
    this.changed();
  }

  /** For a shell: the run is quoted already, and a key has letters and digits alone. */
  get command() {
    return [this.redo, ...this.#keys].join(" ");
  }

  show() {
    const box = byId("marks");
    box.hidden = this.#keys.size === 0;
    if (box.hidden) return;
    const line = make("input", { readOnly: true, value: this.command, "aria-label": "The command that makes them again" });
    line.addEventListener("focus", () => line.select());
    const copy = make("button", { type: "button", textContent: "Copy command", className: "main" });
    copy.addEventListener("click", async () => {
      await this.#copy(line);
      copy.textContent = "Copied";
    });
    const clear = make("button", { type: "button", textContent: "Clear" });
    clear.addEventListener("click", () => {
      this.#keys.clear();
      this.#keep();
    });
    const hint = make("small", {}, 'as they are; with --set prompt="…" otherwise');
    put(box, make("b", {}, `${whole.format(this.#keys.size)} marked`), line, copy, clear, hint);
  }

  async #copy(line) {
    try {
      await navigator.clipboard.writeText(this.command);
    } catch {
      line.select();
      document.execCommand("copy");
    }
  }
}
