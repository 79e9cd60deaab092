"""Sources become rows, one at a time; what is wrong in a file is told with its line."""
# ruff: noqa: E501 (a mistake and its message stand in one line)

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen import manifest, parameters
from batchgen.errors import ManifestError
from batchgen.inputs import Gallery
from batchgen.manifest import Setup
from batchgen.parameters import Combination
from batchgen.rows import Row, rows
from batchgen.task import Params

HEAD = "name: a\nprovider: openai\nmodel: gpt-image-2\nprompts:\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The current folder for a test, so that messages have short paths."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def read(source: str, more: str = "") -> list[Row]:
    return list(rows(manifest.loads(f"{HEAD}  - {source}\n{more}", Path("x.yaml"), Setup({})), Gallery(Path())))


def prompts(source: str) -> list[str]:
    return [row.prompt for row in read(source)]


def refused(source: str, more: str = "") -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(source, more)
    return list(caught.value.problems)


def write(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


def test_plain_text_is_no_template() -> None:
    text = "It costs $5, {name} and 100 % {# no comment #}, a lone {{ too"
    assert prompts(f'"  {text}  "') == [text]
    says = 'prompts.0: {{ animal }} in plain text is sent as it stands: write prompt: "…" with vars: or file:'
    assert refused('"A {{ animal }}"') == [f"x.yaml:5:5: {says}"]


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


def test_a_line_of_a_text_file_is_no_template_and_may_be_a_variable_of_one(folder: Path) -> None:
    write("p.txt", "A fox  \n\n  \n\tA heron, 50%\r\nA {{ carp }}")
    assert prompts("file: p.txt") == ["A fox", "A heron, 50%", "A {{ carp }}"]
    assert [row.where for row in read("file: p.txt")] == ["p.txt:1", "p.txt:4", "p.txt:5"]
    assert prompts("{file: p.txt, prompt: '{{ line }}, in oil', take: 1}") == ["A fox, in oil"]


@pytest.mark.parametrize("column", ["prompt", "Prompt", "PROMPT"])
def test_a_column_named_prompt_is_sent_as_it_stands(folder: Path, column: str) -> None:
    write("p.csv", f"id,{column}\n1, A {{{{ fox }}}} \n")
    assert prompts("file: p.csv") == ["A {{ fox }}"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.csv", "prmpt\nA fox\n", "x.yaml:5:5: prompts.0: p.csv has no column prompt (did you mean prmpt?); its first line names prmpt: write prompt: with {{ … }} around some of them"),
        ("p.csv", "id,prompt\n1,\n", "p.csv:2: the prompt is empty"),
        ("p.txt", "A fox\0\n", "p.txt:1: the prompt holds the character U+0000, which cannot be seen"),
        ("p.txt", "A \u202efox\n", "p.txt:1: the prompt holds the character U+202E, which cannot be seen"),
        ("p.jsonl", '{"prompt": "\\ud800"}\n', "p.jsonl:1: the prompt holds the character U+D800, which cannot be seen"),
        ("p.txt", "x" * 32_001, "p.txt:1: the prompt has 32,001 characters, and openai takes at most 32,000"),
        ("p.jsonl", '{"prompt": "A"}\n["A"]\n', 'p.jsonl:2: must be {"name": "text", …}: this is a list'),
        ("p.csv", "prompt,a\nA fox, red,b\n", "p.csv:2: 3 cells, and the first line names 2 columns: put the cell that holds a comma in quotes"),
        ("p.csv", 'prompt\nA fox\n"A heron\n', "p.csv:3: a quote is opened here and never closed"),
        ("p.csv", "", "p.csv:1: the file is empty"),
        ("p.csv", "prompt\n", "x.yaml:5:5: no prompt came out of p.csv"),
        ("p.txt", " \n\n", "x.yaml:5:5: no prompt came out of p.txt"),
    ],
)  # fmt: skip
def test_u8_u13_a_mistake_in_a_file_is_told_with_its_line(folder: Path, name: str, content: str, says: str) -> None:
    write(name, content)
    assert refused(f"file: {name}") == [says]


def test_a_file_that_is_not_there(folder: Path) -> None:
    assert refused("file: p.csv") == ["p.csv: No such file or directory"]


def test_an_undefined_variable_names_the_nearest_column(folder: Path) -> None:
    write("p.csv", "animal,style\n" + "fox,oil\n" * 100)
    assert refused("{file: p.csv, prompt: 'A {{ animl }}'}") == [
        "x.yaml:5:5: prompts.0.prompt: p.csv has no column animl (did you mean animal?); it has animal, style"
    ]


def test_a_variable_of_the_output_path_is_looked_for_in_every_row(folder: Path) -> None:
    write("p.jsonl", '{"prompt": "A", "sku": 1}\n{"prompt": "B"}\n')
    assert refused("file: p.jsonl", 'output: {path: "{{ sku }}"}\n') == ["p.jsonl:2: {{ sku }} is not defined"]


def test_files_are_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("A fox\n", encoding="utf-8")
    (tmp_path / "x.yaml").write_text(HEAD + "  - file: p.txt\n", encoding="utf-8")
    (row,) = rows(manifest.load(tmp_path / "x.yaml", Setup({})), Gallery(tmp_path))
    assert row == Row(1, "A fox", {"line": "A fox"}, f"{tmp_path / 'p.txt'}:1")


def test_the_problems_of_all_files_are_told_at_once(folder: Path) -> None:
    write("a.csv", "prompt\n\n x\n' '\n")
    write("b.csv", 'prompt,a\nA fox, red, b\n"A heron')
    found = refused("file: a.csv\n  - file: b.csv\n  - file: c.csv")
    assert [problem.partition(": ")[0] for problem in found] == ["b.csv:2", "b.csv:3", "c.csv"]


def test_twenty_problems_are_enough(folder: Path) -> None:
    write("p.txt", "\0\n" * 100)
    found = refused("file: p.txt")
    assert len(found) == 21
    assert found[-1] == "… and perhaps more"


def settings_of(source: str, more: str = "") -> list[Params]:
    return [row.settings for row in read(source, more)]


def test_a_row_sets_parameters_and_an_empty_cell_leaves_the_default(folder: Path) -> None:
    write("p.csv", "prompt,size,n,model\nA,1024x1024,2,gpt-image-2.5\nB, auto , ,\nC,,,\n")
    source = "{file: p.csv, size: '{{ size }}', n: '{{ n }}', model: '{{ model }}', background: opaque}"
    assert settings_of(source, "request: {size: 1536x1024, quality: low}\n") == [
        (("background", "opaque"), ("model", "gpt-image-2.5"), ("n", 2), ("size", "1024x1024")),
        (("background", "opaque"), ("size", "auto")),
        (("background", "opaque"),),
    ]


def test_a_template_sets_parameters_from_its_values() -> None:
    source = "{prompt: A {{ animal }}, vars: {animal: [fox], q: [low, high]}, quality: '{{ q }}'}"
    assert settings_of(source.replace("prompt: A {{ animal }}", "prompt: 'A {{ animal }}'")) == [
        (("quality", "low"),),
        (("quality", "high"),),
    ]


@pytest.mark.parametrize(
    ("cells", "more", "says"),
    [
        ("quality,hihg", "", "quality: 'hihg' is not one of auto, low, medium, high (did you mean high?)"),
        ("size,10", "", "size: '10' is not a size such as 1024x1024"),
        ("size,512x512", "", "size: gpt-image-2 does not paint 512x512: 262,144 pixels are not between 655,360 and 8,294,400"),
        ("n,two", "", "n: 'two' is not a whole number"),
        ("n,11", "", "n: 11 is more than 10"),
        ("complexity,low", "", "complexity: gpt-image-2 has no complexity"),
        ("output_compression,50", "", "output_compression is for jpeg and webp only"),
        ("output_format,jpeg", "request: {background: transparent}\n", "a transparent background needs output_format png or webp"),
        ("quality,max", "matrix: {model: [gpt-image-2.5, gpt-image-2]}\n", "quality: gpt-image-2 has no quality max (it has low, medium, high, auto)"),
    ],
)  # fmt: skip
def test_what_a_row_sets_is_checked_in_every_variant(folder: Path, cells: str, more: str, says: str) -> None:
    name, value = cells.split(",")
    write("p.csv", f"prompt,{name}\nA fox,\nA heron,{value}\nA carp,\nAn otter,{value}\n")
    found = refused(f"{{file: p.csv, {name}: '{{{{ {name} }}}}'}}", more)
    assert found == [f"p.csv:{line}: {says}" for line in (3, 5)]


def test_a_value_of_a_models_own_is_allowed_to_the_rows_that_set_that_model(folder: Path) -> None:
    write("p.csv", "prompt,quality,model\nA fox,max,gpt-image-2.5\nA heron,max,\n")
    says = "quality: gpt-image-2 has no quality max (it has low, medium, high, auto)"
    assert refused("{file: p.csv, quality: '{{ quality }}', model: '{{ model }}'}") == [f"p.csv:3: {says}"]


def test_a_row_has_the_name_that_its_user_gives_it(folder: Path) -> None:
    write("p.csv", "sku,prompt\n 4711 ,A fox\n007,A heron\n")
    assert [row.id for row in read("{file: p.csv, id: 'item-{{ sku }}'}")] == ["item- 4711", "item-007"]
    assert [row.id for row in read("{prompt: A fox, id: 1.50}")] == ["1.50"]
    assert [row.id for row in read("file: p.csv")] == ["", ""]


def test_a_name_is_one_rows_alone_but_for_equal_rows(folder: Path) -> None:
    write("p.csv", "sku,prompt,size\n1,A fox,auto\n1, A fox ,auto\n1,A fox,1024x1024\n2,A fox,auto\n1,A heron,auto\n")
    assert refused("{file: p.csv, id: '{{ sku }}', size: '{{ size }}'}") == [
        "p.csv:4: the id '1' is another row's too",
        "p.csv:6: the id '1' is another row's too",
    ]


@pytest.mark.parametrize(
    ("name", "says"), [("", "the id is empty"), ("a\u200bb", "the id holds characters that cannot be seen")]
)
def test_a_name_can_be_seen(folder: Path, name: str, says: str) -> None:
    write("p.csv", f"sku,prompt\n{name},A fox\n")
    assert refused("{file: p.csv, id: '{{ sku }}'}") == [f"p.csv:2: {says}"]


def test_a_variable_is_found_whatever_the_case_of_its_column(folder: Path) -> None:
    write("p.csv", "Animal,STYLE,style\nfox,oil,ink\n")
    assert prompts("{file: p.csv, prompt: 'A {{ animal }} in {{ style }}'}") == ["A fox in ink"]
    assert refused("{file: p.csv, prompt: 'A {{ Style }}'}") == [
        "x.yaml:5:5: prompts.0.prompt: p.csv has no column Style (did you mean style?); it has Animal, STYLE, style"
    ]


def test_a_huge_number_of_rows_with_the_same_settings_is_judged_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Combination] = []
    real = parameters.wrong

    def counted(combination: Combination) -> str:
        judged.append(combination)
        return real(combination)

    monkeypatch.setattr(parameters, "wrong", counted)
    write("p.csv", "prompt,size\n" + "".join(f"Fox {n},{'auto' if n % 2 else '1024x1024'}\n" for n in range(100)))
    assert len(read("{file: p.csv, size: '{{ size }}'}")) == 100
    assert len(judged) == 2


def test_no_row_comes_after_a_problem(folder: Path) -> None:
    write("p.txt", "A fox\n\0\nA heron\n")
    found = rows(manifest.loads(HEAD + "  - file: p.txt\n", Path("x.yaml"), Setup({})), Gallery(Path()))
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
        "import resource, sys; from pathlib import Path; from batchgen import inputs, manifest, rows\n"
        "found = manifest.load(Path(sys.argv[1]), manifest.Setup({}))\n"
        "gallery = inputs.Gallery(found.folder); next(iter(rows.rows(found, gallery))); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(1 for _ in rows.rows(found, gallery)); after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(count, after - before)"
    )
    (tmp_path / "p.csv").write_text("id,prompt\n" + "".join(f"{n},A fox {n}\n" for n in range(100_000)), "utf-8")
    (tmp_path / "x.yaml").write_text(HEAD + "  - file: p.csv\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "x.yaml"], capture_output=True, text=True, check=True
    )
    count, grown_kib = map(int, done.stdout.split())
    assert count == 100_000
    assert grown_kib < 4_096
