"""What the program tells its user about a run, against both sides' books."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .books import Books, Row
from .checker import Checker
from .world import World


def check(world: World, checker: Checker, books: Books) -> None:
    """`verify` finds just what is missing, and the report counts every attempt of every run."""
    code, words = world.ask("verify", str(world.manifest))
    wrong = checker.missing | checker.leftover
    unsaid = [path for path in wrong if path not in words]
    if code != (3 if wrong else 0) or unsaid:
        checker.fail("told", f"verify ended with {code} and does not name {unsaid}: {words[-300:]}")
    code, words = world.ask("report", str(world.manifest), "--json")
    try:
        report = json.loads(words)
    except ValueError:
        return checker.fail("told", f"report ended with {code}: {words[-300:]}")
    for name, (says, is_) in compared(report, books).items():
        if says != is_:
            checker.fail("told", f"the report's {name} are {says}, by its rows {is_}")
    return None


def compared(report: dict[str, Any], books: Books) -> dict[str, tuple[object, object]]:
    """What the report says, and what the rows come to."""
    attempts = Counter(attempt["state"] for attempt in books.attempts)
    tasks = Counter(task["state"] for task in books.tasks)
    saved = [row["bytes"] for row in books.images if row["state"] == "saved"]
    beside = sum(row["bytes"] for row in books.images if row["state"] == "partial")
    return {
        "tasks": (some(report["tasks"]), {**tasks, "total": len(books.tasks)}),
        "attempts": (some(report["attempts"]), {**attempts, "total": len(books.attempts)}),
        "images": ((report["images"]["saved"], report["images"]["bytes"]), (len(saved), sum(saved) + beside)),
        "costs": ({name: round(report["cost"][name] * 1e9) for name in COSTS}, dict(costs(books))),
    }


COSTS = ("low", "high", "paid", "estimated", "unknown")


def costs(books: Books) -> Iterator[tuple[str, int]]:
    """Nano-dollars: `paid` is sure, `estimated` is the most for answers without usage, the rest is `unknown`."""
    paid = sum(each["cost_high"] for each in books.attempts if _counted(each) and not each["estimated"])
    estimated = sum(each["cost_high"] for each in books.attempts if each["estimated"])
    yield from (("low", books.low), ("high", books.high), ("paid", paid), ("estimated", estimated))
    yield "unknown", books.high - paid - estimated


def _counted(attempt: Row) -> bool:
    """Whether its price was counted from the usage of its answer, be that of use or not."""
    return attempt["total_tokens"] is not None


def some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
