"""Take secrets out of what a server said: a key may come back whole or in pieces, as it is or encoded."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from string import ascii_lowercase, ascii_uppercase

SECRET = re.compile(r"(?:.*_)?(?:KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
LEAST = 8  # letters in a row that are too many
SAID = "[key]"
SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)  # the name of a host is told in small letters
ESCAPES = ("%", "\\", "&#x")
UNIT = re.compile(r"%(?:25)*([0-9A-Fa-f]{2})|\\+u00([0-9A-Fa-f]{2})|&#x([0-9A-Fa-f]{2});|.", re.DOTALL)
"""A letter, or what stands for one in a URL, in JSON, in HTML."""


def redact(text: str, secrets: Sequence[str]) -> str:
    """The text without any piece of a secret; it is found percent-encoded, escaped and in base64 too."""
    if not any(sign in text for sign in ESCAPES):
        units: Sequence[str] = text
        plain = text.translate(SMALL)
    else:
        found = list(UNIT.finditer(text))
        units = [unit[0] for unit in found]
        plain = "".join(map(_letter, found)).translate(SMALL)
    covered = {k for secret in secrets for k in _places(_pieces(secret), plain)}
    return "".join(_told(k, unit, covered) for k, unit in enumerate(units)) if covered else text


def secrets(environ: Mapping[str, str]) -> list[str]:
    """What of an environment may stand nowhere: by the names of its variables."""
    return [value for name, value in environ.items() if SECRET.fullmatch(name) and len(value) > LEAST]


def censor(data: bytes, secrets: Sequence[str]) -> bytes:
    """A body of any size without the secrets: their spellings and halves of those, where they stand as they are."""
    for secret in secrets:
        for spelling in _spellings(secret):
            half = len(spelling) // 2
            for part in (spelling, spelling[:half], spelling[half:]):
                data = data.replace(part.encode(), SAID.encode())
    return data


def _letter(unit: re.Match[str]) -> str:
    code = unit[1] or unit[2] or unit[3]
    return chr(int(code, 16)) if code else unit[0]


def _told(k: int, unit: str, covered: set[int]) -> str:
    """A unit as it is told: of a run that is covered only the first is, as a word."""
    if k not in covered:
        return unit
    return "" if k - 1 in covered else SAID


def _places(pieces: frozenset[str], plain: str) -> Iterator[int]:
    """Where the letters of any piece stand."""
    for size in {len(piece) for piece in pieces}:
        for start in range(len(plain) - size + 1):
            if plain[start : start + size] in pieces:
                yield from range(start, start + size)


@cache
def _pieces(secret: str) -> frozenset[str]:
    """Every run of `LEAST` letters in any spelling."""
    runs = ((spelling, min(LEAST, len(spelling))) for spelling in _spellings(secret))
    return frozenset(text[n : n + size].translate(SMALL) for text, size in runs for n in range(len(text) - size + 1))


def _spellings(secret: str) -> list[str]:
    """As it is, and as base64 of any text shows it, wherever it begins there."""
    return list(dict.fromkeys([secret, *(spelling for before in range(3) for spelling in _base64(secret, before))]))


def _base64(secret: str, before: int) -> Iterator[str]:
    """In both alphabets: only what depends on nothing else, and with the end as it is where nothing follows."""
    data = bytes(before) + secret.encode()
    first, last = (before * 8 + 5) // 6, len(data) * 8 // 6
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(data).decode()
        yield from (text[first:last], text[first:])
