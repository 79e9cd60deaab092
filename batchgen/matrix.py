"""The axes of a matrix, the combinations that its exclusions leave, and those that it includes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from batchgen import parameters
from batchgen.catalog import Provider
from batchgen.document import Loc
from batchgen.endpoint import Doors
from batchgen.parameters import Setting
from batchgen.problems import Problems, nearest, not_a_list, not_one_of, shown
from batchgen.task import canonical
from batchgen.text import clean

LOC = ("matrix",)
EXCLUDE = (*LOC, "exclude")
INCLUDE = (*LOC, "include")
NO_AXIS = ("exclude", "include")
REPORTED = {"tasks", "images", "input_tokens", "output_tokens", "paid", "low", "high", "share", "sample", "prompt"}
COMBINATIONS_MOST = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One value of an axis: what it is called, and the settings that belong together in it."""

    axis: str
    label: object
    settings: tuple[Setting, ...]
    loc: Loc
    tied: bool = False


Cell = tuple[Choice, ...]
"""A combination: a choice of every axis, in their order."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A request parameter, or several that are tied together, and what it chooses from.

    `whole` is false where a value could not be read: what is not found among the others may have been that one.
    """

    name: str
    choices: tuple[Choice, ...]
    whole: bool = True

    def find(self, label: object) -> Choice | None:
        said = canonical(label)
        return next((choice for choice in self.choices if canonical(choice.label) == said), None)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Axes, the partial combinations that are left out, and the whole ones that are added.

    Without axes there is one combination, the empty one.
    """

    axes: tuple[Axis, ...] = ()
    exclude: tuple[Cell, ...] = ()
    include: tuple[Cell, ...] = ()

    @property
    def size(self) -> int:
        """How many combinations there are before any exclusion."""
        return prod(len(axis.choices) for axis in self.axes)

    def combinations(self) -> Iterator[Cell]:
        """What no exclusion matches, in the order of the axes; then what is included."""
        for cell in product(*(axis.choices for axis in self.axes)):
            if not any(all(choice in cell for choice in partial) for partial in self.exclude):
                yield cell
        yield from self.include

    def readable(self) -> Iterator[Cell]:
        """The combinations of the axes that have any choice."""
        return Matrix(tuple(axis for axis in self.axes if axis.choices), self.exclude).combinations()


def names(section: Mapping[str, object]) -> set[str]:
    """Every axis, and every parameter that the axes set, or were meant to."""
    raw = _axes(section)
    lists = [values for name, values in raw.items() if name != "provider" and isinstance(values, list)]
    tied = [value for values in lists for value in values if isinstance(value, dict)]
    return {*raw, *(name for value in tied for name in value if name != "as")}


def read(
    section: Mapping[str, object], doors: Doors, defaults: Mapping[Loc, Provider], problems: Problems
) -> tuple[Matrix, Mapping[Loc, Provider]]:
    """The matrix, and every provider that the job may ask, by its place: `defaults` and those that the matrix names."""
    raw = _axes(section)
    found = _providers(raw, doors, problems)
    providers = {**defaults, **found}
    reader = _Reader(found, tuple(providers.values()), problems)
    axes = tuple(reader.axis(name, values) for name, values in raw.items())
    exclude = [reader.partial(each, (*EXCLUDE, n), axes) for n, each in reader.entries(section, EXCLUDE)]
    matrix = Matrix(axes, tuple(partial for partial in exclude if partial))
    _check_size(matrix, problems)
    if matrix.size > COMBINATIONS_MOST:
        return Matrix(), providers
    include = [reader.whole(each, (*INCLUDE, n), axes) for n, each in reader.entries(section, INCLUDE)]
    matrix = Matrix(axes, matrix.exclude, tuple(cell for cell in include if cell))
    _check(matrix, problems)
    return matrix, providers


def _axes(section: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in section.items() if name not in NO_AXIS}


def _providers(raw: Mapping[str, object], doors: Doors, problems: Problems) -> dict[Loc, Provider]:
    """The providers that the axes name, by where they do; read first, because they say what a parameter is."""
    found = {}
    for name, values in raw.items():
        for n, value in enumerate(values if isinstance(values, list) else ()):
            loc: Loc = (*LOC, name, n)
            if name != "provider":
                if not isinstance(value, dict) or "provider" not in value:
                    continue
                loc, value = (*loc, "provider"), value["provider"]
            if provider := doors.read(value, loc, problems):
                found[loc] = provider
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    found: Mapping[Loc, Provider]
    providers: Sequence[Provider]
    problems: Problems

    def entries(self, section: Mapping[str, object], loc: Loc) -> Iterator[tuple[int, object]]:
        value = section.get(str(loc[-1]), [])
        if not isinstance(value, list):
            self.problems.add(loc, "must be a list of mappings")
            return
        yield from enumerate(value)

    def axis(self, name: str, raw: object) -> Axis:
        loc = (*LOC, name)
        if clean(name) != name or name in REPORTED:
            says = "is a column of reports" if name in REPORTED else "holds characters that cannot be seen"
            self.problems.add(loc, f"an axis needs another name: {shown(clean(name))} {says}", key=True)
        if not isinstance(raw, list):
            self.problems.add(loc, not_a_list(raw, self.problems.document.text(loc, raw)))
            return Axis(name, (), whole=False)
        if not raw:
            self.problems.add(loc, "has no values")
        found = [self.choice(name, value, (*loc, n)) for n, value in enumerate(raw)]
        axis = Axis(name, tuple(choice for choice in found if choice is not None), bool(found) and all(found))
        self.once(axis)
        return axis

    def once(self, axis: Axis) -> None:
        """Whether each choice is another one, by its name and by what it sets."""
        labels: dict[str, Choice] = {}
        contents: dict[object, Choice] = {}
        for choice in axis.choices:
            sets = tuple((each.name, _spelled(each.value)) for each in choice.settings)
            other = contents.setdefault(sets, choice)
            if choice.tied and (named := labels.setdefault(canonical(choice.label), choice)) is not choice:
                self.problems.add(choice.loc, f"the name {shown(choice.label)} stands twice{self.lines(named, choice)}")
            elif other is not choice and choice.tied:
                self.problems.add(choice.loc, f"{shown(choice.label)} sets the same as {shown(other.label)}")
            elif other is not choice:
                self.problems.add(choice.loc, f"{shown(choice.label)} stands twice{self.lines(other, choice)}")

    def lines(self, *choices: Choice) -> str:
        """Where they are, unless in one line."""
        lines = dict.fromkeys(self.problems.document.line(choice.loc) for choice in choices)
        return f": in {' and in '.join(lines)}" if len(lines) > 1 else ""

    def choice(self, axis: str, value: object, loc: Loc) -> Choice | None:
        plain = axis == "provider" or parameters.kind_of(axis, self.providers) == "mapping"
        if isinstance(value, dict) and not plain:
            return self.tied(axis, value, loc)
        setting = self.setting(axis, value, loc)
        return Choice(axis, _label(setting), (setting,), loc) if setting else None

    def tied(self, axis: str, value: Mapping[str, object], loc: Loc) -> Choice | None:
        """Settings that belong together; `as` is what they are called."""
        name = value.get("as")
        label = "" if name is None else self.problems.document.text((*loc, "as"), name).strip()
        if not label or isinstance(name, list | dict):
            self.problems.add(loc, "needs a short name of its own: as: …", key=True)
        if not value.keys() - {"as"}:
            self.problems.add(loc, "sets nothing beside its name")
        found = [self.setting(name, each, (*loc, name)) for name, each in value.items() if name != "as"]
        settings = tuple(setting for setting in found if setting)
        return Choice(axis, label, settings, loc, tied=True) if label and all(found) else None

    def setting(self, name: str, value: object, loc: Loc) -> Setting | None:
        if name != "provider":
            return parameters.read(name, value, loc, self.providers, self.problems)
        provider = self.found.get(loc)
        return Setting(name, provider, loc) if provider else None

    def partial(self, raw: object, loc: Loc, axes: Sequence[Axis]) -> Cell:
        if not isinstance(raw, dict) or not raw:
            self.problems.add(loc, "must be a mapping of axes and values")
            return ()
        known = {axis.name: axis for axis in axes}
        self.strangers(raw, loc, known)
        found = [self.match(known[name], value, (*loc, name)) for name, value in raw.items() if name in known]
        return tuple(choice for choice in found if choice) if all(found) else ()

    def strangers(self, raw: Mapping[str, object], loc: Loc, known: Mapping[str, Axis]) -> None:
        for name in raw.keys() - known.keys():
            self.problems.add((*loc, name), f"the matrix has no axis {shown(name)}{nearest(name, known)}", key=True)

    def match(self, axis: Axis, value: object, loc: Loc) -> Choice | None:
        """The axis's own choice that an exclusion means."""
        found, label = self.known(axis, value, loc)
        if not found and label is not None and axis.whole:
            self.problems.add(loc, f"excludes nothing: {_among(label, axis)}")
        return found

    def whole(self, raw: object, loc: Loc, axes: Sequence[Axis]) -> Cell:
        """A combination that names a value for every axis; one that the axis does not have is added for it alone."""
        if not isinstance(raw, dict) or not axes:
            self.problems.add(loc, "must be a mapping with a value for every axis" if axes else "there is no axis")
            return ()
        self.strangers(raw, loc, {axis.name: axis for axis in axes})
        if missing := [axis.name for axis in axes if axis.name not in raw]:
            says = f"names no {' and no '.join(missing)}: a whole combination has every axis"
            self.problems.add(loc, f"{says}: add {', '.join(f'{name}: …' for name in missing)}")
            return ()
        found = [self.added(axis, raw[axis.name], (*loc, axis.name)) for axis in axes]
        return tuple(choice for choice in found if choice) if all(found) else ()

    def added(self, axis: Axis, value: object, loc: Loc) -> Choice | None:
        found, label = self.known(axis, value, loc)
        if found or label is None:
            return found
        if parameters.kind_of(axis.name, self.providers):
            return self.choice(axis.name, value, loc)
        if axis.whole:
            self.problems.add(loc, _among(label, axis))
        return None

    def known(self, axis: Axis, value: object, loc: Loc) -> tuple[Choice | None, object]:
        """The choice of that name, and the name; None twice where `problems` knows why there is neither."""
        label: object = value if isinstance(value, dict) else self.problems.document.text(loc, value)
        if parameters.kind_of(axis.name, self.providers):
            setting = parameters.read(axis.name, value, loc, self.providers, self.problems)
            label = setting.value if setting else None
        elif isinstance(value, list):
            self.problems.several(loc, value)
            label = None
        return axis.find(label) if label is not None else None, label


def _among(label: object, axis: Axis) -> str:
    word = label if isinstance(label, dict) else str(label)
    return not_one_of(word, [str(choice.label) for choice in axis.choices])


def _label(setting: Setting) -> object:
    return setting.value.identity if isinstance(setting.value, Provider) else setting.value


def _spelled(value: object) -> str:
    return f"{value.identity} {value.base_url}" if isinstance(value, Provider) else canonical(value)


def _check_size(matrix: Matrix, problems: Problems) -> None:
    if matrix.size > COMBINATIONS_MOST:
        problems.add(LOC, f"{matrix.size:,} combinations are more than {COMBINATIONS_MOST:,}", key=True)


def _check(matrix: Matrix, problems: Problems) -> None:
    """Whether every parameter has one axis, and every combination is there once."""
    if matrix.size and next(matrix.combinations(), None) is None:
        problems.add(EXCLUDE, "leaves no combination")
    setters: dict[str, Choice] = {}
    for choice in (choice for axis in matrix.axes for choice in axis.choices):
        for setting in choice.settings:
            other = setters.setdefault(setting.name, choice)
            if other.axis != choice.axis:
                where = problems.document.where(other.loc)
                says = f"{setting.name} is set by the axis {other.axis} too, at {where}"
                problems.add((*LOC, choice.axis), says, key=True)
    there = {_named(cell) for cell in Matrix(matrix.axes, matrix.exclude).combinations()} if matrix.include else set()
    for n, cell in enumerate(matrix.include):
        if _named(cell) in there:
            problems.add((*INCLUDE, n), "is a combination that is there already")
        there.add(_named(cell))


def _named(cell: Cell) -> tuple[str, ...]:
    return tuple(canonical(choice.label) for choice in cell)
