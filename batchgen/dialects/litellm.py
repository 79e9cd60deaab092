"""A LiteLLM proxy: OpenAI's dialect, but its errors are its own, and much of what was said behind it is lost there.

Of its 5xx nobody can say whether an image was billed behind it. Codes are gone: where words alone are left, they say.
"""

import json
import re
from dataclasses import replace
from typing import TypeVar

from batchgen.dialects import base
from batchgen.dialects.openai import talk
from batchgen.errors import Blocked, ProviderError, Refused, Rejected, Transient, Unknown
from batchgen.wire import Reply

EMBEDDED = re.compile(r"\{\s*\"error\"\s*:.*\}", re.DOTALL)
NO_MONEY = re.compile(r"current quota|no credit|credit balance|billing hard limit|spend limit", re.IGNORECASE)
K = TypeVar("K", bound=ProviderError)
NO_KEY = {"no_db_connection", "token_not_found_in_db", "budget_exceeded"}
"""What it says of a key that it does not know, or that has spent its share."""

__all__ = ["fault", "talk"]


def fault(reply: Reply) -> ProviderError:
    """By what the provider behind it said, where that is told; else by its own type, and at last by its words."""
    found = base.spoken(reply)
    if inner := _embedded(found.message):
        told = base.fault(replace(reply, body=inner, size=-1, headers=_without_relay(reply)))
        told.request_id = reply.request_id
        return told
    error = base.fault(reply)
    if reply.status >= 500:  # whatever headers came along
        error = _as(Unknown, error)
    if found.code.isdigit():
        error.code = found.kind or error.code
    if (found.kind in NO_KEY and reply.status < 500) or (
        isinstance(error, Rejected | Transient) and NO_MONEY.search(found.message)
    ):
        return _as(Blocked, error)
    if isinstance(error, Rejected) and found.kind == "image_generation_user_error":
        refused = _as(Refused, error)
        refused.billed = True  # at which stage it was refused is not told
        return refused
    return error


def _embedded(message: str) -> bytes:
    """The error of the provider behind it, where the message holds it whole."""
    found = EMBEDDED.search(message)
    try:
        inner = json.loads(found[0]) if found else None
    except (ValueError, RecursionError):
        return b""
    return json.dumps(inner).encode() if isinstance(inner, dict) and isinstance(inner.get("error"), dict) else b""


def _without_relay(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if not name.startswith(base.RELAY)}


def _as(kind: type[K], error: ProviderError) -> K:
    return kind(
        str(error), code=error.code, status=error.status, retry_after=error.retry_after, request_id=error.request_id
    )
