"""Wrongs that are planted in a finished world, one at a time, and the kind of violation that each must come to."""

import re
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sandbox.child import KEY

Plant = Callable[[Path], object]  # takes the world's folder


def sql(text: str) -> Plant:
    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "runs" / "tortured" / "ledger.db")) as db, db:
            db.execute(text)

    return change


def attempts(set_: str, where: str = "true") -> Plant:
    return sql(f"UPDATE attempts SET {set_} WHERE {where}")


def of_bill(change: Callable[[list[str]], list[str]]) -> Plant:
    def changed(folder: Path) -> None:
        bill = folder / "bill.jsonl"
        bill.write_text("".join(change(bill.read_text().splitlines(keepends=True))))

    return changed


def of_image(change: Callable[[Path], object]) -> Plant:
    return lambda folder: change(next((folder / "runs").rglob("*.png")))


def file(name: str, text: str, mode: int = 0o600) -> Plant:
    def write(folder: Path) -> None:
        path = folder / "runs" / "tortured" / name
        path.write_text(text)
        path.chmod(mode)

    return write


def flip(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)


def strange(lines: list[str]) -> list[str]:
    """With a charge more, which names an attempt that nobody made."""
    return [*lines, re.sub('(client_request_id": ")..', r"\1zz", lines[-1])]


def dearer(lines: list[str]) -> list[str]:
    return [line.replace('"nano_usd": ', '"nano_usd": 1') for line in lines]


def keyed(lines: list[str]) -> list[str]:
    return [line.replace('"idempotency_key": "', '"idempotency_key": "x') for line in lines]


PLANTED: dict[str, tuple[str, Plant]] = {
    "an image is gone": ("lost", of_image(Path.unlink)),
    "a bit of an image is flipped": ("changed", of_image(flip)),
    "an image's row is gone": ("lost", sql("DELETE FROM images WHERE id = 1")),
    "an image is nobody's": ("orphan", file("images/nobodys.png", "x")),
    "an answer is left in the spool": ("orphan", file(f"spool/{'0' * 32}.1", "x")),
    "a file holds half of the key": ("key", file("run.log", KEY[: len(KEY) // 2])),
    "a file holds the key in base64": ("key", file("run.log", b64encode(f"Bearer {KEY}".encode()).decode())),
    "others may read a file": ("open", file("notes.txt", "x", 0o644)),
    "a charge is gone": ("money", of_bill(lambda lines: lines[:-1])),
    "a charge came twice": ("money", of_bill(lambda lines: [*lines, lines[-1]])),
    "a charge is dearer": ("money", of_bill(dearer)),
    "a charge is nobody's": ("stranger", of_bill(strange)),
    "a key was sent along unasked": ("header", of_bill(keyed)),
    "a token is counted too much": ("money", attempts("output_image_tokens = output_image_tokens + 1")),
    "a doubt costs nothing": ("money", attempts("cost_high = 0", "state = 'unknown'")),
    "a doubt is not listed": ("twice", attempts("state = 'rejected'", "state = 'unknown'")),
    "the budget is passed": ("budget", attempts("cost_high = 2000000000000", "state = 'unknown'")),
    "a re-send has a new purchase": ("purchase", attempts("purchase = id")),
    "a task was tried too often": ("tries", sql("UPDATE tasks SET tries = 51")),
    "a task is at work": ("state", sql("UPDATE tasks SET state = 'doing' WHERE seq = 1")),
}
