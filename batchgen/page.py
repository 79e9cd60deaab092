"""The report page: one HTML file with everything in it, its rows in blocks of as many as are shown at once."""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from batchgen import album, books, disk, exhibit, place, records, thumbs
from batchgen.album import Choice, Mark, Picture
from batchgen.books import Connection
from batchgen.errors import UsageError
from batchgen.folder import Folder
from batchgen.report import Object
from batchgen.store import Directory, Store

STYLE = "page.css"
SCRIPTS = ("dom.js", "source.js", "grid.js", "detail.js", "plots.js", "summary.js", "marks.js", "tools.js", "main.js")
WRITTEN = "written.js"  # what begins the page that is written down
EMBEDDED_MOST = 5_000  # images whose thumbnails are written into the page; of more they are read from beside the run
PICTURES = 500  # whose thumbnails are made between two looks at the ledger
TASKS_A_PAGE, ROWS_LEAST, ROWS_MOST = 450, 5, 100
OURS = '<meta name="generator" content="batchgen">'
WANTED, GONE = Choice(), Choice(states=frozenset({"dropped", "replaced"}))

Write = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Written:
    """How many images the page shows, how many of them without a thumbnail, and whether these are inside."""

    images: int
    bare: int
    embedded: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """The run that is shown: where its images lie, how many are equal, and whether their thumbnails are inside."""

    folder: Folder
    store: Store
    twins: Mapping[str, int]
    embedded: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A page of rows, of the tasks that the choice asks for."""

    number: int
    choice: Choice
    marks: Sequence[Mark]


def rows_a_page(rows: int, tasks: int) -> int:
    """How many rows are shown at once: so many that their tasks are."""
    return min(ROWS_MOST, max(ROWS_LEAST, TASKS_A_PAGE * rows // max(1, tasks)))


def asset(name: str) -> str:
    """A file of the page's."""
    return (files("batchgen") / "web" / name).read_text(encoding="utf-8")


def write(folder: Folder, target: Path, tick: Callable[[int], object]) -> Written:
    """Put the page at `target`, whole; ticks with each block of images. UsageError where that is something else."""
    store = place.images(folder)
    _check(folder, store, target)
    _make_thumbnails(
        folder, store, tick
    )  # first, so that the one look at the ledger that all of the page comes from is short
    with books.reading(folder.ledger) as db:
        rows, tasks = album.count(db, WANTED)
        wanted, gone, twins = album.marks(db, WANTED), album.marks(db, GONE), album.twins(db)
        told: dict[str, Any] = exhibit.head(folder)  # it may be newer: it knows all that the rows may name
        most = rows_a_page(rows, tasks)
        blocks = [*_blocks(wanted, WANTED, most)]
        every = blocks + [*_blocks(gone, GONE, most, len(blocks))]
        embedded = told["report"]["images"]["saved"] <= EMBEDDED_MOST
        head = {
            **told,
            "made_at": records.now(),
            "page": most,
            "blocks": len(every),
            "total": {"rows": rows, "tasks": tasks},
            "folder": _relative(folder.path, target),
            "images": _relative(Path(store.path), target) if isinstance(store, Directory) else f"{store.url}/",
            "embedded": embedded,
        }
        with _whole(target) as out:
            images, bare = _write(out, db, Shown(folder, store, twins, embedded), head, every or [Block(0, WANTED, ())])
    return Written(images, bare, embedded)


def _make_thumbnails(folder: Folder, store: Store, tick: Callable[[int], object]) -> None:
    last = 0
    while True:
        with books.reading(folder.ledger) as db:
            pictures = album.saved(db, last, PICTURES)
        if not pictures:
            return
        last = pictures[-1].id
        tick(sum(1 for _ in thumbs.of_all(folder, store, pictures, thumbs.kept)))


def _write(out: Write, db: Connection, run: Shown, head: Object, blocks: Sequence[Block]) -> tuple[int, int]:
    """All of it; how many images there are, and how many have no thumbnail."""
    before, after = _frame()
    out(before + _data("head", head))
    images = bare = 0
    for block in blocks:
        shown, lacking = _write_block(out, db, run, block)
        images, bare = images + shown, bare + lacking
        if not block.number:  # what is shown first is shown before the rest is read
            out(_scripts())
    out(after)
    return images, bare


def _check(folder: Folder, store: Store, target: Path) -> None:
    """UsageError where the page cannot be put there, or would take the place of what is none."""
    if not target.parent.is_dir():
        raise UsageError(f"--html {target}: there is no folder {target.parent}")
    images = Path(store.path) if isinstance(store, Directory) else folder.images
    for own in (images, folder.spool, folder.path / thumbs.NAME):
        if target.resolve().is_relative_to(own.resolve()):
            raise UsageError(f"--html {target}: {own} is the run's own: give another place")
    try:
        handle = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            plain = stat.S_ISREG(os.fstat(handle).st_mode)
            beginning = file.read(1 << 10) if plain else b""
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"--html {target}: {error.strerror}") from None
    if not plain or (beginning and OURS.encode() not in beginning):
        raise UsageError(f"--html {target}: another file stands there, which is no report page: it is kept")


@contextmanager
def _whole(target: Path) -> Iterator[Write]:
    """Writes text to a file that bears its name once all is in it."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with disk.storage("the page"):
        try:
            handle = os.open(part, disk.NEW, 0o644)
            with open(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
                yield file.write
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def _relative(folder: Path, target: Path) -> str:
    """The run's folder as a URL seen from the page: it may be moved together with it."""
    path = os.path.relpath(folder.absolute(), target.absolute().parent)
    return f"{'' if path.startswith('.') else './'}{quote(path)}/"


def _blocks(marks: Sequence[Mark], choice: Choice, most: int, first: int = 0) -> Iterator[Block]:
    for number, at in enumerate(range(0, len(marks), most), first):
        yield Block(number, choice, marks[at : at + most])


def _write_block(out: Write, db: Connection, run: Shown, block: Block) -> tuple[int, int]:
    """The rows, their thumbnails and what is known of each task; how many images, and how many have no thumbnail."""
    strips = album.strips(db, block.choice, block.marks)
    frames = [frame for strip in strips for frame in strip.frames]
    closeups = album.closeups(db, [frame.seq for frame in frames])
    pictures = [picture for frame in frames for picture in frame.pictures]
    small = [*thumbs.of_all(run.folder, run.store, pictures, _inside if run.embedded else thumbs.kept)]
    out(_data(f"rows-{block.number}", [exhibit.row(strip, run.twins) for strip in strips]))
    if run.embedded:
        out(_data(f"thumbs-{block.number}", small))
    out(_data(f"details-{block.number}", {seq: exhibit.closeup(each) for seq, each in closeups.items()}))
    return len(pictures), sum(not each for each in small)


def _inside(folder: Folder, store: Store, picture: Picture) -> str:
    return _base64(thumbs.thumbnail(folder, store, picture))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _data(id: str, value: object) -> str:
    """A block of JSON in which no tag can begin."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{id}">{text}</script>\n'


def _frame() -> tuple[str, str]:
    """The page around its data, with a policy under which it can load nothing but itself and pictures beside it."""
    hashes = {kind: " ".join(map(_hash, texts)) for kind, texts in _sources().items()}
    policy = (
        f"default-src 'none'; img-src data: file: 'self'; script-src {hashes['script']}; style-src {hashes['style']};"
        " base-uri 'none'; form-action 'none'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    page = asset("page.html").replace("{{ head }}", f"{meta}\n<style>{asset(STYLE)}</style>")
    before, _, after = page.partition("{{ body }}")
    return before, after


def _sources() -> dict[str, list[str]]:
    return {"script": [asset(name) for name in (*SCRIPTS, WRITTEN)], "style": [asset(STYLE)]}


def _hash(text: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _scripts() -> str:
    return "".join(f"<script>{text}</script>\n" for text in _sources()["script"])
