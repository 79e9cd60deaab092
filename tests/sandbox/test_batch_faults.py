"""Batches that go wrong on request, and calls whose answers get lost."""

import json
from typing import Any

import openai
import pytest
from openai.types import Batch

from .batching import SMALL, client_of, create, ended, lines, request, upload
from .child import Child
from .conftest import Start

NAMES = [str(n) for n in range(6)]


def faulty(sandbox: Child) -> tuple[Batch, list[str], list[str]]:
    """A batch of six, with the lines of both its files."""
    with client_of(sandbox) as client:
        done = ended(client, create(client, [request(name) for name in NAMES]))
        texts = [client.files.content(name).text if name else "" for name in (done.output_file_id, done.error_file_id)]
    return done, texts[0].splitlines(), texts[1].splitlines()


def test_lines_get_lost_or_come_twice_or_from_somebody_else(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-faults", "missing duplicate foreign torn ok")
    found = [faulty(sandbox) for _ in range(5)]
    assert [(batch.status, len(good), len(bad)) for batch, good, bad in found] == [
        ("completed", 4, 0),
        ("completed", 8, 0),
        ("completed", 7, 0),
        ("completed", 6, 0),
        ("completed", 6, 0),
    ]
    assert "somebody-elses" in [json.loads(line)["custom_id"] for line in found[2][1]]
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        [json.loads(line) for line in found[3][1]]
    assert len(sandbox.fates()) == 30
    assert {batch.request_counts.completed for batch, _, _ in found if batch.request_counts} == {6}


def test_files_come_late_or_are_empty(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-faults", "late-files empty-errors")
    with client_of(sandbox) as client:
        late = ended(client, create(client, [request("a")]))
        seen = [late, *(client.batches.retrieve(late.id) for _ in range(3))]
        assert [each.output_file_id is None for each in seen] == [True, True, True, False]
        empty = ended(client, create(client, [request("a")]))
        assert empty.error_file_id
        assert client.files.content(empty.error_file_id).content == b""


def test_batches_fail_for_no_reason_or_half_way(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-faults", "invalid dies dies-empty no-totals")
    found = [faulty(sandbox) for _ in range(4)]
    assert [(batch.status, len(good)) for batch, good, _ in found] == [
        ("failed", 0),
        ("failed", 3),
        ("failed", 0),
        ("completed", 6),
    ]
    assert len(sandbox.fates()) == 12
    assert all(batch.errors and batch.errors.data for batch, _, _ in found[:3])
    assert found[3][0].usage is None


@pytest.mark.parametrize(("name", "status", "code"), [("line-500", 500, "server_error"), ("line-429", 429, None)])
def test_lines_fail_by_themselves(start: Start, name: str, status: int, code: str | None) -> None:
    batch, good, bad = faulty(start(*SMALL, "--batch-faults", name))
    answers = [json.loads(line)["response"] for line in bad]
    assert (len(good), [answer["status_code"] for answer in answers]) == (4, [status, status])
    assert answers[0]["body"]["error"]["code"] == (code or "rate_limit_exceeded")
    assert batch.request_counts
    assert batch.request_counts.failed == 2


def test_lines_hold_broken_pictures_or_no_usage(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-faults", "nousage badpng")
    bodies: list[list[dict[str, Any]]] = [
        [json.loads(line)["response"]["body"] for line in faulty(sandbox)[1]] for _ in range(2)
    ]
    assert sum("usage" not in body for body in bodies[0]) == 2
    lengths = [len(body["data"][0]["b64_json"]) for body in bodies[1]]
    assert sum(length < 0.6 * max(lengths) for length in lengths) == 2
    assert set(sandbox.fates()) == {"delivered", "nousage", "badpng"}


def test_calls_are_cut_refused_or_answered_by_half(start: Start) -> None:
    plan = (
        "upload=cut upload=cut-before create=cut create=billing create=429 create=503 batch=500 batches=500 cancel=cut"
    )
    sandbox = start(*SMALL, "--batch-validating", "60", "--batch-call-faults", plan)
    with client_of(sandbox) as client:
        for _ in range(2):
            with pytest.raises(openai.APIConnectionError):
                upload(client, [request("a")])
        name = upload(client, [request("a")])
        raised = []
        for _ in range(4):
            with pytest.raises(openai.APIError) as problem:
                client.batches.create(input_file_id=name, endpoint="/v1/images/generations", completion_window="24h")
            raised.append((getattr(problem.value, "status_code", 0), problem.value.code))
        assert raised == [
            (0, None),
            (400, "billing_hard_limit_reached"),
            (429, "rate_limit_exceeded"),
            (503, "server_is_overloaded"),
        ]
        with pytest.raises(openai.InternalServerError):
            client.batches.list()
        (made,) = client.batches.list()
        with pytest.raises(openai.InternalServerError):
            client.batches.retrieve(made.id)
        with pytest.raises(openai.APIConnectionError):
            client.batches.cancel(made.id)
        assert client.batches.retrieve(made.id).status in ("cancelling", "cancelled")
    held = sandbox.get("__batches").json()
    assert (len(held["files"]), len(held["batches"])) == (2, 1)


def test_contents_are_cut_or_whole_or_garbage(start: Start) -> None:
    plan = "content=truncate content=norange content=garbage delete=cut file=cut files=429"
    with client_of(start("--batch-call-faults", plan)) as client:
        name = client.files.create(purpose="batch", file=("a.jsonl", b"0123456789")).id
        with pytest.raises(openai.APIConnectionError):
            client.files.content(name)
        whole = client.files.with_raw_response.content(name, extra_headers={"Range": "bytes=4-"})
        assert (whole.status_code, whole.content) == (200, b"0123456789")
        assert client.files.content(name).content == bytes(10)
        assert client.files.content(name).content == b"0123456789"
        for call in (client.files.retrieve, client.files.delete):
            with pytest.raises(openai.APIConnectionError):
                call(name)
        with pytest.raises(openai.RateLimitError) as waits:
            client.files.list()
        assert waits.value.response.headers["retry-after"] == "1"
        assert not list(client.files.list())


def test_output_comes_in_no_order_of_its_own(cached: Child) -> None:
    with client_of(cached) as client:
        names = [str(n) for n in range(20)]
        done = ended(client, create(client, [request(name) for name in names]))
        found = list(lines(client, done.output_file_id))
    assert sorted(found) == sorted(names)
    assert found != names
