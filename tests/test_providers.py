"""providers: what it says of each is what the catalog says, its lines can be copied, and a key is never shown."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from world import KEY

from batchgen import catalog, manifest
from batchgen.catalog import Intake, Price, Provider
from batchgen.cli import main
from batchgen.commands.providers import PRICED, command, facts, priced
from batchgen.dialects import DIALECTS
from batchgen.task import Operation, Task, Variant
from batchgen.wire import Reply

NAMES = list(catalog.providers())
EVERY = pytest.mark.parametrize("name", NAMES)
ENDPOINT = {"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the catalog's is set, and the terminal has 100 columns."""
    for provider in catalog.providers().values():
        for name in (provider.base_url_env, provider.api_key_env):
            monkeypatch.delenv(name or "NO_NAME", raising=False)
    monkeypatch.setenv("COLUMNS", "100")


def said(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def told(*arguments: str) -> dict[str, dict[str, Any]]:
    """What --json prints, by the providers' names."""
    whole = json.loads(said(*arguments, "--json"))
    assert whole["schema_version"] == 1
    return {each["name"]: each for each in whole["providers"]}


def rows(text: str, name: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.split()[:1] == [name]]


def page(provider: Provider) -> str:
    return "\n".join(f"{label}: {says}" for label, says in facts(provider, {}))


def test_the_tables_have_two_rows_of_each_and_fit_80_columns() -> None:
    text = said()
    assert [len(rows(text, name)) for name in NAMES] == [2] * len(NAMES)
    assert max(map(len, text.splitlines())) <= 80
    assert rows(text, "openai") == [
        "openai openai generate edit vary b64 tokens no",
        "openai https://api.openai.com/v1 OPENAI_API_KEY not set",
    ]
    assert rows(text, "aimlapi")[0] == "aimlapi aimlapi generate edit b64 url answers no"
    assert rows(text, "azure")[1] == "azure given by AZURE_OPENAI_ENDPOINT AZURE_OPENAI_API_KEY not set"
    assert rows(text, "litellm")[1].endswith("LITELLM_API_KEY not set")


def test_every_word_for_a_price_is_explained_below() -> None:
    text = said()
    for word in {priced(provider) for provider in catalog.providers().values()}:
        assert re.search(rf"^ {word} +\S", text, re.MULTILINE), word


@EVERY
def test_a_page_says_what_the_catalog_says_and_fits_100_columns(name: str) -> None:
    provider, text = catalog.providers()[name], said(name)
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    wanted = [provider.document, provider.tried, provider.generate, *provider.hosts, *provider.links]
    wanted += [rule.says for rule in provider.rules]
    wanted += [f"{each}: {value}, unless it is set" for each, value in provider.send.items()]
    wanted += [intake.warning for intake in (provider.edit, provider.vary) if intake]
    assert [each for each in wanted if each not in flat] == []
    for parameter, each in provider.parameters.items():
        (row,) = rows(text.partition("Parameters\n")[2], parameter)
        assert row.startswith(f"{parameter} {each.kind} {each.default or '–'} ")
        assert ", ".join(each.values) in row


@EVERY
def test_its_lines_for_a_manifest_can_be_copied(name: str) -> None:
    lines = re.findall(r"provider: .+", said(name))
    assert len(lines) == (2 if priced(catalog.providers()[name]) in ("answers", "assumed", "unknown") else 1)
    for line in lines:
        text = f"name: a\nmodel: gpt-image-2\nprompts: [A]\n{line}\n"
        read = manifest.loads(text, Path("x.yaml"), manifest.Setup(environ=ENDPOINT))
        (found,) = read.providers.values()
        assert (found.name, found.price) == (name, Price(image=0.04) if "price" in line else found.price)


def test_how_images_are_taken_is_told_in_numbers() -> None:
    edit, _, vary = said("openai").partition("Vary ")
    assert "up to 16 images: png, jpeg, webp; up to 52,428,799 bytes each" in edit
    assert "https:// links and ids of uploaded files; beside them files go as data URLs" in " ".join(edit.split())
    assert "perhaps a mask, transparent where it may change, up to 4,194,303 bytes" in " ".join(edit.split())
    assert "one image: png, jpeg, webp" in vary
    assert "always a mask, white where it may change" in said("localai")
    assert "files as data URLs in JSON, in image_urls" in said("onerouter")
    assert "Edit          no\nVary          no\n" in said("myrouter")


def test_what_no_provider_has_yet_is_told_too() -> None:
    square = Intake(path="x", form="images", square=True)
    other = replace(
        catalog.providers()["myrouter"], price=Price(image=0.02), idempotency=86_400.0, edit=square, prompt_most=None
    )
    text = page(other)
    for words in ("one square image", "images: in USD for each", "is billed once", "no limit is known"):
        assert words in text
    assert priced(replace(other, price=Price(image_out=30))) == "tokens"
    assert set(map(priced, [*catalog.providers().values(), other])) == PRICED.keys()


def test_json_holds_all_that_the_catalog_does() -> None:
    every = told()
    assert list(every) == NAMES
    assert told("openai") == {"openai": every["openai"]}
    openai, known = every["openai"], catalog.providers()["openai"]
    assert openai["operations"] == ["generate", "edit", "vary"]
    assert openai["parameters"]["n"] == {"kind": "integer", "default": "1", "values": [], "least": 1, "most": 10}
    assert openai["edit"]["bytes_most"] == 52428799
    assert openai["rules"][0]["if"] == {"background": ["transparent"]}
    assert len(openai["rules"]) == len(known.rules)
    assert openai["price_list"]["models"]["gpt-image-2"]["image_out"] == 30
    assert (openai["priced"], openai["assumed"], every["azure"]["assumed"]) == ("tokens", False, True)
    assert every["onerouter"]["deliveries"] == ["b64_json", "url"]
    assert (every["onerouter"]["price_list"], every["localai"]["price"]["image"]) == (None, 0)


def test_of_a_key_it_tells_only_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in catalog.providers().values():
        if provider.api_key_env:
            monkeypatch.setenv(provider.api_key_env, KEY)
    texts = [said(), said("--json"), *map(said, NAMES)]
    assert not [text for text in texts if KEY in text]
    assert rows(texts[0], "openai")[1].endswith("OPENAI_API_KEY set")
    assert "OPENAI_API_KEY (set)" in said("openai")
    assert told("openai")["openai"]["key_set"] is True


@pytest.mark.parametrize("value", ["http://127.0.0.1:9/v1", "https://me:pa55@host/v1", "http://[", "\x1b]0;owned\x07"])
def test_an_address_from_the_environment_is_told_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", value)
    texts = [said(), said("openai"), said("openai", "--json")]
    assert not [text for text in texts if "pa55" in text or "\x1b" in text]
    assert "as OPENAI_BASE_URL says, in place of https://api.openai.com/v1" in texts[1]
    assert ("127.0.0.1:9/v1" in texts[0]) == ("127.0.0.1" in value)


def test_without_a_variable_it_says_which_one_there_is() -> None:
    assert "https://api.openai.com/v1\n              or what OPENAI_BASE_URL says" in said("openai")


def test_a_name_that_is_none_brings_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["providers", "onerooter"])
    out, err = capsys.readouterr()
    assert (end.value.code, out, "did you mean onerouter?" in err) == (2, "", True)


def charges() -> Iterator[str]:
    """The dialects whose answers name their price."""
    body = {"data": [{"b64_json": "eA=="}], "meta": {"usage": {"usd_spent": 0.04, "credits_used": 80_000}}}
    variant = Variant("x", "m", Operation.GENERATE, (), ())
    for name, dialect in DIALECTS.items():
        talk = dialect.talk(Task("key", variant, "A", 1, 1, "a"), catalog.providers()[name])
        next(talk)
        try:
            talk.send(Reply(200, {}, json.dumps(body).encode()))
        except StopIteration as end:
            if end.value.usage and end.value.usage.charged:
                yield name


def test_the_dialects_whose_answers_name_a_price_are_known() -> None:
    assert set(charges()) == {each.dialect for each in catalog.providers().values() if each.charges}
