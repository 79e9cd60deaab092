"""What plan, run and retry share: RUN and all that changes what is wanted of it."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from batchgen import offer
from batchgen.commands.options import runs
from batchgen.errors import UsageError
from batchgen.manifest import Setup
from batchgen.terms import ENGINES

F = TypeVar("F", bound=Callable[..., Any])


def budget(function: F) -> F:
    """--budget and --trust-host."""
    for option in (
        click.option("--trust-host", "hosts", multiple=True, help="A host of the manifest that may be given your key."),
        click.option("--budget", type=float, help="USD that the whole job may cost, ever: --set limits.budget=…"),
    ):
        function = option(function)
    return function


def settings(function: F) -> F:
    """What goes before the manifest: --set, --budget, --trust-host."""
    help = "A key of the manifest: request.n=2"
    return click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=help)(budget(function))


def wish(function: Callable[..., Any]) -> Callable[..., Any]:
    """RUN and all that changes what is wanted of it; the function is given the Wish."""

    @wraps(function)
    def wished(
        run: str,
        runs: Path | None,
        sets: Sequence[str],
        budget: float | None,
        hosts: Sequence[str],
        rehearse: bool,
        sample: int | None,
        engine: str | None,
        ray: str | None,
        **others: object,
    ) -> object:
        if ray and engine not in (None, "ray"):
            raise UsageError("--ray-address is for --engine ray")
        chosen = [f"engine={{ray: '{ray}'}}"] if ray else [f"engine={engine}"] if engine else []
        return function(offer.wish(run, runs, setup([*sets, *chosen], budget, hosts, rehearse), sample), **others)

    sandbox_help = "Rehearse: the sandbox plays every provider; no key, no money, a run of its own (NAME.sandbox)."
    sample_help = "Only so many tasks, spread over all combinations; they belong to the job and correct its estimate."
    engine_help = "How to buy: each task by itself, by the provider's Batch API, or by a Ray cluster: --set engine=…"
    ray_help = "The cluster: HOST:PORT, ray://HOST:PORT, or auto, the one that this machine belongs to (the default)."
    for option in (
        click.option("--ray-address", "ray", metavar="ADDRESS", help=ray_help),
        click.option("--engine", type=click.Choice(ENGINES), help=engine_help),
        click.option("--sample", type=click.IntRange(1), metavar="N", help=sample_help),
        click.option("--sandbox", "rehearse", is_flag=True, help=sandbox_help),
        settings,
        runs,
        click.argument("run"),
    ):
        wished = option(wished)
    return wished


def yes(function: F) -> F:
    return click.option("--yes", is_flag=True, help="Do not ask before spending.")(function)


def setup(sets: Sequence[str], budget: float | None, hosts: Sequence[str], rehearse: bool = False) -> Setup:
    """What these options make of a manifest."""
    overrides: dict[str, object] = dict(pair(each) for each in sets)
    if budget is not None:
        overrides["limits.budget"] = budget
    return Setup(overrides=overrides, trust_hosts=frozenset(host.lower() for host in hosts), rehearse=rehearse)


def pair(text: str) -> tuple[str, str]:
    """A key and its value; UsageError where there is no key."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or "" in key.split("."):
        raise UsageError(f"--set {text}: write KEY=VALUE, with dots in the key: --set limits.concurrency=4")
    return key.strip(), value
