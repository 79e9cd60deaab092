"""The five documents that batchgen was made from, item by item: what their tables say holds, and nothing is missing.

`python tests/test_documents.py` prints the tables. See documents/README.md.
"""

import ast
import base64
import importlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import anyio
import pytest
from documents.tables import Document, Field, Header, Operation, Parameter, Remark, Row, Status, documents, markdown
from PIL import Image

from batchgen import body, catalog, inputs, manifest, rows
from batchgen.catalog import Intake, Provider
from batchgen.dialects import DIALECTS
from batchgen.errors import ManifestError, Unusable
from batchgen.inputs import Gallery
from batchgen.manifest import Setup
from batchgen.sandbox import body as taken_in
from batchgen.sandbox import openapi, pages
from batchgen.sandbox.dialect import Dialect
from batchgen.sandbox.inputs import LARGEST
from batchgen.sandbox.order import Asked, Order, Refused
from batchgen.task import Input, Kind, Task
from batchgen.wire import Answer, Fetched, Form, Inline, Reply, Request, Upload

TESTS = Path(__file__).parent
COUNTED = {"000": 21, "001": 79, "002": 24, "003": 19, "004": 54}
"""How many items each document has: they are not in the repository, so somebody counted them there."""
HELD = {
    "operations": "test_an_operation_is_asked_for_where_the_document_says",
    "headers": "test_a_header_goes_along",
    "parameters": "test_a_parameter_is_what_the_document_says, test_a_parameter_is_sent_and_the_sandbox_reads_it",
    "fields": "test_a_field_of_an_answer_is_read, test_a_field_may_be_missing",
    "statuses": "test_a_status_means_what_it_asks_for",
}
SANITY = {"model": 200, "user": 10_000}
"""Characters beyond which the sandbox takes no text that its document leaves unbounded."""
PNG = base64.b64encode(b"a picture").decode()


@dataclass(frozen=True)
class Item:
    """A row with all that is about it."""

    document: Document
    name: str
    kind: str
    row: Row

    @property
    def operation(self) -> Operation:
        return {str(name): each for name, each in self.document.operations.items()}[self.name]

    @property
    def provider(self) -> Provider:
        return catalog.providers()[self.document.provider]

    @property
    def sandbox(self) -> Dialect:
        return next(each for each in pages.DIALECTS if each.name == self.document.provider)


ITEMS = [Item(each, *found) for each in documents().values() for found in each.rows]


def of(kind: str) -> pytest.MarkDecorator:
    """All rows of a kind."""
    found = [each for each in ITEMS if each.kind == kind]
    cases = [pytest.param(each, id=f"{each.document.document}-{each.name}-{each.row.label}") for each in found]
    return pytest.mark.parametrize("item", cases)


EACH = pytest.mark.parametrize("number", documents())


# the tables are whole


@EACH
def test_as_many_items_are_told_as_were_counted_in_the_document(number: str) -> None:
    each = documents()[number]
    kinds = [kind for _, kind, _ in each.rows]
    told = {kind: kinds.count(kind) for kind in ("operations", *HELD, "remarks")}
    facts = sum(len(row.facts) for _, kind, row in each.rows if kind != "remarks")
    assert {**told, "facts": facts} == each.counted
    assert len(kinds) == COUNTED[number]


@EACH
def test_everything_that_a_machine_readable_document_names_is_told(number: str) -> None:
    each = documents()[number]
    assert bool(each.names) == (number in ("000", "003"))
    for name, operation in each.operations.items():
        told = {
            kind: {row.label: sorted(set(list(row.facts)[1:])) for row in found}
            for kind, found in operation.rows.items()
        }
        named = {kind: {k: sorted(v) for k, v in found.items()} for kind, found in each.names.get(name, {}).items()}
        assert named == (told if each.names else {})


@EACH
def test_no_item_is_told_twice(number: str) -> None:
    labels = [(name, kind, row.label) for name, kind, row in documents()[number].rows if kind != "remarks"]
    assert len(labels) == len(set(labels))


@EACH
def test_every_item_is_held_by_tests_that_exist(number: str) -> None:
    for _, kind, row in documents()[number].rows:
        assert kind in HELD or row.held_by, f"nothing holds {row.label}"
        for test in row.held_by:
            file, _, name = test.partition("::")
            name, bracket, case = name.partition("[")
            assert name in named_tests(file), f"there is no {test}"
            assert not bracket or case.removesuffix("]") in ids(file, name), f"there is no {test}"


@cache
def named_tests(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


@cache
def ids(file: str, name: str) -> set[str]:
    """What pytest calls the cases of a test."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    marks = [mark for mark in getattr(module, name).pytestmark if mark.name == "parametrize"]
    return {"-".join(each) for each in product(*map(_ids, marks))}


def _ids(mark: pytest.Mark) -> list[str]:
    names, values, given = mark.args[0], list(mark.args[1]), mark.kwargs.get("ids")
    names = names.split(",") if isinstance(names, str) else names
    if given is not None and not callable(given):
        return [str(each) for each in given]
    cases = [value if len(names) > 1 else (value,) for value in values]
    return ["-".join(map(_id, names, case, [n] * len(names), [given] * len(names))) for n, case in enumerate(cases)]


def _id(name: str, value: object, nth: int, given: Callable[[object], object] | None) -> str:
    said = given(value) if given else None
    if said is None:
        said = value if isinstance(value, str | int | float | bool | None) else f"{name.strip()}{nth}"
    return str(said)


# what may be asked for


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture to edit and its mask."""
    made = tmp_path_factory.mktemp("documents")
    Image.new("RGB", (32, 32)).save(made / "a.png")
    Image.new("RGBA", (32, 32)).save(made / "hole.png")
    return made


def asked(item: Item, folder: Path, params: Mapping[str, object], **source: object) -> Task:
    """The one task of a small manifest; ManifestError where it is refused. None in `source` leaves its key out."""
    images = {} if item.name == "generate" else {"images": ["a.png"]}
    said = {"prompt": "A fox", "model": item.document.model, **images, **source}
    told = {name: value for name, value in said.items() if value is not None}
    whole = {"name": "x", "provider": item.document.provider, "operation": item.name, "request": dict(params)}
    model = {"model": told.pop("model")} if "model" in told else {}
    wanted = {**whole, **model, "prompts": [told]}
    found = manifest.loads(json.dumps(wanted), folder / "x.yaml", Setup({}))
    (row,) = rows.rows(found, Gallery(folder))
    return Task("key", found.variants[0], row.prompt, 1, 1, "x", row.inputs)


def taken(item: Item, folder: Path, params: Mapping[str, object], **source: object) -> bool:
    try:
        asked(item, folder, params, **source)
    except ManifestError:
        return False
    return True


class Catalog:
    """What a manifest may say of a parameter, found out by manifests that say it."""

    def __init__(self, item: Item, row: Parameter, folder: Path) -> None:
        self.item, self.row, self.folder = item, row, folder

    def facts(self) -> dict[str, object]:
        if self.row.is_file:
            return self.file()
        if self.row.name == "prompt":
            return {"type": "string", "required": not self.takes_source(prompt=None), "longest": self.longest()}
        if self.row.name == "model":
            known = tuple(name for name in self.row.models if catalog.model(name, self.item.provider))
            return {"type": "string", "required": not self.takes_source(model=None), "models": known}
        parameter = self.item.provider.parameters[self.row.name]
        kinds = {"text": "string", "size": "string", "flag": "boolean"}
        values = () if self.takes(self.stranger) else tuple(filter(self.takes, {*self.row.values, *parameter.values}))
        kind = kinds.get(parameter.kind, parameter.kind)
        common = {"type": kind, "required": False, "default": parameter.default}
        if parameter.kind == "integer":
            return {**common, "least": self.bound(-1), "most": self.bound(1)}
        return {**common, "values": values}

    @property
    def stranger(self) -> str:
        return "16x16" if self.item.provider.parameters[self.row.name].kind == "size" else "stranger"

    def takes(self, value: object) -> bool:
        return taken(self.item, self.folder, {**self.row.beside, self.row.name: value})

    def takes_source(self, **source: object) -> bool:
        return taken(self.item, self.folder, {}, **source)

    def bound(self, way: int) -> int | None:
        """The last number in that direction that is taken; None where there is no end."""
        parameter = self.item.provider.parameters[self.row.name]
        ends = {self.row.least, self.row.most, parameter.least, parameter.most} - {None}
        near = {end + step for end in ends if end is not None for step in (-1, 0, 1)}
        return None if self.takes(way * 10**6) else max(filter(self.takes, near), key=way.__mul__)

    def longest(self) -> int | None:
        ends = {self.row.longest, self.item.provider.prompt_most} - {None}
        near = sorted({end + step for end in ends if end is not None for step in (0, 1)})
        if self.takes_source(prompt="x" * 100_000):
            return None
        return max(length for length in near if self.takes_source(prompt="x" * length))

    def file(self) -> dict[str, object]:
        """Of images and masks, found out by images that are imagined."""
        intake = self.item.provider.intake(self.item.name)
        assert intake
        files = Files(self.row, intake)
        found: dict[str, object] = {
            "type": "file",
            "formats": tuple(each for each in inputs.FORMATS if files.fit(format=each)),
            "kinds": tuple(str(each) for each in Kind if files.fit(kind=each)),
            "bytes": files.bytes(),
        }
        if self.row.name == "mask":
            return {**found, "required": intake.mask_needed, "same_size": not files.fit(width=63)}
        return {**found, "required": not self.takes_source(images=None), "files": files.most()}


@dataclass(frozen=True)
class Files:
    """Imagined images, held against what a provider takes of them."""

    row: Parameter
    intake: Intake

    def fit(self, **changes: Any) -> bool:
        image = Input(Kind.FILE, "a.png", "0" * 64, 1000, "png", 64, 64)
        mask = replace(image, area=self.intake.mask)
        pair = (image, replace(mask, **changes)) if self.row.name == "mask" else (replace(image, **changes),)
        return not inputs.objection(pair, self.intake, "it")

    def bytes(self) -> int | None:
        ends = (self.row.bytes, self.intake.bytes_most, self.intake.mask_bytes_most)
        near = {end + step for end in ends if end is not None for step in (0, 1)}
        return None if self.fit(bytes=10**12) else max(size for size in near if self.fit(bytes=size))

    def most(self) -> int:
        image = Input(Kind.FILE, "a.png", "0" * 64, 1000, "png", 64, 64)
        return max(n for n in range(1, 100) if not inputs.objection((image,) * n, self.intake, "it"))


def schema(item: Item) -> dict[str, Any]:
    """What the sandbox's own document says that a request must be."""
    document: Any = openapi.document(item.sandbox, "http://127.0.0.1")
    path = item.operation.url.partition("/v1")[2]
    found: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"][item.operation.content_type]
    return dict(found["schema"])


def sandbox_facts(item: Item, row: Parameter) -> dict[str, object]:
    """What the sandbox's own document says of a parameter."""
    whole = schema(item)
    told = whole["properties"][row.name]
    found: dict[str, object] = {"required": row.name in whole.get("required", ())}
    if row.is_file:
        several = [each for each in told.get("anyOf", ()) if each["type"] == "array"]
        found["type"] = "file"
        if row.name == "image":
            found |= {"files": several[0]["maxItems"] if several else 1, "bytes": LARGEST - 1}
        return found
    longest = told.get("maxLength")
    families = tuple(name for name in row.models if item.sandbox.family(name))
    return {
        **found,
        "type": told["type"],
        "default": str(told.get("default", "")),
        "values": tuple(told.get("enum", ())),
        "least": told.get("minimum"),
        "most": told.get("maximum"),
        "longest": None if longest == SANITY.get(row.name) else longest,
        "models": families,
    }


def unlike(
    place: str, told: Mapping[str, object], found: Mapping[str, object], stated: Mapping[str, object]
) -> set[str]:
    """What a place says otherwise than the document: `sandbox default`."""
    return {
        f"{place} {fact}"
        for fact, value in found.items()
        if (fact != "type" or "type" in stated) and _comparable(value) != _comparable(told.get(fact))
    }


def _comparable(value: object) -> object:
    if isinstance(value, tuple):
        return sorted(value) or None
    return None if value is False or value == "" else value


@of("parameters")
def test_a_parameter_is_what_the_document_says(item: Item, folder: Path) -> None:
    """In the catalog and in the sandbox; what differs is told, with a reason, and nothing else is."""
    row = item.row
    assert isinstance(row, Parameter)
    told = {name: getattr(row, name) for name in row.__dataclass_fields__}
    found = unlike("catalog", told, Catalog(item, row, folder).facts(), row.facts)
    found |= unlike("sandbox", told, sandbox_facts(item, row), row.facts)
    unasked = carried(item, folder, asked(item, folder, {})).get(row.name)
    if row.default and unasked not in (None, row.default):
        found.add("sent default")
    assert found == set(row.differs)


# what is sent


def first(item: Item, task: Task) -> Request:
    """The request that buys."""
    return next(DIALECTS[item.provider.dialect].talk(task, item.provider))


def carried(item: Item, folder: Path, task: Task) -> dict[str, str]:
    """What a request says, as text; files by their format."""
    request = first(item, task)
    form = request.form or Form(tuple((name, str(value)) for name, value in (request.json or {}).items()), ())
    return {**dict(form.fields), **{name: upload.input.format for name, upload in form.files}}


async def rendered(request: Request, folder: Path) -> tuple[str, bytes]:
    """A request's content type and body as they go over the wire."""
    made = await body.body(request, folder)
    assert made
    return made.content_type, b"".join([piece async for piece in made])


def received(item: Item, folder: Path, task: Task) -> tuple[taken_in.Given, Order]:
    """What the sandbox makes of it; raises where it would refuse."""
    kind, data = anyio.run(rendered, first(item, task), folder)
    place = next(each for each in item.sandbox.operations if each.name == item.name)
    given = taken_in.read(Asked(1, 0.0, "req_1", f"/v1/{place.path}", {"content-type": kind}, data), place.tables)
    family = item.sandbox.family_of(item.document.model, any_model=True)  # one that OpenAI has retired, too
    return given, place.order(given, item.name, item.document.model, family)


@of("operations")
def test_an_operation_is_asked_for_where_the_document_says(item: Item, folder: Path) -> None:
    request = first(item, task := asked(item, folder, {}))
    kind, _ = anyio.run(rendered, request, folder)
    operation = item.operation
    assert (request.method, f"{item.provider.base_url}/{request.url}") == (operation.method, operation.url)
    assert kind.partition(";")[0] == operation.content_type
    assert received(item, folder, task)[1].operation == item.name


@of("headers")
def test_a_header_goes_along(item: Item, folder: Path) -> None:
    row = item.row
    assert isinstance(row, Header)
    if row.name == "Content-Type":
        assert anyio.run(rendered, first(item, asked(item, folder, {})), folder)[0] in row.values
        return
    assert (row.name.lower(), first(item, asked(item, folder, {})).auth) == (item.provider.key_header, True)
    item.sandbox.lock.admit(Asked(1, 0.0, "req_1", "/", {"authorization": "Bearer k"}, b""))
    with pytest.raises(Refused):
        item.sandbox.lock.admit(Asked(1, 0.0, "req_1", "/", {}, b""))


@of("parameters")
def test_a_parameter_is_sent_and_the_sandbox_reads_it(item: Item, folder: Path) -> None:
    row = item.row
    assert isinstance(row, Parameter)
    if row.is_file:
        task = asked(item, folder, {}, **({"mask": "hole.png"} if row.name == "mask" else {}))
        given, _ = received(item, folder, task)
        assert carried(item, folder, task)[row.name] == "png"
        assert given.mask("mask") if row.name == "mask" else given.images("image")
        return
    known = {"prompt": "A fox", "model": item.document.model}
    numbers = [str(each) for each in (row.least, row.most) if each is not None]
    for value in row.values or numbers or [known.get(row.name) or row.example or row.default]:
        task = asked(item, folder, {} if row.name in known else {**row.beside, row.name: value})
        given, _ = received(item, folder, task)
        assert carried(item, folder, task)[row.name] == given.text(row.name) == value.strip()


@pytest.mark.parametrize("number", ["001", "004"])
def test_a_mask_is_sent_in_the_documents_words(number: str, folder: Path) -> None:
    """Transparent is what is to be edited, whatever the mask was drawn in."""
    (item,) = (each for each in ITEMS if each.document.document == number and each.row.facts.get("name") == "mask")
    Image.new("L", (32, 32), 255).save(folder / "white.png")
    task = asked(item, folder, {}, mask="white.png", mask_area="white")
    assert received(item, folder, task)[1].mask
    assert task.mask
    (upload,) = (upload for _, upload in (first(item, task).form or Form((), ())).files if upload.input.area)
    assert upload == Upload(task.mask, "transparent")
    with Image.open(io.BytesIO(inputs.worded(folder / "white.png", task.mask, upload.area))) as told:
        assert told.getchannel("A").getextrema() == (0, 0)


def test_a_variation_needs_no_prompt(folder: Path) -> None:
    (item,) = (each for each in ITEMS if each.name == "vary" and each.kind == "operations")
    task = asked(item, folder, {}, prompt=None)
    assert "prompt" not in carried(item, folder, task)
    assert received(item, folder, task)[1].operation == "vary"


@of("remarks")
def test_a_remark_holds_for_manifests(item: Item, folder: Path) -> None:
    row = item.row
    assert isinstance(row, Remark)
    for params in row.takes:
        received(item, folder, asked(item, folder, params))
    for params in row.refuses:
        assert not taken(item, folder, params)


# what comes back


def example(row: Field, value: str) -> object:
    if row.type in ("integer", "number"):
        return json.loads(value or "7")
    return value or {"data[].b64_json": PNG, "data[].url": "https://cdn.example/1.png"}.get(
        row.name, f"some {row.name}"
    )


def said(operation: Operation, *without: str, **values: str) -> dict[str, Any]:
    """The document's example of an answer, but for some fields and all that lies in them."""
    answer: dict[str, Any] = {}
    for row in operation.fields:
        if any(row.name == name or row.name.startswith((f"{name}.", f"{name}[]")) for name in without):
            continue
        *path, leaf = row.name.split(".")
        into = answer
        for step in path:
            name = step.removesuffix("[]")
            into = into.setdefault(name, {}) if name == step else into.setdefault(name, [{}])[0]
        empty: Mapping[str, object] = {"array": [{}], "object": {}}
        if row.type in empty:
            into.setdefault(leaf, empty[row.type])
        else:
            into[leaf] = example(row, values.get(row.name, (*row.values, row.example)[0]))
    return answer


def read(item: Item, folder: Path, body: object) -> tuple[Answer, list[Request]]:
    """The Answer made of a reply, and the requests for its links."""
    talk = DIALECTS[item.provider.dialect].talk(asked(item, folder, {}), item.provider)
    next(talk)
    reply, links = Reply(200, {}, json.dumps(body).encode()), []
    while True:
        try:
            links.append(talk.send(reply))
        except StopIteration as end:
            return end.value, links
        reply = Reply(200, {}, b"a picture")


def found(row: Field, answer: Answer, links: list[Request]) -> object:
    """What became of a field's value."""
    (picture,), usage = answer.pictures, answer.usage
    match row.into:
        case "base64" if isinstance(picture, Inline):
            return picture.base64
        case "link" if isinstance(picture, Fetched) and not links[0].auth:
            return links[0].url
        case "revised" if picture:
            return picture.revised
        case "said":
            return dict(answer.said)[row.name]
    assert usage, f"it went nowhere: {row.into}"
    if row.into == "charged":
        return (usage.charged or 0) / 10**9
    if row.into == "note":
        return int(usage.note.partition(" ")[0])
    return sum(getattr(usage, name) for name in row.into.split(" + "))


@of("fields")
def test_a_field_of_an_answer_is_read(item: Item, folder: Path) -> None:
    row = item.row
    assert isinstance(row, Field)
    without = ["data[].b64_json"] if row.into == "link" else ["data[].url"]
    if row.type in ("array", "object"):
        answer, _ = read(item, folder, said(item.operation, *without))
        assert answer.pictures if row.into == "pictures" else getattr(answer.usage, row.into, answer.usage)
        return
    for value in row.values or (row.example,):
        body = said(item.operation, *without, **{row.name: value})
        assert found(row, *read(item, folder, body)) == example(row, value)


def outcome(item: Item, folder: Path, body: object) -> set[str]:
    """What an answer is not."""
    try:
        answer, _ = read(item, folder, body)
    except Unusable:
        return {"unusable"}
    usage = answer.usage
    told = {"no picture": answer.pictures != (None,), "no usage": usage is not None}
    told |= {"no tokens": bool(usage and usage.total), "no price": bool(usage and usage.charged)}
    return {name for name, there in told.items() if not there}


@of("fields")
def test_a_field_may_be_missing(item: Item, folder: Path) -> None:
    """What it takes along, if anything, and no more."""
    row = item.row
    assert isinstance(row, Field)
    whole = outcome(item, folder, said(item.operation, "data[].url"))
    less = outcome(item, folder, said(item.operation, "data[].url", row.name))
    assert {*row.missing.split(", ")} - {""} == less - whole - ({"no tokens"} if "no usage" in less else set())


def answers(told: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str, bool]]:
    """The fields of an answer in the sandbox's document: name, type, and whether it is always there."""
    if "oneOf" in told:
        yield "oneOf", "", False
        told = told["oneOf"][0]
    for name, each in told["properties"].items():
        yield f"{within}{name}", each["type"], name in told.get("required", ())
        inner, mark = (each["items"], "[].") if each["type"] == "array" else (each, ".")
        if "properties" in inner:
            yield from answers(inner, f"{within}{name}{mark}")


@of("fields")
def test_the_sandbox_answers_with_a_field(item: Item) -> None:
    row = item.row
    assert isinstance(row, Field)
    kinds = {name: (kind, always) for name, kind, always in answers(item.sandbox.response)}
    kind, always = kinds.get(row.name, ("missing", False))
    wrong = {"sandbox missing"} if kind == "missing" else {"sandbox type"} if kind != row.type else set()
    assert wrong | ({"sandbox required"} if row.required and not always else set()) == set(row.differs)


@of("statuses")
def test_a_status_means_what_it_asks_for(item: Item, folder: Path) -> None:
    row = item.row
    assert isinstance(row, Status)
    if row.status == 200:
        assert type(read(item, folder, said(item.operation))[0]).__name__ == row.means
    else:
        assert type(DIALECTS[item.provider.dialect].fault(Reply(row.status, {}, b""))).__name__ == row.means


# what we have and the document does not

BESIDE: tuple[Mapping[str, str], ...] = ({}, {"output_format": "jpeg"}, {"stream": "true"})
"""What some parameters need beside them."""


def takes_anyhow(item: Item, folder: Path, name: str) -> bool:
    parameter = item.provider.parameters[name]
    value = parameter.default or (*parameter.values, "1")[0]
    return any(taken(item, folder, {**beside, name: value}) for beside in BESIDE)


@of("operations")
def test_what_goes_beyond_the_document_is_told(item: Item, folder: Path) -> None:
    operation = item.operation
    told, fields = {row.name for row in operation.parameters}, {row.name for row in operation.fields}
    ours = {name for name in item.provider.parameters if takes_anyhow(item, folder, name)}
    sent = set(carried(item, folder, asked(item, folder, {})))
    theirs, answered = set(schema(item)["properties"]), {name for name, _, _ in answers(item.sandbox.response)}
    more = answered - fields
    top = {name for name in more if not any(name.startswith((f"{each}.", f"{each}[")) for each in more)}
    found = {"catalog": (ours | sent) - told, "sandbox": theirs - told, "sandbox answer": top}
    assert {place: names for place, names in found.items() if names} == {
        place: set(names) for place, names in operation.beyond.items()
    }


OF_NO_DOCUMENT = {"litellm"}
"""What a real proxy was seen to say."""


def test_every_dialect_of_a_document_and_every_test_here_has_its_place_in_the_table() -> None:
    here = named_tests(Path(__file__).name)
    assert {name for names in HELD.values() for name in names.split(", ")} <= here
    assert set(HELD) | {"remarks"} == {kind for each in documents().values() for _, kind, _ in each.rows}
    assert {each.provider for each in documents().values()} | OF_NO_DOCUMENT == set(DIALECTS)


def main() -> None:
    for each in documents().values():
        print("\n".join(markdown(each, HELD)))


if __name__ == "__main__":
    main()
