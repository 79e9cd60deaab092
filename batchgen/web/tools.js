"use strict";
// The line above the grid: find, filter, sort, and which axis goes where.

const SORTS = { manifest: "in the manifest's order", newest: "newest first", dearest: "dearest first", slowest: "slowest first", prompt: "by prompt, A to Z" };

/** A field with its name above it. */
function field(name, control) {
  return make("label", { className: "field" }, words(name, "span"), control);
}

function select(values, chosen, change, name) {
  const options = values.map(([value, text]) => make("option", { value, textContent: text, selected: value === chosen }));
  const control = make("select", { "aria-label": name }, options);
  control.addEventListener("change", () => change(control.value));
  return control;
}

/** `act` changes the choice by what it is given. */
function showTools(head, state, act) {
  const find = make("input", { type: "search", id: "find", value: state.choice.text, placeholder: "Prompt, id or key", autocomplete: "off", spellcheck: false, maxLength: 1000 });
  let wait = 0;
  find.addEventListener("input", () => {
    clearTimeout(wait);
    wait = setTimeout(() => act({ choice: { ...state.choice, text: find.value } }), 150);
  });
  const axes = varying(head);
  const any = "\u0000"; // no value is called so
  const filters = axes.map(({ name, values }) => {
    const change = (value) => {
      const { [name]: _, ...others } = state.choice.axes;
      act({ choice: { ...state.choice, axes: value === any ? others : { ...others, [name]: value } } });
    };
    return field(name, select([[any, "any"], ...values.map((value) => [value, brief(value, 40)])], state.choice.axes[name] ?? any, change, name));
  });
  const sort = field("sort", select(Object.entries(SORTS), state.choice.order, (order) => act({ choice: { ...state.choice, order } }), "Sort"));
  put(byId("tools"), field("find", find), filters, sort, layout(axes, state, act));
}

/** Which axis goes where, and how large the pictures are. */
function layout(axes, state, act) {
  const places = axes.map(({ name }) => {
    const change = (place) => act({ places: { ...state.places, [name]: place } });
    return field(name, select([["across", "across"], ["down", "down"], ["inside", "side by side"]], state.places[name] ?? "inside", change, `Where ${name} goes`));
  });
  const zoom = make("input", { type: "range", min: 72, max: 256, step: 8, value: state.tile, "aria-label": "Size of the pictures" });
  zoom.addEventListener("input", () => act({ tile: Number(zoom.value) }));
  const box = make("details", { className: "layout", open: state.laidOut }, make("summary", {}, "Layout"), make("div", { className: "sheet" }, places, field("pictures", zoom)));
  box.addEventListener("toggle", () => (state.laidOut = box.open));
  return box;
}
