"""Rows of the ledger inside a transaction: how they are made, found and told."""

import json
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from batchgen.task import (
    Attempt,
    Image,
    Input,
    Kind,
    Mark,
    Operation,
    Settlement,
    Task,
    Usage,
    Variant,
    canonical,
    prompt_digest,
)

Known = tuple[int, str, str, int, str]
"""A task that is there: its seq, state, what is wanted of it, its variant's row, its path."""
MARKS = 500  # that are looked for at once
LATE = "late"  # the code of an attempt that was given up, and was heard of after all
UNANSWERED = "(state = 'unknown' AND (status = 0 OR status = 408 OR status >= 500))"


@dataclass(frozen=True, slots=True)
class Relief:
    """What a purchase costs no more at most, in nano-dollars, and how many images of it count no more."""

    money: int = 0
    images: int = 0


NO_RELIEF = Relief()


def settle_attempt(db: sqlite3.Connection, attempt: Attempt, settled: Settlement) -> int:
    """Close an open attempt; returns its row. ValueError where it is not open."""
    row = db.execute(
        "UPDATE attempts SET state = ?, cost_low = ?, cost_high = ?, estimated = ?, allowance = ?, ended_at = ?,"
        " status = ?, code = ?, error = ?, request_id = ?, input_text_tokens = ?, input_image_tokens = ?,"
        " cached_text_tokens = ?, cached_image_tokens = ?, output_image_tokens = ?, output_text_tokens = ?,"
        " total_tokens = ?, usage_note = ?, said = ? WHERE id = ? AND state IN ('sending', 'accepted') RETURNING seq",
        (str(settled.attempt), settled.cost_low, settled.cost_high, settled.estimated, settled.allowance, now())
        + (settled.status, settled.code, settled.error, settled.request_id)
        + _tokens(settled.usage)
        + (canonical(dict(settled.said)), attempt.id),
    ).fetchone()
    if row is None:
        raise ValueError(f"attempt {attempt.id} was settled before")
    return int(row[0])


def add_image(db: sqlite3.Connection, task: int, attempt: int, image: Image) -> None:
    db.execute(
        "INSERT INTO images (task, attempt, idx, state, path, sha256, bytes, format, width, height, note,"
        " revised_prompt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (task, attempt, image.index, str(image.state), image.path, image.sha256, image.bytes)
        + (image.format, image.width, image.height, image.note, image.revised),
    )


def add_inputs(db: sqlite3.Connection, task: int, inputs: Sequence[Input]) -> None:
    """What a task edits, in its order."""
    for position, each in enumerate(inputs):
        key = (str(each.kind), each.ref, each.area, each.sha256)
        db.execute(
            "INSERT OR IGNORE INTO inputs (kind, ref, area, sha256, bytes, format, width, height)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, each.bytes, each.format, each.width, each.height),
        )
        db.execute(
            "INSERT OR REPLACE INTO task_inputs SELECT ?, ?, id FROM inputs WHERE (kind, ref, area, sha256)"
            " = (?, ?, ?, ?)",
            (task, position, *key),
        )


def inputs(db: sqlite3.Connection, task: int) -> tuple[Input, ...]:
    """What a task edits, as the plan found it."""
    rows = db.execute(
        "SELECT i.kind, i.ref, i.sha256, i.bytes, i.format, i.width, i.height, i.area FROM task_inputs t"
        " JOIN inputs i ON i.id = t.input WHERE t.task = ? ORDER BY t.position",
        (task,),
    )
    return tuple(Input(Kind(row[0]), *row[1:]) for row in rows)


def _tokens(usage: Usage | None) -> tuple[int | str | None, ...]:
    if usage is None:
        return (None,) * 7 + ("",)
    cached = (usage.cached_text, usage.cached_image)
    return usage.input_text, usage.input_image, *cached, usage.output_image, usage.output_text, usage.total, usage.note


def purchase(db: sqlite3.Connection, task: Task, sent: str, scope: str = "") -> tuple[str, str]:
    """The purchase that the next attempt belongs to, and when it was first sent.

    It is the last one's while its fate is unknown, else a new one, first `sent` now. A refusal is an answer, though it
    may be billed: whoever tries again makes a new purchase; so does who asks another host, or with another key.
    """
    last = db.execute(
        f"SELECT {UNANSWERED} AND scope = ?, purchase FROM attempts"
        " WHERE task = ? AND state IN ('unknown', 'paid', 'unusable') ORDER BY seq DESC LIMIT 1",
        (scope, task.seq),
    ).fetchone()
    if last is None or not last[0]:
        return uuid.uuid4().hex, sent
    sql = "SELECT min(sent_at) FROM attempts WHERE task = ? AND purchase = ?"
    (since,) = db.execute(sql, (task.seq, last[1])).fetchone()
    return str(last[1]), str(since)


def counted(db: sqlite3.Connection, task: int) -> tuple[int, str]:
    """What the books already hold for a purchase of the task that is open, nano-dollars, and its scope."""
    where = "task = ? AND state = 'unknown' AND batch IS NULL"
    (found,) = db.execute(f"SELECT coalesce(sum(cost_high), 0) FROM attempts WHERE {where}", (task,)).fetchone()
    told = db.execute(f"SELECT scope FROM attempts WHERE {where} ORDER BY seq DESC", (task,)).fetchone()
    return int(found), told[0] if told else ""


def relieve(db: sqlite3.Connection, attempt: Attempt, settled: Settlement) -> Relief:
    """Let this sending alone bear what its purchase costs: earlier ones count no more, neither money nor images.

    Where the price was another when they were sent, it may be that one.
    """
    rows = db.execute(
        f"SELECT seq, cost_high, images FROM attempts WHERE task = ? AND purchase = ? AND id <> ? AND {UNANSWERED}",
        (attempt.task.seq, attempt.purchase, attempt.id),
    ).fetchall()
    sql = "UPDATE attempts SET cost_low = 0, cost_high = 0, images = 0 WHERE seq = ?"
    db.executemany(sql, [(seq,) for seq, _, _ in rows])
    others = {high for _, high, images in rows if images} - {attempt.cost_high}
    most = None if None in others else max([settled.cost_high or 0, *(high or 0 for high in others)])
    if others:
        sql = "UPDATE attempts SET cost_low = 0, cost_high = ?, estimated = state = 'paid' WHERE id = ?"
        db.execute(sql, (most, attempt.id))
    more = (most or 0) - (settled.cost_high or 0) if others else 0
    return Relief(sum(high or 0 for _, high, _ in rows) - more, sum(images for *_, images in rows))


def keep_lanes(db: sqlite3.Connection, lanes: Sequence[tuple[str, str, str, str]]) -> None:
    """Remember lanes: name, provider, account, why it is blocked; what is open follows its account to another name."""
    homes = {(pool, account): name for name, pool, account, _ in lanes}
    known = db.execute("SELECT name, pool, account FROM lanes").fetchall()
    moved = {name: home for name, *who in known if (home := homes.get(tuple(who), name)) != name}
    for table, open_ in (("attempts", "state IN ('sending', 'accepted')"), ("batches", "state <> 'over'")):
        sql = f"UPDATE {table} SET lane = m.value FROM json_each(?) m WHERE m.key = lane AND {open_}"
        db.execute(sql, (json.dumps(moved),))  # all at once: two keys may have changed places
    db.execute("UPDATE lanes SET blocked = ''")
    db.executemany("INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?)", lanes)


def prompt_ids(db: sqlite3.Connection, texts: Sequence[str]) -> dict[str, int]:
    """The rows of prompts, made where there are none yet."""
    found: dict[str, int] = {}
    for at in range(0, len(texts), MARKS):
        some = [(prompt_digest(text), text) for text in texts[at : at + MARKS]]
        pairs = ", ".join(["(?, ?)"] * len(some))
        db.execute(f"INSERT OR IGNORE INTO prompts (digest, text) VALUES {pairs}", [*chain.from_iterable(some)])
        (told,) = db.execute(
            f"SELECT json_group_object(w.column1, p.id) FROM (VALUES {pairs}) w"
            " CROSS JOIN prompts p ON p.digest = w.column2",
            [each for nth, (digest, _) in enumerate(some) for each in (nth, digest)],
        ).fetchone()
        ids = json.loads(told)
        found.update((text, ids[f"{nth}"]) for nth, (_, text) in enumerate(some))
    return found


def known_tasks(db: sqlite3.Connection, wanted: Sequence[Mark]) -> dict[str, Known]:
    """Those of the tasks that are there, by key."""
    found: dict[str, Known] = {}
    for at in range(0, len(wanted), MARKS):
        marks = wanted[at : at + MARKS]
        digests = {prompt: prompt_digest(prompt) for prompt in {prompt for prompt, _ in marks}}
        rows = db.execute(
            "SELECT t.key, t.seq, t.state, t.wanted, t.variant, t.path"
            f" FROM (VALUES {', '.join(['(?, ?)'] * len(marks))}) w CROSS JOIN prompts p ON p.digest = w.column1"
            " CROSS JOIN tasks t ON t.prompt = p.id AND t.key = w.column2",
            [each for prompt, key in marks for each in (digests[prompt], key)],
        )
        found.update((key, tuple(row)) for key, *row in rows)
    return found


def last_task(db: sqlite3.Connection) -> int:
    """The highest seq; what is added next comes right behind it."""
    (found,) = db.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
    return int(found)


def variant(row: Sequence[str]) -> Variant:
    """A variant from its columns provider, model, operation, params, axes."""
    provider, model, operation, params, axes = row
    asked, named = json.loads(params), json.loads(axes)
    return Variant(provider, model, Operation(operation), tuple(sorted(asked.items())), tuple(named.items()))


def age(moment: str) -> float:
    """Seconds since then; never fewer than none."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def now() -> str:
    """The time in UTC, to the millisecond, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
