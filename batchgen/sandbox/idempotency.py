"""Idempotency keys: a request that is sent again gets the answer that it had, and is neither billed nor slowed down."""

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from batchgen.sandbox.journal import Journal
from batchgen.sandbox.order import Answer, Asked, Problem, Refused

_REUSED = Problem(
    422,
    "This Idempotency-Key came with another request before: a key belongs to one path and one body.",
    "idempotency_error",
    code="idempotency_key_reused",
)
_IN_USE = Problem(
    409,
    "The first request with this Idempotency-Key is still being worked on.",
    "idempotency_error",
    code="idempotency_key_in_use",
)


@dataclass(frozen=True, slots=True)
class _Use:
    """What a key was used for, and until when that counts; there is no answer while it is being made."""

    digest: str
    until: float
    answer: Answer | None = None


class Keys:
    """Remembers answers for so many seconds by the wall clock, which goes on while the server does not; 0: not at all.

    What a request came to is kept as the provider meant it: good answers and its own failures alike, but no refusal,
    after which the key is as new. An answer that gets lost on the way is kept whole.
    """

    def __init__(
        self, seconds: float = 0.0, journal: Journal | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._seconds = seconds
        self._journal = journal or Journal()
        self._clock = clock
        self._uses: dict[str, _Use] = {}
        for record in self._journal.records():
            answer = Answer(record["status"], base64.b64decode(record["body"]), record["headers"])
            self._uses[record["key"]] = _Use(record["digest"], record["until"], answer)

    def claim(self, asked: Asked) -> Answer | None:
        """The answer that this request had before. None where it is new: its key is in use until it is settled.

        Raises Refused where the key belongs to another request, or to one that is not answered yet.
        """
        key = self._key(asked)
        if not key:
            return None
        use = self._uses.get(key)
        if use is None or use.until <= self._clock():
            self._uses[key] = _Use(_digest(asked), self._clock() + self._seconds)
            return None
        if use.digest != _digest(asked):
            raise Refused(_REUSED)
        if use.answer is None:
            raise Refused(_IN_USE)
        return replace(use.answer, headers={**use.answer.headers, "idempotent-replayed": "true"})

    def settle(self, asked: Asked, answer: Answer) -> None:
        """Keeps the answer of a request that was claimed, or frees its key."""
        key = self._key(asked)
        if not key:
            return
        if answer.status // 100 not in (2, 5):
            del self._uses[key]
            return
        use = replace(self._uses[key], until=self._clock() + self._seconds, answer=answer)
        self._uses[key] = use
        body = base64.b64encode(answer.body).decode()
        kept = {"status": answer.status, "headers": dict(answer.headers), "body": body}
        self._journal.add({"key": key, "digest": use.digest, "until": use.until, **kept})

    def _key(self, asked: Asked) -> str:
        return asked.headers.get("idempotency-key", "") if self._seconds else ""


def _digest(asked: Asked) -> str:
    return hashlib.sha256(asked.path.encode() + b"\0" + asked.body).hexdigest()
