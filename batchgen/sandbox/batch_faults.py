"""What can go wrong with a batch on request, and with the calls that are about batches and files."""

import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from batchgen.sandbox.faults import FAULTS as IMAGE_FAULTS
from batchgen.sandbox.faults import Fault

LINE_SPOILS = ("nousage", "badusage", "badpng", "noiend", "wrongformat", "junk64", "nodata", "two")
LATE = 3  # times that a batch is looked at before its files are told
_STRIDE = 3  # every third line is struck, the first one first


@dataclass(frozen=True, slots=True)
class BatchFault:
    """One way in which a batch goes wrong; what is said of lines befalls every third that is executed."""

    line: str = "ok"  # the fault of requests that befalls its lines
    declined: str = ""  # the problem that the provider has with these lines
    write: Callable[[bytes], bytes] = bytes  # what becomes of such a line of the output file
    once: bool = False  # the first line alone
    late: bool = False  # its files are told some looks later
    empty_errors: bool = False  # an error file of no bytes
    invalid: bool = False  # it fails before anything was executed
    dies: bool = False  # it fails when half was executed
    keeps: bool = True  # its files are there although it died
    totals: bool = True  # it says what it used

    def strikes(self, nth: int) -> bool:
        return nth == 0 if self.once else nth % _STRIDE == 0

    def made(self, nth: int) -> tuple[Fault, str]:
        """How the nth line to be executed is made, and whether it is declined."""
        struck = self.strikes(nth)
        return IMAGE_FAULTS[self.line if struck else "ok"], self.declined if struck else ""

    def written(self, nth: int, line: bytes) -> bytes:
        return self.write(line) if self.strikes(nth) else line


def _foreign(line: bytes) -> bytes:
    """The line, and another that nobody asked for."""
    return line + json.dumps({**json.loads(line), "custom_id": "somebody-elses"}).encode() + b"\n"


FAULTS = {
    "ok": BatchFault(),
    "missing": BatchFault(write=lambda line: b""),
    "duplicate": BatchFault(write=lambda line: line + line),
    "foreign": BatchFault(write=_foreign, once=True),
    "torn": BatchFault(write=lambda line: line[: len(line) // 2] + b"\n", once=True),
    "late-files": BatchFault(late=True),
    "empty-errors": BatchFault(empty_errors=True),
    "invalid": BatchFault(invalid=True),
    "dies": BatchFault(dies=True),
    "dies-empty": BatchFault(dies=True, keeps=False),
    "line-500": BatchFault(declined="500"),
    "line-429": BatchFault(declined="429"),
    "no-totals": BatchFault(totals=False),
    **{name: BatchFault(line=name) for name in LINE_SPOILS},
}

CALLS = ("upload", "files", "file", "delete", "content", "create", "batch", "batches", "cancel")
CALL_FAULTS = ("ok", "cut", "cut-before", "500", "429", "503", "billing", "truncate", "norange", "garbage")


def script(text: str) -> tuple[str, ...]:
    """`missing ok torn`; ValueError where a name is unknown."""
    names = tuple(text.split())
    for name in names:
        _known(name, FAULTS)
    return names


@dataclass(slots=True)
class Calls:
    """The i-th call of a kind gets the i-th fault that is meant for it, and those after the last get none."""

    planned: dict[str, list[str]] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)

    def next(self, kind: str) -> str:
        self.made[kind] += 1
        names = self.planned.get(kind, [])
        return names[self.made[kind] - 1] if self.made[kind] <= len(names) else "ok"


def calls(text: str) -> Calls:
    """`create=cut create=429 content=truncate`; ValueError where a name is unknown."""
    found = Calls()
    for pair in text.split():
        kind, _, name = pair.partition("=")
        _known(kind, CALLS)
        _known(name, CALL_FAULTS)
        found.planned.setdefault(kind, []).append(name)
    return found


def _known(name: str, names: Collection[str]) -> None:
    if name not in names:
        raise ValueError(f"{name!r} is not one of {', '.join(names)}")
