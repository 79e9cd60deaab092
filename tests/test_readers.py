"""Files of prompts as people have them are read; what cannot be read is told with its line."""
# ruff: noqa: E501 (a file and what it says stand in one line)

import csv
import gzip
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.errors import ManifestError
from batchgen.readers import FORMATS, Feed, Record, feed

ILL_QUOTED = (
    'the quoted cell that begins here does not end properly: the closing " is missing,'
    ' or a " inside it is not written twice'
)
NEVER_CLOSED = "a quote is opened here and never closed"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """The current folder for a test, so that messages have short paths."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def write(name: str, content: str | bytes) -> Feed:
    data = content if isinstance(content, bytes) else content.encode()
    Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return feed(name, Path())


def read(name: str, content: str | bytes) -> list[Record]:
    return list(write(name, content).records())


def values(name: str, content: str | bytes) -> list[list[str]]:
    found = read(name, content)
    assert not [record.wrong for record in found if record.wrong]
    return [list(record.variables.values()) for record in found]


def refused(name: str, content: str | bytes) -> str:
    reading = write(name, content)
    with pytest.raises(ManifestError) as caught:
        list(reading.records())
    return str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("zipped", ["", ".gz", ".GZ"])
def test_a_suffix_says_what_a_file_is(kind: str, zipped: str) -> None:
    for suffix in (f".{kind}", f".{kind.upper()}"):
        found = feed(f"a.b{suffix}{zipped}", Path("folder"))
        name = f"folder/a.b{suffix}{zipped}"
        assert found == Feed(Path(name), name, kind, bool(zipped))


def test_a_format_goes_before_the_suffix() -> None:
    assert feed("p.dat", Path(), "csv") == Feed(Path("p.dat"), "p.dat", "csv", False)
    assert feed("p.txt.gz", Path(), "tsv") == Feed(Path("p.txt.gz"), "p.txt.gz", "tsv", True)


@pytest.mark.parametrize("name", ["p.xlsx", "p", "csv", ".gz", "p.gz", "p.csv.zip", "p.txt.", ".csv"])
def test_a_file_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is none of \.txt, \.csv, \.tsv, \.jsonl, nor one of them with \.gz"):
        feed(name, Path())


def test_a_format_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'xml' is none of txt, csv, tsv, jsonl"):
        feed("p.txt", Path(), "xml")


def test_a_text_file_has_a_prompt_a_line() -> None:
    found = read("p.txt", "A fox  \n\n  \n\tA heron, 50%\r\nA carp")
    assert found == [
        Record("p.txt:1", {"line": "A fox"}),
        Record("p.txt:4", {"line": "A heron, 50%"}),
        Record("p.txt:5", {"line": "A carp"}),
    ]


def test_json_lines_give_text() -> None:
    found = read("p.jsonl", '{"prompt": "A fox", "2nd n": 3}\n\n {"flag": true, "none": null, "list": [1.50, "é"]}\n')
    assert found == [
        Record("p.jsonl:1", {"prompt": "A fox", "_2nd_n": "3"}),
        Record("p.jsonl:3", {"flag": "true", "none": "", "list": '[1.5,"é"]'}),
    ]


def test_a_comma_table_gives_its_columns_as_variables() -> None:
    found = read("p.csv", 'sku, Product name ,2nd\n1,"Fox, ""red""",x\n\n2,"two\nlines",y\n,,\n 3,5" pipe,z\n')
    assert found == [
        Record("p.csv:2", {"sku": "1", "Product_name": 'Fox, "red"', "_2nd": "x"}),
        Record("p.csv:4", {"sku": "2", "Product_name": "two\nlines", "_2nd": "y"}),
        Record("p.csv:7", {"sku": " 3", "Product_name": '5" pipe', "_2nd": "z"}),
    ]


def test_a_tab_table_knows_no_quotes() -> None:
    cells = ['"G I G G L E" in graffiti', 'a sign that says "Deep', 'Longest word: "a, b"', "it's", '"', "sep=;"]
    assert values("p.tsv", "Prompt\tNote\n" + "".join(f"{cell}\t\n" for cell in cells)) == [[c, ""] for c in cells]


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.txt", "p.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_line_ends_and_encodings_change_nothing(name: str, end: str, encoding: str) -> None:
    head = "" if name == "p.txt" else f"prompt{end}"
    found = read(name, f"{head}A fox{end}{end}Un renard é{end}".encode(encoding))
    first = 1 if name == "p.txt" else 2
    key = "line" if name == "p.txt" else "prompt"
    assert found == [
        Record(f"{name}:{first}", {key: "A fox"}),
        Record(f"{name}:{first + 2}", {key: "Un renard é"}),
    ]


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("id;prompt\n1;A fox, red", ["1", "A fox, red"]),
        ("id\tprompt\n1\tA fox, red", ["1", "A fox, red"]),
        ("id|prompt\n1|A fox; red", ["1", "A fox; red"]),
        ("id;the prompt, in full;n\n1;A fox;2", ["1", "A fox", "2"]),
        ('id;"a, b, c, d"\n1;A fox', ["1", "A fox"]),
        ('id;"a ""b"", c, d, e"\n1;A fox', ["1", "A fox"]),
        ('"the\nid, or not";prompt\n1;A fox', ["1", "A fox"]),
        ('5" pipe;prompt\n1;A fox', ["1", "A fox"]),
        ("prompt\nA fox; red", ["A fox; red"]),
        ("sep=;\na,b;c,d;e,f\n1;2;3", ["1", "2", "3"]),
        ("SEP=\t\r\na\tb\r\n1\t2", ["1", "2"]),
        ('"sep=^"\na^b\n1^2', ["1", "2"]),
    ],
)  # fmt: skip
def test_the_header_tells_the_delimiter(table: str, cells: list[str]) -> None:
    assert values("p.csv", table) == [cells]


def test_excels_line_about_the_delimiter_is_counted() -> None:
    (found,) = read("p.csv", "sep=;\r\nid;prompt\r\n1;A fox\r\n")
    assert found == Record("p.csv:3", {"id": "1", "prompt": "A fox"})


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("a,b,c\n1\n2,3\n", [["1", "", ""], ["2", "3", ""]]),
        ("a,b\n1,2,,\n3,4, ,\n", [["1", "2"], ["3", "4"]]),
        ("a,b,,\n1,2,,\n3\n4,5\n", [["1", "2"], ["3", ""], ["4", "5"]]),
        ("a,b\n,,,,\n \n , \n1,2\n", [["1", "2"]]),
        (",prompt\n0,A fox\n1,A heron\n", [["A fox"], ["A heron"]]),
        ("a,,b\n1,2,3\n", [["1", "3"]]),
        ("id,ID\n1,2\n", [["1", "2"]]),
        ("a\n", []),
    ],
)  # fmt: skip
def test_a_table_may_be_ragged_where_it_is_empty(table: str, cells: list[list[str]]) -> None:
    assert values("p.csv", table) == cells


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.csv", "prompt,a\nA fox, red,b\n", "3 cells, and the first line names 2 columns: put the cell that holds a comma in quotes"),
        ("p.csv", "prompt;a\nA fox; red;b;\n", "3 cells, and the first line names 2 columns: put the cell that holds a semicolon in quotes"),
        ("p.csv", "a,b,,\n1,2,,4\n", "4 cells, and the first line names 2 columns: put the cell that holds a comma in quotes"),
        ("p.csv", "a|b\n1|2|3\n", "3 cells, and the first line names 2 columns: put the cell that holds a vertical bar in quotes"),
        ("p.tsv", "prompt\ta\nA fox\tred\tb\n", "3 cells, and the first line names 2 columns"),
        ("p.jsonl", '\n["A"]\n', 'must be {"name": "text", …}: this is a list'),
        ("p.jsonl", '\n{"prompt": NaN}\n', 'must be {"name": "text", …}: NaN is no JSON'),
        ("p.jsonl", '\n{"prompt: 1}\n', 'must be {"name": "text", …}: Unterminated string starting at (column 2)'),
        ("p.jsonl", '\n{"prompt": 1\n', 'must be {"name": "text", …}: Expecting \',\' delimiter (column 13)'),
        ("p.jsonl", '\n{"prompt": 1e999}\n', 'must be {"name": "text", …}: Out of range float values are not JSON compliant'),
        ("p.jsonl", "\n" + "[" * 100_000, 'must be {"name": "text", …}: nested too deeply'),
    ],
)  # fmt: skip
def test_a_wrong_row_does_not_hide_the_others(name: str, content: str, says: str) -> None:
    good = '{"prompt": "A"}' if name == "p.jsonl" else "A"
    wrong, right = read(name, content.removesuffix("\n") + f"\n{good}\n")
    assert wrong == Record(f"{name}:2", {}, says)
    assert right.where == f"{name}:3"
    assert not right.wrong


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.csv", b"", "p.csv:1: the file is empty"),
        ("p.csv", b"\nprompt\nA fox\n", "p.csv:1: the first line must name the columns, each once: "),
        ("p.csv", b" ,,\n1,2,3\n", "p.csv:1: the first line must name the columns, each once:  , , "),
        ("p.csv", b"a,a\n1,2\n", "p.csv:1: the first line must name the columns, each once: a, a"),
        ("p.csv", b"sep=;\na b;a-b\n1;2\n", "p.csv:2: the first line must name the columns, each once: a b, a-b"),
        ("p.csv", b'prompt\nA fox\n"A heron\n' + b"x\n" * 9, f"p.csv:3: {NEVER_CLOSED}"),
        ("p.csv", b'prompt\n"A\nfox"\n"A heron\n' + b"x\n" * 99_999, f"p.csv:4: {NEVER_CLOSED}, or a cell is over 128 KiB"),
        ("p.csv", b'prompt\n"A "red" fox"\n', f"p.csv:2: {ILL_QUOTED}"),
        ("p.csv", b'prompt;a\n"A "red" fox";1\n', f"p.csv:2: {ILL_QUOTED}"),
        ("p.txt", b"A fox\ncaf\xe9 \x81\n", "p.txt:2: neither UTF-8 nor Windows-1252 text: save it as UTF-8"),
        ("p.txt", b"caf\xe9\nA\0fox\n", "p.txt:2: neither UTF-8 nor Windows-1252 text: save it as UTF-8"),
        ("p.txt", b"A\0fox\ncaf\xe9\n", "p.txt:1: neither UTF-8 nor Windows-1252 text: save it as UTF-8"),
        ("p.txt", b"\xef\xbb\xbfcaf\xe9\n", "p.txt:1: neither UTF-8 nor Windows-1252 text: save it as UTF-8"),
        ("p.txt", "Ein Fuß".encode("utf-16") + b"x", "p.txt:1: neither UTF-8 nor Windows-1252 text: save it as UTF-8"),
        ("p.txt", "A\nFuß 🦊\nA\n".encode() + b"caf\xe9\n", "p.txt:4: not UTF-8 text, and line 2 is"),
        ("p.jsonl", b'{"prompt": "A"}\n{"prompt": "caf\xe9"}\n', "p.jsonl:2: not UTF-8 text"),
        ("p.jsonl", '{"prompt": "A"}\n'.encode("utf-16"), "p.jsonl:1: the file is UTF-16: save it as UTF-8"),
    ],
)  # fmt: skip
def test_what_ends_the_reading_is_told_with_its_line(name: str, content: bytes, says: str) -> None:
    assert refused(name, content) == says
    assert refused(f"{name}.gz", content) == says.replace(name, f"{name}.gz")


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (b"prompt\nA fox\n", []),
        ("prompt\nCafé\n".encode(), []),
        ("prompt\nCafé\n".encode("utf-16"), []),
        (b"prompt\n\nA blue Caf\xe9, open\nna\xefve\n", ["p.csv is not UTF-8: read as Windows-1252 (line 3: 'Café')"]),
        (b"prompt\n\x93quoted\x94\n", ["p.csv is not UTF-8: read as Windows-1252 (line 2: '“quoted')"]),
        (b"prompt\n" + b"x" * 99 + b"\xe9\n", [f"p.csv is not UTF-8: read as Windows-1252 (line 2: '{'x' * 20}é')"]),
    ],
)  # fmt: skip
def test_a_note_says_that_a_file_is_not_utf_8(content: bytes, notes: list[str]) -> None:
    assert write("p.csv", content).notes() == notes


def test_controls_are_left_to_the_caller() -> None:
    assert values("p.csv", "prompt,n\nA\0fox\u202e,\x1b\n") == [["A\0fox\u202e", "\x1b"]]


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.readers.LINE_MOST", 1_000)
    for name in ("p.txt", "p.csv", "p.jsonl", "p.tsv.gz"):
        says = refused(name, "a\n" + "x" * 1_001)
        assert says == f"{name}:2: a line of over 16 MiB: is this a text file?"


@pytest.mark.parametrize("name", ["p.csv", "p.txt.gz"])
def test_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(ManifestError, match=f"^{name}: No such file or directory$"):
        list(feed(name, Path()).records())
    with pytest.raises(ManifestError):
        feed(name, Path()).notes()


@pytest.mark.parametrize("name", ["p.csv", "p.txt.gz"])
def test_a_folder_is_no_file(name: str) -> None:
    Path(name).mkdir()
    with pytest.raises(ManifestError, match=f"^{name}: Is a directory$"):
        list(feed(name, Path()).records())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read() -> None:
    write("p.csv", "prompt\nA fox\n").path.chmod(0)
    with pytest.raises(ManifestError, match=r"^p\.csv: Permission denied$"):
        list(feed("p.csv", Path()).records())


def test_a_named_pipe_is_refused_and_not_waited_for() -> None:
    os.mkfifo("p.csv")
    with pytest.raises(ManifestError, match="a pipe can be read only once"):
        list(feed("p.csv", Path()).records())


def test_a_gzip_of_several_members_is_one_file() -> None:
    Path("p.csv.gz").write_bytes(gzip.compress(b"prompt\nA f") + gzip.compress(b"ox\nA heron\n"))
    found = feed("p.csv.gz", Path()).records()
    assert [record.variables["prompt"] for record in found] == ["A fox", "A heron"]


WHOLE = gzip.compress("".join(f"A fox {n}\n" for n in range(1_000)).encode())
DAMAGE = {
    "cut off": WHOLE[:-200],
    "cut off in its sum": WHOLE[:-4],
    "cut off in its head": WHOLE[:5],
    "damaged": WHOLE[:500] + bytes(100) + WHOLE[600:],
    "with another sum": WHOLE[:-8] + bytes(8),
    "with something behind it": WHOLE + b"xx",
    "not zipped": b"A fox\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_gzip_gives_no_row(damage: str) -> None:
    Path("p.txt.gz").write_bytes(DAMAGE[damage])
    with pytest.raises(ManifestError, match=r"^p\.txt\.gz: the file is damaged or cut off$"):
        next(feed("p.txt.gz", Path()).records())


def test_a_file_that_changes_while_it_is_read() -> None:
    found = write("p.txt", "A fox\n" * 100_000).records()
    next(found)
    Path("p.txt").write_bytes(b"caf\xe9\n" * 100_000)
    with pytest.raises(ManifestError, match=r"^p\.txt: changed while it was read$"):
        list(found)


def test_a_reading_can_be_left_and_begun_again() -> None:
    found = write("p.csv", "prompt\n" + "A fox\n" * 10_000)
    assert next(found.records()) == next(found.records())
    assert len(list(found.records())) == 10_000


def program(script: str) -> list[str]:
    head = "import json; from pathlib import Path; from batchgen.readers import feed\n"
    return [sys.executable, "-c", head + script]


def said(script: str, content: bytes = b"") -> str:
    """What a program says that has this as its standard input."""
    return subprocess.run(program(script), input=content, stdout=subprocess.PIPE, check=True).stdout.decode()


TWICE = (
    "first, second = feed('-', Path('x'), {0!r}), feed('-', Path('y'), {0!r})\n"
    "assert first == second\n"
    "found = [[[r.where, r.variables] for r in each.records()] for each in (first, second)]\n"
    "assert found[0] == found[1]; print(json.dumps([str(first.path), first.notes(), found[0]]))"
)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("kind", "content", "rows"),
    [
        ("", b"A fox\n\nA heron", [["standard input:1", {"line": "A fox"}], ["standard input:3", {"line": "A heron"}]]),
        ("csv", b"id;prompt\n1;A fox\n", [["standard input:2", {"id": "1", "prompt": "A fox"}]]),
        ("jsonl", b'{"a": 1}', [["standard input:1", {"a": "1"}]]),
        ("", b"", []),
    ],
)  # fmt: skip
def test_standard_input_is_kept_and_read_twice(
    kind: str, content: bytes, rows: object, pack: Callable[[bytes], bytes]
) -> None:
    path, notes, found = json.loads(said(TWICE.format(kind), pack(content)))
    assert (notes, found) == ([], rows)
    assert not Path(path).exists()


def test_messages_call_standard_input_by_its_name() -> None:
    _, notes, _ = json.loads(said(TWICE.format(""), b"Caf\xe9\n"))
    assert notes == ["standard input is not UTF-8: read as Windows-1252 (line 1: 'Café')"]


SAYS = "try: list(feed('-', Path()).records())\nexcept Exception as error: print(error)"


def test_a_terminal_is_not_waited_for() -> None:
    ours, theirs = pty.openpty()
    try:
        out = subprocess.check_output(program(SAYS), stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert out == b"standard input is a terminal: pipe the prompts in\n"


def test_a_closed_standard_input_is_told() -> None:
    out = subprocess.check_output(["sh", "-c", 'exec "$@" <&-', "sh", *program(SAYS)])
    assert out == b"standard input is closed: pipe the prompts in\n"


GROWTH = (
    "import resource; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    "list(feed('small.csv', Path()).records()); before = peak()\n"
    "try: print(sum(1 for _ in feed({!r}, Path()).records()))\n"
    "except Exception as error: print(error)\n"
    "print((peak() - before) // 1024)"
)


def grown(name: str) -> tuple[str, int]:
    """What reading it comes to, and how many MiB it takes."""
    write("small.csv", "id,prompt\n1,A fox\n")
    found, mebibytes = said(GROWTH.format(name)).splitlines()
    return found, int(mebibytes)


def test_memory_does_not_grow_with_the_rows() -> None:
    write("p.csv.gz", "id,prompt\n" + "".join(f"{n},A fox {n}\n" for n in range(200_000)))
    found, mebibytes = grown("p.csv.gz")
    assert found == "200000"
    assert mebibytes < 4


def test_a_gzip_bomb_is_stopped_at_the_longest_line() -> None:
    with gzip.open("p.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(256):
            file.write(bytes(2**20))
    found, mebibytes = grown("p.csv.gz")
    assert found == "p.csv.gz:1: a line of over 16 MiB: is this a text file?"
    assert mebibytes < 100


PRINTABLE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from('\n",;\t|'), max_size=12)
WESTERN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from('éÀñüß\n",;\t|'), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[list[str]]]:
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    width = draw(st.integers(2, 4))
    cell = WESTERN if encoding == "cp1252" else PRINTABLE
    return encoding, draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), delimiter=st.sampled_from(",;\t|"), end=st.sampled_from(["\n", "\r\n"]))
def test_what_a_program_writes_is_read_back(table: tuple[str, list[list[str]]], delimiter: str, end: str) -> None:
    encoding, rows = table
    names = [f"c{n}" for n in range(len(rows[0]))]
    wanted = []
    with open("p.csv", "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerow(names)
        line = 2
        for row in rows:
            writer.writerow(row)
            if any(cell.strip() for cell in row):
                wanted.append(Record(f"p.csv:{line}", dict(zip(names, row, strict=True))))
            line += 1 + sum(cell.count("\n") for cell in row)
    assert list(feed("p.csv", Path()).records()) == wanted
