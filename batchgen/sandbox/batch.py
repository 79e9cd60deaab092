"""One batch: what it was created with, how far it is, and how it is told."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import uuid4

OPEN = ("validating", "in_progress", "finalizing", "cancelling")
_TOLD_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


@dataclass(slots=True)
class Batch:
    """`at` is when it was created and `window` how many seconds it has; `fault` is what will go wrong with it."""

    input_file_id: str
    endpoint: str
    at: float
    window: float
    metadata: Mapping[str, str] | None = None
    output_seconds: int = 0  # how long its files are kept
    fault: str = "ok"
    id: str = field(default_factory=lambda: f"batch_{uuid4().hex}")
    status: str = "validating"
    times: dict[str, float] = field(default_factory=dict)  # when it came to each status
    errors: Sequence[Mapping[str, object]] = ()
    model: str | None = None
    tokens: int = 0  # that its prompts and images count as while they wait
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: Mapping[str, object] | None = None
    files: dict[str, str] = field(default_factory=dict)  # "output" and "error", where there are any
    hidden: int = 0  # how often its files are still kept back

    @property
    def ends(self) -> float:
        return self.at + self.window

    @property
    def open(self) -> bool:
        return self.status in OPEN

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def told(self) -> dict[str, object]:
        """As the API tells it; times are whole seconds."""
        files = {} if self.hidden else self.files
        times = {f"{name}_at": int(self.times[name]) if name in self.times else None for name in _TOLD_TIMES}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": files.get("output"),
            "error_file_id": files.get("error"),
            "created_at": int(self.at),
            "expires_at": int(self.at) + math.ceil(self.window),
            **times,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": self.usage,
            "metadata": self.metadata,
        }
