"""Reading the parameters of a JSON body, each refused in OpenAI's words when it is not what it must be."""

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from batchgen.sandbox.order import Asked, Problem, Refused


def parse(asked: Asked) -> "Fields":
    """The body's object; raises Refused where it is none."""
    kind = asked.headers.get("content-type", "")
    if kind.split(";")[0].strip().lower() != "application/json":
        message = f"Unsupported content type: '{kind}'. This API method only accepts 'application/json' requests."
        raise Refused(Problem(400, message, code="unsupported_content_type"))
    try:
        body = json.loads(asked.body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(Problem(400, "We could not parse the JSON body of your request.")) from None
    if not isinstance(body, dict):
        raise Refused(Problem(400, "The JSON body of your request must be an object."))
    return Fields(body)


def invalid(name: str, message: str) -> NoReturn:
    raise Refused(Problem(400, message, param=name, code="invalid_value"))


class Fields:
    """The parameters of one request. One that is null counts as left out, as in OpenAI's own client."""

    def __init__(self, body: Mapping[str, object]) -> None:
        self._given = {name: value for name, value in body.items() if value is not None}
        self._names = tuple(body)

    def only(self, known: frozenset[str]) -> None:
        for name in self._names:
            if name not in known:
                raise Refused(Problem(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter"))

    def given(self, name: str) -> bool:
        return name in self._given

    def need(self, name: str, longest: int) -> str:
        """A text that must be there."""
        if name not in self._given:
            message = f"Missing required parameter: '{name}'."
            raise Refused(Problem(400, message, param=name, code="missing_required_parameter"))
        return self.text(name, longest)

    def text(self, name: str, longest: int, default: str = "") -> str:
        value = self._given.get(name, default)
        if not isinstance(value, str):
            invalid(name, f"Invalid type for '{name}': expected a string, but got {_kind(value)} instead.")
        if not _is_unicode(value):
            invalid(name, f"Invalid '{name}': half of a surrogate pair is no character.")
        if len(value) > longest:
            message = f"Invalid '{name}': string too long. Expected at most {longest} characters, but got {len(value)}."
            invalid(name, message)
        return value

    def one_of(self, name: str, values: Sequence[str], default: str) -> str:
        value = self._given.get(name, default)
        if value not in values:
            quoted = ", ".join(f"'{known}'" for known in values[:-1])
            invalid(name, f"Invalid value: {value!r}. Supported values are: {quoted}, and '{values[-1]}'.")
        return str(value)

    def number(self, name: str, least: int, most: int, default: int) -> int:
        value = self._given.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            invalid(name, f"Invalid type for '{name}': expected an integer, but got {_kind(value)} instead.")
        if not least <= value <= most:
            invalid(name, f"Invalid '{name}': expected a value from {least} to {most}, but got {value} instead.")
        return value

    def flag(self, name: str) -> bool:
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            invalid(name, f"Invalid type for '{name}': expected a boolean, but got {_kind(value)} instead.")
        return value


def _is_unicode(text: str) -> bool:
    """JSON can spell what is no character, and nothing later could write it down."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "an integer", float: "a decimal number", str: "a string", list: "an array"}
    return kinds.get(type(value), "an object")
