"use strict";
// Plots, drawn as SVG, and the table of what each value of an axis came to.

const WIDE = 560;
const HIGH = 190;
const LEFT = 56;
const BOTTOM = 24;
const BREAK = 14; // pixels for a time in which nothing happened

/** Round figures up to at least `most`. */
function ticks(most) {
  if (!(most > 0)) return [0];
  const power = 10 ** Math.floor(Math.log10(most / 3));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => most / each <= 4);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, at) => at * step);
}

function plot(title, says, ...children) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${title}: ${says}` }, ...children);
  return make("figure", { className: "plot" }, make("figcaption", {}, make("b", {}, title), " ", says), svg);
}

/** The lines that figures are read off, and where a figure stands. */
function scale(most, tell) {
  const marks = ticks(most);
  const top = marks.at(-1) || 1;
  const y = (value) => HIGH - BOTTOM - (value / top) * (HIGH - BOTTOM - 10);
  const lines = marks.flatMap((value) => [
    draw("line", { class: "rule", x1: LEFT, x2: WIDE, y1: y(value), y2: y(value) }),
    draw("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, tell(value)),
  ]);
  return { y, lines };
}

/** Where moments stand: times in which nothing happened are cut to a gap, and marked. */
function timeline(beats) {
  const { step, rows } = beats;
  const worked = rows.length * step;
  const pause = Math.max(4 * step, worked / 8);
  const spans = [];
  for (const [at] of rows) {
    if (spans.length && at - spans.at(-1).end <= pause) spans.at(-1).end = at + step;
    else spans.push({ from: at, end: at + step });
  }
  const seconds = spans.reduce((total, span) => total + span.end - span.from, 0);
  const room = WIDE - LEFT - BREAK * (spans.length - 1);
  let x = LEFT;
  for (const span of spans) {
    span.x = x;
    span.scale = Math.max(0, room) / seconds;
    x += (span.end - span.from) * span.scale + BREAK;
  }
  const place = (at) => {
    const span = spans.findLast((each) => each.from <= at) ?? spans[0];
    return span.x + (Math.min(at, span.end) - span.from) * span.scale;
  };
  return { place, spans, wide: step * spans[0].scale, marks: clock(spans) };
}

/** The hours below a timeline, and a stroke where it is cut. */
function clock(spans) {
  const y = HIGH - 6;
  const first = spans[0];
  const last = spans.at(-1);
  const end = last.end - first.from < 1200 ? 19 : 16; // with seconds where it was soon over
  const text = (at, long) => new Date(at * 1000).toISOString().slice(long ? 5 : 11, end).replace("T", " ");
  const days = new Date(first.from * 1000).toISOString().slice(0, 10) !== new Date(last.end * 1000).toISOString().slice(0, 10);
  return [
    ...spans.slice(1).map((span) => draw("line", { class: "cut", x1: span.x - BREAK / 2, x2: span.x - BREAK / 2, y1: 10, y2: HIGH - BOTTOM })),
    draw("text", { class: "tick", x: LEFT, y }, text(first.from, true)),
    draw("text", { class: "tick", x: WIDE, y, "text-anchor": "end" }, `${text(last.end, days)} UTC`),
    ...(spans.length === 1 ? [draw("text", { class: "tick", x: (LEFT + WIDE) / 2, y, "text-anchor": "middle" }, text((first.from + last.end) / 2))] : []),
  ];
}

/** What was spent in all: between the lowest and the highest that the bill can be. */
function spendPlot(beats) {
  const time = timeline(beats);
  let low = 0;
  let high = 0;
  const points = beats.rows.map(([at, , more, most]) => [time.place(at + beats.step), (low += more), (high += most)]);
  points.unshift([LEFT, 0, 0]);
  const { y, lines } = scale(high, usd);
  const line = (at) => points.map((point) => `${point[0].toFixed(1)},${y(point[at]).toFixed(1)}`);
  const says = low === high ? usd(high) : `the bill lies between ${usd(low)} and ${usd(high)}`;
  return plot(
    "Spend over time",
    says,
    ...lines,
    ...time.marks,
    draw("polygon", { class: "band", points: [...line(1), ...line(2).reverse()].join(" ") }),
    draw("polyline", { class: "line low", points: line(1).join(" ") }),
    draw("polyline", { class: "line", points: line(2).join(" ") }),
  );
}

/** A step of time in whole units. */
const every = (step) => (step < 60 ? `${step} s` : step < 3600 ? `${step / 60} min` : `${step / 3600} h`);

/** How fast images came. */
function pacePlot(beats) {
  const time = timeline(beats);
  const rate = (images) => (images * 60) / beats.step;
  const most = Math.max(...beats.rows.map((row) => rate(row[1])));
  const { y, lines } = scale(most, whole.format);
  const bars = beats.rows.map(([at, images]) =>
    draw(
      "rect",
      { class: "bar", x: time.place(at), y: y(rate(images)), width: Math.max(1, time.wide - 0.6), height: Math.max(0, y(0) - y(rate(images))) },
      draw("title", {}, `${new Date(at * 1000).toISOString().slice(11, 19)} UTC: ${count(images, "image")} in ${every(beats.step)}`),
    ),
  );
  return plot("Images per minute", `up to ${whole.format(Math.round(most))}, in steps of ${every(beats.step)}`, ...lines, ...time.marks, ...bars);
}

/** A bar from low to high for each value of an axis, and a mark between. */
function ranges(title, says, rows, tell) {
  const most = Math.max(0, ...rows.map((row) => row.high ?? row.low));
  const share = (value) => `${most ? (100 * value) / most : 0}%`;
  const lines = rows.map(({ name, low, middle, high, note }) => {
    const bar = make("span", { className: "range" });
    bar.style.left = share(Math.min(low, high ?? low));
    bar.style.width = share(Math.abs((high ?? low) - low));
    const dot = make("span", { className: "dot" });
    dot.style.left = share(middle);
    return make("tr", {}, make("th", { scope: "row" }, words(name || "–")), make("td", { className: "track" }, make("span", { className: "rail" }, bar, dot)), make("td", { className: "figure" }, tell(low, middle, high), note ?? null));
  });
  return make("figure", { className: "plot" }, make("figcaption", {}, make("b", {}, title), " ", says), make("div", { className: "long" }, make("table", { className: "ranges" }, make("tbody", {}, lines))));
}

function latencyPlot(axis) {
  const rows = axis.figures.filter((each) => each.seconds.length).map((each) => ({ name: each.value, low: each.seconds[0], middle: each.seconds[1], high: each.seconds[2] }));
  const tell = (low, middle, high) => `${lasting(middle)} (${lasting(low)} – ${lasting(high)})`;
  return ranges(`Latency by ${axis.name}`, "the median, and where eight of ten answers lie", rows, tell);
}

function costPlot(axis) {
  const rows = axis.figures
    .filter((each) => each.images)
    .map((each) => ({ name: each.value, low: each.low / each.images, middle: (each.high ?? each.low) / each.images, high: each.high === null ? null : each.high / each.images }));
  return ranges(`Cost by ${axis.name}`, "of each saved image, with all that was spent for it", rows, (low, middle, high) => between(low, high));
}

const COLUMNS = [
  ["tasks", (each) => whole.format(each.tasks)],
  ["images", (each) => whole.format(each.images)],
  ["refused", (each) => told(each.states.refused)],
  ["failed", (each) => told(each.states.failed)],
  ["held", (each) => told(each.states.held)],
  ["cost", (each) => between(each.low, each.high)],
  ["each image", (each) => (each.images ? between(each.low / each.images, each.high === null ? null : each.high / each.images) : "–")],
  ["median", (each) => (each.seconds.length ? lasting(each.seconds[1]) : "–")],
  ["nine of ten", (each) => (each.seconds.length ? lasting(each.seconds[2]) : "–")],
];
const told = (number) => (number ? whole.format(number) : "–");

/** What each value of an axis came to. */
function axisTable(axis) {
  const head = make("tr", {}, make("th", { scope: "col" }, words(axis.name)), COLUMNS.map(([name]) => make("th", { scope: "col" }, name)));
  const rows = axis.figures.map((each) => make("tr", {}, make("th", { scope: "row" }, words(each.value || "–")), COLUMNS.map(([, tell]) => make("td", {}, tell(each)))));
  return make("div", { className: "long" }, make("table", { className: "sums" }, make("thead", {}, head), make("tbody", {}, rows)));
}

/** Everything on the second view. */
function showPlots(head) {
  const axes = head.axes.filter((axis) => axis.figures.length > 0);
  const first = axes.find((axis) => axis.name === "target") ?? axes.find((axis) => axis.name === "quality") ?? axes[0];
  const beats = head.beats.rows.length ? [spendPlot(head.beats), pacePlot(head.beats)] : [];
  const plots = [...beats, ...(first ? [latencyPlot(axes.find((axis) => axis.name === "quality") ?? first), costPlot(first)] : [])];
  const title = (axis) => (axis.name === "target" ? "Targets side by side" : `By ${axis.name}`);
  const tables = [...axes].sort((one, other) => (other === first) - (one === first)).map((axis) => make("section", {}, make("h2", {}, title(axis)), axisTable(axis)));
  const more = axes.filter((axis) => axis !== first).map(costPlot);
  put(byId("plots"), make("div", { className: "plots" }, plots, more), tables);
  if (!byId("plots").textContent) put(byId("plots"), make("p", { className: "empty" }, "Nothing was sent yet."));
}
