"""Why tasks are new, or wanted no more: told from what the ledger had of the same prompts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from batchgen.shelf import Shelf
from batchgen.task import Variant, canonical, prompt_digest

Spec = Mapping[str, str]
"""What a variant asks for, each value as text."""

NONE = "(none)"
MOST = 6  # causes that are told


class Causes:
    """Counts tasks by what makes them new, and by what they are dropped for."""

    def __init__(self, there: Shelf) -> None:
        self._had = {number: _spec(variant) for number, variant in there.variants().items()}
        self._samples = there.samples()
        self._prompts: set[bytes] = set()
        self._unheard = 0  # tasks whose prompt the ledger never had
        self._more = 0  # tasks that are further samples
        self._again = 0  # tasks that are made again
        self._otherwise: Counter[int] = Counter()  # tasks whose prompt it had, by their variant's id()
        self._variants: dict[int, Spec] = {}
        self._dropped: Counter[int] = Counter()

    def new(self, tasks: Sequence[tuple[str, Variant, int, int]], there: Shelf) -> None:
        """Tasks that the ledger does not have, as prompt, variant, sample and take."""
        digests = {prompt: prompt_digest(prompt) for prompt, *_ in tasks}
        known = there.prompts(list(digests.values()))
        for prompt, variant, sample, take in tasks:
            if take > 1:
                self._again += 1
            elif digests[prompt] not in known:
                self._unheard += 1
                self._prompts.add(digests[prompt])
            elif sample > self._samples:
                self._more += 1
            else:
                self._otherwise[id(variant)] += 1
                self._variants.setdefault(id(variant), _spec(variant))

    def dropped(self, variants: Iterable[int]) -> None:
        """Tasks that nobody asks for any more, by the ledger's id of their variant."""
        self._dropped.update(variants)

    def told(self, wanted: Sequence[Variant]) -> tuple[str, ...]:
        """A sentence for each cause, the greatest first."""
        if not self._had:
            return ()
        now = [_spec(variant) for variant in wanted]
        gone = [spec for number, spec in self._had.items() if spec not in now and self._dropped[number]]
        new: Counter[str] = Counter()
        for number, count in self._otherwise.items():
            new[self._why(self._variants[number], gone)] += count
        if self._unheard:
            new[_plural(len(self._prompts), "prompt") + " that the ledger never had"] += self._unheard
        if self._more:
            new[f"more samples than {self._samples}"] += self._more
        if self._again:
            new["made again, as the fixes say"] += self._again
        told_already = [_nearest(self._variants[number], gone) for number in self._otherwise if gone]
        lost = Counter[str]()
        for number, count in self._dropped.items():
            if self._had[number] not in told_already:
                lost[_why_lost(self._had[number], now)] += count
        told = [f"{count:,} new: {why}" for why, count in new.most_common(MOST)]
        return (*told, *(f"{count:,} dropped: {why}" for why, count in lost.most_common(MOST)))

    def _why(self, spec: Spec, gone: Sequence[Spec]) -> str:
        if spec in self._had.values():
            return "rows or images that had not this combination before"
        near = _nearest(spec, list(self._had.values()))
        changed = _differences(near, spec)
        if gone and len(_differences(_nearest(spec, gone), spec)) <= len(changed):
            return ", ".join(f"{name}: {old} → {new}" for name, old, new in _differences(_nearest(spec, gone), spec))
        return ", ".join(f"{name} {new} is asked for now" for name, _, new in changed)


def _why_lost(spec: Spec, now: Sequence[Spec]) -> str:
    if spec in now or not now:
        return "rows or samples that are not asked for any more"
    changed = _differences(spec, _nearest(spec, now))
    return ", ".join(
        f"{name} {old} is not asked for any more" if old != NONE else f"{name}: {NONE} → {new}"
        for name, old, new in changed
    )


def _spec(variant: Variant) -> Spec:
    params = {name: value if isinstance(value, str) else canonical(value) for name, value in variant.params}
    return {**params, "provider": variant.provider, "model": variant.model, "operation": str(variant.operation)}


def _nearest(spec: Spec, others: Sequence[Spec]) -> Spec:
    return min(others, key=lambda other: len(_differences(other, spec)))


def _differences(old: Spec, new: Spec) -> list[tuple[str, str, str]]:
    names = sorted(old.keys() | new.keys())
    return [(name, old.get(name, NONE), new.get(name, NONE)) for name in names if old.get(name) != new.get(name)]


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("s" if count != 1 else "")
