"""batchgen providers: what each provider of the catalog speaks, takes and costs."""

import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest

import click

from batchgen import catalog, report
from batchgen.catalog import Intake, Parameter, Price, Provider
from batchgen.commands import options, tables
from batchgen.errors import UsageError
from batchgen.problems import not_one_of
from batchgen.report import Object, Table
from batchgen.task import DELIVERIES, Operation
from batchgen.text import clean

LABEL = 14  # columns
WIDTH_LEAST, WIDTH_MOST = 40, 100  # columns
PRICED = {
    "tokens": "in USD per million of them, by {source}",
    "images": "in USD for each, by {source}",
    "answers": "each of them names it; plans and budgets need price:",
    "assumed": "by {source}, unless price: corrects it",
    "unknown": "plans and budgets need price:",
    "free": "a machine of your own",
    "pretend": "no real money, reckoned by {source}",
}
"""How a provider's price can be known."""
DOUBTFUL = ("answers", "assumed", "unknown")
"""Where a manifest does well to name the price."""
FORMS = {
    "multipart": "as parts of a form",
    "images": "as data URLs in JSON, in images",
    "image_urls": "as data URLs in JSON, in image_urls",
}
REFERENCES = {"link": "https:// links", "uploaded": "ids of uploaded files"}


@click.command(name="providers", short_help="What each provider of the catalog speaks, takes and costs.")
@click.argument("name", required=False)
@options.as_json
def command(name: str | None, as_json: bool) -> None:
    """What each provider of the catalog speaks, takes and costs; with NAME all that is known of that one.

    \b
      batchgen providers
      batchgen providers openai
      batchgen providers --json

    Of a key it tells only whether it is set. What is wrong, or missing, a manifest can say itself, as in
    provider: {name: onerouter, price: {image: 0.04}}.
    """
    known = catalog.providers()
    if name is not None and name not in known:
        raise UsageError(f"provider: {not_one_of(name, known)}")
    chosen = [known[name]] if name else list(known.values())
    if as_json:
        told = [data(each, os.environ) for each in chosen]
        click.echo(report.dumps({"schema_version": report.SCHEMA_VERSION, "providers": told}))
    elif name:
        page(known[name], os.environ)
    else:
        overview(chosen, os.environ)


def overview(chosen: Sequence[Provider], environ: Mapping[str, str]) -> None:
    """A row each, in two tables: in one it would be too wide for most terminals."""
    spoken = ("provider", "dialect", "operations", "sends", "price", "idempotent")
    tables.show(Table(spoken, tuple(_speaks(each) for each in chosen)), "What they speak")
    sources = {priced(each): source(each) for each in chosen}
    for word, says in PRICED.items():
        if word in sources:
            click.echo(f" {word:<9}  {says.format(source=sources[word])}")
    click.echo()
    asked = ("provider", "base_url", "key_in", "key")
    tables.show(Table(asked, tuple(_lives(each, environ) for each in chosen)), "Where they are")
    click.echo(" batchgen providers NAME tells all that is known of one.")


def _speaks(provider: Provider) -> tuple[object, ...]:
    return (
        provider.name,
        provider.dialect,
        " ".join(operations(provider)),
        " ".join(each.removesuffix("_json") for each in deliveries(provider)),
        priced(provider),
        "yes" if provider.idempotency else "no",
    )


def _lives(provider: Provider, environ: Mapping[str, str]) -> tuple[object, ...]:
    return provider.name, address(provider, environ), provider.api_key_env or None, key(provider, environ) or None


def operations(provider: Provider) -> list[str]:
    return [each for each in Operation if each is Operation.GENERATE or provider.intake(each)]


def deliveries(provider: Provider) -> list[str]:
    """How images may come; a provider that gives no choice sends them in base64."""
    words = {word for parameter in provider.parameters.values() for word in parameter.values if word in DELIVERIES}
    return sorted(words or {"b64_json"})


def priced(provider: Provider) -> str:
    """How its price can be known: a word of PRICED."""
    price = provider.price
    if price is not None:
        return "free" if price == Price(image=0) else "tokens" if price.image is None else "images"
    if provider.pretend:
        return "pretend"
    if provider.prices:
        return "assumed" if provider.assumed else "tokens"
    return "answers" if provider.charges else "unknown"


def source(provider: Provider) -> str:
    """Where its price stands."""
    prices = catalog.price_lists().get(provider.prices)
    return f"{provider.prices}'s list of {prices.as_of}" if prices else "the catalog"


def address(provider: Provider, environ: Mapping[str, str]) -> str:
    """Where it is asked, as things stand."""
    if provider.played:
        return "on this machine, for the run"
    try:
        url = catalog.provider(provider.name, environ).base_url
    except ValueError:  # a variable can hold anything
        url = ""
    return url.rpartition("@")[2] if url else f"given by {provider.base_url_env}"


def key(provider: Provider, environ: Mapping[str, str]) -> str:
    """Whether its key is there, or nothing where it has none; never the key."""
    if not provider.api_key_env:
        return ""
    missing = "optional" if provider.key_optional else "not set"
    return "set" if environ.get(provider.api_key_env, "").strip() else missing


def page(provider: Provider, environ: Mapping[str, str]) -> None:
    """All that is known of one provider."""
    width = min(max(shutil.get_terminal_size().columns, WIDTH_LEAST), WIDTH_MOST) - LABEL
    for label, says in facts(provider, environ):
        lines = textwrap.wrap(clean(says), width, break_long_words=False, break_on_hyphens=False)
        for n, line in enumerate(lines):
            click.echo(f"{'' if n else label:<{LABEL}}{line}")
    click.echo()
    rows = [(name, each.kind, each.default or None, takes(each)) for name, each in provider.parameters.items()]
    tables.show(Table(("parameter", "kind", "default", "takes"), tuple(rows)), "Parameters")


def facts(provider: Provider, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Labels and what stands beside them; what has no label goes on with the one before."""
    yield "Manifest", f"provider: {provider.name}"
    if priced(provider) in DOUBTFUL:
        yield "", f"provider: {{name: {provider.name}, price: {{image: 0.04}}}}"
    yield "Made from", provider.document
    yield "Tried against", provider.tried
    yield "Dialect", provider.dialect
    yield from _places(provider, environ)
    yield "Generate", provider.generate
    for operation in (Operation.EDIT, Operation.VARY):
        intake = provider.intake(operation)
        says = _intake(intake) if intake else ["no"]
        yield from zip_longest([operation.capitalize()], says, fillvalue="")
    yield "Delivery", " or ".join(deliveries(provider))
    for name, value in provider.send.items():
        yield "Sent as well", f"{name}: {value}, unless it is set"
    yield "Prompt", f"up to {provider.prompt_most:,} characters" if provider.prompt_most else "no limit is known"
    for name, model in provider.models.items():
        yield "Model", f"{name} is {model}"
    yield "Price", f"{priced(provider)}: {PRICED[priced(provider)].format(source=source(provider))}"
    hours = f"for {provider.idempotency / 3600:g} h: so long, a request that is sent twice is billed once"
    yield "Idempotency", hours if provider.idempotency else "no: a request that is sent twice may be billed twice"
    yield from zip_longest(["Rules"][: len(provider.rules)], (rule.says for rule in provider.rules), fillvalue="")


def _places(provider: Provider, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Where requests, keys and images go and come from."""
    at = address(provider, environ)
    yield "Base URL", at
    if provider.base_url_env and at == provider.base_url:
        yield "", f"or what {provider.base_url_env} says"
    elif provider.base_url_env in environ:
        yield "", f"as {provider.base_url_env} says" + f", in place of {provider.base_url}" * bool(provider.base_url)
    if provider.query:
        yield "", f"with ?{'&'.join(f'{name}={value}' for name, value in provider.query.items())}"
    if provider.api_key_env:
        yield "Key", f"{provider.api_key_env} ({key(provider, environ)}), in the header {provider.key_header}"
        says = " or ".join(each for each in (provider.base_url_env, "--trust-host") if each)
        yield "", f"goes only to {', '.join((*provider.hosts, 'this machine'))}, or where {says} says"
    for header, variable in provider.headers_env.items():
        yield "", f"{variable} goes along as {header}"
    yield "Images from", ", ".join(("its own host", *provider.links))


def _intake(intake: Intake) -> Iterator[str]:
    """How it takes the images of an edit or a variation."""
    parts = intake.form == "multipart"
    yield f"{intake.path}, files {FORMS[intake.form]}"
    shape = "square " if intake.square else ""
    images = f"one {shape}image" if intake.most == 1 else f"up to {intake.most} {shape}images"
    most = intake.bytes_most if parts else intake.data_most
    yield f"{images}: {', '.join(intake.formats)}; up to {most:,} bytes each"
    if intake.references:
        beside = f"; beside them files go as data URLs, up to {intake.data_most:,} bytes each" if parts else ""
        yield f"or {' and '.join(REFERENCES[each] for each in intake.references)}{beside}"
    if intake.mask:
        needed = "always" if intake.mask_needed else "perhaps"
        yield f"{needed} a mask, {intake.mask} where it may change, up to {intake.mask_bytes_most:,} bytes"
    else:
        yield "no mask"
    if intake.warning:
        yield f"but know: {intake.warning}"


def takes(parameter: Parameter) -> str:
    """What a parameter may be."""
    if parameter.values:
        return ", ".join(parameter.values)
    if parameter.least is not None and parameter.most is not None:
        return f"{parameter.least} to {parameter.most}"
    if parameter.least is not None or parameter.most is not None:
        return f"at least {parameter.least}" if parameter.most is None else f"at most {parameter.most}"
    return {"size": "WIDTHxHEIGHT, as the model paints", "flag": "true, false"}.get(parameter.kind, "any")


def data(provider: Provider, environ: Mapping[str, str]) -> Object:
    """The same as one object for scripts: the catalog's entry, and what follows from it here and now."""
    prices = catalog.price_lists().get(provider.prices)
    entry = asdict(provider)
    return {
        "name": provider.name,
        **{
            name: value
            for name, value in entry.items()
            if name not in ("identity", "keys", "label", "like", "name", "trusted")
        },
        "rules": [{"if": rule.when, "then": rule.then, "says": rule.says} for rule in provider.rules],
        "operations": operations(provider),
        "deliveries": deliveries(provider),
        "priced": priced(provider),
        "price_list": asdict(prices) if prices else None,
        "address": address(provider, environ),
        "key_set": key(provider, environ) == "set",
    }
