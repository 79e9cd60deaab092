"""The report as scripts rely on it: names, types and sums, in every shape and at any time."""

import base64
import csv
import io
import json
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Start
from PIL import Image
from test_cli import on_a_terminal
from world import CARP, HERON, OTTER, Host, Respond, World, eventually, many

from batchgen import report
from batchgen.commands import tables

STATES = {"total", "todo", "doing", "done", "refused", "failed", "held"}
ATTEMPTS = {"total", "sending", "accepted", "paid", "unusable", "rejected", "unsent", "unknown"}
CONTRACT: dict[str, object] = {
    "schema_version": int,
    "job": str,
    "project": str,
    "started_at": str,
    "ended_at": str,
    "tasks": dict.fromkeys(STATES, int),
    "not_wanted": {"dropped": int, "replaced": int},
    "images": {"saved": int, "missing": int, "bytes": int},
    "attempts": dict.fromkeys(ATTEMPTS, int),
    "duplicates": {"images": int, "contents": int, "most": list},
    "usage": {"input_text_tokens": int, "input_image_tokens": int, "output_tokens": int, "total_tokens": int},
    "cost": {
        "currency": str,
        "prices_as_of": str,
        **dict.fromkeys(("paid", "estimated", "unknown", "low", "high", "avoided", "on_the_way"), float),
        "unpriced_attempts": int,
        "answers": int,
        "doubted": int,
        "pretend": bool,
        "engines": dict,
        "spent_on": dict.fromkeys(("kept", "replaced", "dropped", "unusable"), float),
    },
    "blocked": list,
    "lanes": list,
    "groups": list,
}
GROUP: dict[str, object] = {
    "axes": dict,
    **dict.fromkeys(("provider", "model", "operation"), str),
    **dict.fromkeys(("tasks", "images", "input_tokens", "output_tokens"), int),
    "paid": float,
}


def told(world: World, *flags: str) -> dict[str, Any]:
    said = world.command("report", str(world.run_folder), "--json", *flags)
    assert (said.returncode, said.stderr) == (0, "")
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def keeps(contract: dict[str, object], found: dict[str, Any], more: frozenset[str] = frozenset()) -> None:
    """Every name is there, with its type, and no other but `more`."""
    assert found.keys() - more == contract.keys()
    for name, kind in contract.items():
        if isinstance(kind, dict):
            keeps(kind, found[name])
        else:
            assert type(found[name]) is kind, name


def mixed(bad: Start) -> World:
    """A run in which something of each kind happened."""
    world = bad("--script", "ok cut badpng 400 nousage ok ok")
    matrix = {"size": ["1024x1024", "1536x1024"], "quality": ["low", "medium"]}
    retry = {"attempts": 1, "on_unknown": "hold"}
    limits = {"concurrency": 1, "budget": 10}
    prompts = [OTTER, f"{CARP} [moderated]"]
    world.run(prompts=prompts, matrix=matrix, request=None, retry=retry, limits=limits, project="zoo")
    return world


def check_sums(report: dict[str, Any]) -> None:
    for name in ("tasks", "attempts"):
        assert report[name]["total"] == sum(count for state, count in report[name].items() if state != "total")
    cost = report["cost"]
    assert cost["high"] == pytest.approx(cost["paid"] + cost["estimated"] + cost["unknown"], abs=1e-9)
    assert cost["low"] <= cost["high"]


def check_groups(report: dict[str, Any]) -> None:
    """Where nothing was dropped, the groups are the whole."""
    sums = {name: sum(group[name] for group in report["groups"]) for name in GROUP if GROUP[name] in (int, float)}
    assert (sums["tasks"], sums["images"]) == (report["tasks"]["total"], report["images"]["saved"])
    assert sums["output_tokens"] == report["usage"]["output_tokens"]
    assert sums["input_tokens"] == report["usage"]["input_text_tokens"] + report["usage"]["input_image_tokens"]
    assert sums["paid"] == pytest.approx(report["cost"]["paid"], abs=1e-9)


def test_the_report_keeps_its_contract(bad: Start) -> None:
    report = told(mixed(bad))
    keeps(CONTRACT, report)
    for group in report["groups"]:
        keeps(GROUP, group, more=frozenset({"low", "high"}))
    assert (report["job"], report["project"], report["cost"]["currency"]) == ("otters", "zoo", "USD")
    assert report["started_at"] < report["ended_at"]


def test_its_sums_are_sums(bad: Start) -> None:
    world = mixed(bad)
    report = told(world)
    check_sums(report)
    check_groups(report)
    assert report["cost"]["low"] <= world.billed() / 1e9 <= report["cost"]["high"]
    assert report["attempts"]["total"] == 8
    found = {name: count for name, count in report["tasks"].items() if count}
    assert found == {"total": 8, "done": 1, "held": 2, "failed": 1, "refused": 4}


def test_what_was_dropped_is_counted_apart(world: World) -> None:
    world.run(prompts=[OTTER, HERON, CARP])
    world.run(prompts=[OTTER])
    report = told(world)
    check_sums(report)
    assert (report["tasks"]["total"], report["images"]["saved"], report["not_wanted"]["dropped"]) == (1, 1, 2)
    spent = report["cost"]["spent_on"]
    assert spent["kept"] + spent["dropped"] == pytest.approx(report["cost"]["paid"], abs=1e-9)
    assert report["cost"]["paid"] == world.billed() / 1e9


def test_an_image_that_is_missing_from_an_answer_is_counted(world: World, host: Callable[[Respond], Host]) -> None:
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    pictures = [{"b64_json": base64.b64encode(out.getvalue()).decode()}, {"b64_json": "AAAA"}]
    body = json.dumps({"data": pictures, "usage": {"input_tokens": 5, "output_tokens": 392}}).encode()
    seller = host(lambda method, path: (200, {}, body))
    request = {"n": 3, "size": "1024x1024", "quality": "low"}
    assert world.run(provider=world.provider(base_url=seller.url), request=request).exit_code == 0
    report = told(world)
    assert report["images"] == {"saved": 1, "missing": 2, "bytes": len(out.getvalue())}
    check_sums(report)


def table(world: World, *flags: str) -> list[dict[str, str]]:
    said = world.command("report", str(world.run_folder), "--csv", *flags)
    assert said.returncode == 0
    return list(csv.DictReader(io.StringIO(said.stdout)))


def test_it_can_be_summed_by_any_axis(bad: Start) -> None:
    world = mixed(bad)
    report = told(world)
    for by in ("size", "quality", "model", "provider", "operation", "size,quality"):
        rows = table(world, "--by", by)
        assert len(rows) == {"size": 2, "quality": 2, "size,quality": 4}.get(by, 1)
        assert list(rows[0])[: by.count(",") + 1] == by.split(",")
        assert sum(float(row["paid"]) for row in rows) == pytest.approx(report["cost"]["paid"], abs=1e-9)
        assert sum(int(row["tasks"]) for row in rows) == 8
    assert len(table(world)) == 4


def test_a_column_that_is_none_is_refused_with_those_that_are(world: World) -> None:
    world.run()
    said = world.command("report", "otters.yaml", "--by", "colour")
    assert (said.returncode, said.stdout, "provider, model, operation" in said.stderr) == (2, "", True)


def test_attempts_are_listed_by_state(bad: Start) -> None:
    world = mixed(bad)
    for state in ("paid", "unknown", "unusable", "rejected", "all"):
        rows = table(world, "--attempts", state)
        assert rows
        assert {row["state"] for row in rows} == {state} or state == "all"
        assert len(told(world, "--attempts", state)["attempts"]) == len(rows)
    assert len(table(world, "--attempts", "all")) == told(world)["attempts"]["total"]
    assert {row["id"] for row in table(world, "--attempts", "all")} == {
        id_ for (id_,) in world.rows("SELECT id FROM attempts")
    }
    assert world.command("report", str(world.run_folder), "--attempts", "lost").returncode == 2


def test_a_task_is_told_with_all_its_attempts(bad: Start) -> None:
    world = bad("--script", "cut")
    world.run(retry={"duplicate_allowance": 1})
    ((key,),) = world.rows("SELECT key FROM tasks")
    found = told(world, "--task", key)
    assert (found["task"]["prompt"], [each["state"] for each in found["attempts"]]) == (OTTER, ["unknown", "paid"])
    shown = world.command("report", str(world.run_folder), "--task", key).stdout
    assert OTTER in shown
    for number, attempt in enumerate(found["attempts"], 1):
        assert f"\n  {number}  {attempt['id']}  sent 20" in shown, "an id stands in one line, to be copied"
    assert "cut: the connection was cut" in shown
    assert world.command("report", str(world.run_folder), "--task", "nosuchkey").returncode == 2


def test_a_run_can_be_told_of_while_it_works(bad: Start) -> None:
    world = bad("--latency", "0.5")
    process = world.begin("run", str(world.write(prompts=many(60), limits={"concurrency": 2, "budget": 1})))
    eventually(world.charges)
    report = told(world)
    keeps({**CONTRACT, "ended_at": type(None)}, report)
    check_sums(report)
    check_groups(report)
    assert report["attempts"]["sending"] > 0
    assert world.command("status", str(world.run_folder)).stdout.startswith("otters, begun ")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7


def test_the_views_can_be_read_by_hand(bad: Start) -> None:
    world = mixed(bad)
    counts = {
        name: len(world.rows(f"SELECT * FROM {name}")) for name in ("v_tasks", "v_attempts", "v_images", "v_costs")
    }
    assert counts["v_tasks"] == 8
    assert counts["v_attempts"] == 8
    assert world.rows("SELECT DISTINCT provider, model FROM v_tasks") == [("pretend", "gpt-image-2")]
    low, high = world.rows("SELECT sum(usd_low), sum(usd_high) FROM v_costs")[0]
    cost = told(world)["cost"]
    assert (low, high) == (pytest.approx(cost["low"]), pytest.approx(cost["high"]))
    saved = world.rows("SELECT path FROM v_images WHERE state = 'saved'")
    assert all((world.run_folder / "images" / path).exists() for (path,) in saved)


def test_money_without_a_price_is_not_told_as_nothing(world: World, host: Callable[[Respond], Host]) -> None:
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    body = json.dumps({"data": [{"b64_json": base64.b64encode(out.getvalue()).decode()}]}).encode()
    seller = host(lambda method, path: (200, {}, body))
    provider = world.provider(base_url=seller.url)
    assert world.run(provider=provider, model="dall-e-9", request=None, limits={"images": 2}).exit_code == 0
    assert "$0.0000" not in world.command("report", str(world.run_folder)).stdout
    assert told(world)["cost"]["high"] is None


def test_images_that_are_equal_are_told_and_those_of_dropped_tasks_are_not(world: World) -> None:
    """This sandbox sells few pictures, again and again."""
    assert world.run(prompts=many(9)).exit_code == 0
    paths: dict[str, list[str]] = {}
    for sha256, path in world.rows("SELECT sha256, path FROM images ORDER BY id"):
        paths.setdefault(sha256, []).append(path)
    equal = {sha256: each for sha256, each in paths.items() if len(each) > 1}
    count, contents = sum(map(len, equal.values())), len(equal)
    found = told(world)["duplicates"]
    assert (found["images"], found["contents"]) == (count, contents)
    assert {twins["sha256"]: [twins["images"], twins["first"], twins["last"]] for twins in found["most"]} == {
        sha256: [len(each), each[0], each[-1]] for sha256, each in equal.items()
    }
    assert [twins["images"] for twins in found["most"]] == sorted(map(len, equal.values()), reverse=True)
    shown = world.command("report", "otters.yaml").stdout
    assert f"Duplicates    {count} of them are only {contents} different file" in shown
    world.run(prompts=many(1))
    assert told(world)["duplicates"] == {"images": 0, "contents": 0, "most": []}
    assert "Duplicates" not in world.command("report", "otters.yaml").stdout


def test_a_wide_terminal_shows_shares_of_the_cost_as_bars_and_nothing_else_does(world: World) -> None:
    world.run(matrix={"quality": ["low", "medium"]}, request={"size": "1024x1024"})
    shown = on_a_terminal(world, "report", "otters.yaml", COLUMNS="120", NO_COLOR="1")
    low, medium = [line for line in shown.splitlines() if "█" in line]
    assert re.search(r" 10% █+[▏▎▍▌▋▊▉]?$", low), low
    assert re.search(r" 90% █{24}$", medium), medium
    assert low.index("10%") == medium.index("90%")
    for flags in ((), ("--csv",)):
        assert "█" not in world.command("report", "otters.yaml", *flags).stdout


TABLE = report.Table(
    ("size", "tasks", "id", "paid", "error"),
    (("1024x1024", 1_000, "8e5efd8d66f242eab4e45a8bec929bc7", 10.5, "it was cut off " * 9), ("auto", 1, "", 1.5, "")),
)


@pytest.mark.parametrize("columns", [*range(20, 130, 11), 300])
def test_a_table_is_never_wider_than_the_terminal_and_cuts_no_id(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in (("COLUMNS", str(columns)), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    tables.show(TABLE, "a\x1btable", [0.875, 0.125], ("tasks", "error"))
    shown = re.sub(r"\x1b\[[01]m", "", capsys.readouterr().out)
    assert all(len(line) <= columns for line in shown.splitlines())
    assert "\x1b" not in shown
    assert ("8e5efd8d66f242eab4e45a8bec929bc7" in shown) == (columns >= 59)
    assert ("█" in shown, "it was" in shown, "tasks" in shown) == (columns >= 75, columns >= 94, columns >= 102)


@pytest.mark.parametrize(
    ("costs", "shares"),
    [
        ([1.0, 3.0], [0.25, 0.75]),
        ([1.0, None, 1.0], [0.5, None, 0.5]),
        ([5.0], []),
        ([0.0, 0.0], []),
        ([None, None], []),
    ],
)
def test_shares_are_of_the_whole_bill(costs: list[float | None], shares: list[float | None]) -> None:
    assert report.shares(report.Table(("size", "high"), tuple(("auto", cost) for cost in costs))) == shares


def test_bars_are_drawn_to_an_eighth_of_a_letter() -> None:
    assert tables._bars([0.5, 0.25, 0.001, None, 0.0, 0.249], 3) == [
        " 50% ███",
        " 25% █▌",
        " <1% ▏",
        "   –",
        "  0% ",
        " 25% █▌",
    ]
