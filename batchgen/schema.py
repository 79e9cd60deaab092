"""A JSON Schema of manifests, for editors: built from the forms and the catalog, so that it knows what they know.

Draft-07, which VS Code's YAML extension and IntelliJ understand best. It lets pass what only a run can find out, and
underlines nothing that a run takes, but for wrong values that no request carries (an axis goes before them, or they are
excluded) and for what nobody writes: null as text, a word in quotes with white space around it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from batchgen import catalog
from batchgen.catalog import Parameter
from batchgen.form import LimitsForm, OutputForm, ProviderForm, RetryForm, SourceForm, TopForm

Schema = dict[str, Any]
Says = Mapping[str, str]

TOP: Says = {
    "name": "The run's folder: runs/NAME/.",
    "project": "What costs are summed by, over several runs.",
    "provider": "Who makes the images: a name of the catalog, or a host of your own as a mapping.",
    "model": "The model's id, as the provider calls it; one that the catalog does not know is sent as it stands.",
    "operation": "What is done.",
    "prompts": "What to paint: plain texts, templates with variables, and files, in order.",
    "matrix": "Axes: every combination of their values is made, for each prompt.",
    "samples": "How many times each combination is made; raising it buys only the difference.",
    "request": "Parameters of every request; an axis of the matrix, or a row, goes before them.",
    "limits": "How much, how fast, how long.",
    "retry": "What happens to requests that failed, or were never answered.",
    "output": "What the files are called.",
}
SOURCE: Says = {
    "file": "Rows, beside the manifest: .txt (a prompt a line), .csv, .tsv, .jsonl (a variable a column), - for stdin.",
    "format": "How to read the file, where its name does not tell.",
    "id": "Your name for each row, a template: in paths and reports.",
    "prompt": 'The prompt, a template: "An {{ style }} painting of a {{ animal }}".',
    "vars": "The values of the template's variables; every combination is made.",
    "take": "How many rows of the file to take: the first ones, or with shuffle some at random. Left out: all.",
    "shuffle": "A seed: take then chooses rows at random, the same ones however the file is sorted.",
}
PROVIDER: Says = {
    "name": "What reports call it. Left out: its dialect and host.",
    "dialect": "The API that it speaks.",
    "base_url": "Where it is, such as https://host/v1; a host that is not in the catalog needs --trust-host.",
    "api_key_env": "The environment variable that holds its key. Left out: it is asked without a key.",
    "price": "What it takes, in USD: for each image, or for a million tokens of each kind.",
    "prompt_most": "The longest prompt that it takes, in characters. Left out: as its dialect's first provider.",
    "idempotency": "Whether it honours Idempotency-Key: a request that is sent twice is then billed once.",
    "parameters": "Request parameters that it takes beside those of its dialect, by name.",
}
PRICE: Says = {
    "image": "USD for each image; the prices of tokens do not count then.",
    "text_in": "USD for a million tokens of the prompt.",
    "text_cached": "USD for a million cached tokens of text. Left out: as text_in.",
    "image_in": "USD for a million tokens of images that are sent.",
    "image_cached": "USD for a million cached tokens of images. Left out: as image_in.",
    "image_out": "USD for a million tokens of images that are made.",
    "text_out": "USD for a million tokens of text that is made. Left out: as image_out.",
}
PARAMETER: Says = {
    "kind": "What its values are: size is WIDTHxHEIGHT or auto, flag is true or false.",
    "values": "The values that it may have. Left out: any.",
    "least": "The least that a number may be.",
    "most": "The most that a number may be.",
}
LIMITS: Says = {
    "concurrency": "Requests that are on their way at once, at each provider.",
    "budget": "USD for the whole job, ever, over all its runs. Left out: no limit.",
    "images": "Images of the whole job, ever, over all its runs. Left out: no limit.",
    "timeout": "How long to wait for one answer: in seconds, or 90s, 10m, 1h; at most 24h.",
}
RETRY: Says = {
    "attempts": "How often a task is tried in all before it has failed.",
    "on_unknown": "A request that left and was not answered is sent again, or held until you decide.",
    "duplicate_allowance": "What unanswered requests may cost again: USD, or a share of the estimate. Left out: 1%.",
}
OUTPUT: Says = {
    "path": "A template, as {{ slug }}/{{ size }}, over slug, id, number, sample, key, name, model, provider and every "
    "parameter, axis and variable; the key is added where it lacks.",
}
REQUEST: Says = {
    "n": "Images of one request; each is paid for. Left out: 1.",
    "size": "WIDTHxHEIGHT in pixels, or auto: the provider decides.",
    "quality": "How much work goes into an image; the price grows with it.",
    "complexity": "How elaborate an image may be; for models that have it.",
    "background": "The background of an image; transparent needs output_format png or webp.",
    "moderation": "How strictly the provider filters what it paints.",
    "output_format": "The format of the files. Left out: as the provider likes, often png.",
    "output_compression": "In percent, for jpeg and webp alone; 100 keeps the most.",
    "frame_count": "Frames of an animation; needs output_format gif.",
    "frame_duration_ms": "How long each frame of an animation stands, in milliseconds; needs output_format gif.",
    "svg": "Settings of an SVG, in the provider's own words; needs output_format svg.",
    "safety_identifier": "An id of your end user, without personal data, by which the provider traces abuse.",
    "user": "An id of your end user; the older word for safety_identifier.",
}
"""What the catalog's parameters are for."""

SCALAR = ["string", "number", "boolean"]
"""Text, as the manifest takes it; an editor may take it for a number."""
_NUMBER = r"\s*\+?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?\s*"
_SHARE = r"\s*\+?0*(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)\s*%"
_TIME = r"[0-9]+(\.[0-9]+)?[smh]?"
_INSIDE = r"(?!/)(?!([\s\S]*/)?\.\.(/|$))[\s\S]*"
_OTHER = r"[^\s!-/:-@\[-^`{-~]"  # what is neither white space nor punctuation, of any script


def _spelled(pattern: str, says: str, *types: str, **more: object) -> Schema:
    """Text of a form, or one of the other `types`; `says` is what VS Code tells where it has another form."""
    return {"type": ["string", *types], "pattern": f"^({pattern})$", "patternErrorMessage": says, **more}


_NAME = _spelled("[A-Za-z0-9_-]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", "A folder's name, such as my-job.2", *SCALAR[1:])
_DOLLARS = _spelled(_NUMBER, "An amount in USD, such as 12.50", "number", minimum=0)
_BOUND = {"type": ["integer", "string", "null"]}
_SIZE = _spelled(r"\s*(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})\s*", "A size such as 1024x1024, or auto")
_TEMPLATE = {"type": "string", "pattern": r"\{\{"}
_MORE: Mapping[str, Schema] = {
    "name": _NAME,
    **{key: {"type": SCALAR} for key in ("project", "file", "id", "prompt", "shuffle")},
    "vars": {
        "propertyNames": _spelled(f"(?![0-9]){_OTHER}+", "A variable's name has letters, digits and _ only"),
        "additionalProperties": {"type": "array", "minItems": 1, "items": {"type": SCALAR}},
    },
    "base_url": _spelled(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", "Looks like https://host/v1: no user name, no query"),
    **{name: {**_DOLLARS, "type": [*_DOLLARS["type"], "null"]} for name in PRICE},
    "values": {"items": {"type": ["string", "number"]}},
    "least": _BOUND,
    "most": _BOUND,
    "budget": _DOLLARS,
    "timeout": _spelled(_TIME, "A time such as 90s, 10m or 1h", "number", exclusiveMinimum=0, maximum=86_400),
    "duplicate_allowance": _spelled(f"{_NUMBER}|{_SHARE}", "A share such as 1%, or USD", "number", minimum=0),
    "path": _spelled(_INSIDE, "Stays inside the images folder: no / at the beginning, no .."),
}
"""By key, what is true of it beside what its form tells."""
_KEPT = ("type", "enum", "pattern", "minimum", "maximum", "minItems")
"""What a form tells that helps an editor."""
_OWN = {"type": "object", "required": ["parameters"]}
_NO_FILE = {"properties": {"file": False}}
_TIED = {"items": {"not": _OWN, "properties": {"provider": {"not": _OWN}}}}
_KNOWN = {"properties": {"provider": {"not": _OWN}, "matrix": {"additionalProperties": _TIED}}}
"""No provider of the manifest has parameters of its own: the catalog knows them all, and their values."""


def build() -> Schema:
    """The whole schema."""
    top = _form(TopForm.model_json_schema(), TOP, _sections())
    given = {name: each if name in top["required"] else _or_empty(each) for name, each in top["properties"].items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A batchgen manifest",
        **top,
        "properties": given,
        "allOf": [_needed("provider"), _needed("model"), {"if": _KNOWN, "then": _tasks(True), "else": _tasks(False)}],
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
    """What a parameter, `provider` or `model` is for."""
    return {"description": {**TOP, **REQUEST}.get(name, "A parameter that a provider takes.")}


def _sections() -> Mapping[str, Schema]:
    """The top keys of which more is known than their form tells."""
    return {
        "provider": {"anyOf": [_ref("provider")]},
        "model": {"anyOf": [_ref("model")]},
        "limits": _form(LimitsForm.model_json_schema(), LIMITS),
        "retry": _form(RetryForm.model_json_schema(), RETRY),
        "output": _form(OutputForm.model_json_schema(), OUTPUT),
    }


def _form(form: Schema, says: Says, sections: Mapping[str, Schema] | None = None) -> Schema:
    """A form that pydantic has described, and what is said of its keys."""
    more = {**_MORE, **(sections or {})}
    keys = {name: _key(each, says[name], more.get(name, {})) for name, each in form["properties"].items()}
    return _mapping(keys, required=form.get("required", []))


def _mapping(keys: Mapping[str, Schema], **more: object) -> Schema:
    return {"type": "object", "properties": keys, "additionalProperties": False, **more}


def _key(form: Schema, says: str, more: Schema) -> Schema:
    """What its form tells of a key, but not the null that stands for its absence; `more` goes before it."""
    inner: Schema = next((each for each in form.get("anyOf", ()) if each.get("type") != "null"), {})
    found = {**inner, **form, **({"enum": [form["const"]]} if "const" in form else {})}
    kept = {**{name: value for name, value in found.items() if name in _KEPT}, **more}
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
    own = _form(SourceForm.model_json_schema(), SOURCE)["properties"]
    cells = {name: {**_told(name), "anyOf": [value, _TEMPLATE]} if known else value for name, value in values.items()}
    return {
        "type": [*SCALAR, "object"],
        "pattern": r"\S",
        "properties": {**own, **cells},
        "additionalProperties": not known,
        "anyOf": [{"required": ["prompt"]}, {"required": ["file"]}],
        "dependencies": {"format": ["file"], "take": ["file"], "shuffle": ["take"], "vars": _NO_FILE},
        "if": {"not": {"required": ["format"]}},
        "then": {"properties": {"file": _suffixed(own["format"]["enum"])}},
    }


def _suffixed(formats: Sequence[str]) -> Schema:
    """The name of a file that tells how to read it, in letters of either case."""
    words = "|".join("".join(f"[{sign}{sign.upper()}]" for sign in word) for word in formats)
    says = f"Ends in .{', .'.join(formats)}, or one of them and .gz; or add its format"
    return _spelled(rf"(-|.*\.({words})(\.[gG][zZ])?)?", says, *SCALAR[1:])


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
    yield "provider", {**_told("provider"), "anyOf": [{"enum": [*catalog.providers()]}, _described()]}
    yield "model", {**_told("model"), "anyOf": [{"enum": _models(), "errorMessage": "A model's id"}, {"type": SCALAR}]}
    yield "matrix.choice", _mapping({"as": label, **values}, title="{as: …}", required=["as"], minProperties=2)
    yield "matrix.combination", _mapping(told, additionalProperties={"type": [*SCALAR, "object"]}, minProperties=1)
    for name, each in parameters().items():
        ways = list({json.dumps(value): value for value in map(_value, each)}.values())
        yield name, {**_told(name), **(ways[0] if len(ways) == 1 else {"anyOf": ways})}


def _described() -> Schema:
    """A provider of the user's own."""
    form = ProviderForm.model_json_schema()
    sections = {
        "dialect": {"enum": sorted({provider.dialect for provider in catalog.providers().values()})},
        "price": {**_form(form["$defs"]["Price"], PRICE), "minProperties": 1},
        "parameters": {"additionalProperties": _form(form["$defs"]["Parameter"], PARAMETER)},
    }
    return {**_form(form, PROVIDER, sections), "title": "a host of your own"}


def _models() -> list[str]:
    return [name for family, model in catalog.models().items() for name in (family, *model.also)]


def _value(parameter: Parameter) -> Schema:
    """What a value may be, before it is read: 2 and "2" are one whole number."""
    bounds = {"minimum": parameter.least, "maximum": parameter.most}
    found = {name: bound for name, bound in bounds.items() if bound is not None}
    match parameter.kind:
        case "integer":
            return {**_spelled("-?[0-9]{1,18}", "A whole number", "integer"), **found}
        case "number":
            return {**_spelled(f"-?{_NUMBER}", "A number", "number"), **found}
        case "flag":
            return _spelled("true|false", "true or false", "boolean")
        case "mapping":
            return {"type": "object", "title": "mapping"}
        case _ if parameter.values:
            return {"enum": [*_words(parameter.values)]}
        case "size":
            return {"anyOf": [{"enum": _sizes(), "errorMessage": _SIZE["patternErrorMessage"]}, _SIZE]}
    return {"type": SCALAR, "pattern": r"\S"}


def _words(values: Iterable[str]) -> Iterator[object]:
    """Each word, and what an editor takes it for."""
    for word in values:
        yield word
        with suppress(ValueError):
            yield json.loads(word)


def _sizes() -> list[str]:
    """Those of the models that have a list of them."""
    lists = [model.sizes for model in catalog.models().values() if isinstance(model.sizes, tuple)]
    return ["auto", *dict.fromkeys(size for sizes in lists for size in sizes)]
