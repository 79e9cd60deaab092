"""Our books against a provider's bill: where they agree, where they do not, and what the bill settles.

Three things decide how much can be told. By the sum alone the bill lies within our bounds or it does not. Where it
names models, each is compared by itself. Where it names requests, each is.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

from batchgen.statement import Line, Statement
from batchgen.task import AttemptState

LATE = timedelta(minutes=10)
"""How long after we gave a request up its provider may still bill it."""
IDS_MOST = 50  # of one command
AGREES, MORE, LESS, DIFFERS = "agrees", "more", "less", "differs"

Span = tuple[datetime, datetime]
_DATED = re.compile(r"-20[0-9]{2}-[0-9]{2}-[0-9]{2}$")
_OPEN = (AttemptState.UNKNOWN, AttemptState.ACCEPTED, AttemptState.SENDING)


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt of ours. `low` and `high` bound what it cost, `least` what it cost if it was billed; nano-dollars."""

    run: str
    id: str
    purchase: str
    request_id: str
    state: str
    model: str
    images: int
    low: int | None
    high: int | None
    least: int
    sent: datetime
    ended: datetime | None

    @property
    def is_borne(self) -> bool:
        """Whether it costs nothing because its provider charged its purchase once, and a later sending was answered."""
        return self.state == AttemptState.UNKNOWN and self.high == 0


@dataclass(slots=True)
class Sums:
    """Of one model, or of all: what we count, and what was billed. `unpriced` of the requests have no known price."""

    requests: int = 0
    low: int = 0
    high: int = 0
    unpriced: int = 0
    billed: int = 0
    slack: int = 0

    @property
    def verdict(self) -> str:
        if self.billed > self.high + self.slack and not self.unpriced:
            return MORE
        return LESS if self.billed < self.low - self.slack else AGREES


@dataclass(slots=True)
class Comparison:
    """What came of it; `rows` by model, one named "" where the bill does not tell models.

    Of requests that the bill names: `matched` are ours, `strangers` are not, `missing` are paid by our books and not
    billed, `off` were billed beyond our bounds. `billed` and `spared` are unanswered requests whose fate it tells.
    """

    measure: str
    span: Span | None
    rows: dict[str, Sums] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    unknown: list[Sent] = field(default_factory=list)
    by_request: bool = False
    matched: int = 0
    strangers: list[Line] = field(default_factory=list)
    missing: list[Sent] = field(default_factory=list)
    off: list[tuple[Sent, int]] = field(default_factory=list)
    billed: list[Sent] = field(default_factory=list)
    spared: list[Sent] = field(default_factory=list)

    @property
    def total(self) -> Sums:
        names = ("requests", "low", "high", "unpriced", "billed", "slack")
        return Sums(**{name: sum(getattr(row, name) for row in self.rows.values()) for name in names})

    @property
    def verdict(self) -> str:
        found = {row.verdict for row in self.rows.values()} - {AGREES}
        if not found and not (self.strangers or self.missing or self.off):
            return AGREES
        return found.pop() if len(found) == 1 else DIFFERS

    @property
    def were_billed(self) -> tuple[int, int]:
        """How many of the unanswered requests were billed, at least and at most, as far as the sum tells."""
        total, prices = self.total, [_if_billed(each, self.measure) for each in self.unknown]
        most = sorted((high for _, high in prices), reverse=True)
        rest = total.billed - (total.high - sum(most)) - total.slack
        left = total.billed - total.low + total.slack
        fewest = next((k for k, money in enumerate(accumulate(most, initial=0)) if money >= rest), len(most))
        cheapest = accumulate(sorted(low for low, _ in prices))
        return (0 if total.unpriced else fewest), max(fewest, sum(money <= left for money in cheapest))


def compare(statement: Statement, attempts: Iterable[Sent], window: Span | None = None) -> Comparison:
    """The attempts of all runs in question against a bill, each run's in their order; within a time if one is given."""
    compared = Comparison(statement.measure, _common(statement.span, window))
    lines = _Lines([line for line in statement.lines if _begins_in(line, window)])
    ours: set[str] = set()
    for attempt in attempts:
        ours.add(_plain(attempt.model))
        named = lines.of(attempt)
        if not attempt.is_borne:
            _count(compared, attempt, named, by_request=bool(lines.named))
    for attempt, named in lines.left():
        _hold_against(compared, attempt, named)
    compared.by_request = compared.matched > 0 or statement.pretend  # the sandbox names all requests as we do
    _add_lines(compared, lines.lines, lines.taken, ours)
    _settle(compared)
    return compared


class _Lines:
    """The lines of a bill by the requests that they name: `named` their numbers by id, `taken` the models by number."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.named: dict[str, list[int]] = {}
        self.taken: dict[int, str] = {}
        self._aside: dict[str, tuple[Sent, set[int]]] = {}
        for n, line in enumerate(lines):
            for each in line.ids:
                self.named.setdefault(each, []).append(n)

    def of(self, attempt: Sent) -> list[Line]:
        """Those of an attempt, and of earlier sendings of its purchase whose cost it bears."""
        numbers = (n for name in (attempt.id, attempt.request_id) for n in self.named.get(name, ()))
        found = {n for n in numbers if n not in self.taken}
        self.taken.update(dict.fromkeys(found, attempt.model))
        if not attempt.is_borne:
            return self._at(found | self._aside.pop(attempt.purchase, (attempt, set()))[1])
        if found:
            self._aside.setdefault(attempt.purchase, (attempt, set()))[1].update(found)
        return []

    def left(self) -> Iterator[tuple[Sent, list[Line]]]:
        """Those of attempts whose cost nobody bears."""
        return ((attempt, self._at(found)) for attempt, found in self._aside.values())

    def _at(self, found: set[int]) -> list[Line]:
        return [self.lines[n] for n in sorted(found)]


def _count(compared: Comparison, attempt: Sent, lines: Sequence[Line], by_request: bool) -> None:
    """One attempt, and the lines that name it."""
    surely, perhaps = (True, True) if lines else _covered(attempt, compared.span)
    if not perhaps:
        compared.outside += 1
        return
    low, high = _bounds(attempt, compared.measure)
    row = compared.rows.setdefault(_plain(attempt.model), Sums())
    row.requests += 1
    row.low += low if surely else 0
    row.high += high or 0
    row.unpriced += high is None
    row.slack += compared.measure == "money"  # each price is rounded to a nano-dollar, here and there
    is_unknown = attempt.state == AttemptState.UNKNOWN
    if is_unknown:
        compared.unknown.append(attempt)
    if lines:
        _hold_against(compared, attempt, lines)
    elif by_request and surely and is_unknown:
        compared.spared.append(attempt)
    elif by_request and surely and low:
        compared.missing.append(attempt)


def _hold_against(compared: Comparison, attempt: Sent, lines: Sequence[Line]) -> None:
    """A request of ours that the bill names."""
    compared.matched += 1
    amounts = [line.amount for line in lines if line.amount is not None]
    billed = sum(amounts)
    if attempt.state == AttemptState.UNKNOWN:
        (compared.billed if billed or not amounts else compared.spared).append(attempt)
    if amounts and not (attempt.low or 0) - 1 <= billed <= (billed if attempt.high is None else attempt.high + 1):
        compared.off.append((attempt, billed))


def _add_lines(compared: Comparison, lines: Sequence[Line], taken: dict[int, str], ours: set[str]) -> None:
    """What was billed, to the model that it is for; lines of models that no run asked for are set apart."""
    told = compared.by_request or any(_plain(line.model) in ours for line in lines)
    kept = []
    for n, line in enumerate(lines):
        if told and n not in taken and line.model and _plain(line.model) not in ours:
            compared.others[line.model] += _value(line, compared.measure)
            continue
        kept.append((_plain(taken.get(n, line.model)), line))
        if compared.by_request and n not in taken and line.amount != 0:
            compared.strangers.append(line)
    if not told or not all(model for model, line in kept if _value(line, compared.measure)):
        compared.rows = {"": compared.total}
        kept = [("", line) for _, line in kept]
    for model, line in kept:
        if model in compared.rows or _value(line, compared.measure):
            compared.rows.setdefault(model, Sums()).billed += _value(line, compared.measure)


def _settle(compared: Comparison) -> None:
    """What the bill says of unanswered requests; one that lacks what we know was paid is not whole: it spares none."""
    if compared.by_request:
        compared.spared = [] if compared.missing else compared.spared
    elif compared.verdict == AGREES and compared.unknown:
        inside = [each for each in compared.unknown if _covered(each, compared.span)[0]]
        least, most = compared.were_billed
        compared.spared = inside if most == 0 else []
        compared.billed = inside if least == len(compared.unknown) else []
    else:
        compared.spared = compared.billed = []
    if not compared.by_request:
        compared.missing = []


def commands(compared: Comparison) -> Iterator[str]:
    """What writes into the books what the bill says of unanswered requests."""
    for flag, found in (("--billed", compared.billed), ("--not-billed", compared.spared)):
        for run in dict.fromkeys(each.run for each in found):
            ids = [id_ for each in found if each.run == run for id_ in _sendings(each, flag, compared)]
            for n in range(0, len(ids), IDS_MOST):
                yield shlex.join(["batchgen", "resolve", run, flag, *ids[n : n + IDS_MOST]])


def _sendings(attempt: Sent, flag: str, compared: Comparison) -> list[str]:
    """A purchase is not billed only if none of its sendings is: all are named."""
    same = [each.id for each in compared.unknown if (each.run, each.purchase) == (attempt.run, attempt.purchase)]
    return [attempt.id] if flag == "--billed" else [*(id_ for id_ in same if id_ != attempt.id), attempt.id]


def _bounds(attempt: Sent, measure: str) -> tuple[int, int | None]:
    """What an attempt may add to a bill that counts so."""
    if measure == "money":
        return attempt.low or 0, attempt.high
    if attempt.state == AttemptState.UNSENT or (measure == "images" and attempt.state == AttemptState.REJECTED):
        return 0, 0
    return int(attempt.state == AttemptState.PAID), attempt.images if measure == "images" else 1


def _if_billed(attempt: Sent, measure: str) -> tuple[int, int]:
    high = _bounds(attempt, measure)[1] or 0
    return (min(attempt.least, high) if measure == "money" else high), high


def _value(line: Line, measure: str) -> int:
    return {"money": line.amount, "images": line.images, "requests": line.requests}[measure] or 0


def _covered(attempt: Sent, span: Span | None) -> tuple[bool, bool]:
    """Whether a bill of that time surely has all of an attempt that was billed, and whether it may have it."""
    if span is None:
        return True, True
    begin, end = span
    last = attempt.ended
    if last and attempt.state in _OPEN:
        last += LATE
    return bool(last and begin <= attempt.sent and last <= end), attempt.sent <= end and (last is None or last >= begin)


def _common(one: Span | None, other: Span | None) -> Span | None:
    if one is None or other is None:
        return one or other
    return max(one[0], other[0]), min(one[1], other[1])


def _begins_in(line: Line, window: Span | None) -> bool:
    return window is None or line.begin is None or window[0] <= line.begin < window[1]


def _plain(model: str) -> str:
    """Without whose it is, and of which day: one who is asked for `openai/x` may bill `x-2026-09-08`."""
    return _DATED.sub("", model.rpartition("/")[2].strip().lower())
