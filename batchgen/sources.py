"""Where prompts come from: text, templates with their own values, files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen import template
from batchgen.catalog import Provider
from batchgen.document import HIDDEN, Loc, unseen
from batchgen.form import SourceForm, check
from batchgen.problems import Problems, nearest

KINDS = (".txt", ".csv", ".tsv", ".jsonl")


@dataclass(frozen=True, slots=True)
class TextSource:
    """One prompt, sent as it stands."""

    prompt: str
    where: str


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A template and the values of its variables: a prompt for every combination."""

    prompt: str
    vars: tuple[tuple[str, tuple[str, ...]], ...]
    where: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file with a row for every prompt. `prompt` is a template over its columns; None: a column is the prompt.

    `take` rows of it: the first ones, or with `shuffle`, a seed, the same few of any order.
    """

    path: Path
    prompt: str | None
    take: int | None
    shuffle: str | None
    where: str


Source = TextSource | TemplateSource | FileSource


def flaw(prompt: str, provider: Provider | None) -> str:
    """Why a prompt cannot be sent, or nothing."""
    if not prompt:
        return "the prompt is empty"
    if hidden := HIDDEN.search(prompt):
        return f"the prompt {unseen(hidden)}"
    most = provider.prompt_most if provider else None
    if provider and most and len(prompt) > most:
        return f"the prompt has {len(prompt):,} characters, and {provider.identity} takes at most {most:,}"
    return ""


def read(entries: object, folder: Path, provider: Provider | None, problems: Problems) -> tuple[Source, ...]:
    """Every source that can be read; `problems` knows of the others."""
    if not isinstance(entries, list):
        return ()
    reader = _Reader(folder, provider, problems)
    found = [reader.read(entry, ("prompts", n)) for n, entry in enumerate(entries)]
    return tuple(source for source in found if source is not None)


@dataclass(frozen=True, slots=True)
class _Reader:
    folder: Path
    provider: Provider | None
    problems: Problems

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

    def text(self, entry: object, loc: Loc) -> TextSource:
        prompt = self.problems.document.text(loc, entry).strip()
        self.whole(loc)
        if says := flaw(prompt, self.provider):
            self.problems.add(loc, says)
        return TextSource(prompt, self.problems.document.where(loc))

    def mapping(self, entry: Mapping[str, object], loc: Loc) -> Source | None:
        if key := _sentence(entry):
            self.problems.add((*loc, key), "the colon makes a mapping of this text: put it in quotes", key=True)
            return None
        form = check(SourceForm, entry, loc, self.problems)
        if form is None:
            return None
        for says in _mismatches(form):
            self.problems.add(loc, says)
        return self.file(form, loc) if form.file else self.template(form, loc)

    def template(self, form: SourceForm, loc: Loc) -> TemplateSource:
        spell = self.problems.document.text
        names = {
            name: tuple(spell((*loc, "vars", name, n), value) for n, value in enumerate(values))
            for name, values in form.vars.items()
        }
        for name, values in names.items():
            self.values(values, (*loc, "vars", name))
        text = self.compiled(form.prompt, (*loc, "prompt"), names)
        return TemplateSource(text or "", tuple(names.items()), self.problems.document.where(loc))

    def values(self, values: Sequence[str], loc: Loc) -> None:
        if not loc[-1] or not str(loc[-1]).isidentifier():
            self.problems.add(loc, "a variable's name has letters, digits and _ only", key=True)
        if not values:
            self.problems.add(loc, "has no values")
        for n in range(len(values)):
            self.whole((*loc, n))

    def file(self, form: SourceForm, loc: Loc) -> FileSource:
        spell = self.problems.document.text
        path = self.folder / str(form.file)
        if path.suffix.lower() not in KINDS:
            self.problems.add((*loc, "file"), f"{form.file!r} is none of {', '.join(KINDS)}")
        known = {"line": ()} if path.suffix.lower() == ".txt" else None
        text = self.compiled(form.prompt, (*loc, "prompt"), known)
        seed = None if form.shuffle is None else spell((*loc, "shuffle"), form.shuffle)
        return FileSource(path, text, form.take, seed, self.problems.document.where(loc))

    def compiled(self, prompt: object, loc: Loc, known: Mapping[str, object] | None) -> str | None:
        """A template's text, once it compiles and asks only for names that are known, as far as one knows them."""
        if prompt is None:
            return None
        text = self.problems.document.text(loc, prompt).strip()
        self.whole(loc)
        try:
            asked = template.compile(text).variables
        except ValueError as error:
            self.problems.add(loc, str(error))
            return text
        for name in sorted(asked - known.keys()) if known is not None else ():
            self.problems.add(loc, f"{{{{ {name} }}}} is not defined{nearest(name, known or ())}")
        return text

    def whole(self, loc: Loc) -> None:
        if doubt := self.problems.document.doubts.get(loc):
            self.problems.add(loc, doubt)


def _sentence(entry: Mapping[str, object]) -> str:
    """The key of a mapping that was meant as text: `- Sign: no entry`."""
    key = next(iter(entry), "")
    strange = key not in SourceForm.model_fields and not nearest(key, SourceForm.model_fields)
    return key if len(entry) == 1 and strange else ""


def _mismatches(form: SourceForm) -> Iterator[str]:
    if not form.file and form.prompt is None:
        yield "needs prompt: or file:"
    if form.file and form.vars:
        yield "vars do not go with file: its columns are the variables"
    if not form.file and (form.take is not None or form.shuffle is not None):
        yield "take and shuffle go with file"
    if form.shuffle is not None and form.take is None:
        yield "shuffle needs take"
