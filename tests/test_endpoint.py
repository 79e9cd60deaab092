"""The provider of a manifest: one of the catalog, or one of the user's own; and where its key may go."""
# ruff: noqa: E501 (a mistake and its message stand in one line)

from pathlib import Path

import pytest

from batchgen import manifest
from batchgen.catalog import Price, Provider
from batchgen.errors import ManifestError
from batchgen.manifest import Manifest, Setup

BASE = """\
name: animals
provider: openai
model: gpt-image-2
prompts:
  - A fox
"""


def read(text: str, trust_hosts: frozenset[str] = frozenset(), environ: dict[str, str] | None = None) -> Manifest:
    return manifest.loads(text, Path("jobs/x.yaml"), Setup(environ or {}, trust_hosts=trust_hosts))


def provider(found: Manifest) -> Provider:
    """The only one."""
    (one,) = found.providers.values()
    assert {variant.provider for variant in found.variants} == set(found.providers) == {one.identity}
    return one


def refused(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(text)
    return list(caught.value.problems)


def test_the_environment_may_move_a_named_provider() -> None:
    found = provider(read(BASE, environ={"OPENAI_BASE_URL": "https://proxy.example/v1"}))
    assert (found.base_url, found.identity) == (
        "https://proxy.example/v1",
        "openai@https://proxy.example",
    )


def test_a_provider_of_ones_own_borrows_what_its_dialect_knows() -> None:
    own = "{dialect: openai, base_url: 'http://127.0.0.1:8080/v1/', price: {image: 0.04}, parameters: {seed: {kind: integer}}}"
    loaded = read(BASE.replace("openai", own, 1) + "request: {seed: 4, quality: low}\n")
    found = provider(loaded)
    assert found.identity == "openai@http://127.0.0.1:8080"
    assert (found.base_url, found.price) == ("http://127.0.0.1:8080/v1", Price(image=0.04))
    assert (found.prompt_most, found.prices) == (32_000, "openai")
    assert (found.api_key_env, found.headers_env, found.hosts) == ("", {}, ())
    assert [variant.params for variant in loaded.variants] == [(("quality", "low"), ("seed", 4))]


def test_a_provider_of_ones_own_may_have_a_name() -> None:
    own = "{name: mine, dialect: openai, base_url: 'http://[::1]:8080'}"
    assert provider(read(BASE.replace("openai", own, 1))).identity == "mine"


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("{dialect: openai}", "provider.base_url: is missing"),
        ("{dialect: opnai, base_url: 'http://localhost'}", "provider.dialect: 'opnai' is not one of aimlapi, azure, classic,"),
        ("{name: openai, dialect: openai, base_url: 'http://localhost'}", "provider.name: 'openai' is the catalog's"),
        ("{dialect: openai, base_url: 'http://api.openai.com/v1'}", "must be https"),
        ("{dialect: openai, base_url: 'https://me:secret@api.openai.com'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'https://api.openai.com?x=1'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'https://api.openai.com\\@evil.example'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'file:///etc/passwd'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'http://localhost', price: {}}", "provider.price: is empty"),
        ("{dialect: openai, base_url: 'http://localhost', price: {image: -1}}", "cannot be less than nothing"),
        ("{dialect: openai, base_url: 'http://localhost', price: {imag: 1}}", "unknown key (did you mean image?)"),
        ("{dialect: openai, base_url: 'http://localhost', api_key_env: sk-123}", "must be the name of an environment variable"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_provider_of_ones_own(own: str, says: str) -> None:
    (problem,) = refused(BASE.replace("openai", own, 1))
    assert says in problem


@pytest.mark.parametrize("host", ["evil.example", "127.evil.example", "api.openai.com.evil.example", "169.254.169.254"])
def test_a_key_goes_to_no_host_that_only_the_manifest_names(host: str) -> None:
    text = BASE.replace("openai", f"{{dialect: openai, base_url: 'https://{host}/v1', api_key_env: OPENAI_API_KEY}}", 1)
    assert refused(text) == [
        f"jobs/x.yaml:2:39: provider.base_url: the key in OPENAI_API_KEY would go to {host}, "
        f"a host that is not in the catalog. If you know it and mean it: --trust-host {host}; "
        "if somebody gave you this manifest, do not"
    ]
    assert provider(read(text, trust_hosts=frozenset({host}))).host == host


@pytest.mark.parametrize("axis", ["provider: [{}]", "target: [{{as: far, provider: {}}}]"])
def test_nor_to_one_that_only_an_axis_names(axis: str) -> None:
    own = "{name: far, dialect: openai, base_url: 'https://far.example/v1', api_key_env: OPENAI_API_KEY}"
    text = f"{BASE}matrix: {{{axis.format(own)}}}\n"
    (problem,) = refused(text)
    assert "provider.base_url" in problem or "provider.0.base_url" in problem
    assert "the key in OPENAI_API_KEY would go to far.example" in problem
    assert list(read(text, trust_hosts=frozenset({"far.example"})).providers) == ["far"]


def test_prompts_go_to_no_strange_host_either() -> None:
    own = "{dialect: openai, base_url: 'https://far.example/v1'}"
    (problem,) = refused(BASE.replace("openai", own, 1))
    assert "every prompt would go to far.example" in problem


# what a stranger's manifest may say of a provider

ELSEWHERE = (
    "https://evil.example/take",
    "//evil.example/take",
    "/take",
    "@evil.example/take",
    "images/edits?to=evil",
    "",
)
OWN = "dialect: openai, base_url: 'http://localhost/v1'"


@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize(
    "own",
    [
        "{name: openai, edit: {path: '%s'}}",
        "{name: openai, vary: {path: '%s', most: 1}}",
        "{name: onerouter, edit: {path: '%s', form: image_urls}}",
        f"{{{OWN}, generate: '%s'}}",
        f"{{{OWN}, edit: {{path: '%s'}}}}",
    ],
)
def test_a_path_leads_nowhere_but_below_the_base_url(own: str, path: str) -> None:
    problems = refused(BASE.replace("openai", own % path, 1))
    assert [problem.split(": ")[1].rpartition(".")[2] for problem in problems] == [
        "generate" if "generate" in own else "path"
    ]


@pytest.mark.parametrize("path", ["../take", "images/../../take", ".."])
def test_a_path_does_not_lead_up(path: str) -> None:
    refused(BASE.replace("openai", f"{{name: openai, edit: {{path: '{path}'}}}}", 1))


def test_a_path_that_is_none_is_told_as_one() -> None:
    (problem,) = refused(BASE.replace("openai", "{name: openai, edit: {path: /take}}", 1))
    assert problem.endswith("provider.edit.path: must be a path below the base URL, such as images/edits")


@pytest.mark.parametrize("path", ["images/edits", "v2/images~edits", "a.b-c_d/e"])
def test_a_path_below_the_base_url_is_taken(path: str) -> None:
    found = provider(read(BASE.replace("openai", f"{{name: openai, edit: {{path: {path}}}}}", 1)))
    assert found.edit
    assert found.edit.path == path


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("{n: '10'}", "n"),
        ("{model: other}", "model"),
        ("{prompt: other}", "prompt"),
        ("{quality: high}", "quality"),
        ("{output_format: png}", "output_format"),
        ("{response_format: url}", "response_format"),
        ("{response_format: '{{ x }}'}", "response_format"),
    ],
)
@pytest.mark.parametrize("own", ["{name: openai, send: %s}", f"{{{OWN}, send: %s}}"])
def test_what_goes_along_unasked_makes_no_other_image_and_no_other_price(own: str, sent: str, name: str) -> None:
    (problem,) = refused(BASE.replace("openai", own % sent, 1))
    assert f": provider.send.{name}: " in problem


def test_what_goes_along_unasked_may_say_how_images_come() -> None:
    text = BASE.replace("openai", "{name: aimlapi, send: {response_format: url}}", 1)
    assert provider(read(text)).send["response_format"] == "url"
    (problem,) = refused(text.replace("url", "urls"))
    assert "provider.send.response_format: 'urls' is not one of url, b64_json" in problem


def test_hosts_that_the_user_vouches_for_are_known_to_every_provider_in_one_spelling() -> None:
    found = read(BASE + "matrix: {quality: [low]}\n", trust_hosts=frozenset({"CDN.example", "10.1.2.3"}))
    assert provider(found).trusted == frozenset({"cdn.example", "10.1.2.3"})
    assert provider(read(BASE)).trusted == frozenset()


@pytest.mark.parametrize(
    "header", ["authorization", "api-key", "Ocp-Apim-Subscription-Key", "X-Auth-Token", "x-api-key"]
)
def test_a_key_goes_in_a_header_of_keys(header: str) -> None:
    own = f"{{{OWN}, api_key_env: MY_KEY, key_header: {header}}}"
    assert provider(read(BASE.replace("openai", own, 1))).key_header == header


@pytest.mark.parametrize("header", ["host", "x-forwarded-host", "cookie", "content-length", "user-agent", "key: x"])
def test_a_key_goes_in_no_other_header(header: str) -> None:
    (problem,) = refused(BASE.replace("openai", f"{{{OWN}, api_key_env: MY_KEY, key_header: '{header}'}}", 1))
    assert problem.endswith("must be the name of the header that the key goes in, such as api-key")


@pytest.mark.parametrize(
    "url", ["https://me:pw@proxy.example/v1", "https://proxy.example/v1?to=evil", "https://me@proxy.example"]
)
def test_an_address_from_the_environment_holds_no_user_and_no_query(url: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(BASE, environ={"OPENAI_BASE_URL": url})
    (problem,) = caught.value.problems
    assert "OPENAI_BASE_URL must hold no user name" in problem
    assert "pw" not in problem


def test_who_takes_money_is_not_free_because_a_manifest_says_so() -> None:
    free = "{name: openai, price: {image: 0}}"
    assert refused(BASE.replace("openai", free, 1)) == [
        "jobs/x.yaml:2:33: provider.price: is nothing, and openai takes money: leave it out"
    ]
