"""Request parameters against the catalog: their kinds, what the provider and the model take, and its rules."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from batchgen import catalog
from batchgen.catalog import Model, Parameter, Provider, Rule, SizeRule
from batchgen.document import Loc
from batchgen.problems import Problems, nearest, not_one_of
from batchgen.task import canonical

MODEL = Parameter(kind="text")
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_NEARLY_A_SIZE = re.compile(r"([1-9][0-9]{2,4})\s*[xX×*,:/ ]\s*([1-9][0-9]{2,4})\s*(?:px)?")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one parameter, where the manifest sets it."""

    name: str
    value: object
    loc: Loc


Combination = Mapping[str, Setting]
"""All settings of one request, by name."""


def read(name: str, value: object, loc: Loc, provider: Provider, problems: Problems) -> Setting | None:
    """The setting in its catalog kind; or None, and `problems` knows why."""
    parameter = MODEL if name == "model" else provider.parameters.get(name)
    if parameter is None:
        known = sorted(provider.parameters)
        says = f"not a parameter of {provider.identity}, which takes {', '.join(known)}{nearest(name, known)}"
        problems.add(loc[: loc.index(name) + 1], says, key=True)
        return None
    try:
        return Setting(name, _KINDS[parameter.kind](value, problems.document.text(loc, value)), loc)
    except ValueError as error:
        problems.add(loc, str(error) if value is not None else "is empty: give a value, or leave the key out")
        return None


def _text(value: object, source: str) -> str:
    if isinstance(value, list | dict) or not source.strip():
        raise ValueError("must be text")
    return source.strip()


def _size(value: object, source: str) -> str:
    text = _text(value, source)
    if text == "auto" or _SIZE.fullmatch(text):
        return text
    close = _NEARLY_A_SIZE.fullmatch(text)
    hint = f" (did you mean {close[1]}x{close[2]}?)" if close else ""
    raise ValueError(f"{text!r} is not a size such as 1024x1024{hint}")


def _integer(value: object, source: str) -> int:
    if isinstance(value, bool | list | dict) or not re.fullmatch("-?[0-9]{1,18}", source):
        raise ValueError(f"{source!r} is not a whole number")
    return int(source)


def _number(value: object, source: str) -> int | float:
    try:
        number = float("nan") if isinstance(value, bool | list | dict) else float(source)
    except ValueError:
        number = float("nan")
    if not math.isfinite(number):
        raise ValueError(f"{source!r} is not a number")
    return int(number) if number.is_integer() else number  # 2 and 2.0 are one request


def _flag(value: object, source: str) -> bool:
    if source not in ("true", "false"):
        raise ValueError(f"{source!r} is neither true nor false")
    return source == "true"


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


def check(combinations: Sequence[Combination], model: str, provider: Provider, problems: Problems) -> None:
    """Tell `problems` of every setting that provider or model do not take, and of every rule that is broken.

    `model` is the manifest's; a combination that has a model of its own goes before it.
    """
    for setting, name in _pairs(combinations, model):
        if says := objection(setting, name, provider):
            problems.add(setting.loc, says)
    for rule in provider.rules:
        broken = next((combination for combination in combinations if breaks(combination, rule)), None)
        if broken is not None:
            involved = [broken[name].loc for name in (*rule.when, *rule.then) if name in broken]
            problems.add(involved[0], rule.says)


def _pairs(combinations: Iterable[Combination], model: str) -> Iterator[tuple[Setting, str]]:
    """Each setting once with each model that it meets."""
    seen: set[tuple[Loc, str]] = set()
    for combination in combinations:
        name = str(combination["model"].value) if "model" in combination else model
        for setting in combination.values():
            if setting.name != "model" and (setting.loc, name) not in seen:
                seen.add((setting.loc, name))
                yield setting, name


def objection(setting: Setting, model: str, provider: Provider) -> str:
    """Why a setting cannot be, or nothing."""
    parameter, known = provider.parameters[setting.name], catalog.model(model)
    if setting.name == "complexity" and known and not known.complexity:
        return f"{model} has no complexity"
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
    takes = {"quality": known.qualities, "output_format": known.formats}.get(name) if known else None
    allowed = [value for value in parameter.values if takes is None or value in takes or value == "auto"]
    if word in allowed:
        return ""
    return not_one_of(word, allowed) + (f": the values of {model}" if word in parameter.values else "")


def _wrong_size(size: str, model: str, known: Model | None, parameter: Parameter) -> str:
    if parameter.values and size not in parameter.values:
        return not_one_of(size, parameter.values)
    if known is None or size == "auto":
        return ""
    if not isinstance(known.sizes, SizeRule):
        return "" if size in known.sizes else f"{not_one_of(size, ('auto', *known.sizes))}: the sizes of {model}"
    width, height = map(int, size.split("x"))
    reasons = list(_against(known.sizes, width, height))
    return f"{model} does not paint {size}: {'; '.join(reasons)}" if reasons else ""


def _against(rule: SizeRule, width: int, height: int) -> Iterator[str]:
    pixels = width * height
    if width % rule.multiple or height % rule.multiple:
        yield f"width and height must be multiples of {rule.multiple}"
    if max(width, height) > rule.edge_most:
        yield f"no side may be longer than {rule.edge_most}"
    if max(width, height) > rule.ratio_most * min(width, height):
        yield f"no side may be more than {rule.ratio_most} times the other"
    if not rule.pixels_least <= pixels <= rule.pixels_most:
        yield f"{pixels:,} pixels are not between {rule.pixels_least:,} and {rule.pixels_most:,}"


def breaks(combination: Combination, rule: Rule) -> bool:
    """Whether a request meets the rule's condition and not its consequence."""
    return all(_is(combination.get(name), words) for name, words in rule.when.items()) and not all(
        _is(combination.get(name), words) for name, words in rule.then.items()
    )


def _is(setting: Setting | None, words: Sequence[str]) -> bool:
    if setting is None:
        return "unset" in words
    return "set" in words or canonical(setting.value).strip('"') in words
