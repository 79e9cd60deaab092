"""The form of a manifest: every key, its type and default, as pydantic checks them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from batchgen import catalog
from batchgen.catalog import Intake, Parameter, Path, Price, Rule
from batchgen.document import Loc
from batchgen.problems import EMPTY, Problems, cut, near, nearest, not_a_list, not_one_of, shown, unfit

NANO = 10**9
"""Money is counted in nano-dollars."""
USD_MOST = 10**12

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_URL = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_HOST = re.compile(r"\*|(?:\*\.)?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)?")
_NEARLY_A_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:(s)ec|(m)in|(h)(?:ou)?r)[a-z]*", re.IGNORECASE)
_NEARLY_A_NUMBER = re.compile(r"\$? ?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(\.[0-9]+)? ?(?:\$|usd|dollars?)?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SECRET = re.compile(r"(?:.*[_-])?(?:api[_-]?key|token|authorization|bearer|password|secret)", re.IGNORECASE)


def _scalar(value: object) -> object:
    if value is None:
        raise ValueError("is empty: give a value")
    if isinstance(value, (list, dict)):
        raise ValueError(f"must be text, not {shown(value)}")
    return value


def _word(value: object) -> object:
    if says := unfit(str(_scalar(value))):
        raise ValueError(says)
    return value


def _name(value: object) -> object:
    if not _NAME.fullmatch(str(_word(value))) or str(value).endswith("."):
        raise ValueError(
            "must be a folder's name: up to 100 letters, digits, . _ -, not beginning or ending with a dot"
        )
    return value


def _url(value: object) -> str:
    if isinstance(value, str) and _URL.fullmatch(value):
        return value.rstrip("/")
    host = re.split("[:/]", str(value))[0]
    meant = f"{'http' if catalog.loopback(host) else 'https'}://{value}{'' if '/' in str(value) else '/v1'}"
    hint = f" (did you mean {meant}?)" if "." in host or catalog.loopback(host) else ""
    raise ValueError(f"must look like https://host/v1: no user name, no query{hint if _URL.fullmatch(meant) else ''}")


def _dialect(value: str) -> str:
    known = sorted(name for name, provider in catalog.providers().items() if not provider.pretend)
    if value not in known:
        raise ValueError(not_one_of(value, known))
    return value


def _link(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a host such as cdn.example.com, *.example.com or * (any public one)")
    return value.lower()


def _prompts(value: object) -> object:
    if not isinstance(value, (list, dict)):
        raise ValueError('must be a list: begin each prompt\'s line with "- "')
    return value


def _whole(value: object) -> object:
    """Quotes do not matter."""
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else value


def _usd(value: object) -> int:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount < USD_MOST:
        raise ValueError(f"{shown(value)} is not an amount in USD, such as 12.50{_plainly(value)}")
    return int(amount * NANO)


def _plainly(value: object) -> str:
    """` (write 1000)` for $1,000 and its like, or nothing."""
    found = _NEARLY_A_NUMBER.fullmatch(value) if isinstance(value, str) else None
    plain = f"{found[1].replace(',', '')}{found[2] or ''}" if found else value
    return f" (write {plain})" if plain != value else ""


def _seconds(value: object) -> float:
    match = _TIME.fullmatch(str(value))
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if isinstance(value, bool) or not 0 < seconds <= 86_400:
        close = _NEARLY_A_TIME.fullmatch(str(value))
        hint = f" (did you mean {close[1]}{close[close.lastindex or 0].lower()}?)" if close else ""
        raise ValueError(f"{shown(value)} is not a time such as 90s, 10m or 1h (up to 24h){hint}")
    return seconds


def _allowance(value: object) -> Decimal | int:
    """A share of the estimate as a Decimal, or an amount in nano-dollars."""
    text = str(value)
    try:
        share = Decimal(text.removesuffix("%").strip()) / 100
        if not text.endswith("%") or 0 <= share <= 1:
            return share if text.endswith("%") else _usd(value)
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(f"{shown(value)} is neither a share such as 1% nor an amount in USD such as 12.50")


Scalar = Annotated[object, AfterValidator(_scalar)]  # text that may look like a number: the document has its spelling
Word = Annotated[object, AfterValidator(_word)]
Name = Annotated[object, AfterValidator(_name)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Link = Annotated[str, AfterValidator(_link)]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TopForm(Form):
    name: Name
    project: Word = ""
    provider: object = None
    model: object = None
    operation: Literal["generate", "edit", "vary"] = "generate"
    prompts: Annotated[list[object], Field(min_length=1), BeforeValidator(_prompts)]
    matrix: dict[str, object] = {}
    samples: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_whole)] = 1
    request: dict[str, object] = {}
    limits: dict[str, object] = {}
    retry: dict[str, object] = {}
    output: dict[str, object] = {}


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


class RefinedForm(Form):
    """A provider of the catalog, and what is to be known of it beside or in place of what the catalog says."""

    name: Name = ""
    price: Price | None = None
    prompt_most: Positive | None = None
    idempotency: bool = False
    links: list[Link] = []
    models: dict[str, str] = {}
    send: dict[str, str] = {}
    edit: Intake | None = None
    vary: Intake | None = None
    parameters: dict[str, Parameter] = {}
    rules: list[Rule] = []


class ProviderForm(RefinedForm):
    """A host of the user's own: `dialect` is the entry of the catalog that it speaks like."""

    dialect: Annotated[str, AfterValidator(_dialect)]
    base_url: Annotated[str, BeforeValidator(_url)]
    api_key_env: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] = ""
    key_header: Annotated[str, Field(pattern="^([A-Za-z]+-)?([Aa]uthorization|[A-Za-z-]*([Kk]ey|[Tt]oken))$")] = ""
    query: dict[str, str] = {}
    generate: Path | None = None


class LimitsForm(Form):
    concurrency: Annotated[int, Field(ge=1, le=1_000), BeforeValidator(_whole)] = 8
    budget: Annotated[int | None, BeforeValidator(_usd)] = None
    images: Positive | None = None
    timeout: Annotated[float, BeforeValidator(_seconds)] = 600.0


class RetryForm(Form):
    attempts: Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole)] = 4
    on_unknown: Literal["retry", "hold"] = "retry"
    duplicate_allowance: Annotated[Decimal | int | None, BeforeValidator(_allowance)] = None


class OutputForm(Form):
    path: str | None = None
    partials: bool = False


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
_INNER = {"price": Price, "parameters": Parameter, "edit": Intake, "vary": Intake, "rules": Rule}
_LOOKS = {
    "Price": "{image: 0.04}",
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
        case "string_pattern_mismatch" if loc[-1] == "key_header":
            return "must be the name of the header that the key goes in, such as api-key"
        case kind if kind in _SAYS:
            return _SAYS[kind].format(shown=shown(value), plainly=_plainly(value), **context)
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
