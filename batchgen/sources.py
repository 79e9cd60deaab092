"""Where prompts come from: text, templates with their own values, files."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from batchgen import parameters
from batchgen.catalog import Provider
from batchgen.document import HIDDEN, Document, Loc, unseen
from batchgen.form import SourceForm, check, misplaced, unknown_key
from batchgen.parameters import Combination, Setting
from batchgen.problems import Problems, cut, near, nearest
from batchgen.readers import STDIN, Feed, feed
from batchgen.task import Operation, canonical
from batchgen.variables import Templates, known

_BRACES = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cell:
    """A request parameter that each row sets for itself: a fixed value, or a template over the row's variables."""

    name: str
    kind: str
    template: str | None
    value: object = None


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one kind. `prompt` is a template; None: a column is the prompt. `id` is a template or plain text.

    `images` and `mask` are templates of what is to be edited, `mask_area` how a mask tells what to change. `vars` are
    the values of a template's variables, `feed` a file of rows, and with neither there is one row. `take` rows of a
    file: the first ones, or with `shuffle`, a seed, the same few of any order.
    """

    where: str
    text: str = ""  # sent as it stands
    prompt: str | None = None
    vars: tuple[tuple[str, tuple[str, ...]], ...] = ()
    feed: Feed | None = None
    id: str = ""
    operation: Operation = Operation.GENERATE
    images: tuple[str, ...] = ()
    mask: str = ""
    mask_area: str = "transparent"
    cells: tuple[Cell, ...] = ()
    take: int | None = None
    shuffle: str | None = None

    @property
    def variables(self) -> frozenset[str] | None:
        """The variables of its rows; None where only the file knows."""
        return known(self.feed, dict(self.vars))


def flaw(prompt: str, providers: Sequence[Provider], operation: Operation) -> str:
    """Why a prompt cannot be sent, or nothing; a variation needs none."""
    if not prompt:
        return "" if operation is Operation.VARY else "the prompt is empty"
    if hidden := HIDDEN.search(prompt):
        return f"the prompt {unseen(hidden)}"
    for provider in providers:
        if provider.prompt_most and len(prompt) > provider.prompt_most:
            says = f"{provider.identity} takes at most {provider.prompt_most:,}"
            return f"the prompt has {len(prompt):,} characters, and {says}"
    return ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where files lie, whether they must, and what takes the place of standard input."""

    folder: Path
    look: bool
    stdin: Feed | None = None

    def feed(self, file: str, format: str) -> Feed:
        return self.stdin if file == "-" and self.stdin else feed(file, self.folder, format)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the rest of a manifest says to every source.

    `operation` is what a source does that names none, `taken` are the parameters of the matrix and where it sets them,
    `combinations` its requests as far as they are known, `open` the parameters that are not, `path` the variables of
    the output path.
    """

    operation: Operation

    providers: Sequence[Provider]
    taken: Mapping[str, Loc]
    combinations: Sequence[Combination]
    open: Set[str]
    path: Set[str]


def read(entries: object, place: Place, frame: Frame, problems: Problems) -> tuple[Source, ...]:
    """Every source that can be read; `problems` knows of the others."""
    if not isinstance(entries, list):
        return ()
    reader = _Reader(place, frame, problems)
    found = [reader.read(entry, ("prompts", n)) for n, entry in enumerate(entries)]
    return tuple(source for source in found if source is not None)


@dataclass(frozen=True, slots=True)
class _Reader:
    place: Place
    frame: Frame
    problems: Problems
    fine: set[str] = field(default_factory=set)  # settings of sources that no combination objects to

    @property
    def document(self) -> Document:
        return self.problems.document

    def read(self, entry: object, loc: Loc) -> Source | None:
        match entry:
            case None:
                self.problems.add(loc, "is empty; text that begins with # needs quotes")
            case list():
                self.problems.add(loc, "must be text or a mapping; text that begins with [ needs quotes")
            case dict():
                return self.mapping(entry, loc)
            case _:
                return self.text(entry, loc)
        return None

    def text(self, entry: object, loc: Loc) -> Source:
        prompt = self.document.text(loc, entry).strip()
        self.whole(loc)
        if (
            says := flaw(prompt, self.frame.providers, self.frame.operation)
            or _misunderstood(prompt)
            or self.lacks_images()
        ):
            self.problems.add(loc, says)
        self.judge((), self.frame.operation, loc)
        return Source(self.document.where(loc), text=prompt, operation=self.frame.operation)

    def lacks_images(self) -> str:
        if self.frame.operation is Operation.GENERATE:
            return ""
        return f"operation {self.frame.operation} needs images: write prompt: … with images: […]"

    def mapping(self, entry: Mapping[str, object], loc: Loc) -> Source | None:
        own = {name: value for name, value in entry.items() if name in SourceForm.model_fields}
        other = {name: value for name, value in entry.items() if name not in own}
        if key := _sentence(entry, {*SourceForm.model_fields, *self.takes()}):
            self.problems.add((*loc, key), "the colon makes a mapping of this text: put it in quotes", key=True)
            return None
        form = check(SourceForm, own, loc, self.problems)
        if form is None:
            return None
        operation = Operation(form.operation or self.frame.operation)
        for says in (*_mismatches(form, other.keys() - self.takes(), operation), *_unfit_inputs(form, operation)):
            self.problems.add(loc, says)
        file = self.file(form, loc) if form.file else None
        if form.file and file is None:
            return None
        return self.source(form, loc, file, other)

    def source(self, form: SourceForm, loc: Loc, file: Feed | None, other: Mapping[str, object]) -> Source:
        names = {} if file else self.vars(form, loc)
        templates = Templates(file, known(file, names), self.problems)
        found = Source(
            where=self.document.where(loc),
            prompt=templates.read(form.prompt, (*loc, "prompt")),
            vars=tuple(names.items()),
            feed=file,
            id=templates.read(form.id, (*loc, "id")) or "",
            operation=Operation(form.operation or self.frame.operation),
            images=tuple(templates.read(each, (*loc, "images", n)) or "" for n, each in enumerate(form.images or ())),
            mask=templates.read(form.mask, (*loc, "mask")) or "",
            mask_area=form.mask_area,
            cells=tuple(cell for name, value in other.items() if (cell := self.cell(name, value, loc, templates))),
            take=form.take,
            shuffle=None if form.shuffle is None else self.document.text((*loc, "shuffle"), form.shuffle),
        )
        self.judge(found.cells, found.operation, loc)
        idle = names.keys() - templates.asked - self.frame.path
        for name in idle if templates.sound and form.prompt is not None else ():
            says = f"is used nowhere: write {{{{ {name} }}}} in the prompt"
            self.problems.add((*loc, "vars", name), says, key=True)
        return found

    def judge(self, cells: Sequence[Cell], operation: Operation, loc: Loc) -> None:
        """Hold what a source sets for all its rows against every combination; the rest is known by its rows alone."""
        own = {each.name: Setting(each.name, each.value, (*loc, each.name)) for each in cells if each.template is None}
        open = self.frame.open | {each.name for each in cells if each.template is not None}
        mark = canonical([str(operation), sorted(open), sorted((name, each.value) for name, each in own.items())])
        if mark not in self.fine:
            own["operation"] = Setting("operation", str(operation), self.place_of_operation(loc))
            before = len(self.problems.found)
            parameters.check([{**same, **own} for same in self.frame.combinations], self.problems, open)
            if len(self.problems.found) == before:
                self.fine.add(mark)

    def place_of_operation(self, loc: Loc) -> Loc:
        """Where it stands: in the source, at the top, or nowhere, which is the source."""
        places: tuple[Loc, ...] = ((*loc, "operation"), ("operation",))
        return next((each for each in places if each in self.document.keys), loc)

    def vars(self, form: SourceForm, loc: Loc) -> dict[str, tuple[str, ...]]:
        spell = self.document.text
        names = {
            name: tuple(spell((*loc, "vars", name, n), value) for n, value in enumerate(values))
            for name, values in form.vars.items()
        }
        for name, values in names.items():
            self.values(values, (*loc, "vars", name))
        return names

    def values(self, values: Sequence[str], loc: Loc) -> None:
        if not loc[-1] or not str(loc[-1]).isidentifier():
            self.problems.add(loc, "a variable's name has letters, digits and _ only", key=True)
        if not values:
            self.problems.add(loc, "has no values")
        for n in range(len(values)):
            self.whole((*loc, n))

    def file(self, form: SourceForm, loc: Loc) -> Feed | None:
        loc, file = (*loc, "file"), self.document.text((*loc, "file"), form.file)
        try:
            found = self.place.feed(file, form.format or "")
        except ValueError as error:
            self.problems.add(loc, str(error))
            return None
        if self.place.look and (says := _absent(found)):
            self.problems.add(loc, f"{file}: {says}")
        return found

    def cell(self, name: str, value: object, loc: Loc, templates: Templates) -> Cell | None:
        """A parameter that the rows of a source set."""
        loc, providers, taken = (*loc, name), self.frame.providers, self.frame.taken
        if name not in self.takes():
            known = {*SourceForm.model_fields, *self.takes()}
            if says := unknown_key(name, known, "request:") if providers else misplaced(name, "request:"):
                self.problems.add(loc, says, key=True)
            return None
        if name in taken:
            where = self.document.where(taken[name])
            self.problems.add(loc, f"the matrix sets {name} too, at {where}: it comes from one of them", key=True)
        if isinstance(value, str) and "{{" in value:
            return Cell(name, parameters.kind_of(name, providers), templates.read(value, loc))
        setting: Setting | None = parameters.read(name, value, loc, providers, self.problems)
        return Cell(name, "", None, setting.value) if setting else None

    def takes(self) -> set[str]:
        """What the rows of a source can set."""
        return {"model", *(name for provider in self.frame.providers for name in provider.parameters)}

    def whole(self, loc: Loc) -> None:
        if doubt := self.document.doubt(loc):
            self.problems.add(loc, doubt)


def _absent(found: Feed) -> str:
    """Why there is no such file, or nothing. Reads none of it, and leaves standard input alone."""
    with suppress(OSError):  # what the disk says otherwise is told by reading
        folder = found.path.parent
        if found.path.is_dir():
            return "is a folder"
        if found.name != STDIN and not found.path.exists():
            if not folder.is_dir():
                return f"no such file: there is no folder {folder}/"
            there = {each.stem: each.name for each in folder.iterdir() if _is_data(each.name)}
            other = near(found.path.stem, there)
            return f"no such file (looked for in {folder}/{f'; did you mean {there[other]}?' if other else ''})"
    return ""


def _is_data(name: str) -> bool:
    try:
        return bool(feed(name, Path()))
    except ValueError:
        return False


def _misunderstood(prompt: str) -> str:
    """Why plain text was probably meant as something else, or nothing."""
    if found := _BRACES.search(prompt):
        return f'{cut(found[0])} in plain text is sent as it stands: write prompt: "…" with vars: or file:'
    if "." in prompt and len(prompt.split()) == 1 and _is_data(prompt):
        return f"looks like a file: write - file: {prompt}"
    return ""


def _sentence(entry: Mapping[str, object], known: set[str]) -> str:
    """The key of a mapping that was meant as text: `- Sign: no entry`."""
    key = next(iter(entry), "")
    strange = key not in known and not nearest(key, known)
    return key if len(entry) == 1 and strange else ""


def _mismatches(form: SourceForm, strangers: Set[str], operation: Operation) -> Iterator[str]:
    prompted = form.file or form.prompt is not None or (operation is Operation.VARY and form.images)
    if not prompted and not any(near(name, ("prompt", "file")) for name in strangers):
        yield "needs prompt: or file:"
    if form.file and form.vars:
        yield "vars do not go with file: its columns are the variables"
    if not form.file and (form.take is not None or form.shuffle is not None or form.format is not None):
        yield "take, shuffle and format go with file"
    if form.shuffle is not None and form.take is None:
        yield "shuffle needs take"


def _unfit_inputs(form: SourceForm, operation: Operation) -> Iterator[str]:
    """What is amiss with the images of a source, whatever they are."""
    if operation is Operation.GENERATE and (form.images or form.mask is not None):
        yield "images and mask go with operation: edit, images also with operation: vary"
    elif operation is not Operation.GENERATE and not form.images:
        yield f"operation {operation} needs images: [photo.png]"
    if operation is Operation.VARY and form.mask is not None:
        yield "a mask goes with operation: edit"
    if form.mask is None and form.mask_area != "transparent":
        yield "mask_area goes with mask"
