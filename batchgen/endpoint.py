"""The provider that a manifest names or describes, and whether its host may be given the key."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from batchgen import catalog
from batchgen.catalog import Provider
from batchgen.form import ProviderForm, check
from batchgen.problems import Problems, not_one_of

LOC = ("provider",)


def read(value: object, environ: Mapping[str, str], trusted: frozenset[str], problems: Problems) -> Provider | None:
    """The provider; or None, and `problems` knows why."""
    if isinstance(value, dict):
        form = check(ProviderForm, value, LOC, problems)
        return _described(form, trusted, problems) if form else None
    name = problems.document.text(LOC, value)
    if name in catalog.providers():
        return catalog.provider(name, environ)
    if value is not None:
        problems.add(LOC, not_one_of(name, catalog.providers()))
    return None


def _described(form: ProviderForm, trusted: frozenset[str], problems: Problems) -> Provider:
    """What the catalog says of the dialect's first provider, but for what belongs to that one's own host."""
    known = next(entry for entry in catalog.providers().values() if entry.dialect == form.dialect)
    name = problems.document.text((*LOC, "name"), form.name)
    _check_name(name, problems)
    _check_host(form, trusted, problems)
    _check_price(form, problems)
    return Provider(
        dialect=form.dialect,
        base_url=form.base_url,
        name=name,
        identity=name or f"{form.dialect}@{catalog.origin(form.base_url)}",
        api_key_env=form.api_key_env,
        prices=known.prices,
        price=form.price,
        prompt_most=form.prompt_most or known.prompt_most,
        idempotency=form.idempotency,
        parameters={**known.parameters, **form.parameters},
        rules=known.rules,
    )


def _check_name(name: str, problems: Problems) -> None:
    if name in catalog.providers():
        problems.add((*LOC, "name"), f"{name!r} is the catalog's {name}: give it a name of its own")


def _check_host(form: ProviderForm, trusted: frozenset[str], problems: Problems) -> None:
    """A manifest may come from a stranger: it cannot send a key, or prompts, where its user never meant them to go."""
    loc = (*LOC, "base_url")
    parts = urlsplit(form.base_url)
    host = parts.hostname or ""
    if catalog.loopback(host):
        return
    if parts.scheme != "https":
        problems.add(loc, "must be https: over http anybody on the way can read the key")
    if host not in _hosts(form.api_key_env) | trusted:
        key = f"the key in {form.api_key_env}" if form.api_key_env else "every prompt"
        problems.add(
            loc, f"{key} would go to {host}, a host that is not in the catalog: allow it with --trust-host {host}"
        )


def _hosts(api_key_env: str) -> frozenset[str]:
    """Where a key may go: to its own provider's hosts, or to any of the catalog's if it is nobody's."""
    known = catalog.providers().values()
    owners = [entry for entry in known if api_key_env and entry.api_key_env == api_key_env] or known
    return frozenset(host for entry in owners for host in entry.hosts)


def _check_price(form: ProviderForm, problems: Problems) -> None:
    price = form.price
    if price is None:
        return
    rates = (
        price.image,
        price.text_in,
        price.text_cached,
        price.image_in,
        price.image_cached,
        price.image_out,
        price.text_out,
    )
    if price == catalog.Price():
        problems.add(
            (*LOC, "price"), "is empty: image: 0.04, or text_in, image_in, image_out in USD per million tokens"
        )
    if any(rate is not None and not 0 <= rate < float("inf") for rate in rates):
        problems.add((*LOC, "price"), "a price cannot be less than nothing")
