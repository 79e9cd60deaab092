"""The JSON Schema for editors: it knows all that forms and catalog know, and underlines nothing that a run takes."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from batchgen import catalog, document, form, manifest, schema, wording
from batchgen.catalog import Intake, Parameter, Price, Provider, Rule
from batchgen.commands.schema import command
from batchgen.errors import ManifestError

ROOT = Path(__file__).parents[1]
BASE = """\
name: animals
provider: openai
model: gpt-image-2
prompts:
  - A fox
"""
OWN = "{dialect: openai, base_url: 'http://localhost/v1', parameters: {steps: {kind: integer}, quality: {kind: text}}}"
LOOKS = "{dialect: openai, base_url: 'http://localhost/v1', parameters: {look: {kind: mapping}}}"


@cache
def whole() -> dict[str, Any]:
    return schema.build()


@cache
def validator() -> Draft7Validator:
    return Draft7Validator(whole())


def places(value: object) -> list[str]:
    """What an editor would underline: dotted paths, with the key that is missing or a stranger."""
    found = set()
    for error in validator().iter_errors(value):
        path = [str(step) for step in error.absolute_path]
        if error.validator == "additionalProperties":
            path += list(error.instance.keys() - error.schema["properties"].keys())
        elif error.validator == "required":
            path += re.findall("^'(.+)' is", error.message)
        found.add(".".join(path))
    return sorted(found)


def readings(text: str) -> Iterator[object]:
    """What batchgen reads in a manifest, and what an editor does, which knows no dates."""
    yield document.parse(text, "x.yaml").value
    yield json.loads(json.dumps(yaml.safe_load(text), default=str))


def underlined(text: str) -> list[str]:
    return sorted({place for value in readings(text) for place in places(value)})


def read(text: str) -> None:
    """What a run does with it; ManifestError where it is none."""
    manifest.loads(text, Path("jobs/x.yaml"), manifest.Setup(environ={}))


def readme() -> Iterator[str]:
    """Its manifest; its further sources, and each of its other lines, in a manifest."""
    for block in re.findall("```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        if block.startswith("name:"):
            yield block
        elif block.startswith("  - "):
            yield BASE + block
        else:
            for line in block.splitlines(keepends=True):
                yield BASE.replace("provider: openai\n", line) if line.startswith("provider") else BASE + line


def test_it_is_a_schema_of_draft_07() -> None:
    Draft7Validator.check_schema(whole())
    assert whole()["$schema"] == "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize("file", [*ROOT.glob("jobs/*.yaml"), *ROOT.glob("batchgen/*.yaml")], ids=lambda path: path.name)
def test_our_own_manifests_are_not_underlined(file: Path) -> None:
    assert underlined(file.read_text(encoding="utf-8")) == []


def test_the_readmes_manifests_are_not_underlined() -> None:
    for text in readme():
        assert underlined(text) == [], text


def test_no_key_of_a_form_is_forgotten() -> None:
    keys, parts = whole()["properties"], whole()["definitions"]
    assert keys.keys() == form.TopForm.model_fields.keys() == wording.TOP.keys()
    assert keys["limits"]["properties"].keys() == form.LimitsForm.model_fields.keys() == wording.LIMITS.keys()
    assert keys["retry"]["properties"].keys() == form.RetryForm.model_fields.keys() == wording.RETRY.keys()
    assert keys["output"]["properties"].keys() == form.OutputForm.model_fields.keys() == wording.OUTPUT.keys()
    assert keys["notify"]["properties"].keys() == form.NotifyForm.model_fields.keys() == wording.NOTIFY.keys()
    names, refined, own = parts["provider"]["anyOf"]
    assert names == {"enum": [*catalog.providers()]}
    assert refined["properties"].keys() == form.RefinedForm.model_fields.keys()
    assert own["properties"].keys() == form.ProviderForm.model_fields.keys() == wording.PROVIDER.keys()
    for name, noun, says in (
        ("price", Price, wording.PRICE),
        ("parameter", Parameter, wording.PARAMETER),
        ("intake", Intake, wording.INTAKE),
    ):
        assert parts[f"provider.{name}"]["properties"].keys() == {each.name for each in fields(noun)} == says.keys()
    assert parts["provider.rule"]["properties"].keys() == {"if", "then", "says"} == wording.RULE.keys()
    assert len(fields(Rule)) == 3
    assert form.SourceForm.model_fields.keys() == wording.SOURCE.keys()


def sections(branch: str) -> dict[str, Any]:
    """prompts, matrix and request, where the catalog knows every parameter (`then`), or where it does not (`else`)."""
    (found,) = [each[branch]["properties"] for each in whole()["allOf"] if "else" in each]
    return dict(found)


@pytest.mark.parametrize("branch", ["then", "else"])
def test_no_parameter_of_the_catalog_is_forgotten(branch: str) -> None:
    taken = {name for provider in catalog.providers().values() for name in provider.parameters}
    found = sections(branch)
    source = found["prompts"]["items"]["properties"]
    assert found["request"]["properties"].keys() == taken
    assert source.keys() == {*form.SourceForm.model_fields, *taken, "model"}
    assert found["matrix"]["properties"].keys() == {*taken, "model", "provider", "exclude", "include"}
    assert whole()["definitions"]["matrix.choice"]["properties"].keys() == {*taken, "model", "provider", "as"}
    assert taken == wording.REQUEST.keys(), "say in wording.REQUEST what it is for"


def test_every_key_has_a_sentence() -> None:
    for name, key in keys(whole(), whole()):
        says = key.get("description", "")
        assert re.fullmatch(r"\S.{10,220}[.]", says), f"{name}: {says!r}"


def keys(node: Mapping[str, Any], root: Mapping[str, Any], found: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that can be written, but for the parts of conditions."""
    for name, key in node.get("properties", {}).items():
        resolved = root["definitions"][key["$ref"].split("/")[-1]] if "$ref" in key else key
        yield f"{found}.{name}", resolved
        yield from keys(resolved, root, f"{found}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(inner := node.get(part), dict):
            yield from keys(inner, root, f"{found}.{part}")
    for inner in (*node.get("anyOf", ()), *node.get("definitions", {}).values()):
        yield from keys(inner, root, found)


def test_defaults_are_those_of_the_forms() -> None:
    known = whole()["properties"]
    assert known["samples"]["default"] == form.TopForm.model_fields["samples"].default
    for name, each in (
        ("limits", form.LimitsForm),
        ("retry", form.RetryForm),
        ("output", form.OutputForm),
        ("notify", form.NotifyForm),
    ):
        for key, field in each.model_fields.items():
            assert known[name]["properties"][key].get("default") == field.default
    assert "Default: 8." in known["limits"]["properties"]["concurrency"]["description"]


def takes(name: str, value: object, built: Mapping[str, Any]) -> bool:
    return Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": built["definitions"]}).is_valid(value)


def test_every_value_of_the_catalog_can_be_written_and_no_other() -> None:
    for provider in catalog.providers().values():
        for name, parameter in provider.parameters.items():
            written = [*parameter.values, *(edge for edge in (parameter.least, parameter.most) if edge is not None)]
            assert all(takes(name, value, whole()) for value in written), name
    names = [
        *catalog.providers(),
        *catalog.models(),
        *(also for model in catalog.models().values() for also in model.also),
        *(name for provider in catalog.providers().values() for name in provider.models),
    ]
    listed = [whole()["definitions"][name]["anyOf"][0]["enum"] for name in ("provider", "model")]
    assert sorted(names) == sorted(word for words in listed for word in words)
    assert not takes("quality", "hihg", whole())
    assert not takes("n", 0, whole())


@pytest.fixture
def wider(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The schema of a catalog with a second host, which sees some things in another way."""
    more = {
        "n": Parameter("integer", least=1, most=4),
        "size": Parameter("size", values=("512x512", "64x64")),
        "quality": Parameter("text", values=("hd", "2")),
        "background": Parameter("flag"),
        "guidance": Parameter("number", least=0),
    }
    first: Provider = catalog.providers()["openai"]
    both = {"openai": first, "host": replace(first, name="host", parameters=more)}
    monkeypatch.setattr(catalog, "providers", lambda: both)
    return schema.build()


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("n", [1, "10", 10], [0, 11, 1.5, "x", None, True]),
        ("size", ["auto", "512x512", "4096x1024", "match"], ["512", 512, "1024 x 1024", None]),
        ("quality", ["low", "hd", "2", 2], ["hdd", 3, None, []]),
        ("background", ["opaque", True, "false"], ["yes", 1]),
        ("guidance", [0, 7.5, "7.5"], [-1, "high", None]),
    ],
)
def test_hosts_that_differ_are_taken_together(
    wider: dict[str, Any], name: str, right: list[object], wrong: list[object]
) -> None:
    Draft7Validator.check_schema(wider)
    assert [value for value in right if not takes(name, value, wider)] == []
    assert [value for value in wrong if takes(name, value, wider)] == []


@pytest.mark.parametrize(
    ("added", "place"),
    [
        ("matrx: {}\n", "matrx"),
        ("samples: 0\n", "samples"),
        ("samples: three\n", "samples"),
        ("samples: 2.5\n", "samples"),
        ("operation: paint\n", "operation"),
        ("operation: edit\n", "prompts.0"),
        ("operation: vary\n", "prompts.0"),
        ("project: [a]\n", "project"),
        ("limits: [8]\n", "limits"),
        ("limits: {concurency: 4}\n", "limits.concurency"),
        ("limits: {concurrency: 0}\n", "limits.concurrency"),
        ("limits: {concurrency: many}\n", "limits.concurrency"),
        ("limits: {budget: $5}\n", "limits.budget"),
        ("limits: {budget: -1}\n", "limits.budget"),
        ("limits: {budget: }\n", "limits.budget"),
        ("limits: {timeout: 10 minutes}\n", "limits.timeout"),
        ("limits: {timeout: 0}\n", "limits.timeout"),
        ("limits: {timeout: 100000}\n", "limits.timeout"),
        ("limits: {until: 25:00}\n", "limits.until"),
        ("limits: {until: 20261122}\n", "limits.until"),
        ("limits: {until: 2026-11-22}\n", "limits.until"),
        ("retry: {on_unknown: never}\n", "retry.on_unknown"),
        ("retry: {duplicate_allowance: 101%}\n", "retry.duplicate_allowance"),
        ("retry: {attempts: 1000}\n", "retry.attempts"),
        ("output: {partials: often}\n", "output.partials"),
        ("output: {store: /srv/images}\n", "output.store"),
        ("output: {partial: true}\n", "output.partial"),
        ("output: {path: ../x}\n", "output.path"),
        ("output: {path: a/../../x}\n", "output.path"),
        ("output: {path: /etc/x}\n", "output.path"),
        ("notify: {}\n", "notify.command"),
        ("notify: {format: json}\n", "notify.command"),
        ("notify: {url: 'https://host'}\n", "notify.command notify.url"),
        ("notify: {url_env: 'https://host'}\n", "notify.url_env"),
        ("notify: {command: say it}\n", "notify.command"),
        ("notify: {command: []}\n", "notify.command"),
        ("notify: {command: [[say]]}\n", "notify.command.0"),
        ("notify: {command: [say], format: xml}\n", "notify.format"),
        ("notify: {command: [say], 'on': end}\n", "notify.on"),
        ("notify: {command: [say], 'on': [ended]}\n", "notify.on.0"),
        ("request: {quality: hihg}\n", "request.quality"),
        ("request: {qualty: low}\n", "request.qualty"),
        ("request: {model: gpt-image-2}\n", "request.model"),
        ("request: {size: 1024 x 1024}\n", "request.size"),
        ("request: {size: 1000}\n", "request.size"),
        ("request: {n: 0}\n", "request.n"),
        ("request: {output_compression: 101}\n", "request.output_compression"),
        ("request: {size: matched}\n", "request.size"),
        ("request: {stream: often}\n", "request.stream"),
        ("request: {input_fidelty: high}\n", "request.input_fidelty"),
        ("request: {n: two}\n", "request.n"),
        ("request: {quality: [low, high]}\n", "request.quality"),
        ("request: {quality: '{{ quality }}'}\n", "request.quality"),
        ("request: {quality: }\n", "request.quality"),
        ("matrix: {size: 1024x1024}\n", "matrix.size"),
        ("matrix: {size: []}\n", "matrix.size"),
        ("matrix: {quality: [low, hihg]}\n", "matrix.quality.1"),
        ("matrix: {quality: [low, {as: best, quality: hihg}]}\n", "matrix.quality.1"),
        ("matrix: {qualty: [low]}\n", "matrix.qualty.0"),
        ("matrix: {target: [{as: a, qualty: low}]}\n", "matrix.target.0.qualty"),
        ("matrix: {target: [{as: a, provider: opnai}]}\n", "matrix.target.0.provider"),
        ("matrix: {target: [{quality: low, n: 2}]}\n", "matrix.target.0.as"),
        ("matrix: {target: [{as: a}]}\n", "matrix.target.0"),
        ("matrix: {size: [auto, 1024x1024], exclude: {size: auto}}\n", "matrix.exclude"),
        ("matrix: {size: [auto, 1024x1024], exclude: [auto]}\n", "matrix.exclude.0"),
        ("matrix: {size: [auto, 1024x1024], include: [{}]}\n", "matrix.include.0"),
        ("  - promt: A fox\n    vars: {a: [b]}\n", "prompts.1 prompts.1.promt"),
        ("  - Sign: No entry\n", "prompts.1 prompts.1.Sign"),
        ("  - [a, b]\n", "prompts.1"),
        ("  -\n", "prompts.1"),
        ("  - ' '\n", "prompts.1"),
        ("  - {vars: {a: [b]}}\n", "prompts.1"),
        ("  - {prompt: '{{ a }}', vars: {a: fox}}\n", "prompts.1.vars.a"),
        ("  - {prompt: '{{ a }}', vars: {a: []}}\n", "prompts.1.vars.a"),
        ("  - {prompt: A fox, vars: {my animal: [fox]}}\n", "prompts.1.vars"),
        ("  - {file: notes.pdf}\n", "prompts.1.file"),
        ("  - {file: notes, format: pdf}\n", "prompts.1.format"),
        ("  - {file: a.csv, vars: {a: [b]}}\n", "prompts.1"),
        ("  - {file: a.csv, shuffle: 7}\n", "prompts.1"),
        ("  - {file: a.csv, take: 0}\n", "prompts.1.take"),
        ("  - {prompt: A fox, take: 7}\n", "prompts.1"),
        ("  - {prompt: A fox, n: two}\n", "prompts.1.n"),
        ("  - {prompt: A fox, images: [a.png]}\n", "prompts.1"),
        ("  - {prompt: A fox, operation: edit}\n", "prompts.1.images"),
        ("  - {prompt: A fox, operation: edits, images: [a.png]}\n", "prompts.1.operation"),
        ("  - {prompt: A fox, operation: edit, images: a.png}\n", "prompts.1.images"),
        ("  - {prompt: A fox, operation: edit, images: []}\n", "prompts.1.images"),
        ("  - {prompt: A fox, operation: edit, images: [[a.png]]}\n", "prompts.1.images.0"),
        ("  - {prompt: A fox, operation: edit, imags: [a.png]}\n", "prompts.1.images prompts.1.imags"),
        ("  - {prompt: A fox, operation: edit, images: [a.png], mask: [m.png]}\n", "prompts.1.mask"),
        ("  - {prompt: A fox, operation: edit, images: [a.png], maks: m.png}\n", "prompts.1.maks"),
        (
            "  - {prompt: A fox, operation: edit, images: [a.png], mask: m.png, mask_area: grey}\n",
            "prompts.1.mask_area",
        ),
        ("  - {prompt: A fox, operation: edit, images: [a.png], mask_area: white}\n", "prompts.1"),
        ("  - {operation: edit, images: [a.png]}\n", "prompts.1"),
        ("  - {operation: vary, images: [a.png], mask: m.png}\n", "prompts.1"),
    ],
)
def test_a_mistake_is_underlined_where_it_stands(added: str, place: str) -> None:
    with pytest.raises(ManifestError):
        read(BASE + added)
    assert underlined(BASE + added) == place.split()


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("name: animals\n", "", "name"),
        ("animals", "my animals", "name"),
        ("animals", ".hidden", "name"),
        ("animals", "a.", "name"),
        ("prompts:\n  - A fox\n", "", "prompts"),
        ("prompts:\n  - A fox\n", "prompts: A fox\n", "prompts"),
        ("prompts:\n  - A fox\n", "prompts: []\n", "prompts"),
        ("provider: openai\n", "", "provider"),
        ("provider: openai\n", "provider:\n", "provider"),
        ("provider: openai\n", "matrix: {size: [auto]}\n", "provider"),
        ("model: gpt-image-2\n", "", "model"),
        ("model: gpt-image-2\n", "matrix: {t: [{as: a, provider: sandbox}]}\n", "model"),
        ("gpt-image-2", "[a, b]", "model"),
        ("openai", "opnai", "provider"),
        ("openai", "{dialect: openai}", "provider"),
        ("openai", "{dialect: openai, base_url: 'https://me@host/v1'}", "provider"),
    ],
)
def test_a_mistake_in_what_is_needed_is_underlined(before: str, after: str, place: str) -> None:
    text = BASE.replace(before, after, 1)
    with pytest.raises(ManifestError):
        read(text)
    assert underlined(text) == [place]


@pytest.mark.parametrize(
    "described",
    [
        {"dialect": "opnai"},
        {"dialect": "sandbox"},
        {"base_url": "host/v1"},
        {"base_url": "http://my host/v1"},
        {"name": "a b"},
        {"api_key_env": "MY-KEY"},
        {"key_header": "api key"},
        {"query": "api-version=preview"},
        {"generate": "a path"},
        {"price": {}},
        {"price": 0.04},
        {"price": {"image": -1}},
        {"price": {"images": 1}},
        {"prompt_most": 0},
        {"idempotency": "perhaps"},
        {"parameters": {"steps": "integer"}},
        {"parameters": {"steps": {"kind": "whole"}}},
        {"parameters": {"steps": {}}},
        {"parameters": {"steps": {"kind": "integer", "defualt": 4}}},
        {"key": "sk-1"},
        {"links": "cdn.example.com"},
        {"links": ["https://cdn.example.com"]},
        {"models": ["gpt-image-2"]},
        {"send": {"stream": True}},
        {"edit": {"most": 4}},
        {"edit": {"path": "images/edits", "maks": "white"}},
        {"edit": {"path": "images/edits", "mask": "black"}},
        {"edit": {"path": "images/edits", "form": "json"}},
        {"edit": {"path": "images/edits", "references": ["file"]}},
        {"edit": {"path": "images/edits", "most": "many"}},
        {"vary": "images/variations"},
        {"rules": {"if": {}, "then": {}, "says": "no"}},
        {"rules": [{"if": {"n": ["2"]}, "then": {"size": "auto"}, "says": "no"}]},
        {"rules": [{"when": {"n": ["2"]}, "then": {"size": ["auto"]}, "says": "no"}]},
        {"rules": [{"if": {"n": ["2"]}, "then": {"size": ["auto"]}}]},
    ],
    ids=str,
)
def test_a_mistake_in_a_provider_that_is_described_is_underlined(described: dict[str, object]) -> None:
    own = {"dialect": "openai", "base_url": "http://localhost/v1", "name": "mine", "price": {"image": 0.04}}
    for right in (own, {"name": "openai", "price": {"image": 0.04}}):
        wrong = {**right, **described}
        assert (takes("provider", right, whole()), takes("provider", wrong, whole())) == (True, False)
        with pytest.raises(ManifestError):
            read(BASE.replace("openai", flow(wrong), 1))


def test_a_host_of_ones_own_has_a_name_of_its_own_and_one_of_the_catalog_keeps_its_address() -> None:
    own = {"dialect": "openai", "base_url": "http://localhost/v1"}
    assert not takes("provider", {**own, "name": "openai"}, whole())
    assert takes("provider", {"name": "openai"}, whole())
    assert not takes("provider", {"name": "openai", "base_url": "http://localhost/v1"}, whole())
    assert not takes("provider", {"name": "opnai", "price": {"image": 0.04}}, whole())
    assert not takes("provider", {"price": {"image": 0.04}}, whole())


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("gpt-image-2", "1.50").replace("animals", "012") + "  - 1984\n  - no\n  - 16:9\n  - 2026-01-01\n",
        BASE + "matrix:\nrequest:\nlimits:\nproject:\noperation:\nsamples:\nretry:\noutput:\n",
        BASE + "project: 7\nlimits: {budget: '1_200.50', timeout: 90}\nretry: {duplicate_allowance: 0.5}\n",
        BASE + "limits: {budget: 1e3, timeout: 1.5h}\nretry: {duplicate_allowance: '100 %'}\n",
        BASE + "  - {prompt: '{{ jahr }} {{ größe }}', vars: {jahr: [1990, 007, true], größe: [1.10]}, id: 3}\n",
        BASE + "  - {file: a.csv, take: 5, shuffle: 7, quality: '{{ quality }}', model: '{{ m }}', n: '{{ n }}'}\n",
        BASE + "  - {file: A.JSONL.GZ}\n  - {file: list, format: txt, prompt: '{{ line }}'}\n",
        BASE + "  - {file: '-'}\n",
        BASE + "request: {n: '2', size: ' auto ', user: 12, output_format: webp, output_compression: 0}\n",
        BASE + "matrix: {size: [auto, 2048x2048], exclude: [], include: [{size: 1024x1024}]}\n",
        BASE + "matrix: {quality: [low, {as: fine, quality: high, n: 2}], exclude: [{quality: fine}]}\n",
        BASE + "matrix: {my target: [{as: 1, n: 2}, {as: 2, n: 3}], exclude: [{my target: 2}]}\n",
        f"name: a\nprovider: {LOOKS}\nmodel: m\nprompts: [A]\nmatrix: {{look: [{{a: 1}}, {{a: [2]}}], n: [1]}}\n",
        "name: a\nprompts: [A]\nmatrix: {provider: [openai, sandbox], model: [m, {as: n, model: m, n: 3}]}\n",
        "name: a\nprovider:\nmodel:\nprompts: [A]\nmatrix: {t: [{as: x, provider: openai, model: m}]}\n",
        f"name: a\nprovider: {OWN}\nmodel: m\nprompts: [A, {{prompt: B, steps: 3}}]\nrequest: {{quality: hd}}\n",
        f"name: a\nmodel: m\nprompts: [A]\nmatrix: {{provider: [sandbox, {OWN}]}}\nrequest: {{n: 1}}\n",
        f"name: a\nprompts: [A]\nmatrix: {{t: [{{as: x, provider: {OWN}, model: m, steps: 3}}], quality: [hd, sd]}}\n",
        BASE.replace(
            "openai", "{dialect: openai, base_url: 'http://[::1]:8/v1', price: {image: '0.04', text_out: null}}"
        ),
    ],
)
def test_what_a_run_takes_is_not_underlined(text: str) -> None:
    read(text)
    assert underlined(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "operation: edit\nprompts: [{prompt: A, images: [a.png, 'https://host/b.png', file-1], size: match}]\n",
        "operation: edit\nprompts: [{prompt: A, images: ['{{ x }}'], vars: {x: [a, 7]}, mask: '{{ x }}.png'}]\n",
        "operation: edit\nprompts: [{file: a.csv, images: ['{{ p }}'], mask: m.png, mask_area: black}]\n",
        "operation: edit\nprompts: [{prompt: A, operation: generate}, {operation: vary, images: [7]}]\n",
        "operation: vary\nprompts: [{images: [a.png]}, {images: [a.png], prompt: A, mask_area: transparent}]\n",
        "operation:\nprompts: [A, {prompt: B, operation: edit, images: [b.png], background: opaque}]\n",
        "prompts: [A]\nrequest: {stream: true, partial_images: 2}\noutput: {partials: true}\n",
        "operation: edit\nprompts: [{prompt: A, images: [a.png]}]\nmatrix: {size: [match, 1024x1024]}\n",
    ],
)
def test_edits_and_variations_are_not_underlined(text: str) -> None:
    whole = f"name: a\nprovider: openai\nmodel: gpt-image-2\n{text}"
    read(whole)
    assert underlined(whole) == []


@pytest.mark.parametrize(
    "provider",
    [
        "{name: openai}",
        "{name: aimlapi, price: {image: 0.04}, links: [cdn.example.com, '*.example.org', '*']}",
        "{name: onerouter, prompt_most: '4000', idempotency: 24h, models: {gpt-2-image: gpt-image-2}}",
        "{name: openai, parameters: {quality: {kind: text, values: [hd, 2], default: 2}, steps: {kind: integer}}}",
        "{name: openai, send: {user: me}, edit: {path: images/edits, mask: white, most: '4', square: yes}}",
        "{dialect: localai, base_url: 'http://localhost:8080/v1', edit: {path: inpaint, mask_needed: true, mask: ''}}",
        "{dialect: azure, base_url: 'http://localhost/v1', key_header: api-key, query: {api-version: 2026-01-01}}",
        "{dialect: vllm, base_url: 'http://localhost', name: mine, generate: images/new, vary: {path: v}}",
        "{dialect: classic, base_url: 'http://localhost', edit: {path: e, form: image_urls, references: [link]}, "
        "rules: [{if: {operation: [edit]}, then: {n: [unset, 1]}, says: one at a time}]}",
    ],
)
def test_a_provider_that_is_described_is_not_underlined(provider: str) -> None:
    text = BASE.replace("openai", provider, 1)
    read(text)
    assert underlined(text) == []


class Bare(str):
    """A scalar without quotes."""


def flow(value: object) -> str:
    """YAML in one line."""
    match value:
        case Bare():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{json.dumps(name)}: {flow(each)}" for name, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


bare = st.sampled_from(["fox", "no", "16:9", "012", "1.50", "1984", "2026-01-01", "true", "1e3", ".5", "0x1F", "A B"])
quoted = st.text("ab ü}%:#-1.", min_size=1, max_size=6).filter(str.strip)
spelled: st.SearchStrategy[object] = bare.map(Bare) | quoted | st.integers() | st.booleans()
VALUES: dict[str, st.SearchStrategy[object]] = {
    "model": spelled | st.sampled_from(["m", "gpt-image-2"]),
    "size": st.sampled_from(["auto", "1024x1024", "1536x1024", " 2048x2048"]),
    "quality": st.sampled_from(["auto", "low", "medium", "high"]),
    "moderation": st.sampled_from(["auto", "low"]),
    "n": st.integers(1, 10) | st.integers(1, 10).map(str) | st.just(Bare("007")),
    "user": spelled,
    "safety_identifier": spelled,
}
"""What no rule of the catalog forbids beside another."""
PARAMETERS = {name: value for name, value in VALUES.items() if name != "model"}
HOST: dict[str, st.SearchStrategy[object]] = {
    "name": st.sampled_from(["mine", Bare("12"), 7]),
    "api_key_env": st.just("MY_KEY"),
    "price": st.sampled_from([{"image": 0}, {"image": "0.04"}, {"text_in": 5, "image_out": 3e1, "text_out": None}]),
    "prompt_most": st.integers(100, 10**6) | st.just("4000"),
    "idempotency": st.sampled_from(["24h", 3600, "90m"]),
    "links": st.lists(st.sampled_from(["*", "*.example.com", "CDN.example.com", "127.0.0.1"])),
    "models": st.sampled_from([{}, {"mine": "gpt-image-2"}]),
    "send": st.sampled_from([{}, {"user": "me"}]),
    "edit": st.sampled_from([{"path": "e"}, {"path": "e", "most": "2", "mask": "white", "references": ["link"]}]),
    "vary": st.sampled_from([{"path": "v", "square": True, "formats": ["png"]}, {"path": "v", "mask": ""}]),
    "rules": st.sampled_from([[], [{"if": {"user": ["set"]}, "then": {"n": [1, "2"]}, "says": "no"}]]),
    "parameters": st.sampled_from(
        [{}, {"quality": {"kind": "text"}}, {"user": {"kind": "integer", "least": "1", "most": None, "values": [1]}}]
    ),
}
REFINEMENT = {name: each for name, each in HOST.items() if name not in ("name", "api_key_env")}
own_hosts = st.fixed_dictionaries(
    {"dialect": st.just("openai"), "base_url": st.sampled_from(["http://localhost", "http://127.0.0.1:1/v1/"])},
    optional=HOST,
)
refined = st.fixed_dictionaries({"name": st.sampled_from(["openai", "sandbox"])}, optional=REFINEMENT)
hosts: st.SearchStrategy[object] = st.sampled_from(["openai", "sandbox"]) | own_hosts | refined
cells = {name: VALUES[name] | st.just("{{ line }}") for name in ("model", "n")}
labels = {"id": st.sampled_from(["{{ a }}", "x", 3])}
pictures = st.sampled_from([["a.png"], [7, Bare("1.0")], ["https://host/a.png", "file-1"]])
changed: st.SearchStrategy[object] = st.fixed_dictionaries(
    {"operation": st.just("edit"), "images": pictures, "prompt": st.just("A")},
    optional={"mask": st.just("m.png"), "size": st.just("match"), "input_fidelity": st.sampled_from(["low", "high"])},
) | st.fixed_dictionaries({"operation": st.just("vary"), "images": pictures}, optional={"id": spelled})
sources: st.SearchStrategy[object] = (
    spelled
    | st.fixed_dictionaries({"prompt": st.sampled_from(["B", 4, "", Bare("1.0")])}, optional={"n": VALUES["n"]})
    | st.fixed_dictionaries(
        {"prompt": st.just("A {{ a }} {{ ä_1 }}"), "vars": st.just({"a": [1, Bare("007"), "x"], "ä_1": [True]})},
        optional=labels,
    )
    | st.fixed_dictionaries(
        {"file": st.sampled_from(["a.txt", "-"])}, optional={"prompt": st.just("{{ line }}"), **cells}
    )
    | st.fixed_dictionaries(
        {"file": st.sampled_from(["A.CSV.gz", "-", 7]), "format": st.sampled_from(["csv", "jsonl"])},
        optional={**labels, **cells},
    )
    | st.fixed_dictionaries({"file": st.just("b/c.tsv"), "take": st.integers(1, 9)}, optional={"shuffle": spelled})
    | changed
)


@st.composite
def axes(draw: st.DrawFn) -> dict[str, list[object]]:
    """Plain ones, and perhaps one whose choices tie parameters together."""
    names = draw(st.lists(st.sampled_from([*VALUES]), unique=True, max_size=2))
    found = {name: draw(st.lists(VALUES[name], min_size=1, max_size=3, unique_by=flow)) for name in names}
    others = draw(st.lists(st.sampled_from(["provider", *VALUES]), unique=True, max_size=4))
    tied = {name: VALUES.get(name, hosts) for name in others if name not in names}
    if draw(st.booleans()) and tied:
        choices = draw(st.lists(st.fixed_dictionaries(tied), min_size=1, max_size=2, unique_by=flow))
        name = "a b" if "quality" in names else draw(st.sampled_from(["a b", "quality"]))
        found[name] = [{"as": label, **choice} for label, choice in zip([draw(bare), 0], choices, strict=False)]
    return found


@st.composite
def matrices(draw: st.DrawFn) -> dict[str, object]:
    """Axes; sometimes a combination less, sometimes one more."""
    found = draw(axes())
    first = {name: each[0]["as"] if isinstance(each[0], dict) else each[0] for name, each in found.items()}
    more: dict[str, object] = {}
    if draw(st.booleans()) and any(len(each) > 1 for each in found.values()):
        more["exclude"] = [first]
    if draw(st.booleans()) and found:
        more["include"] = [{**first, **{name: draw(VALUES[name]) for name in first if name in VALUES}}]
    return {**found, **more}


manifests = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", Bare("012"), Bare("-1.5"), 7, "x_.y", True]),
        "prompts": st.lists(sources, min_size=1, max_size=2),
        "provider": hosts,
        "model": VALUES["model"],
        "matrix": matrices() | st.none(),
    },
    optional={
        "project": spelled | st.none(),
        "operation": st.sampled_from(["generate", None]),
        "samples": st.integers(1, 9) | st.none(),
        "request": st.fixed_dictionaries({}, optional=PARAMETERS),
        "limits": st.fixed_dictionaries(
            {},
            optional={
                "concurrency": st.integers(1, 1000),
                "budget": st.integers(0) | st.floats(0, 1e9) | st.decimals(0, 10**9).map(str),
                "images": st.integers(1),
                "timeout": st.sampled_from(["10m", "1.5h", 90, 0.5, Bare(".5"), "30"]),
                "until": st.sampled_from(["07:00", Bare("7:00"), "2026-11-22 07:00", Bare("2026-11-22T07:00:30")]),
            },
        ),
        "retry": st.fixed_dictionaries(
            {},
            optional={
                "attempts": st.integers(1, 100),
                "on_unknown": st.sampled_from(["retry", "hold"]),
                "duplicate_allowance": st.sampled_from([Bare("1%"), "0.5 %", "100.0%", ".5%", 3, "2.50", Bare("1_0")]),
            },
        ),
        "output": st.fixed_dictionaries(
            {},
            optional={
                "path": st.sampled_from(["{{ slug }}/{{ key }}", "a..b/c", "", "...", "{{ model }}"]),
                "partials": st.booleans(),
                "store": st.sampled_from(["s3://zoo/a b", "file:///tmp", "s3://u:p@zoo", "gs://zoo/", "az://z"]),
            },
        ),
    },
)


@settings(max_examples=300, deadline=None)
@given(wanted=manifests)
def test_whatever_a_run_takes_is_not_underlined(wanted: dict[str, object]) -> None:
    text = flow(wanted)
    try:
        read(text)
    except ManifestError:
        return
    assert underlined(text) == []


def test_the_verb_prints_it_and_says_how_to_use_it() -> None:
    said = CliRunner().invoke(command, [], catch_exceptions=False)
    assert (said.exit_code, json.loads(said.stdout)) == (0, whole())
    told = CliRunner().invoke(command, ["--help"], catch_exceptions=False).stdout
    assert "batchgen schema > jobs/schema.json" in told
    assert "# yaml-language-server: $schema=schema.json" in told
