"""The Batch API, as the official package sees it."""

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from .batching import MODEL, SMALL, client_of, create, ended, lines, request, upload
from .child import Child
from .conftest import Start
from .pictures import file, picture


def test_a_batch_lives_and_costs_half_and_takes_nothing_from_the_limits(start: Start) -> None:
    sandbox = start(*SMALL, "--ipm", "1", "--script", "ok 429")
    with client_of(sandbox) as client:
        batch = create(client, [request(str(n)) for n in range(5)], metadata={"run": "7"})
        done = ended(client, batch)
        output = lines(client, done.output_file_id)
        direct = client.images.generate(model=MODEL, prompt="An otter", quality="low")
    assert (done.status, done.model, done.metadata, done.error_file_id) == ("completed", MODEL, {"run": "7"}, None)
    assert done.expires_at == done.created_at + 86_400
    assert done.request_counts
    assert done.request_counts.to_dict() == {"total": 5, "completed": 5, "failed": 0}
    assert set(output) == set("01234")
    assert output["0"]["response"]["body"]["usage"] == direct.to_dict()["usage"]
    *charges, whole = sandbox.bill()["charges"]
    assert {charge["nano_usd"] * 2 for charge in charges} == {whole["nano_usd"]}
    assert {(each["batch"], each["custom_id"], each["client_request_id"]) for each in charges} == {
        (batch.id, name, name) for name in output
    }
    assert done.usage
    assert done.usage.total_tokens == sum(charge["usage"]["total_tokens"] for charge in charges)


def test_some_lines_fail_alone(start: Start) -> None:
    sandbox = start(*SMALL)
    asked = [
        request("a"),
        request("b", "[moderated]"),
        request("c", "[moderated-output]"),
        request("d", body={"n": 11}),
    ]
    with client_of(sandbox) as client:
        done = ended(client, create(client, asked))
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
    assert (set(good), set(bad)) == ({"a"}, {"b", "c", "d"})
    said = {
        name: (line["response"]["status_code"], line["response"]["body"]["error"]["code"]) for name, line in bad.items()
    }
    assert said == {"b": (400, "moderation_blocked"), "c": (400, "moderation_blocked"), "d": (400, "invalid_value")}
    assert sandbox.fates() == ["delivered", "refused-output"] or sandbox.fates() == ["refused-output", "delivered"]


def test_a_cancelled_batch_keeps_what_is_done(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-rate", "20", "--batch-cancelling", "0.2")
    with client_of(sandbox) as client:
        batch = create(client, [request(str(n)) for n in range(50)])
        while not sandbox.fates():
            pass
        assert client.batches.cancel(batch.id).status == "cancelling"
        done = ended(client, batch)
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)
    assert done.status == "cancelled"
    assert set(good) | set(bad) == {str(n) for n in range(50)}
    assert {line["error"]["code"] for line in bad.values()} == {"batch_cancelled"}
    assert len(good) == len(sandbox.bill()["charges"]) > 0


def test_a_batch_whose_window_is_over_expires(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-window", "1", "--batch-slow", "0.5", "--batch-slow-seconds", "60")
    with client_of(sandbox) as client:
        done = ended(client, create(client, [request(str(n)) for n in range(20)]))
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
    assert done.status == "expired"
    assert set(good) | set(bad) == {str(n) for n in range(20)}
    assert good
    assert {(line["response"], line["error"]["code"]) for line in bad.values()} == {(None, "batch_expired")}
    assert len(sandbox.bill()["charges"]) == len(good)


@pytest.mark.parametrize("loss", ["nothing", "half a line", "everything"])
def test_a_killed_provider_goes_on_and_bills_no_line_twice(start: Start, tmp_path: Path, loss: str) -> None:
    flags = (*SMALL, "--bill", str(tmp_path / "bill"))
    first = start(*flags, "--batch-rate", "50")
    with client_of(first) as client:
        batch = create(client, [request(str(n)) for n in range(40)])
        while len(first.fates()) < 5:
            pass
    first.end()
    (written,) = (tmp_path / "bill.files").glob("batch_*.output")
    if loss != "nothing":  # written after the bill, and may be lost with it still there
        written.write_bytes(written.read_bytes()[:-50] if loss == "half a line" else b"")
    second = start(*flags)
    with client_of(second) as client:
        done = ended(client, client.batches.retrieve(batch.id))
        good = lines(client, done.output_file_id)
    assert done.request_counts
    assert done.request_counts.to_dict() == {"total": 40, "completed": 40, "failed": 0}
    assert len(good) == 40
    assert sorted(charge["custom_id"] for charge in second.bill()["charges"]) == sorted(good)
    assert len(list((tmp_path / "bill.files").iterdir())) == 2  # input and output


@pytest.mark.parametrize("stage", ["validating", "finalizing", "cancelling"])
def test_a_killed_provider_goes_on_from_any_status(start: Start, tmp_path: Path, stage: str) -> None:
    flags = (*SMALL, "--bill", str(tmp_path / "bill"))
    first = start(*flags, f"--batch-{stage}", "60", *(["--batch-rate", "1"] if stage == "cancelling" else []))
    with client_of(first) as client:
        batch = create(client, [request("a"), request("b", "[moderated]")])
        if stage == "cancelling":
            client.batches.cancel(batch.id)
        ended(client, batch, stage)
    first.end()
    second = start(*flags)
    with client_of(second) as client:
        done = ended(client, client.batches.retrieve(batch.id))
        assert done.status == ("cancelled" if stage == "cancelling" else "completed")
        assert len(second.fates()) == 1 or stage == "cancelling"
        if stage != "cancelling":
            assert set(lines(client, done.output_file_id)) == {"a"}
            assert set(lines(client, done.error_file_id)) == {"b"}


def test_a_kill_between_the_files_of_a_batch_and_its_end_changes_nothing(start: Start, tmp_path: Path) -> None:
    slow = ("--batch-window", "0.5", "--batch-slow", "0.5", "--batch-slow-seconds", "60")
    flags = (*SMALL, *slow, "--bill", str(tmp_path / "bill"))
    first = start(*flags)
    with client_of(first) as client:
        before = ended(client, create(client, [request(str(n)) for n in range(20)]))
        contents = [client.files.content(str(name)).text for name in (before.output_file_id, before.error_file_id)]
    first.end()
    journal, files = tmp_path / "bill.batches", tmp_path / "bill.files"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    names = {"input": before.input_file_id, "output": before.output_file_id, "error": before.error_file_id}
    for kind, name in names.items():
        (files / f"{before.id}.{kind}").hardlink_to(files / str(name))
    second = start(*flags)
    with client_of(second) as client:
        after = ended(client, client.batches.retrieve(before.id))
        assert [
            client.files.content(str(name)).text for name in (after.output_file_id, after.error_file_id)
        ] == contents
    assert (after.status, after.request_counts) == ("expired", before.request_counts)
    assert len(second.bill()["charges"]) == len(contents[0].splitlines())


def test_more_batches_an_hour_than_allowed_are_refused(start: Start, tmp_path: Path) -> None:
    flags = (*SMALL, "--bill", str(tmp_path / "bill"))
    first = start(*flags)
    with client_of(first) as client:
        ended(client, create(client, [request("a")]))
    first.end()
    journal = tmp_path / "bill.batches"
    record = json.loads(journal.read_text().splitlines()[-1])
    journal.write_text("".join(json.dumps({**record, "id": f"batch_{n}"}) + "\n" for n in range(2_000)))
    with client_of(start(*flags)) as client, pytest.raises(openai.RateLimitError) as refused:
        create(client, [request("a")])
    assert refused.value.code == "rate_limit_exceeded"


def test_batches_are_listed_the_newest_first(start: Start) -> None:
    with client_of(start(*SMALL)) as client:
        made = [create(client, [request("1")]).id for _ in range(5)]
        assert [each.id for each in client.batches.list(limit=2)] == made[::-1]
        page = client.batches.list(limit=2, after=made[2])
        assert ([each.id for each in page.data], page.has_more) == ([made[1], made[0]], False)


def test_lines_may_edit_files(start: Start) -> None:
    sandbox = start(*SMALL)
    with client_of(sandbox) as client:
        seen = client.files.create(purpose="vision", file=("a.png", io.BytesIO(picture()), "image/png")).id
        clear = client.files.create(purpose="vision", file=file("RGBA")).id
        small = client.files.create(purpose="vision", file=file("RGBA", (16, 16))).id
        text = client.files.create(purpose="user_data", file=("a.txt", b"words")).id
        wrong = upload(client, b"{}")
        asked = [
            request(name, url="/v1/images/edits", body={"images": [{"file_id": image}], "mask": {"file_id": mask}})
            for name, image, mask in (
                ("good", seen, clear),
                ("text", text, clear),
                ("purpose", wrong, clear),
                ("none", "file-none", clear),
                ("opaque", seen, seen),
                ("small", seen, small),
            )
        ]
        done = ended(client, create(client, asked, endpoint="/v1/images/edits"))
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
    assert (set(good), set(bad)) == ({"good"}, {"text", "purpose", "none", "opaque", "small"})
    assert {line["response"]["status_code"] for line in bad.values()} == {400}
    (charge,) = sandbox.bill()["charges"]
    assert (charge["inputs"], charge["mask"]) == ([sha256(picture()).hexdigest()], sha256(picture("RGBA")).hexdigest())


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n \n", "empty_file", None),
        ([request("a"), request("a")], "duplicate_custom_id", 2),
        ([request("")], "missing_required_parameter", 1),
        ([request("a", url="/v1/images/edits")], "invalid_url", 1),
        ([request("a", method="GET")], "invalid_method", 1),
        ([request("a"), request("b", body={"model": "gpt-image-1.5"})], "mismatched_model", 2),
        ([request("a", body={"stream": True})], "unsupported_parameter", 1),
        ([request("a", body={"response_format": "b64_json"})], "unsupported_parameter", 1),
        ([request("a", body={"model": "gpt-image-9"})], "model_not_found", 1),
        ([request("a", body={"model": "gpt-image-2.6-flare"})], "model_not_found", 1),
        (b'{"custom_id": "a"', "invalid_json_line", 1),
        (b"[1]", "invalid_json_line", 1),
    ],
)
def test_a_file_that_is_not_right_fails_as_a_whole(cached: Child, content: Any, code: str, line: int | None) -> None:
    before = len(cached.fates())
    with client_of(cached) as client:
        batch = ended(client, create(client, content))
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.failed_at
    assert batch.request_counts
    assert batch.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
    assert batch.errors
    assert batch.errors.data
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, line)]
    assert len(cached.fates()) == before


def test_a_file_has_at_most_fifty_thousand_lines(cached: Child) -> None:
    line = b'{"custom_id": "%d", "method": "POST", "url": "/v1/images/generations", "body": {"model": "gpt-image-2"}}'
    with client_of(cached) as client:
        batch = ended(client, create(client, b"\n".join(line % n for n in range(50_001))))
    assert batch.errors
    assert batch.errors.data
    assert [(error.code, error.line) for error in batch.errors.data] == [("too_many_tasks", 50_001)]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"endpoint": "/v1/images/variations"}, "endpoint"),
        ({"completion_window": "48h"}, "completion_window"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"x" * 65: "x"}}, "metadata"),
        ({"metadata": {"x": "x" * 513}}, "metadata.x"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds"),
    ],
)
def test_what_nobody_may_create_is_refused_at_once(cached: Child, more: dict[str, Any], param: str) -> None:
    with client_of(cached) as client, pytest.raises(openai.BadRequestError) as refused:
        create(client, [request("a")], **more)
    assert refused.value.param == param


def test_a_batch_wants_a_batch_file(cached: Child) -> None:
    with client_of(cached) as client:
        other = client.files.create(purpose="user_data", file=("a.jsonl", b"{}")).id
        for name in (other, "file-none"):
            with pytest.raises(openai.BadRequestError) as refused:
                client.batches.create(input_file_id=name, endpoint="/v1/images/generations", completion_window="24h")
            assert refused.value.param == "input_file_id"
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve("batch_none")


@pytest.mark.parametrize("at", ["validating", "create"])
def test_the_queue_of_a_model_may_be_full(start: Start, at: str) -> None:
    sandbox = start(*SMALL, "--batch-tokens", "19", "--batch-tokens-at", at, "--batch-finalizing", "0.3")
    words = "Enqueued token limit reached for gpt-image-2 in organization org-sandbox. Limit: 19 enqueued tokens."
    with client_of(sandbox) as client:
        first = ended(client, create(client, [request("a")]), "finalizing")
        if at == "create":
            with pytest.raises(openai.BadRequestError, match=words) as refused:
                create(client, [request("a", "Three otters who wait")])
            assert refused.value.code == "token_limit_exceeded"
        else:
            second = ended(client, create(client, [request("a", "Three otters who wait")]))
            assert second.errors
            assert second.errors.data
            assert [error.code for error in second.errors.data] == ["token_limit_exceeded"]
            assert words in str(second.errors.data[0].message)
        ended(client, first)
        assert ended(client, create(client, [request("a", "Three otters who wait")])).status == "completed"


def test_a_third_may_come_late(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-slow", "0.33", "--batch-slow-seconds", "0.6")
    with client_of(sandbox) as client:
        batch = create(client, [request(str(n)) for n in range(60)])
        while not sandbox.fates():
            pass
        while len(sandbox.fates()) < 30:
            pass
        early = client.batches.retrieve(batch.id).request_counts
        assert early
        assert 30 <= early.completed < 60
        assert ended(client, batch).status == "completed"


def test_a_batch_can_be_cancelled_before_it_begins(start: Start) -> None:
    with client_of(start(*SMALL, "--batch-validating", "60")) as client:
        batch = create(client, [request("a")])
        client.batches.cancel(batch.id)
        done = ended(client, batch)
    assert (done.status, done.output_file_id, done.in_progress_at) == ("cancelled", None, None)
    assert done.cancelling_at
    assert done.cancelled_at


def test_what_is_told_is_what_is_documented(cached: Child) -> None:
    document = cached.get("openai/openapi.json").json()

    def told(path: str, method: str = "get", **known: str) -> Any:
        answer = cached.get(f"openai/v1{path.format(**known)}").json()
        said = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer, said)
        return answer

    with client_of(cached) as client:
        failed = ended(client, create(client, b""))
        done = ended(client, create(client, [request("a"), request("b", "[moderated]")], metadata={"a": "b"}))
    assert told("/batches/{id}", id=failed.id)["errors"]
    assert told("/batches/{id}", id=done.id)["usage"]
    assert told("/files/{id}", id=str(done.output_file_id))["purpose"] == "batch_output"
    assert told("/batches")["data"]
    assert told("/files")["data"]
    assert "/batches" not in cached.get("azure/openapi.json").json()["paths"]
