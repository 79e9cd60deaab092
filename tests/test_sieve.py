"""The sieve: what it takes out of a body spells the very same bytes again, however these come."""

import errno
import json
import os
import sys
from base64 import b64encode, urlsafe_b64encode
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchgen import pour, sieve
from batchgen.disk import Unsynced
from batchgen.errors import StorageError
from batchgen.pour import Poured
from batchgen.sieve import RUNS_MOST, Sieve
from batchgen.spool import Spool
from batchgen.wire import Blob, Reply

ID = "0123456789abcdef"


class Cup:
    """A run's bytes in memory."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def size(self) -> int:
        return len(self.data)

    def take(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        pass

    def give(self) -> bytes:
        data, self.data = self.data, b""
        return data


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body in pieces, cut at these places."""
    places = [0, *sorted(each % (len(body) + 1) for each in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


def sifted(chunks: list[bytes]) -> tuple[bytes, list[tuple[int, bytes]]]:
    one = Sieve(Cup)
    text = b"".join(map(one.feed, chunks)) + one.end()
    return text, [(at, cup.data) for at, cup in one.blobs]


def put_back(text: bytes, blobs: list[tuple[int, bytes]]) -> bytes:
    for at, data in reversed(blobs):
        text = text[:at] + b64encode(data) + text[at:]
    return text


image = st.binary(max_size=60)
run = st.one_of(
    image.map(b64encode),
    image.map(urlsafe_b64encode),
    image.map(lambda data: b64encode(data).rstrip(b"=")),
    image.map(lambda data: b64encode(data).replace(b"/", rb"\/")),
    st.sampled_from([b"QR==", b"QQ==QQ==", b"QUI=QUFB", b"====", b"QUFB\\n", b"data:a;base64,QUFB", b";base64,"]),
    st.binary(max_size=12),
)
before = st.sampled_from(
    [
        b'"b64_json":"',
        b'"b64_json" : "',
        b'"url":"data:image/png;base64,',
        b'"b64_json',
        b";base64",
        b'"',
        b"",
        b"x" * 40,
    ]
)
bodies = st.lists(st.tuples(before, run, st.sampled_from([b'"', b"", b'",']))).map(
    lambda parts: b"".join(b"".join(part) for part in parts)
)


@given(bodies, st.lists(st.integers(0, 10_000), max_size=12))
@example(b'"b64_json":"' * (RUNS_MOST + 2) + b'QUFB"', [])
@example(b'"b64_json":"' + b64encode(b"otter") + b'"', list(range(40)))
def test_what_is_left_and_what_was_taken_out_make_up_the_body(body: bytes, cuts: list[int]) -> None:
    text, blobs = sifted(cut(body, cuts))
    assert put_back(text, blobs) == body


@given(st.lists(image.filter(len), max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
def test_what_is_spelled_as_all_do_is_taken_out_wherever_the_chunks_end(images: list[bytes], cuts: list[int]) -> None:
    items = [
        {"b64_json": b64encode(data).decode()}
        if n % 2
        else {"url": f"data:image/png;base64,{b64encode(data).decode()}"}
        for n, data in enumerate(images)
    ]
    text, blobs = sifted(cut(json.dumps({"data": items}).encode(), cuts))
    assert [data for _, data in blobs] == images
    assert [len(value.rpartition(",")[2]) for item in json.loads(text)["data"] for value in item.values()] == [0] * len(
        images
    )


def test_who_only_seems_to_begin_images_costs_no_more_than_a_few() -> None:
    one = Sieve(Cup)
    body = b";base64," * 100_000
    assert one.feed(body) + one.end() == body
    assert one._runs == RUNS_MOST


def test_what_spells_no_more_than_a_key_stays_where_it_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    body = b'{"b64_json": "sk0canary0sk0canary0sk0canary"}'
    assert sifted([body]) == (body, [])


def kept(folder: Path, body: bytes, chunk: int = 1000) -> Reply:
    """The reply with this body as another process finds it."""
    spool = Spool(folder)
    poured = Poured(lambda nth: spool.sink(ID, 1, nth), sift=True)
    for at in range(0, len(body), chunk):
        poured.take(body[at : at + chunk])
    poured.close()
    spool.seal(ID, 1, Reply(200, {}, poured.body, poured.length, poured.blobs), Unsynced())
    reply = Spool(folder).load(ID, 1)
    assert reply is not None
    return reply


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large enough to be taken out, and for a file of its own."""
    monkeypatch.setattr(pour, "IN_MEMORY", 100)
    monkeypatch.setattr(sieve, "RUN_LEAST", 1)


@given(bodies, st.integers(1, 200))
def test_a_reply_that_was_sifted_is_read_as_it_came(body: bytes, chunk: int) -> None:
    with TemporaryDirectory() as folder:
        assert kept(Path(folder), body, chunk).read() == body


def test_images_become_blobs_and_other_text_stays_what_it_is(tmp_path: Path) -> None:
    data = [b"A" * 200, b"B" * 201, b"C" * 202]
    text = [b64encode(each).decode() for each in data]
    body = {
        "data": [{"b64_json": text[0]}, {"url": f"data:image/png;base64,{text[1]}"}, {"url": "https://a.example/1"}],
        "message": f"cannot read data:image/png;base64,{text[2]}",
        "b64_json": "\x007",
        "url": f"https://a.example/?x=;base64,{text[0]}",
    }
    reply = kept(tmp_path, json.dumps(body).encode())
    assert len(reply.blobs) == 4
    found = reply.json()
    assert isinstance(found, dict)
    blobs = [found["data"][0]["b64_json"], found["data"][1]["url"]]
    assert [blob.read() for blob in blobs if isinstance(blob, Blob)] == data[:2]
    assert found["data"][2:] == body["data"][2:]
    assert [found[name] for name in ("message", "b64_json", "url")] == [
        body[name] for name in ("message", "b64_json", "url")
    ]


def test_a_stream_is_sifted_event_by_event(tmp_path: Path) -> None:
    told = [json.dumps({"type": "x", "b64_json": b64encode(bytes([n]) * 300).decode()}) for n in range(3)]
    reply = kept(tmp_path, "".join(f"data: {each}\n\n" for each in told).encode())
    blobs = [event["b64_json"] for event in reply.events()]
    assert [blob.read() for blob in blobs if isinstance(blob, Blob)] == [bytes([n]) * 300 for n in range(3)]


def whole(tmp_path: Path) -> list[Path]:
    kept(tmp_path, json.dumps({"data": [{"b64_json": b64encode(b"otter" * 50).decode()}] * 2}).encode())
    return [tmp_path / f"{ID}.1.{nth}" for nth in (1, 2)]


def test_a_reply_of_which_an_image_is_damaged_cut_or_gone_is_none(tmp_path: Path) -> None:
    for path in whole(tmp_path):
        good = path.read_bytes()
        for bad in (b"", good[:-1], good[:-1] + b"!", good + b"!"):
            path.write_bytes(bad)
            assert Spool(tmp_path).load(ID, 1) is None
        path.unlink()
        assert Spool(tmp_path).load(ID, 1) is None
        path.write_bytes(good)
    assert Spool(tmp_path).load(ID, 1) is not None


def test_an_image_is_never_written_over_by_what_comes_later(tmp_path: Path) -> None:
    """The files of settled replies are used again, but for those that have become images by a second name."""
    spool, image = Spool(tmp_path), tmp_path / "image"
    whole(tmp_path)
    assert spool.load(ID, 1) is not None
    image.hardlink_to(tmp_path / f"{ID}.1.1")
    spool.discard(ID)
    spool.sweep(spares=9)
    for n in range(9):
        spool.sink("other", n).write_bytes(b"something else")
        spool.seal("other", n, Reply(200, {}, b"something else"), Unsynced())
    assert image.read_bytes() == b"otter" * 50
    assert image.stat().st_nlink == 1


def test_what_is_forgotten_is_forgotten_with_its_images(tmp_path: Path) -> None:
    whole(tmp_path)
    spool = Spool(tmp_path)
    spool.purge({ID})
    spool.forget(ID, 1)
    assert not list(tmp_path.iterdir())


def test_what_came_in_halves_leaves_nothing(tmp_path: Path) -> None:
    poured = Poured(lambda nth: tmp_path / f"{nth}", sift=True)
    poured.take(b'{"b64_json":"' + b64encode(b"otter" * 50))
    assert list(tmp_path.iterdir())
    poured.drop()
    assert not list(tmp_path.iterdir())


def test_a_body_of_many_images_keeps_one_file_open_at_a_time(tmp_path: Path) -> None:
    poured = Poured(lambda nth: tmp_path / f"{nth}", sift=True)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for _ in range(9):
        poured.take(b'{"b64_json":"' + b64encode(b"otter" * 50) + b'"}')
    after = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    assert after - before <= 1
    poured.close()
    assert len(poured.blobs) == 9


def test_what_cannot_be_read_now_is_not_taken_for_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be bought again, though it lies there whole."""
    whole(tmp_path)

    def refused(*args: object, **more: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", refused)
        with pytest.raises(StorageError, match="ulimit"):
            Spool(tmp_path).load(ID, 1)
    assert Spool(tmp_path).load(ID, 1) is not None


def test_an_image_that_was_changed_before_its_run_could_finish_is_not_bought_again_unasked(tmp_path: Path) -> None:
    one, _ = whole(tmp_path)
    (tmp_path / "image").hardlink_to(one)
    (tmp_path / "image").write_bytes(b"edited in place")
    with pytest.raises(StorageError, match="remove"):
        Spool(tmp_path).load(ID, 1)
    one.unlink()
    assert Spool(tmp_path).load(ID, 1) is None
