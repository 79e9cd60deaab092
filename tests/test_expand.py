"""Rows × matrix × samples: which tasks, each once, under which keys, into which files."""

import json
import time
import unicodedata
from collections import deque
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchgen import expand, manifest
from batchgen.errors import ManifestError
from batchgen.expand import Expansion
from batchgen.inputs import Gallery
from batchgen.manifest import Setup
from batchgen.paths import COMPONENT_BYTES, SLUG_BYTES, component, slug
from batchgen.task import Task

BASE = {"name": "a", "provider": "openai", "model": "gpt-image-2", "prompts": ["A fox"]}
SIZES = ["1024x1024", "1536x1024", "1024x1536", "2048x2048"]
QUALITIES = ["low", "medium", "high"]
BACKGROUNDS = ["auto", "opaque"]


def tasks(**changes: object) -> list[Task]:
    """The tasks of a manifest; JSON is YAML too."""
    return list(expand.tasks(read(**changes)))


def read(**changes: object) -> manifest.Manifest:
    return manifest.loads(json.dumps({**BASE, **changes}, ensure_ascii=False), Path("x.yaml"), Setup({}))


def keys(**changes: object) -> list[str]:
    return [task.key for task in tasks(**changes)]


def test_a_task_is_a_row_a_variant_and_a_sample_in_that_order() -> None:
    found = tasks(prompts=["A fox", "A heron"], matrix={"quality": ["low", "high"]}, samples=2, request={"n": 2})
    assert [(task.prompt, task.variant.param("quality"), task.sample) for task in found] == [
        (prompt, quality, sample) for prompt in ("A fox", "A heron") for quality in ("low", "high") for sample in (1, 2)
    ]
    assert {task.take for task in found} == {1}


def test_a_variant_has_every_parameter_and_keeps_the_order_of_the_axes() -> None:
    (task,) = tasks(matrix={"size": ["auto"], "model": ["m"], "background": ["auto"]}, request={"quality": "low"})
    assert task.variant.provider == "openai"
    assert task.variant.model == "m"
    assert task.variant.params == (("background", "auto"), ("quality", "low"), ("size", "auto"))
    assert task.variant.axes == (("size", "auto"), ("model", "m"), ("background", "auto"))


def test_an_axis_goes_before_the_request() -> None:
    found = tasks(matrix={"quality": ["low", "high"]}, request={"quality": "medium"})
    assert [task.variant.params for task in found] == [(("quality", "low"),), (("quality", "high"),)]


axes = st.fixed_dictionaries(
    {},
    optional={
        "size": st.lists(st.sampled_from(SIZES), min_size=1, unique=True),
        "quality": st.lists(st.sampled_from(QUALITIES), min_size=1, unique=True),
        "background": st.lists(st.sampled_from(BACKGROUNDS), min_size=1, unique=True),
        "n": st.lists(st.integers(1, 10), min_size=1, unique=True),
    },
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), matrix=axes, prompts=st.integers(1, 4), samples=st.integers(1, 3))
def test_the_expansion_is_the_product_without_what_is_excluded(
    data: st.DataObject, matrix: dict[str, list[object]], prompts: int, samples: int
) -> None:
    combinations: list[dict[str, object]] = [{}]
    for name, values in matrix.items():
        combinations = [{**each, name: value} for each in combinations for value in values]
    partials = [
        {name: data.draw(st.sampled_from(matrix[name])) for name in names}
        for names in (
            data.draw(st.lists(st.sets(st.sampled_from(list(matrix)), min_size=1), max_size=2)) if matrix else ()
        )
    ]
    left = [each for each in combinations if not any(partial.items() <= each.items() for partial in partials)]
    wanted = {"matrix": {**matrix, "exclude": partials}, "prompts": [f"Fox {n}" for n in range(prompts)]}
    if not left:
        with pytest.raises(ManifestError, match="leaves no combination"):
            read(**wanted)
        return
    found = tasks(**wanted, samples=samples)
    assert [dict(task.variant.axes) for task in found[:: prompts and samples]][: len(left)] == left
    assert len(found) == len(left) * prompts * samples
    assert len({task.key for task in found}) == len({task.path.lower() for task in found}) == len(found)


GOLDEN = [
    ({}, "7xwc2aodzmwzqoov"),
    ({"model": "gpt-image-2.5"}, "h73fu2e7n7dcuqiz"),
    ({"request": {"quality": "low", "size": "1024x1024"}}, "em73trwsqqn2fkfp"),
    ({"request": {"n": 2, "output_format": "png"}}, "nqbt77yj6u5g6nai"),
    ({"prompts": ["Ein Füchslein, 狐, 🦊"]}, "x56dtyrtkbvw43rr"),
    ({"provider": {"dialect": "openai", "base_url": "http://127.0.0.1:8080/v1"}}, "je22up7ykhpka2df"),
    ({"provider": {"dialect": "openai", "base_url": "http://127.0.0.1:8080/v1", "name": "mine"}}, "j7iwjemuea57qram"),
]


@pytest.mark.parametrize(("changes", "key"), GOLDEN)
def test_golden_keys_never_change_or_everything_is_bought_again(changes: dict[str, object], key: str) -> None:
    assert keys(**changes) == [key]


def test_the_golden_key_of_a_second_sample() -> None:
    assert keys(samples=2) == ["7xwc2aodzmwzqoov", "55op5uzqyjrbcyek"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "b"},
        {"project": "zoo"},
        {"prompts": ["  A fox \n"]},
        {"prompts": [{"prompt": "A {{ animal }}", "vars": {"animal": ["fox"]}}]},
        {"limits": {"budget": 5, "concurrency": 2, "timeout": "5m"}},
        {"retry": {"attempts": 2, "on_unknown": "hold"}},
        {"output": {"path": "{{ name }}"}},
        {"request": {"user": "me", "safety_identifier": "x"}},
        {"operation": "generate"},
        {"samples": 1},
        {"matrix": {}},
        {"prompts": [{"prompt": "A fox", "id": "mine"}]},
        {"prompts": ["A fox", "A fox"]},
        {"matrix": {"target": [{"as": "any name", "provider": "openai"}]}},
        {"matrix": {"provider": ["openai"]}, "provider": None},
        {"matrix": {"model": ["gpt-image-2"], "include": []}},
    ],
)
def test_a_key_stays_when_something_else_is_asked_for(changes: dict[str, object]) -> None:
    assert keys(**changes) == keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": ["A  fox"]},
        {"prompts": ["a fox"]},
        {"model": "gpt-image-2-2026-04-21"},
        {"provider": "sandbox"},
        {"request": {"quality": "auto"}},
        {"request": {"n": 1}},
        {"request": {"output_format": "png"}},
        {"prompts": [{"prompt": "A fox", "quality": "low"}]},
        {"prompts": [{"prompt": "A fox", "model": "gpt-image-2.5"}]},
        {"matrix": {"target": [{"as": "a", "quality": "low"}]}},
        {"matrix": {"provider": ["sandbox"]}},
    ],
)
def test_a_key_changes_with_what_is_asked_for(changes: dict[str, object]) -> None:
    assert keys(**changes) != keys()


def test_three_samples_keep_the_keys_of_two() -> None:
    assert keys(samples=3)[:2] == keys(samples=2)
    assert len(set(keys(samples=3))) == 3


def test_an_axis_and_a_default_make_the_same_request() -> None:
    assert keys(matrix={"quality": ["low"], "size": ["auto"]}) == keys(request={"size": "auto", "quality": "low"})


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(list({**BASE, "matrix": 0, "request": 0, "samples": 0})), turned=st.booleans())
def test_keys_stay_whatever_the_order_of_the_yaml(order: list[str], turned: bool) -> None:
    matrix = {"size": SIZES[:2], "quality": QUALITIES}
    whole = {**BASE, "matrix": matrix, "request": {"n": 2, "background": "auto"}, "samples": 2}
    mixed = {name: whole[name] for name in order}
    if turned:
        mixed["matrix"] = dict(reversed(matrix.items()))
        mixed["request"] = {"background": "auto", "n": "2"}
    found = expand.tasks(manifest.loads(json.dumps(mixed), Path("x.yaml"), Setup({})))
    assert {task.key for task in found} == set(keys(**whole))


def test_u11_equal_rows_share_their_tasks() -> None:
    rows: dict[str, object] = {"prompts": ["A fox", " A fox", {"prompt": "A {{ a }}", "vars": {"a": ["fox", "heron"]}}]}
    found = tasks(**rows, samples=2)
    assert [(task.prompt, task.sample) for task in found] == [
        ("A fox", 1),
        ("A fox", 2),
        ("A heron", 1),
        ("A heron", 2),
    ]
    expansion = Expansion(read(**rows), Gallery(Path()))
    assert [first for _, first in expansion.distinct()] == [True, False, False, True]
    assert (expansion.rows, expansion.duplicates) == (4, 2)


def feed(folder: Path, *rows: dict[str, object]) -> manifest.Manifest:
    """A manifest whose rows come from a file, and set their size, quality and model where they have any."""
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    cells = {name: f"{{{{ {name} }}}}" for name in ("size", "quality", "model")}
    source = {"file": "p.jsonl", "prompt": "{{ text }}", "id": "{{ sku }}", **cells}
    request = {"quality": "low", "background": "auto"}
    text = json.dumps({**BASE, "prompts": [source], "request": request, "matrix": {"n": [1, 2]}})
    return manifest.loads(text, folder / "x.yaml", Setup({}))


def row(text: str, sku: str, **settings: str) -> dict[str, object]:
    return {"text": text, "sku": sku, "size": "", "quality": "", "model": "", **settings}


def test_what_a_row_sets_goes_before_the_request_and_groups_its_tasks(tmp_path: Path) -> None:
    rows = (row("A fox", "1"), row("A fox", "2", size="auto", quality="high", model="gpt-image-2.5"))
    found = [task.variant for task in expand.tasks(feed(tmp_path, *rows))]
    assert [(each.model, dict(each.params)) for each in found] == [
        ("gpt-image-2", {"background": "auto", "n": 1, "quality": "low"}),
        ("gpt-image-2", {"background": "auto", "n": 2, "quality": "low"}),
        ("gpt-image-2.5", {"background": "auto", "n": 1, "quality": "high", "size": "auto"}),
        ("gpt-image-2.5", {"background": "auto", "n": 2, "quality": "high", "size": "auto"}),
    ]
    assert [dict(each.axes) for each in found] == [
        {"n": 1, "quality": "low"},
        {"n": 2, "quality": "low"},
        {"n": 1, "size": "auto", "quality": "high"},
        {"n": 2, "size": "auto", "quality": "high"},
    ]


def test_rows_of_the_same_settings_share_a_variant(tmp_path: Path) -> None:
    """A ledger that knows a variant by its id() need not look it up for every task."""
    rows = [row(f"Fox {n}", f"{n}", size="auto" if n % 2 else "") for n in range(20)]
    found = list(expand.tasks(feed(tmp_path, *rows)))
    assert (len(found), len({id(task.variant) for task in found})) == (40, 4)


def test_a_key_is_the_same_whoever_sets_a_parameter(tmp_path: Path) -> None:
    fed = [task.key for task in expand.tasks(feed(tmp_path, row("A fox", "1", size="auto", quality="high")))]
    whole = {"background": "auto", "size": "auto", "quality": "high"}
    assert fed == keys(request=whole, matrix={"n": [1, 2]})
    tied = [{"as": "one", "n": 1, "quality": "high"}, {"as": "two", "n": 2, "quality": "high"}]
    assert fed == keys(request={"background": "auto", "size": "auto", "quality": "low"}, matrix={"target": tied})
    provided = [{"as": "a", "provider": "openai", "model": "gpt-image-2"}]
    assert keys() == keys(provider=None, model=None, matrix={"target": provided})


def test_rows_that_come_to_the_same_request_by_different_ways_are_one_task(tmp_path: Path) -> None:
    rows = (row("A fox", "1"), row("A fox", "2", quality="low"), row("A fox", "3", model="gpt-image-2"))
    found = [task.key for task in expand.tasks(feed(tmp_path, *rows))]
    assert len(found) == len(set(found)) == 2


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (
            {"target": [{"as": "plain", "model": "gpt-image-2"}, {"as": "cheap", "quality": "low"}]},
            "x.yaml:1:146: matrix.target.1: 'cheap' comes to the same request as 'plain': leave one of them out",
        ),
        (
            {"user": ["me", "you"]},
            "x.yaml:1:109: matrix.user.1: 'you' comes to the same request as 'me': leave one of them out",
        ),
    ],
)
def test_combinations_that_come_to_the_same_request_are_refused(matrix: dict[str, object], says: str) -> None:
    """By their names they differ; nobody wants to see one request counted twice."""
    with pytest.raises(ManifestError) as caught:
        read(matrix=matrix, request={"quality": "low"})
    assert caught.value.problems == (says,)


def test_rows_that_differ_in_what_makes_no_other_image_are_one_task() -> None:
    """Equal keys, so that it is bought once; nor may it be counted twice."""
    found = keys(prompts=["A fox", {"prompt": "A fox", "user": "me"}, {"prompt": "A fox", "user": "you"}])
    assert found == keys()


def test_what_is_tied_together_is_called_by_its_name() -> None:
    target = [{"as": "thumb", "size": "auto", "quality": "low"}, {"as": "Größe 1/2", "model": "gpt-image-2.5"}]
    found = tasks(matrix={"target": target, "n": [1]})
    assert [task.variant.axes for task in found] == [
        (("target", "thumb"), ("n", 1)),
        (("target", "Größe 1/2"), ("n", 1)),
    ]
    assert [task.path for task in found] == [f"a-fox/thumb-1-{found[0].key}", f"a-fox/Größe 1_2-1-{found[1].key}"]
    path = {"path": "{{ target }}/{{ size }}-{{ quality }}-{{ model }}"}
    named = tasks(matrix={"target": target, "n": [1]}, output=path)
    assert [task.path for task in named] == [
        f"thumb/auto-low-gpt-image-2-{found[0].key}",
        f"Größe 1_2/default-default-gpt-image-2.5-{found[1].key}",
    ]


def test_u7_a_billion_tasks_are_refused_before_a_row_is_made() -> None:
    values = [str(n) for n in range(1_000)]
    vars = dict.fromkeys("abc", values)
    start = time.perf_counter()
    with pytest.raises(ManifestError) as caught:
        tasks(prompts=[{"prompt": "{{ a }}{{ b }}{{ c }}", "vars": vars}])
    assert time.perf_counter() - start < 1
    assert caught.value.problems == ("x.yaml: 1,000,000,000 tasks or more: a job has at most 100,000,000",)


def test_u7_a_file_is_refused_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("".join(f"Fox {n}\n" for n in range(200)), "utf-8")
    text = json.dumps({**BASE, "prompts": [{"file": "p.txt"}], "samples": 1_000_000})
    with pytest.raises(ManifestError, match="101,000,000 tasks or more"):
        deque(Expansion(manifest.loads(text, tmp_path / "x.yaml", Setup({})), Gallery(tmp_path)).distinct(), maxlen=0)


def test_a_file_is_called_by_its_prompt_its_axes_and_its_key() -> None:
    (task,) = tasks(prompts=["A sea otter, on its back!"])
    assert task.path == f"a-sea-otter-on-its-back/{task.key}"
    task = tasks(matrix={"size": ["1024x1024"], "model": ["openai/m"], "quality": ["low"]}, samples=2)[1]
    assert task.path == f"a-fox/1024x1024-openai_m-low-2-{task.key}"


def test_a_path_can_use_whatever_makes_the_task() -> None:
    path = "{{ name }}/{{ provider }}-{{ model }}/"
    path += "{{ number }}-{{ animal }}-{{ size }}-{{ quality }}-{{ sample }}-{{ slug }}/{{ key }}"
    prompts = [{"prompt": "A {{ animal }}", "vars": {"animal": ["fox", "sea/otter"]}}]
    found = tasks(output={"path": path}, prompts=prompts, matrix={"size": ["auto"]}, request={"quality": "low"})
    assert [task.path for task in found] == [
        f"a/openai-gpt-image-2/1-fox-auto-low-1-a-fox/{found[0].key}",
        f"a/openai-gpt-image-2/2-sea_otter-auto-low-1-a-sea-otter/{found[1].key}",
    ]


def test_the_key_is_added_where_a_path_leaves_it_out() -> None:
    (task,) = tasks(output={"path": "{{ slug }}/image"})
    assert task.path == f"a-fox/image-{task.key}"
    (task,) = tasks(output={"path": "{{ key[:4] }}/{{ key | upper }}"})
    assert task.path == f"{task.key[:4]}/{task.key.upper()}-{task.key}"
    (task,) = tasks(output={"path": "images/"})
    assert task.path == f"images/-{task.key}"


def test_a_path_that_fails_for_a_row_is_told_with_its_place() -> None:
    prompts = [{"prompt": "A fox", "vars": {"a": ["1", "x"]}}]
    with pytest.raises(ManifestError, match=r"x.yaml:1:73: output.path: the template fails: "):
        tasks(prompts=prompts, output={"path": "{{ a / 2 }}"})


def test_a_row_with_a_name_has_a_folder_of_that_name(tmp_path: Path) -> None:
    one, two, other, _ = expand.tasks(feed(tmp_path, row("A fox", "SKU 47/11"), row("A heron", "..")))
    assert (one.path, two.path) == (f"SKU 47_11/1-low-{one.key}", f"SKU 47_11/2-low-{two.key}")
    assert other.path == f"_/1-low-{other.key}"
    own = {"prompts": [{"prompt": "A fox", "id": "mine/1"}, "A heron"], "output": {"path": "{{ id }}/{{ number }}"}}
    found = tasks(**own)
    assert [task.path for task in found] == [f"mine_1/1-{found[0].key}", f"a-heron/2-{found[1].key}"]


def test_equal_rows_are_in_the_folder_of_the_first_ones_name(tmp_path: Path) -> None:
    found = list(expand.tasks(feed(tmp_path, row("A fox", "first"), row("A fox", "second"))))
    assert {task.path.partition("/")[0] for task in found} == {"first"}


def test_a_rows_own_name_goes_before_ours_in_a_path() -> None:
    prompts = [{"prompt": "A fox", "vars": {"name": ["Reineke"], "key": ["mine"]}}]
    (task,) = tasks(output={"path": "{{ name }}-{{ key }}"}, prompts=prompts)
    assert task.path == f"Reineke-mine-{task.key}"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("../x", "_x"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        (".hidden", "hidden"),
        ("/etc/x", "_etc_x"),
        ("a/../../b", "a_.._.._b"),
        ("C:\\x", "C_x"),
        ("con", "_con"),
        ("CON.png", "_CON.png"),
        ("lpt1", "_lpt1"),
        ("console", "console"),
        ("a\0b\nc", "a_b_c"),
        ("\u202egpj.exe", "_gpj.exe"),
        ("a. .", "a"),
        ("e\u0301", "é"),
        ('<a:"b|c?*>', "_a_b_c_"),
    ],
)
def test_u10_a_name_stays_in_its_folder(text: str, safe: str) -> None:
    assert component(text) == safe


def test_u10_a_value_makes_no_folder() -> None:
    prompts = [{"prompt": "A fox {{ a }}", "vars": {"a": ["../../etc", "/etc/x", "..", "\\\\host\\x"]}}]
    found = tasks(output={"path": "{{ a }}/{{ key }}"}, prompts=prompts)
    assert [task.path.removesuffix(f"/{task.key}") for task in found] == ["_.._etc", "_etc_x", "_", "__host_x"]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300), key=st.sampled_from(["", "gbup4kw25sklmur3"]))
@example(text="." * 10, key="")
@example(text="🦊" * 100, key="gbup4kw25sklmur3")
def test_u10_any_text_makes_a_safe_component(text: str, key: str) -> None:
    name = component(f"{text}-{key}", key)
    assert 0 < len(name.encode()) <= COMPONENT_BYTES
    assert key in name
    assert not set(name) & set('/\\:<>"|?*\0\n')
    assert name[0] != "." and name[-1] not in ". "  # noqa: PT018
    assert name.isprintable() or not name.isascii()


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A sea otter on its back", "a-sea-otter-on-its-back"),
        ("  --Hello,   WORLD!!", "hello-world"),
        ("Grüße aus Köln", "grüße-aus-köln"),
        ("Cafe\u0301", "café"),
        ("狐狸在雪地里", "狐狸在雪地里"),
        ("हिन्दी में", "हिन्दी-में"),
        ("🦊🦊", "prompt"),
        ("...", "prompt"),
        ("../../etc/passwd", "etc-passwd"),
        ("CON", "con-"),
    ],
)
def test_a_slug_can_be_read(prompt: str, name: str) -> None:
    assert slug(prompt) == name


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_a_slug_is_short_normal_and_safe(prompt: str) -> None:
    name = slug(prompt)
    assert 0 < len(name.encode()) <= SLUG_BYTES + 1
    assert component(name) == name
    assert unicodedata.is_normalized("NFC", name)
    assert slug(name) == name or name == "prompt" or name.endswith("-")
