"""Rows × matrix × samples → tasks, in the manifest's order and never all at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from batchgen.errors import ManifestError
from batchgen.manifest import Manifest
from batchgen.paths import paths
from batchgen.rows import rows
from batchgen.sources import FileSource, Source, TemplateSource
from batchgen.task import Task, Variant, identity

TASKS_MOST = 10**8


@dataclass(frozen=True, slots=True)
class Counts:
    """What a manifest asks for, equal rows counted each. `prompt_bytes` is the UTF-8 of every row's prompt, once."""

    rows: int
    tasks: int
    images: int
    prompt_bytes: int


def variants(manifest: Manifest) -> tuple[Variant, ...]:
    """Every combination of the matrix over the request's defaults."""
    return tuple(_variant(manifest, dict(axes)) for axes in manifest.matrix.combinations())


def _variant(manifest: Manifest, axes: dict[str, object]) -> Variant:
    params = {**dict(manifest.request), **axes}
    model = str(params.pop("model", manifest.model))
    return Variant(
        provider=manifest.provider.identity,
        model=model,
        operation=manifest.operation,
        params=tuple(sorted(params.items())),
        axes=tuple(axes.items()),
    )


def tasks(manifest: Manifest) -> Iterator[Task]:
    """Every task: row by row, for each its variants, for each its samples. Equal rows yield equal tasks again."""
    wanted = variants(manifest)
    names = paths(manifest, wanted)
    for row in rows(manifest):
        path = names.of(row)
        for n, variant in enumerate(wanted):
            for sample in range(1, manifest.samples + 1):
                key = identity(variant, row.prompt, sample, 1)
                yield Task(key, variant, row.prompt, sample, 1, path(n, sample, key))


def check(manifest: Manifest) -> Counts:
    """Look at every row, and count; ManifestError for what is wrong in them, or too much."""
    wanted = variants(manifest)
    each = len(wanted) * manifest.samples
    _refuse(sum(_known(source) for source in manifest.sources) * each, manifest)
    count = prompt_bytes = 0
    names = paths(manifest, wanted)
    for row in rows(manifest):
        count += 1
        if manifest.output_path:
            names.of(row)(0, 1, "")  # a template of the user's may fail
        prompt_bytes += len(row.prompt.encode())
        _refuse(count * each, manifest)
    images = sum(variant.images for variant in wanted) * manifest.samples
    return Counts(count, count * each, count * images, prompt_bytes)


def _known(source: Source) -> int:
    """How many rows a source is known to have before anything is read."""
    match source:
        case TemplateSource():
            return prod(len(values) for _, values in source.vars)
        case FileSource():
            return 0
    return 1


def _refuse(count: int, manifest: Manifest) -> None:
    if count > TASKS_MOST:
        raise ManifestError(f"{manifest.file}: {count:,} tasks or more: a job has at most {TASKS_MOST:,}")
