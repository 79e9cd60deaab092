"""Whole runs over real HTTP: what is bought, what is not, how a run ends, and that the books equal the bill."""

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from PIL import Image
from world import CARP, HERON, KEY_ENV, OTTER, Host, Respond, World, eventually, many, png


def test_a_fresh_run_makes_every_image_and_its_books_equal_the_bill(world: World) -> None:
    ended = world.run(prompts=[OTTER, HERON], matrix={"size": ["1024x1024", "1536x1024"]}, request={"quality": "low"})
    assert (ended.exit_code, ended.reason, world.states()) == (0, "all done", {"done": 4})
    assert {path.name.partition("-")[0] == "{}x{}".format(*_size(path)) for path in world.files()} == {True}
    assert (len(world.files()), len(world.charges())) == (4, 4)
    world.check_equal_to_the_bill()


def test_a_second_run_buys_nothing(world: World) -> None:
    world.run(prompts=many(5))
    before = world.files()
    assert world.run(prompts=many(5)).exit_code == 0
    assert (world.files(), len(world.charges()), len(world.attempts())) == (before, 5, 5)


def test_settings_that_make_no_other_image_buy_nothing_again(world: World) -> None:
    world.run(prompts=many(3))
    limits = {"concurrency": 1, "timeout": "5m"}
    output = {"path": "elsewhere/{{ slug }}"}
    ended = world.run(prompts=many(3), limits=limits, output=output, retry={"attempts": 2}, project="zoo")
    assert (ended.exit_code, len(world.charges())) == (0, 3)


def test_a_changed_manifest_buys_only_what_is_new(world: World) -> None:
    world.run(prompts=[OTTER, HERON])
    said = world.command("run", str(world.write(prompts=[HERON, CARP])))
    assert (said.returncode, change(said.stderr)) == (0, "+1 new $0.0059 · 1 kept · 1 dropped · 1 to do")
    assert (len(world.charges()), len(world.files())) == (3, 3)
    world.check_equal_to_the_bill()


def change(told: str) -> str:
    """The plan's line about what is new."""
    return next(line for line in told.splitlines() if " new" in line and " kept" in line).strip()


def test_what_is_dropped_before_it_was_bought_is_not_bought_until_it_is_wanted_again(world: World) -> None:
    assert world.run(prompts=[OTTER, HERON, CARP], limits={"images": 1}).exit_code == 4
    assert world.run(prompts=[OTTER, CARP]).exit_code == 0
    assert world.rows("SELECT state, wanted FROM v_tasks WHERE prompt = ?", HERON) == [("todo", "dropped")]
    assert len(world.charges()) == 2
    assert world.run(prompts=[OTTER, HERON, CARP]).exit_code == 0
    assert len(world.charges()) == 3


def test_more_samples_buy_only_the_ones_that_are_missing(world: World) -> None:
    world.run(samples=2)
    world.run(samples=3)
    assert (world.states(), len(world.charges())) == ({"done": 3}, 3)


def test_equal_prompts_are_one_task(world: World) -> None:
    world.run(prompts=[OTTER, f" {OTTER} ", OTTER])
    assert (world.states(), len(world.charges())) == ({"done": 1}, 1)


def test_one_request_for_three_images_saves_three_files(world: World) -> None:
    world.run(request={"size": "1024x1024", "quality": "low", "n": 3})
    assert [charge["images"] for charge in world.charges()] == [3]
    assert [path.stem.rpartition("-")[2] for path in world.files()] == ["0", "1", "2"]
    assert world.rows("SELECT idx, state FROM images ORDER BY idx") == [(0, "saved"), (1, "saved"), (2, "saved")]
    world.check_equal_to_the_bill()


def test_links_are_fetched_without_the_key(bad: Start) -> None:
    world = bad("--delivery", "url")  # whose files refuse a request that brings a key
    provider = world.provider(links=["127.0.0.1"])
    ended = world.run(provider=provider, prompts=many(3), request={"size": "1024x1024", "quality": "low", "n": 2})
    assert (ended.exit_code, len(world.files()), len(world.charges())) == (0, 6, 3)
    world.check_equal_to_the_bill()


def test_a_link_that_is_lost_for_a_while_is_asked_for_again_and_not_bought_again(
    world: World, host: Callable[[Respond], Host]
) -> None:
    seller = _seller_whose_links_fail(host, times=2)
    ended = world.run(provider=world.provider(base_url=seller.url), prompts=[OTTER])
    assert (ended.exit_code, [method for method, _ in seller.seen]) == (0, ["POST", "GET", "GET", "GET"])
    assert world.attempts() == ["paid"]


def test_what_the_provider_still_holds_is_left_to_the_next_run_which_fetches_it(
    world: World, host: Callable[[Respond], Host]
) -> None:
    seller = _seller_whose_links_fail(host, times=3)
    changes = {"provider": world.provider(base_url=seller.url), "retry": {"attempts": 2}}
    assert (world.run(**changes).exit_code, world.attempts()) == (7, ["accepted"])
    assert (world.run(**changes).exit_code, world.attempts()) == (0, ["paid"])
    assert [method for method, _ in seller.seen].count("POST") == 1


def test_a_run_whose_budget_waits_for_what_the_provider_still_holds_ends(
    world: World, host: Callable[[Respond], Host]
) -> None:
    seller = _seller_whose_links_fail(host, times=10**6)
    world.write(
        provider=world.provider(base_url=seller.url),
        prompts=many(4),
        limits={"concurrency": 2, "budget": 0.009},
        retry={"attempts": 1},
    )
    process = world.begin("run", "otters.yaml")
    assert process.wait(4) in (4, 7)


def _seller_whose_links_fail(host: Callable[[Respond], Host], times: int) -> Host:
    """Answers with links, which it says it cannot serve yet for so many times."""
    failures = iter(range(times))

    def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if method == "POST":
            link = {"url": f"{seller.url}/files/1.png"}
            return 200, {}, json.dumps({"data": [link], "usage": {"input_tokens": 5, "output_tokens": 196}}).encode()
        if next(failures, None) is not None:
            return 503, {"retry-after": "0"}, b"not yet"
        return 200, {}, png()

    seller = host(respond)
    return seller


LOST, HTML = (404, b'{"error": {"message": "no such file"}}'), (200, b"<html>Just a moment...</html>")


def _seller_of_two(host: Callable[[Respond], Host], lost: set[str], how: tuple[int, bytes] = LOST) -> Host:
    """Answers with two links, of which it has lost some for ever."""

    def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if method == "POST":
            data = [{"url": f"{seller.url}/files/{n}.png"} for n in range(2)]
            return 200, {}, json.dumps({"data": data, "usage": {"input_tokens": 5, "output_tokens": 392}}).encode()
        return (how[0], {"retry-after": "0"}, how[1]) if path.removeprefix("/files/") in lost else (200, {}, png())

    seller = host(respond)
    return seller


def _two_of(world: World, seller: Host) -> dict[str, Any]:
    request = {"size": "1024x1024", "quality": "low", "n": 2}
    return {"provider": world.provider(base_url=seller.url), "request": request, "retry": {"attempts": 1}}


@pytest.mark.parametrize("how", [LOST, HTML], ids=["404", "no image"])
@pytest.mark.parametrize(("lost", "saved"), [("0.png", 1), ("1.png", 0)])
def test_one_image_of_two_that_is_lost_for_ever_leaves_the_other_saved_and_paid_once(
    world: World, host: Callable[[Respond], Host], lost: str, saved: int, how: tuple[int, bytes]
) -> None:
    seller = _seller_of_two(host, {lost}, how)
    assert (world.run(**_two_of(world, seller)).exit_code, world.attempts(), world.files()) == (7, ["accepted"], [])
    ended = world.run(**_two_of(world, seller))  # in more than one run it was gone
    assert (ended.exit_code, world.states(), world.attempts()) == (0, {"done": 1}, ["paid"])
    states = {1 - saved: "broken", saved: "saved"}
    assert dict(world.rows("SELECT idx, state FROM images")) == states
    assert [path.stem.rpartition("-")[2] for path in world.files()] == [str(saved)]
    assert [method for method, _ in seller.seen].count("POST") == 1
    assert world.run(**_two_of(world, seller)).exit_code == 0
    assert [method for method, _ in seller.seen].count("POST") == 1
    low, high = world.rows("SELECT cost_low, cost_high FROM attempts")[0]
    assert low == high == 5 * 5_000 + 392 * 30_000


@pytest.mark.parametrize("how", [LOST, HTML], ids=["404", "no image"])
def test_where_both_images_are_lost_for_ever_the_task_is_held_and_not_bought_again(
    world: World, host: Callable[[Respond], Host], how: tuple[int, bytes]
) -> None:
    seller = _seller_of_two(host, {"0.png", "1.png"}, how)
    for code, states in ((7, {"doing": 1}), (3, {"held": 1}), (3, {"held": 1})):
        assert (world.run(**_two_of(world, seller)).exit_code, world.states()) == (code, states)
    assert (world.attempts(), world.files()) == (["unusable"], [])
    assert [method for method, _ in seller.seen].count("POST") == 1


def test_nothing_is_saved_while_a_link_may_still_bring_an_image(world: World, host: Callable[[Respond], Host]) -> None:
    seller = _seller_of_two(host, {"1.png"}, (503, b"not yet"))
    assert world.run(**_two_of(world, seller)).exit_code == 7
    assert (world.attempts(), world.files(), world.rows("SELECT * FROM images")) == (["accepted"], [], [])


ODD_WORDS = (
    r'"revised_prompt": "half \ud83d of a pair"',
    r'"revised_prompt": "\udc00\u0000", "b": 1',
    r'"revised_prompt": ["\ud800"]',
)


@pytest.mark.parametrize("odd", ODD_WORDS)
def test_u8_what_is_no_character_in_an_answer_costs_no_image_and_jams_no_run(
    world: World, host: Callable[[Respond], Host], odd: str
) -> None:
    usage, said = '"usage": {"input_tokens": 5, "output_tokens": 196}', r'"size": "\ud800", "quality": "l\udfffw"'
    picture = f'{{"b64_json": "{base64.b64encode(png()).decode()}", {odd}}}'
    body = f'{{"data": [{picture}], {usage}, {said}, "created": {10**400}}}'.encode()
    seller = host(lambda method, path: (200, {}, body))
    ended = world.run(provider=world.provider(base_url=seller.url), prompts=many(3))
    assert (ended.exit_code, world.states(), len(world.files())) == (0, {"done": 3}, 3)
    assert (world.attempts(), len(seller.seen)) == (["paid"] * 3, 3)
    for verb in ("report", "status", "verify"):
        assert world.command(verb, "otters.yaml").returncode == 0
    assert world.command("report", "otters.yaml", "--json").returncode == 0


def _seller_with_a_queue(host: Callable[[Respond], Host], polls: list[tuple[int, bytes]]) -> Host:
    """Answers with a task to poll; its answers to polls come in turn, the last one for ever."""

    def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if method == "POST":
            return 200, {}, b'{"data": {"task_id": "t/1?", "status": "pending"}}'
        if path.startswith("/files/"):
            return 200, {}, png()
        status, body = polls.pop(0) if len(polls) > 1 else polls[0]
        return status, {}, body.replace(b"HERE", seller.url.encode())

    seller = host(respond)
    return seller


MADE = (200, b'{"data": {"status": "completed", "outputs": ["HERE/files/1.png"]}}')
ODD_POLLS: dict[str, tuple[int, bytes]] = {
    "a page": (200, b"<html>Just a moment...</html>"),
    "nothing": (200, b""),
    "a list": (200, b"[]"),
    "half an answer": (200, b'{"data": {"stat'),
    "an error in a 200": (200, b'{"error": {"message": "try later", "type": "server_error"}}'),
    "a 500": (500, b"<html>"),
    "a 404": (404, b'{"code": 404, "message": "not there yet"}'),
    "a code in a 200": (200, b'{"code": "500", "message": "try later"}'),
    "done, and nothing there": (200, b'{"data": {"status": "completed", "outputs": []}}'),
    "no status": (200, b'{"data": null}'),
}


def _queued(world: World, seller: Host) -> dict[str, Any]:
    provider = world.provider(base_url=seller.url, dialect="onerouter", price={"image": 0.04})
    return {"provider": provider, "model": "openai/gpt-image-2/text-to-image", "request": {"quality": "low"}}


@pytest.mark.parametrize("odd", ODD_POLLS)
def test_an_odd_answer_to_a_poll_does_not_lose_what_is_bought(
    world: World, host: Callable[[Respond], Host], odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.dialects.onerouter.WAITS", (0.01,))
    monkeypatch.setattr("batchgen.dialects.onerouter.WAIT", 0.01)
    seller = _seller_with_a_queue(host, [ODD_POLLS[odd], MADE])
    ended = world.run(**_queued(world, seller))
    assert (ended.exit_code, world.attempts(), len(world.files())) == (0, ["paid"], 1)
    assert [method for method, _ in seller.seen].count("POST") == 1


@pytest.mark.parametrize("word", ["failed", "cancelled", "CANCELED", "expired", "error"])
def test_a_task_that_is_over_is_asked_for_no_more(
    world: World, host: Callable[[Respond], Host], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.dialects.onerouter.WAITS", (0.01,))
    monkeypatch.setattr("batchgen.dialects.onerouter.WAIT", 0.01)
    over = json.dumps({"data": {"status": word, "fail_reason": "no luck"}}).encode()
    seller = _seller_with_a_queue(host, [(200, over)])
    ended = world.run(**_queued(world, seller), retry={"attempts": 1})
    assert (ended.exit_code, world.attempts(), world.states()) == (3, ["unusable"], {"held": 1})
    assert [method for method, _ in seller.seen] == ["POST", "GET"]


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_what_failed_is_tried_again_when_a_person_says_so(bad: Start) -> None:
    world = bad("--script", "400")
    assert (world.run().exit_code, world.states()) == (3, {"failed": 1})
    assert (world.run().exit_code, len(world.attempts())) == (3, 1), "not by itself"
    said = world.command("retry", "otters.yaml", "--failed")
    assert (said.returncode, world.attempts()) == (0, ["rejected", "paid"])
    world.check_equal_to_the_bill()


def test_what_is_tried_again_goes_where_the_manifest_says_now(bad: Start) -> None:
    world = bad("--script", "400")
    assert world.run(output={"path": "old/{{ slug }}"}).exit_code == 3
    assert world.run(output={"path": "new/{{ slug }}"}).exit_code == 3
    assert world.command("retry", "otters.yaml", "--failed").returncode == 0
    assert [path.parent.name for path in world.files()] == ["new"]


def test_what_was_refused_is_not_sent_again_by_itself(world: World) -> None:
    refused = f"{CARP} [moderated]"
    assert world.run(prompts=[OTTER, refused]).exit_code == 3
    assert world.run(prompts=[OTTER, refused]).exit_code == 3
    assert (sorted(world.attempts()), world.states()) == (["paid", "rejected"], {"done": 1, "refused": 1})
    assert world.command("retry", "otters.yaml", "--refused").returncode == 3
    assert sorted(world.attempts()) == ["paid", "rejected", "rejected"]
    world.check_equal_to_the_bill()


def test_an_image_refused_after_it_was_made_may_have_been_billed(world: World) -> None:
    assert world.run(prompts=[f"{CARP} [moderated-output]"]).exit_code == 3
    assert (world.attempts(), world.states(), len(world.charges())) == (["unknown"], {"refused": 1}, 1)
    world.check_books()


def test_what_is_held_waits_for_a_person_and_keeps_its_purchase(bad: Start) -> None:
    world = bad("--script", "cut", "--idempotent", "86400")
    changes: dict[str, object] = {"retry": {"on_unknown": "hold"}, "provider": world.provider(idempotency="24h")}
    assert (world.run(**changes).exit_code, world.states()) == (3, {"held": 1})
    assert (world.run(**changes).exit_code, len(world.charges())) == (3, 1)
    assert world.command("retry", "otters.yaml", "--held").returncode == 0
    assert world.attempts() == ["unknown", "paid"]
    assert len({charge["idempotency_key"] for charge in world.charges()}) == 1, "one purchase, sent twice"
    world.check_books()


def test_a_new_purchase_has_a_new_idempotency_key(bad: Start) -> None:
    world = bad("--script", "badpng")
    changes: dict[str, object] = {"retry": {"duplicate_allowance": 1}, "provider": world.provider(idempotency="24h")}
    assert world.run(**changes).exit_code == 0
    assert len({charge["idempotency_key"] for charge in world.charges()}) == 2


def test_what_may_be_bought_twice_stays_within_the_allowance(bad: Start) -> None:
    world = bad("--faults", "cut=1")
    ended = world.run(prompts=many(6), retry={"duplicate_allowance": 0.015, "attempts": 3})
    assert (ended.exit_code, world.states()) == (3, {"held": 6})
    dearest = world.rows("SELECT max(cost_high) FROM attempts")[0][0]
    again = len(world.charges()) - 6
    assert again == 15_000_000 // dearest
    world.check_books()


def test_the_budget_is_nearly_used_and_never_passed(world: World) -> None:
    ended = world.run(prompts=many(20), limits={"concurrency": 4, "budget": 0.05})
    assert (ended.exit_code, ended.reason) == (4, "stopped by budget")
    dearest = world.rows("SELECT max(cost_high) FROM attempts")[0][0]
    price = max(charge["nano_usd"] for charge in world.charges())
    assert 50_000_000 - dearest - price < world.billed() <= 50_000_000
    world.check_equal_to_the_bill()


def test_the_budget_counts_what_earlier_runs_spent(world: World) -> None:
    world.run(prompts=many(20), limits={"budget": 0.03})
    world.run(prompts=many(20), limits={"budget": 0.03})
    assert world.billed() <= 30_000_000
    assert world.command("run", "otters.yaml", "--budget", "0.06").returncode == 4
    assert 45_000_000 < world.billed() <= 60_000_000


def test_a_budget_below_the_first_image_sends_nothing(world: World) -> None:
    assert (world.run(limits={"budget": 0.001}).exit_code, world.charges(), world.attempts()) == (4, [], [])


def test_lost_answers_count_against_the_budget_at_their_highest_price(bad: Start) -> None:
    world = bad("--faults", "cut=1")
    ended = world.run(prompts=many(20), limits={"budget": 0.05}, retry={"on_unknown": "hold"})
    assert ended.exit_code == 4
    assert world.billed() <= 50_000_000
    assert world.rows("SELECT sum(cost_high) <= 50000000 FROM attempts") == [(1,)]


def test_the_limit_of_images_is_met_exactly(world: World) -> None:
    ended = world.run(prompts=many(9), limits={"concurrency": 4, "images": 5})
    assert (ended.exit_code, ended.reason, len(world.files())) == (4, "stopped by limits.images", 5)
    assert world.states() == {"done": 5, "todo": 4}


@pytest.mark.parametrize("fault", ["401", "403", "quota", "billing"])
def test_nothing_more_is_sent_once_the_provider_wants_a_person(bad: Start, fault: str) -> None:
    world = bad("--faults", f"{fault}=1")
    ended = world.run(prompts=many(20), limits={"concurrency": 3})
    assert (ended.exit_code, ended.reason.startswith("blocked: ")) == (5, True)
    assert sum(world.sandbox.stats()["requests"].values()) <= 3
    assert (world.states(), set(world.attempts())) == ({"todo": 20}, {"rejected"})


def test_ten_answers_of_the_same_rejection_block_the_run(bad: Start) -> None:
    world = bad("--faults", "400=1")
    ended = world.run(prompts=many(30), limits={"concurrency": 2})
    assert (ended.exit_code, "all the same" in ended.reason) == (5, True)
    assert 10 <= len(world.attempts()) <= 12


def test_rejections_of_single_tasks_do_not_stop_the_others(bad: Start) -> None:
    world = bad("--script", "ok " + "400 " * 12)
    assert world.run(prompts=many(16), limits={"concurrency": 1}).exit_code == 3
    assert world.states() == {"done": 4, "failed": 12}


def test_a_host_that_is_never_reached_blocks_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.limits.UNREACHED_MOST", 0.5)
    ended = world.run(prompts=many(12), provider=world.provider(base_url="http://127.0.0.1:9/v1"))
    assert (ended.exit_code, "never reached" in ended.reason) == (5, True)
    assert (set(world.attempts()), world.states()) == ({"unsent"}, {"todo": 12})


def test_a_flat_price_is_what_an_image_costs(world: World) -> None:
    price = {"price": {"image": 0.04}}
    world.run(
        prompts=many(2), provider=world.provider(**price), request={"n": 2, "size": "1024x1024", "quality": "low"}
    )
    assert world.rows("SELECT cost_low, cost_high, estimated FROM attempts") == [(80_000_000, 80_000_000, 0)] * 2


def test_a_model_without_a_known_price_needs_a_limit(world: World) -> None:
    said = world.command("run", str(world.write(model="dall-e-9", request=None)))
    assert (said.returncode, "limits.images" in said.stderr, world.run_folder.exists()) == (2, True, False)


def test_a_model_without_a_known_price_runs_within_a_limit_of_images(world: World) -> None:
    ended = world.run(model="dall-e-9", request=None, limits={"images": 1})
    assert (ended.exit_code, world.states()) == (3, {"failed": 1})


@pytest.mark.parametrize("key", ["", "sk one two", "sk-\N{ZERO WIDTH SPACE}x"])
def test_a_key_that_can_be_none_is_refused_before_anything_is_sent_or_shown(world: World, key: str) -> None:
    said = world.command("run", str(world.write()), **{KEY_ENV: key})
    assert (said.returncode, KEY_ENV in said.stderr, world.run_folder.exists()) == (2, True, False)
    assert not key or key not in said.stderr


def test_one_folder_has_one_run_at_a_time(bad: Start) -> None:
    world = bad("--latency", "1")
    first = world.begin("run", str(world.write(prompts=many(20), limits={"concurrency": 1, "budget": 1})))
    eventually(world.charges)
    second = world.command("run", "otters.yaml")
    assert second.returncode == 6
    assert f"process {first.pid} on " in second.stderr
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 7


def test_another_manifest_of_the_same_name_is_refused(world: World) -> None:
    world.run()
    other = world.folder / "others.yaml"
    shutil.copy(world.folder / "otters.yaml", other)
    said = world.command("run", str(other))
    assert (said.returncode, "another manifest" in said.stderr) == (2, True)
    assert len(world.charges()) == 1


def test_the_same_manifest_by_another_way_is_the_same(world: World) -> None:
    world.run()
    (world.folder / "jobs").mkdir()
    assert world.command("run", "jobs/../otters.yaml").returncode == 0


def test_a_moved_folder_goes_on_where_it_stopped(world: World) -> None:
    world.run(prompts=many(3), limits={"images": 1})
    world.write(prompts=many(3))
    moved = world.folder.parent / f"{world.folder.name}-moved"
    world.folder.rename(moved)
    world.folder = moved
    assert world.command("run", "otters.yaml").returncode == 0
    assert len(world.charges()) == 3


def test_a_run_named_by_its_folder_only_finishes_what_is_queued(world: World) -> None:
    """By the manifest that it was run with last, whatever became of that, or of the copy beside the ledger."""
    world.run(prompts=many(3), limits={"images": 1, "budget": 10})
    world.write(prompts=many(9))
    (world.run_folder / "manifest.yaml").write_text((world.folder / "otters.yaml").read_text())
    assert world.command("run", str(world.run_folder)).returncode == 4
    assert (world.states(), len(world.charges())) == ({"done": 1, "todo": 2}, 1)
    assert world.command("run", str(world.run_folder), "--set", "limits.images=9").returncode == 0
    assert (world.states(), len(world.charges())) == ({"done": 3}, 3)


def test_the_first_signal_finishes_what_is_paid_for(bad: Start) -> None:
    world = bad("--latency", "0.4")
    process = world.begin("run", str(world.write(prompts=many(8), limits={"concurrency": 2, "budget": 1})))
    eventually(world.charges)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    world.check_equal_to_the_bill()
    assert set(world.states()) == {"done", "todo"}
    assert len(world.charges()) <= 5
    assert world.command("run", "otters.yaml").returncode == 0
    assert len(world.charges()) == 8, "nothing was bought twice"


def test_the_second_signal_leaves_at_once_and_lists_what_it_left(bad: Start) -> None:
    world = bad("--latency", "30")
    process = world.begin("run", str(world.write(prompts=many(8), limits={"concurrency": 2, "budget": 1})))
    eventually(lambda: world.sandbox.stats()["open"] == 2)
    process.send_signal(signal.SIGINT)
    _read_until(process, "leaves now")
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 7
    assert world.attempts() == ["unknown", "unknown"]
    assert world.rows("SELECT exit_code FROM runs") == [(7,)]


def _read_until(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stderr
    while words not in process.stderr.readline():
        assert process.poll() is None


def test_a_terminal_that_closes_loses_nothing_that_is_paid_for(bad: Start) -> None:
    world = bad("--latency", "1")
    process = world.begin("run", str(world.write(prompts=many(12), limits={"concurrency": 4, "budget": 1})))
    eventually(lambda: world.sandbox.stats()["open"] == 4)
    _hang_up(process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(10) == 7
    assert (world.states(), len(world.charges())) == ({"done": 4, "todo": 8}, 4)
    world.check_equal_to_the_bill()


def test_a_reader_that_goes_away_changes_nothing_about_a_run(bad: Start) -> None:
    world = bad("--latency", "0.5")
    process = world.begin("run", str(world.write(prompts=many(6))))
    eventually(lambda: world.sandbox.stats()["open"] > 0)
    _hang_up(process)
    code = process.wait(10)
    assert world.states() == {"done": 6}
    assert code == 0


def _hang_up(process: "subprocess.Popen[str]") -> None:
    """Nobody reads any more what the process writes."""
    for pipe in (process.stdout, process.stderr):
        assert pipe
        pipe.close()
    process.stdout = process.stderr = None


def test_a_killed_run_goes_on_and_every_charge_is_known(bad: Start) -> None:
    world = bad("--latency", "0.1", "--latency-jitter", "0.1")
    path = str(world.write(prompts=many(24), limits={"concurrency": 4, "budget": 1}, retry={"duplicate_allowance": 1}))
    for charges in (4, 9, 14):
        process = world.begin("run", path)
        eventually(lambda wanted=charges: len(world.charges()) >= wanted)  # type: ignore[misc]
        process.kill()
        process.wait()
    assert world.command("run", path).returncode == 0
    assert (world.states(), len(world.files())) == ({"done": 24}, 24)
    world.check_books()
    again = world.attempts().count("unknown")
    assert 24 <= len(world.charges()) <= 24 + again
    assert again <= 3 * 4
    assert not list((world.run_folder / "spool").iterdir())


def test_what_is_wanted_no_longer_is_not_bought_again_after_a_kill(bad: Start) -> None:
    """Its request was on the way; the user changed the manifest before going on."""
    world = bad("--latency", "0.5")
    process = world.begin("run", str(world.write(prompts=many(4), retry={"duplicate_allowance": 1})))
    eventually(lambda: world.sandbox.stats()["open"] >= 4)
    process.kill()
    process.wait()
    eventually(lambda: len(world.charges()) == 4)
    changed = world.write(prompts=["Something else"], retry={"duplicate_allowance": 1})
    assert world.command("run", str(changed)).returncode == 0
    assert len(world.charges()) == 5
    assert (world.attempts().count("unknown"), world.states()) == (4, {"done": 1})
    world.check_books()


def _sandbox_of(run: int) -> int:
    """The process that a run started as its provider."""
    for entry in Path("/proc").iterdir():
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1] if entry.name.isdigit() else ""
            if parent == str(run) and b"batchgen.sandbox" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    return 0


def _gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_sandbox_of_a_run_ends_with_it(world: World, how: signal.Signals) -> None:
    path = str(world.write(provider="sandbox", prompts=many(4), limits={"concurrency": 1, "budget": 1}))
    process = world.begin("run", path, BATCHGEN_SANDBOX="--latency 0.5 --paint cached")
    eventually(lambda: (world.run_folder / "sandbox-bill.jsonl").exists())
    child = _sandbox_of(process.pid)
    assert child
    os.kill(process.pid, how)
    assert process.wait(10) == (7 if how is signal.SIGTERM else -9)
    eventually(lambda: _gone(child), within=10)


def test_the_runs_own_sandbox_bills_across_runs(world: World) -> None:
    for limit in (1, 3):
        world.write(provider="sandbox", prompts=many(3), limits={"images": limit})
        world.command("run", "otters.yaml", BATCHGEN_SANDBOX="--paint cached")
    charges: list[dict[str, Any]] = [
        json.loads(line) for line in (world.run_folder / "sandbox-bill.jsonl").read_text().splitlines()
    ]
    known = {id_ for (id_,) in world.rows("SELECT id FROM attempts")}
    assert {charge["client_request_id"] for charge in charges} == known
    assert world.rows("SELECT sum(cost_high) FROM attempts") == [(sum(charge["nano_usd"] for charge in charges),)]


def test_the_plan_is_told_first_and_on_stderr(world: World) -> None:
    said = world.command("run", str(world.write(prompts=many(3))))
    plan = said.stderr.splitlines()
    assert plan[0] == f"Run      {world.run_folder} (new)"
    assert plan[1] == "Wanted   3 rows, 3 tasks"
    assert change(said.stderr).startswith("+3 new $0.01")
    assert next(line for line in plan if line.startswith("Asks")) == (
        f"Asks     pretend: {world.sandbox.url.removesuffix('/v1')}, with the key in {KEY_ENV}"
    )
    assert (said.stdout, said.stderr.index("Cost") < said.stderr.index("3 saved")) == ("", True)


def test_each_provider_has_as_many_requests_open_as_the_limit_says(bad: Start) -> None:
    world = bad("--latency", "0.2")
    providers = [world.provider(name=name) for name in ("one", "two")]
    matrix = {"provider": providers}
    ended = world.run(provider=None, matrix=matrix, prompts=many(8), limits={"concurrency": 3, "budget": 10})
    assert (ended.exit_code, world.states(), len(world.charges())) == (0, {"done": 16}, 16)
    assert world.sandbox.stats()["most_open"] == 6
    assert world.rows("SELECT lane, count(*) FROM attempts GROUP BY lane") == [("one", 8), ("two", 8)]
    world.check_equal_to_the_bill()


def test_a_task_whose_image_comes_with_its_last_poll_needs_no_link(
    world: World, host: Callable[[Respond], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.dialects.onerouter.WAITS", (0.01,))
    monkeypatch.setattr("batchgen.dialects.onerouter.WAIT", 0.01)
    made = {"data": {"status": "completed", "outputs": [{"b64_json": base64.b64encode(png()).decode()}]}}
    seller = _seller_with_a_queue(host, [(200, json.dumps(made).encode())])
    assert (world.run(**_queued(world, seller)).exit_code, world.attempts(), len(world.files())) == (0, ["paid"], 1)


@pytest.mark.parametrize("link", ["http://[::1/a.png", "https://[bad]/a.png", "http://\u2100.evil/"])
def test_a_link_that_is_none_ends_no_run_and_is_not_followed(
    world: World, host: Callable[[Respond], Host], link: str
) -> None:
    body = b'{"data": [{"url": "%s"}]}' % link.encode()
    seller = host(lambda method, path: (200, {}, body))
    changes: dict[str, Any] = {"provider": world.provider(base_url=seller.url), "retry": {"attempts": 1}}
    ended = world.run(**changes)
    assert ended.exit_code in (5, 7)
    assert (world.attempts(), seller.seen) == (["accepted"], [("POST", "/images/generations")])


@pytest.mark.parametrize("link", ["http://\\ud800/a.png", "https://a.\\udfff.example/a.png"])
def test_u8_a_link_with_what_is_no_character_ends_no_run(
    world: World, host: Callable[[Respond], Host], link: str
) -> None:
    body = b'{"data": [{"url": "%s"}]}' % link.encode()
    seller = host(lambda method, path: (200, {}, body))
    said = world.command("run", str(world.write(provider=world.provider(base_url=seller.url), retry={"attempts": 1})))
    assert (said.returncode in (5, 7), "Traceback" in said.stderr) == (True, False)
