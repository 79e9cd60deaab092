"""The nouns of the sandbox: what was asked, what was ordered, what it used, what goes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request that has arrived whole: the `ordinal`-th since the start, `at` on the clock of perf_counter."""

    ordinal: int
    at: float
    request_id: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: Mapping[str, str] = field(default_factory=dict)
    batch: str = ""  # of which it is a line

    @property
    def client_request_id(self) -> str:
        """Of a batch's line its custom_id."""
        return self.headers.get("x-client-request-id", "")


@dataclass(frozen=True, slots=True)
class Input:
    """An image that came with the request: its SHA-256 as the bill shows it, or `link:URL` or `id:ID` for one unseen.

    What is unseen counts as 1024 pixels each way.
    """

    digest: str
    width: int = 1024
    height: int = 1024

    @property
    def seen(self) -> bool:
        return ":" not in self.digest


@dataclass(frozen=True, slots=True)
class Order:
    """A request that passed every check, with the values that will take effect in place of `auto`.

    `family` is what models of one generation share: their rules, tokens and prices ("2.5").
    """

    model: str
    family: str
    prompt: str
    width: int
    height: int
    quality: str
    n: int = 1
    format: str = "png"
    background: str = "opaque"
    compression: int = 100
    operation: str = "generate"  # or edit, or vary
    inputs: tuple[Input, ...] = ()
    mask: Input | None = None
    delivery: str = ""  # url or b64_json, where the request says which
    stream: bool = False
    partials: int = 0  # unfinished images that a stream shows first
    polled: bool = False  # answered with a task that is asked after

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def ordered(fields: Mapping[str, Any]) -> Order:
    """An order as `asdict` took it apart."""
    inputs = tuple(Input(**each) for each in fields["inputs"])
    return Order(**{**fields, "inputs": inputs, "mask": Input(**fields["mask"]) if fields["mask"] else None})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, all its images together."""

    text_in: int
    image_out: int
    image_in: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer before it leaves; the length of the body is added on the way out."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a provider says no; every dialect has its own shape for it."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The provider said no, and bills nothing for it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem
