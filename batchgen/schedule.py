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


def paces(parts: Sequence[Part], manifest: Manifest, learned: Mapping[str, Sequence[Learned]]) -> list[Paced]:
    """What the manifest says of its providers' limits, and what an earlier run learned of them."""
    return [each for provider in manifest.providers.values() for each in _paces(parts, provider, manifest, learned)]


def _paces(
    parts: Sequence[Part], provider: Provider, manifest: Manifest, learned: Mapping[str, Sequence[Learned]]
) -> Iterator[Paced]:
    given, name = manifest.limits.pace(provider), provider.identity
    parts = [part for part in parts if part.variant.provider == name]
    amounts = {
        "images": sum(part.todo * part.variant.images for part in parts),
        "requests": sum(part.todo for part in parts),
        "tokens": sum(_tokens(part, provider) for part in parts),
    }
    for kind, limit in given.items():
        yield Paced(amounts[kind] / limit * 60, f"limits.{PACES[kind]}: {limit:,.0f} a minute at {name}")
    for each in learned.get(name, ()):
        allowed = f"what {name} allows: {figure(each.per_minute, each.kind)}"
        yield Paced(amounts[each.kind] / each.per_minute * 60, allowed)


def _tokens(part: Part, provider: Provider) -> float:
    return part.todo * costs.tokens(part.variant, provider) + costs.text_tokens(part.prompt_bytes) + part.input_tokens
