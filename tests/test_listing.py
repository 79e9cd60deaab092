"""The tasks of one state: a spreadsheet runs nothing of them, and a prompt that comes back from one is the same."""

import csv
import io
import json
import re
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli import CONTROL, on_a_terminal
from world import HERON, OTTER, World, many

from batchgen import listing
from batchgen.commands.details import LISTED_MOST
from batchgen.listing import BESIDE, FIRST
from batchgen.task import TaskState
from batchgen.text import shielded, unshielded

BEGINNINGS = (
    "=1+1",
    "+1",
    "-1",
    "@x",
    "'=1",
    "''+1",
    "'tis",
    "''twas",
    "two\nlines",
    "a\rb",
    'a "b", c; d',
    "ü 🦦 \\n",
)
REFUSED = [f"{begin} [moderated]" for begin in BEGINNINGS]
LONG = f"{'x' * 30_000} [moderated]"
RUNS = ("=", "+", "-", "@", "\t", "\r")


@given(st.text(st.sampled_from("'=+-@\t\ra\n"), max_size=5) | st.text())
def test_a_cell_gives_back_its_text_and_is_no_formula(text: str) -> None:
    cell = shielded(text)
    assert unshielded(cell) == text
    assert not cell.startswith(RUNS)
    if not text.startswith("'"):
        assert unshielded(cell.removeprefix("'")) == text, "a spreadsheet may take the apostrophe for its own"


def listed(world: World, state: str) -> list[dict[str, str]]:
    """Read letter by letter: a return is no line end."""
    command = [sys.executable, "-m", "batchgen", "report", "otters.yaml", "--state", state, "--csv"]
    said = subprocess.run(command, cwd=world.folder, capture_output=True, check=True, timeout=60)
    assert said.stderr == b""
    return list(csv.DictReader(io.StringIO(said.stdout.decode(), newline="")))


def test_prompts_that_were_refused_survive_the_way_through_a_spreadsheet(world: World) -> None:
    world.run(prompts=[OTTER, *REFUSED, LONG], matrix={"quality": ["low", "high"]}, request={"size": "1024x1024"})
    rows = listed(world, "refused")
    assert [*rows[0]] == [*FIRST, "quality", "size", *BESIDE]
    assert {unshielded(row["prompt"]) for row in rows} == {*REFUSED, LONG}
    found = dict(world.rows("SELECT key, prompt FROM v_tasks WHERE state = 'refused'"))
    assert {row["task"]: unshielded(row["prompt"]) for row in rows} == found
    assert not any(cell.startswith(RUNS) for row in rows for cell in row.values())
    assert {(row["quality"], row["size"], row["attempts"], row["state"], row["axes"]) for row in rows} == {
        (quality, "1024x1024", "1", "refused", "") for quality in ("low", "high")
    }
    assert {row["code"] for row in rows} == {"moderation_blocked"}
    assert all("safety system" in row["error"] for row in rows)


def test_a_row_tells_its_names_its_labels_and_its_values_as_json_has_them(world: World) -> None:
    (world.folder / "rows.csv").write_text("sku,text\nb,A fox [moderated]\na,A fox [moderated]\n")
    targets = [{"as": "two", "quality": "low"}, {"as": "odd", "quality": "high", "n": 2}]
    sources = [{"file": "rows.csv", "id": "{{ sku }}", "prompt": "{{ text }}"}]
    world.run(prompts=sources, matrix={"target": targets})
    two, odd = listed(world, "refused")
    assert (two["ids"], two["axes"], two["n"], two["sample"]) == ("a, b", "target=two", "", "1")
    assert (odd["ids"], odd["axes"], odd["n"], odd["model"]) == ("a, b", "target=odd", "2", "gpt-image-2")
    said = world.command("report", "otters.yaml", "--state", "refused", "--json")
    told: dict[str, Any] = json.loads(said.stdout)
    assert (told["schema_version"], told["state"], len(told["tasks"])) == (1, "refused", 2)
    last = told["tasks"][1]
    assert (last["ids"], last["axes"], last["inputs"]) == (["a", "b"], {"target": "odd"}, [])
    assert last["params"] == {"n": 2, "quality": "high", "size": "1024x1024"}
    assert last.keys() == {*FIRST, *BESIDE, "params"}


def test_only_wanted_tasks_of_that_state_are_told(world: World) -> None:
    ledger = world.run_folder / "ledger.db"
    world.run(prompts=[OTTER, HERON, "A fox [moderated]"])
    world.run(prompts=[OTTER])
    assert [each.prompt for each in listing.listed(ledger, TaskState.DONE)] == [OTTER]
    assert list(listing.listed(ledger, TaskState.REFUSED)) == []
    assert listed(world, "refused") == []
    assert listing.columns(ledger, TaskState.HELD) == (*FIRST, *BESIDE)


def test_many_are_read_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", 3)
    for count in (5, 6, 7):
        world.run(prompts=many(count))
        found = [each.prompt for each in listing.listed(world.run_folder / "ledger.db", TaskState.DONE)]
        assert found == many(count)


def test_a_terminal_shows_the_first_of_them_and_is_not_steered(world: World) -> None:
    (world.folder / "rows.jsonl").write_text(json.dumps({"text": "A\x1b]0;title\x07 fox\r\x1b[2J [moderated]"}) + "\n")
    prompts = [{"file": "rows.jsonl", "prompt": "{{ text }}"}, *(f"{prompt} [moderated]" for prompt in many(60))]
    world.run(prompts=prompts)
    shown = on_a_terminal(world, "report", "otters.yaml", "--state", "refused", COLUMNS="100", NO_COLOR="1")
    shown = re.sub(r"\x1b\[[01]m", "", shown).replace("\r\n", "\n")
    lines = shown.splitlines()
    assert f"These are the first {LISTED_MOST}; --csv and --json have all of them" in shown
    assert not CONTROL.search(shown)
    assert max(map(len, lines)) <= 100
    as_csv = on_a_terminal(world, "report", "otters.yaml", "--state", "refused", "--csv")
    assert not CONTROL.search(as_csv.replace("\r\n", "\n"))
    keys = [line.split()[0] for line in lines if "moderation_blocked" in line]
    assert len(keys) == LISTED_MOST
    assert all(len(key) == 16 and key != after for key, after in pairwise(keys))
