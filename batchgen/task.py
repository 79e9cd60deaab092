"""The nouns: what is wanted (Task), each sending of it (Attempt), what came back (Usage, Image), and their states."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

Params = tuple[tuple[str, object], ...]
"""Request parameters as sorted (name, JSON value) pairs."""

TRANSPORT = frozenset({"response_format", "stream", "partial_images", "user", "safety_identifier"})
"""Parameters that change how an image travels, not which image is made: no part of a task's identity."""
DELIVERIES = ("url", "b64_json")
SURELY = 0.9  # of the time that a provider says it remembers a key


def travels(name: str, value: object) -> bool:
    """Whether a parameter is transport. Where output_format names a delivery, as at OneRouter, it is, too."""
    return name in TRANSPORT or (name == "output_format" and value in DELIVERIES)


class Operation(StrEnum):
    GENERATE = "generate"
    EDIT = "edit"
    VARY = "vary"


class TaskState(StrEnum):
    TODO = "todo"
    DOING = "doing"
    DONE = "done"
    REFUSED = "refused"  # the provider's moderation said no
    FAILED = "failed"  # gave up
    HELD = "held"  # may have been paid; waits for a person


class AttemptState(StrEnum):
    SENDING = "sending"  # on its way, or cut off there
    ACCEPTED = "accepted"  # bought; the provider still holds the result
    PAID = "paid"
    UNUSABLE = "unusable"  # answered and billed, no usable image
    REJECTED = "rejected"  # the provider said no
    UNSENT = "unsent"  # never left
    UNKNOWN = "unknown"  # left, no answer: perhaps billed


class ImageState(StrEnum):
    SAVED = "saved"
    BROKEN = "broken"  # one of n came unusable
    PARTIAL = "partial"  # what a stream showed on the way to an image


@dataclass(frozen=True, slots=True)
class Variant:
    """All of a request but its prompt and files; `axes` are the parameters that the matrix varies, for grouping."""

    provider: str
    model: str
    operation: Operation
    params: Params
    axes: Params

    def param(self, name: str, default: object = None) -> object:
        return next((value for key, value in self.params if key == name), default)

    @property
    def images(self) -> int:
        """How many images one request asks for."""
        n = self.param("n", 1)
        return n if isinstance(n, int) else 1


class Kind(StrEnum):
    FILE = "file"
    LINK = "link"
    UPLOADED = "uploaded"  # a file that the provider has already, by its id


@dataclass(frozen=True, slots=True)
class Input:
    """An image to edit or vary, or a mask over the first of them.

    `ref` is a path from the manifest's folder, a URL, or the provider's id; only of a file the rest is known: sha256,
    length, format, and the size in pixels as one sees it, turned as its EXIF orientation says. `area` is how a mask
    tells what to change: `transparent`, `palette` (by colour), `white` or `black`; of an image it is empty.
    """

    kind: Kind
    ref: str
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    area: str = ""

    @property
    def identity(self) -> str:
        """What a task's key knows of it: the content of a file, wherever that lies."""
        content = self.sha256 if self.kind is Kind.FILE else f"{self.kind}:{self.ref}"
        return f"mask {self.area} {content}" if self.area else content


Mark = tuple[str, str]
"""What finds a task in a ledger: its prompt, and its key."""


@dataclass(frozen=True, slots=True)
class Task:
    """One request to be made. `path` is where its image goes, below images/, without index and extension.

    `inputs` are the images to edit in their order, then the mask; `input_tokens` is what they are expected to take.
    `replaces` are the tasks whose place it takes, the oldest first.
    """

    key: str
    variant: Variant
    prompt: str
    sample: int
    take: int
    path: str
    inputs: tuple[Input, ...] = ()
    input_tokens: int = 0
    seq: int = 0  # its row in the ledger
    tries: int = 0  # attempts used up so far
    replay: bool = False  # to be sent again only while the provider remembers the key of its purchase
    counted: int = 0  # what the books hold for that purchase, nano-dollars
    scope: str = ""  # who knows its key: the same host, asked by the same account
    replaces: tuple[Mark, ...] = ()

    @property
    def mark(self) -> Mark:
        return self.prompt, self.key

    @property
    def images(self) -> tuple[Input, ...]:
        return tuple(each for each in self.inputs if not each.area)

    @property
    def mask(self) -> Input | None:
        return next((each for each in self.inputs if each.area), None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a task. `id` is the X-Client-Request-Id; `purchase` stays the same for a re-send after `unknown`.

    `cost_high` is the most it can cost, in nano-dollars; None where no price is known. `handle` is the name under which
    the provider holds what was bought, where it gave one. `sent` is when it was sent, `since` when the purchase first
    was ("" of a line of a batch, which bears no key); UTC, as the ledger writes it. `engine` is who makes it.
    """

    id: str
    task: Task
    purchase: str
    lane: str
    cost_high: int | None
    handle: str = ""
    sent: str = ""
    since: str = ""
    engine: str = ""

    def remembered(self, lifetime: float, at: str = "") -> bool:
        """Whether its purchase's key was remembered at that moment, or when it was sent, by a provider that does so
        for `lifetime` seconds; with a margin, and not where the clock has gone back behind the first sending."""
        if not (lifetime and self.since):
            return False
        first, then = (datetime.fromisoformat(time) for time in (self.since, at or self.sent))
        return 0 <= (then - first).total_seconds() < lifetime * SURELY


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them; cached ones are included in their input counts.

    `charged` is the price in nano-dollars where the provider names it itself; without tokens, that is all it said.
    `unsplit`: the input is all called text, because nobody said how much of it was images.
    """

    input_text: int = 0
    input_image: int = 0
    cached_text: int = 0
    cached_image: int = 0
    output_image: int = 0
    output_text: int = 0
    total: int = 0
    note: str = ""
    charged: int | None = None
    unsplit: bool = False


MISSING = "missing from the answer"


@dataclass(frozen=True, slots=True)
class Image:
    """One image of an answer. `path` is relative to the images folder; a broken one has only its index and a note.

    `revised` is the prompt as the provider rewrote it, where it says so.
    """

    index: int
    state: ImageState
    path: str = ""
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    note: str = ""
    revised: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended, and what that makes of its task.

    The bill lies between `cost_low` and `cost_high`, nano-dollars (None: no price is known). `allowance` is what a
    re-send after it takes from duplicate_allowance; `used_up` says whether it counts against retry.attempts. `replay`:
    a re-send costs nothing while the provider remembers the key; `sole`: whatever was sent before of the same purchase
    was not charged beside this. `said` are the values that took effect, as the provider named them.
    """

    attempt: AttemptState
    task: TaskState
    cost_low: int | None = 0
    cost_high: int | None = 0
    estimated: bool = False
    allowance: int = 0
    used_up: bool = True
    replay: bool = False
    sole: bool = False
    images: tuple[Image, ...] = ()
    usage: Usage | None = None
    said: Params = ()
    status: int = 0
    code: str = ""
    error: str = ""
    request_id: str = ""


canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""JSON in one spelling: sorted names, no spaces, no escapes."""


def prompt_digest(text: str) -> bytes:
    """16 bytes that stand for a prompt."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]
_SHIFTS = range(70, -1, -10)
"""Base 32, two letters at a time: the standard library's takes longer than the hash."""


class Identity:
    """Makes the keys of one variant's tasks; what is the same for all of them is spelled once."""

    def __init__(self, variant: Variant) -> None:
        asked = {
            "model": variant.model,
            "operation": str(variant.operation),
            "params": {name: value for name, value in variant.params if not travels(name, value)},
        }
        self._asked = canonical(asked)[1:-1]
        self._provider = canonical(variant.provider)

    def key(self, prompt: str, sample: int, take: int, inputs: tuple[str, ...] = ()) -> str:
        """16 letters and digits (80 bits) of a versioned hash over what the user asked for, as canonical JSON.

        `prompt` is spelled as JSON already. Transport parameters, paths, ids, limits and catalog defaults stay
        outside: none of them buys anything again. `inputs` are the identities of the images to edit, the mask's last.
        """
        files = canonical(inputs) if inputs else "[]"
        asked = (
            f'{{"inputs":{files},{self._asked},"prompt":{prompt},"provider":{self._provider}'
            f',"sample":{sample},"take":{take},"version":1}}'
        )
        bits = int.from_bytes(hashlib.sha256(asked.encode()).digest()[:10])
        return "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])
