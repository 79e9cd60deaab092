"""`python -m tests.torture.halt POINT,… …`: batchgen, killed where it is about to do, or has just done, some step.

It says at which of the points that was. A step is a method of who writes batches down, or asks for them:
`after/BatchBook.creating/2` is when the second batch may be created, and nobody was asked to.
"""

import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from .tracer import Point

PIECE = 1 << 15  # bytes that are fetched at a time, so that a small file is read in many pieces
ROOMS = {"BatchBook": "batchbook", "Counter": "counter", "Ledger": "ledger", "Crew": "crew", "Losses": "losses"}
KILLED = "killed at"
Step = Callable[..., Awaitable[Any]]


def halting(step: Step, point: Point) -> Step:
    """The step, which does not survive the k-th time."""
    times = 0

    async def halted(*given: Any, **named: Any) -> Any:
        nonlocal times
        times += 1
        last = times == point.k
        if last and point.phase == "before":
            die(point)
        try:
            return await step(*given, **named)
        finally:
            if last:
                die(point)

    return halted


def die(point: Point) -> None:
    os.write(sys.stderr.fileno(), f"{KILLED} {point}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    points, *arguments = sys.argv[1:]
    for point in map(Point.parse, points.split(",")):
        home, _, name = point.call.partition(".")
        place = getattr(importlib.import_module(f"batchgen.{ROOMS[home]}"), home)
        setattr(place, name, halting(getattr(place, name), point))
    vars(importlib.import_module("batchgen.collect"))["PIECE"] = PIECE
    importlib.import_module("batchgen.cli").main(arguments)


if __name__ == "__main__":
    main()
