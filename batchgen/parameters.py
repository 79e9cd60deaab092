"""Request parameters against the catalog: their kinds, what the provider and the model take, and its rules."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from batchgen import catalog, sizes
from batchgen.catalog import Model, Parameter, Provider, Rule, SizeRule
from batchgen.document import Loc
from batchgen.form import misplaced
from batchgen.problems import EMPTY, Problems, nearest, not_one_of, shown, unfit
from batchgen.task import canonical

MODEL = Parameter(kind="text")
BESIDE = frozenset({"provider", "model", "operation"})
"""What a combination holds beside the provider's parameters."""
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_NEARLY_A_SIZE = re.compile(r"([1-9][0-9]{2,4})\s*[xX×*,:/ ]\s*([1-9][0-9]{2,4})\s*(?:px)?")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one parameter, where the manifest sets it; a row's has no place of its own."""

    name: str
    value: object
    loc: Loc = ()


Combination = Mapping[str, Setting]
"""All settings of one request, by name; `provider` is the Provider, `model` its model, `operation` what is done."""


def kind_of(name: str, providers: Sequence[Provider]) -> str:
    """The kind of a parameter, as the first provider has it that takes it; "" where none does."""
    if name == "model":
        return MODEL.kind
    return next((provider.parameters[name].kind for provider in providers if name in provider.parameters), "")


def read(name: str, value: object, loc: Loc, providers: Sequence[Provider], problems: Problems) -> Setting | None:
    """The setting in its catalog kind; or None, and `problems` knows why."""
    kind = kind_of(name, providers)
    if not kind:
        if says := unknown(name, providers, loc):
            problems.add(loc[: loc.index(name) + 1] if name in loc else loc, says, key=True)
    elif isinstance(value, list):
        problems.several(loc, value)
    elif value is None:
        problems.add(loc, EMPTY)
    else:
        try:
            return Setting(name, convert(kind, value, problems.document.text(loc, value)), loc)
        except ValueError as error:
            problems.add(loc, str(error))
    return None


def unknown(name: str, providers: Sequence[Provider], loc: Loc = ()) -> str:
    """What to say of a parameter that nobody takes; nothing where nobody is known who might."""
    known = {each for provider in providers for each in provider.parameters}
    whose = " or ".join(dict.fromkeys(provider.identity for provider in providers))
    takes = f"{whose} takes no {name}{nearest(name, sorted(known))}" if whose else ""
    return misplaced(name, f"{loc[0]}:" if loc else "request:") or takes


def convert(kind: str, value: object, source: str) -> object:
    """A value in its catalog kind; `source` is its spelling. ValueError says what is wrong with it."""
    return _KINDS[kind](value, source)


def _text(value: object, source: str) -> str:
    word = source.strip()
    if isinstance(value, list | dict):
        raise ValueError(f"must be text, not {shown(value)}")
    if says := unfit(word) if word else EMPTY:
        raise ValueError(says)
    return word


def _size(value: object, source: str) -> str:
    text = _text(value, source)
    if text in ("auto", sizes.MATCH) or _SIZE.fullmatch(text):
        return text
    close = _NEARLY_A_SIZE.fullmatch(text)
    hint = f" (did you mean {close[1]}x{close[2]}?)" if close else ""
    raise ValueError(f"{shown(text)} is not a size such as 1024x1024{hint}")


def _integer(value: object, source: str) -> int:
    if isinstance(value, bool | list | dict) or not re.fullmatch("-?[0-9]{1,18}", source):
        raise ValueError(f"{_quoted(value, source)} is not a whole number")
    return int(source)


def _number(value: object, source: str) -> int | float:
    try:
        number = float("nan") if isinstance(value, bool | list | dict) else float(source)
    except ValueError:
        number = float("nan")
    if not math.isfinite(number):
        raise ValueError(f"{_quoted(value, source)} is not a number")
    return int(number) if number.is_integer() else number  # 2 and 2.0 are one request


def _flag(value: object, source: str) -> bool:
    if source not in ("true", "false"):
        raise ValueError(f"{_quoted(value, source)} is neither true nor false")
    return source == "true"


def _quoted(value: object, source: str) -> str:
    return shown(value if isinstance(value, list | dict) else source)


def _mapping(value: object, source: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping")
    return value


_KINDS: Mapping[str, Callable[[object, str], object]] = {
    "text": _text,
    "size": _size,
    "integer": _integer,
    "number": _number,
    "flag": _flag,
    "mapping": _mapping,
}


def check(combinations: Sequence[Combination], problems: Problems, open: Set[str] = frozenset()) -> None:
    """Tell `problems` of every setting that a provider or model does not take, and of every rule that is broken.

    Each setting, and each rule, is told of once. What hangs on the parameters in `open`, whose values are not known
    here, is left alone.
    """
    seen: set[tuple[Loc, str, str]] = set()
    told: set[tuple[Loc, str]] = set()

    def tell(loc: Loc, rule: str, says: str) -> None:
        if (loc, rule) not in told:
            told.add((loc, rule))
            problems.add(loc, says)

    for combination in combinations:
        provider, model = _asked(combination)
        for setting in _parameters(combination) if "model" not in open else ():
            if (setting.loc, provider.identity, model) not in seen:
                seen.add((setting.loc, provider.identity, model))
                if says := objection(setting, model, provider):
                    tell(setting.loc, "", says)
        for name, says in _misfits(combination):
            tell(combination[name].loc, says, says)
        for rule in provider.rules:
            if breaks(combination, rule) and open.isdisjoint((*rule.when, *rule.then)):
                named = sorted(
                    (name for name in (*rule.when, *rule.then) if name in combination), key="operation".__eq__
                )
                tell(combination[named[0]].loc, rule.says, f"{rule.says}: {_cure(combination, rule, problems)}")


def _misfits(combination: Combination) -> Iterator[tuple[str, str]]:
    """What cannot be done as a whole, and the setting that asks for it; nothing while the operation is not known."""
    provider, model = _asked(combination)
    operation, size = combination.get("operation"), combination.get("size")
    if operation and operation.value != "generate" and provider.intake(str(operation.value)) is None:
        yield "operation", f"{provider.identity} has no operation {operation.value}"
    if size and size.value == sizes.MATCH and operation:
        if operation.value == "generate":
            yield "size", "size: match needs an image to match: operation edit or vary"
        elif not sizes.fits(provider, model):
            yield "size", f"size: match needs a model whose sizes the catalog knows, and it does not know {model!r}"


def _cure(combination: Combination, rule: Rule, problems: Problems) -> str:
    """What stands in a rule's way, and where; or what must be set."""
    name, words = next((name, words) for name, words in rule.then.items() if not _is(combination.get(name), words))
    if setting := combination.get(name):
        return f"{name} is {_plain(setting.value)} at {problems.document.line(setting.loc)}"
    return f"set {name} to {' or '.join(words)}"


def wrong(combination: Combination) -> str:
    """The first thing that is wrong with a request, or nothing: for a row, whose settings have no place in the YAML."""
    provider, model = _asked(combination)
    for setting in _parameters(combination):
        if says := objection(setting, model, provider):
            return f"{setting.name}: {says}"
    if misfit := next(_misfits(combination), None):
        return misfit[1]
    return next((rule.says for rule in provider.rules if breaks(combination, rule)), "")


def _asked(combination: Combination) -> tuple[Provider, str]:
    provider = combination["provider"].value
    assert isinstance(provider, Provider)
    return provider, str(combination["model"].value)


def _parameters(combination: Combination) -> Iterator[Setting]:
    return (setting for name, setting in combination.items() if name not in BESIDE)


def objection(setting: Setting, model: str, provider: Provider) -> str:
    """Why a setting cannot be, or nothing."""
    parameter, known = provider.parameters.get(setting.name), catalog.model(model, provider)
    if parameter is None:
        return unknown(setting.name, [provider])
    if known and known.takes(setting.name) == ():
        return f"{model} has no {setting.name}"
    match parameter.kind, setting.value:
        case "integer" | "number", int() | float() as number:
            return _outside(number, parameter)
        case "size", str() as size:
            return _wrong_size(size, model, known, parameter)
        case "text", str() as word if parameter.values:
            return _wrong_word(setting.name, word, model, known, parameter)
    return ""


def _outside(value: float, parameter: Parameter) -> str:
    if parameter.least is not None and value < parameter.least:
        return f"{value} is less than {parameter.least}"
    if parameter.most is not None and value > parameter.most:
        return f"{value} is more than {parameter.most}"
    return ""


def _wrong_word(name: str, word: str, model: str, known: Model | None, parameter: Parameter) -> str:
    takes = known.takes(name) if known else None
    if takes is not None and not {*takes} & {*parameter.values}:  # the provider's own words: of deliveries, of grades
        takes = None
    allowed = [value for value in parameter.values if takes is None or value in takes or value == "auto"]
    if word in allowed:
        return ""
    if takes is None or word not in parameter.values:
        return not_one_of(word, allowed)
    own = [value for value in allowed if value != "auto"] + ["auto"] * ("auto" in allowed)
    return f"{model} has no {name} {word} (it has {', '.join(own)})"


def _wrong_size(size: str, model: str, known: Model | None, parameter: Parameter) -> str:
    if size == sizes.MATCH:
        return ""
    if parameter.values:  # the provider's own list goes before the model's
        return "" if size in parameter.values else not_one_of(size, parameter.values)
    if known is None or size == "auto":
        return ""
    if not isinstance(known.sizes, SizeRule):
        return "" if size in known.sizes else f"{not_one_of(size, ('auto', *known.sizes))}: the sizes of {model}"
    width, height = map(int, size.split("x"))
    reasons = list(sizes.against(known.sizes, width, height))
    return f"{model} does not paint {size}: {'; '.join(reasons)}" if reasons else ""


def breaks(combination: Combination, rule: Rule) -> bool:
    """Whether a request meets the rule's condition and not its consequence."""
    return all(_is(combination.get(name), words) for name, words in rule.when.items()) and not all(
        _is(combination.get(name), words) for name, words in rule.then.items()
    )


def _is(setting: Setting | None, words: Sequence[str]) -> bool:
    if setting is None:
        return "unset" in words
    return "set" in words or _plain(setting.value) in words


def _plain(value: object) -> str:
    return canonical(value).strip('"')
