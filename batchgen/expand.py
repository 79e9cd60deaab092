"""Rows × matrix × samples → tasks, in the manifest's order and never all at once; equal rows share theirs."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from batchgen.errors import ManifestError
from batchgen.manifest import Manifest
from batchgen.paths import Namer, paths
from batchgen.rows import Row, rows
from batchgen.task import Identity, Params, Task, Variant, canonical

TASKS_MOST = 10**8


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """One variant as the rows of some settings are sent in it, and what makes its keys and paths."""

    variant: Variant
    cell: int  # which combination of the matrix it comes from
    identity: Identity
    namer: Namer


class Expansion:
    """A manifest's tasks. `rows` and `duplicates` count what went by so far; `casts` are the variants that occurred."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._paths = paths(manifest)
        self._samples = range(1, manifest.samples + 1)
        self._cast: dict[str, tuple[Cast, ...]] = {}
        self.rows = self.duplicates = 0
        self._read = hashlib.blake2b(digest_size=16)

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
        for row in rows(self._manifest):
            self.rows += 1
            self._refuse(self.rows)
            digest, before = row.digest, len(seen)
            self._read.update(digest + row.id.encode())
            seen.add(digest)
            first = len(seen) > before
            self.duplicates += not first
            yield row, first

    def _refuse(self, rows: int) -> None:
        if (tasks := rows * self.each) > TASKS_MOST:
            raise ManifestError(f"{self._manifest.file}: {tasks:,} tasks or more: a job has at most {TASKS_MOST:,}")

    def keys(self, row: Row) -> list[tuple[Cast, int, str]]:
        """The variant, sample and key of each of a row's tasks."""
        prompt = canonical(row.prompt)
        return [
            (cast, sample, cast.identity.key(prompt, sample, 1))
            for cast in self.casts(row.settings)
            for sample in self._samples
        ]

    def casts(self, settings: Params) -> tuple[Cast, ...]:
        """The variants of rows that have these settings of their own."""
        key = canonical(settings) if settings else ""
        if key not in self._cast:
            found = [_with(variant, settings, self._manifest.row_names) for variant in self._manifest.variants]
            self._cast[key] = tuple(
                Cast(variant, n, Identity(variant), self._paths.variant(variant)) for n, variant in enumerate(found)
            )
        return self._cast[key]

    def tasks(self, row: Row) -> Iterator[Task]:
        """The tasks of a row."""
        where = self._paths.row(row)
        for cast, sample, key in self.keys(row):
            yield Task(key, cast.variant, row.prompt, sample, 1, cast.namer.path(where, sample, key))

    def task(self, row: Row, cast: Cast, sample: int, key: str) -> Task:
        """One of them."""
        return Task(key, cast.variant, row.prompt, sample, 1, cast.namer.path(self._paths.row(row), sample, key))

    def try_path(self, row: Row) -> str:
        """One of a row's paths, without a key: a template of the user's may fail."""
        return self.casts(row.settings)[0].namer.path(self._paths.row(row), 1, "")


def _with(variant: Variant, settings: Params, names: tuple[str, ...]) -> Variant:
    """A variant with a row's own settings; by what any row sets, `names`, it is grouped too."""
    own = dict(settings)
    model = str(own.pop("model", variant.model))
    params = {**dict(variant.params), **own}
    axes = tuple((name, params[name]) for name in names if name in params)
    return replace(variant, model=model, params=tuple(sorted(params.items())), axes=(*variant.axes, *axes))


def tasks(manifest: Manifest) -> Iterator[Task]:
    """Every task once: row by row, for each its variants, for each its samples."""
    expansion = Expansion(manifest)
    for row, first in expansion.distinct():
        if first:
            yield from expansion.tasks(row)
