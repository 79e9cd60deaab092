"""What a run will come to before it spends anything: price, time, disk, hosts, and what speaks against it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from batchgen import catalog, costs, deadline, schedule, shelf
from batchgen.catalog import Model, Provider
from batchgen.compare import Part, Survey
from batchgen.costs import Money
from batchgen.deadline import Span
from batchgen.manifest import Manifest
from batchgen.pace import Learned
from batchgen.purse import allowance
from batchgen.schedule import Paced
from batchgen.shelf import Experience
from batchgen.task import Variant
from batchgen.text import count

SOON = timedelta(days=30)
RATE_MOST = 100.0  # images a second that one machine reads, checks and saves; more is not promised
BYTES_PER_PIXEL = {"png": 1.6, "jpeg": 0.25, "webp": 0.2, "gif": 1.0}
BYTES_PER_TASK = 1_000  # in the ledger


@dataclass(frozen=True, slots=True)
class Group:
    """What is to do of one variant: nano-dollars, seconds on the way, bytes on the disk; None: not known."""

    part: Part
    cost: Money | None
    seconds: float | None
    bytes: int

    @property
    def images(self) -> int:
        return self.part.todo * self.part.variant.images


@dataclass(frozen=True, slots=True)
class Host:
    """Where a provider's requests go ("": the sandbox of the run), and the variable whose key goes with them."""

    provider: str
    origin: str
    key: str
    key_is_set: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A survey with its price. `budget` and `spent` are of the whole job, ever, in nano-dollars.

    `whole` is what all of it, done or not, is expected to cost, `again` what may come on top for requests that are sent
    a second time, because nothing usable came to the first. `free` are the bytes that the disk has left, `answers` is
    how many corrected the estimate.
    """

    job: str
    folder: Path
    resumed: bool
    survey: Survey
    groups: tuple[Group, ...]
    hosts: tuple[Host, ...]
    budget: int | None
    spent: int
    whole: int
    again: int
    answers: int
    free: int
    span: Span
    pretend: bool
    prices_as_of: str | None
    tells: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        return self.span.seconds

    @property
    def limited_by(self) -> str:
        return self.span.limited_by

    @property
    def cost(self) -> Money:
        """Of what is to do, where its price is known."""
        return sum((group.cost for group in self.groups if group.cost), Money(0, 0, 0))

    @property
    def unpriced(self) -> int:
        """Tasks to do whose price is not known."""
        return sum(group.part.todo for group in self.groups if group.cost is None)

    @property
    def new_cost(self) -> int:
        """What the new ones among them are expected to cost."""
        priced = [(group.cost, group.part) for group in self.groups if group.cost and group.part.todo]
        return sum(cost.expected * part.new // part.todo for cost, part in priced)

    @property
    def images(self) -> int:
        """That are to be made."""
        return sum(group.images for group in self.groups)

    @property
    def bytes(self) -> int:
        return sum(group.bytes for group in self.groups)


def draw(
    manifest: Manifest,
    survey: Survey,
    folder: Path,
    ledger: Path | None,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
) -> Plan:
    """The plan of a run. What was paid for already corrects the estimate of what is left."""
    had, spent, learned = _past(ledger) if ledger and survey.todo else ([], 0, {})
    lessons = Lessons(had, manifest.providers)
    groups = tuple(_group(part, manifest.providers.get(part.variant.provider), lessons) for part in survey.parts)
    paces = schedule.paces(survey.parts, manifest, learned)
    whole, dearest = _whole(survey.parts, manifest.providers)
    asked = [provider for name, provider in manifest.providers.items() if _asks(groups, name)]
    drawn = Plan(
        job=manifest.name,
        folder=folder,
        resumed=ledger is not None,
        survey=survey,
        groups=groups,
        hosts=tuple(_host(provider, environ) for provider in asked),
        budget=manifest.limits.budget,
        spent=spent,
        whole=whole,
        again=allowance(manifest.retry, whole, dearest, manifest.limits.concurrency * len(manifest.providers)),
        answers=lessons.behind(survey.parts),
        free=_free(folder),
        span=deadline.cut(
            Span(clock(), *_time(groups, manifest.limits.concurrency, paces)), manifest.limits.until, survey.todo
        ),
        pretend=all(provider.pretend for provider in asked or manifest.providers.values()),
        prices_as_of=_as_of(groups, manifest.providers),
        tells=manifest.notify.hearers if manifest.notify else (),
        warnings=(),
    )
    return replace(drawn, warnings=tuple(_warnings(drawn, manifest, datetime.now(UTC).date())))


def _whole(parts: Sequence[Part], providers: Mapping[str, Provider]) -> tuple[int, int]:
    """What the whole job is expected to cost, done or not, and what its dearest request may."""
    expected = dearest = 0
    for part in parts:
        if found := costs.quoted(part.variant, providers.get(part.variant.provider)):
            share = part.tasks / max(1, part.todo)  # what is done is like what is to do
            expected += found.of(
                round(share * part.prompt_bytes), part.tasks, round(share * part.input_tokens)
            ).expected
            dearest = max(dearest, found.of(part.longest, input_tokens=part.most_tokens).high)
    return expected, dearest


def _past(ledger: Path) -> tuple[list[Experience], int, Mapping[str, Sequence[Learned]]]:
    with shelf.opened(ledger) as there:
        return there.experience(), there.spent(), there.quotas()


def _asks(groups: Sequence[Group], provider: str) -> bool:
    return any(group.part.todo for group in groups if group.part.variant.provider == provider)


class Lessons:
    """What answers taught about price, time and size: of the very variant, or else of its model."""

    def __init__(self, had: Sequence[Experience], providers: Mapping[str, Provider]) -> None:
        self._of: dict[object, list[Experience]] = {}
        self._providers = providers
        for each in had:
            for key in (_same(each.variant), (each.variant.provider, each.variant.model)):
                self._of.setdefault(key, []).append(each)

    def about(self, variant: Variant) -> list[Experience]:
        return self._of.get(_same(variant)) or self._of.get((variant.provider, variant.model)) or []

    def behind(self, parts: Sequence[Part]) -> int:
        """How many answers say something of what is to do."""
        found = {id(each): each for part in parts if part.todo for each in self.about(part.variant)}
        return sum(each.requests for each in found.values())

    def factor(self, variant: Variant) -> float:
        """How many times the estimate the answers really cost."""
        paid = reckoned = 0
        for each in self.about(variant):
            if found := costs.quoted(each.variant, self._providers.get(each.variant.provider)):
                paid += each.cost
                reckoned += found.of(each.prompt_bytes, each.requests, each.input_tokens).expected
        return paid / reckoned if reckoned else 1.0

    def seconds(self, variant: Variant) -> float | None:
        """What a request took."""
        had = self.about(variant)
        return sum(each.seconds for each in had) / sum(each.requests for each in had) if had else None

    def bytes(self, variant: Variant) -> float | None:
        """What an image took."""
        had = self._of.get(_same(variant), [])
        return sum(each.bytes for each in had) / sum(each.images for each in had) if had else None


def _same(variant: Variant) -> tuple[object, ...]:
    return variant.provider, variant.model, variant.operation, repr(variant.params)


def _group(part: Part, provider: Provider | None, lessons: Lessons) -> Group:
    found = costs.quoted(part.variant, provider)
    cost = found.of(part.prompt_bytes, part.todo, part.input_tokens) if found else None
    if cost:
        expected = min(round(cost.expected * lessons.factor(part.variant)), cost.high)
        cost = Money(min(cost.low, expected), expected, cost.high)
    seconds = lessons.seconds(part.variant)
    if seconds is None and provider and not provider.pretend:
        seconds = _usual(part.variant, catalog.model(part.variant.model, provider))
    size = lessons.bytes(part.variant) or _usual_bytes(part.variant)
    return Group(part, cost, seconds, round(size * part.todo * part.variant.images) + part.todo * BYTES_PER_TASK)


def _usual(variant: Variant, model: Model | None) -> float | None:
    """Seconds that a request takes by the catalog."""
    if model is None or not model.seconds:
        return None
    quality = str(variant.param("quality", "auto"))
    return model.seconds.get(quality, model.seconds.get("medium"))


def _usual_bytes(variant: Variant) -> float:
    width, height = costs.edges(str(variant.param("size", "auto")))
    return width * height * BYTES_PER_PIXEL.get(str(variant.param("output_format", "png")), BYTES_PER_PIXEL["png"])


def _time(groups: Sequence[Group], concurrency: int, paces: Sequence[Paced] = ()) -> tuple[float | None, str]:
    """Seconds until all is done, and what keeps it from being faster; None where no answer is known to go by."""
    todo = [group for group in groups if group.part.todo]
    if not todo:
        return 0.0, "nothing is left to do"
    if any(group.seconds is None for group in todo):
        return None, "not known before the first answers"
    lanes: dict[str, float] = {}
    tasks: dict[str, int] = {}
    for group in todo:
        name, took = group.part.variant.provider, (group.seconds or 0.0) * group.part.todo
        lanes[name], tasks[name] = lanes.get(name, 0.0) + took, tasks.get(name, 0) + group.part.todo
    slowest = max(lanes, key=lambda name: lanes[name])
    seconds = max(lanes[slowest] / concurrency, max(group.seconds or 0.0 for group in todo))
    machine = sum(group.images for group in todo) / RATE_MOST
    slow = max(paces, key=lambda pace: pace.seconds, default=Paced(0.0, ""))
    if slow.seconds > max(seconds, machine):
        return slow.seconds, slow.name
    if machine > seconds:
        return machine, f"this machine: {RATE_MOST:.0f} images a second"
    if max(tasks.values()) <= concurrency:
        return seconds, "the slowest request"
    return seconds, f"limits.concurrency: {concurrency} requests at a time at {slowest}"


def _host(provider: Provider, environ: Mapping[str, str]) -> Host:
    key = provider.api_key_env
    origin = "" if provider.played else catalog.origin(provider.base_url)
    return Host(provider.identity, origin, key, bool(environ.get(key, "").strip()))


def _free(folder: Path) -> int:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _as_of(groups: Sequence[Group], providers: Mapping[str, Provider]) -> str | None:
    """The date of the oldest price list behind the figures."""
    asked = {(group.part.variant.provider, group.part.variant.model) for group in groups}
    known = (catalog.tariff(providers[name], model) for name, model in asked if name in providers)
    return min((tariff.as_of for tariff in known if tariff), default=None)


def _warnings(drawn: Plan, manifest: Manifest, today: date) -> Iterator[str]:
    wanted = [group.part.variant for group in drawn.groups if group.part.todo]
    if drawn.span.until and drawn.span.left:
        left = f"ends the run with about {drawn.span.left:,} of {count(drawn.survey.todo, 'task')} left"
        says = left if drawn.seconds else "is over: nothing will be sent"
        yield f"limits.until ({drawn.span.until.text}) {says}"
    for name in dict.fromkeys(variant.model for variant in wanted):
        yield from _model_warnings(name, today, drawn.seconds or 0.0)
    for name, model in dict.fromkeys((variant.provider, variant.model) for variant in wanted):
        tariff = catalog.tariff(manifest.providers[name], model) if name in manifest.providers else None
        if tariff and tariff.assumed:
            yield f"{model} is reckoned at OpenAI's prices; give the provider {name} a price: if it has its own"
    for name, operation in dict.fromkeys((variant.provider, variant.operation) for variant in wanted):
        provider = manifest.providers.get(name)
        intake = provider.intake(operation) if provider and not provider.pretend else None
        if intake and intake.warning:
            yield f"{name}: {intake.warning}"
    if strays := drawn.survey.strays:
        names = "names a task" if len(strays) == 1 else f"and {len(strays) - 1} more name tasks"
        yield f"{strays[0]} {names} that the manifest does not ask for: no change comes of it"
    for source in manifest.sources:
        yield from source.feed.notes() if source.feed and drawn.survey.rows else ()
    if drawn.bytes > drawn.free:
        yield f"the disk has {size(drawn.free)} free, and about {size(drawn.bytes)} are needed"


def _model_warnings(name: str, today: date, seconds: float) -> Iterator[str]:
    known = catalog.model(name)
    if known is None:
        yield f"the catalog does not know the model {name!r}: it is sent as it stands, its values are not checked"
    elif known.retired and (day := date.fromisoformat(known.retired)) <= today:
        yield f"the model {name!r} was retired by OpenAI on {day}"
    elif known.retired and day <= today + timedelta(seconds=seconds):
        yield f"the model {name!r} will be retired on {day}, before this run is over"
    elif known.retired and day - today <= SOON:
        yield f"the model {name!r} will be retired on {day}, in {(day - today).days} days"


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
