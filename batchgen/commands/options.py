"""What several verbs share: options, how money is shown, how a person is told something."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from batchgen.task import TaskState
from batchgen.text import clean

F = TypeVar("F", bound=Callable[..., Any])


def runs(function: F) -> F:
    """--runs DIR."""
    folder = click.Path(file_okay=False, path_type=Path)
    return click.option("--runs", type=folder, help="Where runs lie, if not beside the manifest or its jobs/ folder.")(
        function
    )


def as_json(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")(function)


def ended(function: F) -> F:
    """Which of the tasks that ended without an image: --held, --failed, --refused."""
    for option in (
        click.option("--refused", is_flag=True, help="The provider's safety system said no."),
        click.option("--failed", is_flag=True, help="Gave up, or can never work as they are."),
        click.option("--held", is_flag=True, help="Perhaps paid, and no answer came."),
    ):
        function = option(function)
    return function


def states(held: bool, failed: bool, refused: bool) -> list[TaskState]:
    """What `ended` chose."""
    chosen = {TaskState.HELD: held, TaskState.FAILED: failed, TaskState.REFUSED: refused}
    return [state for state, is_chosen in chosen.items() if is_chosen]


def terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def tell(text: object) -> None:
    """A line on stderr. Where nobody can read it any more, the run goes on in silence: it may be paid for."""
    try:
        click.echo(clean(text), err=True)
    except OSError:
        mute(sys.stderr.fileno())


def mute(stream: int) -> None:
    """Let a stream's words go nowhere, those at the end of the process too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)
