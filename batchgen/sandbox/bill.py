"""The provider's own books: a line a charge, on disk before the answer leaves."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchgen.sandbox.order import Asked, Order


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request cost, and what the server meant to do with its answer (`fate`)."""

    dialect: str
    asked: Asked
    order: Order
    usage: Mapping[str, object]
    nano_usd: int
    fate: str

    def line(self, n: int) -> bytes:
        record = {
            "n": n,
            "at": datetime.now(UTC).isoformat(),
            "request_id": self.asked.request_id,
            "client_request_id": self.asked.client_request_id,
            "idempotency_key": self.asked.headers.get("idempotency-key", ""),
            "path": self.asked.path,
            "dialect": self.dialect,
            "operation": self.order.operation,
            "inputs": [each.digest for each in self.order.inputs],
            "mask": self.order.mask.digest if self.order.mask else "",
            "model": self.order.model,
            "size": self.order.size,
            "quality": self.order.quality,
            "images": self.order.n,
            "usage": self.usage,
            "nano_usd": self.nano_usd,
            "usd": self.nano_usd / 1e9,
            "fate": self.fate,
        }
        if self.asked.batch:
            record |= {"batch": self.asked.batch, "custom_id": self.asked.client_request_id}
        return json.dumps(record).encode()


@dataclass(frozen=True, slots=True)
class _Taken:
    """What was charged for one batch."""

    lines: set[str] = field(default_factory=set)
    tokens: Counter[str] = field(default_factory=Counter)


class Bill:
    """All charges since the file began, or since the start where there is no file.

    With `once` nothing is charged under an idempotency key that the file has already: the server was ended between the
    charge and the answer that it meant to remember. The line of a batch is never charged twice.
    """

    def __init__(self, path: Path | None = None, *, fsync: bool = False, once: bool = False) -> None:
        self._lines = path.read_bytes().splitlines() if path and path.exists() else []
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if path else None
        self._fsync = fsync
        kept = [json.loads(line) for line in self._lines]
        self._charged = {charge["idempotency_key"] for charge in kept if once and charge["idempotency_key"]}
        self._of_batches: dict[str, _Taken] = {}
        for charge in kept:
            if "batch" in charge:
                self._note(charge["batch"], charge["custom_id"], charge["usage"])
        self._nano_usd = sum(charge["nano_usd"] for charge in kept)
        self._images = sum(charge["images"] for charge in kept)

    def add(self, charge: Charge) -> None:
        asked = charge.asked
        if asked.headers.get("idempotency-key", "") in self._charged:
            return
        if asked.batch and not self._note(asked.batch, asked.client_request_id, charge.usage):
            return
        line = charge.line(len(self._lines) + 1)
        if self._fd is not None:
            os.write(self._fd, line + b"\n")  # one write to an appending file: whole, even if we are killed right after
        if self._fd is not None and self._fsync:
            os.fsync(self._fd)
        self._lines.append(line)
        self._nano_usd += charge.nano_usd
        self._images += charge.order.n

    def of_batch(self, batch: str) -> Mapping[str, int]:
        """Tokens of its charged lines, all together."""
        return self._of_batches.get(batch, _Taken()).tokens

    def _note(self, batch: str, custom_id: str, usage: Mapping[str, Any]) -> bool:
        """False where the line was charged before."""
        taken = self._of_batches.setdefault(batch, _Taken())
        if custom_id in taken.lines:
            return False
        taken.lines.add(custom_id)
        taken.tokens.update({name: usage[name] for name in ("input_tokens", "output_tokens", "total_tokens")})
        return True

    def totals(self) -> dict[str, object]:
        return {"total_nano_usd": self._nano_usd, "total_usd": self._nano_usd / 1e9, "images": self._images}

    def whole(self) -> bytes:
        """The totals and every charge, as JSON; the lines are joined as they are, for there may be a million."""
        return b'{"charges": [' + b", ".join(self._lines) + b"], " + json.dumps(self.totals()).encode()[1:]
