"""YAML, read strictly and with the position of everything: the only door to PyYAML."""

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from batchgen.errors import ManifestError

Loc = tuple[str | int, ...]
Mark = tuple[int, int]

BYTES_MOST = 64 * 2**20
DEPTH_MOST = 32
SHOWN_MOST = 60
HIDDEN = re.compile("[\0\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""NUL, halves of a surrogate pair, and the controls that make text read in another order than it is stored."""
INVISIBLE = re.compile("[\u00a0\u2000-\u200d\u2060\u3000\ufeff]")
"""What looks like a space, or like nothing: prompts may hold it, names and keys never mean it."""
_UNREADABLE = re.compile(HIDDEN.pattern[:-1] + "\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")

# Everything else that is not quoted stays text: 16:9, no, 012, 2026-01-01.
_TYPED = re.compile(
    r"(?P<null>null|~|)|(?P<flag>true|false)|(?P<whole>-?(?:0|[1-9][0-9]{0,17}))"
    r"|(?P<real>-?(?:0|[1-9][0-9]{0,17})?\.[0-9]{1,18}(?:[eE][-+]?[0-9]{1,2})?|-?[1-9][0-9]{0,17}[eE][-+]?[0-9]{1,2})"
)
_READ: Mapping[str, Callable[[str], object]] = {
    "null": lambda _: None,
    "flag": lambda word: word == "true",
    "whole": int,
    "real": float,
}
_COMMENT = re.compile(r"[ \t]+(#[^\r\n]*)")
_ITEM = re.compile(r"\n[ \t]*- ")
_BRACES = re.compile(r"\{\{[^\r\n]*?\}\}([ \t]*[^\s,}\]#])?")
_NO_SPACE = re.compile(r"([\w-]+):([^\s:/][^\r\n]*)")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster, and not everywhere

# What libyaml says (its words and PyYAML's), and what the writer of the file should hear.
_HINTS = (
    ("mapping values are not allowed", "there is a colon in text without quotes, or a line is indented too far"),
    ("while scanning a quoted scalar", "a quote is opened here and never closed"),
    ("unknown escape character", 'inside "double" quotes a backslash is written \\\\; or use single quotes'),
    ("invalid Unicode", "write the character itself, not half of it as \\uD83E"),
    ("\t", "indent with spaces (2 for each level), not with tabs"),
    ("while scanning an alias", "text that begins with * needs quotes"),
    ("while scanning an anchor", "text that begins with & needs quotes"),
    ("while scanning a block scalar", "text that begins with | or > needs quotes"),
    ("cannot start any token", "text that begins with SIGN needs quotes"),
    ("while parsing a flow", "a bracket or brace is not closed; text that begins with [ or { needs quotes"),
    ("while parsing a block", "check the indentation; text that begins with a quote, [ or { needs quotes around all"),
    ("could not find expected ':'", "a colon is missing behind a key, or a line is indented too little"),
)
_OPENED = ("end of stream", "parsing a flow", "expected ':'")
"""Where what was begun is worth more than the place where it was found out."""


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document as plain values, beside it the (line, column) of each value and key, both from 1."""

    name: str
    value: object
    values: Mapping[Loc, Mark]
    keys: Mapping[Loc, Mark]
    sources: Mapping[Loc, str]
    """The scalars that are not text, as they were written."""
    doubts: Mapping[Loc, str]
    """Scalars without quotes that are perhaps not what was meant, and why."""
    overridden: tuple[tuple[Loc, str], ...] = ()

    def line_col(self, loc: Loc, key: bool = False) -> Mark:
        """Where a value (or its key) stands; where the nearest thing around it stands, if it is not there."""
        if key and loc in self.keys:
            return self.keys[loc]
        return next((self.values[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in self.values), (1, 1))

    def text(self, loc: Loc, value: object) -> str:
        """A scalar as it is written, where text is meant: 1.50 and not 1.5."""
        return self.sources.get(loc, str(value))

    def where(self, loc: Loc, key: bool = False) -> str:
        """`name:line:column`, or the option that set the value."""
        line, column = self.line_col(loc, key)
        return self._option(loc) or f"{self.name}:{line}:{column}"

    def line(self, loc: Loc) -> str:
        """`line 7`, or the option that set the value."""
        return self._option(loc) or f"line {self.line_col(loc)[0]}"

    def doubt(self, loc: Loc, word: bool = False) -> str:
        """Why a scalar is perhaps not what was meant, or nothing. Behind a `word` a comment is one, but #2 is none."""
        says = self.doubts.get(loc, "")
        return "" if word and says[1:3] in ("# ", "##") else says

    def _option(self, loc: Loc) -> str:
        return next((said for path, said in self.overridden if self._stands_in(loc, path)), "")

    def _stands_in(self, loc: Loc, overridden: Loc) -> bool:
        return loc[: len(overridden)] == overridden or (loc not in self.values and overridden[: len(loc)] == loc)

    def override(self, loc: Loc, document: "Document") -> "Document":
        """This document with another one's value put at `loc`; messages about it name that other document."""
        grafted = {loc + path: source for path, source in document.sources.items()}
        doubts = {loc + path: why for path, why in document.doubts.items()}
        return replace(
            self,
            value=_put(self.value, loc, document.value),
            sources={path: text for path, text in self.sources.items() if path[: len(loc)] != loc} | grafted,
            doubts={path: why for path, why in self.doubts.items() if path[: len(loc)] != loc} | doubts,
            overridden=((loc, document.name), *self.overridden),
        )


def decode(data: bytes, name: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; ManifestError for anything else."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ManifestError(f"{name}:1:1: the file is UTF-16: save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line, column = _line_col(data[: error.start].decode())
        raise ManifestError(f"{name}:{line}:{column}: the file is not UTF-8 text: save it as UTF-8") from None


def parse(text: str, name: str, aliases: bool = False) -> Document:
    """One YAML document; ManifestError with every problem that can be seen. `aliases` is for files of our own."""
    if len(text) > BYTES_MOST or len(text.encode("utf-8", "replace")) > BYTES_MOST:
        raise ManifestError(f"{name}:1:1: larger than 64 MiB: put the prompts into a .txt, .csv or .jsonl file")
    text = text.removeprefix("\ufeff")
    if problems := [f"{name}:{line}:{column}: {says}" for line, column, says in _unreadable(text)]:
        raise ManifestError(*problems)
    reader = _Reader(text, name, aliases)
    try:
        reader.read()
    except yaml.YAMLError as error:
        line, column, says = _explain(error, text)
        if not any(told.startswith(f"{name}:{line}:") for told in reader.problems):
            reader.problems.append(f"{name}:{line}:{column}: not valid YAML: {says}")
        raise ManifestError(*reader.problems) from None
    if reader.problems:
        raise ManifestError(*reader.problems)
    return reader.document()


class _Reader:
    """Builds values from PyYAML's events: one pass, no recursion, nothing kept of what is refused."""

    def __init__(self, text: str, name: str, aliases: bool) -> None:
        self.text, self.name, self.aliases = text, name, aliases
        self.root: list[object] = []
        self.stack: list[tuple[list[Any] | dict[str, Any], Loc]] = []
        self.key: list[str | None] = []  # beside the stack: the key whose value comes next
        self.anchors: dict[str, object] = {}
        self.values: dict[Loc, Mark] = {}
        self.keys: dict[Loc, Mark] = {}
        self.sources: dict[Loc, str] = {}
        self.doubts: dict[Loc, str] = {}
        self.problems: list[str] = []
        self.shared = False  # whether an anchor, an alias or a merge key was told of: they come together

    def document(self) -> Document:
        value = self.root[0] if self.root else None
        return Document(self.name, value, self.values, self.keys, self.sources, self.doubts)

    def read(self) -> None:
        for event in yaml.parse(self.text, Loader=_LOADER):
            match event:
                case yaml.ScalarEvent():
                    self.scalar(event)
                case yaml.SequenceStartEvent():
                    self.open([], event)
                case yaml.MappingStartEvent():
                    self.open({}, event)
                case yaml.CollectionEndEvent():
                    self.stack.pop()
                    self.key.pop()
                case yaml.AliasEvent():
                    self.alias(event)
                case yaml.DocumentStartEvent() if self.root:
                    self.stop(event, "a second document begins here: one file holds one")

    def scalar(self, event: yaml.ScalarEvent) -> None:
        self.check(event)
        if hidden := HIDDEN.search(event.value):
            self.complain(event, unseen(hidden))
        if self.expects_key():
            self.open_key(event)
            return
        loc = self.loc()
        value = self.typed(event, loc)
        if not event.style:
            self.doubt(event, loc)
        self.put(loc, value, event)

    def doubt(self, event: yaml.ScalarEvent, loc: Loc) -> None:
        start, end = event.start_mark, event.end_mark
        if not start or not end:
            return
        if lost := _COMMENT.match(self.text, end.index):
            says = "would be lost as a comment: put the text in quotes, or the comment on a line of its own"
            self.doubts[loc] = f"{lost[1][:SHOWN_MOST]!r} {says}"
        if start.line != end.line and _ITEM.search(self.text, start.index, end.index):
            self.doubts[loc] = "the next line, with its -, became part of this text: indent both alike, or use quotes"

    def typed(self, event: yaml.ScalarEvent, loc: Loc) -> object:
        match = None if event.style else _TYPED.fullmatch(event.value)
        if match is None:
            return event.value
        self.sources[loc] = event.value
        return _READ[match.lastgroup or "null"](event.value)

    def open(self, value: list[Any] | dict[str, Any], event: yaml.CollectionStartEvent) -> None:
        self.check(event)
        if self.expects_key():
            self.stop(event, self.not_a_key(event))
        if len(self.stack) == DEPTH_MOST:
            self.stop(event, f"nested deeper than {DEPTH_MOST} levels")
        loc = self.loc()
        self.put(loc, value, event)
        self.stack.append((value, loc))
        self.key.append(None)

    def not_a_key(self, event: yaml.CollectionStartEvent) -> str:
        """What to say of a list or mapping where a key should be: often it is {{ … }} without quotes."""
        mark, where = event.start_mark, self.stack[-1][1]
        braces = mark and _BRACES.match(self.text, mark.index - 1)
        if not braces:
            return "a list or mapping cannot be a key; text that begins with { or [ needs quotes"
        key = f"{where[-1]}:" if where and isinstance(where[-1], str) else "-"
        text = f"{braces[0][:-1]}…" if braces[1] else braces[0]
        return f'text that begins with {{{{ needs quotes: {key} "{text}"'

    def alias(self, event: yaml.AliasEvent) -> None:
        if not self.aliases:
            self.complain_once(event, "aliases (*name) are not allowed: write the value out; text needs quotes")
        if self.expects_key():
            self.stop(event, "an alias cannot be a key")
        self.put(self.loc(), self.anchors.get(event.anchor or ""), event)

    def put(self, loc: Loc, value: object, event: yaml.NodeEvent) -> None:
        self.values[loc] = _mark(event)
        if event.anchor and not isinstance(event, yaml.AliasEvent):
            self.anchors[event.anchor] = value
        if not self.stack:
            self.root.append(value)
            return
        box = self.stack[-1][0]
        if isinstance(box, list):
            box.append(value)
        else:
            box[str(loc[-1])] = value
            self.key[-1] = None

    def open_key(self, event: yaml.ScalarEvent) -> None:
        key = event.value
        loc = (*self.stack[-1][1], key)
        if loc in self.keys:
            first = self.keys[loc][0]
            self.complain(
                event, f"the key {key[:SHOWN_MOST]!r} stands twice: in line {first} and in line {_mark(event)[0]}"
            )
        if key == "<<" and not event.style:
            self.complain_once(event, "merge keys (<<) are not allowed: write the values out")
        if found := INVISIBLE.search(key):
            self.complain(event, f"the key {unseen(found)}: write it anew, and indent with plain spaces")
        self.keys.setdefault(loc, _mark(event))
        self.key[-1] = key

    def expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1][0], dict) and self.key[-1] is None

    def loc(self) -> Loc:
        if not self.stack:
            return ()
        box, base = self.stack[-1]
        return (*base, len(box)) if isinstance(box, list) else (*base, self.key[-1] or "")

    def check(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            self.complain(event, f"tags ({event.tag}) are not allowed; text that begins with ! needs quotes")
        if event.anchor and not self.aliases:
            says = "anchors (&name) are not allowed: write the values out; text that begins with & needs quotes"
            self.complain_once(event, says)

    def complain_once(self, event: yaml.Event, says: str) -> None:
        if not self.shared:
            self.complain(event, says)
        self.shared = True

    def complain(self, event: yaml.Event, says: str) -> None:
        line, column = _mark(event)
        self.problems.append(f"{self.name}:{line}:{column}: {says}")

    def stop(self, event: yaml.Event, says: str) -> None:
        self.complain(event, says)
        raise ManifestError(*self.problems)


def _mark(event: yaml.Event) -> Mark:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _line_col(before: str) -> Mark:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _unreadable(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _UNREADABLE.finditer(text):
        yield *_line_col(text[: found.start()]), unseen(found)


def unseen(found: re.Match[str]) -> str:
    return f"holds the character U+{ord(found.group()):04X}, which cannot be seen"


def _explain(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Where, and a hint for what PyYAML says."""
    said = f"{getattr(error, 'context', None) or ''} {getattr(error, 'problem', None) or error}".strip()
    mark = getattr(error, "problem_mark", None)
    sign = text[mark.index : mark.index + 1] if mark else ""
    hint = next((hint for words, hint in _HINTS if words in f"{said}{sign}"), said).replace("SIGN", sign)
    if any(words in said for words in _OPENED):
        mark = getattr(error, "context_mark", None) or mark
    if "expected ':'" in said and mark and (close := _NO_SPACE.match(text, mark.index)):
        hint = f"put a space behind the colon: {close[1]}: {close[2][:SHOWN_MOST]}"
    return (mark.line + 1, mark.column + 1, hint) if mark else (1, 1, hint)


def _put(value: object, loc: Loc, new: object) -> object:
    """A copy of nested mappings with the value at `loc` replaced."""
    if not loc:
        return new
    box = dict(value) if isinstance(value, dict) else {}
    box[loc[0]] = _put(box.get(loc[0]), loc[1:], new)
    return box
