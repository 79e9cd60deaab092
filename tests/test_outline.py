"""A plan as it is told: its keys, its figures against the bill and against a reference, and that it writes nothing."""

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_offer import BAD_KEY, planned, said, two
from world import HERON, KEY, KEY_ENV, OTTER, World, many

from batchgen import catalog, compare, expand, manifest
from batchgen.catalog import Parameter, Price, Provider
from batchgen.errors import ManifestError
from batchgen.manifest import Manifest, Setup
from batchgen.task import canonical

KEYS = {
    "": "schema_version job rows duplicates tasks images todo done change cost time disk hosts groups warnings",
    "change": "new kept dropped causes",
    "cost": "low expected high currency prices_as_of unpriced_tasks pretend",
    "time": "expected_s limited_by",
    "disk": "expected_bytes free_bytes",
}
GROUP_KEYS = "axes provider model operation tasks new todo images low expected high"
SIZES, QUALITIES = ["1024x1024", "1536x1024", "1024x1536"], ["low", "medium", "high"]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("BAD_KEY", BAD_KEY)


def nano(usd: float) -> int:
    return round(usd * 1e9)


# the object


@pytest.mark.parametrize("flags", [(), ("--sample", "2"), ("--sandbox",), ("--set", "model=dall-e-9")])
def test_the_object_has_every_key_whatever_is_planned(world: World, flags: tuple[str, ...]) -> None:
    world.write(prompts=[OTTER, HERON, OTTER], matrix={"background": ["auto", "opaque"]}, request=None)
    for _ in range(2):
        plan = planned(world, "otters.yaml", *flags)
        for part, names in KEYS.items():
            assert set(names.split()) <= (plan[part] if part else plan).keys()
        assert {name for group in plan["groups"] for name in group} == set(GROUP_KEYS.split())
        assert (plan["schema_version"], plan["rows"], plan["duplicates"]) == (1, 3, 1)
        said(world, "run", "otters.yaml")


def check_figures(plan: dict[str, Any]) -> None:
    """What is told as a whole is the sum of its parts."""
    groups = plan["groups"]
    for name in ("tasks", "todo"):
        assert sum(group[name] for group in groups) == plan[name]
    assert sum(group["new"] for group in groups) == plan["change"]["new"]
    assert plan["change"]["new"] + plan["change"]["kept"] == plan["tasks"]
    assert plan["todo"] + plan["done"] <= plan["tasks"]
    for each in (plan["cost"], *groups):
        assert each["low"] <= each["expected"] <= each["high"]
    for name in ("low", "expected", "high"):
        assert sum(nano(group[name]) for group in groups) == nano(plan["cost"][name])


def test_the_figures_are_sums_and_the_bill_lies_between_them(world: World) -> None:
    world.write(prompts=many(3), matrix={"size": SIZES[:2], "quality": QUALITIES[:2]}, samples=2, request={"n": 2})
    spent = 0
    for flags in (("--set", "limits.images=6"), ("--sample", "5"), ()):
        rest = tuple(flag for flag in flags if not flag.startswith("--set") and "limits" not in flag)
        plan = planned(world, "otters.yaml", *rest)
        check_figures(plan)
        assert said(world, "run", "otters.yaml", *flags).returncode in (0, 4)
        if "--set" not in flags:
            assert nano(plan["cost"]["low"]) <= world.billed() - spent <= nano(plan["cost"]["high"])
        spent = world.billed()
    done = planned(world, "otters.yaml")
    check_figures(done)
    assert (done["todo"], done["done"], done["images"]) == (0, 24, 48)
    assert (done["cost"]["high"], done["time"]["expected_s"], done["hosts"]) == (0, 0, [])
    assert done["cost"]["pretend"] is False, "with nothing to do it is real money all the same"


def test_the_groups_have_as_many_images_as_the_whole(world: World) -> None:
    world.write(prompts=many(2))
    assert said(world, "run", "otters.yaml", "--set", "limits.images=1").returncode == 4
    plan = planned(world, "otters.yaml")
    assert sum(group["images"] for group in plan["groups"]) == plan["images"] == 2


# what is written


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file and folder, with what it holds and when it was changed; without what SQLite shares in memory."""
    return {
        str(path.relative_to(folder)): (_content(path), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.name.endswith(("-shm", "-wal"))
    }


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


PLANS = [(), ("--json",), ("--sample", "1"), ("--sandbox",), ("--set", "samples=9"), ("--runs", "elsewhere")]


@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "ran"])
def test_a_plan_writes_and_sends_nothing(world: World, ran: bool) -> None:
    (world.folder / "rows.csv").write_text("prompt,sku\nA fox,1\nA heron,2\n")
    path = str(world.write(prompts=[{"file": "rows.csv", "id": "{{ sku }}"}]))
    if ran:
        assert said(world, "run", path, "--set", "limits.images=1").returncode == 4
    before, charges = tree(world.folder), len(world.charges())
    for flags in PLANS:
        assert said(world, "plan", path, *flags).returncode == 0
    assert said(world, "plan", "runs/otters").returncode == (0 if ran else 2)
    assert (tree(world.folder), len(world.charges())) == (before, charges)


# the lines


def told(world: World, *flags: str, **changes: Any) -> str:
    plan = said(world, "plan", str(world.write(**changes)), *flags)
    assert plan.returncode == 0, plan.stderr
    return str(plan.stdout)


@pytest.mark.parametrize(
    ("changes", "flags", "says"),
    [
        ({}, (), r"^Run      /.*/runs/otters \(new\)$"),
        ({"prompts": [OTTER, OTTER, HERON]}, (), r"^Wanted   3 rows, 2 distinct, 2 tasks$"),
        ({"prompts": many(4)}, ("--sample", "3"), r"^Sample   3 tasks of 4 rows"),
        ({"prompts": many(4)}, (), r"\+4 new \$0\.02\d\d · 0 kept · 0 dropped · 4 to do$"),
        ({}, (), r"^Cost     about \$0\.0059 \(\$0\.0056 to \$0\.0066\), by prices of \d{4}-\d\d-\d\d$"),
        ({}, ("--sandbox",), r"^Cost     about \$0\.0059 of pretend money \("),
        ({"prompts": many(9), "limits": {"budget": 0.03}}, (), r"^Budget   \$0\.0300 for .*; it will not be enough$"),
        ({"limits": {"budget": 3}}, (), r"^Budget   \$3\.00 for the whole job, of which \$0\.00 is spent$"),
        ({"model": "dall-e-9", "request": None}, (), r"^Cost     1 task at a price that is not known$"),
        ({"model": "dall-e-9", "request": None}, (), r"^warning: the catalog does not know the model 'dall-e-9'"),
        ({"model": "gpt-image-1"}, (), r"^warning: the model 'gpt-image-1' was retired by OpenAI on 2026-10-23$"),
        ({}, (), r"^warning: gpt-image-2 is reckoned at OpenAI's prices"),
        ({}, (), rf"^Asks     pretend: http://127\.0\.0\.1:\d+, with the key in {KEY_ENV}$"),
        ({"provider": "openai"}, (), r"^Asks     openai: https://api\.openai\.com, with the key in OPENAI_API_KEY"),
        ({"provider": "sandbox"}, (), r"^Asks     sandbox: the sandbox on this machine, no key$"),
    ],
)
def test_a_plan_says_what_a_person_asks_first(
    world: World, changes: dict[str, Any], flags: tuple[str, ...], says: str
) -> None:
    assert re.search(says, told(world, *flags, **changes), re.MULTILINE)


def test_a_plan_of_what_is_done_says_so(world: World) -> None:
    world.run(prompts=many(2))
    lines = told(world, prompts=many(2)).splitlines()
    assert lines[0].endswith("runs/otters (resumed)")
    assert [line.split()[0] for line in lines] == ["Run", "Wanted", "+0"]
    assert lines[2].strip() == "+0 new · 2 kept · 0 dropped · 0 to do"


def test_what_answers_taught_is_said(world: World) -> None:
    world.run(prompts=many(4), limits={"images": 2})
    assert ", as 2 answers came to" in told(world, prompts=many(4))


def test_only_answers_that_count_are_said_to(world: World) -> None:
    changes = two(world, api_key_env="BAD_KEY")
    world.write(**changes)
    assert said(world, "run", "otters.yaml").returncode == 5
    assert "answers came to" not in told(world, **changes)


def test_a_plan_shows_no_control_characters(world: World) -> None:
    model = "m\u202e\x1b[31m"
    path = world.write(request=None, limits={"images": 1})
    path.write_text(path.read_text().replace("gpt-image-2", json.dumps(model.replace("\x1b", "\\e"))))
    said_ = said(world, "plan", str(path))
    assert "\x1b" not in said_.stdout + said_.stderr
    assert "\u202e" not in said_.stdout + said_.stderr


# the expansion, against a reference

Settings = Mapping[str, object]
TARGETS: list[dict[str, object]] = [
    {"as": "plain", "model": "gpt-image-2"},
    {"as": "web", "model": "gpt-image-2", "output_format": "webp"},
    {"as": "squeezed", "model": "gpt-image-2", "output_format": "jpeg", "output_compression": 50},
    {"as": "next", "model": "gpt-image-2.5"},
]
AXES: dict[str, list[Any]] = {
    "size": SIZES,
    "quality": QUALITIES,
    "n": [1, 2, 3],
    "target": TARGETS,
}


def label(value: object) -> object:
    return value["as"] if isinstance(value, dict) else value


def flat(cell: Settings, choices: Mapping[str, Sequence[Any]]) -> dict[str, object]:
    """What a combination of labels sets; what is tied together is spelled out."""
    found: dict[str, object] = {}
    for axis, said_ in cell.items():
        value = next((each for each in choices[axis] if label(each) == said_), said_)
        found |= {k: v for k, v in value.items() if k != "as"} if isinstance(value, dict) else {axis: value}
    return found


def reference(matrix: Mapping[str, Any]) -> list[dict[str, object]]:
    """Every combination that no exclusion fits, and every one that is included."""
    axes = {name: values for name, values in matrix.items() if name not in ("exclude", "include")}
    cells = [dict(zip(axes, cell, strict=True)) for cell in product(*([label(v) for v in vs] for vs in axes.values()))]
    kept = [cell for cell in cells if not any(out.items() <= cell.items() for out in matrix.get("exclude", ()))]
    return [flat(cell, axes) for cell in [*kept, *matrix.get("include", ())]]


@st.composite
def matrices(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(list(AXES)), unique=True, max_size=4))
    axes = {name: draw(st.lists(st.sampled_from(AXES[name]), min_size=1, unique_by=str)) for name in names}
    cells = [dict(zip(axes, cell, strict=True)) for cell in product(*([label(v) for v in vs] for vs in axes.values()))]
    matrix: dict[str, Any] = dict(axes)
    if axes:
        drawn = st.builds(lambda cell, some: {name: cell[name] for name in some}, st.sampled_from(cells), _some(names))
        matrix["exclude"] = draw(st.lists(drawn, max_size=2))
        there = [each for each in cells if not _out(each, matrix["exclude"])]
        whole = st.fixed_dictionaries({name: st.sampled_from([label(v) for v in _known(axes, name)]) for name in names})
        fresh = draw(st.lists(whole, max_size=2, unique_by=canonical))
        matrix["include"] = [cell for cell in fresh if cell not in there]
    return matrix


def _some(names: Sequence[str]) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(list(names)), min_size=1)


def _out(cell: Settings, exclude: Sequence[Settings]) -> bool:
    return any(partial.items() <= cell.items() for partial in exclude)


def _known(axes: Mapping[str, list[Any]], name: str) -> list[Any]:
    """What a combination may include: any value of a parameter, but only what the axis has of what is tied."""
    return axes[name] if name == "target" else AXES[name]


SOURCES: list[Any] = [
    OTTER,
    {"prompt": HERON, "background": "opaque"},
    {"prompt": "{{ a }} otter", "vars": {"a": ["A sea", "A river"]}},
    {"prompt": "A {{ a }}", "vars": {"a": ["fox", "carp"], "b": ["", "opaque"]}, "background": "{{ b }}"},
    {"prompt": OTTER, "moderation": "low"},
]


def reference_rows(source: Any) -> Iterator[tuple[str, dict[str, object]]]:
    """The prompts of a source, with what each sets for itself."""
    if isinstance(source, str):
        yield source, {}
        return
    names = source.get("vars", {})
    for values in product(*names.values()):
        own = dict(zip(names, values, strict=True))
        filled = {name: _filled(text, own) for name, text in source.items() if name != "vars"}
        yield filled.pop("prompt"), {name: value for name, value in filled.items() if value}


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{{ {name} }}}}", value)
    return text


def read(**changes: object) -> Manifest:
    base = {"name": "a", "provider": "openai", "model": "gpt-image-2", "prompts": [OTTER]}
    return manifest.loads(json.dumps({**base, **changes}, ensure_ascii=False), Path("x.yaml"), Setup({}))


def requests(found: Manifest) -> list[str]:
    """What each task asks for, in one spelling."""
    return [
        canonical([each.prompt, each.sample, {"model": each.variant.model, **dict(each.variant.params)}])
        for each in expand.tasks(found)
    ]


@settings(max_examples=120, deadline=None)
@given(
    matrix=matrices(),
    prompts=st.lists(st.sampled_from(SOURCES), min_size=1, max_size=4),
    samples=st.integers(1, 3),
    request=st.sampled_from([{}, {"quality": "low"}, {"background": "auto", "size": "auto"}, {"moderation": "low"}]),
)
def test_the_expansion_is_what_ten_lines_of_matrix_algebra_make(
    matrix: dict[str, Any], prompts: list[Any], samples: int, request: dict[str, object]
) -> None:
    rows = [row for source in prompts for row in reference_rows(source)]
    wanted = {
        canonical([prompt, sample, {"model": "gpt-image-2", **request, **cell, **own}])
        for prompt, own in rows
        for cell in reference(matrix)
        for sample in range(1, samples + 1)
    }
    changes = {"matrix": matrix, "prompts": prompts, "samples": samples, "request": request}
    if not reference(matrix):
        with pytest.raises(ManifestError, match="leaves no combination"):
            read(**changes)
        return
    found = read(**changes)
    assert set(requests(found)) == wanted
    assert len(keys(found)) == len(wanted)
    assert compare.survey(found, None).tasks >= len(wanted)


# keys

WHOLE: dict[str, Any] = {
    "name": "a",
    "provider": "openai",
    "model": "gpt-image-2",
    "prompts": [OTTER, {"prompt": "A {{ a }}", "vars": {"a": ["fox", "16:9"]}, "moderation": "low"}, HERON],
    "matrix": {"size": SIZES, "quality": ["low", "high"], "exclude": [{"size": SIZES[0], "quality": "high"}]},
    "request": {"background": "opaque", "n": 2},
}


def keys(found: Manifest) -> frozenset[str]:
    return frozenset(task.key for task in expand.tasks(found))


def mixed(value: Any, chance: random.Random, rows: bool = True) -> Any:
    """The same mapping with its keys, and the rows, in another order."""
    if isinstance(value, dict):
        names = chance.sample(list(value), len(value))
        return {name: mixed(value[name], chance, name in ("prompts", "size", "quality")) for name in names}
    if isinstance(value, list):
        return [mixed(each, chance) for each in (chance.sample(value, len(value)) if rows else value)]
    return value


@settings(max_examples=60, deadline=None)
@given(
    chance=st.randoms(use_true_random=False),
    flow=st.sampled_from([None, True, False]),
    style=st.sampled_from([None, '"', "'"]),
    width=st.sampled_from([20, 80, 4000]),
    indent=st.integers(2, 6),
)
def test_no_spelling_of_a_manifest_buys_anything_again(
    chance: random.Random, flow: bool | None, style: str | None, width: int, indent: int
) -> None:
    text = yaml.dump(
        mixed(WHOLE, chance), default_flow_style=flow, default_style=style, width=width, indent=indent, sort_keys=False
    ).replace("!!int ", "")
    assert keys(manifest.loads(text, Path("elsewhere/y.yaml"), Setup({}))) == keys(read(**WHOLE))


HOSTS = [
    ("https://proxy.example/v1", "https://Proxy.Example/v1"),
    ("https://proxy.example/v1", "https://proxy.example:443/v1"),
    ("https://api.openai.com/v1", "https://API.openai.com/v1"),
]


@pytest.mark.parametrize(("one", "other"), HOSTS)
def test_no_spelling_of_a_host_buys_anything_again(one: str, other: str) -> None:
    text = json.dumps(WHOLE)
    first, second = (manifest.loads(text, Path("x.yaml"), Setup({"OPENAI_BASE_URL": url})) for url in (one, other))
    assert keys(first) == keys(second)


def test_no_line_end_of_a_file_buys_anything_again(tmp_path: Path) -> None:
    found = []
    for end in ("\n", "\r\n"):
        (tmp_path / "rows.csv").write_bytes(f'prompt{end}"A fox{end}in the snow"{end}A heron{end}'.encode())
        text = json.dumps({**WHOLE, "prompts": [{"file": "rows.csv"}]})
        found.append(keys(manifest.loads(text, tmp_path / "x.yaml", Setup({}))))
    assert found[0] == found[1]


def more_parameters(entry: Provider) -> Provider:
    seed = {"seed": Parameter(kind="integer"), "style": Parameter(kind="text", values=("vivid", "natural"))}
    return replace(entry, parameters={**seed, **entry.parameters})


def fewer_rules(entry: Provider) -> Provider:
    return replace(entry, rules=(), prompt_most=64_000, keepalive=9.0, idempotency=86_400.0, document="newer")


def priced(entry: Provider) -> Provider:
    return replace(entry, price=Price(image=0.5), prices="", hosts=("api.openai.com", "new.openai.com"))


def wider(entry: Provider) -> Provider:
    values = {name: replace(each, values=()) for name, each in entry.parameters.items() if each.kind != "size"}
    return replace(entry, parameters={**entry.parameters, **values})


@pytest.mark.parametrize("change", [more_parameters, fewer_rules, priced, wider])
def test_a_newer_catalog_buys_nothing_again(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    before = keys(read(**WHOLE))
    known = {name: change(entry) for name, entry in catalog.providers().items()}
    monkeypatch.setattr(catalog, "providers", lambda: {"newcomer": known["openai"], **known})
    assert keys(read(**WHOLE)) == before


def test_nor_does_one_that_forgets_or_learns_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(read(**WHOLE))
    for models in ({}, {**catalog.models(), "gpt-image-2": catalog.models()["gpt-image-2.6"]}):
        monkeypatch.setattr(catalog, "models", lambda models=models: models)
        monkeypatch.setattr(catalog, "price_lists", dict)
        assert keys(read(**WHOLE)) == before


def test_what_comes_to_the_same_request_is_counted_once_or_refused() -> None:
    """By the row or by `request`: one task. By what only travels with it, such as a user's name: no axis."""
    found = read(prompts=[OTTER, {"prompt": OTTER, "quality": "low"}], request={"quality": "low"})
    assert (len(keys(found)), compare.survey(found, None).tasks, len(list(expand.tasks(found)))) == (1, 1, 1)
    with pytest.raises(ManifestError, match="comes to the same request as 'ann'"):
        read(matrix={"user": ["ann", "bob"]})
