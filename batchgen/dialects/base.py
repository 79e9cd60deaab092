"""What all dialects share: reading pictures and usage out of an answer, and naming what went wrong."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol

from batchgen import links
from batchgen.catalog import Provider
from batchgen.errors import Blocked, Busy, ProviderError, Refused, Rejected, Transient, Unknown, Unusable
from batchgen.task import Params, Task, Usage
from batchgen.wire import Answer, Blob, Conversation, Fetched, Inline, Reply, Request

BODY_PER_IMAGE = 64 * 2**20  # bytes
TOKENS_MOST = 10**8  # a count beyond it is damage, not usage
TEXT_MOST = 500  # characters of a provider's message that are kept
CODE_MOST = 100
PROMPT_MOST = 32_000  # characters of a prompt as the provider rewrote it
RELAY = "x-litellm-"  # the headers of a proxy that speaks for the provider behind it
HANDLE = re.compile(r"[!-~]{1,200}")
EFFECTIVE = ("created", "background", "output_format", "quality", "size")
"""What an answer tells of the values that took effect."""


class Dialect(Protocol):
    """How a family of APIs is spoken. No I/O, no clock, no chance: the same replies lead to the same words."""

    def talk(self, task: Task, provider: Provider, handle: str = "") -> Conversation:
        """Yield Requests, be sent Replies (2xx only), return the Answer; ProviderError where a 2xx holds none.

        With `handle` the conversation goes on from where the provider gave that: nothing is bought.
        """

    def fault(self, reply: Reply) -> ProviderError:
        """What any other reply means."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a provider says went wrong, in any of the shapes that are in use. `own`: it was said by itself.

    OpenAI's envelope {error: {message, type, code}}, AI/ML API's flat {message, statusCode}, FastAPI's {detail}.
    """

    message: str = ""
    code: str = ""
    kind: str = ""
    stage: str = ""
    own: bool = False


def spoken(reply: Reply) -> Spoken:
    """Nothing where the body is no such thing."""
    try:
        body = reply.json()
    except (ValueError, RecursionError):
        return Spoken()
    if not isinstance(body, dict):
        return Spoken()
    if body.get("error"):
        return enveloped(body["error"])
    if "detail" in body:
        return Spoken(_details(body["detail"]), own=True)
    if isinstance(body.get("message"), str) and body.keys() & {"statusCode", "requestId", "code"}:
        return Spoken(body["message"], str(body.get("code") or ""), own=True)
    return Spoken()


def enveloped(error: object) -> Spoken:
    """OpenAI's error object."""
    if not isinstance(error, dict):
        return Spoken(str(error), own=True)
    details = error.get("moderation_details")
    stage = details.get("moderation_stage") if isinstance(details, dict) else None
    message, code, kind = (str(error.get(name) or "") for name in ("message", "code", "type"))
    return Spoken(message, code, kind, str(stage or ""), own=bool(error))


def _details(detail: object) -> str:
    """FastAPI's: a text, or a list of what is wrong and where."""
    if not isinstance(detail, list):
        return str(detail)
    told = [each for each in detail if isinstance(each, dict)]
    places = (".".join(map(str, each["loc"])) if isinstance(each.get("loc"), list) else "" for each in told)
    return "; ".join(f"{place} {each.get('msg', '')}".strip() for place, each in zip(places, told, strict=True))


MODERATED = {"moderation_blocked", "content_policy_violation", "content_filter", "contentFilter"}
NO_KEY = {"invalid_api_key"}
KEY_IN_USE = {"idempotency_key_in_use"}
NO_CREDIT = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_usage_limit_exceeded",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "billing_hard_limit_reached",
}


def fault(reply: Reply) -> ProviderError:
    """Any reply but a 2xx: by code first, then type, then status; never by message."""
    found = spoken(reply)
    said = Said(_text(found, reply), found.code or found.kind, reply)
    if MODERATED & {found.code, found.kind}:
        return _refusal(found, said)
    if NO_CREDIT & {found.code, found.kind} or reply.status in (401, 402, 403):
        return said.by(Blocked)
    if KEY_IN_USE & {found.code, found.kind}:
        return said.by(Busy)
    if reply.status in (409, 429):
        return said.by(Transient)
    if reply.status == 408:
        return said.by(Unknown)
    if reply.status >= 500:
        return said.by(Transient if _clear_no(reply, found.own) else Unknown)
    return said.by(Rejected)


def _clear_no(reply: Reply, own: bool) -> bool:
    """A 5xx that the provider itself said, not a gateway before it: only then is it sure that nothing was billed.

    A relay says in its own envelope what became of a connection behind it, where an image may have been billed.
    """
    if any(name.startswith(RELAY) for name in reply.headers):
        return False
    if reply.status in (502, 504) or 520 <= reply.status <= 529:
        return False
    return own or (reply.status == 503 and wait_hint(reply) is not None)


class Said:
    """What every error carries of the reply it came from."""

    def __init__(self, text: str, code: str, reply: Reply) -> None:
        self.text, self.code = kept(text, TEXT_MOST + 100), kept(code, CODE_MOST) or f"http_{reply.status}"
        self.reply = reply

    def by(self, kind: type[ProviderError]) -> ProviderError:
        return kind(
            self.text,
            code=self.code,
            status=self.reply.status,
            retry_after=wait_hint(self.reply),
            request_id=self.reply.request_id,
        )


def inside(found: Spoken, reply: Reply) -> ProviderError:
    """An error inside a 200: what the provider names is that; anything else may have been billed."""
    said = Said(f"an error inside a 200: {_text(found, reply)}", found.code or found.kind or "error_in_200", reply)
    if MODERATED & {found.code, found.kind}:
        return _refusal(found, said)
    if (NO_CREDIT | NO_KEY) & {found.code, found.kind}:
        return said.by(Blocked)
    return said.by(Unusable)


def _refusal(found: Spoken, said: Said) -> ProviderError:
    refused = Refused(said.text, code=said.code, status=said.reply.status, request_id=said.reply.request_id)
    refused.billed = found.stage in {"output", "unknown"}  # an image may have been made before it was looked at
    return refused


def _text(found: Spoken, reply: Reply) -> str:
    if found.message:
        return found.message[:TEXT_MOST]
    try:
        body = reply.start(TEXT_MOST).decode("utf-8", "replace")
    except ValueError:
        body = ""
    return f"HTTP {reply.status} " + " ".join(body.split())[:200]


DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|h|m|s))+)", re.IGNORECASE)
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def wait_hint(reply: Reply) -> float | None:
    """Seconds that the provider asks us to wait: retry-after-ms, retry-after, or "try again in 1m2s"."""
    headers = reply.headers
    hint = _number(headers.get("retry-after-ms", ""), 0.001)
    if hint is None:
        hint = _number(headers.get("retry-after", ""), 1.0)
    if hint is None:
        hint = _until(headers.get("retry-after", ""), headers.get("date", ""))
    if hint is None and reply.status in (429, 503) and (found := AGAIN.search(spoken(reply).message)):
        hint = duration(found[1])
    return hint


def duration(text: str) -> float:
    """Seconds of a Go-style duration: 1m2s, 240ms, 7.5s."""
    return sum(float(number) * UNITS[unit] for number, unit in DURATION.findall(text))


def _number(text: str, unit: float) -> float | None:
    try:
        seconds = float(text) * unit
    except ValueError:
        return None
    return seconds if 0 <= seconds < 10**6 else None  # NaN fails this too


def _until(text: str, date: str) -> float | None:
    """An HTTP date, against the server's own clock: ours may be wrong."""
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def body_of(reply: Reply) -> Mapping[str, object]:
    """The JSON object of a 2xx; Unusable where it is none, and the error's own kind where it holds an error."""
    try:
        body = reply.json()
    except (ValueError, RecursionError) as error:
        raise Said(f"the answer is no JSON: {str(error)[:120]}", "not_json", reply).by(Unusable) from None
    if not isinstance(body, dict):
        raise Said(f"the answer is a JSON {type(body).__name__}, not an object", "not_json", reply).by(Unusable)
    if body.get("error") and not body.get("data"):  # beside images it is a remark
        raise inside(spoken(reply), reply)
    return body


def events_of(reply: Reply) -> list[Mapping[str, object]]:
    """The events of a stream."""
    try:
        return list(reply.events())
    except ValueError as error:
        raise Said(f"the stream cannot be read: {error}", "not_json", reply).by(Unusable) from None


def items(body: Mapping[str, object], reply: Reply) -> list[Mapping[str, object]]:
    """The answer's pictures; Unusable where there is none."""
    data = body.get("data")
    if not isinstance(data, list) or not data:
        raise Said("the answer holds no image", "no_image", reply).by(Unusable)
    return [item if isinstance(item, dict) else {} for item in data]


def answered(found: "Found", task: Task, provider: Provider) -> Conversation:
    """The answer, once the pictures that came as links are fetched, without the key."""
    pictures: list[Inline | Fetched | None] = []
    for item in found.items:
        revised = item.get("revised_prompt")
        text, link, revised = item.get("b64_json"), item.get("url"), kept(revised, PROMPT_MOST)
        if not text and (isinstance(link, Blob) or (isinstance(link, str) and link.startswith("data:"))):
            text = link
        if text:
            pictures.append(inline(text, revised))
        elif link:
            url = links.joined(f"{provider.base_url}/", str(link))
            pictures.append(Fetched((yield Request("GET", url, auth=False, body_most=BODY_PER_IMAGE)), revised))
        else:
            pictures.append(None)
    missing = task.variant.images - len(pictures)
    return Answer(tuple(pictures) + (None,) * missing, found.usage, found.partials, found.said)


def inline(value: object, revised: str = "") -> Inline:
    """The picture in a field of an answer."""
    return Inline(value if isinstance(value, Blob) else str(value or ""), revised)


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer holds before its links are followed: a mapping a picture, with b64_json or url."""

    items: Iterable[Mapping[str, object]]
    usage: Usage | None = None
    partials: tuple[Inline, ...] = ()
    said: Params = ()


def said_of(body: Mapping[str, object]) -> Params:
    """The values that took effect."""
    told = {name: body.get(name) for name in EFFECTIVE}
    return tuple(
        (name, kept(value, TEXT_MOST) if isinstance(value, str) else value)
        for name, value in told.items()
        if isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**53)
    )


def kept(value: object, most: int) -> str:
    """Text of an answer as it can be written down: JSON can spell what is no character. "" where it is no text."""
    return value[:most].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def usage_of(body: Mapping[str, object]) -> Usage | None:
    """OpenAI's usage object. Without details, an image endpoint puts out image tokens and takes in text."""
    raw = body.get("usage")
    if not isinstance(raw, dict):
        return None
    total_in, total_out = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    if total_in is None or not total_out or body.get("svg_usage"):  # no image takes none; an SVG's author is billed too
        return None
    into, out = _object(raw, "input_tokens_details"), _object(raw, "output_tokens_details")
    image_in, text_out = (
        min(_count(into, "image_tokens") or 0, total_in),
        min(_count(out, "text_tokens") or 0, total_out),
    )
    cached = _count(into, "cached_tokens") or 0
    total = _count(raw, "total_tokens")
    return Usage(
        input_text=total_in - image_in,
        input_image=image_in,
        cached_text=min(cached, total_in - image_in),
        cached_image=min(max(0, cached - (total_in - image_in)), image_in),
        unsplit=(_count(into, "text_tokens") or 0) + (_count(into, "image_tokens") or 0) != total_in,
        output_image=total_out - text_out,
        output_text=text_out,
        total=total_in + total_out,
        note="" if total in (None, total_in + total_out) else f"total_tokens said {total}",
    )


def _object(raw: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = raw.get(name)
    return found if isinstance(found, dict) else {}


def _count(raw: Mapping[str, object], name: str) -> int | None:
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TOKENS_MOST:
        return None
    return value
