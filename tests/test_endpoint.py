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
