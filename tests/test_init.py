"""A first manifest: never over another, whatever it is called, and true to its own comments."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_offer import planned, said
from world import World

from batchgen.folder import find

PRODUCTS = "sku,description,quality\nmug-1,A red mug,\nmug-2,A blue mug,\n"


def init(world: World, *file: str) -> str:
    made = said(world, "init", "--", *file)
    assert made.returncode == 0, made.stderr
    return str(made.stdout)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ((), "first"),
        (("otters.yaml",), "otters"),
        (("jobs/animals.yaml",), "animals"),
        (("a/b/c/animals.yml",), "animals"),
        (("a b.yaml",), "a-b"),
        (("2024.yaml",), "2024"),
        (("007.yaml",), "007"),
        (("1.50.yaml",), "1.50"),
        (("true.yaml",), "true"),
        (("no.yaml",), "no"),
        (("16:9.yaml",), "16-9"),
        (("#1.yaml",), "1"),
        (("-x.yaml",), "x"),
        ((".hidden.yaml",), "hidden"),
        (("a..yaml",), "a"),
        (("two\nlines.yaml",), "two-lines"),
        (("日本.yaml",), "first"),
        (("'; DROP TABLE tasks.yaml",), "DROP-TABLE-tasks"),
    ],
)
def test_a_manifest_of_any_name_is_one_that_plans(world: World, file: tuple[str, ...], name: str) -> None:
    init(world, *file)
    (path,) = [path for path in world.folder.rglob("*") if path.is_file()]
    plan = json.loads(said(world, "plan", "--json", "--", str(path)).stdout)
    assert (plan["job"], plan["tasks"], plan["warnings"]) == (name, 15, [])


@pytest.mark.parametrize("stem", ["null", "1e99", "x" * 101, "Null-and-void" * 9])
def test_a_name_that_would_be_none_is_made_one(world: World, stem: str) -> None:
    init(world, f"{stem}.yaml")
    assert said(world, "plan", f"{stem}.yaml").returncode == 0


@pytest.mark.parametrize("there", ["a file", "an empty file", "a folder", "a link", "a link to nothing"])
def test_what_is_there_is_never_touched(world: World, there: str) -> None:
    path, other = world.folder / "otters.yaml", world.folder / "other.yaml"
    other.write_text("mine: too\n")
    match there:
        case "a folder":
            path.mkdir()
        case "a link":
            path.symlink_to(other)
        case "a link to nothing":
            path.symlink_to(world.folder / "nowhere.yaml")
        case _:
            path.write_text("mine\n" if there == "a file" else "")
    before = (path.lstat().st_mtime_ns, other.read_text(), sorted(world.folder.iterdir()))
    refused = said(world, "init", "otters.yaml")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (path.lstat().st_mtime_ns, other.read_text(), sorted(world.folder.iterdir())) == before


@pytest.mark.parametrize("file", ["otters", "otters.json", "otters.YAML", "otters.yaml.txt", ".yaml", "-", ""])
def test_only_what_run_would_take_for_a_manifest_is_written(world: World, file: str) -> None:
    assert said(world, "init", "--", file).returncode == 2
    assert list(world.folder.iterdir()) == []


def test_a_file_in_the_way_of_its_folder_is_told_in_one_line(world: World) -> None:
    (world.folder / "jobs").write_text("in the way")
    refused = said(world, "init", "jobs/animals.yaml")
    assert (refused.returncode in (2, 5), len(refused.stderr.splitlines())) == (True, 1)
    assert (world.folder / "jobs").read_text() == "in the way"


def test_a_file_in_the_way_is_told_without_a_word_of_money(world: World) -> None:
    (world.folder / "jobs").write_text("in the way")
    assert "paid for" not in said(world, "init", "jobs/animals.yaml").stderr


# what its comments say


@pytest.fixture
def first(world: World) -> Path:
    init(world)
    return world.folder / "jobs" / "first.yaml"


def test_it_makes_what_it_says(world: World, first: Path) -> None:
    """One prompt and every combination of its variables, each in every combination but the one that is left out."""
    text = yaml.safe_load(first.read_text())
    plan = planned(world, "jobs/first.yaml")
    rows = 1 + len(text["prompts"][1]["vars"]["style"]) * len(text["prompts"][1]["vars"]["animal"])
    assert (plan["rows"], plan["tasks"], plan["images"]) == (rows, rows * (2 * 2 - 1), 15)
    cells = [(group["axes"]["size"], group["axes"]["quality"]) for group in plan["groups"]]
    assert ("1536x1024", "medium") not in cells
    assert len(cells) == 3
    assert plan["cost"]["high"] <= text["limits"]["budget"]
    assert [host["key"] for host in plan["hosts"]] == ["OPENAI_API_KEY"]


def test_more_samples_are_only_the_difference(world: World, first: Path) -> None:
    assert planned(world, "jobs/first.yaml", "--set", "samples=2")["tasks"] == 30


def test_it_rehearses_as_it_stands(world: World, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_SANDBOX", "--paint cached --paint-bytes 3000")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert said(world, "run", "jobs/first.yaml", "--sandbox").returncode == 0
    made = find(str(world.folder / "runs" / "first.sandbox"), None).images
    assert len(list(made.rglob("*.jpg"))) == 15


def test_without_a_key_nothing_is_begun(world: World, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    refused = said(world, "run", "jobs/first.yaml")
    assert (refused.returncode, "OPENAI_API_KEY is not set" in refused.stderr) == (2, True)
    assert not (world.folder / "runs").exists()


def test_the_path_in_its_comment_can_be_used(world: World, first: Path) -> None:
    first.write_text(first.read_text().replace("# output:", "output:"))
    assert planned(world, "jobs/first.yaml")["tasks"] == 15


def test_the_source_in_its_comment_can_be_used(world: World, first: Path) -> None:
    text = re.sub(r"^  # (- file|  (?:id|prompt|quality|take):)", r"  \1", first.read_text(), flags=re.MULTILINE)
    first.write_text(text)
    (first.parent / "products.csv").write_text(PRODUCTS)
    assert planned(world, "jobs/first.yaml")["rows"] == 7


def test_its_comment_names_its_own_folder(world: World) -> None:
    init(world, "jobs/animals.yaml")
    assert "runs/first" not in (world.folder / "jobs" / "animals.yaml").read_text()


def commands(text: str) -> list[list[str]]:
    """The commands to copy, as a shell reads them."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("  batchgen ")]
    return [shlex.split(line.partition("      ")[0])[1:] for line in lines]


def test_what_it_says_to_do_next_can_be_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_SANDBOX", "--paint cached --paint-bytes 3000")
    told: Any = commands(init(world))
    assert [command[0] for command in told] == ["plan", "run"]
    assert [said(world, *command).returncode for command in told] == [0, 0]


@pytest.mark.parametrize("file", ["my jobs/first.yaml", "it's.yaml"])
def test_what_it_says_to_do_next_can_be_done_whatever_the_file_is_called(world: World, file: str) -> None:
    plan, _ = commands(init(world, file))
    assert (plan, said(world, *plan).returncode) == (["plan", file], 0)
