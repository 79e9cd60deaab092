"""Reading the body of a request against a table of parameters: JSON or a form, whichever the table is for."""

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from batchgen.sandbox import multipart
from batchgen.sandbox.inputs import Files, MaskFile
from batchgen.sandbox.mistake import Mistake, Mistaken
from batchgen.sandbox.multipart import Part
from batchgen.sandbox.order import Asked, Input, Problem, Refused
from batchgen.sandbox.parameter import Table

JSON, FORM = "application/json", "multipart/form-data"


class Given:
    """The parameters of one request: those that were given, and for the others what the table says."""

    def __init__(self, table: Table, given: Mapping[str, object]) -> None:
        self._given = given
        self._values: dict[str, object] = {
            name: each.default for name, each in table.items() if each.default is not None
        }
        self._values.update(given)

    def has(self, name: str) -> bool:
        """Whether the client said it, whatever the table says."""
        return name in self._given

    def text(self, name: str, otherwise: str = "") -> str:
        return str(self._values.get(name, otherwise))

    def whole(self, name: str, otherwise: int = 0) -> int:
        return int(str(self._values.get(name, otherwise)))

    def flag(self, name: str) -> bool:
        return self._values.get(name) is True

    def images(self, *names: str) -> tuple[Input, ...]:
        """All of them, whichever name they came under."""
        found: tuple[Input, ...] = ()
        for name in names:
            value = self._values.get(name, ())
            found += value if isinstance(value, tuple) else ()
        return found

    def mask(self, *names: str) -> Input | None:
        masks = (self._values.get(name) for name in names)
        return next((mask for mask in masks if isinstance(mask, Input)), None)


def read(asked: Asked, tables: Mapping[str, Table], *, open_to_more: bool = False) -> Given:
    """The body's parameters by the table of its content type; raises Refused or Mistaken."""
    said = asked.headers.get("content-type", "")
    kind = said.split(";")[0].strip().lower()
    if kind not in tables:
        accepted = " or ".join(f"'{each}'" for each in tables)
        message = f"Unsupported content type: '{said}'. This API method only accepts {accepted} requests."
        raise Refused(Problem(400, message, code="unsupported_content_type"))
    return (_form if kind == FORM else _json)(asked, tables[kind], open_to_more)


def _json(asked: Asked, table: Table, open_to_more: bool) -> Given:
    try:
        body = json.loads(asked.body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(Problem(400, "We could not parse the JSON body of your request.")) from None
    if not isinstance(body, dict):
        raise Refused(Problem(400, "The JSON body of your request must be an object."))
    _only(body, table, open_to_more)
    given = {name: value for name, value in body.items() if value is not None}  # null is as good as nothing
    _complete(given, table)
    return Given(table, {name: each.read(name, given[name]) for name, each in table.items() if name in given})


def _form(asked: Asked, table: Table, open_to_more: bool) -> Given:
    try:
        parts = multipart.parts(asked.body, asked.headers["content-type"])
    except ValueError as problem:
        raise Refused(Problem(400, f"We could not parse the form of your request: {problem}.")) from None
    by_name: dict[str, list[Part]] = {}
    for part in parts:
        by_name.setdefault(part.name, []).append(part)
    files = {f"{name}[]": name for name, each in table.items() if isinstance(each, Files)}
    _only([files.get(name, name) for name in by_name], table, open_to_more)
    _complete([files.get(name, name) for name in by_name], table)
    known = [name for name in table if name in by_name or f"{name}[]" in by_name]
    return Given(table, {name: _spelled(name, table, by_name) for name in known})


def _spelled(name: str, table: Table, by_name: Mapping[str, Sequence[Part]]) -> object:
    parameter, given = table[name], by_name.get(name, ())
    if isinstance(parameter, Files):
        return parameter.files(name, given, by_name.get(f"{name}[]", ()))
    if isinstance(parameter, MaskFile):
        return parameter.mask(name, given)
    if len(given) > 1 or given[0].filename:
        raise Mistaken(Mistake(name, "type", list(given), expected="a string"))
    try:
        return parameter.spelled(name, given[0].data.decode())
    except UnicodeDecodeError:
        raise Mistaken(Mistake(name, "value", expected=f"Invalid '{name}': it is not UTF-8.")) from None


def _only(names: Sequence[str] | Mapping[str, object], table: Table, open_to_more: bool) -> None:
    for name in names:
        if name not in table and not open_to_more:
            raise Mistaken(Mistake(name, "unknown"))


def _complete(given: Sequence[str] | Mapping[str, object], table: Table) -> None:
    for name, parameter in table.items():
        if parameter.required and name not in given:
            raise Mistaken(Mistake(name, "missing"))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
