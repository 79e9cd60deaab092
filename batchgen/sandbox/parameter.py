"""The kinds of parameters: each reads a value, refuses what it must not be, and describes itself as JSON Schema."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from batchgen.sandbox import mistake
from batchgen.sandbox.mistake import Mistake, Mistaken

Schema = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Whatever JSON can say."""

    required: bool = False
    default: Any = None

    def read(self, name: str, given: object) -> object:
        """The value that takes effect; raises Mistaken."""
        return given

    def spelled(self, name: str, text: str) -> object:
        """Reads what a form holds, where every value is text."""
        return self.read(name, text)

    def schema(self) -> Schema:
        return self.kind() if self.default is None else {**self.kind(), "default": self.default}

    def kind(self) -> Schema:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Parameter):
    """At least `least` and at most `longest` characters."""

    longest: int
    least: int = 0

    def read(self, name: str, given: object) -> object:
        text = _text(name, given)
        if len(text) < self.least:
            raise Mistaken(Mistake(name, "short", text, least=self.least))
        if len(text) > self.longest:
            raise Mistaken(Mistake(name, "long", text, most=self.longest))
        return text

    def kind(self) -> Schema:
        least: Schema = {"minLength": self.least} if self.least else {}
        return {"type": "string", **least, "maxLength": self.longest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Parameter):
    """One of a few words."""

    values: tuple[str, ...]

    def read(self, name: str, given: object) -> object:
        if given not in self.values:
            raise Mistaken(Mistake(name, "choice", given, values=self.values))
        return given

    def kind(self) -> Schema:
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Parameter):
    """A whole number between bounds."""

    least: int
    most: int

    def read(self, name: str, given: object) -> object:
        if not isinstance(given, int) or isinstance(given, bool):
            _wrong_type(name, given, "an integer")
        if not self.least <= given <= self.most:
            raise Mistaken(Mistake(name, "range", given, least=self.least, most=self.most))
        return given

    def spelled(self, name: str, text: str) -> object:
        return self.read(name, int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text)

    def kind(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Parameter):
    """Yes or no."""

    def read(self, name: str, given: object) -> object:
        if not isinstance(given, bool):
            _wrong_type(name, given, "a boolean")
        return given

    def spelled(self, name: str, text: str) -> object:
        return self.read(name, {"true": True, "false": False}.get(text, text))

    def kind(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size(Parameter):
    """Width and height as in 1536x864, or where it may be so, `auto`."""

    auto: bool = True

    def read(self, name: str, given: object) -> object:
        text = _text(name, given)
        if not re.fullmatch(self._pattern, text):
            either = "'auto' or a" if self.auto else "a"
            mistake.invalid(name, f"Invalid value: '{text[:20]}'. Expected {either} size like '1536x864'.")
        if text != "auto" and max(map(int, text.split("x"))) > 4096:
            mistake.invalid(name, f"Invalid size '{text}'. No side may be longer than 4096 pixels.")
        return text

    def kind(self) -> Schema:
        return {"type": "string", "pattern": f"^({self._pattern})$"}

    @property
    def _pattern(self) -> str:
        pixels = r"[1-9][0-9]{0,3}x[1-9][0-9]{0,3}"
        return f"auto|{pixels}" if self.auto else pixels


Table = Mapping[str, Parameter]
"""What a body may hold, by name."""


def object_schema(table: Table, *, open_to_more: bool) -> Schema:
    """What a body must be, as JSON Schema."""
    required = [name for name, parameter in table.items() if parameter.required]
    return {
        "type": "object",
        "properties": {name: parameter.schema() for name, parameter in table.items()},
        **({"required": required} if required else {}),
        **({} if open_to_more else {"additionalProperties": False}),
    }


def without(table: Table, names: Sequence[str]) -> Table:
    return {name: parameter for name, parameter in table.items() if name not in names}


def _text(name: str, given: object) -> str:
    if not isinstance(given, str):
        _wrong_type(name, given, "a string")
    try:
        given.encode()
    except UnicodeEncodeError:  # JSON can spell what is no character, and nothing later could write it down
        mistake.invalid(name, f"Invalid '{name}': half of a surrogate pair is no character.")
    return given


def _wrong_type(name: str, given: object, expected: str) -> NoReturn:
    raise Mistaken(Mistake(name, "type", given, expected=expected))
