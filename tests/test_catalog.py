"""The catalog: its data fits together, and what the environment changes shows."""

import pytest

from batchgen import catalog, parameters
from batchgen.catalog import Price, Provider
from batchgen.dialects import DIALECTS
from batchgen.task import Operation, travels

PROVIDERS = catalog.providers()
FAMILIES = catalog.models()
NAMES = sorted(name for family, entry in FAMILIES.items() for name in (family, *entry.also))


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_speaks_a_dialect_that_exists_at_prices_that_exist(name: str) -> None:
    entry = PROVIDERS[name]
    assert entry.dialect in DIALECTS
    assert entry.prices in ("", *catalog.price_lists())
    assert entry.name == entry.identity == name
    assert not entry.base_url.endswith("/")
    assert not entry.idempotency


@pytest.mark.parametrize("name", [name for name, entry in PROVIDERS.items() if not entry.pretend])
def test_a_providers_key_goes_to_its_own_host_over_https(name: str) -> None:
    """Z7, Z9."""
    entry = PROVIDERS[name]
    assert entry.api_key_env
    if entry.host and not catalog.loopback(entry.host):
        assert entry.base_url.startswith("https://")
        assert entry.host in entry.hosts
    else:
        assert entry.base_url_env, "it is where the user says"
        assert not entry.hosts


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_rule_speaks_of_parameters_that_exist(name: str) -> None:
    entry = PROVIDERS[name]
    for rule in entry.rules:
        for parameter, words in (*rule.when.items(), *rule.then.items()):
            known = entry.parameters[parameter].values if parameter != "operation" else tuple(Operation)
            assert not known or {"set", "unset", *known} >= set(words)


def test_openai_takes_no_response_format() -> None:
    """It refuses it."""
    assert "response_format" not in PROVIDERS["openai"].parameters


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_is_sent_unasked_only_travels_and_is_taken(name: str) -> None:
    """An upgrade must not buy anything again."""
    entry = PROVIDERS[name]
    for parameter, value in entry.send.items():
        assert travels(parameter, value)
        assert value in entry.parameters[parameter].values


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_default_is_a_value_that_is_taken(name: str) -> None:
    for each in PROVIDERS[name].parameters.values():
        if each.default:
            value = parameters.convert(each.kind, each.default, each.default)
            assert not each.values or value in each.values
            assert not isinstance(value, int) or (each.least or 0) <= value <= (each.most or 10**9)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_has_tokens_for_each_of_its_qualities_and_a_price(name: str) -> None:
    entry = FAMILIES[name]
    assert set(entry.qualities) == set(entry.tokens.factor or entry.tokens.table)
    assert set(entry.tokens.scale) <= set(entry.qualities)
    for row in entry.tokens.table.values():
        assert set(row) == set(entry.sizes if isinstance(entry.sizes, tuple) else ())
    tariff = catalog.tariff(PROVIDERS["openai"], name)
    assert tariff
    assert tariff.price.image_out > 0
    assert not tariff.assumed


def test_every_price_belongs_to_a_model() -> None:
    for prices in catalog.price_lists().values():
        assert set(prices.models) <= set(FAMILIES)
        assert prices.as_of
        assert prices.source


PUBLISHED = {  # USD per million tokens: text in, cached, image in, cached, image out, text out
    "gpt-image-2.6-sunburst": (5, 1.25, 8, 2, 30, None),
    "gpt-image-2.6-flare": (5, 1.25, 8, 2, 30, None),
    "gpt-image-2.5-sunburst": (5, 1.25, 8, 2, 30, None),
    "gpt-image-2.5-flare": (5, 1.25, 8, 2, 30, None),
    "gpt-image-2": (5, 1.25, 8, 2, 30, None),
    "gpt-image-1.5": (5, 1.25, 8, 2, 32, 10),
    "chatgpt-image-latest": (5, 1.25, 8, 2, 32, 10),
    "gpt-image-1": (5, 1.25, 10, 2.5, 40, None),
    "gpt-image-1-mini": (2, 0.2, 2.5, 0.25, 8, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_openais_prices_are_as_published(name: str) -> None:
    tariff = catalog.tariff(PROVIDERS["openai"], name)
    assert tariff
    assert tariff.price == Price(None, *PUBLISHED[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_found_by_each_of_its_names_and_behind_a_vendors_prefix(name: str) -> None:
    assert catalog.model(name) is catalog.model(f"openai/{name}") is not None


@pytest.mark.parametrize("name", ["", "gpt-image-3", "gpt-image-2 ", "GPT-IMAGE-2", "gpt-image-4/edit", "dall-e-3"])
def test_a_stranger_has_no_rules_and_no_price(name: str) -> None:
    assert catalog.model(name) is None
    assert catalog.tariff(PROVIDERS["openai"], name) is None


@pytest.mark.parametrize("name", ["openai/gpt-image-2/text-to-image", "gpt-image-2/edit", "openai/gpt-image-1-5"])
def test_a_vendors_words_around_a_model_are_looked_through(name: str) -> None:
    assert catalog.model(name)


def test_a_provider_may_have_a_name_of_its_own_for_a_model() -> None:
    name = "oai-gpt-image-2-generations"
    assert catalog.model(name) is None
    assert catalog.model(name, PROVIDERS["myrouter"]) is catalog.model("gpt-image-2")


def test_no_name_belongs_to_two_models() -> None:
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize(
    ("url", "base_url", "identity"),
    [
        ("", "https://api.openai.com/v1", "openai"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1", "openai"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1", "openai"),
        ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1", "openai@http://127.0.0.1:8080"),
        ("https://me:secret@proxy.example/v1", "https://me:secret@proxy.example/v1", "openai@https://proxy.example"),
    ],
)
def test_another_base_url_in_the_environment_makes_another_identity(url: str, base_url: str, identity: str) -> None:
    """An image that another host made is another image; who asked for it is no part of it."""
    found = catalog.provider("openai", {"OPENAI_BASE_URL": url})
    assert (found.base_url, found.identity, found.name) == (base_url, identity, "openai")


def test_an_unknown_provider_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        catalog.provider("stranger", {})


def test_the_price_of_the_manifest_goes_before_every_list() -> None:
    own = Provider(dialect="openai", base_url="https://x", name="mine", prices="openai", price=Price(image=0.04))
    tariff = catalog.tariff(own, "gpt-image-2")
    assert tariff
    assert (tariff.price.image, tariff.as_of, tariff.assumed) == (0.04, "the manifest", False)


def test_another_hosts_prices_are_assumed() -> None:
    own = Provider(dialect="openai", base_url="https://x", name="mine", prices="openai", assumed=True)
    tariff = catalog.tariff(own, "gpt-image-2")
    assert tariff
    assert tariff.assumed
    assert catalog.tariff(Provider(dialect="openai", base_url="https://x"), "gpt-image-2") is None


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *((host, True) for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1")),
        *((host, False) for host in ("127.example.com", "localhost.example.com", "10.0.0.1", "0.0.0.0", "", "127.1")),
    ],
)
def test_z9_only_this_machine_is_loopback(host: str, own: bool) -> None:
    assert catalog.loopback(host) is own


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.openai.com/v1/images", "https://api.openai.com"),
        ("http://127.0.0.1:8080@evil.example/v1", "http://evil.example"),
        ("http://evil.example\\@127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("images/a.png", "://"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert catalog.origin(url) == origin
