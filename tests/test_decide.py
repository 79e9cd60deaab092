"""What a person decides: giving up, trying again, and stating what an unanswered request cost."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Start
from test_offer import planned, said
from world import KEY, KEY_ENV, Host, Respond, World, many

from batchgen import hold
from batchgen.folder import Folder

HOLD = {"on_unknown": "hold"}
STATES = "SELECT state, wanted, count(*) FROM tasks GROUP BY state, wanted ORDER BY state, wanted"
BOOKS = "SELECT id, state, cost_low, cost_high, allowance FROM attempts ORDER BY seq"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


def ended_badly(bad: Start, script: str, **changes: Any) -> World:
    """A run of one request at a time, in which the n-th met the n-th fault; a last one went well."""
    world = bad("--script", script)
    changes = {"prompts": many(len(script.split()) + 1), "retry": HOLD, **changes}
    world.write(**changes, limits={"concurrency": 1, "budget": 1})
    assert said(world, "run", "otters.yaml").returncode == 3
    return world


def check_bounds(world: World) -> None:
    """The bill lies between the report's bounds."""
    cost = json.loads(said(world, "report", "otters.yaml", "--json").stdout)["cost"]
    assert round(cost["low"] * 1e9) <= world.billed() <= round(cost["high"] * 1e9)
    parts = sum(cost[name] for name in ("paid", "estimated", "unknown"))
    assert round(parts * 1e9) == round(cost["high"] * 1e9)


def unknown(world: World) -> list[str]:
    return [id_ for (id_,) in world.rows("SELECT id FROM attempts WHERE state = 'unknown' ORDER BY seq")]


# giving up, and trying again

FATES = [("cut", "held"), ("cut-before", "held"), ("400", "failed"), ("html", "held")]


@pytest.mark.parametrize(("fault", "state"), FATES)
def test_what_is_given_up_is_missed_no_more_until_it_is_tried_again(bad: Start, fault: str, state: str) -> None:
    world = ended_badly(bad, fault, retry={**HOLD, "attempts": 1})
    before = len(world.charges())
    assert said(world, "drop", "otters.yaml", f"--{state}").stdout == "1 task given up\n"
    assert world.rows(STATES) == [("done", "yes", 1), (state, "waived", 1)]
    for _ in range(2):
        assert said(world, "run", "otters.yaml").returncode == 0
    check_bounds(world)
    assert (planned(world, "otters.yaml")["todo"], len(world.charges())) == (0, before)
    assert said(world, "retry", "otters.yaml", f"--{state}").returncode == 0
    assert world.rows(STATES) == [("done", "yes", 2)]
    assert len(world.charges()) == before + 1
    check_bounds(world)


def test_what_was_refused_is_given_up_and_tried_again_too(world: World) -> None:
    world.write(prompts=["A carp [moderated]", "A carp"])
    assert said(world, "run", "otters.yaml").returncode == 3
    assert said(world, "drop", "otters.yaml", "--refused").stdout == "1 task given up\n"
    assert said(world, "run", "otters.yaml").returncode == 0
    assert said(world, "retry", "otters.yaml", "--refused").returncode == 3
    assert (len(world.charges()), world.attempts().count("rejected")) == (1, 2)


def test_only_what_is_named_is_given_up(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    for flags in (("--failed",), ("--refused",), ("--failed", "--refused")):
        assert said(world, "drop", "otters.yaml", *flags).stdout == "0 tasks given up\n"
    assert said(world, "run", "otters.yaml").returncode == 3


def test_nothing_is_decided_unsaid(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    for verb in ("drop", "retry"):
        refused = said(world, verb, "otters.yaml")
        assert (refused.returncode, "--held, --failed or --refused" in refused.stderr) == (2, True)
    assert (world.states(), len(world.charges())) == ({"done": 1, "held": 1}, 2)


def test_a_retry_of_nothing_sends_nothing(world: World) -> None:
    world.run()
    again = said(world, "retry", "otters.yaml", "--held", "--failed")
    assert (again.returncode, "nothing is held or failed" in again.stderr, len(world.charges())) == (0, True, 1)


def test_what_was_given_up_stays_so_where_the_manifest_turns_away_and_back(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    assert said(world, "drop", "otters.yaml", "--held").returncode == 0
    for prompts in (many(3)[1:], many(2)):
        world.write(prompts=prompts, retry=HOLD)
        assert said(world, "run", "otters.yaml").returncode == 0
    assert world.rows("SELECT state, wanted FROM v_tasks WHERE prompt = ?", many(1)[0]) == [("held", "waived")]


def test_a_retry_buys_nothing_that_the_manifest_does_not_ask_for(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    assert said(world, "drop", "otters.yaml", "--held").returncode == 0
    world.write(prompts=many(3)[1:], retry=HOLD)
    assert said(world, "run", "otters.yaml").returncode == 0
    before = len(world.attempts())
    again = said(world, "retry", "otters.yaml", "--held")
    assert (again.returncode, len(world.attempts())) == (0, before)


@pytest.mark.parametrize("run", ["otters.yaml", "runs/otters"])
def test_a_retry_says_first_what_it_will_buy(bad: Start, run: str) -> None:
    world = ended_badly(bad, "cut cut")
    again = said(world, "retry", run, "--held")
    assert (again.returncode, "· 2 to do" in again.stderr) == (0, True)
    assert (world.states(), len(world.charges())) == ({"done": 3}, 5)
    check_bounds(world)


# stating what was billed


@pytest.mark.parametrize("billed", [True, False])
def test_whoever_states_the_truth_has_the_bill_between_the_bounds(bad: Start, billed: bool) -> None:
    world = ended_badly(bad, "cut cut" if billed else "cut-before cut-before")
    check_bounds(world)
    told = said(world, "resolve", "otters.yaml", "--billed" if billed else "--not-billed")
    words = "2 requests billed: between $" if billed else "2 requests not billed\n"
    assert (told.returncode, told.stdout.startswith(words)) == (0, True)
    check_bounds(world)
    assert world.attempts() == ["unusable" if billed else "rejected"] * 2 + ["paid"]
    assert world.states() == {"held": 2, "done": 1}, "about images it decides nothing"
    low, high = world.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts")[0]
    assert low == high == world.billed() if not billed else 0 < low <= world.billed() <= high
    assert said(world, "retry", "otters.yaml", "--held").returncode == 0
    assert len(world.charges()) == (5 if billed else 3)
    check_bounds(world)


def test_a_flat_price_that_was_billed_leaves_no_doubt(bad: Start) -> None:
    world = bad("--script", "cut")
    priced = world.provider(price={"image": 0.04})
    world.write(provider=priced, retry=HOLD)
    assert said(world, "run", "otters.yaml").returncode == 3
    assert said(world, "resolve", "otters.yaml", "--billed").stdout == "1 request billed: $0.0400\n"
    assert world.rows("SELECT cost_low, cost_high FROM attempts") == [(40_000_000, 40_000_000)]


def test_each_request_has_a_fate_of_its_own(bad: Start) -> None:
    world = ended_badly(bad, "cut cut-before")
    first, second = unknown(world)
    assert said(world, "resolve", "otters.yaml", "--billed", first).returncode == 0
    assert said(world, "resolve", "otters.yaml", "--not-billed", second).returncode == 0
    assert (world.attempts(), unknown(world)) == (["unusable", "rejected", "paid"], [])
    check_bounds(world)


def test_an_id_that_is_said_twice_is_one(bad: Start) -> None:
    world = ended_badly(bad, "cut cut")
    first, _ = unknown(world)
    assert said(world, "resolve", "otters.yaml", "--billed", first, first).stdout.startswith("1 request billed")


def test_where_one_id_is_wrong_nothing_is_stated_of_any(bad: Start) -> None:
    world = ended_badly(bad, "cut cut cut")
    first, second, third = unknown(world)
    assert said(world, "resolve", "otters.yaml", "--not-billed", third).returncode == 0
    paid = world.rows("SELECT id FROM attempts WHERE state = 'paid'")[0][0]
    before = world.rows(BOOKS)
    for wrong in (paid, third, second[:8], second.upper() + " ", "nonsense", "%", ""):
        refused = said(world, "resolve", "otters.yaml", "--billed", first, wrong)
        assert (refused.returncode, "Nothing was changed." in refused.stderr) == (2, True), wrong
        assert world.rows(BOOKS) == before, wrong


def test_a_fact_is_stated_or_not(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    before = world.rows(BOOKS)
    for flags in ((), ("--billed", "--not-billed")):
        refused = said(world, "resolve", "otters.yaml", *flags)
        assert (refused.returncode, "--billed or --not-billed" in refused.stderr) == (2, True)
    assert world.rows(BOOKS) == before


def test_where_nothing_is_unknown_nothing_is_stated(world: World) -> None:
    world.run()
    told = said(world, "resolve", "otters.yaml", "--not-billed")
    assert (told.returncode, told.stdout) == (0, "0 requests not billed\n")
    world.check_equal_to_the_bill()


def test_what_was_not_billed_frees_the_allowance_and_the_budget(bad: Start) -> None:
    """An allowance of one re-send, and a budget of three images at their highest price: both are used up."""
    world = bad("--script", "cut-before cut-before cut-before ok cut-before")
    retry = {"duplicate_allowance": 0.007, "attempts": 2}
    world.write(prompts=many(2), retry=retry, limits={"concurrency": 1, "budget": 0.0201})
    assert said(world, "run", "otters.yaml").returncode == 3
    assert (world.attempts(), world.charges()) == (["unknown"] * 3, [])
    assert said(world, "retry", "otters.yaml", "--held").returncode == 4
    assert said(world, "resolve", "otters.yaml", "--not-billed").returncode == 0
    assert world.rows("SELECT sum(allowance), sum(cost_high) FROM attempts") == [(0, 0)]
    assert said(world, "run", "otters.yaml").returncode == 0
    assert world.attempts()[3:] == ["paid", "unknown", "paid"], "there is an allowance to send again from"
    assert (world.states(), len(world.charges())) == ({"done": 2}, 2)
    check_bounds(world)


def test_what_was_not_billed_makes_room_for_images_too(bad: Start) -> None:
    world = bad("--script", "cut-before")
    world.write(prompts=many(2), retry=HOLD, limits={"concurrency": 1, "budget": 1, "images": 1})
    assert said(world, "run", "otters.yaml").returncode == 4
    assert said(world, "resolve", "otters.yaml", "--not-billed").returncode == 0
    assert said(world, "run", "otters.yaml").returncode in (3, 4)
    assert (len(world.charges()), world.attempts()) == (1, ["rejected", "paid"])


def test_a_retry_after_the_truth_is_a_purchase_of_its_own(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    assert said(world, "resolve", "otters.yaml", "--billed").returncode == 0
    assert said(world, "retry", "otters.yaml", "--held").returncode == 0
    purchases = world.rows("SELECT purchase FROM attempts WHERE task = 1")
    assert len(set(purchases)) == len(purchases) == 2


def test_nobody_decides_while_a_run_works(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    with hold.locked(Folder(world.run_folder)):
        for verb, flag in (("drop", "--held"), ("resolve", "--billed"), ("retry", "--held")):
            refused = said(world, verb, "otters.yaml", flag)
            assert (refused.returncode, "another run holds" in refused.stderr) == (6, True)
    assert (len(unknown(world)), world.states()) == (1, {"done": 1, "held": 1})


# what is untrue


def test_a_bill_that_nobody_can_know_is_not_told_as_nothing(bad: Start) -> None:
    world = bad("--any-model", "--script", "cut")
    world.write(model="dall-e-9", request=None, limits={"images": 3}, retry=HOLD)
    assert said(world, "run", "otters.yaml").returncode == 3
    assert "$0.00" not in said(world, "resolve", "otters.yaml", "--billed").stdout


def test_a_run_at_a_trusted_host_can_be_resolved(bad: Start) -> None:
    """The same provider, which has moved to a host that only --trust-host allows."""
    world = ended_badly(bad, "cut")
    world.write(prompts=many(2), provider=world.provider(base_url="https://far.invalid/v1"), retry=HOLD)
    assert said(world, "run", "otters.yaml", "--trust-host", "far.invalid").returncode == 3
    assert said(world, "resolve", "otters.yaml", "--not-billed").returncode == 0


def test_what_was_given_up_is_not_laid_at_the_manifests_door(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    assert said(world, "drop", "otters.yaml", "--held").returncode == 0
    assert "the manifest no longer asks for" not in said(world, "report", "otters.yaml").stdout


@pytest.mark.parametrize("flag", ["--billed", "--not-billed"])
def test_what_is_known_is_no_longer_told_as_perhaps(bad: Start, flag: str) -> None:
    world = ended_badly(bad, "cut")
    assert said(world, "resolve", "otters.yaml", flag).returncode == 0
    assert "perhaps paid" not in said(world, "report", "otters.yaml").stdout


def test_stating_that_it_was_billed_sends_nothing_again(bad: Start) -> None:
    world = ended_badly(bad, "cut")
    assert world.rows("SELECT sum(allowance) FROM attempts") == [(0,)]
    assert said(world, "resolve", "otters.yaml", "--billed").returncode == 0
    assert world.rows("SELECT sum(allowance) FROM attempts") == [(0,)]


def test_what_is_known_by_word_is_not_told_as_usage(bad: Start) -> None:
    world = bad("--script", "cut")
    world.write(provider=world.provider(price={"image": 0.04}), retry=HOLD)
    assert said(world, "run", "otters.yaml").returncode == 3
    assert said(world, "resolve", "otters.yaml", "--billed").returncode == 0
    assert "of 0 answers" not in said(world, "report", "otters.yaml").stdout


def test_an_answer_of_no_use_is_one_that_came(bad: Start) -> None:
    world = ended_badly(bad, "badpng", retry={**HOLD, "attempts": 1})
    report = said(world, "report", "otters.yaml").stdout
    assert "no answer came" not in report
    assert "from the usage of 1 answers" not in report, "both were paid for by their usage"


# giving up what a provider never hands over


def never_handed_over(world: World, host: Callable[[Respond], Host]) -> str:
    """A run whose image stays behind a link for ever; its attempt."""
    link = {"data": [{"url": "HERE/1.png"}], "usage": {"input_tokens": 5, "output_tokens": 196}}

    def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        bought = json.dumps(link).replace("HERE", seller.url).encode()
        return (200, {}, bought) if method == "POST" else (503, {"retry-after": "0"}, b"later")

    seller = host(respond)
    world.write(provider=world.provider(base_url=seller.url), retry={"attempts": 1})
    ended = said(world, "run", "otters.yaml")
    assert (ended.returncode, "resolve RUN --billed ATTEMPT" in ended.stderr) == (7, True)
    ((attempt, state),) = world.rows("SELECT id, state FROM attempts")
    assert state == "accepted"
    assert attempt in said(world, "report", "otters.yaml", "--attempts", "accepted").stdout
    return str(attempt)


@pytest.mark.parametrize(
    ("flag", "left", "state"), [("--billed", {"held": 1}, "unusable"), ("--not-billed", {"todo": 1}, "rejected")]
)
def test_what_is_never_handed_over_can_be_given_up_by_its_name(
    world: World, host: Callable[[Respond], Host], flag: str, left: dict[str, int], state: str
) -> None:
    attempt = never_handed_over(world, host)
    high = world.rows("SELECT cost_high FROM attempts")[0][0]
    unnamed = said(world, "resolve", "otters.yaml", flag)
    assert (unnamed.returncode, world.attempts(), world.states()) == (0, ["accepted"], {"doing": 1})
    assert said(world, "resolve", "otters.yaml", flag, attempt).returncode == 0
    assert (world.attempts(), world.states()) == ([state], left)
    low, now = world.rows("SELECT cost_low, cost_high FROM attempts")[0]
    assert (0 < low <= now == high) if flag == "--billed" else low == now == 0
    again = said(world, "resolve", "otters.yaml", flag, attempt)
    assert (again.returncode, "Nothing was changed." in again.stderr) == (2, True)


@pytest.mark.parametrize("flag", ["--billed", "--not-billed"])
def test_what_was_given_up_is_bought_anew_only_where_somebody_says_so(
    world: World, host: Callable[[Respond], Host], flag: str
) -> None:
    attempt = never_handed_over(world, host)
    assert said(world, "resolve", "otters.yaml", flag, attempt).returncode == 0
    world.write()
    ended = said(world, "run", "otters.yaml").returncode
    assert (ended, len(world.charges())) == ((3, 0) if flag == "--billed" else (0, 1))
    assert said(world, "retry", "otters.yaml", "--held").returncode == 0
    assert (world.states(), len(world.charges())) == ({"done": 1}, 1)
