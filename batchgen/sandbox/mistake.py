"""What is wrong with one parameter, before a dialect has found its words for it."""

from dataclasses import dataclass
from typing import NoReturn

KINDS = {bool: "a boolean", int: "an integer", float: "a decimal number", str: "a string", list: "an array"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """`kind` tells which of the other fields say more."""

    name: str
    kind: str  # missing, unknown, type, short, long, choice, range, value
    given: object = None
    expected: str = ""  # of type: "a string"; of value: the whole sentence
    values: tuple[str, ...] = ()  # of choice
    least: int = 0
    most: int = 0  # of range; of long and short, which count characters or items


class Mistaken(Exception):
    """A parameter is not what it must be."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.name)
        self.mistake = mistake


def invalid(name: str, message: str) -> NoReturn:
    """For what only a sentence can say."""
    raise Mistaken(Mistake(name, "value", expected=message))


def kind(value: object) -> str:
    return KINDS.get(type(value), "an object")
