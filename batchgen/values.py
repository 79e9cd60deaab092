"""How single values of a manifest are read: words, names, addresses, amounts, times; ValueError says what is wrong."""

import re
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, BeforeValidator, Field

from batchgen import catalog, deadline
from batchgen.deadline import Until
from batchgen.problems import not_one_of, shown, unfit

NANO = 10**9
"""Money is counted in nano-dollars."""
USD_MOST = 10**12
AUTO = 32
"""Requests at once where `auto` leaves it to the run: the window finds out how many of them are of use."""
RATE_MOST = 10**9  # a minute

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_URL = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_STORE = re.compile(r"(?:(?:s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]+|file://(?=/))((?:/[^/?#\\\x00-\x1f\x7f]+)*)")
_HOST = re.compile(r"\*|(?:\*\.)?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)?")
_NEARLY_A_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:(s)ec|(m)in|(h)(?:ou)?r)[a-z]*", re.IGNORECASE)
_NEARLY_A_NUMBER = re.compile(r"\$? ?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(\.[0-9]+)? ?(?:\$|usd|dollars?)?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


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


def url(value: object) -> str:
    if isinstance(value, str) and _URL.fullmatch(value):
        return value.rstrip("/")
    host = re.split("[:/]", str(value))[0]
    meant = f"{'http' if catalog.loopback(host) else 'https'}://{value}{'' if '/' in str(value) else '/v1'}"
    hint = f" (did you mean {meant}?)" if "." in host or catalog.loopback(host) else ""
    raise ValueError(f"must look like https://host/v1: no user name, no query{hint if _URL.fullmatch(meant) else ''}")


def store(value: str) -> str:
    """A place for images: s3://bucket/prefix and its like, file:///folder."""
    if "@" in value.partition("://")[2].partition("/")[0] or "?" in value:
        raise ValueError("credentials never stand here: take out what is before @ or behind ?, and export them instead")
    found = _STORE.fullmatch(value.rstrip("/"))
    path = unquote(found[1]) if found else ".."
    if {".", ".."} & {*path.split("/")} or "\0" in path:
        raise ValueError(f"{shown(value)} is not like s3://bucket/prefix, gs://…, az://… or file:///folder")
    return value.rstrip("/")


def keys(value: object) -> object:
    """Of more than one key: the name of a variable, or a mapping of what is different."""
    if not isinstance(value, list):
        raise ValueError("must be a list: [OPENAI_KEY_A, OPENAI_KEY_B], names of environment variables")
    return [{"api_key_env": each} if isinstance(each, str) else each for each in value]


def dialect(value: str) -> str:
    known = sorted(name for name, provider in catalog.providers().items() if not provider.pretend)
    if value not in known:
        raise ValueError(not_one_of(value, known))
    return value


def _link(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a host such as cdn.example.com, *.example.com or * (any public one)")
    return value.lower()


def prompts(value: object) -> object:
    if not isinstance(value, (list, dict)):
        raise ValueError('must be a list: begin each prompt\'s line with "- "')
    return value


def whole(value: object) -> object:
    """Quotes do not matter."""
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else value


def concurrency(value: object) -> object:
    """A number, or `auto`: as many as are of use, up to a bound."""
    return AUTO if value == "auto" else whole(value)


def rates(value: object) -> Mapping[str, int]:
    """So many a minute at every provider, which is named "", or at each of those named."""
    if not isinstance(value, dict):
        return {"": _rate(value)}
    if not value:
        raise ValueError("is empty: {openai: 20}, or one number for every provider")
    return {str(name): _rate(each, f"{name}: ") for name, each in value.items()}


def _rate(value: object, where: str = "") -> int:
    found = whole(value)
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= RATE_MOST:
        raise ValueError(f"{where}{shown(value)} is not a whole number from 1 to {RATE_MOST:,}{plainly(value)}")
    return found


def usd(value: object) -> int:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount < USD_MOST:
        raise ValueError(f"{shown(value)} is not an amount in USD, such as 12.50{plainly(value)}")
    return int(amount * NANO)


def plainly(value: object) -> str:
    """` (write 1000)` for $1,000 and its like, or nothing."""
    found = _NEARLY_A_NUMBER.fullmatch(value) if isinstance(value, str) else None
    plain = f"{found[1].replace(',', '')}{found[2] or ''}" if found else value
    return f" (write {plain})" if plain != value else ""


def seconds(value: object) -> float:
    match = _TIME.fullmatch(str(value))
    seconds = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if isinstance(value, bool) or not 0 < seconds <= 86_400:
        close = _NEARLY_A_TIME.fullmatch(str(value))
        hint = f" (did you mean {close[1]}{close[close.lastindex or 0].lower()}?)" if close else ""
        raise ValueError(f"{shown(value)} is not a time such as 90s, 10m or 1h (up to 24h){hint}")
    return seconds


def until(value: object) -> Until:
    """A time of day, or a moment. Text alone: a reader of another YAML makes 420 of a bare 7:00."""
    if isinstance(value, str):
        with suppress(ValueError):
            return deadline.parse(value)
    minutes = value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1440 else None
    hint = "" if minutes is None else f" (is {minutes // 60:02}:{minutes % 60:02} meant? Put it in quotes)"
    says = f'{shown(value)} is not a time such as "07:00" or "2026-11-22 07:00", by the clock of this machine'
    raise ValueError(says + hint)


def allowance(value: object) -> Decimal | int:
    """A share of the estimate as a Decimal, or an amount in nano-dollars."""
    text = str(value)
    try:
        share = Decimal(text.removesuffix("%").strip()) / 100
        if not text.endswith("%") or 0 <= share <= 1:
            return share if text.endswith("%") else usd(value)
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(f"{shown(value)} is neither a share such as 1% nor an amount in USD such as 12.50")


Scalar = Annotated[object, AfterValidator(_scalar)]  # text that may look like a number: the document has its spelling
Word = Annotated[object, AfterValidator(_word)]
Name = Annotated[object, AfterValidator(_name)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(whole)]
Link = Annotated[str, AfterValidator(_link)]
Rates = Annotated[Mapping[str, int], BeforeValidator(rates)]
