"""What answers taught about price, time and size, for those that are to come."""

from collections.abc import Mapping, Sequence

from batchgen import costs
from batchgen.catalog import Model, Provider
from batchgen.compare import Part
from batchgen.shelf import Experience
from batchgen.task import Variant

BYTES_PER_PIXEL = {"png": 1.6, "jpeg": 0.25, "webp": 0.2, "gif": 1.0}


class Lessons:
    """What answers taught about price, time and size: of the very variant, or else of its model."""

    def __init__(self, had: Sequence[Experience], providers: Mapping[str, Provider]) -> None:
        self._of: dict[object, list[Experience]] = {}
        self._providers = providers
        for each in had:
            for key in (same(each.variant), (each.variant.provider, each.variant.model)):
                self._of.setdefault(key, []).append(each)

    def about(self, variant: Variant) -> list[Experience]:
        return self._of.get(same(variant)) or self._of.get((variant.provider, variant.model)) or []

    def behind(self, parts: Sequence[Part]) -> int:
        """How many answers say something of what is to do."""
        found = {id(each): each for part in parts if part.todo for each in self.about(part.variant)}
        return sum(each.requests for each in found.values())

    def factor(self, variant: Variant) -> float:
        """How many times the estimate the answers really cost."""
        paid = reckoned = 0
        for each in self.about(variant):
            if found := costs.quoted(each.variant, self._providers.get(each.variant.provider)):
                paid += each.cost
                reckoned += found.of(each.prompt_bytes, each.requests, each.input_tokens).expected
        return paid / reckoned if reckoned else 1.0

    def seconds(self, variant: Variant) -> float | None:
        """What a request took."""
        had = self.about(variant)
        return sum(each.seconds for each in had) / sum(each.requests for each in had) if had else None

    def bytes(self, variant: Variant) -> float | None:
        """What an image took."""
        had = self._of.get(same(variant), [])
        return sum(each.bytes for each in had) / sum(each.images for each in had) if had else None


def same(variant: Variant) -> tuple[object, ...]:
    return variant.provider, variant.model, variant.operation, repr(variant.params)


def usual(variant: Variant, model: Model | None) -> float | None:
    """Seconds that a request takes by the catalog."""
    if model is None or not model.seconds:
        return None
    quality = str(variant.param("quality", "auto"))
    return model.seconds.get(quality, model.seconds.get("medium"))


def usual_bytes(variant: Variant) -> float:
    width, height = costs.edges(str(variant.param("size", "auto")))
    return width * height * BYTES_PER_PIXEL.get(str(variant.param("output_format", "png")), BYTES_PER_PIXEL["png"])
