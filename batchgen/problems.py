"""What is wrong with a manifest: gathered with its positions, said all at once; and words that many messages share."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from batchgen.document import INVISIBLE, SHOWN_MOST, Document, Loc, unseen
from batchgen.errors import ManifestError

EMPTY = "is empty: give a value, or leave the key out"
_KEY = re.compile(r"\bsk-[\w-]{12,}")
_LETTERS = re.compile(r"[^\W\d_]{2}")
_QUOTES = "“”„‟‘’‚‛«»"


class Problems:
    """The problems of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.found: set[tuple[int, int, str]] = set()

    def add(self, loc: Loc, says: str, key: bool = False) -> None:
        """A problem with the value at `loc`, or with its key. What looks like an API key is not repeated."""
        path = cut(" ".join(".".join(map(str, loc)).split()), 2 * SHOWN_MOST)
        said = _KEY.sub("sk-…", f"{path}: {says}" if path else says)
        self.found.add((*self.document.line_col(loc, key), f"{self.document.where(loc, key)}: {said}"))

    def several(self, loc: Loc, values: Sequence[object]) -> None:
        """A problem with a list where one value belongs."""
        if loc[0] == "matrix" or any(isinstance(each, list | dict) for each in values):
            self.add(loc, "must be one value, not a list")
            return
        spelled = (self.document.text((*loc, n), each) for n, each in enumerate(values))
        axis = f"matrix: {{{loc[-1]}: [{cut(', '.join(spelled))}]}}"
        self.add(loc, f"one value here; several go into the matrix: {axis}")

    def settle(self) -> None:
        """Raise ManifestError with every problem, from top to bottom, if there is one."""
        if self.found:
            raise ManifestError(*(says for _, _, says in sorted(self.found)))


def near(word: str, choices: Iterable[str]) -> str:
    """The choice that was probably meant, or nothing; of numbers and sizes nobody can tell."""
    known = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), known, n=1) if _LETTERS.search(word) else []
    return known[close[0]] if close else ""


def nearest(word: str, choices: Iterable[str]) -> str:
    """` (did you mean that?)`, or nothing."""
    meant = near(word, choices)
    return f" (did you mean {meant}?)" if meant else ""


def not_one_of(word: object, choices: Iterable[str]) -> str:
    """`'hihg' is not one of low, medium, high (did you mean high?)`."""
    choices = list(choices)
    return f"{shown(word)} is not one of {', '.join(choices)}{nearest(word, choices) if isinstance(word, str) else ''}"


def not_a_list(value: object, spelled: str) -> str:
    """What to say of another thing where a list belongs."""
    if isinstance(value, dict):
        return f"must be a list: put - before {next(iter(value), '…')}:"
    return EMPTY if value is None else f"must be a list: [{cut(' '.join(spelled.split()))}]"


def shown(value: object) -> str:
    """A scalar as messages quote it: in one line, and of a long one the beginning. Of all else, what it is."""
    match value:
        case str():
            return repr(cut(value))
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
    return str(value)


def cut(text: str, most: int = SHOWN_MOST) -> str:
    """The beginning of a long text."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def unfit(word: str) -> str:
    """Why a word that is no prompt cannot be meant as it is written, or nothing."""
    if hidden := INVISIBLE.search(word):
        return unseen(hidden)
    if word[:1] in _QUOTES and word[-1:] in _QUOTES and len(word) > 1:
        return f'{word[0]} {word[-1]} are no quotes in YAML: use " "'
    return ""
