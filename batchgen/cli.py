"""The table of verbs, and the one place where errors become messages and exit codes."""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches

import click

from batchgen import __version__
from batchgen.errors import BatchgenError
from batchgen.redact import redact, secrets
from batchgen.text import clean

VERBS = {
    "init": "A commented manifest to start from.",
    "plan": "What a run would do, cost and take; writes nothing.",
    "run": "Run a manifest, or go on with a run.",
    "status": "How far a run is.",
    "set": "Change the limits of a run while it works, or pause it.",
    "report": "What a run made and what it cost.",
    "view": "Look at a run in the browser, also while it works.",
    "costs": "What was spent, over runs.",
    "retry": "Try again what failed, was refused, or is held; then run.",
    "redo": "Make tasks again, with a changed prompt or as they are; then run.",
    "drop": "Give up tasks that are held, failed or refused.",
    "resolve": "State whether unanswered requests were billed.",
    "export": "The images and what is known of them, as a dataset.",
    "verify": "Hold the ledger, the files and their checksums against each other.",
    "sandbox": "Serve a pretend provider on this machine.",
    "providers": "What each provider of the catalog speaks, takes and costs.",
    "schema": "A JSON Schema of manifests, for editors.",
    "doctor": "Look at this machine: what a night's run rests on.",
}

HELP = """\b
Overnight batch jobs for image APIs, with books that equal the provider's bill.

\b
  batchgen init jobs/first.yaml              a commented manifest to start from
  batchgen plan jobs/first.yaml              what it would make, cost and take
  batchgen run jobs/first.yaml --sandbox     a rehearsal: no key, no money
  batchgen run jobs/first.yaml               make what is missing; the same command goes on after any interruption
  batchgen report jobs/first.yaml            what it made and what it cost (--json, --csv)

\b
RUN is a run's name, its folder, or the manifest that made it.
Exit codes: 0 all done, 1 a bug, 2 usage or manifest, 3 finished but some tasks failed, were refused or are held,
4 stopped by a limit, 5 blocked (key, credit, disk), 6 another run holds the folder, 7 interrupted with work left.
"""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Unread(Exception):
    """Nobody reads what is written any more."""


class Verbs(click.Group):
    """Loads a verb's module when it is called: `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"batchgen.commands.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click itself would call it a failure
            raise Unread from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], VERBS, 1)
        if args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"There is no verb {clean(args[0])!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message=f"batchgen %(version)s, Python {sys.version.split()[0]}, {sys.platform}")
def group() -> None:
    pass


def prepare() -> None:
    """Leave nothing behind that holds a key, and let no file take the place of a stream that is closed."""
    with suppress(ImportError, ValueError, OSError):
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the ledger would be written to by a print
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


@contextmanager
def unheard() -> Iterator[None]:
    """The exit code says it too, where nobody can be told: stderr may go to a disk that is full."""
    try:
        yield
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every expected error is one message, and never a traceback."""
    prepare()
    try:
        code = group.main(args=arguments, prog_name="batchgen", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        with unheard():
            error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 7
    except BatchgenError as error:
        with unheard():
            for line in str(error).splitlines():
                click.echo(clean(line), err=True)
        code = error.exit_code
    except Unread:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in FULL  # what stdout leads to: all else is a StorageError
        says = f"the output cannot be written: {error}" if full else traceback.format_exc()
        with unheard():
            click.echo(redact(says, secrets(os.environ)), err=True)  # a bug's words may hold anything
        code = 5 if full else 1
    sys.exit(code if isinstance(code, int) else 0)
