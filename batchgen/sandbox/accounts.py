"""Keys that differ: each with images a minute of its own, or taken no more after so many requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from batchgen.sandbox.order import Asked
from batchgen.sandbox.rate import Bucket

ENDS = ("401", "403", "quota", "billing")
"""What a key is told that is taken no more, by the fault's name."""


@dataclass(slots=True)
class Accounts:
    """By key: its `buckets`, and how it `ends`: after how many requests, and in which words."""

    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    ends: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)

    def bucket(self, asked: Asked, shared: Bucket | None) -> Bucket | None:
        """Its own, or the one that all others share."""
        return self.buckets.get(key(asked), shared)

    def ended(self, asked: Asked) -> str:
        """The fault by which its key is refused from now on; "" while it is good."""
        name = key(asked)
        if name not in self.ends:
            return ""
        self._asked[name] = self._asked.get(name, 0) + 1
        most, fault = self.ends[name]
        return fault if self._asked[name] > most else ""


def key(asked: Asked) -> str:
    """Who asks."""
    found = asked.headers.get("authorization") or asked.headers.get("api-key") or ""
    return found.removeprefix("Bearer ").strip()


def limits(text: str, burst: float | None) -> dict[str, Bucket]:
    """`KEY=240,KEY=60`: images a minute, and so many, or a minute's, at once. ValueError where it is none."""
    found = {name: float(limit) for name, limit in _pairs(text)}
    if any(limit <= 0 for limit in found.values()):
        raise ValueError("--key-ipm: a limit is more than nothing")
    return {name: Bucket(limit, burst or limit) for name, limit in found.items()}


def ends(text: str) -> dict[str, tuple[int, str]]:
    """`KEY=20:401,KEY=0:quota`: after so many requests. ValueError where it is none."""
    found = {name: told.partition(":") for name, told in _pairs(text)}
    if strange := sorted({fault for _, _, fault in found.values()} - {*ENDS}):
        raise ValueError(f"--key-ends: {strange[0]!r} is not one of {', '.join(ENDS)}")
    return {name: (int(most), fault) for name, (most, _, fault) in found.items()}


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = (pair.rpartition("=") for pair in text.split(",") if pair)
    return [(name, told) for name, _, told in pairs]
