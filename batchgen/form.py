"""The form of a manifest: every key, its type and default, as pydantic checks them."""

import re
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from batchgen import catalog
from batchgen.catalog import Parameter, Price
from batchgen.document import Loc
from batchgen.problems import Problems, nearest, not_one_of

NANO = 10**9
"""Money is counted in nano-dollars."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_URL = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _scalar(value: object) -> object:
    if value is None or isinstance(value, (list, dict)):
        raise ValueError("must be text")
    return value


def _name(value: object) -> object:
    if not _NAME.fullmatch(str(_scalar(value))) or str(value).endswith("."):
        raise ValueError(
            "must be a folder's name: up to 100 letters, digits, . _ -, not beginning or ending with a dot"
        )
    return value


def _url(value: object) -> str:
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise ValueError("must look like https://host/v1: no user name, no query")
    return value.rstrip("/")


def _dialect(value: str) -> str:
    known = sorted({provider.dialect for provider in catalog.providers().values()})
    if value not in known:
        raise ValueError(not_one_of(value, known))
    return value


def _usd(value: object) -> int:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise ValueError(f"{value!r} is not an amount in USD, such as 12.50")
    return int(amount * NANO)


def _seconds(value: object) -> float:
    match = _TIME.fullmatch(str(value))
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if isinstance(value, bool) or not 0 < seconds <= 86_400:
        raise ValueError(f"{value!r} is not a time such as 90s, 10m or 1h (up to 24h)")
    return seconds


def _allowance(value: object) -> Decimal | int:
    """A share of the estimate as a Decimal, or an amount in nano-dollars."""
    text = str(value)
    if not text.endswith("%"):
        return _usd(value)
    try:
        share = Decimal(text[:-1].strip()) / 100
    except InvalidOperation:
        share = Decimal(-1)
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r} is not a share such as 1%, nor an amount in USD")
    return share


Scalar = Annotated[object, AfterValidator(_scalar)]  # text that may look like a number: the document has its spelling
Name = Annotated[object, AfterValidator(_name)]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TopForm(Form):
    name: Name
    project: Scalar = ""
    provider: object
    model: Scalar
    operation: Literal["generate"] = "generate"
    prompts: Annotated[list[object], Field(min_length=1)]
    matrix: dict[str, object] = {}
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    request: dict[str, object] = {}
    limits: dict[str, object] = {}
    retry: dict[str, object] = {}
    output: dict[str, object] = {}


class SourceForm(Form):
    file: Scalar = ""
    prompt: Scalar | None = None
    vars: dict[str, list[Scalar]] = {}
    take: Annotated[int, Field(ge=1)] | None = None
    shuffle: Scalar | None = None


class ProviderForm(Form):
    name: Name = ""
    dialect: Annotated[str, AfterValidator(_dialect)]
    base_url: Annotated[str, BeforeValidator(_url)]
    api_key_env: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] = ""
    price: Price | None = None
    prompt_most: Annotated[int, Field(ge=1)] | None = None
    idempotency: bool = False
    parameters: dict[str, Parameter] = {}


class LimitsForm(Form):
    concurrency: Annotated[int, Field(ge=1, le=1_000)] = 8
    budget: Annotated[int | None, BeforeValidator(_usd)] = None
    images: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, BeforeValidator(_seconds)] = 600.0


class RetryForm(Form):
    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    on_unknown: Literal["retry", "hold"] = "retry"
    duplicate_allowance: Annotated[Decimal | int | None, BeforeValidator(_allowance)] = None


class OutputForm(Form):
    path: str | None = None


F = TypeVar("F", bound=Form)


def check(form: type[F], value: Mapping[str, object], loc: Loc, problems: Problems) -> F | None:
    """The filled form; or None, and `problems` knows why."""
    empty = [name for name, each in value.items() if each is None]
    for name in empty:  # `budget:` with nothing behind it is no budget of the user's choice
        problems.add((*loc, name), "is empty: give a value, or leave the key out")
    try:
        filled = form.model_validate(value)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            if found["loc"][0] not in empty:
                problems.add(loc + found["loc"], _say(found, form), key=found["type"] in _UNKNOWN)
        return None
    return None if empty else filled


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_SAYS = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "{input!r} is not a whole number",
    "int_parsing": "{input!r} is not a whole number",
    "float_type": "{input!r} is not a number",
    "float_parsing": "{input!r} is not a number",
    "bool_type": "{input!r} is neither true nor false",
    "greater_than_equal": "{input!r} is less than {ge}",
    "less_than_equal": "{input!r} is more than {le}",
    "list_type": "must be a list: [{input}]",
    "dict_type": "must be a mapping",
    "too_short": "is empty",
    "string_pattern_mismatch": "{input!r} is not the name of an environment variable",
}
"""Ours for pydantic's messages, by their type."""


def _say(found: ErrorDetails, form: type[Form]) -> str:
    context = found.get("ctx", {})
    if found["type"] in _UNKNOWN:
        known = form.model_fields if len(found["loc"]) == 1 else [field.name for field in fields(Price)]
        return f"unknown key{nearest(str(found['loc'][-1]), known)}"
    if found["type"] == "literal_error":
        return not_one_of(str(found["input"]), re.findall("'([^']+)'", context["expected"]))
    if found["type"] == "value_error":
        return str(context["error"])
    said = _SAYS.get(found["type"], found["msg"])
    return said.format(input=found["input"], **context)
