"""What may be changed while a run works, and the two files in its folder by which it is asked for and answered.

`batchgen set` leaves control.json, whole; the run takes it away, and answers in settings.json. Each names the process
that it is meant for, or from: what a run left behind that is dead means nothing to the next one.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from batchgen import disk, document
from batchgen.folder import Folder
from batchgen.form import LimitsForm, check
from batchgen.problems import Problems, not_one_of, shown

LIMITS = ("concurrency", "images_per_minute", "requests_per_minute", "tokens_per_minute", "budget", "images", "until")
"""The keys of the manifest's limits among them; they are read as those are."""
FLAGS = ("cancelled", "paused")
KEYS = (*LIMITS, *FLAGS)
WHO = "batchgen set"  # in whose name mistakes are told
BYTES_MOST = 2**16
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Asked:
    """Settings as they were written, by key, for the run of that name; what was asked for at once has several ids."""

    run: str
    ids: tuple[str, ...]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the run took it, and what changed, or why not."""

    taken: bool
    says: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds for the run of that name: whether it is paused, and what differs from its manifest."""

    run: str
    paused: bool = False
    changes: tuple[str, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)


def name(row: Mapping[str, object]) -> str:
    """A run that no other bears: by its row in the ledger, and by its process."""
    return f"{row['id']}/{row['pid']}/{row['host']}"


def settings(texts: Mapping[str, str]) -> dict[str, object]:
    """The values; ManifestError with every mistake, in the words of the manifest's own."""
    tree = document.parse("{}", WHO)
    for key, text in texts.items():
        tree = tree.override((key,), document.parse(text, WHO))
    problems = Problems(tree)
    asked = tree.value if isinstance(tree.value, dict) else {}
    for key in asked.keys() - set(KEYS):
        problems.add((key,), not_one_of(key, KEYS))
    limits = check(LimitsForm, {key: asked[key] for key in asked if key in LIMITS}, (), problems)
    for key in FLAGS:
        if not isinstance(asked.get(key, False), bool):
            problems.add((key,), f"{shown(asked[key])} is neither true nor false")
    if asked.get("cancelled") is False:
        problems.add(("cancelled",), "batches that were ended cannot be taken up again: only true means something")
    problems.settle()
    return {key: asked[key] if key in FLAGS else getattr(limits, key) for key in asked}


def leave(folder: Folder, asked: Asked) -> None:
    """Ask for it, together with what that run was asked for and has not yet taken up."""
    part = folder.path / f".control.{os.getpid()}.part"
    with disk.storage("what the run is asked for"), _alone(folder):
        with suppress(OSError, ValueError):  # one that cannot be read is replaced
            before = _asked(_read(folder.control))
            if before.run == asked.run:
                asked = Asked(asked.run, (*before.ids, *asked.ids), {**before.texts, **asked.texts})
        disk.write_whole(folder.control, json.dumps(asdict(asked)).encode(), part)


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Of two who ask at once the second sees what the first has left."""
    handle = os.open(folder.path / ".control.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def take(folder: Folder) -> Asked | None:
    """What is asked for, taken away; None where nothing is. ValueError where it cannot be read, OSError as it comes."""
    taken = folder.path / ".control.taken"
    try:
        os.rename(folder.control, taken)
    except FileNotFoundError:
        return None
    return _asked(_read(taken))


def withdraw(folder: Folder, asked: str) -> None:
    """Ask for it no more, unless somebody else asked for something, too."""
    with suppress(OSError, ValueError):
        if _asked(_read(folder.control)).ids == (asked,):
            folder.control.unlink()


def answer(folder: Folder, standing: Standing) -> None:
    """Say what holds now."""
    disk.write_whole(folder.settings, json.dumps(asdict(standing)).encode(), folder.path / ".settings.part")


def standing(folder: Folder, run: str) -> Standing:
    """What holds for that run, as far as it said so."""
    try:
        told = json.loads(_read(folder.settings))
        answers = {key: Answer(bool(each["taken"]), str(each["says"])) for key, each in told["answers"].items()}
        found = Standing(told["run"], bool(told["paused"]), tuple(map(str, told["changes"])), answers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Standing(run)
    return found if found.run == run else Standing(run)


def clear(folder: Folder) -> None:
    """Nobody is asked any more. What was answered stays: who asked may not have read it yet."""
    for path in (folder.control, folder.path / ".control.taken", folder.path / ".control.lock"):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _read(path: "os.PathLike[str]") -> bytes:
    handle = os.open(path, _READ)
    try:
        return os.read(handle, BYTES_MOST)
    finally:
        os.close(handle)


def _asked(raw: bytes) -> Asked:
    """ValueError where it is not what `leave` writes."""
    try:
        found: dict[str, Any] = json.loads(raw)
        texts = {str(key): str(text) for key, text in found["texts"].items()}
        return Asked(str(found["run"]), tuple(map(str, found["ids"])), texts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not what batchgen set writes ({type(error).__name__})") from None
