"""What the rows of a ledger add up to: sums by kind, and every figure of a report derived from them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from batchgen.task import AttemptState, ImageState, TaskState


class Wanted(StrEnum):
    """What the manifest, or a person, says of a task now; replaced: another one took its place."""

    YES = "yes"
    DROPPED = "dropped"
    REPLACED = "replaced"


class Price(StrEnum):
    """What an attempt's highest cost is. Told: the lowest is the same, and the provider's own count is behind it."""

    UNPRICED = "unpriced"
    ESTIMATED = "estimated"
    TOLD = "told"
    DOUBTED = "doubted"


class Engine(StrEnum):
    """How an attempt was bought: by itself, or in a batch."""

    LOCAL = "local"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class TaskTally:
    """How many tasks are of one kind."""

    variant: int
    wanted: Wanted
    state: TaskState
    tasks: int


@dataclass(frozen=True, slots=True)
class AttemptTally:
    """The attempts of one kind; money in nano-dollars, tokens as the provider counted them."""

    variant: int
    wanted: Wanted
    state: AttemptState
    engine: Engine
    price: Price
    attempts: int
    low: int
    high: int
    input_text_tokens: int
    input_image_tokens: int
    output_tokens: int
    total_tokens: int

    @property
    def is_paid(self) -> bool:
        """Whether it is known to be on the bill, and for how much."""
        return self.price is Price.TOLD and self.state in (AttemptState.PAID, AttemptState.UNUSABLE)


@dataclass(frozen=True, slots=True)
class ImageTally:
    """The images of one kind."""

    variant: int
    wanted: Wanted
    state: ImageState
    images: int
    bytes: int


@dataclass(frozen=True, slots=True)
class LaneSum:
    """What the attempts of one lane came to, nano-dollars, and why it is blocked if it is."""

    name: str
    provider: str
    blocked: str
    attempts: int
    answers: int
    low: int
    high: int
    unpriced: int


T = TypeVar("T", TaskTally, AttemptTally, ImageTally)


@dataclass(frozen=True, slots=True)
class Money:
    """What attempts cost, nano-dollars; how many answers told their price, how many requests may have cost something
    that nobody told, and for how many no price is known."""

    low: int
    high: int
    paid: int
    estimated: int
    answers: int
    doubted: int
    unpriced: int

    @classmethod
    def of(cls, tallies: Sequence[AttemptTally]) -> "Money":
        counts = Counter[Price]()
        for tally in tallies:
            counts[tally.price] += tally.attempts
        return cls(
            low=sum(tally.low for tally in tallies),
            high=sum(tally.high for tally in tallies),
            paid=sum(tally.high for tally in tallies if tally.is_paid),
            estimated=sum(tally.high for tally in tallies if tally.price is Price.ESTIMATED),
            answers=sum(tally.attempts for tally in tallies if tally.is_paid),
            doubted=counts[Price.DOUBTED],
            unpriced=counts[Price.UNPRICED],
        )


@dataclass(frozen=True, slots=True)
class Tallies:
    """All sums over a ledger at one moment, a tally for each kind that occurs, in the order of the variants."""

    tasks: tuple[TaskTally, ...]
    attempts: tuple[AttemptTally, ...]
    images: tuple[ImageTally, ...]

    def task_states(self) -> dict[str, int]:
        """How many wanted tasks are in each state."""
        found = Counter[str]()
        for tally in self.tasks:
            found[tally.state] += tally.tasks * (tally.wanted is Wanted.YES)
        return {str(state): found[state] for state in TaskState}

    def not_wanted(self) -> dict[str, int]:
        """How many tasks are wanted no more."""
        ways = (Wanted.DROPPED, Wanted.REPLACED)
        return {str(way): sum(tally.tasks for tally in self.tasks if tally.wanted is way) for way in ways}

    def attempt_states(self) -> dict[str, int]:
        found = Counter[str]()
        for tally in self.attempts:
            found[tally.state] += tally.attempts
        return {str(state): found[state] for state in AttemptState}

    def money(self) -> Money:
        """Over all attempts, whatever is wanted."""
        return Money.of(self.attempts)

    def engines(self) -> dict[str, Money]:
        """Over all attempts, by how they were bought, where any were."""
        found: dict[str, list[AttemptTally]] = {}
        for tally in self.attempts:
            found.setdefault(str(tally.engine), []).append(tally)
        return {name: Money.of(tallies) for name, tallies in sorted(found.items())}

    def on_the_way(self) -> tuple[int, int]:
        """How many requests are that may cost something, and what they may cost at most."""
        open_ = [tally for tally in self.attempts if tally.state in (AttemptState.SENDING, AttemptState.ACCEPTED)]
        return sum(tally.attempts for tally in open_ if tally.price is Price.DOUBTED), sum(
            tally.high for tally in open_
        )

    def spent_on(self) -> dict[str, int]:
        """What the paid money went for; nano-dollars."""
        found = Counter[str]()
        for tally in self.attempts:
            if tally.state is AttemptState.PAID:
                found["kept" if tally.wanted is Wanted.YES else tally.wanted] += tally.high
            elif tally.state is AttemptState.UNUSABLE:
                found["unusable"] += tally.high
        return {name: found[name] for name in ("kept", "replaced", "dropped", "unusable")}

    def usage(self) -> dict[str, int]:
        """Token sums over all attempts."""
        names = ("input_text_tokens", "input_image_tokens", "output_tokens", "total_tokens")
        return {name: sum(getattr(tally, name) for tally in self.attempts) for name in names}

    def saved(self) -> int:
        """How many images of wanted tasks are saved."""
        return self._images(ImageState.SAVED)

    def broken(self) -> int:
        """How many images of wanted tasks came broken; a second answer may have brought them whole."""
        return self._images(ImageState.BROKEN)

    def _images(self, state: ImageState) -> int:
        return sum(tally.images for tally in self.images if tally.wanted is Wanted.YES and tally.state is state)

    def bytes(self) -> int:
        """Of all images of wanted tasks."""
        return sum(tally.bytes for tally in self.images if tally.wanted is Wanted.YES)

    def by_variant(self) -> "dict[int, Tallies]":
        """What is wanted, a variant apart: those of which a task is."""
        attempts, images = _split(self.attempts), _split(self.images)
        return {
            number: Tallies(tuple(tasks), tuple(attempts.get(number, ())), tuple(images.get(number, ())))
            for number, tasks in _split(self.tasks).items()
        }


def _split(tallies: Iterable[T]) -> dict[int, list[T]]:
    found: dict[int, list[T]] = {}
    for tally in tallies:
        if tally.wanted is Wanted.YES:
            found.setdefault(tally.variant, []).append(tally)
    return found
