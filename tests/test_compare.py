"""What is wanted beside what the ledger holds: counted before anything is sent, and told why."""

import json
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox.child import Child
from world import CARP, HERON, OTTER, World, environment, many

from batchgen import compare, decide, expand, manifest, offer
from batchgen.compare import Survey
from batchgen.errors import ManifestError
from batchgen.job import Job, Order
from batchgen.manifest import Manifest, Setup
from batchgen.task import TaskState

BASE = {"name": "a", "provider": "openai", "model": "gpt-image-2", "prompts": ["A fox"]}
QUALITIES = ["low", "medium"]
PAIR: dict[str, Any] = {"prompts": [OTTER, HERON], "matrix": {"quality": QUALITIES}, "request": {"size": "1024x1024"}}
"""Four tasks."""


def read(**changes: object) -> Manifest:
    """JSON is YAML too."""
    return manifest.loads(json.dumps({**BASE, **changes}, ensure_ascii=False), Path("x.yaml"), Setup({}))


def counted(**changes: object) -> Survey:
    """Of a job that never ran."""
    return compare.survey(read(**changes), None)


def surveyed(world: World, sample: int | None = None, reopen: tuple[TaskState, ...] = (), **changes: object) -> Survey:
    """Of a changed manifest beside the ledger of its run."""
    found = manifest.load(world.write(**changes), Setup(environment()))
    return compare.survey(found, world.run_folder / "ledger.db", sample, reopen)


def change(survey: Survey) -> tuple[int, int, int, int]:
    return survey.new, survey.kept, survey.dropped, survey.todo


# without a ledger


def test_all_is_counted_by_what_it_asks_for() -> None:
    survey = counted(prompts=["A fox", "Ä"], matrix={"quality": QUALITIES}, request={"n": 2}, samples=3)
    assert (survey.rows, survey.duplicates, survey.tasks) == (2, 0, 12)
    assert change(survey) == (12, 0, 0, 12)
    assert [dict(part.variant.axes) for part in survey.parts] == [{"quality": "low"}, {"quality": "medium"}]
    for part in survey.parts:
        assert (part.tasks, part.new, part.todo, part.done, part.tasks * part.variant.images) == (6, 6, 6, 0, 12)
        assert (part.prompt_bytes, part.longest) == (3 * 7, 5)
    assert (survey.causes, survey.settled, survey.chosen) == ((), False, None)


def test_equal_rows_are_counted_as_rows_and_not_as_tasks() -> None:
    survey = counted(prompts=["A fox", "A fox ", "A heron"], samples=2)
    assert (survey.rows, survey.duplicates, survey.tasks) == (3, 1, 4)


def test_rows_that_come_to_the_same_request_by_different_ways_are_counted_once() -> None:
    prompts = ["A fox", {"prompt": "A fox", "quality": "low"}]
    survey = counted(prompts=prompts, request={"quality": "low"})
    assert (survey.rows, survey.tasks) == (2, 1)


@settings(max_examples=40, deadline=None)
@given(
    prompts=st.lists(st.sampled_from(["A fox", "A heron", " A fox", "An ötter"]), min_size=1, max_size=6),
    qualities=st.lists(st.sampled_from([*QUALITIES, "high"]), min_size=1, unique=True),
    samples=st.integers(1, 3),
)
def test_what_is_counted_is_what_is_made(prompts: list[str], qualities: list[str], samples: int) -> None:
    wanted = read(prompts=prompts, matrix={"quality": qualities}, samples=samples)
    made = list(expand.tasks(wanted))
    survey = compare.survey(wanted, None)
    assert Counter(task.variant for task in made) == {part.variant: part.tasks for part in survey.parts}
    assert sum(part.prompt_bytes for part in survey.parts) == sum(len(task.prompt.encode()) for task in made)
    assert survey.rows - survey.duplicates == len(made) // (samples * len(qualities))


def test_u7_a_billion_tasks_are_refused_before_a_row_is_made() -> None:
    values = [str(n) for n in range(1_000)]
    vars = {"a": values, "b": values, "c": values}
    start = time.perf_counter()
    with pytest.raises(ManifestError) as caught:
        counted(prompts=[{"prompt": "{{ a }}{{ b }}{{ c }}", "vars": vars}])
    assert time.perf_counter() - start < 1
    assert caught.value.problems == ("x.yaml: 1,000,000,000 tasks or more: a job has at most 100,000,000",)


def test_u7_a_file_is_refused_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("".join(f"Fox {n}\n" for n in range(200)), "utf-8")
    text = json.dumps({**BASE, "prompts": [{"file": "p.txt"}], "samples": 1_000_000})
    with pytest.raises(ManifestError, match="101,000,000 tasks or more"):
        compare.survey(manifest.loads(text, tmp_path / "x.yaml", Setup({})), None)


@pytest.mark.parametrize("sample", [None, 1])
def test_every_row_is_looked_at_before_anything_is_bought(sample: int | None) -> None:
    ids = [{"prompt": "A fox", "id": "1"}, {"prompt": "A heron", "id": "1"}]
    with pytest.raises(ManifestError, match="the id '1' is another row's too"):
        compare.survey(read(prompts=ids), None, sample)
    paths = [{"prompt": "A fox {{ a }}", "vars": {"a": ["1", "x"]}}]
    with pytest.raises(ManifestError, match=r"x.yaml:1:73: output.path: the template fails: "):
        compare.survey(read(prompts=paths, output={"path": "{{ a / 2 }}"}), None, sample)


# beside a ledger


EDITS: dict[str, tuple[dict[str, Any], tuple[int, int, int, int], tuple[str, ...]]] = {
    # what is changed, what that makes new, kept, dropped and to do, and why
    "nothing": ({}, (0, 4, 0, 0), ()),
    "limits": ({"limits": {"concurrency": 1, "budget": 3}, "retry": {"attempts": 2}}, (0, 4, 0, 0), ()),
    "a new prompt": ({"prompts": [OTTER, CARP, HERON]}, (2, 4, 0, 2), ("2 new: 1 prompt that the ledger never had",)),
    "another prompt": (
        {"prompts": [OTTER, CARP]},
        (2, 2, 2, 2),
        (
            "2 new: 1 prompt that the ledger never had",
            "2 dropped: rows or samples that are not asked for any more",
        ),
    ),
    "two new prompts": (
        {"prompts": [OTTER, CARP, HERON, f"{CARP}, again"]},
        (4, 4, 0, 4),
        ("4 new: 2 prompts that the ledger never had",),
    ),
    "a changed parameter": (
        {"request": {"size": "1536x1024"}},
        (4, 0, 4, 4),
        ("4 new: size: 1024x1024 → 1536x1024",),
    ),
    "a parameter taken away": (
        {"request": None},
        (4, 0, 4, 4),
        ("4 new: size: 1024x1024 → (none)",),
    ),
    "another model": (
        {"model": "gpt-image-2.5-flare"},
        (4, 0, 4, 4),
        ("4 new: model: gpt-image-2 → gpt-image-2.5-flare",),
    ),
    "a value more": (
        {"matrix": {"quality": [*QUALITIES, "high"]}},
        (2, 4, 0, 2),
        ("2 new: quality high is asked for now",),
    ),
    "a value less": (
        {"matrix": {"quality": ["medium"]}},
        (0, 2, 2, 0),
        ("2 dropped: quality low is not asked for any more",),
    ),
    "a value changed": (
        {"matrix": {"quality": ["medium", "high"]}},
        (2, 2, 2, 2),
        ("2 new: quality: low → high",),
    ),
    "a value changed and a prompt": (
        {"matrix": {"quality": ["medium", "high"]}, "prompts": [OTTER, CARP]},
        (3, 1, 3, 3),
        (
            "2 new: 1 prompt that the ledger never had",
            "1 new: quality: low → high",
            "1 dropped: rows or samples that are not asked for any more",
        ),
    ),
    "an axis more": (
        {"matrix": {"quality": QUALITIES, "background": ["opaque"]}},
        (4, 0, 4, 4),
        ("4 new: background: (none) → opaque",),
    ),
    "an exclusion": (
        {"matrix": {"quality": QUALITIES, "exclude": [{"quality": "low"}]}},
        (0, 2, 2, 0),
        ("2 dropped: quality low is not asked for any more",),
    ),
    "more samples": ({"samples": 3}, (8, 4, 0, 8), ("8 new: more samples than 1",)),
    "a row with a setting of its own": (
        {"prompts": [OTTER, HERON, {"prompt": HERON, "size": "1536x1024"}]},
        (2, 4, 0, 2),
        ("2 new: size 1536x1024 is asked for now",),
    ),
    "the same by other words": (
        {"matrix": {"target": [{"as": "a", "quality": "low"}, {"as": "b", "quality": "medium"}]}},
        (0, 4, 0, 0),
        (),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_counted_and_its_causes_are_told_before_it_is_bought(world: World, edit: str) -> None:
    changes, counts, causes = EDITS[edit]
    assert world.run(**PAIR).exit_code == 0
    survey = surveyed(world, **{**PAIR, **changes})
    assert (change(survey), survey.causes) == (counts, causes)
    job = world.job(**{**PAIR, **changes})
    assert anyio.run(job.run).exit_code == 0
    new, kept, dropped, todo = counts
    if job.change:
        assert (job.change.new, job.change.kept, job.change.dropped) == (new, kept, dropped)
    assert len(world.charges()) == 4 + todo
    after = surveyed(world, **{**PAIR, **changes})
    assert (change(after), after.causes, after.settled) == ((0, new + kept, 0, 0), (), True)
    world.check_equal_to_the_bill()


def test_nothing_is_new_where_all_is_dropped_but_what_is_left(world: World) -> None:
    world.run(**PAIR)
    assert change(surveyed(world, **{**PAIR, "prompts": [CARP]})) == (2, 0, 4, 2)


@pytest.mark.parametrize("edit", ["another prompt", "a changed parameter", "another model", "a value less"])
def test_an_edit_that_is_undone_costs_nothing(world: World, edit: str) -> None:
    world.run(**PAIR)
    world.run(**{**PAIR, **EDITS[edit][0]})
    charged = len(world.charges())
    survey = surveyed(world, **PAIR)
    assert (survey.new, survey.kept, survey.todo, survey.settled) == (0, 4, 0, False)
    assert not [cause for cause in survey.causes if " new: " in cause]
    assert world.run(**PAIR).exit_code == 0
    assert (len(world.charges()), world.states()) == (charged, {"done": 4})
    assert surveyed(world, **PAIR).settled


def test_what_was_dropped_unbought_is_to_do_when_it_is_wanted_again(world: World) -> None:
    assert world.run(**PAIR, limits={"images": 1}).exit_code == 4
    assert world.run(**{**PAIR, "prompts": [OTTER]}).exit_code == 0
    assert change(surveyed(world, **PAIR)) == (0, 4, 0, 2)


def test_what_is_left_of_an_interrupted_run_is_to_do_and_not_new(world: World) -> None:
    assert world.run(**PAIR, limits={"images": 1}).exit_code == 4
    survey = surveyed(world, **PAIR)
    assert (change(survey), survey.done, survey.causes) == ((0, 4, 0, 3), 1, ())


def test_more_samples_leave_those_that_are_there(world: World) -> None:
    world.run(samples=2)
    survey = surveyed(world, samples=3)
    assert (change(survey), survey.causes) == ((1, 2, 0, 1), ("1 new: more samples than 2",))
    fewer = surveyed(world, samples=1)
    assert change(fewer) == (0, 1, 1, 0)
    assert fewer.causes == ("1 dropped: rows or samples that are not asked for any more",)


def test_rows_that_had_not_this_combination_are_told_as_such(world: World) -> None:
    own = {"prompt": HERON, "size": "1536x1024"}
    world.run(prompts=[OTTER, own], request={"size": "1024x1024", "quality": "low"})
    survey = surveyed(world, prompts=[OTTER, own, HERON], request={"size": "1024x1024", "quality": "low"})
    assert (change(survey), survey.causes) == (
        (1, 2, 0, 1),
        ("1 new: rows or images that had not this combination before",),
    )


def test_a_survey_writes_nothing(world: World) -> None:
    world.run(**PAIR)
    ledger = world.run_folder / "ledger.db"
    before = ledger.read_bytes(), ledger.stat().st_mtime_ns
    assert surveyed(world, **{**PAIR, "samples": 3}).new == 8
    assert (ledger.read_bytes(), ledger.stat().st_mtime_ns) == before


def test_the_bytes_to_be_sent_are_those_of_what_is_to_do(world: World) -> None:
    world.run(prompts=["A fox"])
    (part,) = surveyed(world, prompts=["A fox", "A long, long prompt", "Ä"]).parts
    assert (part.tasks, part.done, part.todo, part.prompt_bytes, part.longest) == (3, 1, 2, 21, 19)


# names


def names(world: World) -> list[tuple[str, str]]:
    """Prompts, and what their rows are called."""
    return world.rows(
        "SELECT DISTINCT p.text, n.id FROM names n JOIN tasks t ON t.seq = n.task JOIN prompts p ON p.id = t.prompt"
        " ORDER BY p.text, n.id"
    )


def named(*rows: tuple[str, str]) -> dict[str, Any]:
    return {"prompts": [{"prompt": prompt, "id": name} for prompt, name in rows]}


def test_equal_rows_keep_their_names(world: World) -> None:
    rows = [(HERON, "h1"), (OTTER, "o1"), (OTTER, "o2"), (HERON, "h2")]
    survey_of_none = compare.survey(manifest.load(world.write(**named(*rows)), Setup(environment())), None)
    assert (survey_of_none.rows, survey_of_none.duplicates, survey_of_none.tasks) == (4, 2, 2)
    world.run(**named(*rows))
    assert (names(world), len(world.charges())) == (sorted(rows), 2)
    assert world.rows("SELECT prompt, ids FROM v_tasks ORDER BY prompt") == [(HERON, "h1, h2"), (OTTER, "o1, o2")]


def test_a_new_name_is_written_down_and_buys_nothing(world: World) -> None:
    world.run(**named((OTTER, "one"), (HERON, "two")))
    renamed = named((OTTER, "three"), (HERON, "two"), (HERON, "four"))
    survey = surveyed(world, **renamed)
    assert (change(survey), survey.causes, survey.settled) == ((0, 2, 0, 0), (), False)
    assert world.run(**renamed).exit_code == 0
    assert names(world) == [(HERON, "four"), (HERON, "two"), (OTTER, "three")]
    assert len(world.charges()) == 2


def test_a_row_that_is_called_otherwise_in_its_file_is_noticed(world: World) -> None:
    table = world.folder / "p.csv"
    changes: dict[str, Any] = {"prompts": [{"file": "p.csv", "id": "{{ sku }}"}]}
    table.write_text(f"sku,prompt\n1,{OTTER}\n2,{HERON}\n")
    world.run(**changes)
    assert surveyed(world, **changes).settled
    table.write_text(f"sku,prompt\n1,{OTTER}\n3,{HERON}\n")
    assert not surveyed(world, **changes).settled
    world.run(**changes)
    assert names(world) == [(HERON, "3"), (OTTER, "1")]


def test_a_path_that_changes_with_a_files_other_column_is_noticed(world: World) -> None:
    """What is not bought yet goes where the file says now; the manifest's own text did not change."""
    table = world.folder / "p.csv"
    changes: dict[str, Any] = {"prompts": [{"file": "p.csv"}], "output": {"path": "{{ shelf }}/{{ slug }}"}}
    table.write_text(f"shelf,prompt\nold,{OTTER}\nold,{HERON}\n")
    world.run(**changes, limits={"images": 1, "concurrency": 1})
    table.write_text(f"shelf,prompt\nold,{OTTER}\nnew,{HERON}\n")
    world.run(**changes, limits={"images": 2, "concurrency": 1})
    table.write_text(f"shelf,prompt\nolder,{OTTER}\nnewer,{HERON}\n")
    assert world.run(**changes, limits={"images": 2, "concurrency": 1}).exit_code == 0
    assert sorted(path.parent.name for path in world.files()) == ["new", "old"]


# a sample


WIDE: dict[str, Any] = {
    "prompts": many(30),
    "matrix": {"quality": QUALITIES, "size": ["1024x1024", "1536x1024"]},
    "request": None,
    "samples": 2,
}


def chosen(sample: int, **changes: object) -> list[str]:
    """The keys of a sample."""
    survey = compare.survey(read(**{**WIDE, **changes}), None, sample)
    assert survey.chosen is not None
    assert (len(survey.chosen), survey.tasks, survey.todo) == (sample, sample, sample)
    assert Counter(task.variant for task in survey.chosen) == {part.variant: part.tasks for part in survey.parts}
    return [task.key for task in survey.chosen]


@pytest.mark.parametrize("sample", [1, 3, 4, 5, 9, 100, 240])
def test_a_sample_is_spread_over_all_combinations(sample: int) -> None:
    survey = compare.survey(read(**WIDE), None, sample)
    counts = [part.tasks for part in survey.parts]
    assert len(counts) == min(sample, 4)
    assert max(counts) - min(counts) <= 1
    assert (survey.rows, sum(counts)) == (30, sample)


def test_a_sample_of_more_than_there_is_is_all_of_it() -> None:
    survey = compare.survey(read(**WIDE), None, 1_000)
    assert survey.chosen
    assert {task.key for task in survey.chosen} == {task.key for task in expand.tasks(read(**WIDE))}


def test_a_larger_sample_holds_a_smaller_one() -> None:
    sizes = (1, 5, 9, 10, 64, 240)
    samples = [set(chosen(size)) for size in sizes]
    assert [len(each) for each in samples] == list(sizes)
    assert all(few < more for few, more in pairwise(samples))


def test_a_sample_is_the_same_every_time_and_in_any_order_of_the_rows() -> None:
    shuffled = many(30)
    Random(7).shuffle(shuffled)
    assert chosen(9) == chosen(9)
    assert sorted(chosen(9)) == sorted(chosen(9, prompts=shuffled))


def test_a_sample_is_bought_in_the_jobs_order() -> None:
    order = [task.key for task in expand.tasks(read(**WIDE))]
    assert chosen(40) == sorted(chosen(40), key=order.index)


def test_a_sample_is_no_row_after_row() -> None:
    survey = compare.survey(read(**WIDE), None, 40)
    assert survey.chosen
    assert len({task.prompt for task in survey.chosen}) > 15


def test_a_sample_goes_where_the_whole_job_would_put_it() -> None:
    survey = compare.survey(read(**WIDE), None, 9)
    assert survey.chosen
    assert set(survey.chosen) <= set(expand.tasks(read(**WIDE)))


def test_what_is_there_of_a_sample_is_not_bought_again_and_nothing_is_dropped(world: World) -> None:
    world.run(**PAIR)
    wide = {**PAIR, "prompts": [OTTER, *many(9)]}
    few, more = surveyed(world, sample=4, **wide), surveyed(world, sample=20, **wide)
    assert (few.tasks, few.new + few.kept, few.dropped) == (4, 4, 0)
    assert change(more) == (18, 2, 0, 18)


# what is queued


def test_what_is_queued_needs_no_manifest(world: World) -> None:
    world.run(**PAIR, limits={"images": 1})
    survey = compare.queued(world.run_folder / "ledger.db")
    assert (change(survey), survey.done, survey.settled) == ((0, 4, 0, 3), 1, True)
    assert sum(part.prompt_bytes for part in survey.parts) == len((OTTER + OTTER + HERON + HERON).encode()) - len(
        world.rows("SELECT p.text FROM tasks t JOIN prompts p ON p.id = t.prompt WHERE t.state = 'done'")[0][0]
    )


REFUSED = f"{CARP} [moderated]"


def test_what_is_tried_again_is_to_do(world: World) -> None:
    changes: dict[str, Any] = {"prompts": [OTTER, REFUSED]}
    assert world.run(**changes).exit_code == 3
    ledger = world.run_folder / "ledger.db"
    assert change(surveyed(world, **changes)) == (0, 2, 0, 0)
    for reopen, todo in (((TaskState.REFUSED,), 1), ((TaskState.FAILED,), 0), (tuple(TaskState), 2)):
        assert surveyed(world, reopen=reopen, **changes).todo == todo
        assert compare.queued(ledger, reopen).todo == todo


def test_what_was_given_up_is_to_do_only_where_it_is_tried_again(world: World) -> None:
    """Else a retry would spend without a question what its plan did not show."""
    changes: dict[str, Any] = {"prompts": [OTTER, REFUSED]}
    world.run(**changes)
    ledger = world.run_folder / "ledger.db"
    assert anyio.run(decide.waive, ledger, [TaskState.REFUSED]) == 1
    assert change(surveyed(world, **changes)) == (0, 2, 0, 0)
    assert compare.queued(ledger).todo == 0
    again = (TaskState.REFUSED,)
    assert (surveyed(world, reopen=again, **changes).todo, compare.queued(ledger, again).todo) == (1, 1)


def test_a_retry_tries_all_that_its_plan_showed_also_what_was_dropped_meanwhile(world: World) -> None:
    both = [REFUSED, f"Another {REFUSED}"]
    world.run(prompts=both)
    world.run(prompts=both[:1])
    todo = surveyed(world, reopen=(TaskState.REFUSED,), prompts=both).todo
    assert world.command("retry", "otters.yaml", "--refused").returncode == 3
    assert len(world.attempts()) == 2 + todo


# whatever is edited


TIED = ({"as": "a", "size": "1024x1024"}, {"as": "b", "n": 2}, {"as": "c", "background": "opaque"})
rows = st.builds(
    lambda prompt, quality, name: {
        "prompt": prompt,
        **({"quality": quality} if quality else {}),
        **({"id": f"{name} {prompt} {quality}"} if name else {}),
    },
    st.sampled_from(many(4)),
    st.sampled_from(["", "high"]),
    st.sampled_from(["", "a", "b"]),
)
edits = st.fixed_dictionaries(
    {
        "prompts": st.lists(rows, min_size=1, max_size=5),
        "matrix": st.none()
        | st.fixed_dictionaries(
            {"size": st.lists(st.sampled_from(["1024x1024", "1536x1024"]), min_size=1, unique=True)}
        )
        | st.fixed_dictionaries(
            {"target": st.sets(st.sampled_from(range(3)), min_size=1).map(lambda those: [TIED[n] for n in those])}
        ),
        "samples": st.integers(1, 2),
        "request": st.sampled_from([{"quality": "low"}, {"quality": "low", "moderation": "low"}]),
        "output": st.sampled_from([None, {"path": "{{ slug }}/{{ number }}"}]),
    }
)
steps = st.tuples(edits, st.sampled_from([None, None, 2, 3]), st.sampled_from([None, None, None, 1, 3]))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(steps, min_size=2, max_size=5))
def test_whatever_is_edited_the_run_does_what_its_plan_said(
    tmp_path_factory: pytest.TempPathFactory, polite: Child, steps: list[tuple[dict[str, Any], int | None, int | None]]
) -> None:
    """Each step edits the manifest, and runs it: all of it, up to some images more, or a sample."""
    world = World(tmp_path_factory.mktemp("night"), polite, before=len(polite.bill()["charges"]))
    for changes, more, sample in steps:
        images = sum(charge["images"] for charge in world.charges())
        limits = {"budget": 10, **({} if more is None else {"images": images + more})}
        wish = offer.wish(str(world.write(**changes, limits=limits)), None, Setup(environment()), sample)
        plan, charged, billed = offer.drawn_up(wish), len(world.charges()), world.billed()
        job = Job(Order(wish.manifest, wish.folder, plan, environ=wish.environ))
        ended = anyio.run(job.run)
        bought = len(world.charges()) - charged
        assert (ended.exit_code, bought) == (0, plan.survey.todo) if more is None else bought <= plan.survey.todo
        assert more is not None or plan.cost.low <= world.billed() - billed <= plan.cost.high
        world.check_books()
        after = compare.survey(wish.manifest, wish.folder.ledger, sample)
        assert (after.new, after.todo) == (0, plan.survey.todo - bought)
        if sample is None:
            check_whole(world, wish.manifest, plan.survey, job)
            assert after.settled


def check_whole(world: World, wanted: Manifest, survey: Survey, job: Job) -> None:
    """The ledger wants what the manifest asks for and nothing else, and what is to do goes where it says."""
    asked = {task.key: task.path for task in expand.tasks(wanted)}
    there = {
        key: (state, path) for key, state, path in world.rows("SELECT key, state, path FROM tasks WHERE wanted = 'yes'")
    }
    assert there.keys() == asked.keys()
    assert [key for key, (state, path) in there.items() if state == "todo" and path != asked[key]] == []
    counted = (job.change.new, job.change.kept, job.change.dropped) if job.change else (0, survey.kept, 0)
    assert counted == (survey.new, survey.kept, survey.dropped)
