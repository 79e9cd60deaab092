"""batchgen plan: what a run would do, cost and take; nothing is written or sent."""

import click

from batchgen import offer, outline, report
from batchgen.commands import options, tables, wishes
from batchgen.offer import Wish
from batchgen.text import clean


@click.command(name="plan", short_help="What a run would do, cost and take; writes nothing.")
@wishes.wish
@options.as_json
def command(wish: Wish, as_json: bool) -> None:
    """What a run would do, cost and take; writes nothing, sends nothing.

    \b
      batchgen plan jobs/animals.yaml
      batchgen plan jobs/animals.yaml --set samples=3 --json
    """
    plan = offer.drawn_up(wish)
    if as_json:
        click.echo(report.dumps(outline.build(plan)))
        return
    if plan.survey.todo:
        tables.show(outline.table(plan), plan.job)
    for line in outline.lines(plan):
        click.echo(clean(line))
