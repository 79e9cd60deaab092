"""How the values of a manifest are spelled, as JSON Schema: what an editor takes for a number may be text here."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

from batchgen import catalog, sizes
from batchgen.catalog import Parameter, Price
from batchgen.values import RATE_MOST

Schema = dict[str, Any]

SCALAR = ["string", "number", "boolean"]
"""Text, as the manifest takes it; an editor may take it for a number."""
_NUMBER = r"\s*\+?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?\s*"
_SHARE = r"\s*\+?0*(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)\s*%"
_TIME = r"[0-9]+(\.[0-9]+)?[smh]?"
_CLOCK = r"\s*(2[0-9]{3}-[01][0-9]-[0-3][0-9][ T])?([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?\s*"
_INSIDE = r"(?!/)(?!([\s\S]*/)?\.\.(/|$))[\s\S]*"
_URL = r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?"
_HOST = r"\*|(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
_EDGE = "[1-9][0-9]{0,4}"
_OTHER = r"[^\s!-/:-@\[-^`{-~]"  # what is neither white space nor punctuation, of any script


def spelled(pattern: str, says: str, *types: str, **more: object) -> Schema:
    """Text of a form, or one of the other `types`; `says` is what VS Code tells where it has another form."""
    return {"type": ["string", *types], "pattern": f"^({pattern})$", "patternErrorMessage": says, **more}


NAME = spelled("[A-Za-z0-9_-]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", "A folder's name, such as my-job.2", *SCALAR[1:])
WHOLE = spelled("[0-9]{1,18}", "A whole number", "integer")
TEMPLATE = {"type": "string", "pattern": r"\{\{"}
_DOLLARS = spelled(_NUMBER, "An amount in USD, such as 12.50", "number", minimum=0)
_RATE = {**_DOLLARS, "type": [*_DOLLARS["type"], "null"]}
_BOUND = spelled("-?[0-9]{1,18}", "A whole number", "integer", "null")
_FLAG = spelled("true|false|yes|no|on|off", "true or false", "boolean")
_SIZE = spelled(rf"\s*(auto|{sizes.MATCH}|{_EDGE}x{_EDGE})\s*", "A size such as 1024x1024, auto, or match")
_TEXT = {"type": SCALAR}
_WORD = {"type": ["string", "number"]}
_CONDITIONS = {"additionalProperties": {"type": "array", "items": _WORD}}
_DURATION = spelled(_TIME, "A time such as 90s, 10m or 1h", "number", exclusiveMinimum=0, maximum=86_400)
_ADDRESS = spelled(_URL, "Looks like https://host/v1: no user name, no query")
_UNTIL = spelled(_CLOCK, 'A time such as "07:00" or "2026-11-22 07:00"', "integer", minimum=0, maximum=86_399)  # 7:00
_PER_MINUTE = spelled("[0-9]{1,18}", "A whole number", "integer", minimum=1, maximum=RATE_MOST)
_RATES = {
    **_PER_MINUTE,
    "type": [*_PER_MINUTE["type"], "object"],
    "minProperties": 1,
    "additionalProperties": _PER_MINUTE,
}
_ENTRY: Mapping[str, Schema] = {
    "idempotency": _DURATION,
    "links": {"items": spelled(_HOST, "A host such as cdn.example.com, *.example.com or *")},
    "send": {"additionalProperties": {"type": "string"}},
}
MORE: Mapping[str, Mapping[str, Schema]] = {
    "TopForm": {"name": NAME, "project": _TEXT},
    "SourceForm": {
        **dict.fromkeys(("file", "id", "prompt", "mask", "shuffle"), _TEXT),
        "images": {"items": _TEXT},
        "vars": {
            "propertyNames": spelled(f"(?![0-9]){_OTHER}+", "A variable's name has letters, digits and _ only"),
            "additionalProperties": {"type": "array", "minItems": 1, "items": _TEXT},
        },
    },
    "RefinedForm": _ENTRY,
    "KeyForm": {"base_url": _ADDRESS},
    "ProviderForm": {
        **_ENTRY,
        "base_url": _ADDRESS,
        "query": {"additionalProperties": {"type": "string"}},
    },
    "Price": {field.name: _RATE for field in fields(Price)},
    "Parameter": {"default": _WORD, "values": {"items": _WORD}, "least": _BOUND, "most": _BOUND},
    "Intake": {"square": _FLAG, "mask_needed": _FLAG},
    "Rule": {"if": _CONDITIONS, "then": _CONDITIONS},
    "LimitsForm": {
        "concurrency": spelled("[0-9]{1,18}|auto", "A whole number, or auto", "integer", minimum=1, maximum=1_000),
        **dict.fromkeys(("images_per_minute", "requests_per_minute", "tokens_per_minute"), _RATES),
        "budget": _DOLLARS,
        "timeout": _DURATION,
        "until": _UNTIL,
    },
    "RetryForm": {
        "duplicate_allowance": spelled(f"{_NUMBER}|{_SHARE}", "A share such as 1%, or USD", "number", minimum=0)
    },
    "Batching": {"share": _RATE, "poll": _RATE},
    "EngineForm": {"until": _UNTIL},
    "NotifyForm": {"command": {"items": _TEXT}},
    "OutputForm": {"path": spelled(_INSIDE, "Stays inside the images folder: no / at the beginning, no ..")},
}
"""By form and key, what is true of it beside what its form tells."""


def parameter(each: Sequence[Parameter]) -> Schema:
    """What a request parameter may be at one of the providers that take it."""
    ways = [_value(kind) for kind in _kinds(each)]
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _kinds(each: Sequence[Parameter]) -> Iterator[Parameter]:
    """One parameter of every kind, which takes all that one of them does."""
    for kind in dict.fromkeys(parameter.kind for parameter in each):
        same = [parameter for parameter in each if parameter.kind == kind]
        values = dict.fromkeys(value for parameter in same for value in parameter.values)
        yield Parameter(
            kind,
            values=tuple(values) if all(parameter.values for parameter in same) else (),
            least=_outermost([parameter.least for parameter in same], min),
            most=_outermost([parameter.most for parameter in same], max),
        )


def _outermost(bounds: Sequence[int | None], choose: Callable[[Iterable[int]], int]) -> int | None:
    known = [bound for bound in bounds if bound is not None]
    return choose(known) if len(known) == len(bounds) else None


def _value(parameter: Parameter) -> Schema:
    """What a value may be, before it is read: 2 and "2" are one whole number."""
    bounds = {"minimum": parameter.least, "maximum": parameter.most}
    found = {name: bound for name, bound in bounds.items() if bound is not None}
    match parameter.kind:
        case "integer":
            return {**spelled("-?[0-9]{1,18}", "A whole number", "integer"), **found}
        case "number":
            return {**spelled(f"-?{_NUMBER}", "A number", "number"), **found}
        case "flag":
            return spelled("true|false", "true or false", "boolean")
        case "mapping":
            return {"type": "object", "title": "mapping"}
        case "size" if parameter.values:
            return {"enum": [*parameter.values, sizes.MATCH]}
        case _ if parameter.values:
            return {"enum": [*_words(parameter.values)]}
        case "size":
            return {"anyOf": [{"enum": _sizes(), "errorMessage": _SIZE["patternErrorMessage"]}, _SIZE]}
    return {"type": SCALAR, "pattern": r"\S"}


def _words(values: Iterable[str]) -> Iterator[object]:
    """Each word, and what an editor takes it for."""
    for word in values:
        yield word
        with suppress(ValueError):
            yield json.loads(word)


def _sizes() -> list[str]:
    """Those of the models that have a list of them."""
    lists = [model.sizes for model in catalog.models().values() if isinstance(model.sizes, tuple)]
    return ["auto", sizes.MATCH, *dict.fromkeys(size for sizes in lists for size in sizes)]
