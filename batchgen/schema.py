"""A JSON Schema of manifests, for editors: built from the forms and the catalog, so that it knows what they know.

Draft-07, which VS Code's YAML extension and IntelliJ understand best. It lets pass what only a run can find out, and
underlines nothing that a run takes, but for wrong values that no request carries (an axis goes before them, or they are
excluded) and for what nobody writes: null as text, a word in quotes with white space around it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from batchgen import catalog, spelling, wording
from batchgen.catalog import Parameter
from batchgen.form import (
    EngineForm,
    LimitsForm,
    NotifyForm,
    OutputForm,
    ProviderForm,
    RefinedForm,
    RetryForm,
    SourceForm,
    TopForm,
)
from batchgen.spelling import MORE, NAME, SCALAR, TEMPLATE, WHOLE, Schema, spelled
from batchgen.terms import ENGINES
from batchgen.wording import Says

_KEPT = ("type", "enum", "pattern", "minimum", "maximum", "minItems", "items")
"""What a form tells that helps an editor."""
_HEARD = {"if": {"properties": {"url_env": False}}, "then": {"required": ["command"]}}
_OWN = {"type": "object", "required": ["parameters"]}
_NO_FILE = {"properties": {"file": False}}
_PLAIN_AREA = {"anyOf": [{"required": ["mask"]}, {"properties": {"mask_area": {"const": "transparent"}}}]}
_PROMPTED = {"anyOf": [{"required": ["prompt"]}, {"required": ["file"]}]}
_NEEDS: Mapping[str, Schema] = {
    "generate": {"properties": {"images": False, "mask": False}, **_PROMPTED},
    "edit": {"type": "object", "required": ["images"], **_PROMPTED},
    "vary": {"type": "object", "required": ["images"], "properties": {"mask": False}},
}
"""What an operation needs of a source; plain text is one to generate from."""
_TIED = {"items": {"not": _OWN, "properties": {"provider": {"not": _OWN}}}}
_STORE = "^((s3|gs|az)://[A-Za-z0-9]|file:///)"
_KNOWN = {"properties": {"provider": {"not": _OWN}, "matrix": {"additionalProperties": _TIED}}}
"""No provider of the manifest has parameters of its own: the catalog knows them all, and their values."""


def build() -> Schema:
    """The whole schema."""
    top = _form(TopForm.model_json_schema(), wording.TOP, _sections())
    given = {name: each if name in top["required"] else _or_empty(each) for name, each in top["properties"].items()}
    tasks = {"if": _KNOWN, "then": _tasks(True), "else": _tasks(False)}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A batchgen manifest",
        **top,
        "properties": given,
        "allOf": [_needed("provider"), _needed("model"), tasks, *map(_operated, _NEEDS)],
        "definitions": dict(_definitions()),
    }


def parameters() -> Mapping[str, Sequence[Parameter]]:
    """Every parameter of any provider, by name."""
    found: dict[str, list[Parameter]] = {}
    for provider in catalog.providers().values():
        for name, parameter in provider.parameters.items():
            found.setdefault(name, []).append(parameter)
    return found


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _told(name: str) -> Schema:
    """What a parameter, `provider` or `model` is for, and who takes it where that is not everybody."""
    says = {**wording.TOP, **wording.REQUEST}.get(name, "A parameter that a provider takes.")
    real = [provider for provider in catalog.providers().values() if not provider.pretend]
    takers = [provider.name for provider in real if name in provider.parameters]
    return {"description": f"{says} Taken by {', '.join(takers)}." if 0 < len(takers) < len(real) else says}


def _sections() -> Mapping[str, Schema]:
    """The top keys of which more is known than their form tells."""
    return {
        "provider": {"anyOf": [_ref("provider")]},
        "model": {"anyOf": [_ref("model")]},
        "limits": _form(LimitsForm.model_json_schema(), wording.LIMITS),
        "retry": _form(RetryForm.model_json_schema(), wording.RETRY),
        "output": _form(OutputForm.model_json_schema(), wording.OUTPUT, {"store": {"pattern": _STORE}}),
        "engine": {"anyOf": [{"enum": [*ENGINES]}, _form(EngineForm.model_json_schema(), wording.ENGINE)]},
        "notify": {**_form(NotifyForm.model_json_schema(), wording.NOTIFY), **_HEARD},
    }


def _form(form: Schema, says: Says, sections: Mapping[str, Schema] | None = None) -> Schema:
    """A form that pydantic has described, and what is said of its keys."""
    more = {**MORE[form["title"]], **(sections or {})}
    keys = {name: _key(each, says[name], more.get(name, {})) for name, each in form["properties"].items()}
    return _mapping(keys, required=form.get("required", []))


def _mapping(keys: Mapping[str, Schema], **more: object) -> Schema:
    return {"type": "object", "properties": keys, "additionalProperties": False, **more}


def _key(form: Schema, says: str, more: Schema) -> Schema:
    """What its form tells of a key, but not the null that stands for its absence; `more` goes before it."""
    inner: Schema = next((each for each in form.get("anyOf", ()) if each.get("type") != "null"), {})
    found = {**inner, **form, **({"enum": [form["const"]]} if "const" in form else {})}
    whole = WHOLE if found.get("type") == "integer" else {}
    kept = {**{name: value for name, value in found.items() if name in _KEPT}, **whole, **more}
    default = form.get("default")
    if default in (None, "", [], {}):
        return {"description": says, **kept}
    default = int(default) if isinstance(default, float) and default.is_integer() else default
    told = default if isinstance(default, str) else json.dumps(default)
    return {"description": f"{says} Default: {told}.", **kept, "default": default}


def _or_empty(key: Schema) -> Schema:
    """The same, or nothing behind it: at the top that is as good as no key."""
    if "anyOf" in key:
        return {**key, "anyOf": [*key["anyOf"], {"type": "null"}]}
    types = [key["type"]] if isinstance(key["type"], str) else key["type"]
    return {**key, "type": [*types, "null"], **({"enum": [*key["enum"], None]} if "enum" in key else {})}


def _needed(name: str) -> Schema:
    """`provider` or `model`: it must stand at the top where nothing in the matrix sets it."""
    sets = {"type": "object", "required": [name]}
    matrix = {"not": sets, "additionalProperties": {"items": {"not": sets}}}
    given = {"type": ["string", "object"] if name == "provider" else SCALAR}
    return {"if": {"properties": {"matrix": matrix}}, "then": {"required": [name], "properties": {name: given}}}


def _tasks(known: bool) -> Schema:
    """The sections that set parameters; where these are not all `known`, each may be anything."""
    values = {name: _ref(name) if known else _told(name) for name in parameters()}
    sections = {
        "prompts": {"items": _source({"model": _ref("model"), **values}, known)},
        "matrix": _matrix({"model": _ref("model"), **values}, known),
        "request": {"properties": values, "additionalProperties": not known},
    }
    return {"properties": sections}


def _source(values: Mapping[str, Schema], known: bool) -> Schema:
    """A prompt as it stands, or the mapping of a source, whose rows may set parameters by templates."""
    own = _form(SourceForm.model_json_schema(), wording.SOURCE)["properties"]
    cells = {name: {**_told(name), "anyOf": [value, TEMPLATE]} if known else value for name, value in values.items()}
    return {
        "type": [*SCALAR, "object"],
        "pattern": r"\S",
        "properties": {**own, **cells},
        "additionalProperties": not known,
        "dependencies": {
            "format": ["file"],
            "take": ["file"],
            "shuffle": ["take"],
            "vars": _NO_FILE,
            "mask": ["images"],
            "mask_area": _PLAIN_AREA,
        },
        "if": {"not": {"required": ["format"]}},
        "then": {"properties": {"file": _suffixed(own["format"]["enum"])}},
        "allOf": [{"if": _says(operation), "then": needs} for operation, needs in _NEEDS.items()],
    }


def _says(operation: str) -> Schema:
    return {"type": "object", "properties": {"operation": {"const": operation}}, "required": ["operation"]}


def _operated(operation: str) -> Schema:
    """What that operation at the top needs of the sources that name none; where none stands there, they generate."""
    top = {"properties": {"operation": {"enum": ["generate", None]}}} if operation == "generate" else _says(operation)
    own = {"type": "object", "required": ["operation"]}
    sources = {"items": {"if": {"not": own}, "then": _NEEDS[operation]}}
    return {"if": top, "then": {"properties": {"prompts": sources}}}


def _suffixed(formats: Sequence[str]) -> Schema:
    """The name of a file that tells how to read it, in letters of either case."""
    words = "|".join("".join(f"[{sign}{sign.upper()}]" for sign in word) for word in formats)
    says = f"Ends in .{', .'.join(formats)}, or one of them and .gz; or add its format"
    return spelled(rf"(-|.*\.({words})(\.[gG][zZ])?)?", says, *SCALAR[1:])


def _matrix(values: Mapping[str, Schema], known: bool) -> Schema:
    """An axis has the name of a parameter, or any other one and choices that tie several parameters together."""
    choice = _ref("matrix.choice")
    axes = {name: _list({"anyOf": [value, choice]} if known else {}, _told(name), 1) for name, value in values.items()}
    combinations = _ref("matrix.combination")
    own = {
        "provider": _list(_ref("provider"), _told("provider"), 1),
        "exclude": _list(combinations, {"description": "Combinations to leave out: values, or labels, of some axes."}),
        "include": _list(combinations, {"description": "Combinations to add: a value, or a label, of every axis."}),
    }
    return {"properties": {**own, **axes}, "additionalProperties": _list(choice if known else {}, {}, 1)}


def _list(items: Schema, told: Schema, least: int = 0) -> Schema:
    return {**told, "type": "array", "items": items, "minItems": least}


def _definitions() -> Iterator[tuple[str, Schema]]:
    """What the sections have in common; no parameter's name has a dot."""
    values = {name: _ref(name) for name in ("provider", "model", *parameters())}
    label = {"description": "The choice's name: in paths and reports, and under exclude.", "type": SCALAR}
    told = {name: {**_told(name), "type": [*SCALAR, "object"]} for name in values}
    yield "provider", {**_told("provider"), "anyOf": [{"enum": [*catalog.providers()]}, _refined(), _own()]}
    yield from ((f"provider.{name}", each) for name, each in _parts())
    yield "model", {**_told("model"), "anyOf": [{"enum": _models(), "errorMessage": "A model's id"}, {"type": SCALAR}]}
    yield "matrix.choice", _mapping({"as": label, **values}, title="{as: …}", required=["as"], minProperties=2)
    yield "matrix.combination", _mapping(told, additionalProperties={"type": [*SCALAR, "object"]}, minProperties=1)
    for name, each in parameters().items():
        yield name, {**_told(name), **spelling.parameter(each)}


def _parts() -> Iterator[tuple[str, Schema]]:
    """What both shapes of a provider that is described have in common."""
    parts = ProviderForm.model_json_schema()["$defs"]
    key = _form(parts["KeyForm"], wording.KEY)
    yield "key", {"anyOf": [key["properties"]["api_key_env"], {**key, "minProperties": 1}]}
    yield "price", {**_form(parts["Price"], wording.PRICE), "minProperties": 1}
    yield "parameter", _form(parts["Parameter"], wording.PARAMETER)
    yield "intake", _form(parts["Intake"], wording.INTAKE)
    yield "batch", _form(parts["Batching"], wording.BATCHING)
    yield "rule", _form(parts["Rule"], wording.RULE)


_PARTS: Mapping[str, Schema] = {
    "keys": {"items": _ref("provider.key")},
    "price": {"anyOf": [_ref("provider.price")]},
    "models": {"additionalProperties": _ref("model")},
    "edit": {"anyOf": [_ref("provider.intake")]},
    "vary": {"anyOf": [_ref("provider.intake")]},
    "batch": {"anyOf": [_ref("provider.batch")]},
    "parameters": {"additionalProperties": _ref("provider.parameter")},
    "rules": {"items": _ref("provider.rule")},
}


def _refined() -> Schema:
    """A provider of the catalog, of which the manifest knows more."""
    sections = {**_PARTS, "name": {"enum": [*catalog.providers()]}}
    form = _form(RefinedForm.model_json_schema(), wording.REFINED, sections)
    return {**form, "title": "one of the catalog, refined", "required": ["name"]}


def _own() -> Schema:
    """A host of the user's own."""
    real = sorted(name for name, provider in catalog.providers().items() if not provider.pretend)
    name = {**NAME, "not": {"enum": [*catalog.providers()]}}
    sections = {**_PARTS, "name": name, "dialect": {"enum": real}}
    form = _form(ProviderForm.model_json_schema(), wording.PROVIDER, sections)
    homes = [{"required": ["base_url"]}, {"required": ["name", "keys"]}]
    return {**form, "required": ["dialect"], "anyOf": homes, "title": "a host of your own"}


def _models() -> list[str]:
    """Those of the catalog, by all their names."""
    own = (name for provider in catalog.providers().values() for name in provider.models)
    return [*(name for family, model in catalog.models().items() for name in (family, *model.also)), *own]
