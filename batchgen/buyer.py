"""A lane's buyer: what becomes of a claimed task, of an attempt that an earlier run began, of one handed over."""

from dataclasses import dataclass, replace

from batchgen.errors import ProviderError
from batchgen.generate import Errand, Means
from batchgen.purse import Exhausted
from batchgen.receipt import Receipt
from batchgen.task import Attempt, AttemptState, Task
from batchgen.turn import Stopped
from batchgen.wire import Reply


@dataclass(frozen=True, slots=True)
class Buyer(Means):
    """Buys with these means, one task or attempt at a time."""

    async def generate(self, task: Task) -> None:
        """Buy a claimed task. Where the lane stops or a cap is reached first, it goes back to the queue."""
        errand = Errand(self, task)
        try:
            await self._run(errand)
        except (Stopped, Exhausted):
            if errand.attempt is None:
                await self.ledger.release([task])
            raise

    async def finish(self, attempt: Attempt) -> None:
        """Go on with an attempt of an earlier run; where it was lost, its task goes back to the queue."""
        self.purse.adopt(attempt)
        await self._run(Errand(self, attempt.task, attempt))

    async def collect(self, attempt: Attempt, came: Reply | ProviderError) -> None:
        """Settle an attempt that was handed over with others, by what came of it."""
        attempt = replace(attempt, handle="")
        if isinstance(came, Reply):
            await Errand(self, attempt.task, attempt, came).run()
        else:
            await Errand(self, attempt.task, attempt).fail(came)

    async def amend(self, attempt: Attempt, found: Receipt) -> None:
        """What came of an attempt that was given up is known after all."""
        settled = Errand(self, attempt.task, attempt).judge(found)
        if settled.attempt is not AttemptState.UNKNOWN:
            settled = await self.ledger.losses.amend(attempt, settled)
            self.purse.adopt(attempt)
            self.purse.settle(attempt, settled)

    async def _run(self, errand: Errand) -> None:
        try:
            await errand.run()
        finally:
            if errand.attempt is not None:
                self.purse.leave(errand.attempt)
