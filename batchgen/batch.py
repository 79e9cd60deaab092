"""A batch: tasks that are handed to a provider's Batch API together; what is said to it, and what it says. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from batchgen.dialects.base import Spoken, enveloped, kept
from batchgen.task import Attempt, Input, Kind, Task, canonical
from batchgen.wire import Form, Reply, Request, Upload

MARK = "batchgen"
"""Under which name our id stands in a batch's metadata, and how files begin that are handed over."""
WINDOW = "24h"
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
PAGE = 100  # batches or files that are listed at a time
UNSAID = frozenset({"stream", "partial_images", "response_format"})  # no line may hold them
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
TEXT_MOST, ID_MOST, PROBLEMS_MOST = 500, 200, 100
LATEST = 1 << 38  # seconds since 1970 that a moment may be


class BatchState(StrEnum):
    DRAFTED = "drafted"  # written down; its lines may be with the provider, and nothing is bought
    CREATING = "creating"  # perhaps bought: the provider's list says
    OPEN = "open"  # bought; the provider works, or holds what came of it
    OVER = "over"  # all that came of it is in the books


@dataclass(frozen=True, slots=True)
class Batch:
    """Attempts of one model and operation, by its row. `id` is ours; `handle` and the files' names are the provider's.

    `payer` stands for the provider and the key by which alone it can be seen.
    `output_at` and `errors_at` are how many bytes of those two files are settled, `tokens` those that go in, as they
    are reckoned, `doubts` is how often it was nowhere to be seen and created again, `drafted` and `created` are moments
    in UTC, as the ledger writes them.
    """

    seq: int
    id: str
    lane: str
    payer: str
    model: str
    operation: str
    state: BatchState
    tasks: int
    tokens: int
    drafted: str
    doubts: int = 0
    input: str = ""
    handle: str = ""
    output: str = ""
    errors: str = ""
    output_at: int = 0
    errors_at: int = 0
    created: str = ""

    @property
    def untold(self) -> bool:
        """Whether it was surely never created."""
        return self.state is BatchState.DRAFTED and not self.doubts


@dataclass(frozen=True, slots=True)
class Load:
    """So many open attempts, the most that they may cost (nano-dollars), and the images that they ask for."""

    attempts: int
    high: int
    images: int


@dataclass(frozen=True, slots=True)
class Look:
    """A batch as its provider shows it. `mark` is our id, `total`, `completed` and `failed` count lines, times are UTC.

    `problems` are what speaks against it as a whole, each with its line (from 1; 0: none).
    """

    handle: str
    status: str
    mark: str = ""
    total: int = 0
    completed: int = 0
    failed: int = 0
    output: str = ""
    errors: str = ""
    created: str = ""
    expires: str = ""
    problems: tuple[tuple[int, Spoken], ...] = ()

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def idle(self) -> bool:
        """Whether it ended before any of its lines was made."""
        return self.ended and not (self.completed or self.failed)


def line(attempt: Attempt, request: Request) -> bytes:
    """A line of the file that goes in: the request that would buy, under the attempt's id."""
    body = {name: value for name, value in (request.json or {}).items() if name not in UNSAID}
    asked = {"custom_id": attempt.id, "method": "POST", "url": endpoint(request.url), "body": body}
    return canonical(asked).encode() + b"\n"


def endpoint(path: str) -> str:
    """Where a line's request goes, as the Batch API names it."""
    return f"/v1/{path}"


def referring(task: Task, ids: Mapping[Input, str]) -> Task:
    """The task with its files in the provider's hands, by the ids that they have there."""
    handed = (replace(each, kind=Kind.UPLOADED, ref=ids[each]) if each in ids else each for each in task.inputs)
    return replace(task, inputs=tuple(handed))


def name(file: Input, area: str, owner: str) -> str:
    """What a file is called there: the same for the same content, in the words of `area` where it is a mask.

    Each ledger, as the `owner`, has files of its own: none takes away what another one needs.
    """
    return f"{MARK}-{owner}-{file.sha256}{f'-{area}' if file.area else ''}.{'png' if file.area else file.format}"


def upload(file: Upload, purpose: str) -> Request:
    """Hand over a file."""
    return Request("POST", "files", form=Form((("purpose", purpose),), (("file", file),)), handle=file.name)


def create(batch: Batch, where: str) -> Request:
    """Buy all its lines, which go to that endpoint."""
    asked = {
        "input_file_id": batch.input,
        "endpoint": where,
        "completion_window": WINDOW,
        "metadata": {MARK: batch.id},
    }
    return Request("POST", "batches", json=asked, handle=batch.id)


def see(batch: Batch) -> Request:
    return Request("GET", f"batches/{batch.handle}", handle=batch.id)


def cancel(handle: str) -> Request:
    return Request("POST", f"batches/{handle}/cancel", json={}, handle=handle)


def listing(what: str, after: str = "") -> Request:
    """A page of all batches or files, the newest first."""
    return Request("GET", f"{what}?limit={PAGE}{f'&after={after}' if after else ''}", handle=what)


def content(file: str, most: int) -> Request:
    """What is in a file, of which so many bytes are taken in; it takes as long as bytes keep coming."""
    return Request("GET", f"files/{file}/content", body_most=most, handle=file, steady=True)


def delete(file: str) -> Request:
    return Request("DELETE", f"files/{file}", handle=file)


def look(reply: Reply) -> Look:
    """What a reply says of a batch; ValueError where it says nothing."""
    return _look(_object(reply))


def looks(reply: Reply) -> tuple[Sequence[Look], bool]:
    """The batches of a page, and whether there are more; ValueError as in `look`."""
    body = _object(reply)
    return [_look(each) for each in _entries(body)], body.get("has_more") is True


def files(reply: Reply) -> tuple[Sequence[tuple[str, str]], str]:
    """The names and ids of the files of a page, and behind which there are more ("": none)."""
    body = _object(reply)
    entries = list(_entries(body))
    last = _id(entries[-1], "id") if entries and body.get("has_more") is True else ""
    return [(_text(each, "filename"), _id(each, "id")) for each in entries], last


def file_id(reply: Reply) -> str:
    """What a file that was handed over is called; ValueError where nothing is said."""
    found = _id(_object(reply), "id")
    if not found:
        raise ValueError("no id of a file came back")
    return found


def _look(body: Mapping[str, object]) -> Look:
    counts, meta, errors = (_mapping(body.get(key)) for key in ("request_counts", "metadata", "errors"))
    handle, status = _id(body, "id"), _text(body, "status")
    if not (handle and status):
        raise ValueError("it says nothing of a batch")
    return Look(
        handle,
        status,
        mark=_text(meta, MARK),
        total=_count(counts, "total"),
        completed=_count(counts, "completed"),
        failed=_count(counts, "failed"),
        output=_id(body, "output_file_id"),
        errors=_id(body, "error_file_id"),
        created=_moment(body, "created_at"),
        expires=_moment(body, "expires_at"),
        problems=tuple((_count(each, "line"), _spoken(each)) for each in _entries(errors)[:PROBLEMS_MOST]),
    )


def _spoken(error: Mapping[str, object]) -> Spoken:
    said = enveloped(error)
    return replace(said, message=kept(said.message, TEXT_MOST), code=kept(said.code, ID_MOST))


def _object(reply: Reply) -> Mapping[str, object]:
    body = reply.json()
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    return body


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _entries(body: Mapping[str, object]) -> list[Mapping[str, object]]:
    data = body.get("data")
    return [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []


def _text(body: Mapping[str, object], key: str) -> str:
    return kept(body.get(key), ID_MOST)


def _id(body: Mapping[str, object], key: str) -> str:
    """A name that may stand in a path and in a URL; "" where it is none."""
    found = _text(body, key)
    return found if ID.fullmatch(found) else ""


def _count(body: Mapping[str, object], key: str) -> int:
    value = body.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def _moment(body: Mapping[str, object], key: str) -> str:
    seconds = _count(body, key)
    if not 0 < seconds < LATEST:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
