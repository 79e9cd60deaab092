"""The tables of what the documents say, one a document: read strictly, and printed as Markdown."""

from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from batchgen import document

FOLDER = Path(__file__).parent
STRICT = ConfigDict(extra="forbid", strict=False, coerce_numbers_to_str=True)
ABOUT = frozenset({"here", "held_by", "lost", "differs", "example", "into", "missing", "beside", "body", "means"})
"""What a row says about itself or of us; everything else is the document's word."""
SINGULAR = {
    "operations": "operation",
    "headers": "header",
    "parameters": "parameter",
    "fields": "answer",
    "statuses": "status",
    "remarks": "remark",
}

Params = Mapping[str, str | int]


@checked(frozen=True, config=STRICT)
class Row:
    """One item of a document. See README.md for what each key means."""

    here: str
    held_by: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    differs: Mapping[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, object]:
        """What the document states of it, by the name of what is stated."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ABOUT}
        return {name: value for name, value in told.items() if value not in (None, "", (), False)}

    @property
    def label(self) -> str:
        """What the document calls it."""
        return str(next(iter(self.facts.values())))


@checked(frozen=True, config=STRICT, kw_only=True)
class Header(Row):
    name: str
    type: str = ""
    required: bool = False
    values: tuple[str, ...] = ()
    scheme: str = ""


@checked(frozen=True, config=STRICT, kw_only=True)
class Parameter(Row):
    """`longest` is in characters, `bytes` the largest file; `beside` is what must be set for it to be taken."""

    name: str
    type: Literal["", "string", "integer", "file"] = ""
    required: bool = False
    default: str = ""
    values: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    longest: int | None = None
    models: tuple[str, ...] = ()
    files: int | None = None
    bytes: int | None = None
    formats: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    same_size: bool = False
    beside: Mapping[str, str] = field(default_factory=dict)
    example: str = ""

    @property
    def is_file(self) -> bool:
        return self.type == "file"


@checked(frozen=True, config=STRICT, kw_only=True)
class Field(Row):
    """A field of an answer. `into` is where in our Answer its value is, `missing` what an answer without it lacks."""

    name: str
    type: Literal["string", "integer", "number", "array", "object"]
    into: str
    required: bool = False
    values: tuple[str, ...] = ()
    example: str = ""
    missing: str = ""


@checked(frozen=True, config=STRICT, kw_only=True)
class Status(Row):
    status: int
    means: str
    type: str = ""


@checked(frozen=True, config=STRICT, kw_only=True)
class Remark(Row):
    """`takes` and `refuses` are parameters of small manifests."""

    says: str
    operation: Literal["generate", "edit", "vary"] = "generate"
    takes: tuple[Params, ...] = ()
    refuses: tuple[Params, ...] = ()

    @property
    def facts(self) -> dict[str, object]:
        return {"says": self.says}


@checked(frozen=True, config=STRICT, kw_only=True)
class Operation(Row):
    method: str
    url: str
    content_type: Literal["application/json", "multipart/form-data"]
    headers: tuple[Header, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    fields: tuple[Field, ...] = ()
    statuses: tuple[Status, ...] = ()
    beyond: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, object]:
        return {"url": self.url, "method": self.method, "content_type": self.content_type}

    @property
    def rows(self) -> Mapping[str, tuple[Row, ...]]:
        """Its rows by kind."""
        found: dict[str, tuple[Row, ...]] = {"headers": self.headers, "parameters": self.parameters}
        return {**found, "fields": self.fields, "statuses": self.statuses}


Names = Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]]
"""Operation → kind of row → what the document calls it → what it states of it."""


@checked(frozen=True, config=STRICT, kw_only=True)
class Document:
    document: str
    title: str
    provider: str
    model: str
    counted: Mapping[str, int]
    operations: Mapping[Literal["generate", "edit", "vary"], Operation]
    remarks: tuple[Remark, ...]
    names: Names = field(default_factory=dict)

    @property
    def rows(self) -> Iterator[tuple[str, str, Row]]:
        """Every row with its operation and its kind."""
        for name, operation in self.operations.items():
            yield name, "operations", operation
            yield from ((name, kind, row) for kind, rows in operation.rows.items() for row in rows)
        yield from ((remark.operation, "remarks", remark) for remark in self.remarks)


@cache
def documents() -> Mapping[str, Document]:
    """Every document by its number."""
    found = [_read(path) for path in sorted(FOLDER.glob("*.yaml"))]
    return {each.document: each for each in found}


def _read(path: Path) -> Document:
    text = path.read_text(encoding="utf-8")
    return TypeAdapter(Document).validate_python(document.parse(text, path.name).value)


def markdown(each: Document, held: Mapping[str, str]) -> Iterator[str]:
    """A document as one aligned table; `held` names the test that holds every row of a kind."""
    yield f"## {each.document} {each.title}\n"
    lines = [("item", "the document says", "batchgen", "differs", "held by")]
    lines += [_cells(*found, held) for found in each.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ("-" * widths[0], *("-" * width for width in widths[1:])))  # type: ignore[arg-type]  # of five
    for line in lines:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
    yield ""


def _cells(operation: str, kind: str, row: Row, held: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    facts = {name: value for name, value in row.facts.items() if value != row.label or kind == "remarks"}
    words = {"says": "", "required": "required", "same_size": "of the image's size"}
    says = "; ".join(
        words.get(name, f"{name} ") + ("" if value is True else _plain(value)) for name, value in facts.items()
    )
    lost = f" (lost: {', '.join(row.lost)})" if row.lost else ""
    item = f"{operation} {SINGULAR[kind]}" + ("" if kind == "remarks" else f" `{row.label}`")
    differs = "; ".join(f"{name}: {why}" for name, why in row.differs.items())
    tests = [held[kind]] if kind in held else []
    cells = (item, says + lost, row.here, differs, ", ".join((*tests, *row.held_by)))
    return cells[0], *(cell.replace("|", "\\|") for cell in cells[1:])  # type: ignore[return-value]  # of five


def _plain(value: object) -> str:
    return ", ".join(map(repr, value)) if isinstance(value, tuple) else str(value)
