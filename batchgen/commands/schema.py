"""batchgen schema: what editors need to know of manifests."""

import click

from batchgen import report, schema


@click.command(name="schema", short_help="A JSON Schema of manifests, for editors.")
def command() -> None:
    """Print a JSON Schema of manifests, with which an editor completes keys and values and underlines mistakes.

    \b
      batchgen schema > jobs/schema.json

    The first line of a manifest beside it then tells the editor: VS Code with its YAML extension, IntelliJ, or any
    other one that speaks to yaml-language-server.

    \b
      # yaml-language-server: $schema=schema.json

    It knows the providers, parameters and models of this version: print it again after an update.
    """
    click.echo(report.dumps(schema.build()))
