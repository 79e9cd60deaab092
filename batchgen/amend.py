"""Tasks that a person wants made again: held against the ledger, on their way into the manifest's fixes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchgen import books, disk, fixes, offer
from batchgen.errors import ManifestError, UsageError
from batchgen.fixes import NOTE, TASK, Changes, Fix
from batchgen.folder import find, is_manifest
from batchgen.manifest import Manifest, Setup, load
from batchgen.offer import Wish
from batchgen.readers import Record, feed
from batchgen.task import Params

OURS = ("state", "ids", "provider", "model", "operation", "attempts", "code", "error")
"""Columns that `batchgen report --state` writes for people alone."""


@dataclass(frozen=True, slots=True)
class Amendment:
    """What is to be bought by it, and the file of fixes before and after. `idle` rows change nothing."""

    wish: Wish
    before: bytes
    after: bytes
    rows: int
    idle: int

    @property
    def file(self) -> Path:
        return self.wish.manifest.fixes_file

    def write(self) -> None:
        """Put the fixes where the manifest has them; UsageError where they have changed meanwhile."""
        if _content(self.file) != self.before:
            raise UsageError(f"{self.file} has changed since the plan was drawn. Nothing was sent: do it again.")
        mode = self.file.stat().st_mode & 0o777 if self.file.exists() else 0o644
        with disk.storage("the fixes"):
            disk.write_whole(self.file, self.after, self.file.with_name(f".{self.file.name}.part"), mode)


def named(keys: Sequence[str], changes: Changes, note: str) -> list[Record]:
    """What is asked for on the command line."""
    return [Record("--set", {TASK: key, **changes, NOTE: note}) for key in dict.fromkeys(keys)]


def listed(file: Path) -> list[Record]:
    """What a table asks for; of a row whose cells say what the task has already, only what differs counts."""
    try:
        records = feed(file.name, file.parent, "").records()
        return [replace(each, variables=_without_ours(each.variables)) for each in records]
    except ValueError as error:
        raise UsageError(f"--from {error}") from None


def _without_ours(cells: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in cells.items() if name not in OURS}


def draw_up(run: str, runs: Path | None, setup: Setup, asked: Sequence[Record]) -> Amendment:
    """Read the manifest that made a run, as it was run last, with these fixes on top. Writes nothing."""
    folder = find(run, runs)
    last = offer.last(folder)
    file = Path(run) if is_manifest(run) else last.file
    if not file.exists():
        raise UsageError(f"{file} made this run, and is gone: give the manifest itself")
    setup = last.over(setup)
    manifest = load(file, setup)
    before = _content(manifest.fixes_file)
    found = fixes.parsed(asked, [*manifest.providers.values()])
    with books.reading(folder.ledger) as db:
        there = {str(row["key"]): row for row in books.tasks(db, list(found))}
    if problems := [*_problems(found, there, manifest)]:
        raise ManifestError(*problems)
    changed = {key: _changed(fix, there[key]) for key, fix in found.items()}
    again = {key: fix for key, fix in changed.items() if fix}
    notes = {each.variables.get(TASK, "").strip(): each.variables.get(NOTE, "") for each in asked}
    rows = {key: {**fixes.cells(fix), NOTE: notes[key]} for key, fix in again.items()}
    wish = Wish(
        replace(manifest, fixes={**manifest.fixes, **again}),
        folder,
        redo=() if last.whole else tuple(again),  # of a job of which only samples were bought, the rest stays unbought
        flags=offer.flags(runs, setup),
        environ=setup.environ,
    )
    after = fixes.extended(manifest.fixes_file, rows).encode()
    return Amendment(wish, before, after, len(rows), len(found) - len(rows))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None


def _problems(found: Mapping[str, Fix], there: Mapping[str, books.Row], manifest: Manifest) -> Iterator[str]:
    """Why a task cannot be made again."""
    for key, fix in found.items():
        wanted = str(there[key]["wanted"]) if key in there else ""
        if not wanted:
            yield f"{fix.where}: no task of this run has the key {key}: keys stand at the end of each image's name"
        elif key in manifest.fixes:
            where = manifest.fixes[key].where
            yield f"{fix.where}: {key} has a fix already, at {where}: change that, or name the task that it made"
        elif wanted in ("dropped", "forgone"):
            yield f"{fix.where}: {key} is not asked for any more: put it back into the manifest first"
        elif wanted not in ("yes", "waived"):
            yield f"{fix.where}: {key} was replaced by {wanted}: name that one"


def _changed(fix: Fix, row: books.Row) -> Fix | None:
    """What of a fix is not so already; None where it asks for a change and all is."""
    params: Mapping[str, Any] = json.loads(str(row["params"]))
    prompt = fix.prompt if fix.prompt != row["prompt"] else ""
    settings: Params = tuple((name, value) for name, value in fix.settings if params.get(name) != value)
    asks = fix.prompt or fix.settings
    return None if asks and not (prompt or settings) else replace(fix, prompt=prompt, settings=settings)
