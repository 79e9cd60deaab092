"""What a manifest's run is, where it lies, whom it may ask; samples, edits, several providers; what the verbs tell."""

import io
import json
import re
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from conftest import Start
from world import CARP, HERON, KEY, KEY_ENV, OTTER, Host, Respond, World, eventually, many

from batchgen import offer
from batchgen.cli import main
from batchgen.forecast import Plan
from batchgen.manifest import Setup

BAD_KEY = "bad-4c02d9f1"  # the sandbox refuses keys that begin like this
SIZES = ["1024x1024", "1536x1024"]
LOW = {"size": "1024x1024", "quality": "low"}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("BAD_KEY", BAD_KEY)
    monkeypatch.setenv("BATCHGEN_SANDBOX", "--paint cached --paint-bytes 3000")


def said(world: World, *arguments: str) -> "CompletedProcess[str]":
    """The command, in this process: the same words and exit code, without the time that Python takes to start."""
    out, err, code = io.StringIO(), io.StringIO(), None
    with chdir(world.folder), redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def planned(world: World, *arguments: str) -> dict[str, Any]:
    """`batchgen plan --json`."""
    plan = said(world, "plan", *arguments, "--json")
    assert plan.returncode == 0, plan.stderr
    found: dict[str, Any] = json.loads(plan.stdout)
    return found


def drawn(world: World, sample: int | None = None, **changes: Any) -> Plan:
    return offer.drawn_up(offer.wish(str(world.write(**changes)), None, Setup(), sample))


def prompts_bought(world: World) -> Counter[str]:
    """How often each prompt was charged for."""
    ids = [charge["client_request_id"] for charge in world.charges()]
    known = dict(world.rows("SELECT a.id, t.prompt FROM v_attempts a JOIN v_tasks t ON t.key = a.task"))
    return Counter(known[each] for each in ids)


def check_each_was_charged_once(world: World, count: int) -> None:
    world.check_equal_to_the_bill()
    ids = [charge["client_request_id"] for charge in world.charges()]
    tasks = dict(world.rows("SELECT id, task FROM v_attempts"))
    assert len(ids) == len({tasks[each] for each in ids}) == count


# what is set beside the manifest


def test_resume_begins_nothing(world: World) -> None:
    refused = said(world, "run", str(world.write()), "--resume")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert f"there is no run in {world.run_folder}" in refused.stderr
    assert [path.name for path in world.folder.iterdir()] == ["otters.yaml"]
    assert said(world, "run", "otters.yaml").returncode == 0
    assert said(world, "run", "otters.yaml", "--resume").returncode == 0
    assert len(world.charges()) == 1


@pytest.mark.parametrize(
    ("settings", "figures"),
    [
        (("matrix.size=[1024x1024, 1536x1024]",), (2, 2)),
        (("matrix.size=[1024x1024, 1536x1024]", "matrix.quality=[low, medium, high]"), (6, 6)),
        (("matrix={size: [1024x1024, 1536x1024], exclude: [{size: 1024x1024}]}",), (1, 1)),
        (("samples=3",), (3, 3)),
        (("samples=3", "samples=2"), (2, 2)),
        (("request.n=4",), (1, 4)),
        (("prompts=[A fox, A heron]", "request.n=2"), (2, 4)),
    ],
)
def test_what_is_set_goes_before_the_manifest(
    world: World, settings: tuple[str, ...], figures: tuple[int, int]
) -> None:
    world.write()
    found = planned(world, "otters.yaml", *(word for each in settings for word in ("--set", each)))
    assert (found["tasks"], found["images"]) == figures


def test_a_price_can_be_set_within_a_provider(world: World) -> None:
    world.write(model="dall-e-9", request=None)
    assert planned(world, "otters.yaml")["cost"]["unpriced_tasks"] == 1
    cost = planned(world, "otters.yaml", "--set", "provider.price.image=0.04")["cost"]
    assert (cost["low"], cost["high"], cost["unpriced_tasks"]) == (0.04, 0.04, 0)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("request.quality=hihg", "--set request.quality: request.quality: 'hihg' is not one of auto, low, medium,"),
        ("request.qualty=low", "--set request.qualty: request.qualty: "),
        ("request.size=", "--set request.size: request.size: is empty"),
        ("matrix.size=1024x1024", "--set matrix.size: matrix.size: must be a list: [1024x1024]"),
        ("matrix.size=[1024x1024", "--set matrix.size:1:1: not valid YAML"),
        ("matrix.size=[1024x1024, 1024x1024]", "--set matrix.size: matrix.size.1: '1024x1024' stands twice"),
        ("limit.budget=5", "--set limit.budget: limit: unknown key (did you mean limits?)"),
        ("limits.budget=lots", "--set limits.budget: limits.budget: 'lots' is not an amount in USD"),
        ("limits=5", "--set limits: limits: must be a mapping"),
        ("samples=0", "--set samples: samples: 0 is less than 1"),
        ("name=../x", "--set name: name: must be a folder's name"),
        ("provider=opnai", "--set provider: provider: 'opnai' is not one of openai, aimlapi, "),
        ("output.path=../x", "--set output.path: output.path: must stay inside the images folder"),
        ("limits.budget", "--set limits.budget: write KEY=VALUE"),
        ("=5", "--set =5: write KEY=VALUE"),
        ("limits..budget=5", "--set limits..budget=5: write KEY=VALUE"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_mistake_in_a_setting_names_it_and_begins_nothing(world: World, verb: str, setting: str, says: str) -> None:
    refused = said(world, verb, str(world.write()), "--set", setting)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert says in refused.stderr
    assert [path.name for path in world.folder.iterdir()] == ["otters.yaml"]


@pytest.mark.parametrize("budget", ["nan", "inf", "-1", "-0.01"])
def test_a_budget_that_is_none_is_refused(world: World, budget: str) -> None:
    refused = said(world, "run", str(world.write()), "--budget", budget)
    assert (refused.returncode, "is not an amount in USD" in refused.stderr) == (2, True)


def test_a_budget_of_nothing_buys_nothing(world: World) -> None:
    assert (said(world, "run", str(world.write()), "--budget", "0").returncode, world.charges()) == (4, [])


def test_a_run_by_its_folder_remembers_what_was_set_for_it(world: World) -> None:
    world.write(prompts=many(3))
    settings = ("--set", "samples=2", "--set", "limits.images=2")
    assert said(world, "run", "otters.yaml", *settings).returncode == 4
    stopped = said(world, "run", "runs/otters")
    assert (stopped.returncode, "stopped by limits.images" in stopped.stderr, len(world.charges())) == (4, True, 2)
    assert said(world, "run", "runs/otters", "--set", "limits.images=99").returncode == 0
    assert said(world, "run", "runs/otters", "--set", "limits.images=99", "--budget", "0").returncode == 0
    check_each_was_charged_once(world, 6)


def test_a_run_by_its_folder_remembers_its_budget(world: World) -> None:
    world.write(prompts=many(4), limits=None)
    assert said(world, "run", "otters.yaml", "--budget", "0.014").returncode == 4
    assert said(world, "run", "runs/otters").returncode == 4
    assert world.billed() <= 14_000_000


# where a run lies, and whose it is


@pytest.mark.parametrize(
    ("manifest", "run"),
    [
        ("otters.yaml", "runs/otters"),
        ("jobs/otters.yaml", "runs/otters"),
        ("deep/jobs/otters.yml", "deep/runs/otters"),
        ("jobs/deep/otters.yaml", "jobs/deep/runs/otters"),
        ("my jobs/otters.yaml", "my jobs/runs/otters"),
    ],
)
def test_runs_lie_beside_the_manifest_or_beside_jobs(world: World, manifest: str, run: str) -> None:
    path = world.folder / manifest
    path.parent.mkdir(parents=True, exist_ok=True)
    world.write().rename(path)
    ran = said(world, "run", manifest)
    assert (ran.returncode, f"{world.folder / run} (new)" in ran.stderr) == (0, True)
    with chdir(world.folder.parent):  # never the current folder
        assert f"{world.folder / run} (resumed)" in said(world, "plan", str(path)).stdout
    assert {path.parent.name for path in world.folder.rglob("ledger.db")} == {"otters"}


@pytest.mark.parametrize("verb", [("plan",), ("run",), ("run", "--sample", "1"), ("run", "--resume")])
def test_another_manifest_of_the_same_name_is_refused_by_all_who_would_work_with_it(
    world: World, verb: tuple[str, ...]
) -> None:
    world.run()
    shutil.copy(world.folder / "otters.yaml", world.folder / "others.yaml")
    refused = said(world, verb[0], "others.yaml", *verb[1:])
    assert (refused.returncode, "was made by another manifest" in refused.stderr) == (2, True)
    assert (len(world.charges()), world.rows("SELECT count(*) FROM runs")) == (1, [(1,)])


# whom it may ask


def strangers(world: World, url: str) -> Path:
    """A manifest that would send the user's key somewhere."""
    provider = {"name": "far", "dialect": "openai", "base_url": url, "api_key_env": "OPENAI_API_KEY"}
    return world.write(provider=provider)


@pytest.mark.parametrize("host", ["evil.example", "api.openai.com.evil.example", "127.0.0.1.evil.example", "0.0.0.0"])
@pytest.mark.parametrize("verb", [("plan",), ("run",), ("run", "--yes", "--budget", "9"), ("run", "--sample", "1")])
def test_a_strangers_manifest_gets_no_key(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...], host: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = strangers(world, f"https://{host}/v1")
    refused = said(world, verb[0], str(path), *verb[1:])
    assert (refused.returncode, KEY in refused.stderr + refused.stdout) == (2, False)
    assert f"the key in OPENAI_API_KEY would go to {host}" in refused.stderr
    assert f"--trust-host {host}" in refused.stderr
    assert [path.name for path in world.folder.iterdir()] == ["otters.yaml"]


def test_a_host_is_trusted_by_its_own_name_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = str(strangers(world, "https://far.invalid/v1"))
    for other in ("invalid", "far", "far.invalid.example", "far.invalid/v1", ""):
        assert said(world, "plan", path, "--trust-host", other).returncode == 2
    plan = said(world, "plan", path, "--trust-host", "far.invalid")
    assert (plan.returncode, "far: https://far.invalid, with the key in OPENAI_API_KEY" in plan.stdout) == (0, True)
    assert KEY not in plan.stdout


def test_a_key_goes_where_the_environment_says_and_the_plan_names_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", world.sandbox.url)
    path = str(world.write(provider="openai"))
    assert f"{world.sandbox.root}, with the key in OPENAI_API_KEY" in said(world, "plan", path).stdout
    assert (said(world, "run", path).returncode, len(world.charges())) == (0, 1)


@pytest.mark.parametrize("url", ["loopback", "https://far.invalid/v1", "http://far.invalid/v1"])
def test_a_rehearsal_needs_no_key_and_asks_nobody_but_the_sandbox(
    world: World, host: Callable[[Respond], Host], url: str
) -> None:
    real = host(lambda method, path: (500, {}, b"nobody should ask me"))
    provider = {"name": "far", "dialect": "openai", "base_url": url, "api_key_env": "FAR_KEY_THAT_IS_NOT_SET"}
    provider["base_url"] = f"{real.url}/v1" if url == "loopback" else url
    path = str(world.write(provider=provider, prompts=many(2), limits=None))
    rehearsed = said(world, "run", path, "--sandbox")
    assert (rehearsed.returncode, real.seen, world.charges()) == (0, [], [])
    assert "far: the sandbox on this machine, no key" in rehearsed.stderr
    assert [path.name for path in (world.folder / "runs").iterdir()] == ["otters.sandbox"]
    report = json.loads(said(world, "report", "runs/otters.sandbox", "--json").stdout)
    assert [group["provider"] for group in report["groups"]] == ["sandbox:far"]
    assert (report["cost"]["pretend"], report["images"]["saved"]) == (True, 2)


def test_a_rehearsal_buys_nothing_of_the_job_and_is_found_by_its_folder_alone(world: World) -> None:
    path = str(world.write(prompts=many(2)))
    assert said(world, "run", path, "--sandbox").returncode == 0
    for verb in ("report", "status", "verify"):
        refused = said(world, verb, path)
        assert (refused.returncode, "but a rehearsal: give" in refused.stderr) == (2, True)
    again = said(world, "run", "runs/otters.sandbox")
    assert (again.returncode, "0 to do" in again.stderr, world.charges()) == (0, True, [])
    assert (said(world, "run", path).returncode, len(world.charges())) == (0, 2)


# samples

SPREAD: dict[str, Any] = {
    "prompts": many(3),
    "matrix": {"size": SIZES, "quality": ["low", "medium"]},
    "request": None,
    "samples": 2,
}
"""3 × 4 × 2 = 24 tasks."""


def bought(world: World) -> set[str]:
    return {key for (key,) in world.rows("SELECT key FROM tasks WHERE state = 'done'")}


def test_a_sample_buys_so_many_and_a_larger_one_and_the_whole_buy_the_rest(world: World) -> None:
    path = str(world.write(**SPREAD))
    seen: list[set[str]] = [set()]
    for flags in (("--sample", "4"), ("--sample", "4"), ("--sample", "7"), ("--sample", "2"), ()):
        assert said(world, "run", path, *flags).returncode == 0
        assert seen[-1] <= bought(world)
        seen.append(bought(world))
    assert [len(keys) for keys in seen] == [0, 4, 4, 7, 7, 24]
    assert len(world.rows("SELECT DISTINCT axes FROM v_tasks WHERE key IN ('" + "', '".join(seen[1]) + "')")) == 4
    check_each_was_charged_once(world, 24)
    report = json.loads(said(world, "report", path, "--json").stdout)
    assert round(report["cost"]["paid"] * 1e9) == world.billed()


def test_the_answers_of_a_sample_correct_the_estimate_of_the_rest(world: World) -> None:
    """The prompts are long, so that what a byte of them costs weighs."""
    changes: dict[str, Any] = {**SPREAD, "prompts": [f"Otter number {n}, {'very ' * 300}wet" for n in range(3)]}
    before = drawn(world, **changes).cost
    assert said(world, "run", "otters.yaml", "--sample", "8").returncode == 0
    sampled = world.billed()
    after = drawn(world, **changes)
    assert (after.survey.todo, after.answers, after.survey.new) == (16, 8, 16)
    assert said(world, "run", "otters.yaml").returncode == 0
    rest = world.billed() - sampled
    assert after.cost.low <= rest <= after.cost.high
    assert abs(after.cost.expected - rest) <= rest // 100
    assert abs(after.cost.expected - rest) < abs(before.expected * 16 // 24 - rest)


def test_a_sample_of_more_than_the_job_is_the_job(world: World) -> None:
    path = str(world.write(prompts=many(3)))
    assert planned(world, path, "--sample", "99")["tasks"] == 3
    assert said(world, "run", path, "--sample", "99").returncode == 0
    assert said(world, "run", path).returncode == 0
    check_each_was_charged_once(world, 3)


@pytest.mark.parametrize("sample", ["2", "99"])
def test_the_rest_is_spoken_of_only_where_there_is_one_and_bought_without_sample(world: World, sample: str) -> None:
    world.write(prompts=many(3))
    following = said(world, "run", "otters.yaml", "--sample", sample).stderr.rpartition("Next: ")[2]
    assert ("the rest" in following, "--sample 2" in following, "--sample 99" in following) == (
        sample == "2",
        False,
        False,
    )


@pytest.mark.parametrize("sample", ["0", "-1", "1.5", "many"])
def test_a_sample_of_nothing_is_refused(world: World, sample: str) -> None:
    assert said(world, "run", str(world.write()), "--sample", sample).returncode == 2
    assert world.charges() == []


def test_a_sample_that_is_cut_short_is_no_whole_run(world: World) -> None:
    """Nothing but the sample is bought, though more was queued before."""
    world.write(prompts=many(6))
    assert said(world, "run", "otters.yaml", "--set", "limits.images=1").returncode == 4
    assert said(world, "run", "otters.yaml", "--sample", "3").returncode == 0
    assert 3 <= len(world.charges()) <= 4
    assert said(world, "run", "otters.yaml").returncode == 0
    check_each_was_charged_once(world, 6)


def test_a_rehearsed_sample_costs_nothing(world: World) -> None:
    path = str(world.write(**SPREAD))
    assert said(world, "run", path, "--sample", "3", "--sandbox").returncode == 0
    assert (world.charges(), planned(world, path)["todo"]) == ([], 24)


# edits

GRID: dict[str, Any] = {
    "prompts": [OTTER, HERON],
    "matrix": {"quality": ["low", "medium"]},
    "request": {"size": "auto"},
}
STEPS: tuple[tuple[str, dict[str, Any], int, tuple[int, int, int]], ...] = (
    ("at first", {}, 4, (4, 0, 0)),
    ("a row is added", {"prompts": [OTTER, HERON, CARP]}, 6, (2, 4, 0)),
    ("a prompt is changed", {"prompts": [OTTER, f"{HERON}, in ink", CARP]}, 8, (2, 4, 2)),
    ("and changed back", {"prompts": [OTTER, HERON, CARP]}, 8, (0, 6, 2)),
    ("a quality is removed", {"matrix": {"quality": ["low"]}}, 8, (0, 2, 4)),
    ("and comes back as no axis", {"matrix": None, "request": {"size": "auto", "quality": "medium"}}, 8, (0, 2, 2)),
    ("a parameter is added", {"request": {"size": "auto", "background": "opaque"}}, 12, (4, 0, 2)),
    ("and undone", {}, 12, (0, 4, 4)),
    ("rows are turned round", {"prompts": [HERON, OTTER]}, 12, (0, 4, 0)),
    ("samples are added", {"samples": 2}, 16, (4, 4, 0)),
    ("and taken away", {}, 16, (0, 4, 4)),
)


def test_each_edit_buys_what_is_new_and_nothing_that_is_there(world: World) -> None:
    for step, changes, charges, change in STEPS:
        world.write(**{**GRID, **changes})
        plan = planned(world, "otters.yaml")
        assert tuple(plan["change"][name] for name in ("new", "kept", "dropped")) == change, step
        ran = said(world, "run", "otters.yaml")
        new, kept, dropped = change
        assert (ran.returncode, f"+{new} new" in ran.stderr) == (0, True), step
        assert f"{kept} kept · {dropped} dropped · " in ran.stderr, step
        assert len(world.charges()) == charges, step
        settled = {"new": 0, "kept": plan["tasks"], "dropped": 0, "replaced": 0, "causes": []}
        assert planned(world, "otters.yaml")["change"] == settled
        check_each_was_charged_once(world, charges)


def test_an_edit_while_tasks_are_still_to_do_buys_only_what_is_asked_for_now(world: World) -> None:
    world.write(prompts=many(4))
    one = ("--set", "limits.images=1")
    assert said(world, "run", "otters.yaml", *one).returncode == 4
    world.write(prompts=[*many(4)[1:], OTTER])
    change = planned(world, "otters.yaml", *one)["change"]
    assert (change["new"], change["kept"], change["dropped"]) == (1, 3, 1)
    assert said(world, "run", "otters.yaml").returncode == 0
    world.write(prompts=many(4))
    assert said(world, "run", "otters.yaml").returncode == 0
    check_each_was_charged_once(world, 5)
    assert prompts_bought(world) == Counter([*many(4), OTTER])


def test_a_new_path_is_taken_by_what_is_still_to_do(world: World) -> None:
    changes: dict[str, Any] = {"prompts": many(3), "limits": {"concurrency": 1, "budget": 1}}
    world.write(**changes, output={"path": "old/{{ slug }}"})
    assert said(world, "run", "otters.yaml", "--set", "limits.images=1").returncode == 4
    world.write(**changes, output={"path": "new/{{ slug }}"})
    assert said(world, "run", "otters.yaml").returncode == 0
    assert Counter(path.parent.name for path in world.files()) == {"old": 1, "new": 2}
    assert said(world, "verify", "otters.yaml").returncode == 0
    check_each_was_charged_once(world, 3)


def ids(world: World) -> dict[str, str | None]:
    return dict(world.rows("SELECT prompt, ids FROM v_tasks ORDER BY seq"))


def test_names_follow_the_file_and_buy_nothing(world: World) -> None:
    """Equal rows share a task and keep both names; a name that is edited is another name for the same image."""
    file = world.folder / "rows.csv"
    world.write(prompts=[{"file": "rows.csv", "id": "{{ sku }}"}])
    file.write_text("prompt,sku\nA fox,f1\nA heron,h1\nA fox,f2\n")
    plan = planned(world, "otters.yaml")
    assert (plan["rows"], plan["duplicates"], plan["tasks"]) == (3, 1, 2)
    assert said(world, "run", "otters.yaml").returncode == 0
    assert ids(world) == {"A fox": "f1, f2", "A heron": "h1"}
    file.write_text("prompt,sku\nA fox,f1\nA heron,h9\n")
    assert said(world, "run", "otters.yaml").returncode == 0
    assert ids(world) == {"A fox": "f1", "A heron": "h9"}
    check_each_was_charged_once(world, 2)


def test_what_is_read_of_a_file_is_what_stands_in_it_now(world: World) -> None:
    file = world.folder / "rows.txt"
    file.write_text("A fox\nA heron\n")
    world.write(prompts=[{"file": "rows.txt"}])
    assert said(world, "run", "otters.yaml").returncode == 0
    file.write_text("A carp\nA fox\n")
    change = planned(world, "otters.yaml")["change"]
    assert (change["new"], change["kept"], change["dropped"]) == (1, 1, 1)
    assert said(world, "run", "otters.yaml").returncode == 0
    check_each_was_charged_once(world, 3)


# several providers


def two(world: World, **bad: object) -> dict[str, Any]:
    """One job at two providers, which are one sandbox under two names."""
    targets = [
        {"as": "one", "provider": world.provider(name="one"), "model": "gpt-image-2"},
        {"as": "two", "provider": world.provider(name="two", **bad), "model": "gpt-image-2"},
    ]
    return {"provider": None, "model": None, "prompts": many(3), "matrix": {"target": targets}}


def lanes(world: World) -> dict[tuple[str, str], int]:
    rows = world.rows("SELECT pool, state, count(*) FROM tasks WHERE wanted = 'yes' GROUP BY pool, state")
    return {(lane, state): count for lane, state, count in rows}


def test_each_provider_has_a_lane_and_each_charge_is_its_own(world: World) -> None:
    world.write(**two(world))
    assert said(world, "run", "otters.yaml").returncode == 0
    assert lanes(world) == {("one", "done"): 3, ("two", "done"): 3}
    assert world.rows("SELECT lane, count(*) FROM attempts GROUP BY lane") == [("one", 3), ("two", 3)]
    check_each_was_charged_once(world, 6)


def test_a_blocked_provider_stops_alone_and_is_gone_on_with_when_it_is_mended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(**two(world, api_key_env="BAD_KEY"))
    blocked = said(world, "run", "otters.yaml")
    assert (blocked.returncode, BAD_KEY in blocked.stderr) == (5, False)
    assert lanes(world) == {("one", "done"): 3, ("two", "todo"): 3}
    assert planned(world, "otters.yaml")["todo"] == 3
    monkeypatch.setenv("BAD_KEY", "sk-mended-1f0d2c")
    assert said(world, "run", "otters.yaml").returncode == 0
    assert lanes(world) == {("one", "done"): 3, ("two", "done"): 3}
    check_each_was_charged_once(world, 6)


def test_the_provider_that_is_blocked_is_named(world: World) -> None:
    world.write(**two(world, api_key_env="BAD_KEY"))
    reason = next(
        line for line in said(world, "run", "otters.yaml").stderr.splitlines() if line.startswith("blocked: ")
    )
    assert "two" in reason


def test_a_key_that_is_missing_is_told_before_anything_is_asked_or_made(world: World) -> None:
    world.write(**two(world, api_key_env="KEY_THAT_IS_NOT_SET"))
    refused = said(world, "run", "otters.yaml")
    assert (refused.returncode, "KEY_THAT_IS_NOT_SET is not set" in refused.stderr) == (2, True)
    assert [path.name for path in world.folder.iterdir()] == ["otters.yaml"]
    assert "(not set: export it)" in said(world, "plan", "otters.yaml").stdout


def test_a_budget_is_one_for_all_providers(world: World) -> None:
    world.write(**two(world))
    assert said(world, "run", "otters.yaml", "--budget", "0.02").returncode == 4
    assert 0 < world.billed() <= 20_000_000
    assert said(world, "run", "otters.yaml", "--budget", "1").returncode == 0
    check_each_was_charged_once(world, 6)


@pytest.fixture
def killed(bad: Start) -> World:
    """A run that was killed while its requests were on their way to `old`."""
    world = bad("--latency", "1")
    changes: dict[str, Any] = {"prompts": many(2), "provider": world.provider(name="old"), "limits": {"budget": 1}}
    process = world.begin("run", str(world.write(**changes)))
    eventually(lambda: world.sandbox.stats()["open"] == 2)
    process.kill()
    process.wait()
    return world


def test_what_was_on_its_way_to_a_provider_that_is_no_longer_there_stays_in_the_books(
    killed: World, world: World
) -> None:
    eventually(lambda: len(killed.charges()) == 2)
    killed.write(prompts=many(2), provider=world.provider(name="new"))
    assert said(killed, "run", "otters.yaml").returncode == 0
    assert killed.attempts() == ["unknown", "unknown", "paid", "paid"]
    low, high = killed.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts WHERE lane = 'old'")[0]
    assert low <= killed.billed() <= high
    assert len(world.charges()) == 2


def test_status_says_cut_off_and_then_how_it_ended(killed: World, world: World) -> None:
    state = said(killed, "status", "otters.yaml").stdout.splitlines()[0]
    assert f"cut off (process {killed.started[0].pid} on {socket.gethostname()}, since " in state
    killed.write(prompts=[OTTER], provider=world.provider(name="new"))
    assert said(killed, "run", "otters.yaml").returncode == 0
    assert re.search(r"ended \S+ \S+ UTC with 0: all done$", said(killed, "status", "otters.yaml").stdout, re.M)


def test_status_says_running_while_it_does(bad: Start) -> None:
    world = bad("--latency", "0.7")
    process = world.begin("run", str(world.write()))
    eventually(lambda: world.sandbox.stats()["open"] == 1)
    state = said(world, "status", "otters.yaml").stdout.splitlines()[0]
    assert f"running (process {process.pid} on {socket.gethostname()}, since " in state
    told = json.loads(said(world, "status", "otters.yaml", "--json").stdout)
    assert (told["tasks"]["total"], told["ended_at"]) == (1, None)
    assert process.wait(20) == 0


def test_a_run_by_its_folder_says_what_it_cannot_finish(world: World) -> None:
    """What is queued there was meant for a provider that the last manifest does not have."""
    world.write(prompts=many(3), provider=world.provider(name="old"))
    assert said(world, "run", "otters.yaml", "--set", "limits.images=1").returncode == 4
    world.write(prompts=many(3), provider=world.provider(name="new"), limits={"budget": 1, "images": 50})
    assert said(world, "run", "otters.yaml", "--sample", "1").returncode == 0
    ended = said(world, "run", "runs/otters")
    assert (ended.returncode == 7, "interrupted" in ended.stderr) == (False, False)


# what is told


@pytest.mark.parametrize("flags", [("--runs", "elsewhere"), ("--set", "samples=2"), ("--sample", "3")])
def test_the_next_command_goes_on_with_this_very_run(world: World, flags: tuple[str, ...]) -> None:
    world.write(prompts=many(4))
    ended = said(world, "run", "otters.yaml", *flags, "--set", "limits.images=1")
    assert ended.returncode == 4
    assert flags[1] in ended.stderr.rpartition("Next: ")[2]


def test_who_holds_a_folder_before_its_run_begins_is_named(world: World) -> None:
    world.run(prompts=many(2))
    world.write(prompts=many(3))
    wish = offer.wish(str(world.folder / "otters.yaml"), None, Setup())
    with offer.offered(wish):  # a person is asked
        refused = world.command("run", "otters.yaml")
        assert refused.returncode == 6
        ended = world.rows("SELECT started_at FROM runs")[0][0]
        assert ended not in refused.stderr


@pytest.mark.parametrize("verb", ["status", "report", "verify"])
def test_a_name_that_looks_like_a_number_is_one_for_every_verb(world: World, verb: str) -> None:
    assert said(world, "run", str(world.write(name=2024))).returncode == 0
    assert said(world, verb, "otters.yaml").returncode == 0


@pytest.mark.parametrize("verb", ["status", "report", "verify"])
def test_a_manifest_that_is_no_utf_8_is_told_by_every_verb(world: World, verb: str) -> None:
    (world.folder / "otters.yaml").write_bytes("name: otters\nprompts: [Füchse]\n".encode("latin-1"))
    refused = said(world, verb, "otters.yaml")
    assert (refused.returncode, "not UTF-8" in refused.stderr) == (2, True)


def test_a_job_that_is_only_called_like_a_rehearsal_is_none(world: World) -> None:
    world.write(name="otters.sandbox", prompts=many(3))
    assert said(world, "run", "otters.yaml", "--set", "limits.images=1").returncode == 4
    assert said(world, "run", "runs/otters.sandbox", "--set", "limits.images=9").returncode == 0
    assert len(world.charges()) == 3


def test_costs_are_those_of_all_runs_and_pretend_money_is_told_apart(world: World) -> None:
    for name, count in (("one", 2), ("two", 3)):
        world.write(name=name, project="zoo", prompts=many(count)).rename(world.folder / f"{name}.yaml")
        assert said(world, "run", f"{name}.yaml").returncode == 0
    assert said(world, "run", "two.yaml", "--sandbox").returncode == 0
    told = json.loads(said(world, "costs", "--by", "project,job", "--json").stdout)
    rows = [(row["project"], row["job"], row["images"]) for row in told["rows"]]
    assert rows == [("zoo", "two", 3), ("zoo", "one", 2)]
    assert (round(told["total"]["high"] * 1e9), told["pretend"]["runs"]) == (world.billed(), 1)
    assert told["pretend"]["high"] > 0


def test_verbs_complete_in_a_shell(world: World) -> None:
    variables = {"_BATCHGEN_COMPLETE": "bash_complete", "COMP_WORDS": "batchgen re", "COMP_CWORD": "1"}
    completed = world.command(**variables)
    assert [line.partition(",")[2] for line in completed.stdout.splitlines()] == ["report", "retry", "redo", "resolve"]


# what reviewers found


def test_a_folder_is_not_finished_after_a_sample_of_another_manifest(world: World) -> None:
    world.write(prompts=many(10))
    assert said(world, "run", "otters.yaml", "--set", "limits.images=4").returncode == 4
    world.write(prompts=["Alpha", "Beta", "Gamma"])
    assert said(world, "run", "otters.yaml", "--sample", "2").returncode == 0
    refused = said(world, "run", "runs/otters")
    assert (refused.returncode, "run the manifest itself" in refused.stderr) == (2, True)
    assert said(world, "run", "otters.yaml").returncode == 0
    assert world.states() == {"done": 3}
    assert len(world.charges()) == 4 + 3


def test_a_sample_calls_its_rows_as_the_manifest_does_now(world: World) -> None:
    changes: dict[str, Any] = {"prompts": [{"file": "rows.csv", "id": "{{ sku }}"}]}
    (world.folder / "rows.csv").write_text("sku,prompt\nA,Red fox\nB,Blue fox\n")
    world.write(**changes)
    assert said(world, "run", "otters.yaml").returncode == 0
    (world.folder / "rows.csv").write_text("sku,prompt\nB,Red fox\nA,Blue fox\nC,Green fox\n")
    assert said(world, "run", "otters.yaml", "--sample", "3").returncode == 0
    named = dict(world.rows("SELECT prompt, ids FROM v_tasks"))
    assert named == {"Red fox": "B", "Blue fox": "A", "Green fox": "C"}


def test_what_is_done_is_called_as_the_manifest_does_now_and_its_file_stays(world: World) -> None:
    def targets(first: str, second: str) -> dict[str, Any]:
        choices = [{"as": first, "quality": "low"}, {"as": second, "quality": "medium"}]
        return {"request": {"size": "1024x1024"}, "matrix": {"target": choices}}

    world.write(**targets("cheap", "fine"))
    assert said(world, "run", "otters.yaml").returncode == 0
    files = world.files()
    world.write(**targets("one", "two"))
    assert said(world, "run", "otters.yaml").returncode == 0
    groups = json.loads(said(world, "report", "otters.yaml", "--json").stdout)["groups"]
    assert sorted(group["axes"]["target"] for group in groups) == ["one", "two"]
    assert (world.files(), len(world.charges())) == (files, 2)


@pytest.mark.parametrize("key", ["request.quality=high", "name=zzz", "samples=9"])
def test_a_folder_takes_no_setting_that_it_could_not_follow(world: World, key: str) -> None:
    world.run()
    refused = said(world, "run", "runs/otters", "--set", key)
    assert (refused.returncode, "needs the manifest itself" in refused.stderr) == (2, True)
    assert said(world, "run", "runs/otters", "--set", "limits.concurrency=2").returncode == 0


def test_how_images_come_is_told_of_each_as_it_came(world: World) -> None:
    sql = "SELECT prompt, json_extract(params, '$.stream') FROM v_tasks WHERE state = 'done' ORDER BY prompt"
    world.write(prompts=[HERON], request=LOW)
    assert said(world, "run", "otters.yaml").returncode == 0
    world.write(prompts=[HERON, OTTER], request={**LOW, "stream": True})
    assert planned(world, "otters.yaml")["todo"] == 1
    for _ in range(2):
        assert said(world, "run", "otters.yaml").returncode == 0
        assert world.rows(sql) == [(HERON, None), (OTTER, 1)]
    check_each_was_charged_once(world, 2)
