"""The columns of an exported dataset: what each is called, holds and means; they are the same in every format.

No cell is empty: a reader of JSON lines guesses types from the first rows it sees, and would take an empty column for
another type. What is not known is an empty text or 0.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum

from batchgen.task import Variant, canonical, travels

Cell = str | int | float | bool | None
ASKED, AXIS = "asked_{}", "axis_{}"
"""What a parameter or an axis is called whose own name is taken."""


class Type(StrEnum):
    """As datasets, Arrow and the dataset card call it."""

    TEXT = "string"
    WHOLE = "int64"
    NUMBER = "float64"
    FLAG = "bool"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: Type
    about: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What requests asked for, a column each; `cells` are those of each variant."""

    columns: tuple[Column, ...]
    cells: Mapping[int, tuple[Cell, ...]]


def asked(variants: Mapping[int, Variant], taken: Set[str]) -> Asked:
    """The parameters of requests that say which image is made, then the axes that are called otherwise."""
    values: dict[str, dict[int, object]] = {}
    for number, variant in variants.items():
        for name, value in variant.params:
            if not travels(name, value):
                values.setdefault(name, {})[number] = value
    found = {_free(name, ASKED, taken): ("as it was asked for", cells) for name, cells in values.items()}
    for name, labels in _axes(variants).items():
        if labels != values.get(name):
            found[_free(name, AXIS, taken | found.keys())] = ("as the manifest's matrix calls it", labels)
    return _table(found, list(variants))


def _axes(variants: Mapping[int, Variant]) -> dict[str, dict[int, object]]:
    labels: dict[str, dict[int, object]] = {}
    for number, variant in variants.items():
        for name, label in variant.axes:
            if getattr(variant, name, None) != label:  # the axes model and provider are columns already
                labels.setdefault(name, {})[number] = label
    return labels


def _free(name: str, other: str, taken: Set[str]) -> str:
    """A name that is not taken; SQL does not tell Size from size."""
    while name.lower() in {each.lower() for each in taken}:
        name = other.format(name)
    return name


def _table(found: Mapping[str, tuple[str, Mapping[int, object]]], variants: Sequence[int]) -> Asked:
    types = {name: _type([cells.get(number) for number in variants]) for name, (_, cells) in found.items()}
    return Asked(
        tuple(Column(name, types[name], f"{name}, {about}") for name, (about, _) in found.items()),
        {
            number: tuple(_cell(cells.get(number), types[name]) for name, (_, cells) in found.items())
            for number in variants
        },
    )


def _type(values: Sequence[object]) -> Type:
    """Text unless every request has a number, or a flag."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return Type.FLAG
    if kinds == {int}:
        return Type.WHOLE
    return Type.NUMBER if kinds and kinds <= {int, float} else Type.TEXT


def _cell(value: object, type: Type) -> Cell:
    match type:
        case Type.TEXT:
            return "" if value is None else value if isinstance(value, str) else canonical(value)
        case Type.NUMBER:
            assert isinstance(value, int | float)
            return float(value)
        case _:
            assert isinstance(value, int)
            return value
