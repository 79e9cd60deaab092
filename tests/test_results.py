"""The lines of a batch's files: whose each is, and its body to the last byte, however it comes, whatever is torn."""

import base64
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen import results
from batchgen.errors import Busy, ProviderError, Transient, Unknown
from batchgen.results import Result
from batchgen.wire import Reply

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12) | st.just("custom_id"), inner, max_size=3)
    ),
    max_leaves=8,
)
IDS = st.lists(st.text(min_size=1, max_size=40), unique=True, min_size=1, max_size=5)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)


def read(data: bytes, whole: bool = True, skip: int = 0) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "piece"
        file.write_bytes(data)
        found = []
        for result in results.read(file, lambda at, nth: Path(folder) / f"{at}.{nth}", whole, skip):
            if isinstance(result.came, Reply):  # its blobs are gone with the folder
                body = result.came.read()
                result.drop()
                result = Result(
                    result.id, Reply(result.came.status, result.came.headers, body), result.end, result.drop
                )
            found.append(result)
        assert list(Path(folder).iterdir()) == [file], "nothing is left of what nobody wants"
        return found


def told(found: Sequence[Result]) -> list[tuple[str, object, object]]:
    """Whose they are, and what they say."""
    return [
        (each.id, each.came.status, each.came.body) if isinstance(each.came, Reply) else (each.id, type(each.came), "")
        for each in found
    ]


def shuffled(fields: Mapping[str, object], chance: random.Random) -> dict[str, object]:
    names = sorted(fields)
    chance.shuffle(names)
    return {name: fields[name] for name in names}


def answer(id_: str, body: str, chance: random.Random, ascii_: bool = True) -> bytes:
    """A line of the output, its keys in any order; the body stands in it as it is."""
    about = shuffled({"status_code": 200, "request_id": "req_1", "body": "@body@"}, chance)
    line = shuffled({"id": "batch_req_1", "custom_id": id_, "response": about, "error": None}, chance)
    return json.dumps(line, ensure_ascii=ascii_).replace('"@body@"', body, 1).encode("utf-8", "surrogatepass") + b"\n"


@st.composite
def outputs(draw: st.DrawFn) -> tuple[list[tuple[str, object, object]], list[bytes]]:
    """Lines, and what must be read in them."""
    chance, ascii_ = random.Random(draw(st.integers(0, 99))), draw(st.booleans())
    texts = st.dictionaries(st.text(max_size=9), VALUES, max_size=4)
    ids = [each for each in draw(IDS) if "@body@" not in each]
    bodies = [json.dumps(draw(texts), ensure_ascii=ascii_) for _ in ids]
    told = [(id_, 200, body.encode("utf-8", "surrogatepass")) for id_, body in zip(ids, bodies, strict=True)]
    return list(told), [answer(id_, body, chance, ascii_) for id_, body in zip(ids, bodies, strict=True)]


@QUIET
@given(outputs(), st.integers(1, 70))
def test_each_body_is_that_of_its_line_to_the_last_byte_however_the_file_is_read(
    monkeypatch: pytest.MonkeyPatch, output: tuple[list[Any], list[bytes]], chunk: int
) -> None:
    monkeypatch.setattr(results, "CHUNK", chunk)
    wanted, lines = output
    assert told(read(b"".join(lines))) == wanted
    assert told(read(b"\n \n".join([*lines, b""]))) == wanted, "blank lines are none"
    assert told(read(b"".join(lines)[:-1])) == wanted, "the last one ends with the file"


@QUIET
@given(outputs(), st.integers(1, 400))
def test_pieces_that_end_anywhere_hold_the_same_lines(output: tuple[list[Any], list[bytes]], size: int) -> None:
    wanted, lines = output
    data, at, found, room = b"".join(lines), 0, [], size
    while at < len(data):
        some = read(data[at : at + room], whole=at + room >= len(data))
        found += some
        at += some[-1].end if some else 0
        room = size if some else 2 * room
    assert told(found) == wanted


@QUIET
@given(outputs(), st.data())
def test_what_is_passed_over_is_not_read(output: tuple[list[Any], list[bytes]], data: st.DataObject) -> None:
    wanted, lines = output
    first = data.draw(st.integers(0, len(lines)))
    skip = sum(map(len, lines[:first]))
    found = read(b"".join(lines), skip=skip)
    assert told(found) == wanted[first:]
    assert [each.end for each in found[-1:]] == [sum(map(len, lines)) - skip][: len(found)]


@QUIET
@given(outputs(), st.data())
def test_a_file_that_is_torn_anywhere_is_read_up_to_there_and_no_line_is_taken_for_another(
    output: tuple[list[Any], list[bytes]], data: st.DataObject
) -> None:
    wanted, lines = output
    whole = b"".join(lines)
    torn = whole[: data.draw(st.integers(0, len(whole)))]
    full = torn.count(b"\n")
    assert told(read(torn, whole=False)) == wanted[:full]
    for found in read(torn)[full:]:
        assert found.id in ("", wanted[full][0])


@QUIET
@given(st.lists(VALUES, max_size=4) | st.binary(max_size=200))
def test_whatever_stands_in_a_file_is_read_and_a_name_is_one_that_the_line_bears(hostile: Any) -> None:
    lines = [hostile] if isinstance(hostile, bytes) else [json.dumps(each).encode() for each in hostile]
    for found in read(b"\n".join(lines)):
        assert isinstance(found.came, Reply | ProviderError)
        if found.id:
            assert found.id in [each.get("custom_id") for each in hostile if isinstance(each, dict)]


NAMELESS = ("{}", '{"id": 1}', '{"custom_id": null, "response": null}', '{"custom_id": 5, "error": {"code": "x"}}')
ODD = (
    '{"custom_id": "a", "response": {}}',
    '{"custom_id": "a", "response": []}',
    '{"custom_id": "a", "response": {"status_code": 200}}',
    '{"custom_id": "a", "response": {"status_code": "200", "body": {}}}',
    '{"custom_id": "a", "response": {"status_code": 99, "body": {}}}',
    '{"custom_id": "a", "response": {"status_code": true, "body": {}}}',
    '{"custom_id": "a", "response": {"body": {"custom_id": "b"}',
    '{"custom_id": "a", "response": ' + 5000 * "[",
)


@pytest.mark.parametrize("line", NAMELESS)
def test_a_line_without_a_name_is_nobodys(line: str) -> None:
    (found,) = read(line.encode())
    assert found.id == ""


@pytest.mark.parametrize("line", ODD)
def test_a_line_whose_answer_cannot_be_read_was_an_answer_all_the_same(line: str) -> None:
    (found,) = read(line.encode())
    assert (found.id, isinstance(found.came, Reply)) == ("a", True)


@pytest.mark.parametrize(
    "line",
    [
        '{"response": {"body": {"custom_id": "b"}}}',
        '{"response": {"body": {"custom_id": "b", "x": ',
        '{"id": "x", "cust{"id": "y", "custom_id": "b", "response": ',
        ' null}{"id": "y", "custom_id": "b", "response": null',
    ],
)
def test_a_name_that_stands_deeper_or_behind_another_beginning_is_not_the_lines(line: str) -> None:
    (found,) = read(line.encode())
    assert found.id == ""


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": "batch_expired", "message": "late"}, Transient, "batch_expired"),
        ({"code": "batch_cancelled", "message": "stopped"}, Busy, "batch_cancelled"),
        ({"code": "whatever"}, Unknown, "whatever"),
        (None, Unknown, "no_response"),
        ("a text", Unknown, "no_response"),
    ],
)
def test_a_line_without_an_answer_says_why(error: object, kind: type[ProviderError], code: str) -> None:
    (found,) = read(json.dumps({"custom_id": "a", "response": None, "error": error}).encode())
    assert (found.id, type(found.came)) == ("a", kind)
    assert isinstance(found.came, ProviderError)
    assert found.came.code == code


@pytest.mark.parametrize("chunk", [997, 1 << 16, 1 << 20])
@pytest.mark.parametrize("size", [3, 1 << 18, 3 << 18])
def test_huge_pictures_are_decoded_on_the_way_and_tiny_ones_are_left_where_they_are(
    chunk: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "CHUNK", chunk)
    pictures = [random.Random(n).randbytes(size + n) for n in range(3)]
    bodies = [json.dumps({"data": [{"b64_json": base64.b64encode(each).decode()}]}) for each in pictures]
    lines = [answer(str(n), body, random.Random(n)) for n, body in enumerate(bodies)]
    assert told(read(b"".join(lines))) == [(str(n), 200, body.encode()) for n, body in enumerate(bodies)]
    for cut in (200, size // 2, len(lines[1]) - 2):
        torn = read(lines[0] + lines[1][:cut])
        assert told(torn[:1]) == [("0", 200, bodies[0].encode())]
        assert {each.id for each in torn[1:]} <= {"", "1"}
