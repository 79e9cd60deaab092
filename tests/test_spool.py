"""The spool: a reply is there whole, or it is none."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.disk import Unsynced
from batchgen.errors import StorageError
from batchgen.pour import IN_MEMORY, Poured
from batchgen.spool import Spool
from batchgen.wire import Reply

ID = "0123456789abcdef"
HEADERS = {"content-type": "application/json", "x-request-id": "req_1"}
names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1).filter(
    lambda name: name not in {"set-cookie", "authorization", "content-encoding"}
)


def seal(
    folder: Path, body: bytes, status: int = 200, headers: dict[str, str] = HEADERS, streamed: bool = True
) -> Spool:
    """A spool that holds one reply, whose body came in a file or in memory."""
    spool = Spool(folder)
    sink = spool.sink(ID, 1)
    if streamed:
        sink.write_bytes(body)
    spool.seal(ID, 1, Reply(status, headers, sink if streamed else body), Unsynced())
    return spool


@settings(max_examples=40)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=5000), st.booleans()), min_size=2, max_size=6))
def test_a_reply_in_the_place_of_another_has_nothing_of_it(bodies: list[tuple[bytes, bool]]) -> None:
    """Files of settled attempts are written over, by shorter replies and longer ones, small and streamed ones."""
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for n, (start, large) in enumerate(bodies):
            name, body = f"{n:x}", start * (IN_MEMORY // len(start) + 1) if large else start
            poured = Poured(lambda nth, name=name: spool.sink(name, 1, nth))  # type: ignore[misc]
            poured.take(body)
            poured.close()
            assert isinstance(poured.body, Path) is large
            spool.seal(name, 1, Reply(200, HEADERS, poured.body, poured.size), Unsynced())
            loaded = Spool(Path(folder)).load(name, 1)
            assert loaded is not None
            assert loaded.read() == body
            spool.discard(name)
            spool.sweep(spares=2)
        assert len(list(Path(folder).iterdir())) <= 2
        spool.sweep()
        assert not list(Path(folder).iterdir())


@settings(max_examples=40)
@given(st.binary(max_size=5000), st.integers(100, 599), st.dictionaries(names, st.text()), st.booleans())
def test_what_is_loaded_is_what_was_sealed(body: bytes, status: int, headers: dict[str, str], streamed: bool) -> None:
    with TemporaryDirectory() as folder:
        loaded = seal(Path(folder), body, status, headers, streamed).load(ID, 1)
        assert loaded is not None
        assert (loaded.status, loaded.headers, loaded.read()) == (status, headers, body)


def test_secrets_are_not_kept(tmp_path: Path) -> None:
    spool = seal(tmp_path, b"{}", headers={"set-cookie": "canary", "authorization": "canary", "date": "today"})
    loaded = spool.load(ID, 1)
    assert loaded is not None
    assert loaded.headers == {"date": "today"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]


def test_z3_what_is_kept_for_a_person_to_look_at_is_kept_without_the_key(tmp_path: Path) -> None:
    spool = seal(tmp_path, b"bad key: sk-canary, sk-canary!")
    spool.censor(ID, ["sk-canary"])
    assert spool.path(ID, 1).read_bytes().startswith(b"bad key: [key], [key]!\n{")


def test_a_reply_that_is_cut_at_any_byte_is_none(tmp_path: Path) -> None:
    spool = seal(tmp_path, b'{"data": []}')
    file = spool.path(ID, 1)
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        assert spool.load(ID, 1) is None
    file.write_bytes(whole)
    assert spool.load(ID, 1) is not None


def flips(tmp_path: Path) -> list[Reply]:
    """What is loaded with each bit of the file flipped in turn, where anything is."""
    spool = seal(tmp_path, b'{"data": []}')
    file, loaded = spool.path(ID, 1), []
    whole = file.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        loaded.append(spool.load(ID, 1))
    return [reply for reply in loaded if reply is not None]


def test_a_reply_with_a_flipped_bit_anywhere_is_none(tmp_path: Path) -> None:
    assert flips(tmp_path) == []


@pytest.mark.parametrize(
    "file", [b"", b"null", b"{}", b'{"status": 200}', b"\xff" * 17, b"\n0000000000000000", b"[" * 500]
)
def test_a_file_that_is_none_makes_no_reply(tmp_path: Path, file: bytes) -> None:
    spool = seal(tmp_path, b"{}")
    spool.path(ID, 1).write_bytes(file)
    assert spool.load(ID, 1) is None


@given(st.binary(max_size=200))
def test_a_body_cannot_pass_for_a_reply_of_its_own(body: bytes) -> None:
    """Whatever a server sends, only what stands behind it says how long it is."""
    with TemporaryDirectory() as folder:
        inner = seal(Path(folder), body).path(ID, 1).read_bytes()
    with TemporaryDirectory() as folder:
        loaded = seal(Path(folder), inner).load(ID, 1)
        assert loaded is not None
        assert loaded.read() == inner


def test_a_reply_is_held_from_its_seal_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert not spool.holds(ID, 1)
    spool.sink(ID, 1).write_bytes(b"half of")
    assert not spool.holds(ID, 1)
    assert spool.load(ID, 1) is None
    seal(tmp_path, b"{}")
    assert spool.holds(ID, 1)
    assert not spool.holds(ID, 2)
    spool.forget(ID, 1)
    assert not spool.holds(ID, 1)


def test_a_reply_that_is_asked_for_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    seal(tmp_path, b"first").forget(ID, 1)
    loaded = seal(tmp_path, b"second").load(ID, 1)
    assert loaded is not None
    assert loaded.read() == b"second"


def test_only_what_was_discarded_is_swept_and_twice_is_as_good_as_once(tmp_path: Path) -> None:
    spool = seal(tmp_path, b"{}")
    spool.sink("other", 1).write_bytes(b"half of")
    for _ in range(2):
        spool.discard(ID)
    assert spool.holds(ID, 1)
    for _ in range(2):
        spool.sweep()
    assert spool.attempts() == {"other"}


def test_p18_what_a_crash_left_of_a_sweep_is_purged(tmp_path: Path) -> None:
    """It was killed between the first reply and the second."""
    spool = seal(tmp_path, b"{}")
    spool.seal(ID, 2, Reply(200, {}, b"{}"), Unsynced())
    spool.path(ID, 1).unlink()
    spool.seal("other", 1, Reply(200, {}, b"{}"), Unsynced())
    spool.sink("other", 2).write_bytes(b"half of")
    again = Spool(tmp_path)
    again.purge({"other"})
    assert [path.name for path in tmp_path.iterdir()] == ["other.1"], "and no half of a reply"
    again.discard("other")
    again.sweep()
    assert not list(tmp_path.iterdir()), "though it was read by nobody"


def test_d10_a_spool_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the spool"):
        Spool(tmp_path / "gone").seal(ID, 1, Reply(200, {}, b"{}"), Unsynced())


def test_d19_nobody_else_can_look_into_an_attempt(tmp_path: Path) -> None:
    spool = seal(tmp_path, b"{}", streamed=False)
    assert spool.path(ID, 1).stat().st_mode & 0o077 == 0
