"""The manifests that are shipped do what their first lines say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from sandbox.child import ROOT
from world import World

from batchgen import manifest, plan

JOBS = ROOT / "jobs"


@pytest.fixture
def demo(world: World) -> "tuple[World, subprocess.CompletedProcess[str]]":
    """The demo, run as the README says, in a folder of its own."""
    shutil.copytree(JOBS, world.folder / "jobs")
    return world, world.command("run", "jobs/demo.yaml")


def test_the_demo_makes_twelve_pictures_of_the_sizes_asked_for(
    demo: "tuple[World, subprocess.CompletedProcess[str]]",
) -> None:
    world, said = demo
    assert said.returncode == 0, said.stderr
    images = world.folder / "runs" / "demo" / "images"
    made = [path for path in images.rglob("*") if path.is_file()]
    sizes = sorted(size_of(path) for path in made)
    assert sizes == [(1024, 1024)] * 6 + [(1536, 1024)] * 6
    check_report(world)
    again = world.command("run", "jobs/demo.yaml")
    assert (again.returncode, "+0 new · 12 kept" in again.stderr) == (0, True)
    assert world.command("verify", "jobs/demo.yaml").stdout == "12 images, all as the ledger says\n"


def size_of(path: Path) -> tuple[int, int]:
    """Of a picture that pillow decodes to its last line."""
    with Image.open(path) as image:
        image.load()
        return image.size


def check_report(world: World) -> None:
    """Its sums are sums, and equal to the bill that the sandbox wrote."""
    told = json.loads(world.command("report", "jobs/demo.yaml", "--json").stdout)
    groups, cost = told["groups"], told["cost"]
    assert (told["tasks"]["done"], told["images"]["saved"], told["attempts"]["paid"]) == (12, 12, 12)
    assert [group["tasks"] for group in groups] == [3] * 4
    assert sum(group["images"] for group in groups) == 12
    for group_name, name in (("input_tokens", "input_text_tokens"), ("output_tokens", "output_tokens")):
        assert sum(group[group_name] for group in groups) == told["usage"][name]
    assert sum(group["paid"] for group in groups) == pytest.approx(cost["paid"], abs=1e-9)
    assert cost["low"] == cost["high"] == cost["paid"] == bill(world) / 1e9


def bill(world: World) -> int:
    """What the demo's own sandbox charged, in nano-dollars."""
    lines = (world.folder / "runs" / "demo" / "sandbox-bill.jsonl").read_text().splitlines()
    return sum(json.loads(line)["nano_usd"] for line in lines)


@pytest.mark.parametrize(("name", "tasks"), [("demo", 12), ("animals", 21)])
def test_a_shipped_manifest_plans_what_its_first_line_says(name: str, tasks: int) -> None:
    loaded = manifest.load(JOBS / f"{name}.yaml")
    planned = list(plan.tasks(loaded))
    assert (loaded.name, loaded.warnings, len(planned)) == (name, (), tasks)
    assert len({task.key for task in planned}) == len({task.path for task in planned}) == tasks


def test_no_job_is_shipped_that_these_tests_do_not_know() -> None:
    assert sorted(path.name for path in JOBS.iterdir()) == ["animals.yaml", "demo.yaml"]


def test_the_readmes_manifest_is_one(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    (tmp_path / "zoo.yaml").write_text(found[1])
    (tmp_path / "products.csv").write_text("sku,instruction\n1,A red mug\n2,A blue mug\n")
    assert plan.check(manifest.load(tmp_path / "zoo.yaml", environ={})).tasks == 9 * 3 * 2
