"""How long limits a minute make of what is to do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from batchgen import costs
from batchgen.catalog import Provider
from batchgen.compare import Part
from batchgen.manifest import Manifest
from batchgen.pace import Learned, figure
from batchgen.terms import PACES


@dataclass(frozen=True, slots=True)
class Paced:
    """How many seconds a limit a minute makes of what is to do at a provider, and how it is called."""

    seconds: float
    name: str


def widths(manifest: Manifest) -> dict[str, int]:
    """How many requests may be open at each provider, by all its keys."""
    return {name: manifest.limits.concurrency * len(each.lanes) for name, each in manifest.providers.items()}


def paces(parts: Sequence[Part], manifest: Manifest, learned: Mapping[str, Sequence[Learned]]) -> list[Paced]:
    """What the manifest says of its providers' limits, and what an earlier run learned of them."""
    return [each for provider in manifest.providers.values() for each in _paces(parts, provider, manifest, learned)]


def _paces(
    parts: Sequence[Part], provider: Provider, manifest: Manifest, learned: Mapping[str, Sequence[Learned]]
) -> Iterator[Paced]:
    name = provider.identity
    parts = [part for part in parts if part.variant.provider == name]
    amounts = {
        "images": sum(part.todo * part.variant.images for part in parts),
        "requests": sum(part.todo for part in parts),
        "tokens": sum(_tokens(part, provider) for part in parts),
    }
    for kind, amount in amounts.items():
        given = [manifest.limits.pace(lane).get(kind) for lane in provider.lanes]
        found = [_least(kind, learned.get(lane.lane, ())) for lane in provider.lanes]
        if limit := _together(given, given):
            yield Paced(amount / limit * 60, f"limits.{PACES[kind]}: {limit:,.0f} a minute at {name}")
        if any(found) and (limit := _together(found, given)):
            yield Paced(amount / limit * 60, f"what {name} allows: {figure(limit, kind)}")


def _least(kind: str, learned: Sequence[Learned]) -> float | None:
    return min((each.per_minute for each in learned if each.kind == kind), default=None)


def _together(first: Sequence[float | None], second: Sequence[float | None]) -> float:
    """What all lanes may do: of each what is known first, else what is known second; 0 where one knows no limit."""
    known = [one or other for one, other in zip(first, second, strict=True)]
    return 0.0 if None in known else sum(each or 0.0 for each in known)


def _tokens(part: Part, provider: Provider) -> float:
    return part.todo * costs.tokens(part.variant, provider) + costs.text_tokens(part.prompt_bytes) + part.input_tokens
