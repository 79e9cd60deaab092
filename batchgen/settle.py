"""How an attempt ended, as a Settlement: the error's kind decides about the attempt, its task, and the money. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from batchgen import costs
from batchgen.catalog import Tariff
from batchgen.costs import Money
from batchgen.errors import Blocked, Busy, Gone, ProviderError, Refused, Rejected, Transient, Unknown, Unsent, Unusable
from batchgen.limits import Cap
from batchgen.task import MISSING, Attempt, AttemptState, ImageState, Settlement, Task, TaskState
from batchgen.wire import Outcome


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a task is tried, and whether one of unknown fate is sent again.

    `patient`: one whose provider wants a person waits for that, instead of going back to the queue.
    """

    attempts: int
    resend_unknown: bool
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """An attempt to be judged: how many tries its task used up before, the rules, and what a re-send may still take.

    `replay`: the provider remembers its purchase's key, so that a re-send buys nothing. `sole`: it did when this was
    sent. `probe`: it was sent to find out whether the provider works again.
    """

    attempt: Attempt
    tries: int
    policy: Policy
    allowance: Cap
    replay: bool = False
    sole: bool = False
    probe: bool = False

    @property
    def resent(self) -> bool:
        """Whether it belongs to a purchase whose fate is not known, under a key that its provider remembers."""
        return self.sole and self.attempt.since != self.attempt.sent


def success(attempt: Attempt, outcome: Outcome, tariff: Tariff | None, money: Money | None) -> Settlement:
    """Paid, at the price of its usage; without usage, within the bounds of the estimate, and marked as one."""
    settled = Settlement(
        AttemptState.PAID,
        TaskState.DONE,
        images=outcome.images,
        usage=outcome.usage,
        said=outcome.said,
        status=outcome.status,
        request_id=outcome.request_id,
    )
    before = attempt.cost_high if money and attempt.cost_high != money.high else None
    bill = _bill(attempt.task, outcome, tariff, before)
    if bill:
        return replace(settled, cost_low=min(bill), cost_high=max(bill), estimated=len(bill) > 1)
    high = attempt.cost_high  # as it was when it was sent; the catalog may know better since
    if money is None:
        return replace(settled, cost_low=None if high is None else 0, cost_high=high, estimated=True)
    high = money.high if high is None else max(money.high, high)
    return replace(settled, cost_low=min(money.low, high), cost_high=high, estimated=True)


def _bill(task: Task, outcome: Outcome, tariff: Tariff | None, before: int | None) -> set[int]:
    """What the answer may be billed at, by all that it says: one figure, or those between which the bill lies, or none.

    Who counts by the image may count those that were asked for or those that came, at the price of now or that from
    `before`, when it was sent in an earlier run. An edit whose input nobody split may have been text or images.
    """
    asked, usage = task.variant.images, outcome.usage
    cost = costs.price(tariff, usage, asked)
    if cost is None or (usage and usage.charged is not None):
        return set() if cost is None else {cost}
    bill = {cost}
    if costs.flat(tariff):
        came = [each for each in outcome.images if each.note != MISSING and each.state is not ImageState.PARTIAL]
        bill |= {costs.price(tariff, None, len(came)) or 0}
        bill |= {before} if before is not None else set()
    elif usage and usage.unsplit and task.inputs:
        into, cached = usage.input_text + usage.input_image, usage.cached_text + usage.cached_image
        nothing = replace(usage, input_text=0, input_image=0, cached_text=0, cached_image=0)
        ways = (
            replace(nothing, input_text=into, cached_text=cached),
            replace(nothing, input_image=into, cached_image=cached),
        )
        bill |= {costs.price(tariff, each, asked) or 0 for each in ways}
    return bill


def redacted(outcome: Outcome, redact: Callable[[str], str]) -> Outcome:
    """The outcome without the key, whatever an answer said beside its images."""
    texts = [*(text for each in outcome.images for text in (each.revised, each.note)), outcome.request_id]
    texts += [outcome.usage.note] if outcome.usage else []
    whole = "\n".join([*texts, *(value for _, value in outcome.said if isinstance(value, str))])
    if redact(whole) == whole:  # as good as ever
        return outcome
    images = tuple(replace(each, revised=redact(each.revised), note=redact(each.note)) for each in outcome.images)
    usage = outcome.usage and replace(outcome.usage, note=redact(outcome.usage.note))
    said = tuple((name, redact(value) if isinstance(value, str) else value) for name, value in outcome.said)
    return replace(outcome, images=images, usage=usage, said=said, request_id=redact(outcome.request_id))


def broken(outcome: Outcome) -> Unusable | None:
    """The error of an answer in which no image is whole; None where one is."""
    if any(image.state is ImageState.SAVED for image in outcome.images):
        return None
    notes = "; ".join(sorted({image.note for image in outcome.images}))
    return Unusable(notes, code="broken", status=outcome.status, request_id=outcome.request_id)


def failure(case: Case, error: ProviderError) -> Settlement:
    """What an attempt that brought no image comes to."""
    state = _attempt_state(error)
    task, allowance = _task_state(case, error)
    high = case.attempt.cost_high if state in (AttemptState.UNKNOWN, AttemptState.UNUSABLE) else 0
    return Settlement(
        state,
        task,
        cost_low=0 if high is not None else None,
        cost_high=high,
        allowance=allowance,
        used_up=not _spared(case, error),
        replay=task in (TaskState.TODO, TaskState.DOING) and not allowance and _replayed(case, error),
        sole=case.sole and state in (AttemptState.UNKNOWN, AttemptState.UNUSABLE),
        status=error.status,
        code=error.code,
        error=str(error),
        request_id=error.request_id,
    )


def _replayed(case: Case, error: ProviderError) -> bool:
    """Whether the task's next sending is covered by the key of a purchase that is open, and by nothing else."""
    return case.resent or (case.replay and isinstance(error, Unknown))


def _spared(case: Case, error: ProviderError) -> bool:
    """Whether the task did nothing wrong, so that no try of its is used up."""
    clear_no = isinstance(error, Transient) and not isinstance(error, Unsent)
    return isinstance(error, Unsent | Busy | Blocked) or error.status == 429 or (case.probe and clear_no)


def _attempt_state(error: ProviderError) -> AttemptState:
    if isinstance(error, Unsent):
        return AttemptState.UNSENT
    if isinstance(error, Unusable | Gone):
        return AttemptState.UNUSABLE
    perhaps_billed = isinstance(error, Unknown) or (isinstance(error, Refused) and error.billed)
    return AttemptState.UNKNOWN if perhaps_billed else AttemptState.REJECTED


def _task_state(case: Case, error: ProviderError) -> tuple[TaskState, int]:
    """What becomes of the task (`doing`: it is tried again), and what that takes from the allowance."""
    last_try = case.tries + 1 >= case.policy.attempts
    if isinstance(error, Blocked):
        return (TaskState.DOING if case.policy.patient else TaskState.TODO), 0
    if isinstance(error, Refused):
        return TaskState.REFUSED, 0
    if isinstance(error, Gone):  # never bought again by itself
        return TaskState.HELD, 0
    if isinstance(error, Rejected):
        return (TaskState.HELD if case.resent else TaskState.FAILED), 0
    if isinstance(error, Unknown | Unusable):
        unusable = isinstance(error, Unusable)
        return _again(case, last_try, unusable, allowed=case.policy.resend_unknown or unusable)
    if _spared(case, error) or not last_try:
        return TaskState.DOING, 0
    return (TaskState.HELD if case.resent else TaskState.FAILED), 0


def _again(case: Case, last_try: bool, unusable: bool, allowed: bool) -> tuple[TaskState, int]:
    """A second purchase needs the user's allowance; without a price nobody can say whether it holds."""
    price = case.attempt.cost_high
    if last_try or not allowed:
        return TaskState.HELD, 0
    if case.replay and not unusable:
        return TaskState.DOING, 0
    if price is None or not case.allowance.fits(price):
        return TaskState.HELD, 0
    return TaskState.DOING, price
