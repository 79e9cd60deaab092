"""Idempotency keys: what is sent twice is answered twice and billed once, also after a restart."""

import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from .child import Child
from .conftest import Start
from .examples import DIALECTS

SMALL = ("--paint", "cached", "--paint-bytes", "2000")
ONCE = {"Idempotency-Key": "once"}


def remembering(start: Start, *flags: str) -> Child:
    return start(*SMALL, "--idempotent", "600", *flags)


def replayed(reply: httpx.Response) -> bool:
    return "idempotent-replayed" in reply.headers


def test_the_same_request_is_answered_as_before_and_billed_once(start: Start) -> None:
    sandbox = remembering(start)
    first, second = sandbox.generate(ONCE), sandbox.generate(ONCE)
    assert (replayed(first), replayed(second)) == (False, True)
    assert second.content == first.content
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert [charge["idempotency_key"] for charge in sandbox.bill()["charges"]] == ["once"]
    assert not replayed(sandbox.generate({"Idempotency-Key": "again"}))
    assert len(sandbox.fates()) == 2


def test_without_the_flag_a_key_means_nothing(start: Start) -> None:
    sandbox = start(*SMALL)
    assert not any(replayed(sandbox.generate(ONCE)) for _ in range(2))
    assert len(sandbox.fates()) == 2


def test_a_replay_takes_no_place_in_the_rate(start: Start) -> None:
    sandbox = remembering(start, "--ipm", "0.01", "--burst", "1")
    assert [sandbox.generate(ONCE).status_code for _ in range(3)] == [200] * 3
    assert sandbox.generate().status_code == 429


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_another_body_under_the_same_key_is_refused_in_the_dialects_own_shape(start: Start, name: str) -> None:
    sandbox, dialect = remembering(start), DIALECTS[name]
    where = f"{name}/v1/images/generations{dialect.query}"
    headers = {**dialect.headers, **ONCE}
    first, other = (sandbox.post(where, headers, json={**dialect.least, "prompt": word}) for word in ("x", "y"))
    wrong = sandbox.post(where, dialect.headers, json={**dialect.least, "n": 0})
    assert (first.status_code, other.status_code) == (200, 422)
    assert set(other.json()) == set(wrong.json())
    assert "Idempotency-Key" in other.text
    assert len(sandbox.fates()) == 1


def test_openai_names_the_codes(start: Start) -> None:
    sandbox = remembering(start)
    sandbox.generate(ONCE)
    assert sandbox.generate(ONCE, prompt="Another").json()["error"]["code"] == "idempotency_key_reused"
    elsewhere = sandbox.post("aimlapi/v1/images/generations", ONCE, json=DIALECTS["aimlapi"].least)
    assert elsewhere.status_code == 422


def test_a_key_whose_first_request_is_still_open_is_in_use(start: Start) -> None:
    sandbox = remembering(start, "--latency", "600")
    answered: queue.Queue[httpx.Response] = queue.Queue()

    def send() -> None:
        with suppress(httpx.TransportError):  # whichever came first is never answered
            answered.put(sandbox.generate(ONCE))

    both = [threading.Thread(target=send) for _ in range(2)]
    for each in both:
        each.start()
    second = answered.get(timeout=20)
    sandbox.process.kill()
    for each in both:
        each.join()
    assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")


@pytest.mark.parametrize("fault", ["cut", "truncate", "stall", "hang"])
def test_an_answer_that_was_lost_on_the_way_is_replayed_whole(start: Start, fault: str) -> None:
    sandbox = remembering(start, "--script", fault)
    with pytest.raises(httpx.TransportError):
        sandbox.generate(ONCE, timeout=0.5)
    second = sandbox.generate(ONCE)
    assert (second.status_code, replayed(second), len(second.json()["data"])) == (200, True, 1)
    assert len(sandbox.fates()) == 1


@pytest.mark.parametrize(("fault", "billed"), [("500", 0), ("503-retry", 0), ("500-html", 1), ("502", 1)])
def test_a_failure_of_the_server_is_replayed_too(start: Start, fault: str, billed: int) -> None:
    sandbox = remembering(start, "--script", fault)
    first, second, third = (sandbox.generate(ONCE) for _ in range(3))
    assert first.status_code >= 500
    assert [second.content, third.content] == [first.content] * 2
    assert (replayed(second), len(sandbox.fates())) == (True, billed)


@pytest.mark.parametrize("fault", ["429", "400", "401", "redirect"])
def test_after_a_refusal_a_key_is_as_new(start: Start, fault: str) -> None:
    sandbox = remembering(start, "--script", fault)
    assert sandbox.generate(ONCE).status_code < 500
    second = sandbox.generate(ONCE)
    assert (second.status_code, replayed(second), len(sandbox.fates())) == (200, False, 1)


def test_a_request_that_never_arrived_leaves_its_key_free(start: Start) -> None:
    sandbox = remembering(start, "--script", "cut-before")
    with pytest.raises(httpx.TransportError):
        sandbox.generate(ONCE)
    assert not replayed(sandbox.generate(ONCE))
    assert len(sandbox.fates()) == 1


def test_a_key_is_forgotten_after_its_time(start: Start) -> None:
    sandbox = start(*SMALL, "--idempotent", "0.05")
    sandbox.generate(ONCE)
    time.sleep(0.06)
    assert not replayed(sandbox.generate(ONCE))
    assert len(sandbox.fates()) == 2


def test_a_stream_is_replayed_from_its_first_event(start: Start) -> None:
    sandbox = remembering(start)
    asked: dict[str, Any] = {"stream": True, "partial_images": 2}
    first, second = sandbox.generate(ONCE, **asked), sandbox.generate(ONCE, **asked)
    assert first.content.count(b"event: image_generation.partial_image") == 2
    assert (second.content, replayed(second)) == (first.content, True)
    assert second.headers["content-type"] == first.headers["content-type"]


def restarted(start: Start, sandbox: Child, *flags: str) -> Child:
    """Killed, and started anew on the same ports."""
    ports = ("--port", str(urlsplit(sandbox.url).port))
    sandbox.end()
    return start(*ports, *flags)


def test_keys_outlive_the_server(start: Start, tmp_path: Path) -> None:
    flags = (*SMALL, "--idempotent", "600", "--bill", str(tmp_path / "bill"))
    sandbox = start(*flags, "--script", "cut")
    with pytest.raises(httpx.TransportError):
        sandbox.generate(ONCE)
    sandbox = restarted(start, sandbox, *flags)
    whole = sandbox.generate(ONCE)
    assert (replayed(whole), len(whole.json()["data"]), len(sandbox.fates())) == (True, 1, 1)
    assert sandbox.generate(ONCE, prompt="Another").status_code == 422


def test_a_last_line_that_was_torn_does_not_keep_the_server_from_starting(start: Start, tmp_path: Path) -> None:
    flags = (*SMALL, "--idempotent", "600", "--bill", str(tmp_path / "bill"))
    sandbox = start(*flags)
    sandbox.generate(ONCE)
    keys = tmp_path / "bill.keys"
    keys.write_bytes(keys.read_bytes() + b'{"key": "to')
    sandbox = restarted(start, sandbox, *flags)
    sandbox.generate({"Idempotency-Key": "two"})
    sandbox = restarted(start, sandbox, *flags)
    assert [replayed(sandbox.generate({"Idempotency-Key": key})) for key in ("once", "two")] == [True, True]


def test_tasks_and_links_outlive_the_server(start: Start, tmp_path: Path) -> None:
    flags = (*SMALL, "--bill", str(tmp_path / "bill"))
    sandbox = start(*flags)
    body = {"model": "gpt-image-2", "prompt": "x"}
    task = sandbox.post("onerouter/v1/images/generations", json=body).json()["data"]["task_id"]
    sandbox = restarted(start, sandbox, *flags)
    where = f"onerouter/v1/images/tasks/{task}"
    told = [sandbox.get(where).json()["data"]["status"] for _ in range(2)]
    (link,) = sandbox.get(where).json()["data"]["outputs"]
    assert told == ["created", "completed"]
    name = urlsplit(link).path.rpartition("/")[2]
    assert name in (tmp_path / "bill.links").read_text()
    assert len(sandbox.fates()) == 1


def test_a_link_that_was_sold_still_leads_to_its_image_after_a_restart(start: Start, tmp_path: Path) -> None:
    flags = (*SMALL, "--bill", str(tmp_path / "bill"), "--delivery", "url")
    sandbox = start(*flags)
    (item,) = sandbox.post("classic/v1/images/generations", json={"prompt": "x"}).json()["data"]
    image = sandbox.client.get(item["url"]).content
    files = ("--files-port", str(urlsplit(item["url"]).port))
    sandbox = restarted(start, sandbox, *flags, *files)
    assert sandbox.client.get(item["url"]).content == image
