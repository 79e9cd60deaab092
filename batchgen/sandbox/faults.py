"""What can go wrong on request: which requests it strikes, whether they are billed, what becomes of their answer."""

import base64
import io
import itertools
import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from PIL import Image

from batchgen.sandbox import delivery
from batchgen.sandbox.delivery import Delivery
from batchgen.sandbox.order import Answer, Asked

Spoil = Callable[[Answer], Answer]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave.

    What is not billed is answered with `instead`, or where that is None with a problem in the dialect's own words.
    What is billed is answered in full, then spoiled, then delivered; `fate` is what the bill says about it.
    """

    billed: bool = True
    breaks: bool = False  # billed, and then a problem in the dialect's own words: in a stream an event
    fate: str = "delivered"
    instead: Callable[[Asked], Answer] | None = None
    spoil: Spoil | None = None
    deliver: Delivery = delivery.whole


@dataclass(frozen=True, slots=True)
class Script:
    """The i-th request gets the i-th fault, and those after the last get none."""

    names: tuple[str, ...]

    def __call__(self, ordinal: int) -> str:
        return self.names[ordinal - 1] if ordinal <= len(self.names) else "ok"


@dataclass(frozen=True, slots=True)
class Rates:
    """Each request gets a fault with the given probabilities; the same seed strikes the same ordinals."""

    rates: Mapping[str, float]
    seed: int

    def __call__(self, ordinal: int) -> str:
        if not self.rates:
            return "ok"
        drawn = random.Random(f"{self.seed} {ordinal}").random()
        reached = itertools.accumulate(self.rates.values())
        return next((name for name, bound in zip(self.rates, reached, strict=True) if drawn < bound), "ok")


Plan = Script | Rates


def script(text: str) -> Script:
    """`cut 429 ok`; ValueError where a name is unknown."""
    names = tuple(text.split())
    _known(names)
    return Script(names)


def rates(text: str, seed: int) -> Rates:
    """`cut=0.1,429=0.05`; ValueError where a name is unknown or the rates are none."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    _known(tuple(name for name, _, _ in pairs))
    chances = {name: _number(name, rate) for name, _, rate in pairs}
    if any(rate < 0 for rate in chances.values()) or not sum(chances.values()) <= 1:
        raise ValueError("rates must not be negative, and not be more than 1 together")
    return Rates(chances, seed)


def _number(name: str, rate: str) -> float:
    try:
        return float(rate)
    except ValueError:
        raise ValueError(f"{name} needs a rate, as in {name}=0.1") from None


def _known(names: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(FAULTS)}")


def _page(status: int, title: str) -> Answer:
    """What a gateway in front of the provider says when it has lost patience with it."""
    html = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return Answer(status, html.encode(), {"content-type": "text/html; charset=utf-8", "server": "gateway"})


def _always(answer: Answer) -> Callable[[object], Answer]:
    return lambda _: answer


def _away(asked: Asked) -> Answer:
    """To where the bill shows who followed."""
    return Answer(307, b"", {"location": f"/elsewhere{asked.path}"})


def _empty(answer: Answer) -> Answer:
    return replace(answer, body=b"")


def _half(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def _long_header(answer: Answer) -> Answer:
    return replace(answer, headers={**answer.headers, "x-padding": "x" * 200_000})


@cache
def _bomb() -> bytes:
    """Gzip: 1 GiB of spaces in 1 MB. One MiB is compressed and repeated, which a full flush makes possible."""
    mebibyte, times = b" " * 2**20, 1024
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = deflate.compress(mebibyte) + deflate.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(times):
        crc = zlib.crc32(mebibyte, crc)
    trailer = crc.to_bytes(4, "little") + (times * len(mebibyte)).to_bytes(4, "little")
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + block * times + deflate.flush() + trailer


def _bombed(answer: Answer) -> Answer:
    return replace(answer, body=_bomb(), headers={**answer.headers, "content-encoding": "gzip"})


def _in_json(change: Callable[[dict[str, Any]], None]) -> Spoil:
    """Spoils the parsed body, whichever dialect made it; what a dialect does not tell cannot be spoilt."""

    def spoil(answer: Answer) -> Answer:
        fields = json.loads(answer.body)
        change(fields)
        return replace(answer, body=json.dumps(fields).encode())

    return spoil


def _in_text(change: Callable[[str], str]) -> Spoil:
    """Spoils the base64 text of every image."""

    def all_images(fields: dict[str, Any]) -> None:
        for item in _with_bytes(fields):
            item["b64_json"] = change(item["b64_json"])

    return _in_json(all_images)


def _in_image(change: Callable[[bytes], bytes]) -> Spoil:
    """Spoils the bytes of every image."""
    return _in_text(lambda text: base64.b64encode(change(base64.b64decode(text))).decode())


def _images(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """None where there is a task instead."""
    return fields["data"] if isinstance(fields["data"], list) else []


def _with_bytes(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (item for item in _images(fields) if item.get("b64_json"))


def _none(fields: dict[str, Any]) -> None:
    _images(fields).clear()


def _twice(fields: dict[str, Any]) -> None:
    _images(fields).extend(list(_images(fields)))


def _unsaid(fields: dict[str, Any]) -> None:
    for name in ("usage", "meta"):
        fields.pop(name, None)


def _negative(fields: dict[str, Any]) -> None:
    if "usage" in fields:
        fields["usage"] = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), -5)
    if "meta" in fields:
        fields["meta"]["usage"] = dict.fromkeys(("credits_used", "usd_spent"), -5)


def _as_jpeg(image: bytes) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(image)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


_IEND = 12  # bytes of a PNG's last chunk
_DECLINED = Fault(billed=False)
_NOTHING = Answer(0, b"")  # of a request that reached nobody: no answer that a key could stand for

FAULTS: dict[str, Fault] = {
    "ok": Fault(),
    # The connection
    "cut": Fault(fate="cut", deliver=delivery.cut),
    "cut-before": Fault(billed=False, instead=_always(_NOTHING), deliver=delivery.cut),
    "truncate": Fault(fate="truncated", deliver=delivery.truncate),
    "stall": Fault(fate="stalled", deliver=delivery.stall),
    "hang": Fault(fate="hung", deliver=delivery.hang),
    "slow": Fault(deliver=delivery.slow),
    "stream-cut": Fault(fate="stream-cut", deliver=delivery.cut),  # behind the unfinished images, where there are any
    # The provider says no, in its own words
    **dict.fromkeys(
        ("429", "429-header", "quota", "billing", "401", "403", "400", "500", "503-retry", "echo"), _DECLINED
    ),
    "stream-error": Fault(fate="stream-error", breaks=True),
    # Something in front of the provider answers
    "500-html": Fault(fate="500-html", spoil=_always(_page(500, "500 Internal Server Error"))),
    "502": Fault(fate="502", spoil=_always(_page(502, "502 Bad Gateway"))),
    "503": Fault(billed=False, instead=_always(_page(503, "503 Service Temporarily Unavailable"))),
    "redirect": Fault(billed=False, instead=_away),
    # A good status and a useless body
    "html": Fault(fate="html", spoil=_always(_page(200, "Just a moment…"))),
    "empty": Fault(fate="empty", spoil=_empty),
    "badjson": Fault(fate="badjson", spoil=_half),
    "gzbomb": Fault(fate="gzbomb", spoil=_bombed),
    "bighdr": Fault(fate="bighdr", spoil=_long_header),
    # Good JSON with something wrong inside
    "badpng": Fault(fate="badpng", spoil=_in_image(lambda image: image[: len(image) // 2])),
    "noiend": Fault(fate="noiend", spoil=_in_image(lambda image: image[:-_IEND])),
    "wrongformat": Fault(fate="wrongformat", spoil=_in_image(_as_jpeg)),
    "junk64": Fault(fate="junk64", spoil=_in_text(lambda text: f"{text[:100]}!!!\x00*{text[100:]}")),
    "dataurl": Fault(fate="dataurl", spoil=_in_text(lambda text: f"data:image/png;base64,{text}")),
    "nodata": Fault(fate="nodata", spoil=_in_json(_none)),
    "two": Fault(fate="two", spoil=_in_json(_twice)),
    "nousage": Fault(fate="nousage", spoil=_in_json(_unsaid)),
    "badusage": Fault(fate="badusage", spoil=_in_json(_negative)),
}
