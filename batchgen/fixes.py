"""Tasks that a person has made again: a CSV beside the manifest, a row for each, with what it changes of it.

A task's key stands under `task`. A cell under `prompt`, or under the name of a request parameter, takes the place of
what the manifest says; an empty one changes nothing, and a row that changes nothing asks for another take.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchgen import parameters, readers
from batchgen.catalog import Provider
from batchgen.document import HIDDEN, unseen
from batchgen.errors import ManifestError
from batchgen.problems import nearest, shown
from batchgen.readers import Feed, Record
from batchgen.task import Params, canonical
from batchgen.text import shielded, unshielded

TASK, PROMPT, NOTE = "task", "prompt", "note"
Changes = Mapping[str, str]
"""What a person wrote of a task, by column."""


@dataclass(frozen=True, slots=True)
class Fix:
    """What takes the place of a task's prompt ("": nothing does) and parameters; where it was read makes no other."""

    prompt: str = ""
    settings: Params = ()
    where: str = field(default="", compare=False)


Fixes = Mapping[str, Fix]
"""By the key of the task that is made again."""


def read(path: Path, providers: Sequence[Provider]) -> Fixes:
    """The fixes of a file, none where there is no file; ManifestError with everything that is wrong in it."""
    if not _is_there(path):
        return {}
    return parsed(rows(readers.feed(path.name, path.parent, "csv")), providers)


def rows(feed: Feed) -> Iterator[Record]:
    """A table's, as they were before they were made safe for a spreadsheet."""
    for record in feed.records():
        if feed.format == "jsonl":
            yield record
        else:
            yield replace(record, variables={name: unshielded(cell) for name, cell in record.variables.items()})


def _is_there(path: Path) -> bool:
    """Also what cannot be read, or a link that leads nowhere: whoever has fixes does not want what was before them."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    return True


def parsed(records: Iterable[Record], providers: Sequence[Provider]) -> Fixes:
    """The fixes that rows of a table tell; ManifestError with everything that is wrong in them."""
    found: dict[str, Fix] = {}
    problems: list[str] = []
    for record in records:
        try:
            key, fix = _fix(record, providers)
            if key in found:
                raise ValueError(f"the task {key} stands in {found[key].where} too: a fix of a fix names the new task")
            found[key] = fix
        except ValueError as error:
            problems.append(f"{record.where}: {error}")
    if problems:
        raise ManifestError(*problems)
    return found


def _fix(record: Record, providers: Sequence[Provider]) -> tuple[str, Fix]:
    cells = {name: value.strip() for name, value in record.variables.items()}
    if record.wrong:
        raise ValueError(record.wrong)
    if TASK not in cells:
        raise ValueError(f"there is no column {TASK}: it holds the key at the end of an image's name")
    if not (key := cells.pop(TASK)):
        raise ValueError(f"the column {TASK} is empty: it holds the key at the end of an image's name")
    cells.pop(NOTE, None)
    prompt = cells.pop(PROMPT, "").replace("\r\n", "\n").replace("\r", "\n")
    if hidden := HIDDEN.search(prompt):
        raise ValueError(f"the prompt {unseen(hidden)}")
    return key, Fix(prompt, settings(cells, providers), record.where)


def settings(cells: Changes, providers: Sequence[Provider]) -> Params:
    """Parameters from their spelling; ValueError for what is none, or no value of one."""
    found: list[tuple[str, object]] = []
    for name, text in cells.items():
        kind = parameters.kind_of(name, providers) if name != "model" else ""
        if not kind:
            known = {PROMPT, *(each for provider in providers for each in provider.parameters)}
            raise ValueError(f"{shown(name)} is nothing that a fix can change{nearest(name, known)}")
        if text:
            try:
                found.append((name, parameters.convert(kind, text, text)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return tuple(sorted(found))


def cells(fix: Fix) -> Changes:
    """A fix as its row spells it."""
    told = {name: value if isinstance(value, str) else canonical(value) for name, value in fix.settings}
    return {PROMPT: fix.prompt, **told}


def extended(path: Path, more: Mapping[str, Changes]) -> bytes:
    """The file with rows added, by task: its cells as they were, and columns added where they are new.

    It keeps what separates its cells, and bears the mark by which spreadsheets know UTF-8.
    """
    feed = readers.feed(path.name, path.parent, "csv")
    there = _is_there(path)
    before = [record.variables for record in rows(feed)] if there else []
    all_ = [*before, *({TASK: key, **changes} for key, changes in more.items())]
    columns = dict.fromkeys([TASK, *(name for row in all_ for name in row if name != NOTE), NOTE])
    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(columns), restval="", delimiter=feed.delimiter if there else ",", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({name: shielded(cell) for name, cell in row.items()} for row in all_)
    return out.getvalue().encode("utf-8-sig")
