"""Tasks made again: another prompt, another parameter, another take; bought once, and the old ones kept and counted."""

import csv
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_offer import planned, said
from world import CARP, HERON, KEY, KEY_ENV, OTTER, World

from batchgen import amend, api, expand, fixes, hold, manifest
from batchgen.errors import ManifestError, UsageError
from batchgen.fixes import Fix
from batchgen.folder import Folder
from batchgen.manifest import Setup
from batchgen.task import Task

GRID = {"prompts": [OTTER, HERON], "matrix": {"quality": ["low", "medium"]}, "request": {"size": "1024x1024"}}
RUN = "otters.yaml"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("BATCHGEN_SANDBOX", "--paint cached --paint-bytes 3000")


def begun(world: World, **changes: Any) -> dict[tuple[str, str], str]:
    """A run of two prompts in two qualities, done; its keys by prompt and quality."""
    assert world.run(**{**GRID, **changes}).exit_code == 0
    return keys(world)


def keys(world: World) -> dict[tuple[str, str], str]:
    """The keys of what is wanted, by prompt and quality."""
    found = world.rows(
        "SELECT p.text, json_extract(v.params, '$.quality'), t.key FROM tasks t JOIN prompts p ON p.id = t.prompt"
        " JOIN variants v ON v.id = t.variant WHERE t.wanted = 'yes'"
    )
    return {(prompt, quality): key for prompt, quality, key in found}


def redone(world: World, *arguments: str) -> str:
    """What a redo that goes well tells."""
    told = said(world, "redo", RUN, *arguments)
    assert told.returncode == 0, told.stderr
    world.check_equal_to_the_bill()
    return told.stderr


def refused(world: World, *arguments: str, code: int = 2) -> str:
    """What one tells that does not begin: nothing is bought, and no file written or changed."""
    before, charges = rows(world), len(world.charges())
    told = said(world, "redo", RUN, *arguments)
    assert (told.returncode, rows(world), len(world.charges())) == (code, before, charges), told.stderr
    return told.stderr


def rows(world: World, name: str = "otters.fixes.csv") -> list[dict[str, str]]:
    """What stands in the file of fixes."""
    path = world.folder / name
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def write(world: World, *lines: str) -> Path:
    path = world.folder / "otters.fixes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def wanted(world: World) -> dict[str, str]:
    return dict(world.rows("SELECT key, wanted FROM tasks"))


def test_a_changed_prompt_is_bought_once_and_the_old_picture_is_kept_counted_and_replaced(world: World) -> None:
    old = begun(world)[HERON, "low"]
    told = redone(world, old, "--set", f"prompt={CARP}", "--note", "wrong bird")
    assert "+1 new" in told
    assert "0 kept · 0 dropped · 1 replaced · 1 to do" in told
    assert "Again    1 task of 2 rows, and nothing else" in told
    assert "1 new: made again, as the fixes say" in told
    assert "otters.fixes.csv" in told
    new = keys(world)[CARP, "low"]
    assert wanted(world)[old] == new
    assert rows(world) == [{"task": old, "prompt": CARP, "note": "wrong bird"}]
    ledger = api.Ledger(world.run_folder)
    assert sorted(image.prompt for image in ledger.images()) == sorted([OTTER, OTTER, HERON, CARP])
    told_all: Any = ledger.report()
    assert told_all["not_wanted"] == {"dropped": 0, "replaced": 1}
    assert told_all["cost"]["spent_on"]["replaced"] > 0
    assert round(told_all["cost"]["paid"] * 1e9) == world.billed()
    assert len(world.files()) == 5
    assert said(world, "verify", RUN).returncode == 0
    charges = len(world.charges())
    for _ in range(2):
        again = said(world, "run", RUN)
        assert (again.returncode, len(world.charges())) == (0, charges)
        assert "+0 new · 4 kept · 0 dropped · 0 to do" in again.stderr


def test_no_change_is_another_take_of_each(world: World) -> None:
    old = begun(world)
    redone(world, old[OTTER, "low"], old[HERON, "medium"])
    new = keys(world)
    assert {name: key == new[name] for name, key in old.items()} == {
        (OTTER, "low"): False,
        (OTTER, "medium"): True,
        (HERON, "low"): True,
        (HERON, "medium"): False,
    }
    assert dict(world.rows("SELECT take, count(*) FROM tasks WHERE wanted = 'yes' GROUP BY take")) == {1: 2, 2: 2}


def test_what_was_made_again_is_made_again_by_its_new_key(world: World) -> None:
    first = begun(world)[HERON, "low"]
    redone(world, first, "--set", f"prompt={CARP}")
    second = keys(world)[CARP, "low"]
    assert f"{first} has a fix already, at " in refused(world, first)
    redone(world, second, "--set", "quality=high")
    third = keys(world)[CARP, "high"]
    assert [wanted(world)[key] for key in (first, second, third)] == [second, third, "yes"]
    assert rows(world) == [
        {"task": first, "prompt": CARP, "quality": "", "note": ""},
        {"task": second, "prompt": "", "quality": "high", "note": ""},
    ]
    assert planned(world, RUN)["change"]["new"] == 0


def test_a_changed_parameter_is_told_under_its_own_axis(world: World) -> None:
    redone(world, begun(world)[HERON, "low"], "--set", "quality=high")
    told: Any = api.Ledger(world.run_folder).report()
    assert {group["axes"]["quality"]: group["images"] for group in told["groups"]} == {"low": 1, "medium": 2, "high": 1}


def test_taken_out_of_the_file_the_old_picture_is_wanted_again_and_nothing_bought(world: World) -> None:
    old = begun(world)
    redone(world, old[HERON, "low"], "--set", f"prompt={CARP}")
    new, charges = keys(world)[CARP, "low"], len(world.charges())
    (world.folder / "otters.fixes.csv").unlink()
    assert planned(world, RUN)["change"] == {"new": 0, "kept": 4, "dropped": 1, "replaced": 0, "causes": [
        "1 dropped: rows or samples that are not asked for any more"
    ]}  # fmt: skip
    assert said(world, "run", RUN).returncode == 0
    assert (keys(world), wanted(world)[new]) == (old, "dropped")
    write(world, "task,prompt", f"{old[HERON, 'low']},{CARP}")
    assert said(world, "run", RUN).returncode == 0
    assert (wanted(world)[old[HERON, "low"]], wanted(world)[new]) == (new, "yes")
    assert len(world.charges()) == charges


def test_what_was_refused_is_made_with_another_prompt(world: World) -> None:
    bad = f"{CARP} [moderated]"
    assert world.run(**{**GRID, "prompts": [OTTER, bad]}).exit_code == 3
    told = redone(world, keys(world)[bad, "low"], keys(world)[bad, "medium"], "--set", f"prompt={CARP}")
    assert "all done, of the 2 tasks that were asked for now; exit 0" in told
    assert world.states() == {"done": 4}


def test_a_table_changes_what_differs_and_leaves_the_rest_alone(world: World) -> None:
    old = begun(world)
    table = world.folder / "edited.csv"
    cells = [
        {"task": old[OTTER, "low"], "prompt": OTTER, "error": "x", "state": "done"},
        {"task": old[OTTER, "medium"], "prompt": "An otter,\nasleep", "error": "", "note": "tired"},
        {"task": old[HERON, "low"], "prompt": "", "error": ""},
    ]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["task", "prompt", "state", "error", "note"])
        writer.writeheader()
        writer.writerows(cells)
    told = redone(world, "--from", str(table))
    assert "1 task has all that already, and is left alone" in told
    assert "+2 new" in told
    assert rows(world) == [
        {"task": old[OTTER, "medium"], "prompt": "An otter,\nasleep", "note": "tired"},
        {"task": old[HERON, "low"], "prompt": "", "note": ""},
    ]
    assert ("An otter,\nasleep", "medium") in keys(world)


def test_the_table_of_what_was_refused_comes_back_with_the_prompts_that_were_edited(world: World) -> None:
    bad = [f'- {CARP},\n"big" [moderated]', f"=SUM({OTTER}) [moderated]"]
    assert world.run(prompts=[OTTER, *bad], matrix={"quality": ["low", "medium"]}, request={}).exit_code == 3
    table = said(world, "report", RUN, "--state", "refused", "--csv").stdout
    cells = list(csv.DictReader(table.splitlines(keepends=True)))
    assert len(cells) == 4
    path = world.folder / "refused.csv"
    path.write_text(table)
    assert "4 tasks have all that already" in refused(world, "--from", str(path), code=0)
    path.write_text(table.replace("SUM(", "SOME (").replace("[moderated]", "", 3))
    told = said(world, "redo", RUN, "--from", str(path))
    assert (told.returncode, "+4 new" in told.stderr, world.states()) == (3, True, {"done": 5, "refused": 1})
    assert [row["prompt"][0] for row in rows(world)] == ["'"] * 4  # no spreadsheet takes them for formulas
    assert (f"=SOME ({OTTER})", "low") in keys(world)
    assert planned(world, RUN)["change"]["new"] == 0


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_written(world: World) -> None:
    old = begun(world)
    redone(world, old[HERON, "low"])
    world.write(**{**GRID, "prompts": [HERON]})
    assert said(world, "run", RUN).returncode == 0
    (world.folder / "otters.fixes.csv").unlink()
    said_ = refused(world, "nosuchtask", old[OTTER, "low"], old[HERON, "low"])
    assert "no task of this run has the key nosuchtask" in said_
    assert f"{old[OTTER, 'low']} is not asked for any more" in said_
    assert f"{old[HERON, 'low']} was replaced by " in said_
    medium = old[HERON, "medium"]
    assert "quality: 'hihg' is not one of" in refused(world, medium, "--set", "quality=hihg")
    assert "'qality' is nothing that a fix can change (did you mean quality?)" in refused(
        world, medium, "--set", "qality=low"
    )
    assert "say what to make again" in refused(world)
    assert refused(world, medium, "--set", f"prompt={HERON}", code=0).startswith("1 task has all that already")
    assert "the prompt" in refused(world, medium, "--set", "prompt=a\u202eb")


def test_a_file_of_fixes_tells_every_mistake_with_its_line(world: World) -> None:
    key = begun(world)[HERON, "low"]
    write(world, "task,prompt,quality", f"{key},,low", f"{key},again,", ",nothing,", f"x{key},,hihg")
    told = said(world, "plan", RUN)
    assert told.returncode == 2
    lines = told.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"otters.fixes.csv:{n}" for n in (3, 4)]
    assert "stands in otters.fixes.csv:2 too" in lines[0]
    assert "the column task is empty" in lines[1]


def test_a_fix_that_no_task_is_met_for_is_told_and_changes_nothing(world: World) -> None:
    begun(world)
    write(world, "task,prompt", f"abcdefghijklmnop,{CARP}", f"abcdefghijklmnoq,{CARP}")
    plan = planned(world, RUN)
    warning = "otters.fixes.csv:2 and 1 more name tasks that the manifest does not ask for: no change comes of it"
    assert warning in plan["warnings"]
    assert plan["change"]["new"] == 0


def test_what_is_not_agreed_to_is_not_written(world: World) -> None:
    key = begun(world)[HERON, "low"]
    world.write(**{**GRID, "limits": {"concurrency": 4}})
    assert "budget" in refused(world, key)


def test_while_a_run_holds_the_folder_nothing_is_written(world: World) -> None:
    key = begun(world)[HERON, "low"]
    with hold.locked(Folder(world.run_folder)):
        refused(world, key, code=6)


def test_fixes_that_change_while_the_plan_is_read_are_not_written_over(world: World) -> None:
    key = begun(world)[HERON, "low"]
    drawn = amend.draw_up(str(world.folder / RUN), None, Setup(), amend.named([key], {}, ""))
    path = write(world, "task,prompt", f"{key},{CARP}")
    before = path.read_text()
    with pytest.raises(UsageError, match="has changed since the plan was drawn"):
        drawn.write()
    assert path.read_text() == before


def test_a_run_that_was_set_otherwise_is_made_again_as_it_was_set(world: World) -> None:
    world.write(**GRID)
    assert said(world, "run", RUN, "--set", "request.output_format=webp").returncode == 0
    key = keys(world)[HERON, "low"]
    told = said(world, "redo", str(world.run_folder), key)
    assert (told.returncode, "+1 new" in told.stderr) == (0, True), told.stderr
    assert {path.suffix for path in world.files()} == {".webp"}


def test_of_a_job_of_which_only_samples_were_bought_the_rest_is_left_alone(world: World) -> None:
    world.write(**GRID, samples=3)
    assert said(world, "run", RUN, "--sample", "2").returncode == 0
    key = next(iter(keys(world).values()))
    told = redone(world, key, "--set", f"prompt={CARP}")
    assert "Again    1 task of 2 rows, and nothing else" in told
    assert (len(world.charges()), wanted(world)[key] in wanted(world)) == (3, True)
    assert said(world, "run", RUN).returncode == 0
    assert len(world.charges()) == 3 + 10
    world.check_equal_to_the_bill()


def test_of_an_edited_manifest_only_what_is_named_is_bought(world: World) -> None:
    key = begun(world)[HERON, "low"]
    world.write(**{**GRID, "prompts": [OTTER, HERON, CARP]})
    redone(world, key)
    assert len(world.charges()) == 5
    assert "+2 new" in said(world, "run", RUN).stderr
    assert len(world.charges()) == 7


def test_the_same_wish_twice_is_one_and_goes_on_where_it_was_cut_off(world: World) -> None:
    key = begun(world)[HERON, "low"]
    amend.draw_up(str(world.folder / RUN), None, Setup(), amend.named([key], {"prompt": CARP}, "")).write()
    assert len(world.charges()) == 4  # cut off behind the file
    for _ in range(2):
        redone(world, key, "--set", f"prompt={CARP}")
        assert len(world.charges()) == 5
    assert len(rows(world)) == 1
    assert "has a fix already" in refused(world, key, "--set", f"prompt={OTTER}")


def test_two_that_are_changed_to_the_same_prompt_are_two_pictures_whatever_is_changed_next(world: World) -> None:
    old = begun(world)
    redone(world, old[HERON, "low"], "--set", f"prompt={CARP}")
    redone(world, old[OTTER, "low"], "--set", f"prompt={CARP}")
    assert (len(world.charges()), len(set(wanted(world).values()))) == (6, 3)
    assert [image.prompt for image in api.Ledger(world.run_folder).images()].count(CARP) == 2
    assert planned(world, RUN)["change"]["new"] == 0
    redone(world, old[OTTER, "medium"], "--set", f"prompt={CARP}")
    assert len(world.charges()) == 7


def test_equal_rows_keep_all_their_names(world: World) -> None:
    (world.folder / "otters.csv").write_text(f"sku,text\na1,{OTTER}\na2,{OTTER}\n")
    source = {"file": "otters.csv", "id": "{{ sku }}", "prompt": "{{ text }}"}
    assert world.run(prompts=[source]).exit_code == 0
    (image,) = api.Ledger(world.run_folder).images()
    redone(world, image.task, "--set", f"prompt={CARP}")
    assert said(world, "run", RUN).returncode == 0
    (image,) = api.Ledger(world.run_folder).images()
    assert (image.prompt, image.ids) == (CARP, ("a1", "a2"))


def test_a_sample_holds_what_takes_the_place_of_one_of_it(world: World) -> None:
    world.write(**GRID, samples=3)
    assert said(world, "run", RUN, "--sample", "3").returncode == 0
    redone(world, *keys(world).values())
    charges = len(world.charges())
    assert "+0 new" in said(world, "run", RUN, "--sample", "3").stderr
    assert len(world.charges()) == charges


def test_how_lines_end_in_a_prompt_or_a_note_is_no_change(world: World) -> None:
    old = begun(world)
    redone(world, old[HERON, "low"], "--set", "prompt=A heron.\rAt dusk.", "--note", "a\rb\nc")
    assert rows(world)[0] == {"task": old[HERON, "low"], "prompt": "A heron.\nAt dusk.", "note": "a b c"}
    assert planned(world, RUN)["change"]["new"] == 0


def test_what_cannot_be_kept_is_not_bought(world: World) -> None:
    key = begun(world)[HERON, "low"]
    for setting in ("prompt=", "prompt=  ", "note=x", "task=y"):
        assert "nothing is changed by this" in refused(world, key, "--set", setting)
    assert "the prompt holds" in refused(world, key, "--set", "prompt=a\udcffb")
    notes = world.folder / "notes.jsonl"
    notes.write_text(json.dumps({"task": key, "note": "x" * 200_000}))
    assert "cannot hold these fixes" in refused(world, "--from", str(notes))
    world.write(**{**GRID, "prompts": [OTTER]})
    assert f"does not ask for {key}" in refused(world, key)
    world.write(**GRID, fixes="nowhere/a.csv")
    assert "there is no folder" in refused(world, key)


def test_a_file_of_fixes_behind_a_link_stays_there_and_one_that_is_gone_drops_nothing(world: World) -> None:
    key = begun(world)[HERON, "low"]
    (world.folder / "shared").mkdir()
    path, far = world.folder / "otters.fixes.csv", world.folder / "shared" / "far.csv"
    far.write_text("task,prompt\n")
    path.symlink_to(far)
    redone(world, key)
    assert path.is_symlink()
    assert key in far.read_text()
    far.unlink()
    assert "No such file" in refused_run(world, "plan", RUN)
    assert said(world, "run", str(world.run_folder)).returncode == 0  # what is queued has its fixes already
    assert "No such file" in refused_run(world, "run", RUN)


def refused_run(world: World, *arguments: str) -> str:
    told = said(world, *arguments)
    assert told.returncode == 2
    return told.stderr


def test_a_chain_may_lack_what_was_never_made(world: World) -> None:
    old = begun(world)[HERON, "low"]
    middle = replace(manifest.load(world.folder / RUN, Setup()), fixes={old: Fix(CARP)})
    (new,) = [task.key for task in expand.tasks(middle) if task.replaces]
    write(world, "task,prompt", f"{old},{CARP}", f"{new},A carp in oil")
    assert said(world, "run", RUN).returncode == 0
    assert wanted(world)[old] == keys(world)["A carp in oil", "low"]
    assert said(world, "verify", RUN).returncode == 0


def test_a_rehearsal_has_fixes_of_its_own(world: World) -> None:
    world.write(**GRID)
    assert said(world, "run", RUN, "--sandbox").returncode == 0
    folder = world.folder / "runs" / "otters.sandbox"
    image = next(iter(api.Ledger(folder).images()))
    told = said(world, "redo", str(folder), image.task, "--set", f"prompt={CARP}")
    assert told.returncode == 0, told.stderr
    assert rows(world, "otters.fixes.sandbox.csv") == [{"task": image.task, "prompt": CARP, "note": ""}]
    assert CARP in {each.prompt for each in api.Ledger(folder).images()}
    assert not rows(world)
    assert "fixes" not in str(planned(world, RUN)["warnings"])


def test_the_manifest_may_name_the_file_and_its_columns_and_rights_are_kept(world: World) -> None:
    key = begun(world, fixes="again.csv")[HERON, "low"]
    path = world.folder / "again.csv"
    path.write_text("note;task;quality;prompt\nwas;gone;;Bär\n", encoding="utf-8-sig")
    path.chmod(0o640)
    redone(world, key, "--set", f"prompt={CARP}")
    lines = path.read_bytes().decode("utf-8-sig").splitlines()
    assert lines == ["task;quality;prompt;note", "gone;;Bär;was", f"{key};;{CARP};"]
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # else Excel would take the ä for something else
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert "must be the name of a .csv file" in said(world, "plan", str(world.write(fixes="again.txt"))).stderr


def test_tasks_that_were_never_made_are_made_as_the_fixes_say(world: World) -> None:
    world.write(**GRID)
    base = {task.prompt + str(task.variant.param("quality")): task.key for task in tasks(world)}
    world.write(**GRID)
    write(world, "task,prompt", f"{base[OTTER + 'low']},{CARP}")
    assert said(world, "run", RUN).returncode == 0
    assert sorted(prompt for prompt, _ in keys(world)) == sorted([CARP, OTTER, HERON, HERON])
    world.check_equal_to_the_bill()


def tasks(world: World) -> list[Task]:
    return list(expand.tasks(manifest.load(world.folder / RUN, Setup())))


BASE = {"name": "a", "provider": "openai", "model": "gpt-image-2", "prompts": ["A fox", "A heron"], "samples": 2}
MATRIX = {"quality": ["low", "high"]}


def plain(**changes: object) -> manifest.Manifest:
    return manifest.loads(json.dumps({**BASE, "matrix": MATRIX, **changes}), Path("x.yaml"), Setup({}))


KEYS = [task.key for task in expand.tasks(plain())]
FIX = st.builds(
    Fix, st.sampled_from(["", "A fox", "A carp"]), st.sampled_from([(), (("quality", "medium"),), (("n", 2),)])
)


@given(st.dictionaries(st.sampled_from(KEYS), FIX))
def test_a_fix_takes_the_place_of_its_task_alone_and_nothing_is_there_twice(found: dict[str, Fix]) -> None:
    made = list(expand.tasks(replace(plain(), fixes=found)))
    assert [task for task in made if not task.replaces] == [
        task for task in expand.tasks(plain()) if task.key not in found
    ]
    assert len({task.key for task in made}) == len(made)
    assert not found.keys() & {task.key for task in made}
    for task in made:
        if task.replaces:
            ((_, old),) = task.replaces
            assert task.take >= 2
            assert found[old].prompt in ("", task.prompt)
            assert dict(found[old].settings).items() <= dict(task.variant.params).items()


@given(st.lists(st.tuples(st.text("ab\n\",;=' ", max_size=6), st.sampled_from(["", "low", "high"]))))
def test_what_is_written_into_the_file_reads_the_same(cells: list[tuple[str, str]]) -> None:
    providers = [*plain().providers.values()]
    wanted_ = {f"key{n}": {"prompt": prompt, "quality": quality} for n, (prompt, quality) in enumerate(cells)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.fixes.csv"
        for key, changes in wanted_.items():
            path.write_bytes(fixes.extended(path, {key: changes}))
        found = fixes.read(path, providers)
    assert {key: (fix.prompt, dict(fix.settings).get("quality", "")) for key, fix in found.items()} == {
        key: (each["prompt"].strip(), each["quality"]) for key, each in wanted_.items() for key, each in wanted_.items()
    }


def test_what_no_request_can_carry_is_no_fix() -> None:
    wrong = replace(plain(), fixes={KEYS[0]: Fix("A fox", (("quality", "best"),), "a.fixes.csv:2")})
    with pytest.raises(ManifestError, match=r"^a\.fixes\.csv:2: .*'best' is not one of"):
        list(expand.tasks(wrong))
