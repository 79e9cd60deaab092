"""A reply's body: inflated within bounds, read as JSON, damaged where it is."""

import gzip
import zlib
from pathlib import Path

import pytest

from batchgen import wire
from batchgen.wire import Reply

TEXT = b'{"created": 1}' * 100
ZIPPED = gzip.compress(TEXT, mtime=0)


def reply(body: bytes | Path, coding: str = "") -> Reply:
    return Reply(200, {"content-encoding": coding} if coding else {}, body)


@pytest.mark.parametrize(
    ("coding", "body"),
    [("", TEXT), ("identity", TEXT), ("gzip", ZIPPED), ("GZIP", ZIPPED), ("deflate", zlib.compress(TEXT))],
)
def test_a_body_is_inflated_as_its_header_says(coding: str, body: bytes) -> None:
    assert reply(body, coding).read() == TEXT


def test_a_body_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "1.body").write_bytes(ZIPPED)
    assert reply(tmp_path / "1.body", "gzip").read() == TEXT


def test_a_compressed_body_that_is_cut_anywhere_is_damaged() -> None:
    for end in range(len(ZIPPED)):
        with pytest.raises(ValueError, match=r"cut|damaged"):
            reply(ZIPPED[:end], "gzip").read()


@pytest.mark.parametrize(("coding", "body"), [("gzip", b"plain text"), ("deflate", b"plain text"), ("br", TEXT)])
def test_a_body_that_is_not_what_its_header_says_is_damaged(coding: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=coding):
        reply(body, coding).read()


def test_s19_a_bomb_is_inflated_to_the_limit_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(8 * 2**20))
    monkeypatch.setattr(wire, "INFLATED_MOST", 2**20)
    with pytest.raises(ValueError, match="beyond 1 MiB"):
        reply(bomb, "gzip").read()


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": 1', b"[" * 200_000, b"\xff"])
def test_s12_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"line 1|nested|codec|no JSON"):
        reply(body).json()
