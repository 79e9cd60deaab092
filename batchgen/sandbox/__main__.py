"""`python -m batchgen.sandbox`: serves the pretend provider on loopback."""

import argparse
import contextlib
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

from batchgen.sandbox import accounts, batch_faults, faults, files, paint, rate
from batchgen.sandbox.accounts import Accounts
from batchgen.sandbox.batch_pages import Desk
from batchgen.sandbox.batch_run import Pace
from batchgen.sandbox.batches import Batches, Queue
from batchgen.sandbox.bill import Bill
from batchgen.sandbox.files import Files
from batchgen.sandbox.idempotency import Keys
from batchgen.sandbox.journal import Journal
from batchgen.sandbox.pages import application
from batchgen.sandbox.rate import Bucket
from batchgen.sandbox.server import bind, server, url
from batchgen.sandbox.studio import Latency, Studio
from batchgen.sandbox.tasks import Tasks
from batchgen.sandbox.uploads import Uploads

_PACE = (
    ("rate", 100.0, "N", "lines a second, of each batch"),
    ("validating", 0.0, "SECONDS", "how long that takes"),
    ("finalizing", 0.0, "SECONDS", "how long that takes"),
    ("cancelling", 0.0, "SECONDS", "how long lines are still executed"),
    ("window", 86_400.0, "SECONDS", "how long 24 hours are"),
    ("slow", 0.0, "SHARE", "of the lines, which come late"),
    ("slow-seconds", 0.0, "SECONDS", "how late"),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        host = _loopback(options.host)
        sockets = [bind(host, options.port), bind(host, options.files_port)]
        if "redirect-away" in options.file_faults:
            sockets.append(bind(files.AWAY, sockets[1].getsockname()[1]))
        studio = _studio(options, url(sockets[1]))
        desk = _desk(options, studio)
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    app = application(studio, desk, sockets[0].getsockname()[1])
    serving = server(app, options.keepalive, desk.batches.begin, desk.batches.end)
    if options.until_stdin_closes:
        serving.end_with(sys.stdin.fileno())
    with contextlib.suppress(KeyboardInterrupt):
        serving.run(sockets=sockets)
    return 0


def _studio(options: argparse.Namespace, files_origin: str) -> Studio:
    painter = paint.Stock(options.paint_bytes) if options.paint == "cached" else paint.real
    ipm, burst = options.ipm, options.burst or options.ipm
    return Studio(
        bill=Bill(options.bill, fsync=options.fsync_bill, once=options.idempotent > 0),
        plan=faults.script(options.script) if options.script else faults.rates(options.faults, options.seed),
        painter=painter,
        files=Files(files_origin, painter, files.script(options.file_faults), _journal(options, "links")),
        keys=Keys(options.idempotent, _journal(options, "keys")),
        tasks=Tasks(_journal(options, "tasks")),
        uploads=_uploads(options),
        latency=Latency(options.latency, options.latency_jitter, options.seed),
        bucket=Bucket(ipm, burst, later=rate.later(options.ipm_later)) if ipm else None,
        accounts=Accounts(accounts.limits(options.key_ipm, options.burst), accounts.ends(options.key_ends)),
        retry_after_header=options.retry_after_header,
        tells=options.tell_limits,
        any_model=options.any_model,
        links=options.delivery == "url",
        flat=None if options.flat is None else round(options.flat * 1e9),
    )


def _desk(options: argparse.Namespace, studio: Studio) -> Desk:
    if options.batch_rate <= 0:
        raise ValueError("--batch-rate: more than nothing")
    pace = Pace(
        rate=options.batch_rate,
        validating=options.batch_validating,
        finalizing=options.batch_finalizing,
        cancelling=options.batch_cancelling,
        window=options.batch_window,
        slow=options.batch_slow,
        slow_seconds=options.batch_slow_seconds,
        seed=options.seed,
    )
    queue = Queue(options.batch_tokens, at_create=options.batch_tokens_at == "create")
    made = Batches(studio, pace, queue, batch_faults.script(options.batch_faults), _journal(options, "batches"))
    calls = batch_faults.calls(options.batch_call_faults)
    return Desk(studio.uploads, made, calls, ranges=not options.no_ranges)


def _uploads(options: argparse.Namespace) -> Uploads:
    bill: Path | None = options.bill
    return Uploads(bill.with_name(f"{bill.name}.files") if bill else None, _journal(options, "uploads"))


def _journal(options: argparse.Namespace, kind: str) -> Journal:
    """Beside the bill, under its name and the kind."""
    bill: Path | None = options.bill
    return Journal(bill.with_name(f"{bill.name}.{kind}") if bill else None, fsync=options.fsync_bill)


def _loopback(host: str) -> str:
    """The address, when nobody outside this machine can reach it; else ValueError."""
    address = "127.0.0.1" if host == "localhost" else host
    if not ipaddress.ip_address(address).is_loopback:
        raise ValueError(f"--host {host}: the sandbox serves on loopback addresses only")
    return address


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m batchgen.sandbox", description=__doc__, allow_abbrev=False)
    _add_serving(parser)
    _add_books(parser)
    _add_images(parser)
    _add_misbehaviour(parser)
    _add_batches(parser)
    return parser


def _add_serving(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("serving")
    group.add_argument("--host", default="127.0.0.1", help="a loopback address (default: 127.0.0.1)")
    group.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    group.add_argument("--files-port", type=int, default=0, help="where links lead to; 0: any free one (default)")
    group.add_argument("--keepalive", type=float, default=5.0, metavar="SECONDS", help="how long idle connections stay")
    group.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started this one")


def _add_books(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("books and limits")
    group.add_argument(
        "--bill",
        type=Path,
        metavar="FILE",
        help="a JSON line a charge; goes on where it ended, with .keys, .tasks, .links, .batches and more beside it",
    )
    group.add_argument("--fsync-bill", action="store_true", help="the bill survives a power cut too")
    group.add_argument(
        "--idempotent", type=float, default=0.0, metavar="SECONDS", help="how long it remembers an Idempotency-Key"
    )
    group.add_argument("--flat", type=float, metavar="USD", help="what every image costs, whatever its tokens")
    group.add_argument("--ipm", type=float, metavar="N", help="images a minute (default: no limit)")
    group.add_argument("--burst", type=float, metavar="N", help="images at once (default: a minute's)")
    group.add_argument(
        "--ipm-later", default="", metavar="SECONDS=N,…", help="other limits, so long after the first request"
    )
    group.add_argument("--key-ipm", default="", metavar="KEY=N,…", help="images a minute of some keys")
    ends = f"keys that are taken no more after N requests: {', '.join(accounts.ENDS)}"
    group.add_argument("--key-ends", default="", metavar="KEY=N:FAULT,…", help=ends)
    group.add_argument("--retry-after-header", action="store_true", help="say it in a header too when the limit is hit")
    tells = ("headers", "words", "nothing")
    group.add_argument("--tell-limits", choices=tells, default="headers", help="in headers too, or in 429s, or nowhere")


def _add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images")
    group.add_argument("--paint", choices=("real", "cached"), default="real", help="cached: a few fixed ones, for load")
    group.add_argument("--paint-bytes", type=int, default=100_000, metavar="N", help="length of a cached PNG, about")
    group.add_argument(
        "--any-model", action="store_true", help="paint for model names that a provider does not have, too"
    )
    group.add_argument(
        "--delivery", choices=("b64", "url"), default="b64", help="url: links, where a dialect leaves it open"
    )


def _add_misbehaviour(parser: argparse.ArgumentParser) -> None:
    lists = f"Faults: {', '.join(faults.FAULTS)}. File faults: {', '.join(files.FAULTS)}."
    group = parser.add_argument_group("misbehaviour", lists)
    group.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="what an image takes")
    group.add_argument("--latency-jitter", type=float, default=0.0, metavar="SECONDS", help="up to so much more")
    group.add_argument("--seed", type=int, default=0, help="of the faults and the jitter")
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument("--faults", default="", metavar="NAME=RATE,…", help="at random, the same for the same seed")
    chosen.add_argument("--script", default="", metavar="'NAME NAME …'", help="a fault a request, afterwards none")
    group.add_argument("--file-faults", default="", metavar="'NAME NAME …'", help="the same for what links lead to")


def _add_batches(parser: argparse.ArgumentParser) -> None:
    lists = f"Faults: {', '.join(batch_faults.FAULTS)}. Calls: {', '.join(batch_faults.CALLS)}; their faults: "
    group = parser.add_argument_group("batches", lists + ", ".join(batch_faults.CALL_FAULTS))
    for name, default, unit, meaning in _PACE:
        told = f"{meaning} (default: {default:g})"
        group.add_argument(f"--batch-{name}", type=float, default=default, metavar=unit, help=told)
    group.add_argument(
        "--batch-tokens",
        type=int,
        default=0,
        metavar="N",
        help="input tokens that may wait for a model (default: any number)",
    )
    group.add_argument(
        "--batch-tokens-at", choices=("validating", "create"), default="validating", help="where that is said"
    )
    group.add_argument("--batch-faults", default="", metavar="'NAME NAME …'", help="a fault a batch, afterwards none")
    calls = "a fault for each such call, afterwards none"
    group.add_argument("--batch-call-faults", default="", metavar="'CALL=NAME …'", help=calls)
    group.add_argument("--no-ranges", action="store_true", help="files are always sent whole")


if __name__ == "__main__":
    sys.exit(main())
