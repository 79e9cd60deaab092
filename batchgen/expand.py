"""Rows × matrix × samples → tasks, in the manifest's order and never all at once; equal rows share theirs."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from batchgen import catalog, costs, sizes
from batchgen.catalog import Model
from batchgen.errors import ManifestError
from batchgen.fixes import Fix
from batchgen.inputs import Gallery
from batchgen.manifest import Manifest
from batchgen.paths import Namer, paths
from batchgen.rows import Judge, Row, rows
from batchgen.sources import flaw
from batchgen.task import Identity, Mark, Operation, Params, Task, Variant, canonical

TASKS_MOST = 10**8


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """One variant as the rows of some settings are sent in it, and what makes its keys and paths.

    Its size is the one that `match` comes to, its keys are those of `match`: what the user asked for.
    """

    variant: Variant
    cell: int  # which combination of the matrix it comes from
    identity: Identity
    namer: Namer
    model: Model | None

    def input_tokens(self, row: Row) -> int:
        """What a row's images are expected to take."""
        return costs.input_tokens(self.model, self.variant, row.inputs) if row.inputs else 0


class Item(NamedTuple):
    """A task before its path is known. `replaces` are those whose place it takes, as the manifest's fixes say."""

    row: Row
    cast: Cast
    sample: int
    take: int
    key: str
    replaces: tuple[Mark, ...] = ()


class Expansion:
    """A manifest's tasks. `rows` and `duplicates` count what went by so far; `casts` are the variants that occurred."""

    def __init__(self, manifest: Manifest, gallery: Gallery) -> None:
        self._manifest = manifest
        self._gallery = gallery
        self._paths = paths(manifest)
        self._samples = range(1, manifest.samples + 1)
        self._cast: dict[str, tuple[Cast, ...]] = {}
        self._sent: dict[str, Variant] = {}
        self._matches = any(variant.param("size") == sizes.MATCH for variant in manifest.variants)
        self._judge = Judge(manifest) if manifest.fixes else None
        self.fixes = {**manifest.fixes}  # those that no task was met for so far
        self.rows = self.duplicates = 0
        fixes = sorted((key, fix.prompt, fix.settings) for key, fix in manifest.fixes.items())
        self._read = hashlib.blake2b(canonical(fixes).encode() if fixes else b"", digest_size=16)

    @property
    def digest(self) -> bytes:
        """Of the rows that went by so far, and of what they are called."""
        return self._read.digest()

    @property
    def each(self) -> int:
        """Tasks of one row."""
        return len(self._manifest.variants) * len(self._samples)

    def distinct(self) -> Iterator[tuple[Row, bool]]:
        """Every row, and whether it is the first of its kind. Refuses more tasks than a job can have."""
        self._refuse(sum(prod(len(values) for _, values in each.vars) for each in self._manifest.sources))
        seen: set[bytes] = set()
        for row in rows(self._manifest, self._gallery):
            self.rows += 1
            self._refuse(self.rows)
            digest, before = row.digest, len(seen)
            self._read.update(digest + row.id.encode())
            for each in row.inputs:  # the same bytes may lie elsewhere by now
                self._read.update(each.ref.encode())
            seen.add(digest)
            first = len(seen) > before
            self.duplicates += not first
            yield row, first

    def _refuse(self, rows: int) -> None:
        if (tasks := rows * self.each) > TASKS_MOST:
            raise ManifestError(f"{self._manifest.file}: {tasks:,} tasks or more: a job has at most {TASKS_MOST:,}")

    def items(self, row: Row) -> list[Item]:
        """Each of a row's tasks, or what takes its place."""
        prompt, inputs = canonical(row.prompt), tuple([each.identity for each in row.inputs])
        found = [
            Item(row, cast, sample, 1, cast.identity.key(prompt, sample, 1, inputs))
            for cast in self.casts(row)
            for sample in self._samples
        ]
        return [*self._mended(found)] if self._manifest.fixes else found

    def _mended(self, items: list[Item]) -> Iterator[Item]:
        """What the fixes make of them."""
        for item in items:
            while fix := self._manifest.fixes.get(item.key):
                self.fixes.pop(item.key, None)
                item = self._fix(item, fix)
            yield item

    def _fix(self, item: Item, fix: Fix) -> Item:
        """A task as it is made again: another take than any before, so that it is none that was bought already."""
        prompt, settings = fix.prompt or item.row.prompt, {**dict(item.row.settings), **dict(fix.settings)}
        row = replace(item.row, prompt=prompt, settings=tuple(sorted(settings.items())))
        says = flaw(prompt, [*self._manifest.providers.values()], item.cast.variant.operation)
        if says := says or (self._judge.wrong(row, item.cast.cell) if fix.settings and self._judge else ""):
            raise ManifestError(f"{fix.where}: {says}")
        cast, inputs = self.casts(row)[item.cast.cell], tuple([each.identity for each in row.inputs])
        take = _another(item.key) if fix.prompt or fix.settings else item.take + 1
        key = cast.identity.key(canonical(prompt), item.sample, take, inputs)
        return Item(row, cast, item.sample, take, key, (*item.replaces, (item.row.prompt, item.key)))

    def casts(self, row: Row) -> tuple[Cast, ...]:
        """The variants of rows that have these settings of their own, and a first image of this shape."""
        shape = row.shape if self._matches or "size" in dict(row.settings) else (0, 0)
        key = canonical([row.settings, shape]) if row.settings or shape != (0, 0) else ""
        if key not in self._cast:
            names = self._manifest.row_names
            asked = [_with(variant, row.settings, names) for variant in self._manifest.variants]
            sent = [self._matched(variant, row.shape) for variant in asked]
            self._cast[key] = tuple(
                Cast(sent, n, Identity(asked), self._paths.variant(sent), self._model(sent))
                for n, (asked, sent) in enumerate(zip(asked, sent, strict=True))
            )
        return self._cast[key]

    def _model(self, variant: Variant) -> Model | None:
        return catalog.model(variant.model, self._manifest.providers[variant.provider])

    def _matched(self, variant: Variant, shape: tuple[int, int]) -> Variant:
        """The variant with the size that `match` comes to for an image of that shape."""
        if variant.param("size") != sizes.MATCH:
            return variant
        choice = sizes.fits(self._manifest.providers[variant.provider], variant.model)
        assert choice  # a row of which nobody could say it was told of
        params = {**dict(variant.params), "size": sizes.matched(*shape, choice)}
        sent = replace(variant, params=tuple(sorted(params.items())))
        named = (sent.provider, sent.model, str(sent.operation), dict(sent.params), dict(sent.axes))
        return self._sent.setdefault(canonical(named), sent)

    def tasks(self, row: Row) -> Iterator[Task]:
        """The tasks of a row."""
        where = self._paths.row(row)
        for item in self.items(row):
            yield _task(item, where if item.row is row else self._paths.row(item.row))

    def task(self, item: Item) -> Task:
        """One of them."""
        return _task(item, self._paths.row(item.row))

    def try_path(self, row: Row) -> str:
        """One of a row's paths, without a key: a template of the user's may fail."""
        return self.casts(row)[0].namer.path(self._paths.row(row), 1, "")


def _another(key: str) -> int:
    """The take that a changed task becomes: several that are changed to the same prompt stay several, in any order."""
    return 2 + int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest())


def _task(item: Item, where: object) -> Task:
    row, cast, sample, take, key, replaces = item
    path = cast.namer.path(where, sample, key)
    tokens = cast.input_tokens(row)
    return Task(key, cast.variant, row.prompt, sample, take, path, row.inputs, tokens, replaces=replaces)


def _with(variant: Variant, settings: Params, names: tuple[str, ...]) -> Variant:
    """A variant with a row's own settings; by what any row sets, `names`, it is grouped too."""
    own = dict(settings)
    model = str(own.pop("model", variant.model))
    operation = Operation(str(own.pop("operation", variant.operation)))
    params = {**dict(variant.params), **own}
    of_matrix = tuple((name, own.get(name, value)) for name, value in variant.axes)  # a fix may go before an axis
    of_rows = tuple((name, params[name]) for name in names if name in params)
    sorted_ = tuple(sorted(params.items()))
    return replace(variant, model=model, operation=operation, params=sorted_, axes=(*of_matrix, *of_rows))


def tasks(manifest: Manifest) -> Iterator[Task]:
    """Every task once: row by row, for each its variants, for each its samples."""
    expansion = Expansion(manifest, Gallery(manifest.folder))
    for row, first in expansion.distinct():
        if first:
            yield from expansion.tasks(row)
