"""The form of a manifest: every key, its type and default, as pydantic checks them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.dataclasses import dataclass as checked
from pydantic_core import ErrorDetails

from batchgen import catalog, values
from batchgen.catalog import Batching, Intake, Parameter, Path, Price, Rule
from batchgen.deadline import Until
from batchgen.document import Loc
from batchgen.problems import EMPTY, Problems, cut, near, nearest, not_a_list, not_one_of, shown
from batchgen.values import Link, Name, Positive, Rates, Scalar, Word

_SECRET = re.compile(r"(?:.*[_-])?(?:api[_-]?key|token|authorization|bearer|password|secret)", re.IGNORECASE)


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TopForm(Form):
    name: Name
    project: Word = ""
    provider: object = None
    model: object = None
    operation: Literal["generate", "edit", "vary"] = "generate"
    prompts: Annotated[list[object], Field(min_length=1), BeforeValidator(values.prompts)]
    matrix: dict[str, object] = {}
    samples: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(values.whole)] = 1
    request: dict[str, object] = {}
    limits: dict[str, object] = {}
    retry: dict[str, object] = {}
    output: dict[str, object] = {}
    fixes: Annotated[str, Field(pattern=r"^.+\.csv$")] = ""
    notify: dict[str, object] = {}
    engine: object = "local"


class SourceForm(Form):
    """The keys of a source beside the request parameters that its rows set."""

    file: Scalar = ""
    format: Literal["txt", "csv", "tsv", "jsonl"] | None = None
    id: Scalar | None = None
    prompt: Scalar | None = None
    operation: Literal["generate", "edit", "vary"] | None = None
    images: Annotated[list[Scalar], Field(min_length=1)] | None = None
    mask: Scalar | None = None
    mask_area: Literal["transparent", "white", "black"] = "transparent"
    vars: dict[str, list[Scalar]] = {}
    take: Positive | None = None
    shuffle: Scalar | None = None


Variable = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]


@checked(frozen=True, slots=True, config=catalog.STRICT)
class KeyForm:
    """One of several keys or regions; what it does not say is the provider's."""

    api_key_env: Variable = ""
    base_url: Annotated[str, BeforeValidator(values.url)] = ""


class RefinedForm(Form):
    """A provider of the catalog, and what is to be known of it beside or in place of what the catalog says."""

    name: Name = ""
    keys: Annotated[list[KeyForm], Field(min_length=1), BeforeValidator(values.keys)] = []
    price: Price | None = None
    prompt_most: Positive | None = None
    idempotency: Annotated[float, BeforeValidator(values.seconds)] = 0.0
    links: list[Link] = []
    models: dict[str, str] = {}
    send: dict[str, str] = {}
    batch: Batching | None = None
    edit: Intake | None = None
    vary: Intake | None = None
    parameters: dict[str, Parameter] = {}
    rules: list[Rule] = []


class ProviderForm(RefinedForm):
    """A host of the user's own: `dialect` is the entry of the catalog that it speaks like."""

    dialect: Annotated[str, AfterValidator(values.dialect)]
    base_url: Annotated[str, BeforeValidator(values.url)]
    api_key_env: Variable = ""
    key_header: Annotated[str, Field(pattern="^([A-Za-z]+-)?([Aa]uthorization|[A-Za-z-]*([Kk]ey|[Tt]oken))$")] = ""
    query: dict[str, str] = {}
    generate: Path | None = None


_AS_TEXT = WithJsonSchema({"type": "string"})


class LimitsForm(Form):
    concurrency: Annotated[int, Field(ge=1, le=1_000), BeforeValidator(values.concurrency)] = 8
    images_per_minute: Rates | None = None
    requests_per_minute: Rates | None = None
    tokens_per_minute: Rates | None = None
    budget: Annotated[int | None, BeforeValidator(values.usd)] = None
    images: Positive | None = None
    timeout: Annotated[float, BeforeValidator(values.seconds)] = 600.0
    until: Annotated[Until | None, BeforeValidator(values.until), _AS_TEXT] = None
    on_blocked: Literal["stop", "wait"] = "stop"


class EngineForm(Form):
    batch: bool | None = None  # true, unless ray is given
    until: Annotated[Until | None, BeforeValidator(values.until), _AS_TEXT] = None
    ray: Annotated[str, Field(pattern=r"^(auto|(ray://)?[\w.\[\]:-]+:\d+)$")] = ""


class RetryForm(Form):
    attempts: Annotated[int, Field(ge=1, le=100), BeforeValidator(values.whole)] = 4
    on_unknown: Literal["retry", "hold"] = "retry"
    duplicate_allowance: Annotated[Decimal | int | None, BeforeValidator(values.allowance)] = None


class OutputForm(Form):
    path: str | None = None
    partials: bool = False
    store: Annotated[str, AfterValidator(values.store)] | None = None


Event = Literal["end", "blocked", "budget", "until", "held", "stalled"]


class NotifyForm(Form):
    url_env: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    command: Annotated[list[Scalar], Field(min_length=1)] | None = None
    format: Literal["text", "json"] = "text"
    on: Annotated[list[Event], Field(min_length=1)] | None = None


F = TypeVar("F", bound=Form)


def check(form: type[F], value: Mapping[str, object], loc: Loc, problems: Problems) -> F | None:
    """The filled form; or None, and `problems` knows why."""
    empty = [name for name, each in value.items() if each is None]
    for name in empty:  # `budget:` with nothing behind it is no budget of the user's choice
        problems.add((*loc, name), _emptiness(name, form, top=not loc))
    try:
        filled = form.model_validate(value)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            if found["loc"][0] not in empty and not _misspelt(found, form, value):
                problems.add(loc + found["loc"], _say(found, form, top=not loc), key=found["type"] in _UNKNOWN)
        return None
    return None if empty else filled


def section(value: Mapping[str, object], name: str) -> dict[str, object]:
    """A section of a manifest; an empty one where there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def misplaced(name: str, here: str = "") -> str:
    """What to say of a key that no place has, or another place than `here`; nothing where any place may have it."""
    if _SECRET.fullmatch(name):
        remove = "remove it (and replace the key, if the file was shared)"
        return f"a key never stands in a manifest: {remove}, and export OPENAI_API_KEY=…"
    home = _homes().get(name, "")
    return f"belongs {home}" if home and here not in home.split() else ""


def unknown_key(name: str, known: Iterable[str], here: str = "") -> str:
    """What to say of a key that is none of the known ones."""
    return misplaced(name, here) or f"unknown key{nearest(name, known)}"


@cache
def _homes() -> Mapping[str, str]:
    """Where each key belongs."""
    tasks = {name for provider in catalog.providers().values() for name in provider.parameters}
    homes: dict[str, Iterable[str]] = {
        "under notify:": NotifyForm.model_fields,
        "under prompts:": SourceForm.model_fields,
        "under provider:": ProviderForm.model_fields,
        "under request: or matrix:": tasks,
        "under matrix:": ("exclude", "include"),
        "under output:": OutputForm.model_fields,
        "under retry:": RetryForm.model_fields,
        "under limits:": LimitsForm.model_fields,
        "at the top of the manifest": TopForm.model_fields,
    }
    return {name: home for home, names in homes.items() for name in names}


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_INNER: Mapping[str, Any] = {
    "keys": KeyForm,
    "batch": Batching,
    "price": Price,
    "parameters": Parameter,
    "edit": Intake,
    "vary": Intake,
    "rules": Rule,
}
_LOOKS = {
    "Batching": "{}, or what is known of it: {lines_most: 10000}",
    "Price": "{image: 0.04}",
    "KeyForm": "{api_key_env: OPENAI_KEY_A, base_url: https://…}",
    "Parameter": "{kind: integer}",
    "Intake": "{path: images/edits}",
    "Rule": '{if: {…}, then: {…}, says: "…"}',
}
_SAYS = {
    "missing": "is missing",
    "string_type": "must be text: put it in quotes",
    "int_type": "{shown} is not a whole number{plainly}",
    "int_parsing": "{shown} is not a whole number{plainly}",
    "int_from_float": "{shown} is not a whole number",
    "float_type": "{shown} is not a number{plainly}",
    "float_parsing": "{shown} is not a number{plainly}",
    "bool_type": "{shown} is neither true nor false",
    "greater_than": "{shown} is not more than {gt:g}",
    "greater_than_equal": "{shown} is less than {ge}",
    "less_than_equal": "{shown} is more than {le}",
    "too_short": "is empty",
    "string_pattern_mismatch": "must be the name of an environment variable, such as OPENAI_API_KEY (without $), "
    "never the key itself",
}
"""Ours for pydantic's messages, by their type."""


def _emptiness(name: str, form: type[Form], top: bool) -> str:
    if field := form.model_fields.get(name):
        return "is empty: give a value (what stands behind # is a comment)" if field.is_required() else EMPTY
    if name.isdecimal():
        return "a comma ends the value before it: write numbers with a point, such as 12.50"
    key, colon, value = name.partition(":")
    return f"put a space behind the colon: {key}: {value}" if colon else _unknown_key(name, form.model_fields, top)


def _unknown_key(name: str, known: Iterable[str], top: bool) -> str:
    says = unknown_key(name, known)
    return f"{says} indent it" if top and says.endswith(":") else says


def _misspelt(found: ErrorDetails, form: type[Form], value: Mapping[str, object]) -> bool:
    """Whether a key is missing only because it is written otherwise, which is told."""
    return found["type"] == "missing" and bool(near(str(found["loc"][0]), value.keys() - form.model_fields.keys()))


def _say(found: ErrorDetails, form: type[Form], top: bool) -> str:
    context, loc, value = found.get("ctx", {}), found["loc"], found["input"]
    match found["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            known = form.model_fields if len(loc) == 1 else _inner(str(loc[0]))
            return _unknown_key(str(loc[-1]), known, top)
        case "literal_error":
            return not_one_of(value, re.findall("'([^']+)'", context["expected"]))
        case "value_error":
            return str(context["error"])
        case "list_type" | "tuple_type":
            return not_a_list(value, str(value))
        case "dict_type" | "dataclass_type" | "dataclass_exact_type":
            return _not_a_mapping(value, str(context.get("class_name", "")))
        case "string_type" if isinstance(value, list | dict):
            return f"must be text, not {shown(value)}"
        case "string_pattern_mismatch" if loc[-1] in ("generate", "path"):
            return "must be a path below the base URL, such as images/edits"
        case "string_pattern_mismatch" if loc[-1] == "ray":
            return "must be the address of a Ray cluster: HOST:PORT, ray://HOST:PORT, or auto"
        case "string_pattern_mismatch" if loc[-1] == "fixes":
            return "must be the name of a .csv file, beside the manifest"
        case "string_pattern_mismatch" if loc[-1] == "url_env":
            return "must be the name of an environment variable, such as WEBHOOK_URL (without $), never the URL itself"
        case "string_pattern_mismatch" if loc[-1] == "key_header":
            return "must be the name of the header that the key goes in, such as api-key"
        case kind if kind in _SAYS:
            return _SAYS[kind].format(shown=shown(value), plainly=values.plainly(value), **context)
    return found["msg"]


def _inner(name: str) -> list[str]:
    """The keys of what stands under a key, as they are written."""
    return ["if" if field.name == "when" else field.name for field in fields(_INNER[name])]


def _not_a_mapping(value: object, name: str) -> str:
    key, colon, rest = str(value).partition(":")
    if isinstance(value, str) and colon and " " not in key:
        return f"must be a mapping: put a space behind the colon: {key}: {cut(rest)}"
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "must be a mapping: write its keys without the -"
    return f"must be a mapping: {_LOOKS[name]}" if name else "must be a mapping"
