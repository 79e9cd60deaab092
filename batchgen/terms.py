"""On which terms a run goes: its limits, its retries, and who is told; nouns, and how they are read."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, get_args

from batchgen.catalog import Provider
from batchgen.deadline import Until
from batchgen.form import EngineForm, Event, LimitsForm, NotifyForm, RetryForm, check, section
from batchgen.problems import Problems, cut, not_one_of
from batchgen.quota import KINDS

PACES = {kind: f"{kind}_per_minute" for kind in KINDS}
"""What limits a pace, and its key."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the estimate, 0 to 1."""

    of_estimate: Decimal


@dataclass(frozen=True, slots=True)
class Limits:
    """`concurrency` in each lane, `budget` in nano-dollars, `timeout` in seconds.

    `paces`: how many images, requests or tokens a minute, by kind, in the lane or at the provider of that name ("": at
    each).
    """

    concurrency: int
    budget: int | None
    images: int | None
    timeout: float
    on_blocked: Literal["stop", "wait"]
    until: Until | None = None
    paces: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    auto: bool = False  # whether the run finds out how much of `concurrency` is of use

    def pace(self, provider: Provider) -> dict[str, float]:
        """What is a provider's, by kind, a minute."""
        found = {kind: rate(each, provider) for kind, each in self.paces.items()}
        return {kind: each for kind, each in found.items() if each}


def rate(rates: Mapping[str, int], provider: Provider) -> float:
    """Which of them, by the name of its lane or its own, is that provider's; that under "" is everybody's. 0: none."""
    return float(next((rates[name] for name in (*_names(provider), "") if name in rates), 0))


def _names(lane: Provider) -> list[str]:
    """By which its limits may be given: its own name first, then its provider's, which stands for each of its lanes."""
    whole = [name for name in (lane.name, lane.identity, lane.identity.removeprefix("sandbox:")) if name]
    return [*(f"{name}/{lane.label}" for name in whole if lane.label), *whole]


@dataclass(frozen=True, slots=True)
class Retry:
    """`allowance`: what may be sent again after an unknown: nano-dollars, or a share; None: the run works it out."""

    attempts: int
    on_unknown: Literal["retry", "hold"]
    allowance: Share | int | None


@dataclass(frozen=True, slots=True)
class Engine:
    """How tasks are bought: each by itself, or by the provider's Batch API, with `until` only to that time.

    `ray` is the address of a cluster whose nodes make them, each by itself; "": this machine does.
    """

    batch: bool = False
    until: Until | None = None
    ray: str = ""

    @property
    def name(self) -> str:
        return "batch" if self.batch else "ray" if self.ray else "local"


ENGINES = ("local", "batch", "ray")
AUTO = "auto"  # the address of the cluster that this machine belongs to


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told how a run goes: a webhook, by the variable that holds its URL, and a command; "" and (): none."""

    url_env: str
    command: tuple[str, ...]
    format: Literal["text", "json"]
    on: frozenset[Event]

    @property
    def hearers(self) -> tuple[str, ...]:
        """Them, in words."""
        webhook = [f"the webhook in {self.url_env}"] if self.url_env else []
        return (*webhook, *([f"the command {cut(shlex.join(self.command))}"] if self.command else []))


def read_limits(value: Mapping[str, object], problems: Problems) -> Limits | None:
    """The limits of a manifest; None, and `problems` knows why, where they cannot be read. So it is with the others."""
    told = section(value, "limits")
    form = check(LimitsForm, told, ("limits",), problems)
    if form is None:
        return None
    paces = {kind: rates for kind, name in PACES.items() if (rates := getattr(form, name))}
    until, auto = form.until, told.get("concurrency") == "auto"
    return Limits(form.concurrency, form.budget, form.images, form.timeout, form.on_blocked, until, paces, auto)


def check_paces(limits: Limits | None, providers: Sequence[Provider], problems: Problems) -> None:
    """Whether those whose pace is named are there."""
    names = {name for each in providers for lane in each.lanes for name in _names(lane)}
    known = {name for name in names if not name.startswith("sandbox:")}
    for kind, rates in (limits.paces if limits and known else {}).items():
        for name in rates.keys() - known - {""}:
            says = f"no provider of this manifest is called that: {not_one_of(name, sorted(known))}"
            problems.add(("limits", PACES[kind], name), says, key=True)


def read_retry(value: Mapping[str, object], problems: Problems) -> Retry | None:
    form = check(RetryForm, section(value, "retry"), ("retry",), problems)
    if form is None:
        return None
    allowance = form.duplicate_allowance
    share = Share(allowance) if isinstance(allowance, Decimal) else allowance
    return Retry(form.attempts, form.on_unknown, share)


def read_engine(value: Mapping[str, object], problems: Problems) -> Engine | None:
    said = value.get("engine", "local")
    if isinstance(said, dict):
        form = check(EngineForm, said, ("engine",), problems)
        if form is None:
            return None
        batch = not form.ray if form.batch is None else form.batch
        if form.until and not batch:
            problems.add(("engine", "until"), "is when batches end: it needs batch: true")
        if form.ray and batch:
            problems.add(("engine", "ray"), "and batch: true are two ways to buy: take one")
        return Engine(batch, form.until, form.ray)
    if said not in ENGINES:
        problems.add(("engine",), not_one_of(said, ENGINES))
    return Engine(said == "batch", ray=AUTO if said == "ray" else "")


def read_notify(value: Mapping[str, object], problems: Problems) -> Notify | None:
    form = check(NotifyForm, section(value, "notify"), ("notify",), problems) if "notify" in value else None
    if form is None:
        return None
    if not (form.url_env or form.command):
        problems.add(("notify",), "tells nobody: give it url_env, command, or both")
    words = (problems.document.text(("notify", "command", n), word) for n, word in enumerate(form.command or ()))
    return Notify(form.url_env or "", tuple(words), form.format, frozenset(form.on or get_args(Event)))
