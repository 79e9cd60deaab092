"""The benchmark measures what it says, on work so small that it says nothing."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from bench import life, plot, race
from bench.plot import Panel, Point
from bench.race import FIGURES, OURS, Course, Setting
from bench.section import Section, Target

COURSE = Course("tiny", tasks=6, workers=3, size=3000, latency=0.0)


def test_batchgen_and_a_rival_are_measured_on_the_same_course(tmp_path: Path) -> None:
    setting = Setting(1, tmp_path, patience=60)
    with life.sandbox(*COURSE.flags) as url:
        found = [race.once(runner, url, COURSE, setting) for runner in (OURS, "aiohttp")]
    assert all(value(each) > 0 for each in found for value in FIGURES.values())
    assert not list(tmp_path.iterdir())


def test_a_runner_that_does_not_end_in_time_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="ended with -9"):
        life.lived(["sleep", "60"], patience=0.1)


def test_a_turn_is_what_a_place_takes_whatever_the_start_took() -> None:
    assert race.turn([1.0, 5.0, 5.0, 6.0, 6.0, 7.0, 7.0, 8.0, 8.0], 2) == 1.0


def test_a_table_lines_up_and_tells_what_was_missed() -> None:
    rows = {"images/s": {OURS: [100.0, 300.0, 200.0], "aiohttp": [1234.5]}, "MB": {OURS: [9.0]}}
    section = Section("tiny", "about", rows, [Target("images/s", OURS, least=201), Target("MB", OURS, most=9)])
    assert list(section.lines()) == [
        "tiny: about",
        "                          batchgen        aiohttp",
        "  images/s                200 (100–300)   1,234",
        "  MB                      9.00",
        "  MISSED images/s, batchgen: 200, wanted ≥ 201",
        "  met    MB, batchgen: 9.00, wanted ≤ 9",
    ]


def test_the_plot_is_well_formed_and_no_name_stands_upon_another() -> None:
    lines = {name: [Point(1, [5.0]), Point(256, [value])] for name, value in (("a", 7.0), ("b", 7.1), ("c & d", 0.1))}
    tree = ElementTree.fromstring(plot.svg("title", "about", [Panel("one", "axis", lines)]))
    places = [float(each.get("y", "")) for each in tree.iter() if f"{each.text}".startswith(("a 7", "b 7", "c & d 0"))]
    assert len(places) == 3
    assert all(after - before >= plot.LINE for before, after in zip(sorted(places), sorted(places)[1:], strict=False))
