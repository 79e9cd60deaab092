"""The rows of a dataset: the saved images of wanted tasks, in the order in which they were made, read in pages.

What belongs to it is settled at one moment, in tables that only this connection sees; then no look at the ledger lasts.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchgen import books, columns, records, splits
from batchgen.columns import Asked, Cell, Column, Type
from batchgen.errors import UsageError
from batchgen.splits import Split
from batchgen.task import Input, Operation, Variant
from batchgen.wanted import UNFINISHED

PAGE = 500
NAME = "{t}.key || CASE WHEN {q}.several OR {i}.idx > 0 THEN '-' || {i}.idx ELSE '' END"
WANTED = "{i}.state = 'saved' AND {t}.wanted = 'yes'"
PART, PARTS = "coalesce(s.part, 0)", "coalesce(s.parts, 1)"
INPUTS = "SELECT n.sha256 FROM task_inputs ti JOIN inputs n ON n.id = ti.input WHERE ti.task = t.seq"


def _shared(figure: str) -> str:
    """A request's figure, shared out among its images to the last unit, so that sums are right."""
    return f"(({figure}) / {PARTS} + ({PART} < ({figure}) % {PARTS}))"


TEXT, WHOLE, NUMBER = Type.TEXT, Type.WHOLE, Type.NUMBER
Columns = dict[Column, str]
"""Each with what it is in SQL."""
FIRST: Columns = {
    Column("id", TEXT, "the image's name here, without a dot: its task's key, and its number where n is more than 1"): (
        NAME.format(t="t", q="q", i="i")
    ),
    Column("prompt", TEXT, "as it was sent"): "p.text",
    Column("revised_prompt", TEXT, "as the provider rewrote it, where it says so"): "i.revised_prompt",
    Column("ids", TEXT, "what the manifest calls the prompt's row; several are joined with commas"): (
        "coalesce((SELECT group_concat(id, ', ') FROM (SELECT id FROM names WHERE task = t.seq ORDER BY id)), '')"
    ),
    Column("provider", TEXT, "who made it"): "v.provider",
    Column("model", TEXT, "which model was asked"): "v.model",
    Column("operation", TEXT, "generate, edit or vary"): "v.operation",
}
LAST: Columns = {
    Column("sample", WHOLE, "which of several samples of the same combination, from 1"): "t.sample",
    Column("n_index", WHOLE, "which of the n images of its request, from 0"): "i.idx",
    Column("sha256", TEXT, "of the file"): "i.sha256",
    Column("bytes", WHOLE, "of the file"): "i.bytes",
    Column("width", WHOLE, "in pixels"): "i.width",
    Column("height", WHOLE, "in pixels"): "i.height",
    Column("format", TEXT, "png, jpeg, webp or gif, by the file itself"): "i.format",
    Column("input_tokens", WHOLE, "of its request, shared out among its images; 0 where the provider told none"): (
        _shared("coalesce(a.input_text_tokens, 0) + coalesce(a.input_image_tokens, 0)")
    ),
    Column("output_tokens", WHOLE, "likewise"): (
        _shared("coalesce(a.output_image_tokens, 0) + coalesce(a.output_text_tokens, 0)")
    ),
    Column("created", TEXT, "when the answer came, in UTC"): "coalesce(a.ended_at, a.sent_at)",
    Column("duplicate_of", TEXT, "the id of the first image with the same bytes, or nothing"): "coalesce(d.first, '')",
}
EDITED: Columns = {
    Column("input_sha256", TEXT, "of each file that was edited, then the mask's, between spaces"): (
        f"coalesce((SELECT group_concat(sha256, ' ') FROM ({INPUTS} ORDER BY ti.position)), '')"
    ),
}
COST: Columns = {
    Column("cost_usd_low", NUMBER, "the least that the image cost: its share of its request"): (
        f"coalesce({_shared('a.cost_low')}, 0) / 1e9"
    ),
    Column("cost_usd_high", NUMBER, "the most that it cost; empty where no price is known"): (
        f"{_shared('a.cost_high')} / 1e9"
    ),
    Column("cost_kind", TEXT, "paid: by the usage that came; estimated; unknown: no price is known"): (
        "CASE WHEN a.cost_high IS NULL THEN 'unknown' WHEN a.estimated THEN 'estimated' ELSE 'paid' END"
    ),
    Column("attempt", TEXT, "the X-Client-Request-Id of its request"): "a.id",
    Column("request_id", TEXT, "the provider's name for the request"): "a.request_id",
    Column("run_path", TEXT, "where the image lies, below the run's images/"): "i.path",
}
JOINS = (
    " JOIN tasks t ON t.seq = i.task JOIN attempts a ON a.seq = i.attempt JOIN prompts p ON p.id = t.prompt"
    " JOIN variants v ON v.id = t.variant JOIN temp.asked q ON q.variant = t.variant"
    " LEFT JOIN temp.shares s ON s.image = i.id LEFT JOIN temp.doubles d ON d.image = i.id"
)
SHARES = """
INSERT INTO temp.shares
SELECT id, row_number() OVER w - 1, count(*) OVER (PARTITION BY task, attempt) FROM images
WHERE state = 'saved' AND task IN (SELECT task FROM images WHERE state = 'saved' AND idx > 0)
WINDOW w AS (PARTITION BY task, attempt ORDER BY idx)
"""
DOUBLES = f"""
INSERT INTO temp.doubles
SELECT found.image, {NAME.format(t="g", q="q", i="f")}
FROM (SELECT i.id AS image, min(i.id) OVER (PARTITION BY i.sha256) AS first
      FROM images i JOIN tasks t ON t.seq = i.task WHERE {WANTED.format(i="i", t="t")}) found
JOIN images f ON f.id = found.first JOIN tasks g ON g.seq = f.task JOIN temp.asked q ON q.variant = g.variant
WHERE found.image <> found.first
"""
TAKEN = {"has_c2pa", "image", "file_name", "inputs", "inputs_file_names", "mask", "mask_file_name"}
"""What formats add to the columns."""
ORIGINALS = (
    "SELECT 1 FROM temp.chosen c JOIN images i ON i.id = c.image JOIN task_inputs ti ON ti.task = i.task"
    " JOIN inputs n ON n.id = ti.input WHERE n.kind = 'file'"
)
TABLES = (
    "CREATE TABLE temp.shares (image INTEGER PRIMARY KEY, part INTEGER, parts INTEGER)",
    SHARES,
    "CREATE TABLE temp.doubles (image INTEGER PRIMARY KEY, first TEXT)",
    DOUBLES,
    "CREATE TABLE temp.chosen (split INTEGER, image INTEGER, format TEXT, ids TEXT, PRIMARY KEY (split, image))"
    " WITHOUT ROWID",  # with the ids: a run that begins says anew what rows are called
)
PURE = """
abs coalesce glob group_concat hex ifnull iif instr length like lower ltrim max min nullif printf quote replace round
rtrim side sign substr substring trim typeof unicode upper
"""
"""Functions of SQLite that give the same for the same: none knows the time, chance, or another file."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image. `cells` are its columns', in their order; `path` lies below images/, of `inputs` it was made."""

    image: int
    id: str
    prompt: str
    path: str
    sha256: str
    bytes: int
    format: str
    cells: tuple[Cell, ...]
    inputs: tuple[Input, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The images of one split and format."""

    split: str
    format: str
    images: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told of a dataset as a whole; `manifest` is the sha256 of the one that was used last."""

    job: str
    created_at: str
    manifest: str
    models: tuple[tuple[str, str, str], ...]  # provider, model, operation
    first: str
    last: str
    prompts: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Which images belong to a dataset, where, and how much is told of them."""

    where: str = ""
    split: str = ""
    with_cost: bool = False


@dataclass(frozen=True, slots=True)
class Dataset:
    """What was settled; `samples` reads it. `edits`, `masks`: whether files were edited, and masks laid over them."""

    columns: tuple[Column, ...]
    parts: tuple[Part, ...]
    facts: Facts
    edits: bool
    masks: bool
    _db: sqlite3.Connection
    _page: str
    _splits: tuple[Split, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that hold anything, in their order."""
        return tuple(dict.fromkeys(part.split for part in self.parts))

    @property
    def images(self) -> int:
        return sum(part.images for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def samples(self, split: str, format: str = "") -> Iterator[Sample]:
        """Those of one split, and of one format where it is given, in the order in which they were made."""
        at = next(number for number, each in enumerate(self._splits) if each.name == split)
        last = 0
        while rows := self._db.execute(self._page, (at, last, format, format, PAGE)).fetchall():
            yield from (self._sample(row) for row in rows)
            last = rows[-1][0]

    def _sample(self, row: sqlite3.Row) -> Sample:
        image, task, path, *cells = row
        cells = [bool(cell) if each.type is Type.FLAG else cell for each, cell in zip(self.columns, cells, strict=True)]
        inputs = records.inputs(self._db, task) if self.edits else ()
        return Sample(
            image=image,
            path=path,
            cells=tuple(cells),
            inputs=inputs,
            **{name: row[name] for name in ("id", "prompt", "sha256", "bytes", "format")},
        )


@contextmanager
def settled(ledger: Path, rule: Rule) -> Iterator[Dataset]:
    """The dataset as the ledger stands now; UsageError where there is none, or the rule cannot be followed."""
    sides = splits.parse(rule.split)
    with books.opened(ledger) as db:
        yield _settle(db, rule, sides)


def _settle(db: sqlite3.Connection, rule: Rule, sides: tuple[Split, ...]) -> Dataset:
    db.create_function("side", 1, lambda digest: splits.side(digest, sides), deterministic=True)
    db.execute("BEGIN")
    _check_begun(db)
    variants = _variants(db)
    found = _asked(db, variants)
    edits = any(each.operation is not Operation.GENERATE for each in variants.values())
    known: Columns = {**FIRST, **{each: f"q.{_quoted(each)}" for each in found.columns}, **LAST}
    known |= (EDITED if edits else {}) | (COST if rule.with_cost else {})
    asked = ", ".join(f"{sql} AS {_quoted(each)}" for each, sql in known.items())
    listed = ", ".join(f"{'c.ids' if each.name == 'ids' else sql} AS {_quoted(each)}" for each, sql in known.items())
    for sql in TABLES:
        db.execute(sql)
    _choose(db, rule.where, f"SELECT i.id AS image_, p.digest AS digest_, {asked} FROM images i{JOINS}", tuple(known))
    made = Dataset(
        columns=tuple(known),
        parts=_parts(db, sides),
        facts=_facts(db),
        edits=edits and _any(db, f"{ORIGINALS} AND n.area = ?", ""),
        masks=edits and _any(db, f"{ORIGINALS} AND n.area <> ?", ""),
        _db=db,
        _page=f"SELECT i.id AS image_, t.seq AS task_, i.path AS path_, {listed}"
        f" FROM temp.chosen c CROSS JOIN images i ON i.id = c.image{JOINS}"
        " WHERE c.split = ? AND c.image > ? AND (? = '' OR c.format = ?) ORDER BY c.image LIMIT ?",
        _splits=sides,
    )
    db.execute("COMMIT")
    return made


def _check_begun(db: sqlite3.Connection) -> None:
    """UsageError while what is wanted is not known as a whole."""
    if _any(db, "SELECT 1 FROM job WHERE enqueued = ?", UNFINISHED):
        raise UsageError(
            "what the manifest wants is being written down, or that was cut off: wait a moment, or batchgen run it"
        )


def _quoted(column: Column) -> str:
    name = column.name.replace('"', '""')
    return f'"{name}"'


def _any(db: sqlite3.Connection, sql: str, value: str) -> bool:
    return db.execute(f"{sql} LIMIT 1", (value,)).fetchone() is not None


def _variants(db: sqlite3.Connection) -> dict[int, Variant]:
    """Those of which there are images."""
    used = (
        "SELECT id, provider, model, operation, params, axes FROM variants WHERE id IN (SELECT t.variant FROM tasks t"
        f" JOIN images i ON i.task = t.seq WHERE {WANTED.format(i='i', t='t')}) ORDER BY id"
    )
    return {number: records.variant(row) for number, *row in db.execute(used).fetchall()}


def _asked(db: sqlite3.Connection, variants: Mapping[int, Variant]) -> Asked:
    """What they asked for, also as a table."""
    found = columns.asked(variants, TAKEN | {each.name for each in (*FIRST, *LAST, *EDITED, *COST)})
    names = "".join(f", {_quoted(each)}" for each in found.columns)
    db.execute(f"CREATE TABLE temp.asked (variant INTEGER PRIMARY KEY, several INTEGER{names})")
    marks = ", ?" * len(found.columns)
    rows = [(number, each.images > 1, *found.cells[number]) for number, each in variants.items()]
    db.executemany(f"INSERT INTO temp.asked VALUES (?, ?{marks})", rows)
    return found


def _check_where(where: str, known: tuple[Column, ...]) -> None:
    """sqlite3.Error where it is no expression over the columns alone, wherever it stands."""
    named = ", ".join(f"NULL AS {_quoted(each)}" for each in known)
    with closing(sqlite3.connect(":memory:")) as nothing:
        nothing.execute(f"EXPLAIN SELECT (\n{where}\n) FROM (SELECT {named})")


def _choose(db: sqlite3.Connection, where: str, rows: str, known: tuple[Column, ...]) -> None:
    """Write down which images belong to the dataset, and to which of its splits."""
    wanted = f"{rows} WHERE {WANTED.format(i='i', t='t')}"
    sql = f"INSERT INTO temp.chosen SELECT side(digest_), image_, format, ids FROM ({wanted})"
    db.set_authorizer(_authorize)
    try:
        if where:
            _check_where(where, known)
        db.execute(f"{sql} WHERE (\n{where}\n)" if where else sql)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        names = ", ".join(each.name for each in known)
        raise UsageError(f"--where {where}: {error}. The columns are {names}.") from None
    finally:
        db.set_authorizer(None)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, _: str | None) -> int:
    """To look, to call functions that are always the same, and to write down what was chosen."""
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in PURE.split():
        return sqlite3.SQLITE_OK
    written = action == sqlite3.SQLITE_INSERT and (first, database) == ("chosen", "temp")
    return sqlite3.SQLITE_OK if written else sqlite3.SQLITE_DENY


def _parts(db: sqlite3.Connection, sides: tuple[Split, ...]) -> tuple[Part, ...]:
    rows = db.execute(
        "SELECT c.split, c.format, count(*), sum(i.bytes) FROM temp.chosen c JOIN images i ON i.id = c.image"
        " GROUP BY c.split, c.format ORDER BY c.split, c.format"
    ).fetchall()
    if not rows:
        raise UsageError("there is nothing to export: no saved image is wanted, or none fits --where")
    return tuple(Part(sides[at].name, *rest) for at, *rest in rows)


def _facts(db: sqlite3.Connection) -> Facts:
    chosen = "temp.chosen c JOIN images i ON i.id = c.image JOIN tasks t ON t.seq = i.task"
    job = books.job_row(db)
    used = db.execute("SELECT sha256 FROM manifests ORDER BY used_at DESC, rowid DESC LIMIT 1").fetchone()
    models = db.execute(
        "SELECT DISTINCT v.provider, v.model, v.operation FROM variants v WHERE v.id IN"
        f" (SELECT t.variant FROM {chosen}) ORDER BY 1, 2, 3"
    ).fetchall()
    sums = db.execute(
        "SELECT min(coalesce(a.ended_at, a.sent_at)), max(coalesce(a.ended_at, a.sent_at)), count(DISTINCT t.prompt),"
        f" count(d.image) FROM {chosen} JOIN attempts a ON a.seq = i.attempt"
        " LEFT JOIN temp.doubles d ON d.image = i.id"
    ).fetchone()
    about = job.name, job.created_at, used[0] if used else ""
    return Facts(*about, tuple(tuple(row) for row in models), *sums)
