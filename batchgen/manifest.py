"""What is wanted: a YAML manifest read into frozen nouns, or every mistake in it with its line."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

from batchgen import catalog, document, endpoint, matrix, parameters, sources, template
from batchgen.catalog import Provider
from batchgen.document import Document
from batchgen.errors import ManifestError
from batchgen.form import LimitsForm, OutputForm, RetryForm, TopForm, check
from batchgen.matrix import Axis, Matrix
from batchgen.parameters import Combination, Setting
from batchgen.problems import Problems, nearest
from batchgen.sources import FileSource, Source, TemplateSource
from batchgen.task import Operation, Params

SOON = timedelta(days=30)
PATH_NAMES = frozenset({"slug", "sample", "key", "name", "number", "model", "provider"})
"""What every output path can use, beside the request's parameters."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the estimate, 0 to 1."""

    of_estimate: Decimal


@dataclass(frozen=True, slots=True)
class Limits:
    """`budget` in nano-dollars, `timeout` in seconds."""

    concurrency: int
    budget: int | None
    images: int | None
    timeout: float


@dataclass(frozen=True, slots=True)
class Retry:
    """`allowance`: what may be sent again after an unknown: nano-dollars, or a share; None: the run works it out."""

    attempts: int
    on_unknown: Literal["retry", "hold"]
    allowance: Share | int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is wanted. `request` holds the defaults; an axis of the matrix goes before it."""

    file: Path
    text: str
    name: str
    project: str
    provider: Provider
    model: str
    operation: Operation
    sources: tuple[Source, ...]
    matrix: Matrix[object]
    samples: int
    request: Params
    limits: Limits
    retry: Retry
    output_path: str | None
    warnings: tuple[str, ...]

    @property
    def axes(self) -> tuple[Axis[object], ...]:
        return self.matrix.axes

    @property
    def path_names(self) -> frozenset[str]:
        """The variables that an output path has for every row; the row's own come on top."""
        return PATH_NAMES.union((name for name, _ in self.request), (axis.name for axis in self.axes))


@dataclass(frozen=True, slots=True)
class _World:
    """What a manifest is read in, beside its text."""

    file: Path
    environ: Mapping[str, str]
    trust_hosts: frozenset[str]
    today: date


def load(
    path: Path,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
    trust_hosts: frozenset[str] = frozenset(),
    today: date | None = None,
) -> Manifest:
    """Read a manifest; ManifestError with every problem at once."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    return loads(document.decode(data, str(path)), path, environ, overrides, trust_hosts, today)


def loads(
    text: str,
    path: Path,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
    trust_hosts: frozenset[str] = frozenset(),
    today: date | None = None,
) -> Manifest:
    """Read a manifest from text, as if it stood at `path`.

    `overrides` are values by dotted key; text among them is read as YAML. `trust_hosts` may be given keys.
    """
    tree = document.parse(text, str(path))
    for key, value in (overrides or {}).items():
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        tree = tree.override(tuple(key.split(".")), document.parse(said, f"--set {key}"))
    return _read(tree, text, _World(path, environ, trust_hosts, today or date.today()))


def _read(tree: Document, text: str, world: _World) -> Manifest:
    problems = Problems(tree)
    value = _sections(tree, problems)
    top = check(TopForm, value, (), problems)
    limits = check(LimitsForm, _section(value, "limits"), ("limits",), problems)
    retry = check(RetryForm, _section(value, "retry"), ("retry",), problems)
    output = check(OutputForm, _section(value, "output"), ("output",), problems)
    provider = endpoint.read(value.get("provider"), world.environ, world.trust_hosts, problems)
    found = sources.read(value.get("prompts"), world.file.parent, provider, problems)
    wanted = _wanted(value, provider, problems)
    names = PATH_NAMES.union(_section(value, "request"), _section(value, "matrix")) - {"exclude"}
    if output is not None and output.path is not None:
        _check_path(output.path, names, found, problems)
    problems.settle()
    assert top and limits and retry and output and provider and wanted  # noqa: PT018 (a None has told its problems)
    return Manifest(
        file=world.file,
        text=text,
        name=tree.text(("name",), top.name),
        project=tree.text(("project",), top.project),
        provider=provider,
        model=wanted.model,
        operation=Operation(top.operation),
        sources=found,
        matrix=_plain(wanted.matrix),
        samples=top.samples,
        request=tuple(sorted((setting.name, setting.value) for setting in wanted.request)),
        limits=Limits(limits.concurrency, limits.budget, limits.images, limits.timeout),
        retry=Retry(retry.attempts, retry.on_unknown, _allowance(retry)),
        output_path=output.path,
        warnings=tuple(_warnings(wanted.models, world.today)),
    )


def _sections(tree: Document, problems: Problems) -> dict[str, object]:
    """The top keys that have a value; `matrix:` with nothing behind it is as good as none."""
    if tree.value is None:
        raise ManifestError(f"{tree.where(())}: the file is empty")
    if not isinstance(tree.value, dict):
        raise ManifestError(f"{tree.where(())}: a manifest begins with keys: name: …")
    return {key: value for key, value in tree.value.items() if value is not None}


def _section(value: Mapping[str, object], name: str) -> dict[str, object]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The part of a request that the manifest sets."""

    model: str
    request: tuple[Setting, ...]
    matrix: Matrix[Setting]
    combinations: tuple[Combination, ...]

    @property
    def models(self) -> list[str]:
        """Every model that is asked, once, in order."""
        names = (str(each["model"].value) if "model" in each else self.model for each in self.combinations)
        return list(dict.fromkeys(names))


def _wanted(value: Mapping[str, object], provider: Provider | None, problems: Problems) -> _Wanted | None:
    if provider is None:
        return None
    model = problems.document.text(("model",), value.get("model", "")).strip()
    request = tuple(_request(_section(value, "request"), provider, problems))
    axes = matrix.read(_section(value, "matrix"), provider, problems)
    defaults = {setting.name: setting for setting in request}
    few = axes.combinations() if axes.size <= matrix.COMBINATIONS_MOST else ()
    combinations = tuple({**defaults, **dict(combination)} for combination in few)
    parameters.check(combinations, model, provider, problems)
    return _Wanted(model, request, axes, combinations)


def _request(section: Mapping[str, object], provider: Provider, problems: Problems) -> Iterator[Setting]:
    for name, value in section.items():
        loc = ("request", name)
        if name == "model":
            problems.add(loc, "model stands at the top of the manifest, or in the matrix", key=True)
        elif setting := parameters.read(name, value, loc, provider, problems):
            yield setting


def _plain(axes: Matrix[Setting]) -> Matrix[object]:
    """The matrix without its places."""
    return Matrix(
        tuple(Axis(axis.name, tuple(setting.value for setting in axis.values)) for axis in axes.axes),
        tuple(tuple((name, setting.value) for name, setting in partial) for partial in axes.exclude),
    )


def _allowance(retry: RetryForm) -> Share | int | None:
    match retry.duplicate_allowance:
        case Decimal() as share:
            return Share(share)
        case amount:
            return amount


def _warnings(models: Iterable[str], today: date) -> Iterator[str]:
    for name in models:
        known = catalog.model(name)
        if known is None:
            yield f"the catalog does not know the model {name!r}: it is sent as it stands, its values are not checked"
        elif known.retired and (day := date.fromisoformat(known.retired)) <= today:
            yield f"the model {name!r} was retired on {day}"
        elif known.retired and day - today <= SOON:
            yield f"the model {name!r} will be retired on {day}, in {(day - today).days} days"


def _check_path(path: str, names: frozenset[str], found: Sequence[Source], problems: Problems) -> None:
    """Whether every row has the variables of the output path, as far as one can know without reading files."""
    loc = ("output", "path")
    if path.startswith("/") or ".." in path.split("/"):
        problems.add(loc, "must stay inside the images folder: no / at the beginning, no ..")
    try:
        asked = template.compile(path).variables - names
    except ValueError as error:
        problems.add(loc, str(error))
        return
    known = names.union(*(_own(source) or () for source in found))
    for name in sorted(asked):
        if lacking := _lacking(name, found):
            says = f"{{{{ {name} }}}} is not defined for the prompt at {lacking}{nearest(name, known - {name})}"
            problems.add(loc, says)


def _lacking(name: str, found: Iterable[Source]) -> str:
    """The first source whose rows are known not to have that variable."""
    return next((source.where for source in found if (own := _own(source)) is not None and name not in own), "")


def _own(source: Source) -> frozenset[str] | None:
    """The variables of a source's rows; None where only the file knows."""
    match source:
        case TemplateSource():
            return frozenset(name for name, _ in source.vars)
        case FileSource() if source.path.suffix.lower() != ".txt":
            return None
        case FileSource():
            return frozenset({"line"})
    return frozenset()
