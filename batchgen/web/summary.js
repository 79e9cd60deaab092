"use strict";
// What stands at the top: the run, its money between its bounds, and how many tasks ended how.

const TOLD = ["done", "refused", "failed", "held", "unknown", "doing", "todo", "dropped", "replaced"];

/** How many tasks are in each state; unknown ones are counted in another one, too. */
function countsOf(head) {
  const { tasks, not_wanted: gone } = head.report;
  return { ...tasks, ...gone, unknown: head.unknown };
}

/** Name, figure, and what it means. */
function figure(name, value, says, kind = "") {
  return make("div", { className: kind }, make("dt", {}, name), make("dd", {}, make("b", {}, value), make("span", {}, says)));
}

/** Four figures: what is surely on the bill, what is estimated, what nobody can know, and between what the bill lies. */
function money(cost) {
  const pretend = cost.pretend ? "pretend money, " : "";
  const unpriced = cost.unpriced_attempts ? ` and ${count(cost.unpriced_attempts, "request")} whose price is not known` : "";
  return [
    figure("Paid", usd(cost.paid), `${pretend}from the usage of ${count(cost.answers, "answer")}`),
    figure("Estimated", usd(cost.estimated), `${pretend}at most, for answers without usage`),
    ...(cost.on_the_way ? [figure("On the way", usd(cost.on_the_way), `${pretend}at most, for requests that are`)] : []),
    figure("Perhaps also", usd(cost.unknown - cost.on_the_way), `${pretend}at most, for ${count(cost.doubted, "request")} without a usable answer`, cost.doubted ? "is-unknown" : ""),
    figure(
      cost.pretend ? "The pretend bill" : "The bill",
      cost.high === null ? `${usd(cost.low)} or more` : between(cost.low, cost.high),
      cost.high !== null && usd(cost.low) === usd(cost.high) ? `${pretend}to the last cent` : `${pretend}lies between these${unpriced}`,
      "wide",
    ),
  ];
}

/** From when to when; a day that is the same is told once. */
function span(start, end) {
  const from = moment(start);
  const to = moment(end);
  return from.slice(0, 10) === to.slice(0, 10) ? `${from.replace(" UTC", "")} – ${to.slice(11)}` : `${from} – ${to}`;
}

function showSummary(head) {
  const { report } = head;
  document.title = `${report.job} – batchgen`;
  put(byId("job"), words(report.job, "span"));
  const times = span(report.started_at, report.ended_at);
  const from = report.started_at ? times : "never run";
  put(byId("meta"), report.project ? [words(report.project), " · "] : [], from, " · ", words(head.run, "code"));
  const weight = report.images.bytes ? `, ${size(report.images.bytes)}` : "";
  const images = `of ${count(report.tasks.total, "task")}${weight}`;
  const missing = report.images.missing ? `, ${whole.format(report.images.missing)} missing from their answers` : "";
  put(byId("figures"), figure("Images", whole.format(report.images.saved), images + missing, "images"), money(report.cost));
}

/** A bar of all tasks by state, and a button for each state: what went wrong is always in sight. */
function showStates(head, chosen, toggle) {
  const counts = countsOf(head);
  const segments = TOLD.slice(0, 7).filter((state) => state !== "unknown" && counts[state]).map((state) => {
    const segment = make("span", { className: `segment is-${state}` });
    segment.style.flexGrow = counts[state];
    return segment;
  });
  const always = ["done", "refused", "failed", "held", "unknown"];
  const focused = byId("states").contains(document.activeElement) ? document.activeElement.dataset.state : "";
  const buttons = TOLD.filter((state) => counts[state] || always.includes(state) || chosen.includes(state)).map((state) => {
    const button = make(
      "button",
      { type: "button", className: `chip is-${state}${counts[state] ? "" : " none"}`, title: SAYS[state], "aria-pressed": chosen.includes(state) },
      make("b", {}, whole.format(counts[state] ?? 0)),
      ` ${STATES[state]}`,
    );
    button.dataset.state = state;
    button.addEventListener("click", () => toggle(state));
    return button;
  });
  put(byId("states"), make("div", { className: "shares", "aria-hidden": "true" }, segments), make("div", { className: "chips" }, buttons));
  buttons.find((button) => button.dataset.state === focused)?.focus();
}
