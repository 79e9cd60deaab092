"""Sources → rows: every prompt that the manifest asks for, one at a time, whatever the size of the file."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, product

from batchgen import inputs, parameters, template
from batchgen.errors import ManifestError
from batchgen.inputs import Gallery
from batchgen.manifest import Manifest
from batchgen.parameters import Combination, Setting
from batchgen.problems import cut, nearest, shown
from batchgen.readers import Record
from batchgen.sizes import MATCH
from batchgen.sources import Cell, Source, flaw
from batchgen.task import Input, Operation, Params, Variant, canonical, prompt_digest, travels
from batchgen.template import Template

PROBLEMS_MOST = 20
COLUMNS_SHOWN = 200
"""Characters of the names of a table's columns."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, the variables that it was made of, and the parameters that it sets for itself.

    `number` counts from 1, `where` is its file and line, `id` the user's name for it. `settings` may name another
    operation than the manifest's; `inputs` are the images that it edits or varies, then the mask.
    """

    number: int
    prompt: str
    variables: Mapping[str, str]
    where: str
    id: str = ""
    settings: Params = ()
    inputs: tuple[Input, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height of the first image; zeros where there is none, or nobody knows."""
        return (self.inputs[0].width, self.inputs[0].height) if self.inputs else (0, 0)

    @property
    def digest(self) -> bytes:
        """What it asks for, in 16 bytes: equal rows have equal ones."""
        settings = [(name, value) for name, value in self.settings if not travels(name, value)]
        if not (settings or self.inputs):
            return prompt_digest(self.prompt)
        return prompt_digest(canonical([self.prompt, settings, *(each.identity for each in self.inputs)]))


def rows(manifest: Manifest, gallery: Gallery) -> Iterator[Row]:
    """Every row in order. From the first problem on nothing but problems is sought, and then ManifestError raised."""
    problems: list[str] = []
    numbers = count(1)
    ids = _Ids()
    for n, source in enumerate(manifest.sources):
        if source.text:
            stream: Iterable[Row | str] = [Row(next(numbers), source.text, {}, source.where)]
        else:
            stream = _read(source, f"prompts.{n}", _Maker(source, manifest, gallery), numbers)
        for found in stream:
            if isinstance(found, Row):
                found = ids.check(found) or found
            if isinstance(found, Row) and not problems:
                yield found
            elif isinstance(found, str):
                problems.append(found)
            if len(problems) == PROBLEMS_MOST:
                raise ManifestError(*problems, "… and perhaps more")
    if problems:
        raise ManifestError(*problems)


@dataclass(slots=True)
class _Ids:
    """Whether each name is one row's alone; equal rows may share one."""

    seen: dict[str, bytes] = field(default_factory=dict)

    def check(self, row: Row) -> str:
        if not row.id or self.seen.setdefault(row.id, digest := row.digest) == digest:
            return ""
        return f"{row.where}: the id {shown(row.id)} is another row's too"


def _read(source: Source, path: str, maker: "_Maker", numbers: Iterator[int]) -> Iterator[Row | str]:
    """A source's rows, and its problems as text; `path` is what the manifest calls it."""
    table = source.feed is not None and source.feed.format in ("csv", "tsv")
    none = True
    try:
        for record in _chosen(source) if source.feed else _combined(source):
            none = False
            if table and not record.wrong:  # the first row has the columns of all
                table = False
                if lacks := maker.lacks_column(record.variables, path):
                    yield f"{source.where}: {lacks}"
                    return
            yield maker.row(record, next(numbers))
    except ManifestError as error:  # the file cannot be read further
        yield from error.problems
        return
    if none and source.feed:
        yield f"{source.where}: no prompt came out of {source.feed.name}"


class _Maker:
    """Makes rows of a source's records: what is the same for all of them is worked out once."""

    def __init__(self, source: Source, manifest: Manifest, gallery: Gallery) -> None:
        self._source = source
        self._gallery = gallery
        self._operation = manifest.operation
        self._images = [template.compile(each) for each in source.images]
        self._mask = template.compile(source.mask) if source.mask else None
        self._prompt = template.compile(source.prompt) if source.prompt is not None else None
        self._id = template.compile(source.id) if source.id else None
        self._cells = [(cell, template.compile(cell.template) if cell.template else None) for cell in source.cells]
        templates = (self._prompt, self._id, self._mask, *self._images, *(each for _, each in self._cells))
        self._asked = _asked(*templates, manifest=manifest)
        self._providers = tuple(manifest.providers.values())
        self._judge = Judge(manifest) if any(cell.template for cell in source.cells) or source.images else None
        self._values: dict[tuple[str, str], object] = {}
        first = manifest.variants[0]  # what rows set, no axis does: it is the same in all of them
        self._defaults = {"model": first.model, **dict(first.params)}

    def row(self, record: Record, number: int) -> Row | str:
        variables = self._named(record.variables)
        if wrong := record.wrong or self.lacks(variables):
            return f"{record.where}: {wrong}"
        try:
            row = Row(
                number,
                self._text(variables),
                variables,
                record.where,
                self._name(variables),
                self._settings(variables),
                self._inputs(variables),
            )
        except ValueError as error:
            return f"{record.where}: {error}"
        wrong = flaw(row.prompt, self._providers, self._source.operation) or (
            self._judge.wrong(row) if self._judge else ""
        )
        return f"{record.where}: {wrong}" if wrong else row

    def _named(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        """The variables, also under the names that are asked for, where only the case differs."""
        if not (missing := self._asked - variables.keys()):
            return variables
        lower: dict[str, list[str]] = {}
        for name in variables:
            lower.setdefault(name.lower(), []).append(name)
        found = {name: lower.get(name.lower(), []) for name in missing}
        return {**variables, **{name: variables[same[0]] for name, same in found.items() if len(same) == 1}}

    def lacks(self, variables: Mapping[str, str]) -> str:
        """What these variables lack, or nothing."""
        variables = self._named(variables)
        for name in sorted(self._asked - variables.keys()):
            return f"{{{{ {name} }}}} is not defined{nearest(name, variables)}"
        if not (self._prompt or self._promptless or _prompt_column(variables)):
            return f"no column is named prompt: write prompt: with {{{{ … }}}} around some of {', '.join(variables)}"
        return ""

    def lacks_column(self, columns: Mapping[str, str], path: str) -> str:
        """What the columns of a table lack, or nothing."""
        there = self._named(columns)
        missing = sorted(self._asked - there.keys())
        if not missing and (self._prompt or self._promptless or _prompt_column(there)):
            return ""
        name = missing[0] if missing else "prompt"
        it = self._source.feed.name if self._source.feed else ""
        lacks, has = f"{it} has no column {name}{nearest(name, columns)}", cut(", ".join(columns), COLUMNS_SHOWN)
        if not missing:
            return f"{path}: {lacks}; its first line names {has}: write prompt: with {{{{ … }}}} around some of them"
        images = {f"images.{n}": each for n, each in enumerate(self._images)}
        cells = {cell.name: each for cell, each in self._cells}
        templates = {"prompt": self._prompt, "id": self._id, **images, "mask": self._mask, **cells}
        asks = (f"{path}.{key}" for key, each in templates.items() if each and name in each.variables)
        return f"{next(asks, 'output.path')}: {lacks}; it has {has}"

    @property
    def _promptless(self) -> bool:
        return self._source.operation is Operation.VARY

    def _text(self, variables: Mapping[str, str]) -> str:
        text = self._prompt.render(variables) if self._prompt else variables.get(_prompt_column(variables), "")
        return text.replace("\r\n", "\n").strip()  # how lines end is the file's affair

    def _name(self, variables: Mapping[str, str]) -> str:
        if self._id is None:
            return ""
        name = self._id.render(variables).strip()
        if not name or not name.isprintable():
            raise ValueError("the id is empty" if not name else "the id holds characters that cannot be seen")
        return name

    def _inputs(self, variables: Mapping[str, str]) -> tuple[Input, ...]:
        """The images and the mask; an empty cell names none."""
        names = [name for each in self._images if (name := _file(each, variables))]
        if self._images and not names:
            raise ValueError("images: no file is named")
        found = [self._gallery.find(name) for name in names]
        if self._mask and (name := _file(self._mask, variables)):
            found.append(self._gallery.find(name, self._source.mask_area))
        return tuple(found)

    def _settings(self, variables: Mapping[str, str]) -> Params:
        """What the row sets otherwise than the default; an empty cell falls back to that."""
        own = self._source.operation is not self._operation
        found: list[tuple[str, object]] = [("operation", str(self._source.operation))] if own else []
        for cell, compiled in self._cells:
            text = compiled.render(variables).strip() if compiled else ""
            if text or compiled is None:
                value = self._value(cell, text)
                if cell.name not in self._defaults or canonical(self._defaults[cell.name]) != canonical(value):
                    found.append((cell.name, value))
        return tuple(sorted(found))

    def _value(self, cell: Cell, text: str) -> object:
        if cell.template is None:
            return cell.value
        if (cell.name, text) not in self._values:
            try:
                self._values[cell.name, text] = parameters.convert(cell.kind, text, text)
            except ValueError as error:
                raise ValueError(f"{cell.name}: {error}") from None
        return self._values[cell.name, text]


def _file(name: Template, variables: Mapping[str, str]) -> str:
    """A file's name; nothing where all that it is made of is empty: `masks/{{ mask }}` without a mask names none."""
    made_of = [variables[each].strip() for each in name.variables]
    return name.render(variables).strip() if any(made_of) or not made_of else ""


def _asked(*templates: Template | None, manifest: Manifest) -> frozenset[str]:
    """The variables that a row must have, for its own templates and for the output path."""
    path = template.compile(manifest.output_path or "").variables - manifest.path_names
    return path.union(*(each.variables for each in templates if each))


class Judge:
    """Says what is wrong with a row's own parameters and images, in any variant; each set of them is judged once."""

    def __init__(self, manifest: Manifest) -> None:
        self._same = [_combination(variant, manifest) for variant in manifest.variants]
        self._providers = tuple(manifest.providers.values())
        self._operation = str(manifest.operation)
        self._known: dict[str, str] = {}

    def wrong(self, row: Row, cell: int | None = None) -> str:
        """Why a row cannot be sent as it is, in a combination of the matrix or in any; or nothing."""
        operation = str(dict(row.settings).get("operation", self._operation))
        for provider in self._providers if row.inputs else ():
            intake = provider.intake(operation)
            if intake and (says := inputs.objection(row.inputs, intake, provider.identity)):
                return says
        shapeless = bool(row.inputs) and not row.shape[0]
        key = canonical([row.settings, shapeless, cell])
        if key not in self._known:
            same = self._same if cell is None else self._same[cell : cell + 1]
            self._known[key] = self._judged(same, row.settings, operation, shapeless)
        return self._known[key]

    def _judged(self, all_: Sequence[Combination], settings: Params, operation: str, shapeless: bool) -> str:
        own = {name: Setting(name, value) for name, value in settings}
        own["operation"] = Setting("operation", operation)
        for combination in ({**same, **own} for same in all_):
            if says := parameters.wrong(combination):
                return says
            if shapeless and "size" in combination and combination["size"].value == MATCH:
                return "size: match needs a file as the first image: nobody knows how large another is"
        return ""


def _combination(variant: Variant, manifest: Manifest) -> Combination:
    named = (("provider", manifest.providers[variant.provider]), ("model", variant.model))
    return {name: Setting(name, value) for name, value in (*named, *variant.params)}


def _prompt_column(names: Iterable[str]) -> str:
    return next((name for name in names if name.lower() in ("prompt", "line")), "")


def _combined(source: Source) -> Iterator[Record]:
    names = [name for name, _ in source.vars]
    for values in product(*(values for _, values in source.vars)):
        yield Record(source.where, dict(zip(names, values, strict=True)))


def _chosen(source: Source) -> Iterator[Record]:
    """The rows that `take` and `shuffle` leave, in the file's order; what is wrong in a file is always told."""
    assert source.feed
    if source.take is None or source.shuffle is None:
        yield from islice(source.feed.records(), source.take)
        return
    seed = source.shuffle
    ranks = ((_rank(seed, record), n) for n, record in enumerate(source.feed.records()) if not record.wrong)
    chosen = {n for _, n in heapq.nsmallest(source.take, ranks)}
    yield from (record for n, record in enumerate(source.feed.records()) if n in chosen or record.wrong)


def _rank(seed: str, record: Record) -> bytes:
    """A row's place in the order of that seed, wherever it stands: a larger take keeps a smaller one."""
    content = canonical([seed, record.variables]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=8).digest()
