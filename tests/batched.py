"""Runs by the Batch API as tests make them, and what the sandbox holds of them afterwards."""

from dataclasses import dataclass
from typing import Any

from world import World

QUICK = {"poll": 0.05}
"""Half a minute would pass between two looks, else."""


def batched(world: World, most: int | None = None, **changes: Any) -> dict[str, Any]:
    """What makes a run of `world` one by batches, of so many lines at most."""
    rules: dict[str, object] = {**QUICK, **({"lines_most": most} if most else {})}
    return {"provider": world.provider(batch=rules), "engine": "batch", **changes}


def local(world: World, **changes: Any) -> dict[str, Any]:
    """The same by the local engine: its provider could take batches, too."""
    return batched(world, **{"engine": "local", **changes})


@dataclass(frozen=True, slots=True)
class Kept:
    """What the provider holds of one world: its batches, the oldest first, and files, deleted ones among them."""

    batches: list[dict[str, Any]]
    files: list[dict[str, Any]]

    def handed(self, purpose: str) -> list[dict[str, Any]]:
        return [each for each in self.files if each["purpose"] == purpose]

    @property
    def left(self) -> list[str]:
        """Which of those that were handed over are still there."""
        return [each["filename"] for each in self.files if each["purpose"] != "batch_output" and not each["deleted"]]


def kept(world: World) -> Kept:
    """By the marks that the ledger knows: others may share the sandbox."""
    held = world.sandbox.get("__batches").json()
    marks = [mark for (mark,) in world.rows("SELECT id FROM batches ORDER BY seq")]
    batches = [each for each in reversed(held["batches"]) if (each["metadata"] or {}).get("batchgen") in marks]
    begins = tuple(f"batchgen-{mark}" for mark in [*marks, *(mark[:16] for mark in marks)])
    output = {each[which] for each in batches for which in ("output_file_id", "error_file_id")}
    files = [each for each in held["files"] if each["filename"].startswith(begins) or each["id"] in output]
    return Kept(batches, files)


def requests(world: World) -> int:
    """That reached the sandbox, of any kind."""
    return sum(world.sandbox.stats()["requests"].values())
