"""Somebody's turn before a lane, and why there may be none."""

from dataclasses import dataclass, field

import anyio

from batchgen.pace import Draw

ONE = Draw()


class Stopped(Exception):
    """The lane takes no new request: somebody asked it to drain, or it is blocked."""


class Again(Exception):
    """It is not so any more that the turn may be waited for: the caps have changed."""


@dataclass(slots=True, eq=False)
class Turn:
    """Somebody's place in the queue before a lane, and what will be drawn from its limits.

    `task` is the key of one that may as well be served elsewhere, else "".
    """

    draw: Draw
    task: str = ""
    come: anyio.Event = field(default_factory=anyio.Event)
    admitted: bool = False
    again: bool = False
    ticket: int = 0  # of the gate's, when it was let through
    probe: bool = False  # whether that was to find out if the provider works again
