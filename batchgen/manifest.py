"""What is wanted: a YAML manifest read into frozen nouns, or every mistake in it with its line."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from batchgen import combinations, document, fixes, sources, terms, variables
from batchgen.catalog import Provider
from batchgen.combinations import Wanted
from batchgen.document import Document, Loc
from batchgen.endpoint import Doors
from batchgen.errors import ManifestError
from batchgen.fixes import Fixes
from batchgen.form import OutputForm, TopForm, check, section
from batchgen.problems import Problems, nearest
from batchgen.readers import Feed
from batchgen.sources import Frame, Place, Source
from batchgen.task import Operation, Variant
from batchgen.terms import Engine, Limits, Notify, Retry

PATH_NAMES = frozenset({"slug", "sample", "key", "name", "number", "id", "model", "provider"})
"""What every output path can use, beside the request's parameters."""
WORDS: tuple[Loc, ...] = (("name",), ("project",), ("provider",), ("model",), ("output", "path"), ("output", "store"))
"""Text of one word, behind which comments are usual."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is wanted: each row of each source, in each variant, so many samples of it.

    `text` is the YAML as it was read, `overrides` are the values, by dotted key, that went before it.
    """

    file: Path
    text: str
    overrides: Mapping[str, object]
    rehearsed: bool
    name: str
    project: str
    providers: Mapping[str, Provider]
    """Those that some variant asks, by their identity."""
    operation: Operation
    """What is done where a source does not say otherwise."""
    variants: tuple[Variant, ...]
    """One a combination of the matrix, without what rows set for themselves."""
    sources: tuple[Source, ...]
    samples: int
    limits: Limits
    retry: Retry
    output_path: str | None
    partials: bool
    """Whether the pictures that a stream shows on the way are kept."""
    store: str
    """The URL of the place for its images; empty: the run's folder."""
    fixes_file: Path
    """Where `fixes` are read, and batchgen redo writes them; it need not be there."""
    fixes: Fixes
    notify: Notify | None
    engine: Engine

    @property
    def folder(self) -> Path:
        """Where it lies: paths of images and masks begin there."""
        return self.file.parent

    @property
    def row_names(self) -> tuple[str, ...]:
        """The parameters that rows set for themselves."""
        return tuple(dict.fromkeys(cell.name for source in self.sources for cell in source.cells))

    @property
    def path_names(self) -> frozenset[str]:
        """The variables that an output path has for every row; the row's own come on top."""
        params = (name for variant in self.variants for name, _ in (*variant.params, *variant.axes))
        return PATH_NAMES.union(params, self.row_names)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a manifest is read with, beside its text.

    `overrides` are values by dotted key; text among them is read as YAML. `trust_hosts` may be given keys (None: any
    host, because nothing is sent). With `rehearse` the sandbox plays every provider, and the job has a name of its own.
    `stdin` takes the place of it. Without `fixes` they are not read: what is queued has them already.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    overrides: Mapping[str, object] = field(default_factory=dict)
    trust_hosts: frozenset[str] | None = frozenset()
    rehearse: bool = False
    stdin: Feed | None = None
    fixes: bool = True

    @property
    def doors(self) -> Doors:
        return Doors(self.environ, self.trust_hosts, self.rehearse)


def load(path: Path, setup: Setup | None = None) -> Manifest:
    """Read a manifest; ManifestError with every problem at once. The files that it names must be there."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    return _read(document.decode(data, str(path)), path, setup or Setup(), look=True)


def loads(text: str, path: Path, setup: Setup | None = None) -> Manifest:
    """Read a manifest from text, as if it stood at `path`; the files that it names may lie elsewhere by now."""
    return _read(text, path, setup or Setup(), look=False)


def _parsed(text: str, file: Path, overrides: Mapping[str, object]) -> Document:
    tree = document.parse(text, str(file))
    for key, value in overrides.items():
        said = value if isinstance(value, str) else _json(key, value)
        tree = tree.override(tuple(key.split(".")), document.parse(said, f"--set {key}"))
    return tree


def _json(key: str, value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ManifestError(f"--set {key}: no value of YAML: {error}") from None


def _read(text: str, file: Path, setup: Setup, look: bool) -> Manifest:
    tree = _parsed(text, file, setup.overrides)
    problems = Problems(tree)
    value = _sections(tree)
    _check_words(problems)
    top = check(TopForm, value, (), problems)
    limits, retry = terms.read_limits(value, problems), terms.read_retry(value, problems)
    notify, engine = terms.read_notify(value, problems), terms.read_engine(value, problems)
    output = check(OutputForm, section(value, "output"), ("output",), problems)
    wanted = combinations.read(value, setup.doors, problems)
    asked = _asked(output.path or "", problems) if output else set()
    operation = Operation(top.operation) if top else Operation.GENERATE
    frame = Frame(operation, wanted.providers, wanted.taken, wanted.judged, wanted.open, asked)
    found = sources.read(value.get("prompts"), Place(file.parent, look, setup.stdin), frame, problems)
    _check_path(asked, wanted, found, problems)
    terms.check_paces(limits, wanted.providers, problems)
    problems.settle()
    assert top and limits and retry and output and engine  # noqa: PT018 (a None has told its problems)
    return _Read(tree, top, limits, retry, output, notify, engine, wanted, found).manifest(text, file, setup)


@dataclass(frozen=True, slots=True)
class _Read:
    """All that stands in a manifest, as it was read, without a problem."""

    tree: Document
    top: TopForm
    limits: Limits
    retry: Retry
    output: OutputForm
    notify: Notify | None
    engine: Engine
    wanted: Wanted
    sources: tuple[Source, ...]

    def manifest(self, text: str, file: Path, setup: Setup) -> Manifest:
        top, wanted, operation = self.top, self.wanted, Operation(self.top.operation)
        variants = tuple(combinations.variant(cell, wanted.defaults, operation) for cell in wanted.cells)
        name = self.tree.text(("name",), top.name)
        mended = _mended(top.fixes or f"{name}.fixes.csv", file, setup)
        return Manifest(
            file=file,
            text=text,
            overrides=setup.overrides,
            rehearsed=setup.rehearse,
            name=name + (".sandbox" if setup.rehearse else ""),
            project=self.tree.text(("project",), top.project),
            providers=_asked_providers(wanted.providers, variants),
            operation=operation,
            variants=variants,
            sources=self.sources,
            samples=top.samples,
            limits=self.limits,
            retry=self.retry,
            output_path=self.output.path,
            partials=self.output.partials,
            store=self.output.store or "",
            fixes_file=mended,
            fixes=fixes.read(mended, wanted.providers) if setup.fixes else {},
            notify=self.notify,
            engine=self.engine,
        )


def _asked_providers(providers: Sequence[Provider], variants: Sequence[Variant]) -> dict[str, Provider]:
    """Those that some variant asks, by their identity."""
    hosts = {variant.provider for variant in variants}
    return {each.identity: each for each in providers if each.identity in hosts}


def _mended(name: str, file: Path, setup: Setup) -> Path:
    """Where fixes stand: beside the manifest. The tasks of a rehearsal have other keys, and fixes of their own."""
    path = file.parent / name
    return path.with_suffix(".sandbox.csv") if setup.rehearse else path


def _check_words(problems: Problems) -> None:
    for loc in WORDS:
        if doubt := problems.document.doubt(loc, word=True):
            problems.add(loc, doubt)


def _sections(tree: Document) -> dict[str, object]:
    """The top keys; `matrix:` with nothing behind it is as good as none."""
    if tree.value is None:
        raise ManifestError(f"{tree.where(())}: the file is empty")
    if not isinstance(tree.value, dict):
        raise ManifestError(f"{tree.where(())}: a manifest begins with keys: name: …")
    optional = {name for name, field in TopForm.model_fields.items() if not field.is_required()}
    return {key: value for key, value in tree.value.items() if value is not None or key not in optional}


def _asked(path: str, problems: Problems) -> Set[str]:
    """The variables of the output path."""
    loc = ("output", "path")
    if path.startswith("/") or ".." in path.split("/"):
        problems.add(loc, "must stay inside the images folder: no / at the beginning, no ..")
    try:
        return variables.asked(path)
    except ValueError as error:
        problems.add(loc, str(error))
        return frozenset()


def _check_path(asked: Set[str], wanted: Wanted, found: Sequence[Source], problems: Problems) -> None:
    """Whether every row has the variables of the output path, as far as one can know without reading files."""
    names = PATH_NAMES | wanted.meant | {each.name for each in wanted.defaults}
    names |= {cell.name for source in found for cell in source.cells}
    known = names.union(*(source.variables or () for source in found))
    lacking: dict[str, list[str]] = {}
    for name in sorted(asked - names):
        if where := _lacking(name, found):
            lacking.setdefault(where, []).append(name)
    for where, absent in lacking.items():
        listed = ", ".join(f"{{{{ {name} }}}}{nearest(name, known - {name})}" for name in absent)
        says = f"{listed} {'is' if len(absent) == 1 else 'are'} not defined for the prompt at {where}"
        problems.add(("output", "path"), says)


def _lacking(name: str, found: Iterable[Source]) -> str:
    """The first source whose rows are known not to have that variable."""
    return next((each.where for each in found if each.variables is not None and name not in each.variables), "")
