"""Limits of a run, from its manifest to its ledger: they hold, are learned, remembered and shown."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_client import CANARY
from test_lane import PROVIDER, lane
from world import KEY_ENV, World, environment, eventually, many

from batchgen import ledger, manifest, shelf
from batchgen.errors import ManifestError
from batchgen.manifest import Setup
from batchgen.pace import HEADERS, RATE, WORDS, Learned
from batchgen.quota import KINDS
from batchgen.terms import Limits

QUICK = {"concurrency": "auto", "budget": 10}
DAY = "SELECT (max(julianday(sent_at)) - min(julianday(sent_at))) * 86400 FROM attempts"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# the manifest


def limits(world: World, **more: object) -> Limits:
    return manifest.load(world.write(limits=more), Setup(environment())).limits


def test_a_limit_is_every_providers_or_each_its_own(world: World) -> None:
    provider = replace(PROVIDER, name="pretend", identity="pretend")
    found = limits(world, images_per_minute=20, requests_per_minute={"pretend": "60"}, tokens_per_minute=9)
    assert found.pace(provider) == {"images": 20, "requests": 60, "tokens": 9}
    assert found.pace(PROVIDER) == {"images": 20, "tokens": 9}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"pretnd": 20},
            "no provider of this manifest is called that: 'pretnd' is not one of pretend (did you mean pre",
        ),
        ({"pretend": "fast"}, "pretend: 'fast' is not a whole number from 1 to 1,000,000,000"),
        (0, "0 is not a whole number from 1 to 1,000,000,000"),
        ("1,000", "'1,000' is not a whole number from 1 to 1,000,000,000 (write 1000)"),
        (True, "true is not a whole number"),
        ({}, "is empty"),
    ],
)
def test_what_is_no_limit_is_told_with_its_line(world: World, given: object, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        limits(world, images_per_minute=given)
    assert f"limits.images_per_minute{'.pretnd' if 'pretnd' in says else ''}: {says}" in str(caught.value)
    assert "otters.yaml:" in str(caught.value)


def test_auto_is_as_many_as_are_of_use(world: World) -> None:
    assert limits(world, concurrency="auto").concurrency == 32
    with pytest.raises(ManifestError, match="'some' is not a whole number"):
        limits(world, concurrency="some")


# a run


def test_a_run_spreads_its_requests_over_the_minute(world: World) -> None:
    assert world.run(prompts=many(5), request={"n": 2}, limits={**QUICK, "images_per_minute": 600}).exit_code == 0
    ((seconds,),) = world.rows(DAY)
    assert seconds > 0.9 * (8 - 7.5) / 10, "the last of ten images goes when the eighth is paid off"
    assert world.rows("SELECT count(*) FROM quotas") == [(0,)], "what the manifest says need not be learned"


def test_what_headers_say_is_remembered_shown_by_the_plan_and_used_by_the_next_run(bad: Start) -> None:
    world = bad("--ipm", "1200", "--burst", "50")
    assert world.run(prompts=many(4), limits=QUICK).exit_code == 0
    rows = world.rows("SELECT kind, lane, per_minute, source, length(scope) FROM quotas")
    assert rows == [("requests", "pretend", 1200, "headers", 16)]
    plan = world.command("plan", str(world.write(prompts=many(4000), limits={**QUICK, "concurrency": 1000}))).stdout
    assert "by what pretend allows: 1,200 requests a minute" in plan
    world.run(prompts=many(6), limits=QUICK)
    assert world.run_folder.joinpath("run.log").read_text().count("1,200 requests a minute, by its headers") == 2
    assert world.sandbox.stats()["requests"] == {"200": 6}


def test_status_tells_how_fast_a_run_goes_and_why(world: World) -> None:
    manifest = str(world.write(prompts=many(8), limits={"concurrency": "auto", "images_per_minute": 6, "budget": 9}))
    process = world.begin("run", manifest, "--yes")
    eventually(
        lambda: (world.run_folder / "ledger.db").exists() and world.rows("SELECT 1 FROM runs WHERE waits <> '[]'")
    )
    told = world.command("status", manifest).stdout
    assert "pretend: 7 wait: pace: 6 images a minute" in told
    assert "Pace          pretend: 4 of 32 requests at a time, 6 images a minute by the manifest" in told
    shown = json.loads(world.command("status", manifest, "--json").stdout)["throttle"]
    assert [(each["lane"], each["window"], each["width"]) for each in shown] == [("pretend", 4, 32)]
    assert shown[0]["pace"] == [{"kind": "images", "per_minute": 6, "source": ""}]
    assert [what for _, what in shown[0]["changes"]] == ["6 images a minute, by the manifest"]
    process.terminate()
    assert process.wait(10) == 7
    assert json.loads(world.command("status", manifest, "--json").stdout)["throttle"] == []


def test_two_lanes_keep_each_its_own_pace(world: World) -> None:
    targets = [{"as": name, "provider": world.provider(name=name)} for name in ("one", "two")]
    paces = {"images_per_minute": {"one": 600, "two": 60_000}}
    assert (
        world.run(provider=None, prompts=many(9), matrix={"target": targets}, limits={**QUICK, **paces}).exit_code == 0
    )
    spans = dict(world.rows(DAY.replace("SELECT", "SELECT lane,") + " GROUP BY lane"))
    assert spans["one"] > 0.9 * 1.5 / 10
    assert "one: 600 images a minute, by the manifest" in world.run_folder.joinpath("run.log").read_text()


# the ledger

LEARNED = st.builds(Learned, st.sampled_from(KINDS), st.floats(1, 1e9), st.sampled_from([HEADERS, WORDS, RATE]))


@pytest.mark.anyio
async def test_what_was_learned_goes_into_the_ledger_and_comes_back(tmp_path: Path) -> None:
    ledger.create(tmp_path / "ledger.db", "otters", "", "otters.yaml")
    async with ledger.open_for_writing(tmp_path / "ledger.db") as books:

        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(LEARNED, unique_by=lambda each: each.kind), st.lists(LEARNED, max_size=1))
        def examples(first: list[Learned], second: list[Learned]) -> None:
            tried.append((first, second))

        tried: list[tuple[list[Learned], list[Learned]]] = []
        examples()
        for first, second in tried:
            await books.learn("mine", "openai", first)
            await books.learn("yours", "own", second)
            assert sorted(await books.quotas("mine"), key=str) == sorted(first, key=str)
            with shelf.opened(tmp_path / "ledger.db") as there:
                found = there.quotas()
            assert (sorted(found.get("openai", []), key=str), found.get("own", [])) == (sorted(first, key=str), second)


def test_who_is_meant_by_an_account_is_known_without_its_key(tmp_path: Path) -> None:
    one = lane(tmp_path)
    assert (len(one.account), one.scope, CANARY[:8] in one.account) == (16, "", False)


def test_no_key_stands_in_the_ledger_beside_what_was_learned(bad: Start) -> None:
    world = bad("--ipm", "600", "--burst", "60")
    world.run(prompts=many(2), limits=QUICK)
    with sqlite3.connect(world.run_folder / "ledger.db") as db:
        text = "".join(db.iterdump())
    assert "quotas" in text
    assert environment()[KEY_ENV] not in text
