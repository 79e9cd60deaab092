"""What a provider says of its limits: in the headers of any answer, and in the words of a 429. Pure.

Headers `x-ratelimit-{limit,remaining}-{requests,images,tokens}` hold figures of a minute. Their `reset` is not read: it
says when all is there again, not when the next request may go. A 429 says "… on input-images per min: Limit 5, Used 5".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from batchgen.wire import Reply

KINDS = ("images", "requests", "tokens")
"""What providers count by the minute."""
PREFIX = "x-ratelimit-"
BOUNDS = 1.0, 1e9  # a minute: what lies outside is no limit
TEXT_MOST = 2_000  # bytes of a 429 that are looked at
SAYS = re.compile(r"on ([\w -]{1,40}) per min\b[^:.]{0,20}[:.] Limit:? ([\d,]{1,15})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quota:
    """So many of a kind a minute; `remaining` of them may go now, where that was said."""

    kind: str
    limit: float
    remaining: float | None = None


def said(reply: Reply) -> tuple[list[Quota], list[Quota]]:
    """What its headers say, which is sure, and what the words of a 429 say, which need not be about us."""
    told = list(_headers(reply.headers)) if any(name.startswith(PREFIX) for name in reply.headers) else []
    return told, list(_words(reply)) if reply.status == 429 else []


def _headers(headers: Mapping[str, str]) -> Iterator[Quota]:
    for kind in KINDS:
        limit = _figure(headers.get(f"{PREFIX}limit-{kind}", ""))
        if limit is not None and BOUNDS[0] <= limit <= BOUNDS[1]:
            yield Quota(kind, limit, _figure(headers.get(f"{PREFIX}remaining-{kind}", "")))


def _words(reply: Reply) -> Iterator[Quota]:
    try:
        text = reply.start(TEXT_MOST).decode("utf-8", "replace")
    except ValueError:  # a body that cannot be read
        return
    for what, figure in SAYS.findall(text):
        kind = next((kind for kind in KINDS if kind[:-1] in what.lower()), "")
        limit = _figure(figure.replace(",", ""))
        if kind and limit is not None and BOUNDS[0] <= limit <= BOUNDS[1]:
            yield Quota(kind, limit)


def _figure(text: str) -> float | None:
    try:
        found = float(text if text.isascii() else "")
    except ValueError:
        return None
    return found if 0 <= found <= BOUNDS[1] else None  # NaN fails this too
