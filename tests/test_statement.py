"""Our books beside a provider's bill: read exactly, compared honestly, and settled with the commands that it prints."""

import json
import shlex
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import Start
from hypothesis import given
from hypothesis import strategies as st
from world import World, many

from batchgen import reconcile, statement
from batchgen.commands.costs import command
from batchgen.errors import UsageError
from batchgen.reconcile import Sent, compare
from batchgen.statement import Line, Statement

SAMPLES = Path(__file__).parent / "statements"
HOLD = {"attempts": 1, "on_unknown": "hold"}
ONE = {"concurrency": 1, "budget": 10}
Charge = dict[str, Any]


def at(day: int, hour: int = 0, minute: int = 0, second: float = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC) + timedelta(seconds=second)


DAY = (at(20), at(21))
READ = {
    "openai-cost.csv": (
        Line(at(19), at(20)),
        Line(*DAY, 23_520_000, model="gpt-image-2"),
        Line(*DAY, 160_000, model="gpt-image-2"),
        Line(*DAY, 3_835_980, model="gpt-5-nano"),
    ),
    "openai-costs.json": (Line(at(19), at(20)), Line(*DAY, 23_680_000)),
    "openai-usage-images.json": (Line(*DAY, images=4, requests=4, model="gpt-image-2"),),
    "litellm-spend-logs.json": (
        Line(
            at(20, 22, 0, 3.1),
            at(20, 22, 0, 21.9),
            5_920_000,
            model="openai/gpt-image-2",
            ids=("5b0a6c1e-92a7-4a1f-8d43-0a7f1d6f2c10",),
        ),
        Line(
            at(20, 22, 0, 22),
            at(20, 22, 0, 22.4),
            0,
            model="openai/gpt-image-2",
            ids=("c2a7f6f0-5f0b-4a57-9a35-51a3c7a4be77",),
        ),
    ),
    "requests.csv": (
        Line(*DAY, 5_920_000, model="gpt-image-2", ids=("req_1",)),
        Line(*DAY, 500_000_000, model="gpt-image-2", ids=("req_2",)),
    ),
    "sandbox.jsonl": (
        Line(at(20, 22, 0, 3.1), at(20, 22, 0, 3.1), 5_920_000, images=1, model="gpt-image-2", ids=("a1", "req_1")),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_each_form_of_export_is_read_for_what_it_says(name: str) -> None:
    found = statement.read(SAMPLES / name)
    assert found.lines == READ[name]
    assert found.measure == ("images" if "usage" in name else "money")
    assert found.pretend is (name == "sandbox.jsonl")
    begin = at(19) if name.startswith("openai-cost") else READ[name][0].begin
    assert found.span == (None if found.pretend else (begin, READ[name][-1].end))


def written(folder: Path, text: str | bytes, name: str = "bill.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        ("0.1", 100_000_000),
        ("0.0000000014", 1),
        ("0.0000000016", 2),
        ("-2.5", -2_500_000_000),
        ("$3", 3_000_000_000),
        ("5.92e-3", 5_920_000),
        ("123456789.123456789123", 123_456_789_123_456_789),
        ("0.005919999999999999900000000000", 5_920_000),
        ("", None),
    ],
)
@pytest.mark.parametrize("form", ["cost\n{}\n", '{{"id": 1, "cost": "{}"}}'], ids=["csv", "json"])
def test_money_is_exact_to_the_nano_dollar(tmp_path: Path, amount: str, nano: int | None, form: str) -> None:
    text = form.format(amount).replace("cost\n\n", "cost,note\n,empty\n")
    assert [line.amount for line in statement.read(written(tmp_path, text)).lines] == [nano]


def test_a_number_of_json_goes_through_no_float(tmp_path: Path) -> None:
    text = '{"usd": 123456789.123456789}\n{"usd": 1234567}\n'
    lines = statement.read(written(tmp_path, text)).lines
    assert [line.amount for line in lines] == [123_456_789_123_456_789, 1_234_567 * 10**9]


@pytest.mark.parametrize(
    ("begin", "end", "span"),
    [
        ("2026-11-20", "", DAY),
        ("2026-11-20", "2026-11-20", DAY),
        ("2026-11-20", "2026-11-21", DAY),
        ("2026-11-20T01:00:00+01:00", "2026-11-21 00:00:00 UTC", DAY),
        ("1795132800", "1795219200.0", DAY),
        ("1795132800000", "1795219200000", DAY),
        ("2026-11-20T22:00:00Z", "", (at(20, 22), at(20, 22))),
    ],
)
def test_times_are_utc_and_a_day_named_alone_is_whole(
    tmp_path: Path, begin: str, end: str, span: tuple[datetime, datetime]
) -> None:
    assert statement.read(written(tmp_path, f"end,cost,start\n{end},1,{begin}\n")).span == span


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("cost\n", "holds no lines"),
        (
            "day,tokens,who\n2026-11-20,4,me\n",
            "no amount and no count. Its columns: day, tokens, who. Needed is one of",
        ),
        ("cost,currency\n1,USD\n1,EUR\n", "bill.csv:3: is in EUR; only USD can be compared"),
        ("cost\n0.5\n0,5\n", "bill.csv:3: has 2 cells under 1 columns"),
        ("cost;day\n0,5;2026-11-20\n", "bill.csv:2: cost: '0,5' is no amount in dollars like 0.0412"),
        ("cost,Cost\n1,2\n", "has two columns cost"),
        ("cost\nNaN\n", "'NaN' is no amount"),
        ("name: zoo\nprovider: openai\n", "no amount and no count. Its columns: name_zoo"),
        ("cost\n1e400\n", "'1e400' is no amount"),
        ("images\n1.5\n", "bill.csv:2: images: '1.5' is no count"),
        ("day,cost\n2026-11-20,1\nTotal,1\n", "bill.csv:3: day: 'Total' is no time"),
        (
            "day,cost\n2026-11-20,1\n,1\n",
            "bill.csv:3: tells no time, and others do. If it is a sum of them, take it out",
        ),
        ("start,end,cost\n2026-11-21,2026-11-20,1\n", "bill.csv:2: ends before it begins"),
        ('cost\n"1\n', "is no proper CSV"),
        (b"cost\n\xff\xfe\n", "is not text in UTF-8"),
        ('{"cost": 1', "is no proper JSON"),
        ('{"cost": 1}\n{"cost": ', "is no proper JSON"),
        ('{"cost": 1}\n5\n', "it must hold objects"),
        ('{"data": [{"cost": 1}], "has_more": true}', "is not all, it says has_more"),
        ('{"amount": {"value": 1, "currency": "eur"}}', "is in eur"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"data":' * 100_000, "is nested too deeply"),
    ],
)
def test_what_cannot_be_told_for_certain_is_no_bill(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        statement.read(written(tmp_path, text))
    assert says in str(caught.value)


def test_a_file_beyond_all_bounds_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "cost\n1\n2\n3\n")
    monkeypatch.setattr(statement, "LINES_MOST", 2)
    with pytest.raises(UsageError, match="more than 2 lines"):
        statement.read(path)
    monkeypatch.setattr(statement, "FILE_MOST", 9)
    with pytest.raises(UsageError, match="is larger than"):
        statement.read(path)
    monkeypatch.setattr(statement, "DOCUMENT_MOST", 9)
    with pytest.raises(UsageError, match="is larger than"):
        statement.read(written(tmp_path, '{\n"cost": 1}'))


def test_the_pages_of_a_long_answer_are_one_bill(tmp_path: Path) -> None:
    first, last = '{"data": [{"cost": 1}], "has_more": true}', '{"data": [{"cost": 2}], "has_more": false}'
    for text in (f"{first}\n{last}\n", f"[{first},\n{last}]"):
        assert [line.amount for line in statement.read(written(tmp_path, text)).lines] == [10**9, 2 * 10**9]


# Real runs beside the bill of the provider that they bought from.


def said(world: World, bill: Path, *arguments: object) -> Result:
    words = ["--runs", world.folder / "runs", "--bill", bill, *arguments]
    return CliRunner().invoke(command, [str(each) for each in words], standalone_mode=False)


def told(world: World, bill: Path, *arguments: object, code: int) -> dict[str, Any]:
    result = said(world, bill, *arguments, "--json")
    assert result.exception is None, result.exception
    found: dict[str, Any] = json.loads(result.stdout)["bill"]
    assert (result.return_value, found["verdict"] == "agrees") == (code, code == 0)
    return found


def by_request(world: World, charges: Sequence[Charge], columns: str = "usd,client_request_id,at,model") -> Path:
    """The charges as a provider that bills by request might export them, to the nano-dollar."""
    rows = [{**each, "usd": f"{each['nano_usd'] / 1e9:.9f}"} for each in charges]
    lines = [",".join(str(row[name]) for name in columns.split(",")) for row in rows]
    return written(world.folder, "\n".join([columns, *lines]) + "\n")


def by_day(world: World, charges: Sequence[Charge], **more: int) -> Path:
    """The charges of today and yesterday as OpenAI's dashboard sums them; `more` are nano-dollars by model."""
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    sums = dict[str, int]()
    for model, nano in [*[(each["model"], each["nano_usd"]) for each in charges], *more.items()]:
        sums[model] = sums.get(model, 0) + nano
    span = f"{begin.timestamp():.0f},{(begin + timedelta(days=3)).timestamp():.0f}"
    rows = [f'{span},{nano / 1e9:.30f},usd,"{model}, output_image_tokens"' for model, nano in sums.items()]
    header = "start_time,end_time,amount_value,amount_currency,line_item"
    return written(world.folder, "\n".join([header, *(rows or [f"{span},,,"])]) + "\n")


def obey(world: World, commands: Sequence[str]) -> None:
    for each in commands:
        done = world.command(*shlex.split(each)[1:])
        assert done.returncode == 0, done.stderr


def bounds(world: World) -> tuple[int, int]:
    low, high = world.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts")[0]
    return low, high


@pytest.fixture
def cut(bad: Start) -> World:
    """Six requests, of which two were not answered: one of them was billed."""
    world = bad("--script", "ok cut cut-before ok ok ok")
    world.run(prompts=many(6), retry=HOLD, limits=ONE)
    assert sorted(world.attempts()) == ["paid"] * 4 + ["unknown"] * 2
    return world


def test_a_bill_by_request_settles_every_doubt_with_the_commands_that_it_prints(cut: World) -> None:
    bill = by_request(cut, cut.charges(), "usd,client_request_id,model")
    found = told(cut, bill, code=0)
    assert found["by_request"]["ours"] == 5
    assert [len(found["by_request"][name]) for name in ("unknown_billed", "unknown_not_billed")] == [1, 1]
    assert found["by_request"]["unknown_billed"][0] in {each["client_request_id"] for each in cut.charges()}
    before = bounds(cut)
    obey(cut, found["resolve"])
    assert before[0] < bounds(cut)[0] <= cut.billed() <= bounds(cut)[1] < before[1]
    cut.check_books()
    after = told(cut, bill, code=0)
    assert (after["unknown"]["requests"], after["resolve"]) == (0, [])


def test_the_provider_s_own_request_ids_are_known_too(cut: World) -> None:
    """A request that was never answered has none of those: what it is called at the provider nobody here can know."""
    found = told(cut, by_request(cut, cut.charges(), "usd,request_id"), code=3)
    assert found["by_request"]["ours"] == 4
    assert [len(line["ids"]) for line in found["by_request"]["not_ours"]] == [1]
    assert found["rows"][0]["verdict"] == "agrees"


def test_by_the_sum_of_a_day_as_many_were_billed_as_the_rest_can_pay_for(cut: World) -> None:
    found = told(cut, by_day(cut, cut.charges()), code=0)
    assert found["unknown"] == {"requests": 2, "billed_least": 1, "billed_most": 1}
    assert (found["by_request"], found["resolve"]) == (None, []), "which of the two it was cannot be told"
    out = said(cut, by_day(cut, cut.charges())).stdout
    assert "Unanswered    of 2 unanswered requests 1 billed, as far as the sum tells" in out.splitlines()


@pytest.mark.parametrize(("fault", "flag"), [("cut", "--billed"), ("cut-before", "--not-billed")])
def test_a_sum_that_holds_all_or_none_of_them_settles_them(bad: Start, fault: str, flag: str) -> None:
    world = bad("--script", f"ok {fault} {fault} ok")
    world.run(prompts=many(4), retry=HOLD, limits=ONE)
    change(world, "UPDATE attempts SET ended_at = sent_at")
    found = told(world, by_day(world, world.charges()), code=0)
    assert [flag in each for each in found["resolve"]] == [True]
    obey(world, found["resolve"])
    assert world.rows("SELECT count(*) FROM attempts WHERE state = 'unknown'") == [(0,)]
    low, high = bounds(world)
    assert low <= world.billed() <= high
    assert told(world, by_day(world, world.charges()), code=0)["resolve"] == []


def change(world: World, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db:
        db.execute(sql, values)
        db.commit()


def stranger(world: World) -> list[Charge]:
    charges = world.charges()
    return [*charges, {**charges[0], "client_request_id": "another's", "request_id": "req_another"}]


def missing(world: World) -> list[Charge]:
    paid = {id_ for (id_,) in world.rows("SELECT id FROM attempts WHERE state = 'paid'")}
    gone = next(each for each in world.charges() if each["client_request_id"] in paid)
    return [each for each in world.charges() if each is not gone and each["n"] != gone["n"]]


def swapped(world: World) -> list[Charge]:
    """One of ours is not there, and another's of the same price is: the sum is the same."""
    return [*missing(world), stranger(world)[-1]]


def doubled(world: World) -> list[Charge]:
    return [*world.charges(), world.charges()[0]]


@pytest.mark.parametrize(
    ("export", "counts", "words"),
    [
        (
            stranger,
            (1, 0, 0),
            "NOT OURS      1 line of the bill, $0.0059, for requests that no run here sent\n              another's\n",
        ),
        (missing, (0, 1, 0), "NOT BILLED    1 request that our books hold for paid\n              "),
        (
            swapped,
            (1, 1, 0),
            "NOT OURS      1 line of the bill, $0.0059, for requests that no run here sent\n              another's\n",
        ),
        (doubled, (0, 0, 1), "  paid  $0.0118"),
    ],
)
def test_a_bill_by_request_shows_what_its_sum_may_hide(
    cut: World, export: Callable[[World], list[Charge]], counts: tuple[int, int, int], words: str
) -> None:
    bill = by_request(cut, export(cut), "client_request_id,usd,model")
    found = told(cut, bill, code=3)["by_request"]
    assert tuple(len(found[name]) for name in ("not_ours", "not_billed", "out_of_bounds")) == counts
    assert found["unknown_not_billed"] == [] or not found["not_billed"], "a bill that is not whole spares none"
    assert words in said(cut, bill).stdout


def test_a_sum_beyond_our_bounds_says_by_how_much(cut: World) -> None:
    low, high = bounds(cut)
    more = told(cut, by_day(cut, [], **{"gpt-image-2": high + 7000}), code=3)
    assert (more["verdict"], more["resolve"]) == ("more", [])
    assert (
        "MORE          by $0.000007 than our books explain"
        in said(cut, by_day(cut, [], **{"gpt-image-2": high + 7000})).stdout
    )
    less = told(cut, by_day(cut, [], **{"gpt-image-2": low - 7000}), code=3)
    assert (less["verdict"], less["resolve"]) == ("less", [])
    assert told(cut, by_day(cut, [], **{"gpt-image-2": low}), code=0)["unknown"]["billed_most"] == 0
    assert told(cut, by_day(cut, []), code=3)["verdict"] == "less", "an empty bill is a bill of nothing"


def test_models_are_compared_one_by_one_and_those_that_no_run_asked_for_apart(world: World) -> None:
    models = ["gpt-image-2", "gpt-image-1-mini"]
    world.run(prompts=many(2), matrix={"model": models})
    charges = [{**each, "model": f"{each['model']}-2026-09-08"} for each in world.charges()]
    found = told(world, by_day(world, charges, **{"gpt-5-nano": 10**9}), code=0)
    assert {row["model"]: row["verdict"] for row in found["rows"]} == dict.fromkeys(models, "agrees")
    assert found["other_models"] == {"gpt-5-nano": 1.0}
    assert round(found["total"]["billed"] * 1e9) == world.billed() == round(found["total"]["low"] * 1e9)
    swap = dict(zip(models, reversed(models), strict=True))
    crossed = told(world, by_day(world, [{**each, "model": swap[each["model"]]} for each in world.charges()]), code=3)
    assert {row["verdict"] for row in crossed["rows"]} == {"more", "less"}
    assert crossed["total"]["verdict"] == "agrees", "the sum alone would not show it"


def test_where_no_line_names_a_model_of_ours_all_is_compared(world: World) -> None:
    world.run()
    found = told(world, by_day(world, [{**each, "model": "Image models"} for each in world.charges()]), code=0)
    assert [(row["model"], row["requests"]) for row in found["rows"]] == [(None, 1)]


def test_pretend_money_is_compared_with_a_sandbox_s_bill_alone(bad: Start) -> None:
    world = bad()
    world.run(prompts=many(2))
    bill = written(world.folder, json.dumps(world.sandbox.bill()), "bill.json")
    error = said(world, bill).exception
    assert isinstance(error, UsageError)
    assert str(error) == f"{bill}: is the sandbox's, and none of these runs is a rehearsal"
    done = world.command("run", "otters.yaml", "--sandbox", BATCHGEN_SANDBOX="--paint cached --script 'ok cut'")
    assert done.returncode == 0, done.stderr
    charged = world.folder / "runs" / "otters.sandbox" / "sandbox-bill.jsonl"
    found = told(world, charged, code=0)
    assert (found["pretend"], found["total"]["requests"], found["by_request"]["not_ours"]) == (True, 3, [])
    assert len(found["by_request"]["unknown_billed"]) == 1
    again = world.command("run", "otters.yaml", "--sandbox", "--set", "name=herons")
    assert again.returncode == 0, again.stderr
    assert told(world, charged, code=0)["total"]["requests"] == 3, "another rehearsal has a bill of its own"
    assert told(world, bill, code=3)["by_request"]["ours"] == 0, "what was bought for real is none of the rehearsal's"


def test_what_was_sent_at_another_time_than_the_bill_s_is_not_compared(world: World) -> None:
    world.run(prompts=many(3))
    change(
        world, "UPDATE attempts SET sent_at = '2026-10-01T00:00:00Z', ended_at = '2026-10-01T00:00:09Z' WHERE seq = 1"
    )
    paid = dict(world.rows("SELECT id, seq FROM attempts"))
    later = [each for each in world.charges() if paid[each["client_request_id"]] != 1]
    found = told(world, by_day(world, later), code=0)
    assert (found["outside"], found["total"]["requests"]) == (1, 2)
    assert told(world, written(world.folder, "day,cost\n2026-10-02,\n"), code=0)["outside"] == 3
    assert told(world, written(world.folder, "day,cost\n2026-10-01,\n"), code=3)["outside"] == 2


def test_a_month_narrows_the_bill_and_the_books_alike(world: World) -> None:
    world.run(prompts=many(2))
    change(
        world, "UPDATE attempts SET sent_at = '2026-10-31T12:00:00Z', ended_at = '2026-10-31T12:00:09Z' WHERE seq = 1"
    )
    change(
        world, "UPDATE attempts SET sent_at = '2026-11-01T12:00:00Z', ended_at = '2026-11-01T12:00:09Z' WHERE seq = 2"
    )
    amounts = [nano / 1e9 for (nano,) in world.rows("SELECT cost_low FROM attempts ORDER BY seq")]
    bill = written(world.folder, f"day,cost\n2026-10-31,{amounts[0]:.9f}\n2026-11-01,{amounts[1]:.9f}\n")
    for month in ("2026-10", "2026-11"):
        found = told(world, bill, "--month", month, code=0)
        assert (found["total"]["requests"], found["outside"]) == (1, 1)
    assert told(world, bill, code=0)["total"]["requests"] == 2


def test_a_count_of_images_is_compared_where_there_is_no_money(cut: World) -> None:
    def export(images: int) -> Path:
        text = (SAMPLES / "openai-usage-images.json").read_text()
        now = int(datetime.now(UTC).timestamp())
        text = text.replace("1795132800", str(now - 90_000)).replace("1795219200", str(now + 90_000))
        return written(cut.folder, text.replace('"images": 4', f'"images": {images}'))

    for images, code in ((3, 3), (4, 0), (5, 0), (6, 0), (7, 3)):
        found = told(cut, export(images), code=code)
        assert (found["measure"], found["total"]["low"], found["total"]["high"]) == ("images", 4, 6)
    assert told(cut, export(5), code=0)["unknown"] == {"requests": 2, "billed_least": 1, "billed_most": 1}


def test_where_no_request_of_the_bill_is_ours_the_sums_are_compared(cut: World) -> None:
    charges = [{**each, "request_id": f"call_{each['n']}"} for each in cut.charges()]
    bill = by_request(cut, charges, "usd,request_id,model")
    assert told(cut, bill, code=0)["by_request"] is None
    assert "no request that the bill names is ours: only the sums were compared" in said(cut, bill).stdout


def test_a_request_whose_price_is_not_known_explains_any_bill(world: World) -> None:
    world.run(prompts=many(2))
    change(world, "UPDATE attempts SET cost_low = NULL, cost_high = NULL WHERE seq = 1")
    found = told(world, by_day(world, [], **{"gpt-image-2": 10**12}), code=0)
    assert (found["total"]["high"], found["rows"][0]["verdict"]) == (None, "agrees")
    assert told(world, by_day(world, []), code=3)["verdict"] == "less"


def test_the_command_tells_it_to_people_in_lines_that_fit_and_ends_with_3(cut: World) -> None:
    bill = by_request(cut, stranger(cut))
    done = cut.command("costs", "--bill", str(bill))
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    told_ = lines[next(n for n, line in enumerate(lines) if line.startswith("Bill ")) :]
    assert max(len(line) for line in told_ if not line.startswith("  batchgen ")) <= 120
    assert {line[13] for line in told_ if not line.startswith(("  batchgen ", "To write "))} == {" "}
    refused = cut.command("costs", "--bill", str(bill), "--csv")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert cut.command("costs", "--bill", "nowhere.csv").returncode == 2


# What must hold of any books and any bill.


def sent(n: int, state: str, low: int | None, high: int | None, least: int = 0, *, hour: float = 12) -> Sent:
    begin = at(20) + timedelta(hours=hour)
    asked = (f"a{n}", f"p{n}", f"r{n}")
    return Sent("runs/a", *asked, state, "gpt-image-2", 1, low, high, least, begin, begin + timedelta(minutes=1))


Truth = list[tuple[Sent, int | None]]


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Attempts, each with what was really billed for it; None: nothing."""
    found: Truth = []
    for n in range(draw(st.integers(0, 12))):
        least = draw(st.integers(1, 1000))
        high = least + draw(st.integers(0, 1000))
        billed = draw(st.integers(least, high))
        kind = draw(st.sampled_from(["paid", "unusable", "unknown", "lost", "rejected"]))
        if kind == "paid":
            found.append((sent(n, kind, billed, billed), billed))
        elif kind == "unusable":
            found.append((sent(n, kind, least, high), billed))
        elif kind == "rejected":
            found.append((sent(n, kind, 0, 0), None))
        else:
            found.append((sent(n, "unknown", 0, high, least), billed if kind == "unknown" else None))
    return found


@given(truths())
def test_the_sum_of_what_was_really_billed_always_agrees_and_the_count_lies_within_its_bounds(truth: Truth) -> None:
    whole = sum(billed or 0 for _, billed in truth)
    found = compare(Statement("bill", (Line(*DAY, whole),), "money"), [attempt for attempt, _ in truth])
    assert found.verdict == "agrees"
    least, most = found.were_billed
    unknown = [(attempt, billed) for attempt, billed in truth if attempt.state == "unknown"]
    assert 0 <= least <= sum(billed is not None for _, billed in unknown) <= most <= len(unknown)
    assert all(billed is not None for attempt, billed in unknown if attempt in found.billed)
    assert all(billed is None for attempt, billed in unknown if attempt in found.spared)


@given(truths(), st.booleans())
def test_a_bill_by_request_tells_the_fate_of_each(truth: Truth, provider_s: bool) -> None:
    lines = [
        Line(*DAY, billed, ids=(each.request_id if provider_s else each.id,))
        for each, billed in truth
        if billed is not None
    ]
    whole = compare(Statement("bill", (*lines, Line(*DAY, 0)), "money"), [attempt for attempt, _ in truth])
    assert whole.verdict == "agrees"
    if lines:
        unknown = [(attempt, billed) for attempt, billed in truth if attempt.state == "unknown"]
        assert whole.billed == [attempt for attempt, billed in unknown if billed is not None]
        assert whole.spared == [attempt for attempt, billed in unknown if billed is None]


@pytest.mark.parametrize(
    ("hour", "low", "high", "outside"),
    [(-1, 0, 0, 1), (-0.01, 0, 9, 0), (0, 5, 9, 0), (23.9, 5, 9, 0), (23.99, 0, 9, 0), (24.1, 0, 0, 1)],
)
def test_what_reaches_over_the_edge_of_a_bill_may_be_in_it_or_not(
    hour: float, low: int, high: int, outside: int
) -> None:
    found = compare(Statement("bill", (Line(*DAY, 0),), "money"), [sent(1, "unusable", 5, 9, hour=hour)])
    assert (found.total.low, found.total.high, found.outside) == (low, high, outside)


def test_what_a_provider_charged_once_however_often_it_was_sent_is_one_request(bad: Start) -> None:
    world = bad("--script", "cut ok", "--idempotent", "600")
    world.run(provider=world.provider(idempotency="10m"), retry={"on_unknown": "retry"})
    assert (world.attempts(), len(world.charges())) == (["unknown", "paid"], 1)
    found = told(world, by_request(world, world.charges()), code=0)
    assert (found["total"]["requests"], found["unknown"]["requests"], found["resolve"]) == (1, 0, [])
    charge = world.charges()[0]
    twice = [charge, {**charge, "client_request_id": world.rows("SELECT id FROM attempts ORDER BY seq")[1][0]}]
    assert len(told(world, by_request(world, twice), code=3)["by_request"]["out_of_bounds"]) == 1


def test_what_was_billed_though_no_sending_of_its_purchase_bears_it_is_shown() -> None:
    found = compare(Statement("bill", (Line(*DAY, 5000, ids=("a1",)),), "money"), [sent(1, "unknown", 0, 0)])
    assert [(each.id, billed) for each, billed in found.off] == [("a1", 5000)]
    assert found.verdict != "agrees"


@pytest.mark.parametrize(("hour", "spared"), [(12, ["a2"]), (23.9, []), (25, [])])
def test_what_may_be_billed_after_the_bill_ended_is_not_said_to_be_spared(hour: float, spared: list[str]) -> None:
    ours = [sent(1, "paid", 5000, 5000), sent(2, "unknown", 0, 9000, 1000, hour=hour)]
    for ids in (("a1",), ()):
        found = compare(Statement("bill", (Line(*DAY, 5000, ids=ids),), "money"), ours)
        assert [each.id for each in found.spared] == spared


def test_the_commands_name_every_request_of_every_run_once() -> None:
    ours = [sent(n, "unknown", 0, 9, 1) for n in range(120)]
    lines = tuple(Line(*DAY, 5, ids=(f"a{n}",)) for n in range(0, 120, 2))
    found = [shlex.split(each) for each in reconcile.commands(compare(Statement("bill", lines, "money"), ours))]
    assert {tuple(words[:3]) for words in found} == {("batchgen", "resolve", "runs/a")}
    named = {
        flag: [id_ for words in found if words[3] == flag for id_ in words[4:]] for flag in ("--billed", "--not-billed")
    }
    assert named == {
        "--billed": [f"a{n}" for n in range(0, 120, 2)],
        "--not-billed": [f"a{n}" for n in range(1, 120, 2)],
    }
