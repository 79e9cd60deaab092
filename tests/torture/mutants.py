"""`python -m tests.torture.mutants`: would the harness notice? Some bugs, one at a time, each in a copy of the code.

A bug is planted by exact replacements: text that is not there exactly once ends the gate, so that it is mended with the
code. The copy is then tortured in the way that must show the bug, by a seed; the code as it is goes through the same
ways with the same seeds, and must come out clean.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from . import batches, campaign, nemesis, power, tracer
from .books import OPEN, Books, read
from .checker import Checker, Violation
from .setup import CUT, Setup
from .tracer import Point
from .world import ROOT, Process, World, ended, until

SMALL = Setup(tasks=24, workers=4, policy="hold")
Edit = tuple[str, str, str]
"""A file of batchgen/, text that stands in it once, and what takes its place."""
Environ = Mapping[str, str]
Way = Callable[[Path, Environ], Sequence[Violation]]
"""Tortures the code that `environ` leads to, below a folder, and says what it found."""


@dataclass(slots=True)
class Keeper(Checker):
    """Holds also that an answer which lay whole in the spool is never given up."""

    spooled: set[str] = field(default_factory=set)

    def after_kill(self) -> Books:
        books = super(Keeper, self).after_kill()
        open_ = {attempt["id"] for attempt in books.attempts if attempt["state"] in OPEN}
        self.spooled |= {id_ for id_ in open_ if whole(self.run / "spool" / f"{id_}.1")}
        return books

    def at_end(self) -> Books:
        books = super(Keeper, self).at_end()
        for attempt in books.attempts:
            if attempt["id"] in self.spooled and attempt["state"] == "unknown":
                self.fail("dropped", f"the answer of {attempt['id']} lay in the spool, and is given up")
        return books


def whole(path: Path) -> bool:
    """Whether a spooled answer's last line fits its head: `\\n`, length and checksum of the line before."""
    data = path.read_bytes() if path.is_file() else b""
    head, trailer = data[:-17], data[-16:]
    try:
        length, check = int(trailer[:8], 16), int(trailer[8:], 16)
    except ValueError:
        return False
    return zlib.crc32(head[len(head) - length :]) == check


@dataclass(frozen=True, slots=True)
class Torture:
    """A world and what is done in it; `after` are checks of its own, made when the run has been finished."""

    name: str
    setup: Setup
    deed: Callable[[World, Checker], None]
    after: Callable[[World, Checker], None] = lambda world, checker: None

    def __call__(self, folder: Path, environ: Environ) -> Sequence[Violation]:
        with World(folder / self.name, self.setup) as world:
            world.environ |= environ
            checker = Keeper.of(world)
            self.deed(world, checker)
            if not checker.violations:
                power.conclude(world, checker, campaign.Result(self.name, 0))
                self.after(world, checker)
        return checker.violations


def plugged_out(seed: int) -> Way:
    """Power cuts of a seed."""
    return lambda folder, environ: power.cut(folder, seed, environ=environ).violations


def killed(seed: int, most: int) -> Callable[[World, Checker], None]:
    """Kills at random moments, as long as nothing is found."""
    chance = Random(seed)

    def deed(world: World, checker: Checker) -> None:
        for _ in range(most):
            if checker.violations or not nemesis.random_kills(world, checker, chance, 1):
                return

    return deed


def killed_when_done(world: World, checker: Checker) -> None:
    """Kills as soon as one more task is seen to be done, as long as nothing is found."""
    for n in range(1, 5):
        process = world.start()
        await_done(world, process, n)
        if checker.violations or not nemesis.kill(process):
            return
        checker.after_kill()


def await_done(world: World, process: Process, wanted: int) -> None:
    def come() -> bool:
        done = sum(task["state"] == "done" for task in read(world.run, world.bill).tasks)
        return ended(process) or done >= wanted

    until(come)


def killed_at(*points: Point) -> Callable[[World, Checker], None]:
    return lambda world, checker: (nemesis.kill_points(world, checker, list(points)), None)[1]


def killed_in_batches(*points: str) -> Callable[[World, Checker], None]:
    result = campaign.Result("batch", 0, at=[Point.parse(each) for each in points])
    return lambda world, checker: batches.at_steps(world, checker, replace(result, reached=[]), Random(0))


def nothing(world: World, checker: Checker) -> None:
    """The provider alone is bad enough."""


def impatient(world: World, checker: Checker) -> None:
    """Who waits for an answer no longer than a second."""
    manifest = json.loads(world.manifest.read_text())
    manifest["limits"]["timeout"] = "1s"
    world.manifest.write_text(json.dumps(manifest))


def left(world: World, checker: Checker) -> None:
    """Ctrl-C twice while every answer that was sent has been delivered, and waits for a slow disk."""
    slow = ("-o", os.devnull, "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=200000")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(tracer.traced, world, "work", *slow)
        until(lambda: run.done() or (world.charges() >= world.setup.workers and not world.server.stats()["open"]))
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
            until(run.done, 12 if number == signal.SIGKILL else 0.1)
            if not run.done():
                os.kill(read(world.run, world.bill).runs[-1]["pid"], number)
    given_up = checker.after_kill().count("unknown")
    if run.result() != 7 or given_up:
        checker.fail("dropped", f"left with {run.result()}; {given_up} answers had come, and are given up")


def stayed(world: World, checker: Checker) -> None:
    """Nobody may have been led anywhere else."""
    away = [charge["path"] for charge in checker.after_kill().charges if charge["path"].startswith("/elsewhere")]
    if away:
        checker.fail("led away", f"{len(away)} requests with their prompts and keys went to {away[0]}")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: `edits` plant it, `way` shows it, as a violation of one of `kinds`."""

    number: str
    name: str
    edits: tuple[Edit, ...]
    way: Way
    kinds: tuple[str, ...]


SPOOLED = Point("work", "fsync", 3)  # by then an answer is whole in the spool, and its image not saved
WRITE = "        write_all(handle, data)\n"
SHIELD = "anyio.CancelScope(shield=True):"
FLIGHT = """\
            db.execute(
                "INSERT INTO attempts"
"""
LATE = """\
            db.execute("CREATE TEMP TABLE IF NOT EXISTS late AS SELECT * FROM attempts WHERE 0")
            db.execute(
                "INSERT INTO temp.late"
"""
ROW = "            row = records.settle_attempt(db, attempt, settled)\n"
LATE_ROW = """\
            names = "id, task, run, purchase, lane, engine, state, images, cost_low, cost_high, sent_at"
            db.execute(f"INSERT INTO attempts ({names}) SELECT {names} FROM temp.late WHERE id = ?", (attempt.id,))
"""
FOLLOWED = "httpx.AsyncClient(transport=self._http, follow_redirects=True).send(asked, stream=True)"
SAVE = 'unsynced.put(target, data, f"{place}/.{part}.{index}.part", mode=0o644)'
SAVE_LATER = f"__import__('threading').Timer(0.3, lambda: {SAVE}).start()"

MUTANTS = (
    Mutant(
        "1",
        "no fsync of images and spool",
        (
            (
                "disk.py",
                "            os.ftruncate(handle, len(data))\n        if sync:\n            os.fsync(handle)\n",
                "            os.ftruncate(handle, len(data))\n",
            ),
        ),
        plugged_out(1),
        ("lost", "changed"),
    ),
    Mutant(
        "2",
        "the row before the file",
        (("images.py", SAVE, SAVE_LATER),),
        Torture("kills", SMALL, killed_when_done),
        ("lost",),
    ),
    Mutant(
        "3",
        "the attempt's row after it was sent",
        (("ledger.py", FLIGHT, LATE), ("ledger.py", ROW, LATE_ROW + ROW)),
        Torture("kills", SMALL, killed(3, 3)),
        ("stranger",),
    ),
    Mutant(
        "4",
        "an answer that did not come in time was never asked for",
        (("client.py", 'return Unknown(f"no whole answer within', 'return Unsent(f"no whole answer within'),),
        Torture("hang", Setup(tasks=8, workers=4, flags=("--script", "ok hang ok hang")), impatient),
        ("money",),
    ),
    Mutant(
        "5",
        "another idempotency key for each retry",
        (("lane.py", 'headers["idempotency-key"] = attempt.purchase', 'headers["idempotency-key"] = attempt.id'),),
        Torture("keys", Setup(tasks=24, workers=4, policy="idempotent", flags=CUT), nothing),
        ("key", "twice", "money"),
    ),
    Mutant(
        "6a",
        "who leaves drops an answer that came",
        (
            (
                "finisher.py",
                "        with anyio.CancelScope(shield=True):\n            return await done",
                "        with anyio.CancelScope():\n            return await done",
            ),
        ),
        Torture("leave", Setup(tasks=16, workers=8, policy="hold"), left),
        ("dropped",),
    ),
    Mutant(
        "6b",
        "who leaves stops the ledger's commits",
        (
            (
                "commit.py",
                "        with anyio.CancelScope(shield=True):\n            try:",
                "        if True:\n            try:",
            ),
        ),
        Torture("leave", Setup(tasks=16, workers=8, policy="hold"), left),
        ("dropped",),
    ),
    Mutant(
        "7",
        "a report of the last run alone",
        (
            (
                "sums.py",
                '    "JOIN tasks t ON t.seq = a.task",\n',
                '    "JOIN tasks t ON t.seq = a.task AND a.run = (SELECT max(id) FROM runs)",\n',
            ),
        ),
        Torture("kills", SMALL, killed(7, 1)),
        ("told",),
    ),
    Mutant(
        "8",
        "what a crash left in the spool stays",
        (("spool.py", "                entry.unlink(missing_ok=True)", "                pass"),),
        Torture("kills", SMALL, killed_when_done),
        ("orphan",),
    ),
    Mutant(
        "9",
        "a redirect is followed",
        (("client.py", "self._http.handle_async_request(asked)", FOLLOWED),),
        Torture(
            "redirect", Setup(tasks=8, workers=4, ends=("failed",), flags=("--script", "ok redirect")), nothing, stayed
        ),
        ("led away",),
    ),
    Mutant(
        "10",
        "what lies in the spool is not adopted",
        (
            (
                "attempt.py",
                "fresh = (buy and k == 1) or not bench.spool.holds(attempt.id, k)",
                "fresh = k == 1 or not bench.spool.holds(attempt.id, k)",
            ),
        ),
        Torture("points", Setup(tasks=3, workers=2), killed_at(SPOOLED)),
        ("dropped",),
    ),
    Mutant(
        "11",
        "Pillow decides whether an image is whole",
        (("images.py", "    WALKS[kind.format](data)", "    PIL.Image.open(io.BytesIO(data)).load()"),),
        Torture("noiend", Setup(tasks=8, workers=4, flags=("--script", "ok noiend ok noiend")), nothing),
        ("changed",),
    ),
    Mutant(
        "12",
        "the budget is looked at once it is spent",
        (("purse.py", "return self.budget.fits(high) and", "return self.budget.fits(1) and"),),
        Torture("budget", Setup(tasks=24, workers=4, budget=0.05, ends=("todo",)), nothing),
        ("budget",),
    ),
    Mutant(
        "13",
        "a batch that was perhaps created is not looked for",
        (("counter.py", "for wait in LOOKS:", "for wait in LOOKS[:0]:"),),
        Torture("batch", Setup(tasks=8, workers=4, lines=4), killed_in_batches("after/Counter.create/1")),
        ("money",),
    ),
)


class Copy:
    """A copy of the code in a folder of its own, which its children import in place of the original."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(source, folder / "batchgen", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "tests").symlink_to(ROOT / "tests")

    @property
    def environ(self) -> Environ:
        return {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"}

    def plant(self, edits: Sequence[Edit]) -> None:
        for name, old, new in edits:
            path = self.folder / "batchgen" / name
            text = path.read_text()
            if text.count(old) != 1:
                raise RuntimeError(f"{name} holds {text.count(old)} times, not once, what is to be replaced: {old!r}")
            path.write_text(text.replace(old, new))


def gate(folder: Path, chosen: Sequence[Mutant]) -> Iterator[tuple[Mutant, Sequence[Violation], float]]:
    """Each mutant with what was found in it, and the seconds that this took."""
    original = Copy(ROOT / "batchgen", folder / "original")  # the code as it is now, whoever works on it meanwhile
    for mutant in chosen:
        copy = Copy(original.folder / "batchgen", folder / f"copy-{mutant.number}")
        copy.plant(mutant.edits)
        began = time.monotonic()
        yield mutant, mutant.way(folder / f"mutant-{mutant.number}", copy.environ), time.monotonic() - began


def sound(folder: Path, chosen: Sequence[Mutant]) -> list[Violation]:
    """What the same ways find in the code as it is."""
    original = Copy(ROOT / "batchgen", folder / "sound")
    return [found for each in chosen for found in each.way(folder / f"sound-{each.number}", original.environ)]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.torture.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=[mutant.number for mutant in MUTANTS], help="one mutant")
    options, folder = parser.parse_args(), Path(tempfile.mkdtemp(prefix="mutants-"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # one that ignores it hands that on to its children
    chosen = [mutant for mutant in MUTANTS if options.only in (None, mutant.number)]
    missed = 0
    for mutant, found, seconds in gate(folder, chosen):
        caught = [violation for violation in found if violation.kind in mutant.kinds]
        says = f"{caught[0].kind}: {caught[0].says[:90]}" if caught else f"NOT CAUGHT, but for {found[:1]}"
        print(f"{mutant.number:3} {mutant.name:56} {seconds:5.1f} s  {len(caught):3}  {says}", flush=True)
        missed += not caught
    wrong = sound(folder, chosen)
    for violation in wrong:
        print(f"the code as it is: {violation.kind}: {violation.says}")
    print(f"{len(chosen) - missed} of {len(chosen)} caught; {len(wrong)} violations of the code as it is")
    if not (missed or wrong):
        shutil.rmtree(folder)
    return 1 if missed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
