"""A manifest becomes frozen nouns, or every mistake in it with its line."""
# ruff: noqa: E501 (a mistake and its message stand in one line)

import json
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen import manifest
from batchgen.errors import ManifestError
from batchgen.manifest import Manifest, Setup
from batchgen.readers import Feed
from batchgen.sources import Cell, Source
from batchgen.task import Operation, Params, Variant
from batchgen.terms import Limits, Retry, Share

WHERE_IT_STANDS = ": it stands at the top of the manifest, or in every choice of an axis"
BASE = """\
name: animals
provider: openai
model: gpt-image-2
prompts:
  - A fox
"""
WHOLE = """\
name: animals
project: zoo
provider: openai
model: gpt-image-2
operation: generate
prompts:
  - A sea otter on its back
  - prompt: "An {{ style }} painting of a {{ animal }}"
    vars: {style: [oil, ink], animal: [fox, heron]}
    id: "{{ animal }}"
    background: opaque
    moderation: "{{ style }}"
  - {file: products.csv, prompt: "{{ sku }}", take: 500, shuffle: 7}
matrix:
  size: [1024x1024, 1536x1024]
  quality: [low, high]
  exclude: [{size: 1536x1024, quality: high}]
samples: 3
request: {output_format: jpeg, output_compression: 80}
limits: {concurrency: 16, budget: 1200.50, images: 12000, timeout: 10m}
retry: {attempts: 5, on_unknown: hold, duplicate_allowance: 1%}
output: {path: "{{ slug }}/{{ size }}-{{ key }}"}
"""


def read(text: str, overrides: dict[str, object] | None = None) -> Manifest:
    return manifest.loads(text, Path("jobs/x.yaml"), Setup({}, overrides or {}))


def axes(found: Manifest) -> list[Params]:
    return [variant.axes for variant in found.variants]


def params(found: Manifest) -> list[Params]:
    return [variant.params for variant in found.variants]


def refused(text: str, overrides: dict[str, object] | None = None) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(text, overrides)
    return list(caught.value.problems)


def test_a_whole_manifest() -> None:
    found = read(WHOLE)
    assert (found.name, found.project, found.samples) == ("animals", "zoo", 3)
    assert (found.file, found.text, found.overrides) == (Path("jobs/x.yaml"), WHOLE, {})
    assert [(name, each.identity) for name, each in found.providers.items()] == [("openai", "openai")]
    assert found.sources == SOURCES
    assert found.variants == tuple(
        Variant(
            "openai",
            "gpt-image-2",
            Operation.GENERATE,
            (("output_compression", 80), ("output_format", "jpeg"), ("quality", quality), ("size", size)),
            (("size", size), ("quality", quality)),
        )
        for size, quality in (("1024x1024", "low"), ("1024x1024", "high"), ("1536x1024", "low"))
    )
    assert found.limits == Limits(
        concurrency=16, budget=1_200_500_000_000, images=12_000, timeout=600.0, on_blocked="stop"
    )
    assert found.retry == Retry(attempts=5, on_unknown="hold", allowance=Share(Decimal("0.01")))
    assert found.output_path == "{{ slug }}/{{ size }}-{{ key }}"


SOURCES = (
    Source("jobs/x.yaml:7:5", text="A sea otter on its back"),
    Source(
        "jobs/x.yaml:8:5",
        prompt="An {{ style }} painting of a {{ animal }}",
        vars=(("style", ("oil", "ink")), ("animal", ("fox", "heron"))),
        id="{{ animal }}",
        cells=(
            Cell("background", "", None, "opaque"),
            Cell("moderation", "text", "{{ style }}"),
        ),
    ),
    Source(
        "jobs/x.yaml:13:5",
        prompt="{{ sku }}",
        feed=Feed(Path("jobs/products.csv"), "jobs/products.csv", "csv", False),
        take=500,
        shuffle="7",
    ),
)


def test_the_shortest_manifest_has_the_defaults() -> None:
    found = read(BASE)
    assert found.limits == Limits(concurrency=8, budget=None, images=None, timeout=600.0, on_blocked="stop")
    assert found.retry == Retry(attempts=4, on_unknown="retry", allowance=None)
    assert (found.project, found.samples, found.output_path) == ("", 1, None)
    assert found.variants == (Variant("openai", "gpt-image-2", Operation.GENERATE, (), ()),)


def test_a_section_without_content_is_as_good_as_none() -> None:
    assert read(BASE + "matrix:\nrequest:\nlimits:\n").variants == read(BASE).variants


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ("matrx: {}\n", "6:1: matrx: unknown key (did you mean matrix?)"),
        ("limits: {concurency: 4}\n", "6:10: limits.concurency: unknown key (did you mean concurrency?)"),
        ("request: {quality: hihg}\n", "6:20: request.quality: 'hihg' is not one of auto, low, medium, high (did you mean high?)"),
        ("matrix: {quality: [low, hihg]}\n", "6:25: matrix.quality.1: 'hihg' is not one of auto, low, medium, high (did you mean high?)"),
        ("request: {quality: max}\n", "6:20: request.quality: gpt-image-2 has no quality max (it has low, medium, high, auto)"),
        ("matrix: {size: 1024x1024}\n", "6:16: matrix.size: must be a list: [1024x1024]"),
        ("matrix: {size: []}\n", "6:16: matrix.size: has no values"),
        ("matrix: {size: [auto, auto]}\n", "6:23: matrix.size.1: 'auto' stands twice"),
        ("request: {size: 1024 x 1024}\n", "6:17: request.size: '1024 x 1024' is not a size such as 1024x1024 (did you mean 1024x1024?)"),
        ("request: {size: 1024×1024}\n", "6:17: request.size: '1024×1024' is not a size such as 1024x1024 (did you mean 1024x1024?)"),
        ("request: {size: 1000x1024}\n", "6:17: request.size: gpt-image-2 does not paint 1000x1024: width and height must be multiples of 16"),
        ("request: {size: 4096x1024}\n", "6:17: request.size: gpt-image-2 does not paint 4096x1024: no side may be longer than 3840; no side may be more than 3 times the other"),
        ("request: {size: 512x512}\n", "6:17: request.size: gpt-image-2 does not paint 512x512: 262,144 pixels are not between 655,360 and 8,294,400"),
        ("request: {n: 11}\n", "6:14: request.n: 11 is more than 10"),
        ("request: {n: two}\n", "6:14: request.n: 'two' is not a whole number"),
        ("request: {n: 1.5}\n", "6:14: request.n: '1.5' is not a whole number"),
        ("request: {n: true}\n", "6:14: request.n: 'true' is not a whole number"),
        ("request: {quality: }\n", "6:20: request.quality: is empty: give a value, or leave the key out"),
        ("request: {quality: [low, high]}\n", "6:20: request.quality: one value here; several go into the matrix: matrix: {quality: [low, high]}"),
        ("request: {complexity: low}\n", "6:23: request.complexity: gpt-image-2 has no complexity"),
        ("request: {model: x}\n", "6:11: request.model: model stands at the top of the manifest, or in the matrix"),
        ("request: {background: transparent, output_format: jpeg}\n", "6:23: request.background: a transparent background needs output_format png or webp: output_format is jpeg at line 6"),
        ("matrix: {output_compression: [50]}\n", "6:31: matrix.output_compression.0: output_compression is for jpeg and webp only: set output_format to jpeg or webp"),
        ("samples: 0\n", "6:10: samples: 0 is less than 1"),
        ("samples: three\n", "6:10: samples: 'three' is not a whole number"),
        ("samples: 2.5\n", "6:10: samples: 2.5 is not a whole number"),
        ("limits: {budget: $5}\n", "6:18: limits.budget: '$5' is not an amount in USD, such as 12.50 (write 5)"),
        ("limits: {budget: -1}\n", "6:18: limits.budget: -1 is not an amount in USD, such as 12.50"),
        ("limits: {timeout: 10 minutes}\n", "6:19: limits.timeout: '10 minutes' is not a time such as 90s, 10m or 1h (up to 24h) (did you mean 10m?)"),
        ("limits: {until: 420}\n", '6:17: limits.until: 420 is not a time such as "07:00" or "2026-11-22 07:00", by the clock of this machine (is 07:00 meant? Put it in quotes)'),
        ("limits: {until: 24:00}\n", """6:17: limits.until: '24:00' is not a time such as "07:00" or "2026-11-22 07:00", by the clock of this machine"""),
        ("limits: {until: }\n", "6:17: limits.until: is empty: give a value, or leave the key out"),
        ("limits: {timeout: 0}\n", "6:19: limits.timeout: 0 is not a time such as 90s, 10m or 1h (up to 24h)"),
        ("limits: {budget: }\n", "6:18: limits.budget: is empty: give a value, or leave the key out"),
        ("limits: {images: ~}\n", "6:18: limits.images: is empty: give a value, or leave the key out"),
        ("limits: [8]\n", "6:9: limits: must be a mapping"),
        ("limits: {concurrency: 0}\n", "6:23: limits.concurrency: 0 is less than 1"),
        ("retry: {on_unknown: no}\n", "6:21: retry.on_unknown: 'no' is not one of retry, hold"),
        ("retry: {duplicate_allowance: 101%}\n", "6:30: retry.duplicate_allowance: '101%' is neither a share such as 1% nor an amount in USD such as 12.50"),
        ("operation: edti\n", "6:12: operation: 'edti' is not one of generate, edit, vary (did you mean edit?)"),
        ("output: {path: ../x}\n", "6:16: output.path: must stay inside the images folder: no / at the beginning, no .."),
        ("output: {path: /etc/x}\n", "6:16: output.path: must stay inside the images folder: no / at the beginning, no .."),
        ('output: {path: "{{ key"}\n', "6:16: output.path: {{ is opened and not closed with }}"),
        ('output: {path: "{{ sampel }}"}\n', "6:16: output.path: {{ sampel }} (did you mean sample?) is not defined for the prompt at jobs/x.yaml:5:5"),
        ("  - A shirt with #1 on it\n", "6:5: prompts.1: '#1 on it' would be lost as a comment: put the text in quotes, or the comment on a line of its own"),
        ("  - prompt: A shirt with #1\n", "6:13: prompts.1.prompt: '#1' would be lost as a comment: put the text in quotes, or the comment on a line of its own"),
        ("  - A cat\n    - A dog\n", "6:5: prompts.1: the next line, with its -, became part of this text: indent both alike, or use quotes"),
        ("  - Sign: No entry\n", "6:5: prompts.1.Sign: the colon makes a mapping of this text: put it in quotes"),
        ("  - A sign that says: no\n", "6:5: prompts.1.A sign that says: the colon makes a mapping of this text: put it in quotes"),
        ("  - promt: A fox\n", "6:5: prompts.1.promt: unknown key (did you mean prompt?)"),
        ("  - #hashtag\n", "6:4: prompts.1: is empty; text that begins with # needs quotes"),
        ("  - ' '\n", "6:5: prompts.1: the prompt is empty"),
        ("  - [a, b]\n", "6:5: prompts.1: must be text or a mapping; text that begins with [ needs quotes"),
        ("  - {vars: {a: [b]}}\n", "6:5: prompts.1: needs prompt: or file:"),
        ("  - {prompt: 'A {{ animl }}', vars: {animal: [fox]}}\n", "6:14: prompts.1.prompt: {{ animl }} is not defined (did you mean animal?)"),
        ("  - {prompt: 'A {{ animal', vars: {animal: [fox]}}\n", "6:14: prompts.1.prompt: {{ is opened and not closed with }}"),
        ("  - {prompt: 'A {{ animal }}', vars: {animal: fox}}\n", "6:47: prompts.1.vars.animal: must be a list: [fox]"),
        ("  - {prompt: 'A {{ animal }}', vars: {animal: []}}\n", "6:47: prompts.1.vars.animal: has no values"),
        ("  - {file: notes.pdf}\n", "6:12: prompts.1.file: 'notes.pdf' is none of .txt, .csv, .tsv, .jsonl, nor one of them with .gz"),
        ("  - {file: a.txt, prompt: '{{ lin }}'}\n", "6:27: prompts.1.prompt: {{ lin }} is not defined (did you mean line?)"),
        ("  - {file: a.csv, vars: {a: [b]}}\n", "6:5: prompts.1: vars do not go with file: its columns are the variables"),
        ("  - {file: a.csv, shuffle: 7}\n", "6:5: prompts.1: shuffle needs take"),
        ("  - {prompt: A fox, take: 7}\n", "6:5: prompts.1: take, shuffle and format go with file"),
        ("matrix: {size: [auto], exclude: [{size: 1024x1024}]}\n", "6:41: matrix.exclude.0.size: excludes nothing: '1024x1024' is not one of auto"),
        ("matrix: {size: [auto], exclude: [{sise: auto}]}\n", "6:35: matrix.exclude.0.sise: the matrix has no axis 'sise' (did you mean size?)"),
        ("matrix: {size: [auto], exclude: [{size: auto}]}\n", "6:33: matrix.exclude: leaves no combination"),
        ("matrix: {size: [auto], exclude: [{}]}\n", "6:34: matrix.exclude.0: must be a mapping of axes and values"),
        ("matrix: {size: [auto], exclude: {size: auto}}\n", "6:33: matrix.exclude: must be a list of mappings"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(added: str, says: str) -> None:
    assert refused(BASE + added) == [f"jobs/x.yaml:{says}"]


@pytest.mark.parametrize("value", ["fine", "7", "[fine]"])
def test_what_is_to_be_a_mapping_is_told_with_its_place(value: str) -> None:
    own = "{dialect: openai, base_url: 'http://localhost/v1', parameters: {look: {kind: mapping}}}"
    (problem,) = refused(BASE.replace("openai", own, 1) + f"request: {{look: {value}}}\n")
    assert problem.startswith("jobs/x.yaml:6:17: request.look: ")
    assert value != "fine" or problem.endswith("must be a mapping")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("name: animals\n", "", "1:1: name: is missing"),
        ("provider: openai\n", "", "1:1: provider: is missing" + WHERE_IT_STANDS),
        ("model: gpt-image-2\n", "model:\n", "3:7: model: is empty" + WHERE_IT_STANDS),
        ("prompts:\n  - A fox\n", "prompts: []\n", "4:10: prompts: is empty"),
        (
            "prompts:\n  - A fox\n",
            "prompts: A fox\n",
            '4:10: prompts: must be a list: begin each prompt\'s line with "- "',
        ),
        (
            "openai",
            "opnai",
            "2:11: provider: 'opnai' is not one of openai, aimlapi, onerouter, myrouter, classic, azure, litellm, localai, vllm, sglang, sandbox (did you mean openai?)",
        ),
        (
            "model: gpt-image-2",
            "model: [a, b]",
            "3:8: model: one value here; several go into the matrix: matrix: {model: [a, b]}",
        ),
        ("A fox", "x" * 32_001, "5:5: prompts.0: the prompt has 32,001 characters, and openai takes at most 32,000"),
    ],
)
def test_a_mistake_in_what_is_needed(before: str, after: str, says: str) -> None:
    assert refused(BASE.replace(before, after)) == [f"jobs/x.yaml:{says}"]


def test_six_mistakes_are_told_at_once_from_top_to_bottom() -> None:
    text = """\
name: my animals
provider: openai
model: gpt-image-2
prompts:
  - A shirt with #1 on it
matrix:
  size: [1024x1024, 1000x1000]
  quality: [low, hihg]
limits:
  budget: lots
output: {path: "{{ qualty }}"}
"""
    assert [problem.split(": ")[0] for problem in refused(text)] == [
        "jobs/x.yaml:1:7",
        "jobs/x.yaml:5:5",
        "jobs/x.yaml:7:21",
        "jobs/x.yaml:8:18",
        "jobs/x.yaml:10:11",
        "jobs/x.yaml:11:16",
    ]


def test_a_stranger_among_parameters_is_told_with_its_nearest() -> None:
    assert refused(BASE + "matrix: {qualty: [low]}\n") == [
        "jobs/x.yaml:6:10: matrix.qualty: openai takes no qualty (did you mean quality?)"
    ]


def test_u1_text_stays_text() -> None:
    found = read(BASE.replace("gpt-image-2", "1.50").replace("animals", "012") + "  - 1984\n  - no\n  - 16:9\n")
    assert (found.name, found.variants[0].model) == ("012", "1.50")
    assert [source.text for source in found.sources] == ["A fox", "1984", "no", "16:9"]
    assert refused(BASE + "request: {background: no}\n") == [
        "jobs/x.yaml:6:23: request.background: 'no' is not one of auto, transparent, opaque"
    ]
    vars = read(BASE + "  - {prompt: '{{ year }}', vars: {year: [1990, 007, 1.10, true]}}\n").sources[1]
    assert vars.vars == (("year", ("1990", "007", "1.10", "true")),)


def test_values_have_one_spelling() -> None:
    assert params(read(BASE + "request: {n: '2', size: ' auto '}\n")) == [(("n", 2), ("size", "auto"))]


def test_a_rule_is_told_once_however_many_combinations_break_it() -> None:
    text = BASE + "matrix: {background: [transparent], output_format: [jpeg, png], quality: [low, medium, high]}\n"
    assert len(refused(text)) == 1
    kept = text.replace("}\n", ", exclude: [{output_format: jpeg}]}\n")
    assert len(axes(read(kept))) == 3


def test_an_axis_goes_before_the_request() -> None:
    text = BASE + "request: {output_format: jpeg}\nmatrix: {background: [transparent], output_format: [png]}\n"
    assert params(read(text)) == [(("background", "transparent"), ("output_format", "png"))]


def test_values_are_checked_against_each_model_that_they_meet() -> None:
    text = BASE + "matrix: {model: [gpt-image-2, gpt-image-2.5], quality: [low, max]}\n"
    assert refused(text) == [
        "jobs/x.yaml:6:62: matrix.quality.1: gpt-image-2 has no quality max (it has low, medium, high, auto)"
    ]
    read(text.replace("}\n", ", exclude: [{model: gpt-image-2, quality: max}]}\n"))


def test_a_model_of_a_fixed_size_list() -> None:
    (problem,) = refused(BASE.replace("gpt-image-2", "gpt-image-1-mini") + "request: {size: 2048x2048}\n")
    assert problem.endswith("one of auto, 1024x1024, 1536x1024, 1024x1536: the sizes of gpt-image-1-mini")


TIED = """\
matrix:
  target:
    - {as: thumb, size: 1024x1024, quality: low}
    - {as: poster, size: 1024x1536, model: gpt-image-2.5}
  background: [opaque, auto]
"""


def test_what_is_tied_together_varies_together_under_its_name() -> None:
    found = read(BASE + TIED)
    thumb, poster = (("quality", "low"), ("size", "1024x1024")), (("size", "1024x1536"),)
    assert [(each.model, each.params) for each in found.variants] == [
        (model, tuple(sorted((("background", background), *tied))))
        for model, tied in (("gpt-image-2", thumb), ("gpt-image-2.5", poster))
        for background in ("opaque", "auto")
    ]
    assert axes(found) == [
        (("target", name), ("background", background))
        for name in ("thumb", "poster")
        for background in ("opaque", "auto")
    ]


def test_an_exclusion_names_what_is_tied_together() -> None:
    found = read(BASE + TIED + "  exclude: [{target: poster, background: auto}]\n")
    assert [dict(each)["target"] for each in axes(found)] == ["thumb", "thumb", "poster"]


def test_a_combination_that_is_included_comes_last_and_may_bring_a_value_of_its_own() -> None:
    text = BASE + TIED + "  exclude: [{target: poster}]\n  include: [{target: poster, background: transparent}]\n"
    assert axes(read(text)) == [
        (("target", "thumb"), ("background", "opaque")),
        (("target", "thumb"), ("background", "auto")),
        (("target", "poster"), ("background", "transparent")),
    ]
    back = (
        BASE
        + "matrix: {size: [auto], quality: [low, high], exclude: [{quality: low}], include: [{size: auto, quality: low}]}\n"
    )
    assert [dict(each)["quality"] for each in axes(read(back))] == ["high", "low"]


PROVIDERS = """\
name: animals
prompts: [A fox]
matrix:
  provider:
    - openai
    - {name: near, dialect: openai, base_url: "http://localhost:1", parameters: {seed: {kind: integer}}}
  model: [gpt-image-2]
"""


def test_several_providers_are_asked_each_by_its_name() -> None:
    found = read(PROVIDERS)
    assert list(found.providers) == ["openai", "near"]
    assert [(each.provider, each.model, each.axes) for each in found.variants] == [
        (name, "gpt-image-2", (("provider", name), ("model", "gpt-image-2"))) for name in ("openai", "near")
    ]


def test_a_provider_that_no_combination_asks_is_none_of_the_jobs() -> None:
    left = PROVIDERS + "  exclude: [{provider: near}]\n"
    assert list(read(left).providers) == ["openai"]
    assert list(read(BASE + "matrix: {target: [{as: a, provider: sandbox}]}\n").providers) == ["sandbox"]


def test_a_provider_may_be_tied_to_its_model() -> None:
    tied = "matrix: {host: [{as: a, provider: openai, model: gpt-image-2}, {as: b, provider: sandbox, model: gpt-image-1.5}]}"
    found = read(f"name: animals\nprompts: [A fox]\n{tied}\n")
    assert [(each.provider, each.model) for each in found.variants] == [
        ("openai", "gpt-image-2"),
        ("sandbox", "gpt-image-1.5"),
    ]


def test_a_parameter_is_checked_at_each_provider_that_it_meets() -> None:
    assert refused(PROVIDERS + "request: {seed: 4}\n") == ["jobs/x.yaml:8:17: request.seed: openai takes no seed"]
    only_near = PROVIDERS + "  exclude: [{provider: openai}]\nrequest: {seed: 4}\n"
    assert params(read(only_near)) == [(("seed", 4),)]


def test_a_rehearsal_asks_the_sandbox_in_a_job_of_its_own() -> None:
    found = manifest.loads(PROVIDERS, Path("jobs/x.yaml"), Setup({}, rehearse=True))
    assert found.name == "animals.sandbox"
    assert {
        name: (each.base_url, each.api_key_env, each.pretend) for name, each in found.providers.items()
    } == dict.fromkeys(("sandbox:openai", "sandbox:near"), ("sandbox/openai/v1", "", True))
    assert {each.provider for each in found.variants} == set(found.providers)


def test_a_rehearsal_needs_no_leave_for_a_strange_host() -> None:
    own = "{dialect: openai, base_url: 'https://far.example', api_key_env: FAR_KEY}"
    text = BASE.replace("openai", own, 1)
    assert "If you know it and mean it: --trust-host far.example" in refused(text)[0]
    manifest.loads(text, Path("jobs/x.yaml"), Setup({}, rehearse=True))


def test_rows_may_set_parameters_each_for_itself() -> None:
    source = (
        "  - {file: a.csv, prompt: '{{ text }}', id: '{{ sku }}', size: '{{ size }}', model: '{{ model }}', n: 2}\n"
    )
    (_, found) = read(BASE + source).sources
    assert found.id == "{{ sku }}"
    assert found.cells == (
        Cell("size", "size", "{{ size }}"),
        Cell("model", "text", "{{ model }}"),
        Cell("n", "", None, 2),
    )
    read(BASE + source + 'output: {path: "{{ id }}/{{ size }}-{{ n }}"}\n')


def test_standard_input_is_a_source() -> None:
    (_, found) = read(BASE + "  - {file: '-', format: jsonl, prompt: '{{ text }}'}\n").sources
    assert found.feed
    assert (found.feed.name, found.feed.format) == ("standard input", "jsonl")


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ("matrix: {target: [{size: auto}]}\n", "6:19: matrix.target.0: needs a short name of its own: as: …"),
        ("matrix: {target: [{as: '', size: auto}]}\n", "6:19: matrix.target.0: needs a short name of its own: as: …"),
        ("matrix: {target: [{as: [a], size: auto}]}\n", "6:19: matrix.target.0: needs a short name of its own: as: …"),
        ("matrix: {target: [{as: a}]}\n", "6:19: matrix.target.0: sets nothing beside its name"),
        ("matrix: {target: [{as: a, size: auto}, {as: a, n: 2}]}\n", "6:40: matrix.target.1: the name 'a' stands twice"),
        ("matrix: {target: [{as: a, size: auto}, {as: b, size: auto}]}\n", "6:40: matrix.target.1: 'b' sets the same as 'a'"),
        ("matrix: {target: [{as: a, quality: hihg}]}\n", "6:36: matrix.target.0.quality: 'hihg' is not one of auto, low, medium, high (did you mean high?)"),
        ("matrix: {target: [{as: a, size: auto}], size: [1024x1024]}\n", "6:41: matrix.size: size is set by the axis target too, at jobs/x.yaml:6:19"),
        ("matrix: {target: [{as: a, size: auto}], exclude: [{target: b}]}\n", "6:60: matrix.exclude.0.target: excludes nothing: 'b' is not one of a"),
        ("matrix: {target: [{as: a, size: auto}], exclude: [{size: auto}]}\n", "6:52: matrix.exclude.0.size: the matrix has no axis 'size'"),
        ("matrix: {size: [auto], include: [{size: auto}]}\n", "6:34: matrix.include.0: is a combination that is there already"),
        ("matrix: {size: [auto], include: [{size: 1024x1024}, {size: 1024x1024}]}\n", "6:53: matrix.include.1: is a combination that is there already"),
        ("matrix: {size: [auto], n: [1], include: [{size: 1024x1024}]}\n", "6:42: matrix.include.0: names no n: a whole combination has every axis: add n: …"),
        ("matrix: {size: [auto], include: [{size: 10}]}\n", "6:41: matrix.include.0.size: '10' is not a size such as 1024x1024"),
        ("matrix: {size: [auto], include: [{size: 512x512}]}\n", "6:41: matrix.include.0.size: gpt-image-2 does not paint 512x512: 262,144 pixels are not between 655,360 and 8,294,400"),
        ("matrix: {target: [{as: a, size: auto}], include: [{target: b}]}\n", "6:60: matrix.include.0.target: 'b' is not one of a"),
        ("matrix: {size: [auto], include: {size: auto}}\n", "6:33: matrix.include: must be a list of mappings"),
        ("matrix: {include: [{size: auto}]}\n", "6:20: matrix.include.0: there is no axis"),
        ("matrix: {provider: [openai, opnai]}\n", "6:29: matrix.provider.1: 'opnai' is not one of openai, aimlapi, onerouter, myrouter, classic, azure, litellm, localai, vllm, sglang, sandbox (did you mean openai?)"),
        ("matrix: {provider: [openai, ~]}\n", "6:29: matrix.provider.1: is empty: name a provider"),
        ("  - {prompt: A fox, szie: auto}\n", "6:21: prompts.1.szie: unknown key (did you mean size?)"),
        ("  - {prompt: A fox, size: 10}\n", "6:27: prompts.1.size: '10' is not a size such as 1024x1024"),
        ("  - {prompt: A fox, size: '{{ a }}'}\n", "6:27: prompts.1.size: {{ a }} is not defined"),
        ("  - {prompt: A fox, id: '{{ a }}'}\n", "6:25: prompts.1.id: {{ a }} is not defined"),
        ("  - {prompt: A fox, id: [a]}\n", "6:25: prompts.1.id: must be text, not a list"),
        ("  - {file: a.csv, size: '{{ size }}'}\nmatrix: {size: [auto]}\n", "6:19: prompts.1.size: the matrix sets size too, at jobs/x.yaml:7:17: it comes from one of them"),
        ("  - {file: a.csv, format: pdf}\n", "6:27: prompts.1.format: 'pdf' is not one of txt, csv, tsv, jsonl"),
        ("  - {prompt: A fox, format: csv}\n", "6:5: prompts.1: take, shuffle and format go with file"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_matrix_or_of_a_row_is_told_with_its_place(added: str, says: str) -> None:
    assert refused(BASE + added) == [f"jobs/x.yaml:{says}"]


def test_two_providers_cannot_share_a_name() -> None:
    text = PROVIDERS.replace("    - openai", '    - {name: near, dialect: openai, base_url: "http://localhost:2"}')
    assert any(
        "two different providers are called near: give each a name: of its own" in each for each in refused(text)
    )


def test_every_choice_of_an_axis_must_have_what_the_top_lacks() -> None:
    text = BASE.replace("model: gpt-image-2\n", "") + "matrix: {target: [{as: a, model: gpt-image-2}, {as: b, n: 2}]}\n"
    assert refused(text) == [f"jobs/x.yaml:1:1: model: is missing{WHERE_IT_STANDS}"]
    read(text.replace("b, n: 2", "b, n: 2, model: gpt-image-2.5"))


def test_u7_a_huge_matrix_is_counted_and_never_made() -> None:
    numbers = ", ".join(map(str, range(100)))
    text = (
        BASE
        + f"matrix: {{output_compression: [{numbers}], frame_duration_ms: [{numbers}], n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], safety_identifier: [{numbers}]}}\n"
    )
    assert refused(text) == ["jobs/x.yaml:6:1: matrix: 10,000,000 combinations are more than 100,000"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../b", ".", "..", ".hidden", "a b", "x" * 101, "a\\b", "x."])
def test_u10_a_name_is_one_folder(name: str) -> None:
    assert "name: must be a folder's name" in refused(BASE.replace("animals", f"'{name}'"))[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- A fox\n", "a manifest begins with keys"),
        (BASE.encode("utf-16"), "the file is UTF-16: save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "the file is not UTF-8 text"),
        (b"name: a\0b", "holds the character U+0000"),
    ],
)
def test_u13_a_file_that_is_no_manifest(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(data)
    with pytest.raises(ManifestError, match=says.replace("+", r"\+")):
        manifest.load(file, Setup({}))


def test_u13_crlf_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert [source.text for source in manifest.load(file, Setup({})).sources] == ["A fox"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        manifest.load(tmp_path / "x.yaml", Setup({}))


def test_an_override_goes_before_the_file() -> None:
    found = read(BASE + "limits: {images: 3}\n", {"limits.budget": 5, "request.quality": "high", "name": "2024"})
    assert (found.limits.budget, found.limits.images) == (5_000_000_000, 3)
    assert (params(found), found.name) == ([(("quality", "high"),)], "2024")
    assert found.overrides == {"limits.budget": 5, "request.quality": "high", "name": "2024"}
    assert axes(read(BASE, {"matrix.size": "[auto, 1024x1024]"})) == [(("size", "auto"),), (("size", "1024x1024"),)]


def test_a_mistake_in_an_override_names_the_option() -> None:
    assert refused(BASE, {"request.quality": "hihg", "limits.x.y": 1, "samples": "0"}) == [
        "--set limits.x.y: limits.x: unknown key",
        "--set request.quality: request.quality: 'hihg' is not one of auto, low, medium, high (did you mean high?)",
        "--set samples: samples: 0 is less than 1",
    ]


WHERE = (
    "prompts",
    "matrix",
    "matrix.size",
    "matrix.target",
    "matrix.provider",
    "matrix.exclude",
    "matrix.include",
    "request",
    "request.n",
    "request.look",
    "provider",
    "limits",
)
KEYS = (
    "as",
    "provider",
    "id",
    "format",
    "prompt",
    "vars",
    "file",
    "take",
    "shuffle",
    "size",
    "quality",
    "n",
    "budget",
    "path",
    "dialect",
    "base_url",
    "price",
)
keys = st.sampled_from(KEYS) | st.text(max_size=3)
tops = st.sampled_from(("name", "model", "samples", "retry", "output", "operation", "project", "limits"))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(tops, anything, max_size=3), inner=anything, at=st.sampled_from(WHERE))
def test_whatever_a_manifest_holds_it_is_read_or_refused(changes: dict[str, object], inner: object, at: str) -> None:
    whole = {"name": "a", "provider": "openai", "model": "m", "prompts": ["A fox"], **changes}
    with suppress(ManifestError):
        read(json.dumps(whole, ensure_ascii=False), {at: inner})
