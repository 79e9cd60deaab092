"""Answers made to harm: bombs, endless bodies and cuts at every layer, held against the memory of a run without any.

The runs are child processes, and each writes down at its end the most memory that it ever held (VmHWM): getrusage
would count that of the process that started it, too.
"""

import base64
import gzip
import io
import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import pytest
from PIL import Image
from sandbox.child import Child
from wild import CHUNKED, GZIP, OK, STREAM, USAGE, Behaviour, Wild, answer, good, image, pours, says
from world import World, environment, many, png

from batchgen.sandbox.faults import FAULTS
from batchgen.sandbox.order import Answer

MEBIBYTE = 1 << 20
GROWTH_MOST = 64 * MEBIBYTE
ONCE = {"attempts": 1, "on_unknown": "hold", "duplicate_allowance": 0}
NOTED = """
import atexit, os
from pathlib import Path
atexit.register(lambda: Path(os.environ["STATUS"]).write_text(Path("/proc/self/status").read_text()))
from batchgen.cli import main
main()
"""
"""The program as it is, which leaves word of its memory behind."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def peak(world: World, *behaviours: Behaviour, prompts: int, concurrency: int = 1) -> int:
    """Run that many tasks against these behaviours, to the end; the most bytes of memory that the run ever held."""
    status = world.folder / "status"
    with Wild(*behaviours) as wild:
        limits = {"concurrency": concurrency, "budget": 10}
        world.write(prompts=many(prompts), provider=world.provider(base_url=wild.url), limits=limits, retry=ONCE)
        ended = subprocess.run(
            [sys.executable, "-c", NOTED, "run", "otters.yaml"],
            cwd=world.folder,
            env=environment(STATUS=str(status)),
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ended.returncode in (0, 3), ended.stderr
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, polite: Child) -> int:
    """The most memory of runs without any fault: one task at a time, and four."""
    worlds = [World(tmp_path_factory.mktemp("usual"), polite) for _ in range(2)]
    return max(peak(worlds[0], prompts=2), peak(worlds[1], prompts=5, concurrency=4))


CHUNK = b"%x\r\n%b\r\n" % (MEBIBYTE, b" " * MEBIBYTE)
EVENT = b'event: x\ndata: {"type": "x"}\n\n'
EVENTS = b"\n" + EVENT * 999 + EVENT[:-1]  # what is read at once ends inside of one
LARGE = b'"}\n\ndata: {"type": "x", "b64_json": "' + b"QUFB" * (MEBIBYTE // 4)


def gibibyte() -> bytes:
    """Gzip of 1 GiB."""
    spoil = FAULTS["gzbomb"].spoil
    assert spoil
    return spoil(Answer(200, b"")).body


def filled(before: bytes, unit: bytes, times: int, after: bytes) -> Behaviour:
    """A body of many equal parts with its true length."""
    length = len(before) + len(unit) * times + len(after)
    parts = (times, unit)

    def body() -> Iterator[bytes]:
        yield before
        at_once = max(1, MEBIBYTE // len(unit))
        for done in range(0, parts[0], at_once):
            yield parts[1] * min(at_once, parts[0] - done)
        yield after

    return pours(OK + b"Content-Length: %d\r\n\r\n" % length, body)


def framed(headers: bytes, parts: Iterator[bytes]) -> Behaviour:
    return pours(OK + headers + b"\r\n", lambda: parts)


def huge_png() -> bytes:
    data = bytearray(png())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def huge_jpeg() -> bytes:
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def huge_webp() -> bytes:
    """A canvas of 60,000² around a small picture."""
    data = saved("WEBP")
    edge = (60_000 - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + edge + edge + data[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def saved(name: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(out, name)
    return out.getvalue()


Make = Callable[[], Behaviour]
BOMBS: dict[str, tuple[Make, str, str]] = {  # what becomes of its attempt: state and code
    "S12: JSON nested 200,000 deep": (lambda: says(answer(b'{"data": ' + b"[" * 200_000)), "unusable", "not_json"),
    "S20: base64 of 100 MB": (
        lambda: filled(b'{"data": [{"b64_json": "', b"QUFB", 25_000_000, b'"}]}'),
        "unusable",
        "too_large",
    ),
    "S20: a body of 100 MB": (lambda: filled(b"", b" ", 100_000_000, b""), "unusable", "too_large"),
    "S20: a body without an end": (lambda: framed(b"", repeat(b" " * MEBIBYTE)), "unusable", "too_large"),
    "S20: chunks without an end": (lambda: framed(CHUNKED, repeat(CHUNK)), "unusable", "too_large"),
    "S20: events without an end": (lambda: framed(STREAM, repeat(LARGE)), "unusable", "too_large"),
    "S21: a header of 200 KB": (lambda: says(answer(headers=b"X-A: " + b"a" * 200_000 + b"\r\n")), "unknown", "cut"),
    "X5: a PNG of 60,000²": (lambda: says(answer(image(huge_png()))), "unusable", "broken"),
    "X5: a JPEG of 60,000²": (lambda: says(answer(image(huge_jpeg()))), "unusable", "broken"),
    "X5: a WebP of 60,000²": (lambda: says(answer(image(huge_webp()))), "unusable", "broken"),
}
SWOLLEN: dict[str, tuple[Make, str, str]] = {
    "S19: gzip of 1 GiB": (lambda: says(answer(gibibyte(), headers=GZIP)), "unusable", "not_json"),
    "S12: JSON of a million lists": (lambda: filled(b'{"data": [', b"[],", 1_000_000, b"0]}"), "unusable", "not_json"),
    "S9: a page of 60 MB": (lambda: filled(b"<html>", b"x", 60_000_000, b"</html>"), "unusable", "not_json"),
    "S20: a stream of half a million events": (lambda: framed(STREAM, repeat(EVENTS, 500)), "unusable", "not_json"),
}
"""Those that take far more memory than their length."""


def check_bombs(world: World, cases: Sequence[tuple[Make, str, str]], usual: int, concurrency: int = 1) -> None:
    """Run them all at once, and an image behind: who was struck is told, who was not is served, and memory is kept."""
    behaviours = [make() for make, _, _ in cases]
    held = peak(world, *behaviours, prompts=len(cases) + 1, concurrency=concurrency)
    seen = world.rows("SELECT state, code FROM attempts")
    assert sorted(seen) == sorted([*((state, code) for _, state, code in cases), ("paid", "")])
    kept = sum(state == "unusable" and code != "too_large" for state, code in seen)
    assert len(list((world.run_folder / "spool").iterdir())) == kept, "a whole answer is kept for a person"
    assert held - usual <= GROWTH_MOST, f"{(held - usual) >> 20} MiB more than a run without it"


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_more_memory_than_an_image_and_stops_no_other_task(world: World, usual: int, name: str) -> None:
    check_bombs(world, [BOMBS[name]], usual)


@pytest.mark.parametrize("name", SWOLLEN)
def test_a_bomb_that_swells_takes_no_more_memory_than_an_image(world: World, usual: int, name: str) -> None:
    check_bombs(world, [SWOLLEN[name]], usual)


def test_four_bombs_at_once_take_no_more_memory_than_one(world: World, usual: int) -> None:
    names = ("S12: JSON nested 200,000 deep", "S20: base64 of 100 MB", "S20: chunks without an end")
    check_bombs(world, [BOMBS[name] for name in (*names, "X5: a PNG of 60,000²")], usual, concurrency=4)


def test_s19_four_swelling_bombs_at_once_take_no_more_memory_than_one(world: World, usual: int) -> None:
    check_bombs(world, [SWOLLEN["S19: gzip of 1 GiB"]] * 4, usual, concurrency=4)


def test_the_largest_answer_that_is_taken_costs_three_times_its_length(world: World, usual: int) -> None:
    """The text as it came, the text that was read from it, and what that decodes to; nothing is held twice."""
    length = 60_000_000
    held = peak(world, filled(b'{"data": [{"b64_json": "', b"QUFB", length // 4, b'"}]}'), prompts=2)
    assert world.attempts() == ["unusable", "paid"]
    assert held - usual <= 3 * length


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_that_is_larger_than_most_images_ends_no_run(world: World, usual: int, status: int) -> None:
    page = answer(b"<html>" + b"x" * MEBIBYTE, status)
    peak(world, says(page), prompts=2)
    assert world.attempts() == ["rejected" if status == 400 else "unknown", "paid"]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_text(change: Callable[[str], str]) -> bytes:
    """A whole answer whose base64 text was changed."""
    text = base64.b64encode(saved("PNG")).decode()
    return answer(json.dumps({"created": 1, "data": [{"b64_json": change(text)}], "usage": USAGE}).encode())


def holding(count: int) -> bytes:
    picture = {"b64_json": base64.b64encode(png()).decode()}
    return answer(json.dumps({"created": 1, "data": [picture] * count, "usage": USAGE}).encode())


WHOLE = answer()
PAGE = b"<!DOCTYPE html><html><body>Just a moment</body></html>"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
CUTS: dict[str, tuple[Behaviour, str, str]] = {
    "N7: TCP, reset": (says(half(WHOLE), pause=0.05, then="rst"), "unknown", "cut"),
    "N8: TCP, closed": (says(half(WHOLE), then="fin"), "unknown", "cut"),
    "N8: a length that is too long": (says(answer(length=len(image()) + 1), then="fin"), "unknown", "cut"),
    "N9: chunks without the last": (
        says(OK + CHUNKED + b"\r\n%x\r\n%b\r\n" % (len(image()), image()), then="fin"),
        "unknown",
        "cut",
    ),
    "S11: gzip": (says(answer(half(gzip.compress(image())), headers=GZIP)), "unusable", "not_json"),
    "S11: gzip without its checksum": (says(answer(gzip.compress(image())[:-8], headers=GZIP)), "unusable", "not_json"),
    "S11: JSON": (says(answer(half(image()))), "unusable", "not_json"),
    "S11: JSON without its last brace": (says(answer(image()[:-1])), "unusable", "not_json"),
    "X7: base64 between two groups": (says(with_text(lambda text: text[: len(text) // 8 * 4])), "unusable", "broken"),
    "X6: base64 with junk": (says(with_text(lambda text: f"{text[:40]}!!!{text[40:]}")), "unusable", "broken"),
    "X8: no base64 at all": (says(with_text(lambda text: "")), "unusable", "broken"),
    **{f"X1, X9: half a {name}": (says(answer(image(half(saved(name))))), "unusable", "broken") for name in FORMATS},
    **{
        f"X2, X9: a {name} without its last byte": (says(answer(image(saved(name)[:-1]))), "unusable", "broken")
        for name in FORMATS
    },
    "X3: HTML behind an image": (says(answer(image(png() + PAGE))), "unusable", "broken"),
    "S9: a page with 200": (says(answer(PAGE)), "unusable", "not_json"),
    "S10: nothing": (says(answer(b"")), "unusable", "not_json"),
    "S10: null": (says(answer(b"null")), "unusable", "not_json"),
    "S10: 204": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), "unusable", "not_json"),
    "S16: no image": (says(holding(0)), "unusable", "no_image"),
    "S16: two images": (says(holding(2)), "paid", ""),
    "S17: another format": (says(answer(image(saved("WEBP")))), "paid", ""),
}


@dataclass(frozen=True, slots=True)
class Cut:
    """What came of the attempt: its state, code and words, whether its answer is kept, and its lowest cost."""

    state: str
    code: str
    error: str
    kept: bool
    low: int
    high: int


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory, polite: Child, usual: int) -> dict[str, Cut]:
    """One run that met them all, one after the other, and an image behind each: a provider that fails is paused."""
    world = World(tmp_path_factory.mktemp("cuts"), polite)
    between = [each for behaviour, _, _ in CUTS.values() for each in (behaviour, good)]
    held = peak(world, *between, prompts=len(between))
    assert held - usual <= GROWTH_MOST
    assert set(world.attempts()[1::2]) == {"paid"}, "the run went on behind each"
    kept = {path.stem for path in (world.run_folder / "spool").iterdir()}
    rows = world.rows("SELECT state, code, error, id, cost_low, cost_high FROM attempts ORDER BY seq")[::2]
    told = [Cut(state, code, error, id_ in kept, low, high) for state, code, error, id_, low, high in rows]
    return dict(zip(CUTS, told, strict=True))


@pytest.mark.parametrize("name", CUTS)
def test_what_is_cut_at_any_layer_is_told_and_kept_where_it_came_whole(cuts: dict[str, Cut], name: str) -> None:
    seen, (_, state, code) = cuts[name], CUTS[name]
    assert (seen.state, seen.code, seen.kept) == (state, code, state == "unusable")
    assert bool(seen.error) == (state != "paid")
    assert seen.high > 0, "it may have been billed"
    assert seen.low == (seen.high if code in ("", "broken") else 0), "where its usage was told, it was"


def test_s28_one_picture_for_two_tasks_is_saved_for_each_and_shows_in_the_ledger(world: World) -> None:
    with Wild() as wild:
        world.run(prompts=many(2), provider=world.provider(base_url=wild.url))
    assert world.attempts() == ["paid", "paid"]
    assert len(world.files()) == 2
    assert world.rows("SELECT count(*), count(DISTINCT sha256) FROM v_images") == [(2, 1)]
