"""What is wrong with a manifest: gathered with its positions, said all at once."""

from collections.abc import Iterable
from difflib import get_close_matches

from batchgen.document import Document, Loc
from batchgen.errors import ManifestError


class Problems:
    """The problems of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.found: set[tuple[int, int, str]] = set()

    def add(self, loc: Loc, says: str, key: bool = False) -> None:
        """A problem with the value at `loc`, or with its key."""
        path = ".".join(map(str, loc))
        where = self.document.where(loc, key)
        self.found.add((*self.document.line_col(loc, key), f"{where}: {path}: {says}" if path else f"{where}: {says}"))

    def settle(self) -> None:
        """Raise ManifestError with every problem, from top to bottom, if there is one."""
        if self.found:
            raise ManifestError(*(says for _, _, says in sorted(self.found)))


def nearest(word: str, choices: Iterable[str]) -> str:
    """` (did you mean that?)`, or nothing."""
    known = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), known, n=1)
    return f" (did you mean {known[close[0]]}?)" if close else ""


def not_one_of(word: str, choices: Iterable[str]) -> str:
    """`'hihg' is not one of low, medium, high (did you mean high?)`."""
    choices = list(choices)
    return f"{word!r} is not one of {', '.join(choices)}{nearest(word, choices)}"
