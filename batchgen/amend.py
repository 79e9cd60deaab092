"""Tasks that a person wants made again: held against the ledger, on their way into the manifest's fixes."""

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchgen import books, disk, fixes, offer
from batchgen.errors import ManifestError, UsageError
from batchgen.fixes import NOTE, TASK, Changes, Fix
from batchgen.folder import find, is_manifest
from batchgen.listing import BESIDE
from batchgen.manifest import Manifest, Setup, load
from batchgen.offer import Wish
from batchgen.readers import Record, feed
from batchgen.task import Params
from batchgen.text import clean


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
        file = self.file.resolve()  # behind a link
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
        if self.after != self.before:
            with disk.storage("the fixes"):
                disk.write_whole(file, self.after, file.with_name(f".{file.name}.part"), mode)


def named(keys: Sequence[str], changes: Changes, note: str) -> list[Record]:
    """What is asked for on the command line."""
    return [Record("redo", {TASK: key, **changes, NOTE: note}) for key in dict.fromkeys(keys)]


def listed(file: Path) -> list[Record]:
    """What a table asks for; of a row whose cells say what the task has already, only what differs counts."""
    try:
        return [replace(each, variables=_without_ours(each.variables)) for each in fixes.rows(feed(str(file), Path()))]
    except ValueError as error:
        raise UsageError(f"--from {error}") from None


def _without_ours(cells: Mapping[str, str]) -> dict[str, str]:
    """Without what `batchgen report --state` writes for people alone."""
    return {name: value for name, value in cells.items() if name not in BESIDE}


def draw_up(run: str, runs: Path | None, setup: Setup, asked: Sequence[Record]) -> Amendment:
    """Read the manifest that made a run, as it was run last, with these fixes on top. Writes nothing.

    A fix that stands already is bought where it is not yet: the same wish twice is one.
    """
    folder = find(run, runs)
    last = offer.last(folder)
    file = Path(run) if is_manifest(run) else last.file
    if not file.exists():
        raise UsageError(f"{file} made this run, and is gone: give the manifest itself")
    setup = last.over(setup)
    manifest = load(file, replace(setup, fixes=False))
    before = _content(manifest.fixes_file)  # what is read now is what stands then, or nothing is written
    manifest = replace(manifest, fixes=fixes.read(manifest.fixes_file, [*manifest.providers.values()]))
    found = fixes.parsed(asked, [*manifest.providers.values()])
    with books.reading(folder.ledger) as db:
        there = {str(row["key"]): row for row in books.by_key(db, list(found))}
    changed = {key: _changed(fix, there[key]) if key in there else fix for key, fix in found.items()}
    standing = {key for key, fix in changed.items() if fix and fix == manifest.fixes.get(key)}
    if problems := [*_problems(found.keys() - standing, found, there, manifest)]:
        raise ManifestError(*problems)
    again = {key: fix for key, fix in changed.items() if fix and key not in standing}
    notes = {each.variables.get(TASK, "").strip(): each.variables.get(NOTE, "") for each in asked}
    wish = Wish(
        replace(manifest, fixes={**manifest.fixes, **again}),
        folder,
        redo=(*again, *standing),
        flags=offer.flags(runs, setup),
        environ=setup.environ,
    )
    idle = len(found) - len(again) - len(standing)
    return Amendment(wish, before, _extended(manifest, again, notes) if again else before, len(wish.redo), idle)


def _extended(manifest: Manifest, again: Mapping[str, Fix], notes: Mapping[str, str]) -> bytes:
    """The file of fixes with these in it; UsageError where it could not be read again as it is meant."""
    path, providers = manifest.fixes_file, [*manifest.providers.values()]
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}: make it, or let fixes: name another file")
    rows = {key: {**fixes.cells(fix), NOTE: clean(notes[key])} for key, fix in again.items()}
    try:
        data = fixes.extended(path, rows)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(data)
            same = fixes.read(copy, providers) == {**manifest.fixes, **again}
    except (ManifestError, UnicodeEncodeError) as error:
        raise UsageError(f"{path} cannot hold these fixes: {error}") from None
    if not same:
        raise UsageError(f"{path} cannot hold these fixes so that they read the same: change it by hand")
    return data


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None


def _problems(
    keys: Collection[str], found: Mapping[str, Fix], there: Mapping[str, books.Row], manifest: Manifest
) -> Iterator[str]:
    """Why a task cannot be made again."""
    for key, fix in ((key, fix) for key, fix in found.items() if key in keys):
        wanted = str(there[key]["wanted"]) if key in there else ""
        if not wanted:
            yield f"{fix.where}: no task of this run has the key {key}: keys stand at the end of each image's name"
        elif key in manifest.fixes:
            made = f", or name its new task, {wanted}" if wanted not in ("yes", "waived", "dropped", "forgone") else ""
            yield f"{fix.where}: {key} has a fix already, at {manifest.fixes[key].where}: change that{made}"
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
