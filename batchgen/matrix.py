"""The axes of a matrix, and the combinations that its exclusions leave."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Generic, TypeVar

from batchgen import parameters
from batchgen.catalog import Provider
from batchgen.document import Loc
from batchgen.parameters import Setting
from batchgen.problems import Problems, nearest, not_one_of
from batchgen.task import canonical

LOC = ("matrix",)
EXCLUDE = (*LOC, "exclude")
COMBINATIONS_MOST = 100_000

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Axis(Generic[V]):
    """A request parameter, or `model`, and the values that it takes in turn."""

    name: str
    values: tuple[V, ...]


@dataclass(frozen=True, slots=True)
class Matrix(Generic[V]):
    """Axes, and the partial combinations that are left out. Without axes there is one combination, the empty one."""

    axes: tuple[Axis[V], ...] = ()
    exclude: tuple[tuple[tuple[str, V], ...], ...] = ()

    @property
    def size(self) -> int:
        """How many combinations there are before any exclusion."""
        return prod(len(axis.values) for axis in self.axes)

    def combinations(self) -> Iterator[tuple[tuple[str, V], ...]]:
        """Every combination that no exclusion matches, in the order of the axes."""
        names = [axis.name for axis in self.axes]
        for values in product(*(axis.values for axis in self.axes)):
            combination = tuple(zip(names, values, strict=True))
            if not any(all(pair in combination for pair in partial) for partial in self.exclude):
                yield combination


def read(section: Mapping[str, object], provider: Provider, problems: Problems) -> Matrix[Setting]:
    """The matrix with each value's place; `problems` knows what is wrong with it."""
    axes = tuple(_axis(name, raw, provider, problems) for name, raw in section.items() if name != "exclude")
    partials = section.get("exclude", [])
    if not isinstance(partials, list):
        problems.add(EXCLUDE, "must be a list of mappings")
        partials = []
    exclude = tuple(_partial(raw, (*EXCLUDE, n), axes, provider, problems) for n, raw in enumerate(partials))
    matrix = Matrix(axes, tuple(partial for partial in exclude if partial))
    _check(matrix, problems)
    return matrix


def _check(matrix: Matrix[Setting], problems: Problems) -> None:
    if matrix.size > COMBINATIONS_MOST:
        problems.add(LOC, f"{matrix.size:,} combinations are more than {COMBINATIONS_MOST:,}", key=True)
    elif matrix.size and next(matrix.combinations(), None) is None:
        problems.add(EXCLUDE, "leaves no combination")


def _axis(name: str, raw: object, provider: Provider, problems: Problems) -> Axis[Setting]:
    loc = (*LOC, name)
    if not isinstance(raw, list):
        problems.add(loc, f"must be a list: [{raw}]" if not isinstance(raw, dict) else "must be a list")
        return Axis(name, ())
    if not raw:
        problems.add(loc, "has no values")
    found = [parameters.read(name, value, (*loc, n), provider, problems) for n, value in enumerate(raw)]
    settings = tuple(setting for setting in found if setting is not None)
    first: dict[str, Setting] = {}
    for setting in settings:
        if first.setdefault(canonical(setting.value), setting) is not setting:
            problems.add(setting.loc, f"{setting.value!r} stands twice")
    return Axis(name, settings)


def _partial(
    raw: object, loc: Loc, axes: Sequence[Axis[Setting]], provider: Provider, problems: Problems
) -> tuple[tuple[str, Setting], ...]:
    if not isinstance(raw, dict) or not raw:
        problems.add(loc, "must be a mapping of axes and values")
        return ()
    known = {axis.name: axis for axis in axes}
    for name in raw.keys() - known.keys():
        problems.add((*loc, name), f"the matrix has no {name!r}{nearest(name, known)}", key=True)
    found = [
        _match(known[name], value, (*loc, name), provider, problems) for name, value in raw.items() if name in known
    ]
    return tuple((match.name, match) for match in found if match)


def _match(axis: Axis[Setting], value: object, loc: Loc, provider: Provider, problems: Problems) -> Setting | None:
    """The axis's own setting that an exclusion means."""
    if not axis.values:
        return None
    wanted = parameters.read(axis.name, value, loc, provider, problems)
    for setting in axis.values:
        if wanted and canonical(setting.value) == canonical(wanted.value):
            return setting
    if wanted:
        says = not_one_of(str(wanted.value), [str(setting.value) for setting in axis.values])
        problems.add(loc, f"excludes nothing: {says}")
    return None
