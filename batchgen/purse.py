"""The job's money while it runs: what is spent, what is set aside, what the next request may cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio

from batchgen import catalog, costs
from batchgen.batch import Load
from batchgen.costs import Money, Quote
from batchgen.limits import Cap
from batchgen.pace import Draw
from batchgen.records import NO_RELIEF, Relief
from batchgen.task import Attempt, AttemptState, Settlement, Task, Variant
from batchgen.terms import Retry, Share


def allowance(retry: Retry, expected: int, dearest: int, width: int) -> int:
    """What may be sent again after an unknown: an amount, or a share of what the whole job is expected to cost.

    By default 1 % of that, at least the `dearest` request, at most as many of those as can be open at once.
    """
    if isinstance(retry.allowance, Share):
        return int(retry.allowance.of_estimate * expected)
    default = min(max(expected // 100, dearest), width * dearest)
    return default if retry.allowance is None else retry.allowance


class Exhausted(Exception):
    """The next request does not fit under a cap, and nothing on its way can make room; the text names the cap."""


@dataclass(slots=True)
class Purse:
    """`budget` and `allowance` in nano-dollars, `images` in images; each over the whole life of the job."""

    providers: Mapping[str, catalog.Provider]
    budget: Cap
    images: Cap
    allowance: Cap
    agreed: bool = False  # whether the budget is what was agreed to, rather than the user's own
    on_the_way: int = 0  # the most that open requests may cost
    _open: int = 0
    _changed: anyio.Event = field(default_factory=anyio.Event)
    _quotes: dict[int, tuple[Variant, Quote | None]] = field(default_factory=dict)
    _tokens: dict[int, tuple[Variant, float]] = field(default_factory=dict)
    _set_aside: dict[str, tuple[int, int]] = field(default_factory=dict)  # money and images, by the key of a task
    _charged: dict[int, int] = field(default_factory=dict)  # by a variant's id(): the most beyond its quote

    def tariff(self, variant: Variant, share: float = 1.0) -> catalog.Tariff | None:
        """What the model costs, at that share of the price."""
        return catalog.at(catalog.tariff(self.providers[variant.provider], variant.model), share)

    def quote(self, task: Task, share: float = 1.0) -> Money | None:
        """What the task costs at that share of the price; None where no price is known."""
        known = self._quotes.get(id(task.variant))
        if known is None:
            known = task.variant, costs.quoted(task.variant, self.providers[task.variant.provider])
            self._quotes[id(task.variant)] = known
        quote = known[1]
        if quote is None:
            return None
        money = quote.of(len(task.prompt.encode()), input_tokens=task.input_tokens).at(share)
        high = max(money.high, self._charged.get(id(task.variant), 0))
        aside, images = self._set_aside.get(task.key, (0, 0))
        return replace(money, high=aside if images else high)  # what is set aside stays so, whatever is learnt

    def draw(self, task: Task) -> Draw:
        """What the task takes of a provider's limits; tokens as they are expected."""
        known = self._tokens.get(id(task.variant))
        if known is None:
            known = task.variant, costs.tokens(task.variant, self.providers[task.variant.provider])
            self._tokens[id(task.variant)] = known
        return Draw(task.variant.images, known[1] + costs.text_tokens(len(task.prompt.encode())) + task.input_tokens)

    def recap(self, budget: int | None = None, images: int | None = None) -> None:
        """Other caps, by a person's word: it is newer than what was agreed to. Those who wait look again."""
        if budget is not None:
            self.budget.limit, self.agreed = budget, False
        if images is not None:
            self.images.limit = images
        self._wake()

    async def room(self, task: Task, share: float = 1.0) -> None:
        """Wait until its highest price fits, as requests on their way settle for less; Exhausted at the end.

        Nothing is set aside yet: who waits for its turn keeps nobody else from buying.
        """
        while not self._fits(*self._takes(task, share)):
            if not self._open:
                money = "what was agreed to: a run draws up a new plan" if self.agreed else "budget"
                raise Exhausted("limits.images" if self.budget.fits(self._takes(task, share)[0]) else money)
            await self._changed.wait()

    def reserve(self, task: Task) -> bool:
        """Set the highest price aside, if it fits."""
        high, images = self._takes(task)
        if not self._fits(high, images):
            return False
        self._enter(high)
        self._set_aside[task.key] = high, images
        self.budget.reserve(high)
        self.images.reserve(images)
        return True

    def commit(self, tasks: Sequence[Task], share: float) -> int:
        """Set aside what the first of them may cost, as many as fit, for longer than this program may live."""
        for n, task in enumerate(tasks):
            high, images = self._takes(task, share)
            if not self._fits(high, images):
                return n
            self._enter(high)
            self.budget.reserve(high)
            self.images.reserve(images)
        return len(tasks)

    def undo(self, load: Load) -> None:
        """Those that were committed were never sent."""
        self.budget.settle(load.high, 0)
        self.images.settle(load.images, 0)
        self.part(load)

    def join(self, load: Load) -> None:
        """Attempts of an earlier run are on their way; what they may cost is among what was spent."""
        self._open += load.attempts
        self.on_the_way += load.high

    def part(self, load: Load) -> None:
        """Open attempts are left to the next run: what they may cost stays set aside, and nobody need wait for it."""
        self._open -= load.attempts
        self.on_the_way -= load.high
        self._wake()

    def _takes(self, task: Task, share: float = 1.0) -> tuple[int, int]:
        """Money and images that its next sending may add."""
        high, images = self._most(task, share), task.variant.images
        if task.replay:  # its purchase is among what is spent
            return max(0, high - task.counted), 0
        return high, images

    def _fits(self, high: int, images: int) -> bool:
        return self.budget.fits(high) and self.images.fits(images)

    def adopt(self, attempt: Attempt) -> None:
        """An attempt of an earlier run is on its way; what it may cost is among what was spent."""
        self._enter(attempt.cost_high or 0)

    def _enter(self, high: int) -> None:
        self._open += 1
        self.on_the_way += high

    def cancel(self, task: Task) -> None:
        """Nothing was sent: put back what was set aside."""
        self._close(task, 0, images=0, cost=0)

    def settle(self, attempt: Attempt, settled: Settlement, relief: Relief = NO_RELIEF) -> None:
        """Replace what was set aside by what it came to; `relief` is what earlier sendings count for no more."""
        self.budget.settle(relief.money, 0)
        self.images.settle(relief.images, 0)
        bought = settled.attempt not in (AttemptState.REJECTED, AttemptState.UNSENT)
        images = attempt.task.variant.images if bought else 0
        if (settled.cost_high or 0) > (attempt.cost_high or 0):  # the next may be as dear
            kind = id(attempt.task.variant)
            self._charged[kind] = max(self._charged.get(kind, 0), settled.cost_high or 0)
        self._close(attempt.task, attempt.cost_high or 0, images, settled.cost_high or 0)

    def leave(self, attempt: Attempt) -> None:
        """An open attempt is left to the next run: what it may cost stays set aside, and nobody need wait for it."""
        self._close(attempt.task, attempt.cost_high or 0, attempt.task.variant.images, attempt.cost_high or 0)

    def _most(self, task: Task, share: float) -> int:
        money = self.quote(task, share)
        return money.high if money else 0

    def _close(self, task: Task, before: int, images: int, cost: int) -> None:
        """`before` is what an attempt of an earlier run was counted at, for which nothing was set aside here."""
        self._open -= 1
        reserved, many = self._set_aside.pop(task.key, (before, task.variant.images))
        self.on_the_way -= reserved
        self.images.settle(many, images)
        self.budget.settle(reserved, cost)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
