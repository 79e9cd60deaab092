"""Spending over runs: the sums are the runs' own, to the nano-dollar, by month and by any name."""

import base64
import csv
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import Start
from PIL import Image
from world import CARP, HERON, OTTER, Host, Respond, World, eventually, many

from batchgen import report
from batchgen.commands.costs import command
from batchgen.errors import UsageError

MONEY = ("paid", "estimated", "unknown", "low", "high")
COUNTS = ("attempts", "images", "unpriced_attempts")
CANNOT = "warning: {} cannot be read: file is not a database. These sums lack it.\n"


def said(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], standalone_mode=False)


def refusal(*arguments: object) -> str:
    error = said(*arguments).exception
    assert isinstance(error, UsageError), error
    return str(error)


def told(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = said(*arguments, "--json")
    assert result.exception is None, result.exception
    assert result.return_value == code
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def nano(usd: float) -> int:
    return round(usd * 1e9)


def figures(row: dict[str, Any]) -> dict[str, int]:
    """A row's numbers, money in nano-dollars."""
    return {**{name: nano(row[name]) for name in MONEY}, **{name: row[name] for name in COUNTS}}


def summed(rows: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in (*MONEY, *COUNTS)}


def of_report(ledger: Path) -> dict[str, int]:
    """The same figures as the run's report has them; nothing may have been dropped."""
    whole: Any = report.build(ledger)
    row = {**whole["cost"], "attempts": whole["attempts"]["total"], "images": whole["images"]["saved"]}
    return figures(row)


def change(ledger: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(ledger)) as db:
        db.execute(sql, values)
        db.commit()


def ledger(world: World, name: str = "otters") -> Path:
    return world.folder / "runs" / name / "ledger.db"


def rehearse(world: World) -> None:
    """A run of two variants whose provider is the sandbox by name."""
    world.run(name="rehearsal", provider="sandbox", request=None, matrix={"quality": ["low", "medium"]})


@pytest.fixture
def nights(bad: Start) -> World:
    """Three runs of two projects, in which something of each kind happened."""
    world = bad("--script", "ok cut badpng 400 nousage ok ok")
    retry = {"attempts": 1, "on_unknown": "hold"}
    limits = {"concurrency": 1, "budget": 10}
    matrix = {"quality": ["low", "medium"]}
    world.run(name="night", prompts=many(4), matrix=matrix, retry=retry, limits=limits, project="zoo", request=None)
    world.run(name="day", prompts=[OTTER, HERON], matrix={"model": ["gpt-image-2", "gpt-image-1-mini"]}, project="zoo")
    world.run(name="dusk", prompts=[CARP])
    return world


def test_the_sums_are_those_of_the_reports(nights: World) -> None:
    runs = nights.folder / "runs"
    reports = {name: of_report(ledger(nights, name)) for name in ("night", "day", "dusk")}
    found = told("--runs", runs)
    assert {row["job"]: figures(row) for row in found["rows"]} == reports
    assert figures(found["total"]) == summed(list(reports.values()))
    assert all(reports["night"][name] > 0 for name in ("paid", "estimated", "unknown"))
    total = figures(found["total"])
    assert total["low"] <= nights.billed() <= total["high"] == total["paid"] + total["estimated"] + total["unknown"]
    assert [row["high"] for row in found["rows"]] == sorted((row["high"] for row in found["rows"]), reverse=True)


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("project", {("zoo",), ("–",)}),
        ("job", {("night",), ("day",), ("dusk",)}),
        ("provider", {("pretend",)}),
        ("model", {("gpt-image-2",), ("gpt-image-1-mini",)}),
        ("target", {("–",)}),
        ("model, project", {("gpt-image-2", "zoo"), ("gpt-image-1-mini", "zoo"), ("gpt-image-2", "–")}),
    ],
)
def test_by_whatever_it_is_summed_the_total_is_the_same(nights: World, by: str, labels: set[tuple[str, ...]]) -> None:
    runs = nights.folder / "runs"
    found = told("--runs", runs, "--by", by)
    assert found["by"] == by.split(", ")
    assert {tuple(row[name] for name in found["by"]) for row in found["rows"]} == labels
    assert summed([figures(row) for row in found["rows"]]) == figures(found["total"])
    assert found["total"] == told("--runs", runs)["total"]


def test_a_target_is_the_axis_of_that_name(world: World) -> None:
    world.run(prompts=[OTTER], request=None, matrix={"quality": ["low", "medium"]})
    change(ledger(world), "UPDATE variants SET axes = '{\"target\": \"fast lane\"}' WHERE axes LIKE '%low%'")
    rows = told(ledger(world).parent, "--by", "target")["rows"]
    assert [(row["target"], row["attempts"], row["images"]) for row in rows] == [("–", 1, 1), ("fast lane", 1, 1)]


def test_an_attempt_counts_in_the_month_in_which_it_was_sent_with_its_images(world: World) -> None:
    world.run(prompts=many(5), request={"size": "1024x1024", "quality": "low", "n": 2})
    times = ["2026-09-30T23:59:59.999Z", "2026-10-01T00:00:00.000Z", "2026-10-31T23:59:59.999Z"]
    for seq, time in enumerate([*times, "2026-11-01T00:00:00.000Z", "2025-10-15T12:00:00.000Z"], start=1):
        change(ledger(world), "UPDATE attempts SET sent_at = ? WHERE seq = ?", time, seq)
    months = {month: told(ledger(world).parent, "--month", month) for month in ("2026-09", "2026-10", "2026-11")}
    counts = {month: (found["total"]["attempts"], found["total"]["images"]) for month, found in months.items()}
    assert counts == {"2026-09": (1, 2), "2026-10": (2, 4), "2026-11": (1, 2)}
    assert {found["month"] for found in months.values()} == months.keys()
    months["2025-10"] = told(ledger(world).parent, "--month", "2025-10")
    assert summed([figures(found["total"]) for found in months.values()]) == of_report(ledger(world))
    assert told(ledger(world).parent)["month"] is None
    assert told(ledger(world).parent, "--month", "2026-12")["rows"] == []


def test_what_was_dropped_was_spent_all_the_same(world: World) -> None:
    world.run(prompts=[OTTER, HERON, CARP])
    world.run(prompts=[OTTER])
    total = figures(told(ledger(world).parent)["total"])
    assert (total["attempts"], total["images"], total["paid"]) == (3, 3, world.billed())


def test_pretend_money_is_told_apart(world: World) -> None:
    world.run()
    rehearse(world)
    shutil.copytree(ledger(world, "rehearsal").parent, world.folder / "runs" / "again")
    change(ledger(world, "again"), "UPDATE variants SET provider = 'sandbox:slow'")
    found = told("--runs", world.folder / "runs", "--by", "provider")
    assert [row["provider"] for row in found["rows"]] == ["pretend"]
    assert figures(found["total"]) == of_report(ledger(world))
    high = of_report(ledger(world, "rehearsal"))["high"]
    assert (found["pretend"]["runs"], nano(found["pretend"]["high"])) == (2, 2 * high)
    line = f"Not counted: ${2 * high / 1e9:.2f} of pretend money in 2 rehearsals"
    assert said("--runs", world.folder / "runs").stdout.splitlines()[-1] == line
    assert told(ledger(world).parent)["pretend"] == {"runs": 0, "high": 0.0}
    assert "Not counted" not in said(ledger(world).parent).stdout


def test_a_ledger_that_cannot_be_read_is_named_and_the_sum_does_not_pass_for_whole(world: World) -> None:
    world.run()
    broken = ledger(world, "broken")
    broken.parent.mkdir()
    broken.write_bytes(b"no ledger at all" * 100)
    runs = world.folder / "runs"
    found = told("--runs", runs, code=3)
    assert found["unreadable"] == [str(broken)]
    assert figures(found["total"]) == of_report(ledger(world))
    for flags in ([], ["--json"], ["--csv"]):
        assert said("--runs", runs, *flags).stderr == CANNOT.format(broken)


@pytest.mark.parametrize("place", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_whatever_stands_in_a_ledgers_place_is_not_passed_over(world: World, place: Callable[[Path], None]) -> None:
    ledger(world).parent.mkdir(parents=True)
    place(ledger(world))
    assert told("--runs", world.folder / "runs", code=3)["unreadable"] == [str(ledger(world))]


def test_requests_without_a_price_are_counted_apart(world: World, host: Callable[[Respond], Host]) -> None:
    world.run()
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    body = json.dumps({"data": [{"b64_json": base64.b64encode(out.getvalue()).decode()}]}).encode()
    provider = world.provider(base_url=host(lambda method, path: (200, {}, body)).url)
    world.run(name="priceless", provider=provider, model="dall-e-9", request=None, limits={"images": 2})
    found = told("--runs", world.folder / "runs")
    rows = {row["job"]: figures(row) for row in found["rows"]}
    assert rows["priceless"] == {**dict.fromkeys((*MONEY, *COUNTS), 0), **dict.fromkeys(COUNTS, 1)}
    assert figures(found["total"]) == summed([of_report(ledger(world)), rows["priceless"]])
    line = "1 request whose price is not known: not in these sums"
    assert line in said("--runs", world.folder / "runs").stdout.splitlines()


def test_what_perhaps_was_billed_is_told_though_nothing_is_estimated(bad: Start) -> None:
    world = bad("--script", "cut")
    world.run(retry={"attempts": 1, "on_unknown": "hold"})
    total = told(world.run_folder)["total"]
    assert (total["paid"], total["estimated"], total["low"]) == (0, 0, 0)
    assert total["unknown"] == total["high"] > 0
    last = f"Perhaps also  ${total['unknown']:.4f}  at most, for requests without a usable answer"
    assert said(world.run_folder).stdout.splitlines()[-1] == last
    assert "Estimated" not in said(world.run_folder).stdout


def test_it_sums_while_a_run_works(bad: Start) -> None:
    world = bad("--latency", "0.5")
    world.begin("run", str(world.write(prompts=many(12), limits={"concurrency": 2, "budget": 1})))
    eventually(world.charges)
    total = figures(told(world.run_folder)["total"])
    assert total["attempts"] > 0
    assert total["unknown"] > 0


def test_runs_are_found_where_they_lie_as_a_rule(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "jobs").mkdir()
    monkeypatch.chdir(world.folder)
    assert "there are no runs in runs. Give runs, or the folder that holds them: --runs DIR." in refusal()
    world.run()
    (world.folder / "runs" / "notes.txt").touch()
    whole = told()
    assert [row["job"] for row in whole["rows"]] == ["otters"]
    monkeypatch.chdir(world.folder / "jobs")
    assert told() == whole
    monkeypatch.chdir(world.folder / "runs")
    assert "there are no runs in runs" in refusal()
    assert "there are no runs in elsewhere" in refusal("--runs", "elsewhere")


def test_a_run_counts_once_however_often_and_however_it_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    world.run(name="herons", prompts=[HERON])
    monkeypatch.chdir(world.folder)
    os.symlink("herons", world.folder / "runs" / "alias")
    found = told("herons", "otters.yaml", "runs/herons", ledger(world, "herons").parent, "alias")
    assert [row["job"] for row in found["rows"]] == ["herons"]
    assert figures(found["total"]) == of_report(ledger(world, "herons"))
    assert told()["total"]["attempts"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--month", "2026-13"], "--month 2026-13: give a year and a month, like 2026-11"),
        (["--month", "2026-1"], "like 2026-11"),
        (["--month", "2026-11-01"], "like 2026-11"),
        (["--month", ""], "like 2026-11"),
        (["--by", "month"], "--by month: runs can be summed by project, job, provider, model, target"),
        (["--by", "job,month"], "--by month: "),
        (["--by", "job,"], "--by '': "),
        (["--by", "job,model,job"], "--by job,model,job: give each name once"),
        (["--json", "--csv"], "--json and --csv"),
        (["nowhere"], "there is no run in"),
    ],
)
def test_what_it_cannot_do_is_said(world: World, arguments: list[str], says: str) -> None:
    world.run()
    assert says in refusal("--runs", world.folder / "runs", *arguments)


def test_csv_has_the_rows_and_every_figure_and_no_total(nights: World) -> None:
    runs = nights.folder / "runs"
    rows = list(csv.DictReader(io.StringIO(said("--runs", runs, "--by", "job,model", "--csv").stdout)))
    found = told("--runs", runs, "--by", "job,model")
    assert [*rows[0]] == ["job", "model", "attempts", "images", *MONEY, "unpriced_attempts"]
    assert [{name: str(value) for name, value in row.items()} for row in found["rows"]] == rows


def test_the_table_fits_a_terminal_and_ends_with_the_total(nights: World) -> None:
    result = said("--runs", nights.folder / "runs")
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    title, _, _, *rest = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    total = told("--runs", nights.folder / "runs")["total"]
    ends = [f"${total['estimated']:.4f}  at most", f"${total['unknown']:.4f}  at most"]
    assert title == "3 runs"
    assert [line.split()[0] for line in rest[:4]] == ["night", "day", "dusk", "total"]
    assert rest[3].split()[1:] == [f"{total[name]}" for name in ("attempts", "images")] + [
        f"${total[name]:.4f}" for name in ("paid", "low", "high")
    ]
    assert [end in line for end, line in zip(ends, rest[4:], strict=True)] == [True, True]
