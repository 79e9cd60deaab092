"""What users write by mistake, paste from elsewhere or change meanwhile, through the whole program."""

import json
import os
import re
from pathlib import Path

import pytest
from test_cli import on_a_terminal
from world import CARP, HERON, KEY, KEY_ENV, OTTER, World, many

NO_KEYS = {
    "a line end inside": f"{KEY[:20]}\n{KEY[20:]}",
    "a space": f"{KEY[:20]} {KEY[20:]}",
    "a letter of no width": f"{KEY[:20]}\u200b{KEY[20:]}",
    "curly quotes": f"\u201c{KEY}\u201d",
    "a byte order mark": f"\ufeff{KEY}",
    "a tab": f"{KEY}\tx",
    "an escape": f"{KEY}\x1b[31m",
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_u12_what_can_be_no_key_is_refused_before_anything_is_sent_and_never_shown(world: World, name: str) -> None:
    """`KEY` is searched in all that this leaves behind, as it is after every test."""
    said = world.command("run", str(world.write()), **{KEY_ENV: NO_KEYS[name]})
    assert (said.returncode, world.charges(), f"{KEY_ENV} holds characters" in said.stderr) == (2, [], True)
    assert KEY[20:] not in said.stderr
    assert KEY[:20] not in said.stderr


@pytest.mark.parametrize("around", ["{}\n", " {}", "{}\r\n", "\t{} "], ids=repr)
def test_u12_what_stands_around_a_key_is_left_out(world: World, around: str) -> None:
    assert world.command("run", str(world.write()), **{KEY_ENV: around.format(KEY)}).returncode == 0
    assert len(world.charges()) == 1


def test_u14_a_run_goes_on_from_any_folder_by_any_of_its_names(world: World, tmp_path: Path) -> None:
    """The manifest's own path, and the run's folder, seen from elsewhere; its files lie beside the manifest."""
    (world.folder / "rows.txt").write_text("\n".join(many(6)))
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    path = world.write(prompts=[{"file": "rows.txt"}], limits={"images": 2, "budget": 5})
    assert world.command("run", path.name).returncode == 4
    home, world.folder = world.folder, elsewhere
    for run, images in ((path, 4), (home / "runs" / "otters", 6)):
        relative = os.path.relpath(run, elsewhere)
        ran = world.command("run", relative, "--set", f"limits.images={images}")
        assert (ran.returncode, "Traceback" in ran.stderr) == (4 if images < 6 else 0, False), ran.stderr
    assert list(elsewhere.iterdir()) == []
    world.folder = home
    assert (world.states(), len(world.charges()), len(world.files())) == ({"done": 6}, 6, 6)


def test_u9_an_edit_between_two_runs_is_priced_first_and_leaves_what_is_done(world: World) -> None:
    world.run(prompts=[OTTER, HERON])
    before = {path: path.read_bytes() for path in world.files()}
    path = str(world.write(prompts=[OTTER, CARP], request={"size": "1024x1024", "quality": "high"}))
    plan = json.loads(world.command("plan", path, "--json").stdout)
    assert (changed(plan), plan["cost"]["expected"] > 0) == ((2, 0, 2), True)
    world.write(prompts=[OTTER, CARP])
    assert changed(json.loads(world.command("plan", path, "--json").stdout)) == (1, 1, 1)
    assert world.command("run", path).returncode == 0
    assert len(world.charges()) == 3
    assert {name: data for name, data in before.items() if name.read_bytes() != data} == {}


def changed(plan: dict[str, dict[str, int]]) -> tuple[int, int, int]:
    return plan["change"]["new"], plan["change"]["kept"], plan["change"]["dropped"]


NAMES = ("../x", "/etc/x", "a/../../b", "con", ".", "..", "~root", "a\\..\\b", "%2e%2e%2fx", "x" * 300, "NUL.txt", " ")


def test_u10_no_name_of_a_row_leads_out_of_the_images(world: World) -> None:
    """Each image lies below images/, and nothing else on the disk has changed."""
    names = [name for name in NAMES if name.strip()]
    rows = [{"sku": name, "prompt": f"An otter {n}"} for n, name in enumerate(names)]
    (world.folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = {"file": "rows.jsonl", "id": "{{ sku }}", "prompt": "{{ prompt }}"}
    ended = world.run(prompts=[source], output={"path": "{{ sku }}/{{ key }}"})
    assert (ended.exit_code, len(world.files())) == (0, len(names))
    images = (world.run_folder / "images").resolve()
    assert all(path.resolve().is_relative_to(images) and not path.is_symlink() for path in world.files())
    assert sorted(path.name for path in world.folder.iterdir()) == ["otters.yaml", "rows.jsonl", "runs"]


@pytest.mark.parametrize("path", ["../{{ key }}", "/tmp/{{ key }}", "a/../../{{ key }}", "~/{{ key }}", "./{{ key }}"])
def test_u10_no_path_of_a_manifest_leads_out_of_the_images(world: World, path: str) -> None:
    said = world.command("run", str(world.write(output={"path": path})))
    assert "Traceback" not in said.stderr
    found = list(world.folder.rglob("*.png"))
    assert (said.returncode, len(found)) in ((2, 0), (0, 1))
    assert all(each.resolve().is_relative_to((world.run_folder / "images").resolve()) for each in found)
    assert sorted(each.name for each in world.folder.iterdir()) in (["otters.yaml"], ["otters.yaml", "runs"])


WORDS = (("size", "16:9"), ("size", "012"), ("quality", "no"), ("model", "2024-11-20"), ("model", "012"))
LINES = "name: otters\nprovider: sandbox\nprompts: [x]\nlimits: {images: 1}\n"


@pytest.mark.parametrize(("key", "value"), WORDS)
def test_u1_what_yaml_would_make_of_a_word_is_nowhere_believed(world: World, key: str, value: str) -> None:
    """It is told as it was written, or taken as it was written."""
    found = {"model": "gpt-image-2", "size": "1024x1024", "quality": "low", key: value}
    request = f"request: {{size: {found['size']}, quality: {found['quality']}}}\n"
    (world.folder / "otters.yaml").write_text(f"{LINES}model: {found['model']}\n{request}")
    said = world.command("plan", "otters.yaml")
    assert (value in said.stdout + said.stderr, "Traceback" in said.stderr) == (True, False)
    assert not {"969", "False", "datetime"} & set(re.split(r"\W+", said.stdout + said.stderr))


def test_u15_a_price_that_nobody_knows_is_said_on_the_plan_and_needs_a_ceiling(world: World) -> None:
    path = str(world.write(model="brand-new-model", limits={"budget": 5}, request=None))
    plan = json.loads(world.command("plan", path, "--json").stdout)
    assert plan["cost"]["unpriced_tasks"] == 1
    refused = world.command("run", path)
    assert (refused.returncode, "not known" in refused.stderr, world.charges()) == (2, True, [])


def test_u13_a_manifest_that_is_none_is_told_in_one_line_on_a_terminal(world: World) -> None:
    path = world.folder / "otters.yaml"
    for data in (
        b"",
        b"\x00\x01\xff\xfe" * 99,
        "name: otters".encode("utf-16"),
        bytes(range(256)) * 9,
        b"\xef\xbb\xbf",
    ):
        path.write_bytes(data)
        said = on_a_terminal(world, "plan", "otters.yaml")
        assert ("Traceback" in said, said.startswith("otters.yaml"), len(said) < 1500) == (False, True, True), said
