"""Sources → rows: every prompt that the manifest asks for, one at a time, whatever the size of the file."""

import csv
import hashlib
import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path

from batchgen import template
from batchgen.document import decode
from batchgen.errors import ManifestError
from batchgen.manifest import Manifest
from batchgen.problems import nearest
from batchgen.sources import FileSource, Source, TemplateSource, TextSource, flaw
from batchgen.task import canonical

PROBLEMS_MOST = 20
LINE_MOST = 16 * 2**20
TABLES = (".csv", ".tsv")

_CSV_SAYS = {
    "unexpected end of data": "a quote is opened here and never closed",
    "field larger than field limit (131072)": "a quote is opened here and never closed, or a cell is over 128 KiB",
    "',' expected after '\"'": 'inside a quoted cell a quote is written twice: ""',
}


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, and the variables that it was made of. `number` counts from 1, `where` is its file and line."""

    number: int
    prompt: str
    variables: Mapping[str, str]
    where: str


@dataclass(frozen=True, slots=True)
class _Record:
    """The variables of a row, or what is wrong with it."""

    where: str
    variables: Mapping[str, str]
    wrong: str = ""


def rows(manifest: Manifest) -> Iterator[Row]:
    """Every row in order. From the first problem on nothing but problems is sought, and then ManifestError raised."""
    problems: list[str] = []
    numbers = count(1)
    for source in manifest.sources:
        for found in _read(source, manifest, numbers):
            if isinstance(found, Row) and not problems:
                yield found
            elif isinstance(found, str):
                problems.append(found)
            if len(problems) == PROBLEMS_MOST:
                raise ManifestError(*problems, "… and perhaps more")
    if problems:
        raise ManifestError(*problems)


def _read(source: Source, manifest: Manifest, numbers: Iterator[int]) -> Iterator[Row | str]:
    """A source's rows, and its problems as text."""
    if isinstance(source, TextSource):
        yield Row(next(numbers), source.prompt, {}, source.where)
        return
    maker = _Maker.of(source, manifest)
    table = isinstance(source, FileSource) and source.path.suffix.lower() in TABLES
    try:
        for record in _combined(source) if isinstance(source, TemplateSource) else _chosen(source):
            yield maker.row(record, next(numbers))
            if table and not record.wrong and maker.lacks(record.variables):
                return  # and so does every other row
    except ManifestError as error:  # the file cannot be read further
        yield from error.problems


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes rows of a source's records: one compiled template, one set of names that paths ask for."""

    template: template.Template | None
    asked: frozenset[str]
    manifest: Manifest

    @classmethod
    def of(cls, source: TemplateSource | FileSource, manifest: Manifest) -> "_Maker":
        path = template.compile(manifest.output_path or "").variables - manifest.path_names
        compiled = template.compile(source.prompt) if source.prompt is not None else None
        return cls(compiled, path | compiled.variables if compiled else path, manifest)

    def row(self, record: _Record, number: int) -> Row | str:
        if wrong := record.wrong or self.lacks(record.variables):
            return f"{record.where}: {wrong}"
        try:
            prompt = self.prompt(record.variables).strip()
        except ValueError as error:
            return f"{record.where}: {error}"
        wrong = flaw(prompt, self.manifest.provider)
        return f"{record.where}: {wrong}" if wrong else Row(number, prompt, record.variables, record.where)

    def lacks(self, variables: Mapping[str, str]) -> str:
        """What these variables lack, or nothing."""
        for name in sorted(self.asked - variables.keys()):
            return f"{{{{ {name} }}}} is not defined{nearest(name, variables)}"
        if self.template is None and not _prompt_column(variables):
            return f"no column is named prompt: write prompt: with {{{{ … }}}} around some of {', '.join(variables)}"
        return ""

    def prompt(self, variables: Mapping[str, str]) -> str:
        return self.template.render(variables) if self.template else variables[_prompt_column(variables)]


def _prompt_column(names: Iterable[str]) -> str:
    return next((name for name in names if name.lower() in ("prompt", "line")), "")


def _combined(source: TemplateSource) -> Iterator[_Record]:
    names = [name for name, _ in source.vars]
    for values in product(*(values for _, values in source.vars)):
        yield _Record(source.where, dict(zip(names, values, strict=True)))


def _chosen(source: FileSource) -> Iterator[_Record]:
    """The rows that `take` and `shuffle` leave, in the file's order; what is wrong in a file is always told."""
    if source.take is None or source.shuffle is None:
        yield from islice(_records(source.path), source.take)
        return
    ranks = ((_rank(source.shuffle, record), n) for n, record in enumerate(_records(source.path)) if not record.wrong)
    chosen = {n for _, n in heapq.nsmallest(source.take, ranks)}
    yield from (record for n, record in enumerate(_records(source.path)) if n in chosen or record.wrong)


def _rank(seed: str, record: _Record) -> bytes:
    """A row's place in the order of that seed, wherever it stands: a larger take keeps a smaller one."""
    content = canonical([seed, record.variables]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=8).digest()


def _records(path: Path) -> Iterator[_Record]:
    match path.suffix.lower():
        case ".txt":
            return _plain(path)
        case ".jsonl":
            return _objects(path)
        case ".csv":
            return _table(path, _comma_cells(path))
        case _:
            return _table(path, _tab_cells(path))


def _plain(path: Path) -> Iterator[_Record]:
    for number, line in _lines(path):
        if text := line.strip():
            yield _Record(f"{path}:{number}", {"line": text})


def _objects(path: Path) -> Iterator[_Record]:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            if line := line.strip():
                yield _Record(where, _object(line))
        except ValueError as error:
            yield _Record(where, {}, f"not a JSON object: {error}")


def _object(line: str) -> Mapping[str, str]:
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (column {error.colno})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("a line holds {…}")
    return {_variable(name): _text(found) for name, found in value.items()}


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return canonical(value)


def _table(path: Path, lines: Iterator[tuple[int, list[str]]]) -> Iterator[_Record]:
    """Records of a table whose first line names its columns. Rows without any text are passed over."""
    number, header = next(lines, (1, []))
    names = [_variable(name) for name in header]
    used = [name for name in names if name]
    if len(set(used)) != len(used) or not used:
        raise ManifestError(f"{path}:{number}: the first line must name the columns, each once: {', '.join(header)}")
    if len(header) == 1 and ";" in header[0]:
        raise ManifestError(f"{path}:{number}: columns are separated by commas (.csv) or tabs (.tsv), not by ;")
    for number, cells in lines:
        where = f"{path}:{number}"
        if len(cells) == len(names):
            if any(cells):
                yield _Record(where, dict(zip(names, cells, strict=True)))
        elif any(cells):
            yield _Record(where, {}, f"{len(cells)} cells, and the first line names {len(names)} columns")


def _variable(column: str) -> str:
    """A column's name as a template can write it: `Product name` is {{ Product_name }}."""
    name = re.sub(r"\W+", "_", column.strip())
    return f"_{name}" if name[:1].isdigit() else name


def _comma_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ManifestError(f"{path}:{number}: {_CSV_SAYS.get(str(error), error)}") from None


def _tab_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Tab-separated values know no quotes: a lone " is text."""
    for number, line in _lines(path):
        yield number, line.rstrip("\r\n").split("\t")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE_MOST), b""), start=1):
                yield number, _decoded(line, path, number)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None


def _decoded(line: bytes, path: Path, number: int) -> str:
    if len(line) == LINE_MOST:
        raise ManifestError(f"{path}:{number}: a line of over 16 MiB: is this a text file?")
    if number == 1:
        return decode(line, str(path))
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ManifestError(f"{path}:{number}: not UTF-8 text") from None
