"""What several verbs share: options, how money is shown, how a person is told something."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from batchgen.text import clean

F = TypeVar("F", bound=Callable[..., Any])
NANO = 1_000_000_000


def runs(function: F) -> F:
    """--runs DIR."""
    folder = click.Path(file_okay=False, path_type=Path)
    return click.option("--runs", type=folder, help="Where runs lie, if not beside the manifest or its jobs/ folder.")(
        function
    )


def as_json(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")(function)


def dollars(nano: float) -> str:
    """USD for people: cents where they matter, more places where an amount is small."""
    usd = nano / NANO
    return f"${usd:,.2f}" if usd == 0 or abs(usd) >= 1 else f"${usd:.4f}"


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
