"""The requests of a manifest but for its rows: providers, defaults and matrix come to combinations, and to variants."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from batchgen import matrix, parameters
from batchgen.catalog import Provider
from batchgen.document import Loc
from batchgen.endpoint import Doors
from batchgen.form import TopForm, section
from batchgen.matrix import Cell, Matrix
from batchgen.parameters import Combination, Setting
from batchgen.problems import Problems, near, shown
from batchgen.task import Identity, Operation, Variant


@dataclass(frozen=True, slots=True)
class Wanted:
    """The part of the requests that is the same for all rows."""

    providers: tuple[Provider, ...]
    defaults: tuple[Setting, ...]
    matrix: Matrix
    cells: tuple[Cell, ...]
    meant: Set[str]
    """Every parameter and axis, whether it could be read or not."""
    judged: Sequence[Combination] = ()
    """The requests, as far as they could be read; none, where they lack a provider or a model."""

    @property
    def taken(self) -> dict[str, Loc]:
        """The parameters that the matrix sets, and where."""
        choices = (choice for axis in self.matrix.axes for choice in axis.choices)
        return {setting.name: setting.loc for choice in choices for setting in choice.settings}

    @property
    def open(self) -> Set[str]:
        """What was meant to be set and could not be read."""
        return self.meant - self.taken.keys() - {each.name for each in self.defaults}


def read(value: Mapping[str, object], doors: Doors, problems: Problems) -> Wanted:
    """What a manifest's top keys, its matrix and its request come to; `problems` knows what could not be read."""
    raw, axis, request = value.get("provider"), section(value, "matrix"), section(value, "request")
    provider = doors.read(raw, ("provider",), problems) if raw is not None else None
    defaults: dict[Loc, Provider] = {("provider",): provider} if provider else {}
    axes, named = matrix.read(axis, doors, defaults, problems)
    _check_names(named, problems)
    providers = tuple(named.values())
    settings = [Setting("provider", provider, ("provider",))] if provider else []
    if value.get("model") is not None and (model := parameters.read("model", value["model"], ("model",), (), problems)):
        settings.append(model)
    settings += _request(request, providers, problems)
    wanted = Wanted(providers, tuple(settings), axes, tuple(axes.combinations()), matrix.names(axis) | request.keys())
    judged = [_combination(cell, settings) for cell in wanted.cells or axes.readable()]
    if not _complete(judged, wanted.open, value, problems):
        return wanted
    parameters.check(judged, problems, wanted.open | {"operation"})  # which each source says for itself
    if not problems.found:
        _check_once(wanted.cells, settings, problems)
    return replace(wanted, judged=judged)


def _request(section: Mapping[str, object], providers: Sequence[Provider], problems: Problems) -> Iterator[Setting]:
    for name, value in section.items():
        loc = ("request", name)
        if name == "model":
            problems.add(loc, "model stands at the top of the manifest, or in the matrix", key=True)
        elif setting := parameters.read(name, value, loc, providers, problems):
            yield setting


def _complete(
    combinations: Sequence[Combination], open: Set[str], value: Mapping[str, object], problems: Problems
) -> bool:
    """Whether every combination has a provider and a model. Those that could not be read are told of already."""
    lacking = {name for name in ("model", "provider") if any(name not in each for each in combinations)}
    strangers = value.keys() - TopForm.model_fields.keys()
    for name in sorted(lacking - open - value.keys()):
        if not near(name, strangers):
            lack = "is empty" if (name,) in problems.document.keys else "is missing"
            problems.add((name,), f"{lack}: it stands at the top of the manifest, or in every choice of an axis")
    return not lacking


def _check_names(named: Mapping[Loc, Provider], problems: Problems) -> None:
    """Whether a name means one provider throughout: reports and keys know it by that."""
    first: dict[str, Loc] = {}
    for loc, provider in named.items():
        other = first.setdefault(provider.identity, loc)
        if named[other] != provider:
            lines = f"{problems.document.line(other)} and {problems.document.line(loc)}"
            says = f"two different providers are called {provider.identity}: give each a name: of its own"
            problems.add(loc, f"{says} ({lines})")


def _check_once(cells: Sequence[Cell], defaults: Sequence[Setting], problems: Problems) -> None:
    """Whether each combination comes to another request: two of one would be counted twice and bought once."""
    first: dict[str, Cell] = {}
    for cell in cells:
        asked = variant(cell, defaults, Operation.GENERATE)
        other = first.setdefault(Identity(asked).key('""', 1, 1), cell)
        if other is not cell:
            choice, same = next(pair for pair in zip(cell, other, strict=True) if pair[0] is not pair[1])
            says = f"comes to the same request as {shown(same.label)}: leave one of them out"
            problems.add(choice.loc, f"{shown(choice.label)} {says}")


def _combination(cell: Cell, defaults: Sequence[Setting]) -> Combination:
    """A request's settings: an axis goes before a default."""
    return {each.name: each for each in (*defaults, *(each for choice in cell for each in choice.settings))}


def variant(cell: Cell, defaults: Sequence[Setting], operation: Operation) -> Variant:
    """The variant of one combination."""
    found = {name: setting.value for name, setting in _combination(cell, defaults).items()}
    provider, model = found.pop("provider"), str(found.pop("model"))
    assert isinstance(provider, Provider)
    axes = tuple((choice.axis, choice.label) for choice in cell)
    return Variant(provider.identity, model, operation, tuple(sorted(found.items())), axes)
