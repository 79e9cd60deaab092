"""Files of prompts → records: text, JSON lines and tables as people have them, plain, gzipped, or standard input."""

import atexit
import csv
import gzip
import io
import json
import re
import shutil
import sys
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import compress
from pathlib import Path
from typing import TextIO

from batchgen.errors import ManifestError
from batchgen.task import canonical
from batchgen.text import clean

FORMATS = ("txt", "csv", "tsv", "jsonl")
LINE_MOST = 16 * 2**20
STDIN = "standard input"

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MARKS = ("ï»¿", "ÿþ", "þÿ")  # those of Unicode, read as Windows-1252
_ALIEN = re.compile("[\0\udc80-\udcff]")  # to text in general, and bytes that Windows-1252 does not define
_WORD = re.compile(r"\w{0,20}[^\0-\x7f]\w{0,20}")  # one that is not ASCII

_HEAD = 128 * 2**10
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_SEP = re.compile(r'"?sep=(\t|[^\w\s"])"?[\r\n]', re.IGNORECASE)  # Excel's own word for the delimiter
_QUOTED = re.compile(r'"[^"]*"')
_HEADER = re.compile(rf'(?:{_QUOTED.pattern}|[^"\r\n]+|")*')
_CSV_SAYS = {
    "unexpected end of data": "a quote is opened here and never closed",
    "field larger than field limit": "a quote is opened here and never closed, or a cell is over 128 KiB",
    "expected after": "the quoted cell that begins here does not end properly: "
    'the closing " is missing, or a " inside it is not written twice',
}
_LIST = re.compile(r"\[\s*(\{.*)?")  # the first line of a JSON list of objects
_INSTEAD = {**dict.fromkeys(("xlsx", "xls", "ods"), "save it as .csv"), "json": "one object a line, as .jsonl"}


@dataclass(frozen=True, slots=True)
class Record:
    """The variables of a row, or what is wrong with it. `where` is its file and line."""

    where: str
    variables: Mapping[str, str]
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Feed:
    """A file with a row for every prompt; it can be read as often as one likes.

    `path` is where its bytes lie (standard input is copied when it is first read), `name` how messages call it.
    """

    path: Path
    name: str
    format: str
    zipped: bool

    @property
    def mark(self) -> tuple[int, ...]:
        """What changes with it: its inode, its size, when it was written last; nothing where it cannot be seen."""
        with suppress(OSError):
            found = self.path.stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
        return ()

    def records(self) -> Iterator[Record]:
        """Its rows in order, one at a time; ManifestError where it cannot be read further."""
        encoding, _ = self._encoding()
        try:
            match self.format:
                case "txt":
                    yield from self._plain(encoding)
                case "jsonl":
                    yield from self._objects(encoding)
                case _:
                    yield from self._table(encoding)
        except UnicodeDecodeError:
            raise ManifestError(f"{self.name}: changed while it was read") from None

    @property
    def delimiter(self) -> str:
        """What separates the cells of a table."""
        encoding, _ = self._encoding()
        with self._open(encoding, newline="") as file:
            return "\t" if self.format == "tsv" else _delimiter(file)[0]

    def notes(self) -> list[str]:
        """What a person should know about how it is read; ManifestError where it cannot be."""
        _, note = self._encoding()
        return [note] if note else []

    def _plain(self, encoding: str) -> Iterator[Record]:
        for number, line in self._lines(encoding):
            if line := line.strip():
                yield Record(f"{self.name}:{number}", {"line": line})

    def _objects(self, encoding: str) -> Iterator[Record]:
        for number, line in self._lines(encoding):
            try:
                if line := line.rstrip():
                    yield Record(f"{self.name}:{number}", _object(line))
            except ValueError as error:
                if _LIST.fullmatch(line):
                    says = "one JSON list: write one {…} a line, without [ ] and commas"
                    raise ManifestError(f"{self.name}:{number}: {says}") from None
                yield Record(f"{self.name}:{number}", {}, f'must be {{"name": "text", …}}: {error}')

    def _table(self, encoding: str) -> Iterator[Record]:
        """Records of a table whose first line names its columns. Rows without any text are passed over."""
        with self._open(encoding, newline="") as file:
            delimiter, declared = ("\t", False) if self.format == "tsv" else _delimiter(file)
            rows = self._cells(file, delimiter)
            if declared:
                next(rows)
            head = next(rows, None)
            if head is None:
                raise ManifestError(f"{self.name}:1: the file is empty")
            columns = _columns(*head)
            names = [name for name in columns if name]
            for where, cells in rows:
                if not "".join(cells).strip():
                    continue
                if len(cells) != len(columns):
                    cells = _fitted(cells, len(columns))
                if len(cells) == len(columns):
                    yield Record(where, dict(zip(names, compress(cells, columns), strict=True)))
                else:
                    yield Record(where, {}, self._excess(len(cells), len(columns), delimiter))

    def _cells(self, file: TextIO, delimiter: str) -> Iterator[tuple[str, list[str]]]:
        """Tab-separated values know no quotes: a lone " is text."""
        quotes = self.format == "csv"
        reader = csv.reader(
            file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE, strict=True
        )
        line = 1
        try:
            for cells in reader:
                yield f"{self.name}:{line}", cells
                line = reader.line_num + 1
        except csv.Error as error:
            says = next((says for words, says in _CSV_SAYS.items() if words in str(error)), str(error))
            raise ManifestError(f"{self.name}:{line}: {says}") from None

    def _excess(self, cells: int, columns: int, delimiter: str) -> str:
        hint = f": put the cell that holds a {_DELIMITERS.get(delimiter, delimiter)} in quotes"
        return f"{cells} cells, and the first line names {columns} columns{hint if self.format == 'csv' else ''}"

    def _encoding(self) -> tuple[str, str]:
        """What all its bytes can be read as, and the note about it."""
        with self._bytes() as file:
            encoding = "utf-16" if file.read(2) in _UTF16 else "utf-8-sig"
        if encoding == "utf-16" and self.format == "jsonl":
            raise ManifestError(f"{self.name}:1: the file is UTF-16: save it as UTF-8")
        try:
            deque(self._lines(encoding), maxlen=0)
        except UnicodeDecodeError:
            return "cp1252", self._western()
        return encoding, ""

    def _western(self) -> str:
        """The note about a file in Windows-1252; ManifestError for one that is something else, or that in part only."""
        unicode, note = 0, ""
        for number, line in self._lines("cp1252", "surrogateescape"):
            where = f"{self.name}:{number}"
            if not note and _is_utf8(line):
                unicode = unicode or (0 if line.isascii() else number)
            elif _ALIEN.search(line) or line.startswith(_MARKS):
                raise ManifestError(f"{where}: neither UTF-8 nor Windows-1252 text: save it as UTF-8")
            elif unicode or self.format == "jsonl":
                raise ManifestError(f"{where}: not UTF-8 text{f', and line {unicode} is' if unicode else ''}")
            elif not note and (word := _WORD.search(line)):
                note = f"{self.name} is not UTF-8: read as Windows-1252 (line {number}: {clean(word[0])!r})"
        return note

    def _lines(self, encoding: str, errors: str = "strict") -> Iterator[tuple[int, str]]:
        with self._open(encoding, errors) as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE_MOST), ""), start=1):
                if len(line) == LINE_MOST:
                    raise ManifestError(f"{self.name}:{number}: a line of over 16 MiB: is this a text file?")
                yield number, line

    @contextmanager
    def _open(self, encoding: str, errors: str = "strict", newline: str | None = None) -> Iterator[TextIO]:
        with self._bytes() as file, io.TextIOWrapper(file, encoding, errors, newline) as text:
            yield text

    @contextmanager
    def _bytes(self) -> Iterator[io.BufferedReader | gzip.GzipFile]:
        """What the disk and gzip say against the file is told in our words."""
        try:
            path, zipped = _copied() if self.name == STDIN else (self.path, self.zipped)
            if path.is_fifo():
                raise ManifestError(f"{self.name}: a pipe can be read only once: give it as standard input")
            with gzip.open(path) if zipped else path.open("rb") as file:
                yield file
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise ManifestError(f"{self.name}: the file is damaged or cut off") from None
        except OSError as error:
            raise ManifestError(f"{self.name}: {error.strerror}") from None


def feed(file: str, folder: Path, format: str = "") -> Feed:
    """`file` in `folder`, or "-" for standard input, of that format or of the one that its suffix says.

    ValueError where that is none.
    """
    if format and format not in FORMATS:
        raise ValueError(f"{format!r} is none of {', '.join(FORMATS)}")
    if file == "-":
        return Feed(Path(file), STDIN, format or "txt", False)
    plain = file.lower().removesuffix(".gz")
    format = format or Path(plain).suffix.removeprefix(".")
    if format not in FORMATS:
        instead = f": {_INSTEAD[format]}" if format in _INSTEAD else ""
        raise ValueError(f"{file!r} is none of .{', .'.join(FORMATS)}, nor one of them with .gz{instead}")
    return Feed(folder / file, str(folder / file), format, plain != file.lower())


def given(rows: Sequence[str | Mapping[str, object]]) -> Feed:
    """Rows of a program's own, each a prompt or a mapping of variables; kept like standard input."""
    handle, name = _scratch()
    with open(handle, "w", encoding="utf-8") as copy:
        for row in rows:
            line = json.dumps({"prompt": row} if isinstance(row, str) else dict(row), ensure_ascii=False)
            copy.write(line + "\n")
    return Feed(Path(name), "rows", "jsonl", False)


def _scratch() -> tuple[int, str]:
    """A file that is gone when the process ends."""
    handle, name = tempfile.mkstemp(prefix="batchgen-")
    atexit.register(Path(name).unlink, missing_ok=True)
    return handle, name


@cache
def _copied() -> tuple[Path, bool]:
    """A copy of standard input, to be read again and again until the process ends, and whether it is gzipped."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ManifestError(f"{STDIN} is {'a terminal' if sys.stdin else 'closed'}: pipe the prompts in")
    try:
        handle, name = _scratch()
        with open(handle, "w+b") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.seek(0)
            return Path(name), copy.read(2) == _GZIP
    except OSError as error:
        raise ManifestError(f"{STDIN}: {error.strerror}") from None


def _is_utf8(line: str) -> bool:
    """Whether the bytes of a line, read as Windows-1252, could have been read as UTF-8."""
    try:
        line.encode("cp1252", "surrogateescape").decode()
    except UnicodeDecodeError:
        return False
    return "\0" not in line


def _object(line: str) -> Mapping[str, str]:
    try:
        value = _decode(line)
        if isinstance(value, dict):
            return {_variable(name): _text(found) for name, found in value.items()}
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (column {error.colno})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    raise ValueError(f"this is {'a list' if isinstance(value, list) else 'a single value'}")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return canonical(value)


def _delimiter(file: TextIO) -> tuple[str, bool]:
    """What separates a table's cells, and whether its first line does nothing but say so."""
    head = file.read(_HEAD)
    file.seek(0)
    if sep := _SEP.match(head):
        return sep[1], True
    header = _HEADER.match(head)
    bare = _QUOTED.sub("", header[0] if header else "")
    return max(_DELIMITERS, key=bare.count), False


def _columns(where: str, header: list[str]) -> list[str]:
    """The names as variables; those of nameless columns are empty, and none of these is the last."""
    columns = _fitted([_variable(name) for name in header], 0)
    used = [name for name in columns if name]
    if len(set(used)) != len(used) or not used:
        raise ManifestError(f"{where}: the first line must name the columns, each once: {clean(', '.join(header))}")
    return columns


def _fitted(cells: list[str], width: int) -> list[str]:
    """Cells with empty ones put in or taken away at the end; still too many where they hold text."""
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    return cells + [""] * (width - len(cells))


@lru_cache(1024)
def _variable(column: str) -> str:
    """A column's name as a template can write it: `Product name` is {{ Product_name }}."""
    name = re.sub(r"\W+", "_", column.strip())
    return f"_{name}" if name[:1].isdigit() else name
