"""The ledger's money against the provider's bill: deal by deal, token by token, and in sum."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from .books import LATE, NEVER_BILLED, PERHAPS_BILLED, Books, Row
from .setup import Setup

TOKENS = {  # the ledger's columns, and where a charge holds the same
    "input_text_tokens": ("input_tokens_details", "text_tokens"),
    "input_image_tokens": ("input_tokens_details", "image_tokens"),
    "output_image_tokens": ("output_tokens_details", "image_tokens"),
    "output_text_tokens": ("output_tokens_details", "text_tokens"),
    "total_tokens": ("total_tokens",),
}


@dataclass(frozen=True, slots=True)
class Deal:
    """What may be charged once: an attempt, or a purchase with all its attempts where the provider honours keys.

    A line of a batch bears no key.
    """

    attempts: list[Row] = field(default_factory=list)
    charges: list[Row] = field(default_factory=list)

    @property
    def states(self) -> set[str]:
        return {attempt["state"] for attempt in self.attempts}

    @property
    def useless(self) -> bool:
        """Whether it brought nothing, and was told so: what is bought in its place is no second purchase."""
        return any(each["state"] == "unusable" and each["code"] != LATE for each in self.attempts)

    def __str__(self) -> str:
        ids = ", ".join(f"{attempt['id'][:8]} {attempt['state']}" for attempt in self.attempts)
        return f"{ids}, charged {[charge['nano_usd'] for charge in self.charges]}"


def deals(books: Books, keyed: bool) -> list[Deal]:
    found: dict[str, Deal] = defaultdict(Deal)
    for attempt in books.attempts:
        deal = found[attempt["purchase" if keyed and not attempt["batch"] else "id"]]
        deal.attempts.append(attempt)
        deal.charges.extend(books.by_attempt.get(attempt["id"], ()))
    return list(found.values())


def twice(books: Books, keyed: bool) -> Counter[int]:
    """By task: charges beyond the first, not counting those whose answer was of no use."""
    charges: Counter[int] = Counter()
    for deal in deals(books, keyed):
        charges[deal.attempts[0]["task"]] += 0 if deal.useless else len(deal.charges)
    return Counter({task: count - 1 for task, count in charges.items() if count > 1})


def problems(books: Books, setup: Setup) -> Iterator[tuple[str, str]]:
    """All that does not agree: the kind of violation, and what is wrong."""
    for deal in deals(books, setup.keyed):
        yield from (("money", f"{says}: {deal}") for says in (*_one(deal), *_tokens(deal)))
    yield from (("stranger", f"no row knows the charge {charge}") for charge in books.strangers)
    yield from _sums(books, setup)
    yield from _duplicates(books, setup)
    yield from _keys(books, setup)


def in_bounds(books: Books) -> bool:
    return books.low <= books.bill <= books.high


def equal(books: Books) -> bool:
    return books.low == books.bill == books.high


def _one(deal: Deal) -> Iterator[str]:
    low, high = (sum(attempt[name] for attempt in deal.attempts) for name in ("cost_low", "cost_high"))
    if len(deal.charges) > (not deal.states <= set(NEVER_BILLED)):
        yield "charged too often"
    if not low <= sum(charge["nano_usd"] for charge in deal.charges) <= high:
        yield f"charged out of bounds, {low} to {high}"
    if "paid" in deal.states and not deal.charges:
        yield "paid and not charged"
    if low < high and deal.states <= {"paid", *NEVER_BILLED} and not any(each["estimated"] for each in deal.attempts):
        yield f"not in doubt, and {low} to {high}"


def _tokens(deal: Deal) -> Iterator[str]:
    """Class by class, where the answer told them; what was told and is not in the ledger was an estimate."""
    told = [attempt for attempt in deal.attempts if attempt["total_tokens"] is not None]
    if any(each["state"] == "paid" and not each["estimated"] and each not in told for each in deal.attempts):
        yield "no estimate, and without tokens"
    for attempt in told if len(deal.charges) == 1 else ():
        for column, path in TOKENS.items():
            value = deal.charges[0]["usage"]
            for name in path:
                value = value[name]
            if attempt[column] != value:
                yield f"{column} are {attempt[column]}, charged {value}"


def _sums(books: Books, setup: Setup) -> Iterator[tuple[str, str]]:
    doubt = books.count(*PERHAPS_BILLED) or any(attempt["estimated"] for attempt in books.attempts)
    if not in_bounds(books) or not (doubt or equal(books)):
        yield "money", f"the bill is {books.bill}, the ledger says {books.low} to {books.high}"
    if books.high > round(setup.budget * 1e9):
        yield "budget", f"up to {books.high} are spent, the budget is {setup.budget}"


def _duplicates(books: Books, setup: Setup) -> Iterator[tuple[str, str]]:
    """Bought twice only what is listed as perhaps billed; where that is held, or a key sent along, nothing at all."""
    excuses: Counter[int] = Counter()
    for attempt in books.attempts:
        if attempt["state"] in PERHAPS_BILLED and (setup.policy == "retry" or (setup.keyed and attempt["batch"])):
            excuses[attempt["task"]] += 1
    for task, count in twice(books, setup.keyed).items():
        if count > excuses[task]:
            yield "twice", f"task {task} was bought {count + 1} times, {excuses[task]} perhaps billed"


def _keys(books: Books, setup: Setup) -> Iterator[tuple[str, str]]:
    """A key is sent to those who honour it, with what is no line of a batch, and it is the purchase's."""
    for charge in books.charges:
        attempt = books.by_id.get(charge["client_request_id"])
        expected = attempt["purchase"] if attempt and setup.keyed and not attempt["batch"] else ""
        if attempt and charge["idempotency_key"] != expected:
            yield "header", f"attempt {attempt['id']} was sent with {charge['idempotency_key']!r}, not {expected!r}"
