"""The provider of a manifest: one of the catalog, or one of the user's own; and where its key may go."""
# ruff: noqa: E501 (a mistake and its message stand in one line)

from pathlib import Path

import pytest

from batchgen import manifest
from batchgen.catalog import Price
from batchgen.errors import ManifestError
from batchgen.manifest import Manifest

BASE = """\
name: animals
provider: openai
model: gpt-image-2
prompts:
  - A fox
"""


def read(text: str, trust_hosts: frozenset[str] = frozenset(), environ: dict[str, str] | None = None) -> Manifest:
    return manifest.loads(text, Path("jobs/x.yaml"), environ or {}, trust_hosts=trust_hosts)


def refused(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(text)
    return list(caught.value.problems)


def test_the_environment_may_move_a_named_provider() -> None:
    found = read(BASE, environ={"OPENAI_BASE_URL": "https://proxy.example/v1"})
    assert (found.provider.base_url, found.provider.identity) == (
        "https://proxy.example/v1",
        "openai@https://proxy.example",
    )


def test_a_provider_of_ones_own_borrows_what_its_dialect_knows() -> None:
    own = "{dialect: openai, base_url: 'http://127.0.0.1:8080/v1/', price: {image: 0.04}, parameters: {seed: {kind: integer}}}"
    found = read(BASE.replace("openai", own, 1) + "request: {seed: 4, quality: low}\n")
    assert found.provider.identity == "openai@http://127.0.0.1:8080"
    assert (found.provider.base_url, found.provider.price) == ("http://127.0.0.1:8080/v1", Price(image=0.04))
    assert (found.provider.prompt_most, found.provider.prices) == (32_000, "openai")
    assert (found.provider.api_key_env, found.provider.headers_env, found.provider.hosts) == ("", {}, ())
    assert found.request == (("quality", "low"), ("seed", 4))


def test_a_provider_of_ones_own_may_have_a_name() -> None:
    own = "{name: mine, dialect: openai, base_url: 'http://[::1]:8080'}"
    assert read(BASE.replace("openai", own, 1)).provider.identity == "mine"


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("{dialect: openai}", "provider.base_url: is missing"),
        ("{dialect: opnai, base_url: 'http://localhost'}", "provider.dialect: 'opnai' is not one of openai"),
        ("{name: openai, dialect: openai, base_url: 'http://localhost'}", "provider.name: 'openai' is the catalog's"),
        ("{dialect: openai, base_url: 'http://api.openai.com/v1'}", "must be https"),
        ("{dialect: openai, base_url: 'https://me:secret@api.openai.com'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'https://api.openai.com?x=1'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'https://api.openai.com\\@evil.example'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'file:///etc/passwd'}", "no user name, no query"),
        ("{dialect: openai, base_url: 'http://localhost', price: {}}", "provider.price: is empty"),
        ("{dialect: openai, base_url: 'http://localhost', price: {image: -1}}", "cannot be less than nothing"),
        ("{dialect: openai, base_url: 'http://localhost', price: {imag: 1}}", "unknown key (did you mean image?)"),
        ("{dialect: openai, base_url: 'http://localhost', api_key_env: sk-123}", "not the name of an environment variable"),
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
        f"a host that is not in the catalog: allow it with --trust-host {host}"
    ]
    assert read(text, trust_hosts=frozenset({host})).provider.host == host
