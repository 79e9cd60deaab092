"""What a run is asked for while it works, and how it answers: whole files, for one run alone, read with suspicion."""

import json
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen import control, steer
from batchgen.control import Answer, Asked, Standing
from batchgen.errors import ManifestError
from batchgen.folder import Folder

RUN = "7/4711/night"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_every_key_has_a_dial() -> None:
    assert (*steer.DIALS,) == control.KEYS


def test_values_are_read_as_the_manifests_own() -> None:
    found = control.settings(
        {"concurrency": "32", "budget": "12.50", "images": "9", "until": "07:00", "paused": "true"}
    )
    assert {**found, "until": str(found["until"]).partition(",")[0]} == {
        "concurrency": 32,
        "budget": 12_500_000_000,
        "images": 9,
        "until": "Until(text='07:00'",
        "paused": True,
    }
    assert control.settings({"concurrency": '"8"', "paused": "false"}) == {"concurrency": 8, "paused": False}


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ManifestError) as caught:
        control.settings(
            {"budget": "much", "concurrency": "0", "paused": "no", "until": "7am", "timeout": "3m", "images": ""}
        )
    assert str(caught.value).splitlines() == [
        "batchgen set: budget: 'much' is not an amount in USD, such as 12.50",
        "batchgen set: concurrency: 0 is less than 1",
        "batchgen set: images: is empty: give a value, or leave the key out",
        "batchgen set: paused: 'no' is neither true nor false",
        f"batchgen set: timeout: 'timeout' is not one of {', '.join(control.KEYS)}",
        'batchgen set: until: \'7am\' is not a time such as "07:00" or "2026-11-22 07:00", '
        "by the clock of this machine",
    ]


def test_what_is_asked_for_is_there_whole_for_its_owner_alone_and_taken_once(folder: Folder) -> None:
    asked = Asked(RUN, ("one",), {"budget": "40"})
    control.leave(folder, asked)
    assert stat.S_IMODE(folder.control.stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.path.iterdir()) == [".control.lock", "control.json"]
    assert (control.take(folder), control.take(folder)) == (asked, None)
    control.clear(folder)
    assert list(folder.path.iterdir()) == []


def test_what_two_ask_for_at_once_is_asked_for_together(folder: Folder) -> None:
    control.leave(folder, Asked(RUN, ("one",), {"budget": "40", "concurrency": "8"}))
    control.leave(folder, Asked(RUN, ("two",), {"concurrency": "32"}))
    control.withdraw(folder, "two")
    assert control.take(folder) == Asked(RUN, ("one", "two"), {"budget": "40", "concurrency": "32"})


@pytest.mark.parametrize("before", [b"{", b'{"run": "6/1/night", "ids": [], "texts": {"paused": "true"}}', b"\xff\xfe"])
def test_what_another_run_was_asked_for_or_nobody_can_read_is_replaced(folder: Folder, before: bytes) -> None:
    folder.control.write_bytes(before)
    asked = Asked(RUN, ("one",), {"budget": "40"})
    control.leave(folder, asked)
    assert control.take(folder) == asked


def test_what_is_withdrawn_is_asked_for_no_more(folder: Folder) -> None:
    control.leave(folder, Asked(RUN, ("one",), {"budget": "40"}))
    control.withdraw(folder, "one")
    control.withdraw(folder, "one")
    assert control.take(folder) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["run", "ids", "texts", "answers", "x"]), inner),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 60_000))
def test_whatever_stands_there_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = Folder(tmp_path_factory.mktemp("control"))
    folder.control.write_bytes(raw)
    folder.settings.write_bytes(raw)
    with suppress(ValueError):
        assert isinstance(control.take(folder), Asked)
    assert control.standing(folder, RUN) == Standing(RUN)


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_no_strange_file_keeps_a_run_waiting(folder: Folder, kind: str) -> None:
    if kind == "link":
        folder.control.symlink_to("/etc/passwd")
    else:
        {"fifo": os.mkfifo, "folder": os.mkdir}[kind](folder.control)
    with pytest.raises((ValueError, OSError)):
        control.take(folder)


def test_an_answer_is_its_runs_own(folder: Folder) -> None:
    told = Standing(RUN, True, ("concurrency 8 → 32",), {"one": Answer(True, "concurrency 8 → 32; paused no → yes")})
    assert control.standing(folder, RUN) == Standing(RUN)
    control.answer(folder, told)
    assert control.standing(folder, RUN) == told
    assert control.standing(folder, "8/4711/night") == Standing("8/4711/night")
    control.clear(folder)
    assert control.standing(folder, RUN) == told, "who asked may not have read it yet"
