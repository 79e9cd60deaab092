"""batchgen init: a commented manifest to start from."""

import re
import shlex
from importlib.resources import files
from pathlib import Path

import click

from batchgen import document
from batchgen.errors import UsageError


@click.command(name="init", short_help="A commented manifest to start from.")
@click.argument("file", default="jobs/first.yaml", type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path) -> None:
    """Write a commented manifest to start from; an existing file is never touched.

    \b
      batchgen init                       jobs/first.yaml
      batchgen init jobs/animals.yaml
    """
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{file}: give it a name that ends in .yaml")
    name = _name(file.stem)
    text = (files("batchgen") / "first.yaml").read_text(encoding="utf-8")
    text = text.replace("name: first", f"name: {name}", 1).replace("runs/first/", f"runs/{name}/")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is there already: give another name") from None
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    shown = shlex.quote(str(file))
    click.echo(f"{file} written. Next:")
    click.echo(f"  batchgen plan {shown}")
    click.echo(f"  batchgen run {shown} --sandbox      a rehearsal: no key, no money")


def _name(stem: str) -> str:
    """A file's name as a run's, and as YAML takes it for text."""
    name = re.sub("[^A-Za-z0-9._-]+", "-", stem)[:100].strip(".-") or "first"
    return name if isinstance(document.parse(name, "name").value, str) else f'"{name}"'
