"""batchgen redo: have tasks made again, with another prompt or as they are, then run."""

from collections.abc import Sequence
from pathlib import Path

import click

from batchgen import amend
from batchgen.commands import options, wishes
from batchgen.commands.run import execute
from batchgen.errors import UsageError
from batchgen.fixes import NOTE, TASK
from batchgen.text import count


@click.command(name="redo", short_help="Make tasks again, with a changed prompt or as they are; then run.")
@click.argument("run")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--from", "file", type=click.Path(path_type=Path, dir_okay=False), help="A table: task, prompt, …")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="What changes: prompt=…, or a parameter.")
@click.option("--note", default="", help="Why; it stands beside the fix.")
@options.runs
@wishes.budget
@wishes.yes
def command(
    run: str,
    keys: Sequence[str],
    file: Path | None,
    sets: Sequence[str],
    note: str,
    runs: Path | None,
    budget: float | None,
    hosts: Sequence[str],
    yes: bool,
) -> int:
    """Have tasks made again, with another prompt or as they are, then run.

    \b
      batchgen redo jobs/animals.yaml 6bz4xq7cl5mdwyta                        another take
      batchgen redo jobs/animals.yaml 6bz4xq7cl5mdwyta --set prompt="A heron at dusk"
      batchgen report jobs/animals.yaml --state refused --csv > refused.csv   edit the prompts, then
      batchgen redo jobs/animals.yaml --from refused.csv

    The changes are kept in a CSV beside the manifest (NAME.fixes.csv, or what its fixes: says), and hold for every run
    to come; nothing else is bought now. What was made before is replaced: kept, counted in the costs, and not exported.
    """
    if bool(keys) == bool(file):
        raise UsageError("say what to make again: keys, or --from and a table")
    if file and (sets or note):
        raise UsageError("--set and --note go with keys: a table has columns for them")
    asked = amend.listed(file) if file else amend.named(keys, dict(map(change, sets)), note)
    drawn = amend.draw_up(run, runs, wishes.setup((), budget, hosts), asked)
    if drawn.idle:
        has, is_ = ("has", "is") if drawn.idle == 1 else ("have", "are")
        tasks = count(drawn.idle, "task")
        options.tell(f"{tasks} {has} all that already, and {is_} left alone; an empty prompt is another take")
    if not drawn.rows:
        return 0
    options.tell(f"Redo     {count(drawn.rows, 'task')}, by {drawn.file}")
    return execute(drawn.wish, yes, drawn.write)


def change(text: str) -> tuple[str, str]:
    """What a --set says; UsageError where it says nothing."""
    name, value = wishes.pair(text)
    if not value.strip() or name in (TASK, NOTE):
        hint = "--note says why" if name == NOTE else "without any --set it is another take"
        raise UsageError(f"--set {text}: nothing is changed by this; {hint}")
    return name, value
