"""batchgen resolve: state what became of requests that were never answered."""

from functools import partial
from pathlib import Path

import anyio
import click

from batchgen import costs, decide, hold, offer
from batchgen.commands import options
from batchgen.consent import usd
from batchgen.errors import UsageError
from batchgen.folder import find
from batchgen.manifest import Setup
from batchgen.task import Variant
from batchgen.text import count


@click.command(name="resolve", short_help="State whether unanswered requests were billed.")
@click.argument("run")
@click.argument("attempts", nargs=-1, metavar="[ATTEMPT]...")
@options.runs
@click.option("--billed", is_flag=True, help="The provider's bill has them.")
@click.option("--not-billed", "spared", is_flag=True, help="The provider's bill does not have them.")
def command(run: str, attempts: tuple[str, ...], runs: Path | None, billed: bool, spared: bool) -> None:
    """State a fact about money: whether the provider billed requests that left and were never answered.

    \b
      batchgen report jobs/animals.yaml --attempts unknown                   their ids, to look up at the provider
      batchgen resolve jobs/animals.yaml --not-billed                        all of them
      batchgen resolve jobs/animals.yaml --billed 5c0e…  91ab…               only these

    An attempt that waits for images that the provider never hands over can be named, too: that gives it up.
    It changes the books, not the images: `batchgen retry RUN --held` or `batchgen drop RUN --held` decide about those.
    """
    if billed == spared:
        raise UsageError("say what became of them: --billed or --not-billed")
    folder = find(run, runs)
    manifest = offer.used(folder, Setup(trust_hosts=None))

    def least(variant: Variant) -> int:
        return costs.least(variant, manifest.providers.get(variant.provider))

    with hold.locked(folder):
        found = anyio.run(partial(decide.resolve, folder.ledger, billed, attempts, least))
    click.echo(f"{count(found.attempts, 'request')} {f'billed: {money(found)}' if billed else 'not billed'}")


def money(found: decide.Resolved) -> str:
    """What they may have cost."""
    unknown = f"{found.unpriced:,} at a price that is not known" if found.unpriced else ""
    known = f"between {usd(found.low)} and {usd(found.high)}" if found.low < found.high else usd(found.high)
    return unknown if unknown and not found.high else f"{known}, and {unknown}" if unknown else known
