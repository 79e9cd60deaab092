"""Every dialect takes and refuses what it documents, in its own shape, and its document says the same."""

from typing import Any, cast

import httpx
import jsonschema
import pytest
from jsonschema import Draft202012Validator

from .child import KEY, Child
from .examples import DIALECTS, Body, changed
from .pictures import file

ENVELOPED = ("openai", "myrouter", "classic", "azure", "litellm", "localai")
TAKEN = [(name, changes) for name, dialect in DIALECTS.items() for changes in ({}, *dialect.taken)]
REFUSED = [(name, changes) for name, dialect in DIALECTS.items() for changes in dialect.refused]


def told(changes: Body) -> str:
    return ",".join(f"{name}={str(value)[:12]}" for name, value in changes.items())


def ask(sandbox: Child, name: str, changes: Body) -> httpx.Response:
    dialect = DIALECTS[name]
    path = f"{name}/v1/images/generations{dialect.query}"
    return sandbox.post(path, headers=dialect.headers, json=changed(dialect.least, changes))


@pytest.fixture(scope="module")
def documents(cached: Child) -> dict[str, Any]:
    return {name: cached.client.get(f"{cached.root}/{name}/openapi.json").json() for name in DIALECTS}


def schema(
    document: dict[str, Any], path: str = "images/generations", kind: str = "application/json"
) -> dict[str, Any]:
    """What a request's body must be."""
    found: dict[str, Any] = document["paths"][f"/{path}"]["post"]["requestBody"]["content"][kind]["schema"]
    return found


def parameters(document: dict[str, Any], *where: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = schema(document, *where)["properties"]
    return found


@pytest.mark.parametrize(("name", "changes"), TAKEN, ids=lambda value: value if isinstance(value, str) else told(value))
def test_what_is_documented_is_taken(cached: Child, documents: dict[str, Any], name: str, changes: Body) -> None:
    reply = ask(cached, name, changes)
    assert reply.status_code == 200, reply.text
    jsonschema.validate(changed(DIALECTS[name].least, changes), schema(documents[name]))
    responses = documents[name]["paths"]["/images/generations"]["post"]["responses"]
    jsonschema.validate(reply.json(), responses["200"]["content"]["application/json"]["schema"])
    assert cached.bill()["charges"][-1]["dialect"] == name


@pytest.mark.parametrize(
    ("name", "changes"), REFUSED, ids=lambda value: value if isinstance(value, str) else told(value)
)
def test_what_is_not_is_refused(cached: Child, documents: dict[str, Any], name: str, changes: Body) -> None:
    reply = ask(cached, name, changes)
    (param,) = changes
    assert blamed(name, reply) == param
    assert not Draft202012Validator(schema(documents[name])).is_valid(changed(DIALECTS[name].least, changes))


def blamed(name: str, reply: httpx.Response) -> str:
    """The parameter that the answer names, in the shape that this dialect has for it."""
    said = reply.json()
    if name in ENVELOPED:
        assert (reply.status_code, set(said["error"])) == (400, {"message", "type", "param", "code"})
        return cast(str, said["error"]["param"])
    if name == "aimlapi":
        assert (reply.status_code, said["statusCode"], said["path"]) == (400, 400, "/aimlapi/v1/images/generations")
        assert (said["requestId"], bool(said["timestamp"])) == (reply.headers["x-request-id"], True)
        kind, param, _ = said["message"].split(": ", 2)
        assert kind == "Body validation error"
        return cast(str, param)
    ((wrong,),) = (said["detail"],)
    assert (reply.status_code, wrong["loc"][0], set(wrong)) == (422, "body", {"type", "loc", "msg"})
    return cast(str, wrong["loc"][1])


def test_words_are_the_dialects_own(cached: Child) -> None:
    literal = {"size": "1", "quality": None}
    assert ask(cached, "onerouter", literal).json()["detail"] == [
        {
            "type": "literal_error",
            "loc": ["body", "size"],
            "msg": "Input should be 'auto', '1024x1024', '1536x1024' or '1024x1536'",
        }
    ]
    assert ask(cached, "classic", {"n": 11}).json()["error"]["code"] is None
    litellm = ask(cached, "litellm", {"stream": True}).json()["error"]
    assert (litellm["code"], "unknown_parameter" in litellm["message"]) == ("400", True)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_document_is_well_formed_and_says_where_it_is_served(documents: dict[str, Any], name: str) -> None:
    document = documents[name]
    assert (document["openapi"], set(document["info"])) == ("3.1.0", {"title", "version"})
    assert document["servers"][0]["url"].endswith(f"/{name}/v1")
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert path.startswith("/")
            assert operation["responses"]["200"]["description"]
            bodies = operation.get("requestBody", {"content": {}})["content"]
            for content in (*bodies.values(), *operation["responses"]["200"]["content"].values()):
                Draft202012Validator.check_schema(content["schema"])
    needed = name not in ("litellm", "localai", "vllm", "sglang")
    assert bool(document["security"]) == needed == ("components" in document)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_document_covers_every_parameter_with_its_default(documents: dict[str, Any], name: str) -> None:
    properties = parameters(documents[name])
    named = {each for changes in DIALECTS[name].taken for each in changes}
    assert named - {"anything", "seed", "num_inference_steps"} <= set(properties)
    for property_ in properties.values():
        assert "default" not in property_ or Draft202012Validator(property_).is_valid(property_["default"])


def test_the_defaults_are_those_of_the_documents(documents: dict[str, Any]) -> None:
    def defaults(name: str, *where: str) -> dict[str, object]:
        said = parameters(documents[name], *where)
        return {each: said[each]["default"] for each in said if "default" in said[each]}

    aimlapi: dict[str, object] = {
        "size": "1024x1024",
        "quality": "medium",
        "output_format": "png",
        "background": "auto",
    }
    aimlapi |= {"moderation": "auto", "n": 1, "output_compression": 100, "response_format": "url"}
    assert defaults("aimlapi") == aimlapi
    del aimlapi["moderation"]
    assert defaults("aimlapi", "images/edits", "multipart/form-data") == aimlapi
    onerouter = {"size": "auto", "quality": "auto", "background": "auto", "moderation": "auto", "n": 1}
    assert defaults("onerouter") == {**onerouter, "output_format": "url"}
    assert defaults("myrouter") == {"quality": "auto", "n": 1, "size": "auto"}
    assert defaults("classic") == {"n": 1, "size": "1024x1024", "response_format": "url"}


@pytest.mark.parametrize("name", ["openai", "aimlapi", "onerouter", "myrouter", "classic"])
def test_a_key_is_needed_and_said_so_in_the_dialects_shape(cached: Child, name: str) -> None:
    for key in ("", "Bearer bad-key"):
        headers = {"Authorization": key}
        replies = [
            cached.client.post(f"{cached.root}/{name}/v1/images/generations", headers=headers, json={}),
            cached.client.get(f"{cached.root}/{name}/v1/models", headers=headers),
        ]
        assert [reply.status_code for reply in replies] == [401, 401]
        shape = {"aimlapi": "statusCode", "onerouter": "detail"}.get(name, "error")
        assert all(shape in reply.json() for reply in replies)


@pytest.mark.parametrize("name", DIALECTS)
def test_models_are_listed_and_unknown_paths_refused_in_the_dialects_shape(cached: Child, name: str) -> None:
    query, headers = DIALECTS[name].query, {"Authorization": f"Bearer {KEY}", **DIALECTS[name].headers}
    models = cached.client.get(f"{cached.root}/{name}/v1/models{query}", headers=headers).json()
    assert models["data"][0].keys() == {"id", "object", "created", "owned_by", "shutdown_date"}
    lost = cached.post(f"{name}/v1/images/nothing", headers=headers)
    shape = "error" if name in ENVELOPED else "message" if name == "aimlapi" else "detail"
    assert (lost.status_code, shape in lost.json()) == (404, True)


@pytest.mark.parametrize(
    ("name", "path"),
    [("classic", "edits"), ("classic", "variations"), ("myrouter", "edits"), ("onerouter", "variations")]
    + [("localai", "edits"), ("aimlapi", "variations"), ("litellm", "variations")],
)
def test_what_a_provider_does_not_do_is_not_found(cached: Child, name: str, path: str) -> None:
    assert cached.post(f"{name}/v1/images/{path}", files={"image": file()}).status_code == 404


@pytest.mark.parametrize("name", ["openai", "aimlapi", "onerouter", "myrouter"])
def test_a_model_that_a_provider_does_not_have_is_not_found(cached: Child, name: str) -> None:
    assert ask(cached, name, {"model": "flux-1"}).status_code == 404
