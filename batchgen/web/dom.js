"use strict";
// Elements, and how figures are told. Every text goes in as text: nothing here is ever parsed as HTML.

/** An element with properties, `data-` and `aria-` attributes, and children (texts or elements; null is left out). */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** The same for SVG, where all are attributes. */
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Somebody else's words: they keep their own direction, and cannot turn that of what stands around them. */
function words(text, tag = "bdi") {
  return make(tag, { textContent: text, dir: "auto" });
}

const byId = (id) => document.getElementById(id);
const put = (element, ...children) => element.replaceChildren(...children.flat(Infinity).filter((each) => each !== null));
const whole = new Intl.NumberFormat("en-US");
const count = (number, noun) => `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Four digits below a dollar, two above: $0.0053, $12.30. */
function usd(value) {
  return `$${fixed(value, value !== 0 && Math.abs(value) < 1 ? 4 : 2)}`;
}

const fixed = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Between which the bill lies; one figure only where both are the same. */
function between(low, high) {
  if (high === null) return "price not known";
  return usd(low) === usd(high) ? usd(high) : `${usd(low)} – ${usd(high)}`;
}

/** The same where room is scarce: $0.157–0.173. */
function scarcely(low, high) {
  if (high === null) return "$?";
  if (high === 0) return "$0";
  const digits = high < 0.01 ? 4 : high < 1 ? 3 : 2;
  const [least, most] = [fixed(low, digits), fixed(high, digits)];
  return least === most ? `$${most}` : `$${low === 0 ? 0 : least}–${most}`;
}

function lasting(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function size(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/** A time of the ledger's, which is UTC, to the minute. */
const moment = (time) => (time ? `${String(time).slice(0, 16).replace("T", " ")} UTC` : "now");

/** The beginning of a long text. */
const brief = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);

const STATES = {
  done: "done", refused: "refused", failed: "failed", held: "held", doing: "on the way", todo: "to do",
  unknown: "perhaps paid", dropped: "dropped", replaced: "replaced",
};
const SAYS = {
  done: "its images are saved",
  refused: "the provider's safety system said no",
  failed: "it was given up, or can never work as it is",
  held: "perhaps paid, and no usable answer came: waiting for you",
  doing: "sent, or about to be",
  todo: "not sent yet",
  unknown: "a request without a usable answer may have been billed, whatever came later",
  dropped: "no longer wanted",
  replaced: "made again by redo; open the new picture to see the old one",
};

/** In which state a task is shown: what is not wanted any more is that first. */
function stateOf(task) {
  if (!task.wanted) return task.state;
  return ["dropped", "waived", "forgone"].includes(task.wanted) ? "dropped" : "replaced";
}
