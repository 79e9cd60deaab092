"""The run as a picture book, row by row: each prompt, its tasks, their images and what became of them. Read-only."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from batchgen.books import ALIKE, EQUAL
from batchgen.sums import GONE
from batchgen.task import AttemptState, ImageState, TaskState

T = TypeVar("T")
Values = tuple[Any, ...]
Mark = tuple[int, str]
"""What finds a row: its prompt, and the images that are edited by it."""

DOUBT = "(NOT a.estimated AND a.cost_low <> a.cost_high OR a.state = 'unknown' AND a.cost_high IS NULL)"
SECONDS = "(julianday(a.ended_at) - julianday(a.sent_at)) * 86400.0"
STATES: Mapping[str, str] = {
    **{str(state): f"t.wanted = 'yes' AND t.state = '{state}'" for state in TaskState},
    "unknown": f"EXISTS (SELECT 1 FROM attempts a WHERE a.task = t.seq AND {DOUBT})",
    "dropped": f"t.wanted IN {GONE}",
    "replaced": f"t.wanted <> 'yes' AND t.wanted NOT IN {GONE}",
}
"""What can be looked for; unknown: a request without a usable answer may have been billed, whatever came later."""


def _of_task(figure: str) -> str:
    return f"(SELECT {figure} FROM attempts a WHERE a.task = t.seq)"


ORDERS: Mapping[str, str] = {
    "manifest": "min(t.seq)",
    "newest": f"max({_of_task('max(a.seq)')}) DESC, min(t.seq)",
    "dearest": f"sum({_of_task('sum(a.cost_high)')}) DESC, min(t.seq)",
    "slowest": f"max({_of_task(f'max({SECONDS})')}) DESC, min(t.seq)",
    "prompt": "(SELECT p.text FROM prompts p WHERE p.id = t.prompt) COLLATE NOCASE, min(t.seq)",
}
NAMES_MOST = 20  # of a row that are told
PICTURE = (
    "i.id, i.task, i.idx, i.state, i.path, i.sha256, i.bytes, i.format, i.width, i.height, i.note, i.revised_prompt"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is looked for: a text in prompt, id or key, states, variants and samples; empty or None: any."""

    text: str = ""
    states: frozenset[str] = frozenset()
    variants: frozenset[int] | None = None
    samples: frozenset[int] | None = None
    order: str = "manifest"


EVERYTHING = Choice(states=frozenset({"dropped", "replaced", *map(str, TaskState)}))


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a task; `path` lies below images/, `revised` is the prompt as the provider rewrote it."""

    id: int
    task: int
    index: int
    state: ImageState
    path: str
    sha256: str
    bytes: int
    format: str
    width: int
    height: int
    note: str
    revised: str


@dataclass(frozen=True, slots=True)
class Fate:
    """What all attempts of a task came to; money in nano-dollars. `code` and `said` are the last one's."""

    attempts: int = 0
    low: int = 0
    high: int = 0
    unpriced: int = 0
    unknown: int = 0
    seconds: float | None = None
    code: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One task in its row. `wanted` as the ledger has it: another key there is that of the task in its place."""

    seq: int
    key: str
    variant: int
    sample: int
    take: int
    state: TaskState
    wanted: str
    fate: Fate
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """One row: a prompt, the ids that the user gave it, and what it edits."""

    text: str
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Sending:
    """One attempt, as far as people ask about it; tokens that went in, and that came out."""

    id: str
    state: AttemptState
    sent_at: str
    seconds: float | None
    low: int | None
    high: int | None
    status: int
    code: str
    said: str
    request_id: str
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True, slots=True)
class Closeup:
    """What else there is of a task: its attempts, the images that are not saved, and the tasks that it replaces."""

    sendings: tuple[Sending, ...]
    flawed: tuple[Picture, ...]
    replaces: tuple[int, ...]


def count(db: sqlite3.Connection, choice: Choice) -> tuple[int, int]:
    """How many rows and tasks are chosen."""
    where, values = _where(db, choice)
    row = f"t.prompt || ' ' || {_inputs(db)}" if edits(db) else "t.prompt"
    found = db.execute(f"SELECT count(DISTINCT {row}), count(*) FROM tasks t WHERE {where}", values).fetchone()
    return int(found[0]), int(found[1])


def marks(db: sqlite3.Connection, choice: Choice, offset: int = 0, most: int = -1) -> list[Mark]:
    """The rows that are chosen, in their order; all of them where no most is given."""
    where, values = _where(db, choice)
    sql = (
        f"SELECT t.prompt, {_inputs(db)} AS inputs FROM tasks t WHERE {where} GROUP BY t.prompt, inputs"
        f" ORDER BY {ORDERS[choice.order]} LIMIT :most OFFSET :offset"
    )
    return [(row[0], row[1]) for row in db.execute(sql, {**values, "most": most, "offset": offset})]


def strips(db: sqlite3.Connection, choice: Choice, found: Sequence[Mark]) -> list[Strip]:
    """These rows, with what is chosen of their tasks."""
    where, values = _where(db, choice)
    tasks: dict[Mark, list[int]] = {mark: [] for mark in found}
    sql = (
        f"SELECT t.prompt, {_inputs(db)}, t.seq FROM tasks t WHERE t.prompt IN (SELECT value FROM json_each(:prompts))"
        f" AND {where} ORDER BY t.seq"
    )
    for prompt, inputs, seq in db.execute(sql, {**values, "prompts": json.dumps([mark[0] for mark in found])}):
        if (prompt, inputs) in tasks:
            tasks[prompt, inputs].append(seq)
    texts: dict[int, str] = dict(_among(db, "SELECT id, text FROM prompts WHERE id", [prompt for prompt, _ in found]))
    every = [seq for some in tasks.values() for seq in some]
    framed, named = frames(db, every), _names(db, every)
    return [
        Strip(
            texts[mark[0]],
            tuple(dict.fromkeys(name for seq in seqs for name in named.get(seq, ())))[:NAMES_MOST],
            _refs(db, mark[1]),
            tuple(framed[seq] for seq in seqs),
        )
        for mark, seqs in tasks.items()
    ]


def frames(db: sqlite3.Connection, tasks: Collection[int]) -> dict[int, Frame]:
    """These tasks, by their seq."""
    saved = f"SELECT i.task, {PICTURE} FROM images i WHERE i.state = 'saved' AND i.task"
    pictures = _by_task(_among(db, saved, tasks, "ORDER BY i.task, i.idx"), _picture)
    fates = _fates(db, tasks)
    sql = "SELECT seq, key, variant, sample, take, state, wanted FROM tasks WHERE seq"
    found = {}
    for seq, key, variant, sample, take, state, wanted in _among(db, sql, tasks):
        own = fates.get(seq, Fate()), pictures.get(seq, ())
        found[seq] = Frame(seq, key, variant, sample, take, TaskState(state), wanted, *own)
    return found


def home(db: sqlite3.Connection, task: int) -> Mark | None:
    """The row in which a task stands; None where there is no such task."""
    found = db.execute(f"SELECT t.prompt, {_inputs(db)} FROM tasks t WHERE t.seq = ?", (task,)).fetchone()
    return (found[0], found[1]) if found else None


def closeups(db: sqlite3.Connection, tasks: Collection[int]) -> dict[int, Closeup]:
    """What else there is of these tasks, by their seq."""
    sql = (
        f"SELECT a.task, a.id, a.state, a.sent_at, {SECONDS}, a.cost_low, a.cost_high, a.status, a.code, a.error,"
        " a.request_id, a.input_text_tokens + a.input_image_tokens, a.output_image_tokens + a.output_text_tokens"
        " FROM attempts a WHERE a.task"
    )
    sendings = _by_task(_among(db, sql, tasks, "ORDER BY a.task, a.seq"), _sending)
    sql = f"SELECT i.task, {PICTURE} FROM images i WHERE i.state <> 'saved' AND i.task"
    flawed = _by_task(_among(db, sql, tasks, "ORDER BY i.task, i.id"), _picture)
    keys: dict[str, int] = dict(_among(db, "SELECT key, seq FROM tasks WHERE seq", tasks))
    sql = "SELECT t.wanted, t.seq FROM tasks t WHERE t.wanted <> 'yes' AND t.wanted"
    replaces: dict[int, list[int]] = {}
    for key, old in _among(db, sql, keys):
        replaces.setdefault(keys[key], []).append(old)
    return {seq: Closeup(sendings.get(seq, ()), flawed.get(seq, ()), (*replaces.get(seq, ()),)) for seq in tasks}


def newest(db: sqlite3.Connection, after: int, most: int) -> list[Picture]:
    """The images that were saved last, after the one of that id; the latest first."""
    sql = f"SELECT {PICTURE} FROM images i WHERE i.state = 'saved' AND i.id > ? ORDER BY i.id DESC LIMIT ?"
    return [_picture(tuple(row)) for row in db.execute(sql, (after, most))]


def saved(db: sqlite3.Connection, after: int, most: int) -> list[Picture]:
    """The next of all saved images, in the order in which they were."""
    sql = f"SELECT {PICTURE} FROM images i WHERE i.state = 'saved' AND i.id > ? ORDER BY i.id LIMIT ?"
    return [_picture(tuple(row)) for row in db.execute(sql, (after, most))]


def picture(db: sqlite3.Connection, id: int) -> Picture | None:
    row = db.execute(f"SELECT {PICTURE} FROM images i WHERE i.id = ? AND i.state = 'saved'", (id,)).fetchone()
    return _picture(tuple(row)) if row else None


def twins(db: sqlite3.Connection, hashes: Collection[str] | None = None) -> dict[str, int]:
    """Which hashes, of these or of all, several saved images of wanted tasks have, and how many."""
    among = ALIKE if hashes is None else "SELECT substr(value, 1, 12) FROM json_each(:hashes)"
    sql = f"SELECT i.sha256, count(*) FROM {EQUAL} ({among}) GROUP BY 1 HAVING count(*) > 1"
    return dict(db.execute(sql, {"hashes": json.dumps([*(hashes or ())])}).fetchall())


def edits(db: sqlite3.Connection) -> bool:
    """Whether any task has images to edit: rows differ by them, too."""
    return db.execute("SELECT 1 FROM task_inputs LIMIT 1").fetchone() is not None


def _inputs(db: sqlite3.Connection) -> str:
    """A task's images to edit, as one text."""
    own = "coalesce((SELECT group_concat(i.input) FROM task_inputs i WHERE i.task = t.seq), '')"
    return own if edits(db) else "''"


def _where(db: sqlite3.Connection, choice: Choice) -> tuple[str, dict[str, object]]:
    """The choice as a condition on tasks t, and its values."""
    states = " OR ".join(f"({STATES[state]})" for state in sorted(choice.states)) or "t.wanted = 'yes'"
    where, values = [f"({states})"], dict[str, object]()
    for column, some in (("variant", choice.variants), ("sample", choice.samples)):
        if some is not None:
            where.append(f"t.{column} IN (SELECT value FROM json_each(:{column}))")
            values[column] = json.dumps(sorted(some))
    if choice.text:
        db.create_function("holds", 2, _holds, deterministic=True)
        where.append(
            "(t.prompt IN (SELECT p.id FROM prompts p WHERE holds(p.text, :text)) OR holds(t.key, :text)"
            " OR EXISTS (SELECT 1 FROM names n WHERE n.task = t.seq AND holds(n.id, :text)))"
        )
        values["text"] = choice.text.lower()
    return " AND ".join(where), values


def _holds(text: str, part: str) -> bool:
    return part in text.lower()


def _among(db: sqlite3.Connection, sql: str, values: Iterable[object], rest: str = "") -> Iterator[Values]:
    """The rows whose last named column is one of the values."""
    found = db.execute(f"{sql} IN (SELECT value FROM json_each(?)) {rest}", (json.dumps([*values]),))
    return map(tuple, found)


def _fates(db: sqlite3.Connection, tasks: Collection[int]) -> dict[int, Fate]:
    """By task; beside max(seq) SQLite tells columns of that very row."""
    sql = (
        "SELECT a.task, count(*), coalesce(sum(a.cost_low), 0), coalesce(sum(a.cost_high), 0),"
        f" count(*) FILTER (WHERE a.cost_high IS NULL), count(*) FILTER (WHERE {DOUBT}),"
        f" {SECONDS}, a.code, a.error, max(a.seq) FROM attempts a WHERE a.task"
    )
    return {row[0]: Fate(*row[1:-1]) for row in _among(db, sql, tasks, "GROUP BY a.task")}


def _by_task(rows: Iterable[Values], make: Callable[[Values], T]) -> dict[int, tuple[T, ...]]:
    """What the columns behind the first, the task, stand for; rows of one task come together."""
    return {task: tuple(make(row[1:]) for row in some) for task, some in groupby(rows, lambda row: int(row[0]))}


def _picture(row: Values) -> Picture:
    id, task, index, state, *rest = row
    return Picture(id, task, index, ImageState(state), *rest)


def _sending(row: Values) -> Sending:
    id, state, *rest = row
    return Sending(id, AttemptState(state), *rest)


def _names(db: sqlite3.Connection, tasks: Collection[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row in _among(db, "SELECT n.task, n.id FROM names n WHERE n.task", tasks):
        found.setdefault(row[0], []).append(row[1])
    return found


def _refs(db: sqlite3.Connection, inputs: str) -> tuple[str, ...]:
    """What a row edits, in its order; the mask is called so."""
    sql = "SELECT ref, area FROM inputs WHERE id = ?"
    rows = (db.execute(sql, (int(id),)).fetchone() for id in inputs.split(",") if id)
    return tuple(f"mask {ref}" if area else ref for ref, area in rows)
