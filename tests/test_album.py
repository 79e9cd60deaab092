"""The run row by row: what is found by text, state and axis, in which order, and what was bought before."""

import sqlite3
from contextlib import closing

import pytest
from world import CARP, HERON, OTTER, World, many

from batchgen import album, books, exhibit
from batchgen.album import Choice, Strip
from batchgen.folder import Folder
from batchgen.shelf import Shelf

MATRIX = {"size": ["1024x1024", "1536x1024"], "quality": ["low", "medium"]}


def found(world: World, **choice: object) -> list[Strip]:
    """The rows that are chosen."""
    asked = Choice(**choice)  # type: ignore[arg-type]
    with books.reading(world.run_folder / "ledger.db") as db:
        strips = album.strips(db, asked, album.marks(db, asked))
        assert album.count(db, asked) == (len(strips), sum(len(strip.frames) for strip in strips))
    return strips


def texts(world: World, **choice: object) -> list[str]:
    return [strip.text for strip in found(world, **choice)]


def change(world: World, sql: str, *values: object) -> None:
    """What no run would write so soon."""
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db:
        db.execute(sql, values)
        db.commit()


def states(*names: str) -> frozenset[str]:
    return frozenset(names)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, polite: object) -> World:
    """Three prompts by four combinations, of which one is refused, one failed, one held after an unanswered request."""
    from sandbox import child

    flags = ("--paint", "cached", "--paint-bytes", "3000", "--script", "ok cut 400")
    world = World(tmp_path_factory.mktemp("mixed"), child.fork(*flags))
    limits = {"concurrency": 1, "budget": 10}
    prompts = [OTTER, f"{HERON} [moderated]", CARP]
    world.run(prompts=prompts, matrix=MATRIX, request=None, limits=limits, retry={"attempts": 1, "on_unknown": "hold"})
    world.sandbox.end()
    return world


def test_each_prompt_is_a_row_with_all_its_tasks_in_the_manifests_order(mixed: World) -> None:
    rows = found(mixed)
    assert [row.text for row in rows] == [OTTER, f"{HERON} [moderated]", CARP]
    assert [len(row.frames) for row in rows] == [4, 4, 4]
    assert [str(frame.state) for frame in rows[0].frames] == ["done", "held", "failed", "done"]


def test_every_state_finds_its_own(mixed: World) -> None:
    counted = {state: sum(len(row.frames) for row in found(mixed, states=states(state))) for state in album.STATES}
    wanted = {"todo": 0, "doing": 0, "done": 6, "refused": 4, "failed": 1, "held": 1}
    assert counted == {**wanted, "unknown": 1, "dropped": 0, "replaced": 0}
    assert texts(mixed, states=states("refused", "failed")) == [OTTER, f"{HERON} [moderated]"]


def test_a_text_is_found_in_prompts_and_keys_whatever_its_case(mixed: World) -> None:
    assert texts(mixed, text="CARP") == [CARP]
    key = found(mixed)[0].frames[2].key
    assert [frame.key for row in found(mixed, text=key) for frame in row.frames] == [key]
    assert texts(mixed, text="%") == texts(mixed, text="'; DROP TABLE tasks; --") == []


def test_values_of_axes_narrow_a_row(mixed: World) -> None:
    with books.reading(mixed.run_folder / "ledger.db") as db:
        chosen = exhibit.matching(Shelf(db).variants(), {"size": "1536x1024", "quality": "low"})
        assert exhibit.matching(Shelf(db).variants(), {"colour": "red"}) == frozenset()
    assert [len(row.frames) for row in found(mixed, variants=chosen)] == [1, 1, 1]
    assert found(mixed, variants=frozenset()) == []


def test_rows_come_in_the_order_that_is_asked_for_and_page_by_page(mixed: World) -> None:
    assert texts(mixed, order="prompt") == [CARP, f"{HERON} [moderated]", OTTER]
    assert texts(mixed, order="dearest")[-1] == f"{HERON} [moderated]"
    assert texts(mixed, order="newest")[0] == CARP
    with books.reading(mixed.run_folder / "ledger.db") as db:
        for order in album.ORDERS:
            choice = Choice(order=order)
            pages = [album.marks(db, choice, at, 1) for at in range(4)]
            assert pages == [*([mark] for mark in album.marks(db, choice)), []]


def test_what_became_of_a_task_is_told_with_its_bounds(mixed: World) -> None:
    done, held, failed, _ = found(mixed)[0].frames
    assert (done.fate.attempts, done.fate.low, len(done.pictures)) == (1, done.fate.high, 1)
    assert (held.fate.unknown, held.fate.low, held.fate.high > 0, held.pictures) == (1, 0, True, ())
    assert (failed.fate.high, failed.fate.code) == (0, "invalid_value")
    with books.reading(mixed.run_folder / "ledger.db") as db:
        closer = album.closeups(db, [done.seq, held.seq])
        assert [each.state for each in closer[held.seq].sendings] == ["unknown"]
        assert closer[done.seq].sendings[0].tokens_out
        assert album.home(db, done.seq) == album.marks(db, Choice())[0]
        assert album.home(db, 1 << 40) is None


def test_equal_rows_share_their_tasks_and_keep_all_their_ids(world: World) -> None:
    rows = [{"prompt": OTTER, "id": "{{ id }}", "vars": {"id": ["first", "second"]}}]
    world.run(prompts=rows)
    (row,) = found(world, text="SECOND")
    assert (set(row.names), len(row.frames)) == ({"first", "second"}, 1)


def test_one_prompt_for_many_photos_makes_a_row_for_each(world: World) -> None:
    from world import png

    for name in ("a.png", "b.png"):
        (world.folder / name).write_bytes(png() if name == "a.png" else bigger())
    world.run(
        prompts=[
            {"prompt": OTTER, "operation": "edit", "images": ["{{ photo }}"], "vars": {"photo": ["a.png", "b.png"]}}
        ]
    )
    assert [(row.text, row.inputs) for row in found(world)] == [(OTTER, ("a.png",)), (OTTER, ("b.png",))]


def bigger() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (24, 24)).save(out, "PNG")
    return out.getvalue()


def test_what_is_wanted_no_more_is_apart_and_leads_back_from_what_replaced_it(world: World) -> None:
    world.run(prompts=[OTTER, HERON, CARP])
    old, new, gone = (row.frames[0] for row in found(world))
    change(world, "UPDATE tasks SET wanted = ? WHERE seq = ?", new.key, old.seq)
    change(world, "UPDATE tasks SET wanted = 'dropped' WHERE seq = ?", gone.seq)
    assert texts(world) == [HERON]
    assert (texts(world, states=states("replaced")), texts(world, states=states("dropped"))) == ([OTTER], [CARP])
    assert texts(world, states=album.EVERYTHING.states) == [OTTER, HERON, CARP]
    with books.reading(world.run_folder / "ledger.db") as db:
        assert album.closeups(db, [new.seq])[new.seq].replaces == (old.seq,)


def test_equal_files_are_known_and_the_newest_images_come_first(world: World) -> None:
    world.run(prompts=many(3))
    with books.reading(world.run_folder / "ledger.db") as db:
        images = album.newest(db, 0, 10)
        assert [each.id for each in images] == [3, 2, 1]
        assert [each.id for each in album.newest(db, 2, 10)] == [3]
        assert album.twins(db) == album.twins(db, {each.sha256 for each in images})
        assert album.twins(db, set()) == {}
        assert album.picture(db, images[0].id) == images[0]
        assert album.picture(db, 99) is None


def test_the_head_says_what_varies_and_what_each_value_came_to(mixed: World) -> None:
    head = exhibit.head(Folder(mixed.run_folder))
    axes: list[dict[str, object]] = head["axes"]  # type: ignore[assignment]
    assert {str(axis["name"]): axis["values"] for axis in axes} == MATRIX
    for axis in axes:
        figures: list[dict[str, object]] = axis["figures"]  # type: ignore[assignment]
        assert [each["value"] for each in figures] == MATRIX[str(axis["name"])]
        assert [each["tasks"] for each in figures] == [6, 6]
        cost: dict[str, float] = head["report"]["cost"]  # type: ignore[index]
        for bound in ("low", "high"):
            assert sum(each[bound] for each in figures) == pytest.approx(cost[bound])  # type: ignore[misc]
    assert head["unknown"] == 1
    beats: dict[str, list[list[float]]] = head["beats"]  # type: ignore[assignment]
    assert sum(beat[1] for beat in beats["rows"]) == 6


def test_what_rows_set_beside_the_axes_is_an_axis_too(world: World) -> None:
    rows = [{"prompt": OTTER, "background": "{{ b }}", "vars": {"b": ["opaque", "auto"]}}]
    world.run(prompts=rows, samples=2)
    axes: list[dict[str, object]] = exhibit.head(Folder(world.run_folder))["axes"]  # type: ignore[assignment]
    assert {str(axis["name"]): axis["values"] for axis in axes} == {
        "background": ["opaque", "auto"],
        "sample": ["1", "2"],
    }


def test_a_ledger_without_a_task_has_a_head(world: World) -> None:
    world.run()
    change(world, "UPDATE tasks SET wanted = 'dropped'")
    head = exhibit.head(Folder(world.run_folder))
    assert found(world) == []
    assert (head["axes"], head["unknown"]) == ([], 0)


def test_figures_that_take_ninety_percent_are_found() -> None:
    assert exhibit.quantiles({10: 1, 20: 8, 90: 1}, (0.1, 0.5, 0.9)) == [10, 20, 20]
    assert exhibit.quantiles({}, (0.5,)) == []
