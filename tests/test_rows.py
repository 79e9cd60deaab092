"""Sources become rows, one at a time; what is wrong in a file is told with its line."""
# ruff: noqa: E501 (a mistake and its message stand in one line)

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen import manifest
from batchgen.errors import ManifestError
from batchgen.rows import Row, rows

HEAD = "name: a\nprovider: openai\nmodel: gpt-image-2\nprompts:\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The current folder for a test, so that messages have short paths."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def read(source: str, more: str = "") -> list[Row]:
    return list(rows(manifest.loads(f"{HEAD}  - {source}\n{more}", Path("x.yaml"), {})))


def prompts(source: str) -> list[str]:
    return [row.prompt for row in read(source)]


def refused(source: str, more: str = "") -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(source, more)
    return list(caught.value.problems)


def write(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


def test_plain_text_is_no_template() -> None:
    text = "It costs $5, {name}, {{ animal }} and 100 % {# no comment #}"
    assert prompts(f'"  {text}  "') == [text]


def test_a_template_is_made_with_every_combination_of_its_values() -> None:
    found = read("{prompt: ' An {{ style }} {{ animal }} ', vars: {style: [oil, ink], animal: [fox, heron]}}")
    assert [row.prompt for row in found] == ["An oil fox", "An oil heron", "An ink fox", "An ink heron"]
    assert [row.number for row in found] == [1, 2, 3, 4]
    assert found[1].variables == {"style": "oil", "animal": "heron"}
    assert found[1].where == "x.yaml:5:5"


def test_a_template_without_values_is_one_prompt() -> None:
    assert prompts("prompt: A fox{{ '!' * 3 }}") == ["A fox!!!"]


def test_a_template_cannot_look_behind_its_values() -> None:
    (problem,) = refused('{prompt: "{{ a.__class__ }}", vars: {a: [b]}}')
    assert problem == "x.yaml:5:5: the template fails: access to attribute '__class__' of 'str' object is unsafe."


def test_a_text_file_has_a_prompt_a_line(folder: Path) -> None:
    write("p.txt", "A fox  \n\n  \n\tA heron, 50%\r\nA {{ carp }}")
    assert prompts("file: p.txt") == ["A fox", "A heron, 50%", "A {{ carp }}"]
    assert [row.where for row in read("file: p.txt")] == ["p.txt:1", "p.txt:4", "p.txt:5"]
    assert prompts("{file: p.txt, prompt: '{{ line }}, in oil', take: 1}") == ["A fox, in oil"]


def test_a_comma_table_gives_its_columns_as_variables(folder: Path) -> None:
    write("p.csv", 'sku,Product name,2nd\n1,"Fox, ""red""",x\n\n2,"two\nlines",y\n,,\n3,last,z\n')
    found = read("{file: p.csv, prompt: '{{ sku }}: {{ Product_name }} {{ _2nd }}'}")
    assert [row.prompt for row in found] == ['1: Fox, "red" x', "2: two\nlines y", "3: last z"]
    assert [row.where for row in found] == ["p.csv:2", "p.csv:4", "p.csv:7"]


@pytest.mark.parametrize("column", ["prompt", "Prompt", "PROMPT"])
def test_a_column_named_prompt_is_sent_as_it_stands(folder: Path, column: str) -> None:
    write("p.csv", f"id,{column}\n1, A {{{{ fox }}}} \n")
    assert prompts("file: p.csv") == ["A {{ fox }}"]


def test_a_tab_table_knows_no_quotes(folder: Path) -> None:
    cells = ['"G I G G L E" in graffiti', 'a sign that says "Deep', 'Longest word: "a, b"', "it's"]
    write("p.tsv", "Prompt\tNote\n" + "".join(f"{cell}\t\n" for cell in cells))
    assert prompts("file: p.tsv") == cells


def test_a_file_of_json_lines(folder: Path) -> None:
    lines = [{"prompt": "A fox", "n": 3}, {"prompt": "A {{ n }}", "flag": True, "none": None, "list": [1, "é"]}]
    write("p.jsonl", "\n".join(json.dumps(line) for line in lines) + "\n\n")
    found = read("file: p.jsonl")
    assert [row.prompt for row in found] == ["A fox", "A {{ n }}"]
    assert found[0].variables == {"prompt": "A fox", "n": "3"}
    assert found[1].variables == {"prompt": "A {{ n }}", "flag": "true", "none": "", "list": '[1,"é"]'}


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.txt"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_u13_line_ends_and_a_byte_order_mark_change_nothing(folder: Path, name: str, end: str) -> None:
    head = "" if name == "p.txt" else f"prompt{end}"
    write(name, f"\ufeff{head}A fox{end}Un renard é{end}")
    assert prompts(f"file: {name}") == ["A fox", "Un renard é"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.txt", "A fox".encode("utf-16"), "p.txt:1:1: the file is UTF-16: save it as UTF-8"),
        ("p.txt", b"A fox\ncaf\xe9", "p.txt:2: not UTF-8 text"),
        ("p.csv", b"", "p.csv:1: the first line must name the columns, each once: "),
        ("p.csv", b"a,a\n1,2\n", "p.csv:1: the first line must name the columns, each once: a, a"),
        ("p.csv", b"prompt,a\nA fox, red\nA heron,b,c\n", "p.csv:3: 3 cells, and the first line names 2 columns"),
        ("p.csv", b'prompt\nA fox\n"A heron\n' + b"x\n" * 9, "p.csv:3: a quote is opened here and never closed"),
        ("p.csv", b'prompt\n"A "red" fox"\n', 'p.csv:2: inside a quoted cell a quote is written twice: ""'),
        ("p.csv", b"prmpt\nA fox\n", "p.csv:2: no column is named prompt: write prompt: with {{ … }} around some of prmpt"),
        ("p.csv", b"id;prompt\n1;A fox\n", "p.csv:1: columns are separated by commas (.csv) or tabs (.tsv), not by ;"),
        ("p.tsv", b"prompt\ta\nA fox\n", "p.tsv:2: 1 cells, and the first line names 2 columns"),
        ("p.csv", b"id,prompt\n1,\n", "p.csv:2: the prompt is empty"),
        ("p.txt", b"A fox\0\n", "p.txt:1: the prompt holds the character U+0000, which cannot be seen"),
        ("p.txt", "A \u202efox\n", "p.txt:1: the prompt holds the character U+202E, which cannot be seen"),
        ("p.jsonl", b'{"prompt": "\\ud800"}\n', "p.jsonl:1: the prompt holds the character U+D800, which cannot be seen"),
        ("p.txt", b"x" * 32_001, "p.txt:1: the prompt has 32,001 characters, and openai takes at most 32,000"),
        ("p.jsonl", b'{"prompt": "A"}\n["A"]\n', "p.jsonl:2: not a JSON object: a line holds {…}"),
        ("p.jsonl", b'{"prompt": NaN}\n', "p.jsonl:1: not a JSON object: NaN is no JSON"),
        ("p.jsonl", b'{"prompt: 1}\n', "p.jsonl:1: not a JSON object: Unterminated string starting at (column 2)"),
    ],
)  # fmt: skip
def test_u8_u13_a_mistake_in_a_file_is_told_with_its_line(
    folder: Path, name: str, content: str | bytes, says: str
) -> None:
    write(name, content)
    assert refused(f"file: {name}") == [says]


def test_deep_json_is_refused(folder: Path) -> None:
    write("p.jsonl", "[" * 100_000)
    assert refused("file: p.jsonl") == ["p.jsonl:1: not a JSON object: nested too deeply"]


def test_a_line_without_end_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.rows.LINE_MOST", 1_000)
    write("p.txt", "x" * 1_001)
    assert refused("file: p.txt") == ["p.txt:1: a line of over 16 MiB: is this a text file?"]


def test_a_file_that_is_not_there(folder: Path) -> None:
    assert refused("file: p.csv") == ["p.csv: No such file or directory"]


def test_an_undefined_variable_names_the_nearest_column(folder: Path) -> None:
    write("p.csv", "animal,style\n" + "fox,oil\n" * 100)
    assert refused("{file: p.csv, prompt: 'A {{ animl }}'}") == [
        "p.csv:2: {{ animl }} is not defined (did you mean animal?)"
    ]


def test_a_variable_of_the_output_path_is_looked_for_in_every_row(folder: Path) -> None:
    write("p.jsonl", '{"prompt": "A", "sku": 1}\n{"prompt": "B"}\n')
    assert refused("file: p.jsonl", 'output: {path: "{{ sku }}"}\n') == ["p.jsonl:2: {{ sku }} is not defined"]


def test_files_are_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("A fox\n", encoding="utf-8")
    (tmp_path / "x.yaml").write_text(HEAD + "  - file: p.txt\n", encoding="utf-8")
    (row,) = rows(manifest.load(tmp_path / "x.yaml", {}))
    assert row == Row(1, "A fox", {"line": "A fox"}, f"{tmp_path / 'p.txt'}:1")


def test_the_problems_of_all_files_are_told_at_once(folder: Path) -> None:
    write("a.csv", "prompt\n\n x\n' '\n")
    write("b.csv", 'prompt,a\nA fox\n"A heron')
    found = refused("file: a.csv\n  - file: b.csv\n  - file: c.csv")
    assert [problem.partition(": ")[0] for problem in found] == ["b.csv:2", "b.csv:3", "c.csv"]


def test_twenty_problems_are_enough(folder: Path) -> None:
    write("p.txt", "\0\n" * 100)
    found = refused("file: p.txt")
    assert len(found) == 21
    assert found[-1] == "… and perhaps more"


def test_no_row_comes_after_a_problem(folder: Path) -> None:
    write("p.txt", "A fox\n\0\nA heron\n")
    found = rows(manifest.loads(HEAD + "  - file: p.txt\n", Path("x.yaml"), {}))
    assert next(found).prompt == "A fox"
    with pytest.raises(ManifestError):
        next(found)


def test_take_is_the_first_rows_and_looks_no_further(folder: Path) -> None:
    write("p.txt", "A\nB\nC\n\0\n")
    assert prompts("{file: p.txt, take: 2}") == ["A", "B"]
    assert prompts("{file: p.txt, take: 3}") == ["A", "B", "C"]


def test_shuffle_takes_other_rows_for_another_seed(folder: Path) -> None:
    write("p.txt", "".join(f"Prompt {n}\n" for n in range(1_000)))
    samples = [prompts(f"{{file: p.txt, take: 20, shuffle: {seed}}}") for seed in (7, 7, 8)]
    assert samples[0] == samples[1] != samples[2]
    assert len(samples[0]) == 20
    assert samples[0] == sorted(samples[0], key=lambda prompt: int(prompt.split()[1]))
    assert not set(samples[0]) <= {f"Prompt {n}" for n in range(500)}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.from_regex("[a-z]{1,8}", fullmatch=True), unique=True, min_size=3), seed=st.integers(0, 99))
def test_raising_take_keeps_the_sample_in_any_order_of_the_file(folder: Path, lines: list[str], seed: int) -> None:
    write("p.txt", "\n".join(lines))
    few = prompts(f"{{file: p.txt, take: 2, shuffle: {seed}}}")
    more = prompts(f"{{file: p.txt, take: 3, shuffle: {seed}}}")
    write("p.txt", "\n".join(reversed(lines)))
    again = prompts(f"{{file: p.txt, take: 2, shuffle: {seed}}}")
    assert set(few) == set(again) <= set(more)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from batchgen import manifest, rows\n"
        "found = manifest.load(Path(sys.argv[1]), {})\n"
        "next(iter(rows.rows(found))); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(1 for _ in rows.rows(found)); after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(count, after - before)"
    )
    (tmp_path / "p.csv").write_text("id,prompt\n" + "".join(f"{n},A fox {n}\n" for n in range(200_000)), "utf-8")
    (tmp_path / "x.yaml").write_text(HEAD + "  - file: p.csv\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "x.yaml"], capture_output=True, text=True, check=True
    )
    count, grown_kib = map(int, done.stdout.split())
    assert count == 200_000
    assert grown_kib < 4_096
