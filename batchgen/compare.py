"""What is wanted beside what the ledger holds: new, kept, dropped, to do, and why. One pass over the rows."""

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from batchgen import shelf
from batchgen.causes import Causes
from batchgen.errors import UsageError
from batchgen.expand import Cast, Expansion, Item
from batchgen.inputs import Gallery
from batchgen.manifest import Manifest
from batchgen.rows import Row
from batchgen.shelf import Shelf
from batchgen.task import Task, TaskState, Variant
from batchgen.wanted import UNFINISHED, Name, successions

BLOCK = 500  # keys that are looked up at once
BESIDE = ("limits.", "retry.", "engine")  # keys that change no task
OPEN = frozenset({TaskState.TODO, TaskState.DOING})
Marks = tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Part:
    """What is wanted of one variant, in tasks; the bytes of prompts and tokens of images are those of what is to do.

    Those that are `away` are in batches that are open: bought, and neither done nor to do.
    """

    variant: Variant
    tasks: int = 0
    new: int = 0
    done: int = 0
    away: int = 0
    todo: int = 0
    prompt_bytes: int = 0
    longest: int = 0
    input_tokens: int = 0
    most_tokens: int = 0

    def add_todo(self, count: int, prompt_bytes: int, input_tokens: int) -> None:
        self.todo += count
        self.prompt_bytes += count * prompt_bytes
        self.longest = max(self.longest, prompt_bytes)
        self.input_tokens += count * input_tokens
        self.most_tokens = max(self.most_tokens, input_tokens)


@dataclass(frozen=True, slots=True)
class Survey:
    """How a manifest and a ledger compare. `settled`: the ledger holds all that is wanted, as it is wanted.

    `fingerprint` is that of all that was compared, `read` that of the rows alone. `chosen` are the tasks of a sample,
    where one was asked for, or with `redo` those that are made again, `names` what the user calls their rows, `left`
    how many tasks are not among them.
    `gallery` are the files to edit as they were found, `marks` tell those of the rows apart from changed ones.
    `replaced` are tasks whose place others take from now on; `strays` are where fixes stand that no task was met for.
    """

    parts: tuple[Part, ...]
    rows: int = 0
    duplicates: int = 0
    dropped: int = 0
    replaced: int = 0
    causes: tuple[str, ...] = ()
    settled: bool = False
    fingerprint: str = ""
    read: bytes = b""
    chosen: tuple[Task, ...] | None = None
    names: tuple[Name, ...] = ()
    left: int = 0
    gallery: Gallery | None = None
    marks: Marks = ()
    strays: tuple[str, ...] = ()
    redo: bool = False

    @property
    def tasks(self) -> int:
        return sum(part.tasks for part in self.parts)

    @property
    def new(self) -> int:
        return sum(part.new for part in self.parts)

    @property
    def kept(self) -> int:
        return self.tasks - self.new

    @property
    def todo(self) -> int:
        return sum(part.todo for part in self.parts)

    @property
    def done(self) -> int:
        return sum(part.done for part in self.parts)

    @property
    def away(self) -> int:
        return sum(part.away for part in self.parts)


def survey(
    manifest: Manifest,
    ledger: Path | None,
    sample: int | None = None,
    reopen: Collection[TaskState] = (),
    redo: Collection[str] = (),
) -> Survey:
    """Read every row, and compare; ManifestError for what is wrong in them, or too much. Writes nothing.

    With `sample` only so many tasks are looked at, spread over all combinations; with `redo` only those that take the
    place of tasks of these keys. Tasks of the states `reopen` count as to do.
    """
    with ExitStack() as stack:
        there = stack.enter_context(shelf.opened(ledger)) if ledger else None
        found = _Comparison(manifest, there, frozenset(reopen))
        if redo:
            return replace(found.of_some(found.made_again(frozenset(redo))), redo=True, left=0)
        return found.of_all() if sample is None else found.of_some(found.choose(sample))


def queued(ledger: Path, reopen: Collection[TaskState] = ()) -> Survey:
    """What a ledger still has to do, whatever any manifest says; UsageError where it is not known what is wanted."""
    with shelf.opened(ledger) as there:
        if there.enqueued() == UNFINISHED:
            says = "the last run was cut off before it had written down all that is wanted"
            raise UsageError(f"{says}: run the manifest itself, not the folder. Nothing was sent.")
        parts = tuple(
            Part(each.variant, each.tasks, 0, each.done, each.away, each.todo, *each.of_todo)
            for each in there.volumes(reopen)
        )
    return Survey(parts, settled=True)


def marks(manifest: Manifest) -> Marks:
    """What tells the files of the rows apart from changed ones, without reading them."""
    return tuple(source.feed.mark for source in manifest.sources if source.feed)


def fingerprint(manifest: Manifest, rows: bytes) -> str:
    """Of all that a manifest says, and of its rows; limits and retries that are set beside it change no task."""
    beside = {key: value for key, value in manifest.overrides.items() if not key.startswith(BESIDE)}
    said = json.dumps([manifest.text, beside, rows.hex()], sort_keys=True)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class _Comparison:
    manifest: Manifest
    shelf: Shelf | None
    reopen: frozenset[TaskState]
    marks: Marks = field(init=False)
    gallery: Gallery = field(init=False)
    expansion: Expansion = field(init=False)
    causes: Causes | None = field(init=False)
    asked: bytearray = field(init=False)  # by seq: whether the manifest asks for it
    away: frozenset[int] = field(init=False)  # the seqs of those that are in open batches
    parts: dict[int, Part] = field(default_factory=dict)  # by the id of their variant
    replaced: int = 0
    turned: bool = False  # whether anything that is there is wanted in another way than it was
    paths: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def __post_init__(self) -> None:
        self.marks = marks(self.manifest)
        self.gallery = Gallery(self.manifest.folder)
        self.expansion = Expansion(self.manifest, self.gallery)
        # what was never asked for as a whole has no other cause than that
        whole = self.shelf is not None and self.shelf.enqueued() not in ("", UNFINISHED)
        self.causes = Causes(self.shelf) if self.shelf and whole else None
        self.asked = bytearray(self.shelf.last() + 1 if self.shelf else 0)
        self.away = self.shelf.away() if self.shelf else frozenset()

    def of_all(self) -> Survey:
        if self.shelf is None and not self.manifest.fixes:
            for row in self.rows():
                self.take_row(row)
            return self.told()
        items = (item for row in self.rows() for item in self.expansion.items(row))
        while block := list(islice(items, BLOCK)):
            self.take(block)
        if self.shelf is None:
            return self.told()
        gone = [variant for seq, variant in self.shelf.wanted() if not self.asked[seq]]
        if self.causes:
            self.causes.dropped(gone)
        return self.told(len(gone), self.shelf.enqueued())

    def of_some(self, chosen: list[Item]) -> Survey:
        self.take(chosen)
        told = self.told(chosen=tuple(self.expansion.task(item) for item in chosen))
        names = tuple(((item.row.prompt, item.key), item.row.id) for item in chosen if item.row.id)
        all_ = (self.expansion.rows - self.expansion.duplicates) * self.expansion.each
        return replace(told, names=names, left=all_ - len(chosen))

    def rows(self) -> Iterator[Row]:
        """Every row once; whether its files can be called as they should is looked at on the way."""
        for row, first in self.expansion.distinct():
            if self.manifest.output_path and first:
                self.paths.update(self.expansion.try_path(row).encode())
            if first:
                yield row

    def choose(self, count: int) -> list[Item]:
        """The tasks with the lowest keys of each combination: as good as drawn by lot, and the same every time."""
        each = -(-count // len(self.manifest.variants))
        lots: list[list[Item]] = [[] for _ in self.manifest.variants]
        for row in self.rows():
            for item in self.expansion.items(row):
                lot = lots[item.cast.cell]
                lot.append(item)
                if len(lot) > 4 * each:
                    lot[:] = sorted(lot, key=_key)[:each]
        lots = sorted((sorted(lot, key=_key)[:each] for lot in lots if lot), key=lambda lot: _key(lot[0]))
        turns = (lot[n] for n in range(each) for lot in lots if n < len(lot))
        return sorted(islice(turns, count), key=lambda item: (item.row.number, item.cast.cell, item.sample))

    def made_again(self, keys: frozenset[str]) -> list[Item]:
        """What takes the place of tasks of these keys; UsageError where the manifest does not ask for one of them."""
        items = (item for row in self.rows() for item in self.expansion.items(row) if item.replaces)
        found = [item for item in items if any(key in keys for _, key in item.replaces)]
        if strays := sorted(keys - {key for item in found for _, key in item.replaces}):
            raise UsageError(f"the manifest, as it is now, does not ask for {', '.join(strays)}. Nothing was changed.")
        return found

    def take_row(self, row: Row) -> None:
        """With nothing to compare it is arithmetic."""
        size, samples = len(row.prompt.encode()), self.manifest.samples
        for cast in self.expansion.casts(row):
            part = self.part(cast)
            part.tasks += samples
            part.new += samples
            part.add_todo(samples, size, cast.input_tokens(row))

    def take(self, block: list[Item]) -> None:
        known = self.shelf.known([(item.row.prompt, item.key) for item in block]) if self.shelf else {}
        new = []
        for item in block:
            row, cast, _, _, key, _ = item
            found = known.get(key)
            if found is None:
                self.add_new(row, cast)
                new.append(item)
                continue
            seq, state, wanted, *_ = found
            self.asked[seq] = True
            self.turned |= wanted not in ("yes", "waived")
            part = self.part(cast)
            part.tasks += 1
            part.done += state == "done"
            part.away += seq in self.away
            if seq in self.away:
                continue
            if state in self.reopen or (state in OPEN and wanted not in ("waived", "forgone")):
                part.add_todo(1, len(row.prompt.encode()), cast.input_tokens(row))
        self.take_replaced([item for item in block if item.replaces])
        if new and self.causes and self.shelf:
            self.causes.new(
                [(row.prompt, cast.variant, sample, take) for row, cast, sample, take, *_ in new], self.shelf
            )

    def take_replaced(self, items: list[Item]) -> None:
        """Those whose place these take are not dropped, and the bill for them stays where it is."""
        known = self.shelf.known([mark for item in items for mark in item.replaces]) if self.shelf and items else {}
        for item in items:
            for key, by in successions(item.replaces, item.key, known):
                seq, _, wanted, *_ = known[key]
                self.asked[seq] = True
                self.replaced += wanted == "yes"
                self.turned |= wanted != by

    def add_new(self, row: Row, cast: Cast) -> None:
        part = self.part(cast)
        part.tasks += 1
        part.new += 1
        part.add_todo(1, len(row.prompt.encode()), cast.input_tokens(row))

    def part(self, cast: Cast) -> Part:
        found = self.parts.get(id(cast.variant))
        if found is None:
            found = self.parts[id(cast.variant)] = Part(cast.variant)
        return found

    def told(self, dropped: int = 0, enqueued: str = "", chosen: tuple[Task, ...] | None = None) -> Survey:
        parts = tuple(self.parts.values())
        mark = fingerprint(self.manifest, self.expansion.digest + self.paths.digest())
        if chosen is not None and not chosen:
            raise UsageError("there is nothing to take a sample of")
        return Survey(
            parts=parts,
            rows=self.expansion.rows,
            duplicates=self.expansion.duplicates,
            dropped=dropped,
            replaced=self.replaced,
            causes=self.causes.told([part.variant for part in parts]) if self.causes else (),
            settled=mark == enqueued and not (dropped or self.turned or any(part.new for part in parts)),
            fingerprint=mark,
            read=self.expansion.digest,
            chosen=chosen,
            gallery=self.gallery,
            marks=self.marks,
            strays=tuple(fix.where for fix in self.expansion.fixes.values()) if chosen is None else (),
        )


def _key(item: Item) -> str:
    """Of what is made again, as before: a sample holds what takes the place of one of it."""
    return item.replaces[0][1] if item.replaces else item.key
