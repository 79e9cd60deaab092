"""What is looked at or exported reaches nothing beside the run, whatever lies there and whatever it is called."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_offer import said
from world import KEY, KEY_ENV, World, many

from batchgen import page
from batchgen.folder import Folder

RUN = "otters.yaml"
EXPORT = ("export", "runs/otters", "--format", "imagefolder", "--to", "set")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


@pytest.mark.parametrize("name", ["../victim.txt", "/victim.txt", "train/../../victim.txt"])
def test_a_list_that_somebody_sent_removes_nothing_elsewhere(world: World, name: str) -> None:
    world.run()
    assert said(world, *EXPORT).returncode == 0
    victim = world.folder / "victim.txt"
    victim.write_text("mine")
    name = str(victim) if name.startswith("/") else name
    listed = world.folder / "set" / "export.json"
    told = json.loads(listed.read_text())
    told["files"][name] = {"bytes": 4, "sha256": "", "images": 0, "rows": ""}
    listed.write_text(json.dumps(told))
    assert said(world, *EXPORT).returncode == 2
    del told["files"][name]
    listed.write_text(json.dumps(told))
    with (world.folder / "set" / "train" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": f"../{name}", "sha256": ""}) + "\n")
    assert said(world, *EXPORT).returncode == 2
    assert victim.read_text() == "mine"


def test_what_a_person_changed_in_an_export_is_not_written_over(world: World) -> None:
    world.run(prompts=many(1))
    assert said(world, *EXPORT).returncode == 0
    labels = world.folder / "set" / "train" / "metadata.jsonl"
    mine = labels.read_text().replace('"prompt"', '"label": 1, "prompt"')
    labels.write_text(mine)
    world.run(prompts=many(2))
    told = said(world, *EXPORT)
    assert (told.returncode, "was changed since it was written" in told.stderr) == (2, True)
    assert labels.read_text() == mine


def test_nothing_is_exported_or_drawn_into_the_runs_own_folders(world: World) -> None:
    world.run()
    for place in ("spool", "thumbs", "new"):
        told = said(world, *EXPORT[:-1], f"runs/otters/{place}/set")
        assert (told.returncode, "the run's own folder" in told.stderr) == (2, True)
    for place in ("spool", "images"):
        assert "is the run's own" in said(world, "report", RUN, "--html", f"runs/otters/{place}/x.html").stderr
    os.mkfifo(world.folder / "pipe.html")
    told = said(world, "report", RUN, "--html", "pipe.html")
    assert (told.returncode, "another file stands there" in told.stderr) == (2, True)
    assert said(world, "run", RUN).returncode == 0


def test_a_page_is_of_one_moment_whatever_a_run_does_meanwhile(world: World) -> None:
    assert world.run(prompts=many(3)).exit_code == 0
    folder, target = Folder(world.run_folder), world.folder / "report.html"

    def meanwhile(images: int) -> None:
        with closing(sqlite3.connect(folder.ledger)) as db:
            db.execute("UPDATE tasks SET wanted = 'dropped' WHERE seq = 2")
            db.execute("INSERT INTO variants SELECT 9, provider, 'm', operation, params, axes FROM variants")
            db.execute("UPDATE tasks SET variant = 9 WHERE seq = 3")
            db.commit()

    page.write(folder, target, meanwhile)
    told = {name: block(target, name) for name in ("head", "rows-0", "rows-1")}
    tasks = [task for name in ("rows-0", "rows-1") for row in told[name] for task in row["tasks"]]
    assert len(tasks) == 3
    assert {str(task["variant"]) for task in tasks} <= told["head"]["variants"].keys()


def block(target: Path, name: str) -> Any:
    _, _, rest = target.read_text().partition(f'<script type="application/json" id="{name}">')
    return json.loads(rest.partition("</script>")[0])


def test_no_axis_steers_a_terminal_or_bears_the_name_of_a_column(world: World) -> None:
    choices = [{"as": "one", "quality": "low"}, {"as": "two", "quality": "high"}]
    for name in ("paid", "sample", "q\x1b]0;PWNED\x1b\\"):
        world.write(matrix={name: choices}, request={"size": "1024x1024"})
        told = said(world, "plan", RUN)
        assert (told.returncode, "an axis needs another name" in told.stderr) == (2, True)
    assert world.run(matrix={"[/x]": choices, "=cmd()": [{"as": "a", "n": 1}]}, request=None).exit_code == 0
    assert "[/x]" in said(world, "report", RUN).stdout
    assert "'=cmd()" in said(world, "report", RUN, "--csv").stdout.splitlines()[0]
