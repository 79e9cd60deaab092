"""The manifests that are shipped do what their first lines say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from sandbox.child import ROOT
from world import KEY, World

from batchgen import compare, expand, forecast, manifest
from batchgen.forecast import Plan
from batchgen.manifest import Setup

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
    assert (again.returncode, "+0 new · 12 kept · 0 dropped · 0 to do" in again.stderr) == (0, True)
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


SHIPPED = {"animals": 21, "compare": 12, "demo": 12, "grid": 32, "overnight": 96, "products": 6, "openai": 8}
SHIPPED |= {"aimlapi": 6, "onerouter": 6, "myrouter": 4, "classic": 4}
"""Each job's number of tasks."""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_manifest_plans_what_its_first_line_says(name: str, tmp_path: Path) -> None:
    loaded, tasks = manifest.load(JOBS / f"{name}.yaml"), SHIPPED[name]
    planned = list(expand.tasks(loaded))
    assert (loaded.name, len(planned)) == (name, tasks)
    assert len({task.key for task in planned}) == len({task.path for task in planned}) == tasks
    survey = compare.survey(loaded, None)
    assert (survey.tasks, survey.todo, survey.duplicates) == (tasks, tasks, 0)
    drawn = forecast.draw(loaded, survey, tmp_path, None, {"OPENAI_API_KEY": KEY})
    assert {warning.partition("'")[0] for warning in drawn.warnings} <= {
        "the catalog does not know the model ",
        "the model ",
    }
    check_first_line((JOBS / f"{name}.yaml").read_text().partition("\n")[0], drawn)


def check_first_line(line: str, drawn: Plan) -> None:
    """It says how many images, and about how many cents or dollars, where anybody can know."""
    found = re.search(r"= (\d+) images(?:, about (?:(\d+) cents|\$(\d+(?:\.\d+)?)))?", line)
    if not found:
        assert (line.startswith("# Twelve pictures"), drawn.images, drawn.pretend) == (True, 12, True)
        return
    images, cents, dollars = found.groups()
    assert int(images) == drawn.images
    usd = int(cents) / 100 if cents else float(dollars or 0)
    assert drawn.cost.expected / 1e9 == pytest.approx(usd, rel=0.15)
    assert bool(usd) == (not drawn.unpriced and drawn.cost.high > 0)


def test_no_job_is_shipped_that_these_tests_do_not_know() -> None:
    assert sorted(path.name for path in JOBS.glob("*.yaml")) == sorted(f"{name}.yaml" for name in SHIPPED)
    assert {path.suffix for path in JOBS.rglob("*.*")} == {".yaml", ".csv", ".jpg", ".png"}


def test_the_readmes_manifest_is_one(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    (tmp_path / "zoo.yaml").write_text(found[1])
    (tmp_path / "products.csv").write_text("sku,instruction,background\n1,A red mug,\n2,A blue mug,auto\n")
    survey = compare.survey(manifest.load(tmp_path / "zoo.yaml", Setup({})), None)
    assert (survey.rows, survey.duplicates, survey.tasks) == (9, 0, 9 * (2 * 2 * 2 - 2 + 1) * 2)


@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - {"demo", "animals", "overnight", "compare", "classic"}))
def test_a_shipped_manifest_can_be_rehearsed_without_a_key(name: str, world: World) -> None:
    shutil.copytree(JOBS, world.folder / "jobs")
    flags = {"BATCHGEN_SANDBOX": "--paint cached --paint-bytes 3000", "OPENAI_API_KEY": ""}
    assert world.command("run", f"jobs/{name}.yaml", "--sandbox", **flags).returncode == 0
    checked = world.command("verify", f"runs/{name}.sandbox")
    assert (checked.returncode, "all as the ledger says" in checked.stdout) == (0, True)
