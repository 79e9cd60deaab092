"""What a run will come to before it spends anything: price, time, disk, hosts, and what speaks against it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from batchgen import catalog, costs, deadline, lessons, schedule, shelf
from batchgen.catalog import Provider
from batchgen.compare import Part, Survey
from batchgen.costs import Money
from batchgen.deadline import Span
from batchgen.lessons import Lessons
from batchgen.manifest import Manifest
from batchgen.pace import Learned
from batchgen.purse import allowance
from batchgen.schedule import Paced
from batchgen.shelf import Experience
from batchgen.task import Operation, Variant
from batchgen.terms import Engine
from batchgen.text import count, size

SOON = timedelta(days=30)
RATE_MOST = 100.0  # images a second that one machine reads, checks and saves; more is not promised
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
class Way:
    """What is to do, bought by one engine: nano-dollars, and seconds: as expected, or within which it is promised."""

    engine: str
    cost: Money
    seconds: float | None
    within: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A survey with its price. `budget` and `spent` are of the whole job, ever, in nano-dollars.

    `whole` is what all of it, done or not, is expected to cost, `again` what may come on top for requests that are sent
    a second time, because nothing usable came to the first; `rest`, what open batches may cost more. `free` are bytes
    of the disk, `store` is the URL of another place for images, `answers` is how many corrected the estimate, `ways`
    are those by which it could be bought.
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
    rest: int
    again: int
    answers: int
    free: int
    store: str
    span: Span
    pretend: bool
    prices_as_of: str | None
    engine: Engine
    ways: tuple[Way, ...]
    tells: tuple[str, ...]
    warnings: tuple[str, ...] = ()

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

    @property
    def bytes_here(self) -> int:
        """Those of them that the run's folder has to take."""
        return self.survey.todo * BYTES_PER_TASK if self.store else self.bytes


def draw(
    manifest: Manifest,
    survey: Survey,
    folder: Path,
    ledger: Path | None,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
) -> Plan:
    """The plan of a run. What was paid for already corrects the estimate of what is left."""
    had, spent, held, learned = _past(ledger) if ledger and (survey.todo or survey.away) else ([], 0, 0, {})
    taught = Lessons(had, manifest.providers)
    now = tuple(_group(part, manifest.providers.get(part.variant.provider), taught) for part in survey.parts)
    groups = tuple(_by(manifest.engine, group, _share(group.part, manifest)) for group in now)
    widths, paces = schedule.widths(manifest), schedule.paces(survey.parts, manifest, learned)
    alone = Span(clock(), *_time(now, widths, paces))
    whole, dearest = _whole(survey.parts, manifest)
    asked = [each for name, each in manifest.providers.items() if _asks(groups, name)]
    drawn = Plan(
        job=manifest.name,
        folder=folder,
        resumed=ledger is not None,
        survey=survey,
        groups=groups,
        hosts=tuple(_host(lane, environ) for provider in asked for lane in provider.lanes),
        budget=manifest.limits.budget,
        spent=spent,
        whole=whole,
        rest=_rest(held, manifest),
        again=allowance(manifest.retry, whole, dearest, sum(widths.values())),
        answers=taught.behind(survey.parts),
        free=_free(folder),
        store=manifest.store and f"{manifest.store}/{folder.name}",
        span=deadline.cut(_batched(alone, manifest.engine), manifest.limits.until, survey.todo),
        pretend=all(provider.pretend for provider in asked or manifest.providers.values()),
        prices_as_of=_as_of(groups, manifest.providers),
        engine=manifest.engine,
        ways=tuple(_ways(now, manifest, alone.seconds)),
        tells=manifest.notify.hearers if manifest.notify else (),
    )
    return replace(drawn, warnings=tuple(_warnings(drawn, manifest, datetime.now(UTC).date())))


def _by(engine: Engine, group: Group, share: float | None) -> Group:
    """What it costs by that engine; where batches may end before all is there, up to the whole price."""
    if not engine.batch or share is None or group.cost is None:
        return group
    cheap = group.cost.at(share)
    return replace(group, cost=replace(cheap, high=group.cost.high) if engine.until else cheap)


def _share(part: Part, manifest: Manifest) -> float | None:
    """Of the price, what a Batch API takes for it; None where none can be asked."""
    provider = manifest.providers.get(part.variant.provider)
    rules = provider.batch if provider and part.variant.operation is not Operation.VARY else None
    return rules.share if rules else None


def _batched(alone: Span, engine: Engine) -> Span:
    if not engine.batch or alone.seconds == 0:  # nothing is to do
        return alone
    until = f" until {engine.until.text}, then each by itself" if engine.until else ", within 24 h"
    return Span(alone.drawn, None, f"the provider's Batch API{until}")


def _ways(groups: Sequence[Group], manifest: Manifest, seconds: float | None) -> Iterator[Way]:
    """The engines that could buy all that is to do."""
    todo, nothing = [group for group in groups if group.part.todo], Money(0, 0, 0)
    yield Way("local", sum((group.cost for group in todo if group.cost), nothing), seconds)
    shares = [_share(group.part, manifest) for group in todo]
    if todo and None not in shares:
        pairs = zip(todo, shares, strict=True)
        cost = sum((group.cost.at(share or 1.0) for group, share in pairs if group.cost), nothing)
        rules = [provider.batch.seconds for provider in manifest.providers.values() if provider.batch]
        yield Way("batch", cost, None, max(rules))


def _whole(parts: Sequence[Part], manifest: Manifest) -> tuple[int, int]:
    """What the whole job is expected to cost, done or not, and what its dearest request may."""
    expected = dearest = 0
    for part in parts:
        if found := costs.quoted(part.variant, manifest.providers.get(part.variant.provider)):
            times = part.tasks / max(1, part.todo)  # what is done is like what is to do
            size, tokens = round(times * part.prompt_bytes), round(times * part.input_tokens)
            share = (_share(part, manifest) or 1.0) if manifest.engine.batch else 1.0
            expected += found.of(size, part.tasks, tokens).at(share).expected
            dearest = max(dearest, found.of(part.longest, input_tokens=part.most_tokens).high)
    return expected, dearest


def _past(ledger: Path) -> tuple[list[Experience], int, int, Mapping[str, Sequence[Learned]]]:
    with shelf.opened(ledger) as there:
        return there.experience(), there.spent(), there.handed_over(), there.quotas()


def _rest(held: int, manifest: Manifest) -> int:
    """What all that is in open batches may cost more, where what does not come in time is bought by itself."""
    shares = [
        provider.batch.share for provider in manifest.providers.values() if provider.batch and provider.batch.share
    ]
    return round(held / min(shares)) - held if manifest.engine.until and shares else 0


def _asks(groups: Sequence[Group], provider: str) -> bool:
    return any(group.part.todo for group in groups if group.part.variant.provider == provider)


def _group(part: Part, provider: Provider | None, taught: Lessons) -> Group:
    found = costs.quoted(part.variant, provider)
    cost = found.of(part.prompt_bytes, part.todo, part.input_tokens) if found else None
    if cost:
        expected = min(round(cost.expected * taught.factor(part.variant)), cost.high)
        cost = Money(min(cost.low, expected), expected, cost.high)
    seconds = taught.seconds(part.variant)
    if seconds is None and provider and not provider.pretend:
        seconds = lessons.usual(part.variant, catalog.model(part.variant.model, provider))
    size = taught.bytes(part.variant) or lessons.usual_bytes(part.variant)
    return Group(part, cost, seconds, round(size * part.todo * part.variant.images) + part.todo * BYTES_PER_TASK)


def _time(groups: Sequence[Group], widths: Mapping[str, int], paces: Sequence[Paced] = ()) -> tuple[float | None, str]:
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
    slowest = max(lanes, key=lambda name: lanes[name] / widths[name])
    seconds = max(lanes[slowest] / widths[slowest], max(group.seconds or 0.0 for group in todo))
    machine = sum(group.images for group in todo) / RATE_MOST
    slow = max(paces, key=lambda pace: pace.seconds, default=Paced(0.0, ""))
    if slow.seconds > max(seconds, machine):
        return slow.seconds, slow.name
    if machine > seconds:
        return machine, f"this machine: {RATE_MOST:.0f} images a second"
    if all(count <= widths[name] for name, count in tasks.items()):
        return seconds, "the slowest request"
    return seconds, f"limits.concurrency: {widths[slowest]} requests at a time at {slowest}"


def _host(lane: Provider, environ: Mapping[str, str]) -> Host:
    key, origin = lane.api_key_env, "" if lane.played else catalog.origin(lane.base_url)
    return Host(lane.lane, origin, key, bool(environ.get(key, "").strip()))


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
    yield from _batch_warnings(wanted, manifest)
    if strays := drawn.survey.strays:
        names = "names a task" if len(strays) == 1 else f"and {len(strays) - 1} more name tasks"
        yield f"{strays[0]} {names} that the manifest does not ask for: no change comes of it"
    for source in manifest.sources:
        yield from source.feed.notes() if source.feed and drawn.survey.rows else ()
    if drawn.bytes_here > drawn.free:
        yield f"the disk has {size(drawn.free)} free, and about {size(drawn.bytes_here)} are needed"


def _batch_warnings(wanted: Sequence[Variant], manifest: Manifest) -> Iterator[str]:
    """What may come of asking a Batch API for it."""
    for name, model in dict.fromkeys((each.provider, each.model) for each in wanted if manifest.engine.batch):
        provider = manifest.providers.get(name)
        known = provider.batch.models if provider and provider.batch else ()
        if known and model not in known:
            yield f"nobody has said whether {model} can be had by the Batch API of {name}: it may refuse all of it"
    until = manifest.engine.until
    if wanted and until and until.moment(time.time()) <= time.time():
        yield f"engine.until ({until.text}) is over: all is bought by itself, at the full price"
    if manifest.engine.batch and any(each.param("stream") for each in wanted):
        yield "nothing is streamed out of a batch: stream and partial_images are left out"


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
