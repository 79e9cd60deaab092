"""Options that several verbs share, and how a terminal shows money and strange text."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
NANO = 1_000_000_000
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


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


def clean(text: object) -> str:
    """Text from outside without control characters, so that it cannot steer a terminal."""
    return CONTROL.sub("", str(text).replace("\n", " "))
