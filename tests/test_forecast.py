"""What a run will come to before it spends anything: its price, its time, its disk, its hosts, and its warnings."""

import base64
import json
import shutil
from collections.abc import Callable
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Start
from world import HERON, KEY, KEY_ENV, OTTER, Host, Respond, World, environment, many, png

from batchgen import catalog, compare, costs, forecast, manifest, text
from batchgen.compare import Part, Survey
from batchgen.costs import Money
from batchgen.forecast import Plan
from batchgen.manifest import Setup
from batchgen.task import Operation, Variant

BASE = {"name": "a", "provider": "openai", "model": "gpt-image-2", "prompts": ["A fox"]}
TODAY = date(2026, 11, 21)
LOW = {"size": "1024x1024", "quality": "low"}
OWN = {"name": "own", "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}
STRANGER = "the catalog does not know the model 'flux': it is sent as it stands, its values are not checked"


def draw(folder: Path = Path("nowhere"), environ: dict[str, str] | None = None, **changes: object) -> Plan:
    """The plan of a job that never ran; JSON is YAML too."""
    text = json.dumps({key: value for key, value in {**BASE, **changes}.items() if value is not None})
    found = manifest.loads(text, Path("x.yaml"), Setup({}))
    return forecast.draw(found, compare.survey(found, None), folder, None, environ or {})


def drawn(world: World, **changes: object) -> Plan:
    """The plan of a changed manifest beside what its run left."""
    found = manifest.load(world.write(**changes), Setup(environment()))
    ledger = world.run_folder / "ledger.db"
    there = ledger if ledger.exists() else None
    return forecast.draw(found, compare.survey(found, there), world.run_folder, there, environment())


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Callable[[date], None]:
    """Makes it another day."""

    def be(day: date) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "Clock":
                return cls(day.year, day.month, day.day, tzinfo=tz)

        monkeypatch.setattr(forecast, "datetime", Clock)

    return be


# price


def quote(model: str = "gpt-image-2", **params: object) -> costs.Quote:
    """What the catalog says of one request."""
    variant = Variant("openai", model, Operation.GENERATE, tuple(sorted(params.items())), ())
    found = costs.quoted(variant, catalog.provider("openai", {}))
    assert found
    return found


def test_the_price_is_that_of_every_request_by_its_variant() -> None:
    plan = draw(prompts=["A fox", "Ä"], matrix={"quality": ["low", "high"]}, request={"n": 2}, samples=3)
    wanted = [quote(quality=quality, n=2).of(3 * 7, 6) for quality in ("low", "high")]
    assert [group.cost for group in plan.groups] == wanted
    assert plan.cost == wanted[0] + wanted[1]
    assert (plan.images, plan.unpriced, plan.new_cost, plan.spent, plan.answers) == (24, 0, plan.cost.expected, 0, 0)
    assert (plan.job, plan.resumed, plan.pretend, plan.budget) == ("a", False, False, None)
    assert plan.prices_as_of == catalog.price_lists()["openai"].as_of


def test_a_flat_price_leaves_no_doubt() -> None:
    plan = draw(provider={**OWN, "price": {"image": 0.04}}, model="flux", request={"n": 2}, samples=3)
    assert (plan.cost, plan.prices_as_of) == (Money(*[240_000_000] * 3), "the manifest")


MANIFESTS: dict[str, dict[str, Any]] = {
    "sizes and qualities": {"matrix": {"size": ["1024x1024", "2048x1152"], "quality": ["low", "medium"]}},
    "several images a request": {"request": {**LOW, "n": 3}},
    "an older model": {"model": "gpt-image-1.5", "request": {"size": "1536x1024", "quality": "high"}},
    "a newer model": {"model": "gpt-image-2.5-flare", "request": LOW},
    "long prompts": {"prompts": ["An otter. " * 900, "狐狸在雪地里" * 300], "request": LOW},
    "what the model chooses": {"request": {}},
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_the_bill_lies_between_the_plans_bounds(world: World, case: str) -> None:
    changes = {"prompts": [OTTER, HERON], **MANIFESTS[case]}
    plan = drawn(world, **changes)
    assert world.run(**changes).exit_code == 0
    assert plan.cost.low <= world.billed() <= plan.cost.high
    assert plan.cost.low <= plan.cost.expected <= plan.cost.high
    if case != "what the model chooses":
        assert plan.cost.expected == pytest.approx(world.billed(), rel=0.2)


def test_only_what_is_to_do_costs_anything(world: World) -> None:
    changes: dict[str, Any] = {"prompts": many(8)}
    whole = drawn(world, **changes)
    world.run(**changes, limits={"images": 3, "concurrency": 1})
    rest = drawn(world, **changes)
    assert (rest.resumed, rest.survey.todo, rest.new_cost) == (True, 5, 0)
    assert rest.cost.high == whole.cost.high * 5 // 8
    more = drawn(world, prompts=[*many(8), HERON])
    assert (more.survey.todo, more.survey.new) == (6, 1)
    assert more.new_cost == pytest.approx(more.cost.expected / 6, rel=0.01)


def test_a_plan_with_nothing_to_do_costs_nothing_and_asks_nobody(world: World) -> None:
    world.run()
    plan = drawn(world)
    assert (plan.cost, plan.unpriced, plan.bytes, plan.images, plan.hosts) == (Money(0, 0, 0), 0, 0, 0, ())
    assert (plan.seconds, plan.limited_by) == (0.0, "nothing is left to do")
    assert not plan.pretend, "its pictures were paid for"


def test_money_that_was_spent_is_counted_at_its_most(bad: Start) -> None:
    world = bad("--script", "ok cut")
    changes: dict[str, Any] = {"prompts": many(4), "retry": {"on_unknown": "hold"}}
    world.run(**changes, limits={"concurrency": 1, "images": 2})
    plan = drawn(world, **changes)
    assert plan.spent == world.rows("SELECT sum(cost_high) FROM attempts")[0][0] > world.billed() / 2
    assert (plan.budget, drawn(world, **changes, limits={"budget": 7}).budget) == (10_000_000_000, 7_000_000_000)


def test_what_has_no_price_is_counted_and_not_summed() -> None:
    plan = draw(provider=OWN, matrix={"model": ["gpt-image-2", "flux"]}, prompts=["A fox", "A heron"])
    assert (plan.unpriced, [group.cost is None for group in plan.groups]) == (2, [False, True])
    assert plan.cost == quote().of(12, 2)


# what answers teach


def seller(host: Callable[[Respond], Host], tokens: int, usage: bool = True) -> Host:
    """Sells images of so many output tokens, whatever they should take."""
    counted = {"usage": {"input_tokens": 5, "output_tokens": tokens}} if usage else {}
    picture = {"b64_json": base64.b64encode(png()).decode()}
    body = json.dumps({"data": [picture], **counted}).encode()
    return host(lambda method, path: (200, {}, body))


LESSONS = {"less": (188, 188 / 196), "as reckoned": (196, 1.0), "more": (204, 204 / 196)}


@pytest.mark.parametrize("case", LESSONS)
def test_answers_correct_what_is_expected_of_the_rest(world: World, host: Callable[[Respond], Host], case: str) -> None:
    tokens, factor = LESSONS[case]
    changes: dict[str, Any] = {"provider": world.provider(base_url=seller(host, tokens).url), "prompts": many(6)}
    naive = drawn(world, **changes)
    assert world.run(**changes, limits={"images": 2, "concurrency": 1}).exit_code == 4
    plan = drawn(world, **changes)
    assert (naive.answers, plan.answers, plan.survey.todo) == (0, 2, 4)
    assert plan.cost.expected == pytest.approx(naive.cost.expected * 4 / 6 * factor, rel=0.01)
    assert (plan.cost.low, plan.cost.high) == (naive.cost.low * 4 // 6, naive.cost.high * 4 // 6)


@pytest.mark.parametrize("tokens", [1, 196_000])
def test_what_is_expected_stays_within_the_bounds(world: World, host: Callable[[Respond], Host], tokens: int) -> None:
    changes: dict[str, Any] = {"provider": world.provider(base_url=seller(host, tokens).url), "prompts": many(6)}
    world.run(**changes, limits={"images": 2, "concurrency": 1})
    plan = drawn(world, **changes)
    assert plan.cost.low <= plan.cost.expected <= plan.cost.high


def test_a_variant_without_answers_learns_from_its_models_others(world: World, host: Callable[[Respond], Host]) -> None:
    provider = world.provider(base_url=seller(host, 204).url)
    world.run(provider=provider)
    matrix = {"quality": ["low", "high"], "model": ["gpt-image-2", "gpt-image-2.5-flare"]}
    plan = drawn(world, provider=provider, matrix=matrix, prompts=[OTTER, HERON])
    reckoned = draw(prompts=[OTTER, HERON], request=LOW, matrix=matrix)
    factors = {
        (group.part.variant.model, group.part.variant.param("quality")): group.cost.expected / naive.cost.expected
        for group, naive in zip(plan.groups, reckoned.groups, strict=True)
        if group.cost and naive.cost and group.part.todo == naive.part.todo
    }
    assert factors == {
        ("gpt-image-2", "high"): pytest.approx(204 / 196, rel=0.01),
        ("gpt-image-2.5-flare", "low"): 1.0,
        ("gpt-image-2.5-flare", "high"): 1.0,
    }


def test_an_answer_that_nobody_counted_teaches_nothing(world: World, host: Callable[[Respond], Host]) -> None:
    provider = world.provider(base_url=seller(host, 0, usage=False).url)
    world.run(provider=provider)
    plan = drawn(world, provider=provider, prompts=[OTTER, HERON])
    assert (plan.answers, plan.survey.todo) == (0, 1)
    assert plan.cost == draw(prompts=[HERON], request=LOW).cost


# time


class Timed(NamedTuple):
    """A job, how long it takes in seconds, and what keeps it from being faster."""

    changes: dict[str, Any]
    seconds: float | None
    by: str


AT_ONCE = "limits.concurrency: 8 requests at a time at openai"
TIMES = {
    "one request": Timed({"request": {"quality": "high"}}, 195, "the slowest request"),
    "as many as are open at once": Timed({"request": {"quality": "low"}, "samples": 8}, 30, "the slowest request"),
    "one more": Timed({"request": {"quality": "low"}, "samples": 9}, 30 * 9 / 8, AT_ONCE),
    "two variants": Timed({"matrix": {"quality": ["low", "medium"]}, "samples": 16}, 16 * (30 + 80) / 8, AT_ONCE),
    "a quality that is the model's": Timed({"samples": 16}, 160, AT_ONCE),
    "more than one machine saves": Timed(
        {"request": {"quality": "low", "n": 10}, "samples": 10_000, "limits": {"concurrency": 1000}},
        10_000 * 10 / 100,
        "this machine: 100 images a second",
    ),
    "a limit that is slower": Timed(
        {"request": {"quality": "low", "n": 2}, "samples": 40, "limits": {"images_per_minute": {"openai": 20}}},
        240,
        "limits.images_per_minute: 20 a minute at openai",
    ),
    "a limit that is not": Timed(
        {"request": {"quality": "low"}, "samples": 16, "limits": {"requests_per_minute": 60}}, 60, AT_ONCE
    ),
    "a model that nobody timed": Timed(
        {"matrix": {"model": ["gpt-image-2", "gpt-image-1.5"]}}, None, "not known before the first answers"
    ),
    "the sandbox": Timed({"provider": "sandbox"}, None, "not known before the first answers"),
}


@pytest.mark.parametrize("case", TIMES)
def test_the_time_is_that_of_the_slowest_lane_and_its_limit_is_named(case: str) -> None:
    timed = TIMES[case]
    plan = draw(**timed.changes)
    assert (plan.seconds, plan.limited_by) == (timed.seconds, timed.by)


def test_lanes_work_side_by_side() -> None:
    targets = [{"as": "one", "provider": "openai"}, {"as": "two", "provider": OWN}]
    plan = draw(matrix={"target": targets}, request={"quality": "low"}, samples=80)
    assert (plan.seconds, [host.provider for host in plan.hosts]) == (300, ["openai", "own"])
    assert plan.limited_by in (AT_ONCE, "limits.concurrency: 8 requests at a time at own")


def test_after_the_first_answers_the_time_is_theirs(bad: Start) -> None:
    world = bad("--latency", "0.4")
    changes: dict[str, Any] = {"prompts": many(42)}
    world.run(**changes, limits={"images": 2, "concurrency": 2})
    plan = drawn(world, **changes, limits={"concurrency": 4})
    assert plan.seconds
    assert 0.4 * 10 <= plan.seconds < 4 * 10  # and not the minutes that the catalog expects
    assert plan.limited_by == "limits.concurrency: 4 requests at a time at pretend"


# disk


@pytest.mark.parametrize(
    ("request_", "bytes_"),
    [
        ({"size": "1024x1024", "output_format": "png"}, 1024 * 1024 * 1.6),
        ({"size": "1024x1024"}, 1024 * 1024 * 1.6),
        ({"size": "2048x1024", "output_format": "jpeg"}, 2048 * 1024 * 0.25),
        ({"output_format": "webp", "n": 4}, 4 * 1024 * 1024 * 0.2),
    ],
)
def test_the_disk_is_reckoned_by_size_and_format(request_: dict[str, object], bytes_: float) -> None:
    plan = draw(request=request_, samples=3)
    assert plan.bytes == pytest.approx(3 * (bytes_ + forecast.BYTES_PER_TASK), abs=3)


def test_after_the_first_answers_the_disk_is_reckoned_by_theirs(world: World) -> None:
    changes: dict[str, Any] = {"prompts": many(12)}
    world.run(**changes, limits={"images": 2, "concurrency": 1})
    each = world.rows("SELECT avg(bytes) FROM images")[0][0]
    assert drawn(world, **changes).bytes == pytest.approx(10 * (each + forecast.BYTES_PER_TASK), abs=10)


def test_a_disk_that_is_too_small_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return shutil._ntuple_diskusage(10**9, 10**9 - 2_000_000, 2_000_000)

    monkeypatch.setattr("batchgen.forecast.shutil.disk_usage", usage)
    assert draw(tmp_path / "runs" / "a").warnings == ()
    plan = draw(tmp_path / "runs" / "a", samples=2)
    assert (plan.free, plan.warnings) == (2_000_000, ("the disk has 2.0 MB free, and about 3.4 MB are needed",))
    assert asked == [tmp_path, tmp_path], "the nearest folder that is there"


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (123_456, "123 kB"),
        (1.5e9, "1.5 GB"),
        (2e15, "2,000.0 TB"),
    ],
)
def test_bytes_are_told_as_people_read_them(count: float, says: str) -> None:
    assert text.size(count) == says


# hosts


def test_the_hosts_are_told_with_the_variable_of_their_key() -> None:
    own = {**OWN, "base_url": "http://127.0.0.1:1/v1/images"}
    targets = [{"as": name, "provider": each} for name, each in (("a", "openai"), ("b", own), ("c", "sandbox"))]
    plan = draw(matrix={"target": targets}, environ={"OPENAI_API_KEY": " "})
    assert [
        tuple(getattr(host, name) for name in ("provider", "origin", "key", "key_is_set")) for host in plan.hosts
    ] == [
        ("openai", "https://api.openai.com", "OPENAI_API_KEY", False),
        ("own", "http://127.0.0.1:1", "", False),
        ("sandbox", "", "", False),
    ]
    assert draw(environ={"OPENAI_API_KEY": KEY}).hosts[0].key_is_set
    assert KEY not in repr(draw(environ={"OPENAI_API_KEY": KEY}))
    assert (plan.pretend, draw(provider="sandbox").pretend) == (False, True)


def test_only_those_hosts_are_told_that_will_be_asked(world: World) -> None:
    both = {"a": world.provider(), "b": {**OWN, "api_key_env": KEY_ENV}}
    targets = [{"as": name, "provider": each} for name, each in both.items()]
    world.run(matrix={"target": targets[:1]}, provider=None)
    plan = drawn(world, matrix={"target": targets}, provider=None)
    assert [(host.provider, host.key_is_set) for host in plan.hosts] == [("own", True)]


# warnings


RETIRED = date.fromisoformat(catalog.models()["gpt-image-1.5"].retired)


@pytest.mark.parametrize(
    ("day", "warns"),
    [
        (RETIRED + timedelta(days=29), f"the model 'gpt-image-1.5' was retired by OpenAI on {RETIRED}"),
        (RETIRED, f"the model 'gpt-image-1.5' was retired by OpenAI on {RETIRED}"),
        (RETIRED - timedelta(days=1), f"the model 'gpt-image-1.5' will be retired on {RETIRED}, in 1 days"),
        (RETIRED - timedelta(days=30), f"the model 'gpt-image-1.5' will be retired on {RETIRED}, in 30 days"),
        (RETIRED - timedelta(days=31), ""),
    ],
)
def test_a_model_that_is_or_will_be_retired_is_a_warning(today: Callable[[date], None], day: date, warns: str) -> None:
    today(day)
    assert draw(model="gpt-image-1.5").warnings == ((warns,) if warns else ())


def test_a_model_that_is_retired_before_the_run_is_over_is_a_warning(
    world: World, today: Callable[[date], None]
) -> None:
    world.run(model="gpt-image-1.5")
    found = manifest.load(world.write(model="gpt-image-1.5", limits={"concurrency": 1}), Setup(environment()))
    ledger = world.run_folder / "ledger.db"
    (part,) = compare.survey(found, ledger).parts
    night = Survey((Part(part.variant, 10**8, 10**8, 0, 10**8, 10**9, 10),))
    today(RETIRED - timedelta(days=2))
    plan = forecast.draw(found, night, world.run_folder, ledger, environment())
    assert plan.seconds
    assert plan.seconds > 2 * 86_400
    assert f"the model 'gpt-image-1.5' will be retired on {RETIRED}, before this run is over" in plan.warnings


ASSUMED = "gpt-image-2 is reckoned at OpenAI's prices; give the provider own a price: if it has its own"
WARNINGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "nothing": ({}, ()),
    "a stranger": ({"model": "flux"}, (STRANGER,)),
    "a stranger at a price of its own": ({"model": "flux", "provider": {**OWN, "price": {"image": 0.1}}}, (STRANGER,)),
    "another's prices": ({"provider": OWN}, (ASSUMED,)),
    "prices of its own": ({"provider": {**OWN, "price": {"image": 0.1}}}, ()),
    "a prefix": ({"model": "openai/gpt-image-2"}, ()),
    "in the order of the matrix": (
        {"provider": OWN, "matrix": {"model": ["flux", "gpt-image-2"], "quality": ["low", "high"]}},
        (STRANGER, ASSUMED),
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_a_doubt_is_a_warning_and_told_once(today: Callable[[date], None], case: str) -> None:
    today(TODAY)
    changes, warns = WARNINGS[case]
    assert draw(**changes).warnings == warns


def test_a_file_that_is_no_unicode_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"prompt\nA blue Caf\xe9 sign\n")
    found = manifest.loads(json.dumps({**BASE, "prompts": [{"file": "p.csv"}]}), tmp_path / "x.yaml", Setup({}))
    plan = forecast.draw(found, compare.survey(found, None), tmp_path, None, {})
    assert plan.warnings == (f"{tmp_path / 'p.csv'} is not UTF-8: read as Windows-1252 (line 2: 'Café')",)


def test_what_is_done_is_no_longer_warned_of(world: World) -> None:
    world.run()
    assert drawn(world).warnings == ()


@pytest.mark.parametrize("request_", [{"quality": "hd"}, {"size": "square"}, {"quality": "hd", "size": "2K", "n": 2}])
@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-2"])
def test_words_of_a_provider_of_ones_own_break_no_plan(model: str, request_: dict[str, object]) -> None:
    words = {"quality": {"kind": "text"}, "size": {"kind": "text"}}
    plan = draw(provider={**OWN, "parameters": words}, model=model, request=request_)
    assert plan.cost
    assert 0 < plan.cost.low <= plan.cost.expected <= plan.cost.high
    assert plan.unpriced == 0


# the end


def test_a_time_that_is_too_short_for_it_limits_the_plan() -> None:
    now = datetime(2026, 11, 21, 22).timestamp()
    wanted = {"prompts": many(100), "request": LOW}
    whole = draw(Path("nowhere"), {}, **wanted, limits={"concurrency": 1})
    assert whole.seconds
    half = datetime.fromtimestamp(now + whole.seconds / 2)
    for until, left in ((f"{half:%H:%M:%S}", 50), (f"{half + timedelta(hours=9):%Y-%m-%d %H:%M}", 0)):
        text = json.dumps({**BASE, **wanted, "limits": {"concurrency": 1, "until": until}})
        found = manifest.loads(text, Path("x.yaml"), Setup({}))
        plan = forecast.draw(found, compare.survey(found, None), Path("nowhere"), None, {}, lambda: now)
        assert abs(plan.span.left - left) <= 1
        assert plan.limited_by == ("limits.until" if left else whole.limited_by)
        assert plan.seconds == pytest.approx(whole.seconds / 2 if left else whole.seconds, abs=1)
        warned = [each for each in plan.warnings if "limits.until" in each]
        told = f"limits.until ({until}) ends the run with about {plan.span.left} of 100 tasks left"
        assert warned == ([told] if left else [])
