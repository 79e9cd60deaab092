"""Why tasks are new or dropped: in sentences that are true, with figures that add up."""

import re
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_offer import planned, said
from world import CARP, HERON, KEY, KEY_ENV, OTTER, World, many

from batchgen.causes import MOST

QUALITIES, SIZES = ["low", "medium", "high"], ["1024x1024", "1536x1024", "1024x1536"]
BASE: dict[str, Any] = {
    "prompts": [OTTER, HERON],
    "matrix": {"quality": ["low", "medium"]},
    "request": {"size": "1024x1024"},
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


def enqueue(world: World, **changes: Any) -> None:
    """A run that is told to drain before it begins: all is written down, nothing is bought."""
    job = world.job(**{**BASE, **changes})
    job.drain()
    anyio.run(job.run)


def causes(world: World, **changes: Any) -> list[str]:
    world.write(**{**BASE, **changes})
    found: list[str] = planned(world, "otters.yaml")["change"]["causes"]
    return found


def matrix(**axes: Any) -> dict[str, Any]:
    return {"matrix": axes}


EDITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "the order of all": ({"prompts": [HERON, OTTER], **matrix(quality=["medium", "low"])}, []),
    "rows are added": ({"prompts": [OTTER, HERON, CARP, *many(2)]}, ["6 new: 3 prompts that the ledger never had"]),
    "a row is added": ({"prompts": [OTTER, HERON, CARP]}, ["2 new: 1 prompt that the ledger never had"]),
    "a row is removed": ({"prompts": [OTTER]}, ["2 dropped: rows or samples that are not asked for any more"]),
    "a prompt is changed": (
        {"prompts": [OTTER, f"{HERON}."]},
        [
            "2 new: 1 prompt that the ledger never had",
            "2 dropped: rows or samples that are not asked for any more",
        ],
    ),
    "a quality is removed": (matrix(quality=["low"]), ["2 dropped: quality medium is not asked for any more"]),
    "a quality is added": (matrix(quality=QUALITIES), ["2 new: quality high is asked for now"]),
    "a quality is another": (matrix(quality=["low", "high"]), ["2 new: quality: medium → high"]),
    "more samples": ({"samples": 3}, ["8 new: more samples than 1"]),
    "a size is added": (matrix(quality=["low", "medium"], size=SIZES[:2]), ["4 new: size 1536x1024 is asked for now"]),
    "another model": ({"model": "gpt-image-2.5"}, ["4 new: model: gpt-image-2 → gpt-image-2.5"]),
}
"""Edit → what is told of it. What one thing took the place of is told once, as new."""


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_told_for_what_it_is(world: World, edit: str) -> None:
    changes, sentences = EDITS[edit]
    enqueue(world)
    assert causes(world, **changes) == sentences


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        ({"background": "opaque"}, "background: (none) → opaque"),
        ({"n": 2}, "n: (none) → 2"),
        ({"output_format": "webp", "output_compression": 80}, "output_compression: (none) → 80, output_format: (none)"),
    ],
)
def test_a_parameter_that_is_added_and_undone_is_told_both_times(
    world: World, request_: dict[str, object], cause: str
) -> None:
    enqueue(world)
    changed = {"request": {"size": "1024x1024", **request_}}
    assert causes(world, **changed)[0].startswith(f"4 new: {cause}")
    enqueue(world, **changed)
    (undone,) = causes(world)
    assert undone.startswith("4 dropped: ")
    assert all(f"{name} {value} is not asked for any more" in undone for name, value in request_.items())


def test_what_was_never_set_is_not_told_as_no_longer_asked_for(world: World) -> None:
    enqueue(world)
    told = causes(world, prompts=[CARP], request={"size": "1024x1024", "background": "opaque"})
    assert not [each for each in told if "(none) is not asked for any more" in each]


def test_what_is_added_took_the_place_of_nothing_that_is_kept(world: World) -> None:
    enqueue(world, **matrix(quality=["low"], size=SIZES[:2]), request=None)
    told = causes(world, **matrix(quality=["low", "high"], size=SIZES[:1]), request=None)
    assert "2 new: quality high is asked for now" in told


def test_what_comes_back_is_neither_new_nor_told(world: World) -> None:
    enqueue(world)
    enqueue(world, prompts=[OTTER])
    assert causes(world) == []
    world.write(**BASE)
    assert planned(world, "otters.yaml")["change"] == {"new": 0, "kept": 4, "dropped": 0, "replaced": 0, "causes": []}


def test_a_fresh_job_has_no_causes(world: World) -> None:
    assert causes(world) == []


def test_no_more_causes_are_told_than_one_reads(world: World) -> None:
    enqueue(world, request=None, matrix={"quality": ["low"]})
    sizes = [f"{1024 + 16 * n}x1024" for n in range(MOST + 3)]
    told = causes(world, matrix={"quality": ["low"], "size": sizes}, request=None)
    assert len([each for each in told if " new: " in each]) == MOST


def test_the_greatest_cause_comes_first(world: World) -> None:
    enqueue(world)
    told = causes(world, prompts=[OTTER, HERON, *many(9)], **matrix(quality=QUALITIES))
    counts = [int(each.split()[0]) for each in told if " new: " in each]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == 9 * 3 + 2


def test_a_sample_before_is_no_cause_of_the_whole(world: World) -> None:
    """After a sample the whole job is new because it was never asked for, not because of any change."""
    world.write(**BASE, samples=3)
    assert said(world, "run", "otters.yaml", "--sample", "2").returncode == 0
    assert causes(world, samples=3) == []


def test_a_cause_cannot_steer_a_terminal(world: World) -> None:
    world.write(**BASE)
    enqueue(world, model="gpt-image-2", request=None)
    evil = {"request": None, "model": None, "matrix": {"model": ["x\u009b31m\u202ey"]}, "limits": {"images": 1}}
    world.write(**{**BASE, **evil})
    shown = said(world, "plan", "otters.yaml")
    assert not re.search("[\x1b\x9b\u202e]", shown.stdout + shown.stderr)


def _count(cause: str) -> int:
    return int(cause.split()[0].replace(",", ""))


jobs = st.fixed_dictionaries(
    {
        "prompts": st.lists(st.sampled_from([OTTER, HERON, CARP]), min_size=1, unique=True),
        "matrix": st.fixed_dictionaries(
            {"quality": st.lists(st.sampled_from(QUALITIES), min_size=1, unique=True)},
            optional={"size": st.lists(st.sampled_from(SIZES), min_size=1, max_size=2, unique=True)},
        ),
        "samples": st.integers(1, 2),
        "request": st.sampled_from([{}, {"background": "opaque"}, {"n": 2}]),
    }
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=jobs, after=jobs, n=st.uuids())
def test_what_the_causes_tell_adds_up(world: World, before: dict[str, Any], after: dict[str, Any], n: object) -> None:
    name = {"name": f"job-{n}"}
    enqueue(world, **before, **name)
    world.write(**after, **name)
    change = planned(world, "otters.yaml")["change"]
    told = {kind: [_count(each) for each in change["causes"] if f" {kind}: " in each] for kind in ("new", "dropped")}
    assert sum(told["new"]) == change["new"] if len(told["new"]) < MOST else sum(told["new"]) <= change["new"]
    assert sum(told["dropped"]) <= change["dropped"], "what something took the place of is told with it"
    enqueue(world, **after, **name)
    world.write(**after, **name)
    again = planned(world, "otters.yaml")["change"]
    assert (again["new"], again["dropped"], again["causes"]) == (0, 0, [])
