"""The providers that a manifest names or describes, and whether their hosts may be given a key."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from batchgen import catalog
from batchgen.catalog import Provider
from batchgen.document import Loc
from batchgen.form import ProviderForm, check
from batchgen.problems import Problems, not_one_of, unfit


@dataclass(frozen=True, slots=True)
class Doors:
    """Where requests may go: what the environment says, the hosts that the user trusts, or only to the sandbox."""

    environ: Mapping[str, str]
    trusted: frozenset[str] | None = frozenset()
    rehearse: bool = False

    def read(self, value: object, loc: Loc, problems: Problems) -> Provider | None:
        """The provider; or None, and `problems` knows why."""
        found = self._described(value, loc, problems) if isinstance(value, dict) else self._named(value, loc, problems)
        return _rehearsed(found) if found and self.rehearse else found

    def _named(self, value: object, loc: Loc, problems: Problems) -> Provider | None:
        name = problems.document.text(loc, value)
        if name in catalog.providers():
            return catalog.provider(name, self.environ)
        if isinstance(value, list):
            problems.several(loc, value)
        elif value is None:
            problems.add(loc, "is empty: name a provider")
        else:
            problems.add(loc, unfit(name) or not_one_of(name, catalog.providers()))
        return None

    def _described(self, value: dict[str, object], loc: Loc, problems: Problems) -> Provider | None:
        form = check(ProviderForm, value, loc, problems)
        if form is None:
            return None
        _check_name(problems.document.text((*loc, "name"), form.name), loc, problems)
        if not self.rehearse and self.trusted is not None:
            _check_host(form, loc, self.trusted, problems)
        _check_price(form, loc, problems)
        return _provider(form, problems.document.text((*loc, "name"), form.name))


def _provider(form: ProviderForm, name: str) -> Provider:
    """What the catalog says of the dialect's first provider, but for what belongs to that one's own host."""
    known = next(entry for entry in catalog.providers().values() if entry.dialect == form.dialect)
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


def _rehearsed(provider: Provider) -> Provider:
    """The same provider, played by the sandbox: no key, no money, and a name that says so in every report."""
    identity = provider.identity if provider.pretend else f"sandbox:{provider.identity}"
    return replace(provider, base_url=catalog.SANDBOX, identity=identity, api_key_env="", headers_env={}, pretend=True)


def _check_name(name: str, loc: Loc, problems: Problems) -> None:
    if name in catalog.providers():
        problems.add((*loc, "name"), f"{name!r} is the catalog's {name}: give it a name of its own")


def _check_host(form: ProviderForm, loc: Loc, trusted: frozenset[str], problems: Problems) -> None:
    """A manifest may come from a stranger: it cannot send a key, or prompts, where its user never meant them to go."""
    at = (*loc, "base_url")
    parts = urlsplit(form.base_url)
    host = parts.hostname or ""
    if catalog.loopback(host):
        return
    if parts.scheme != "https":
        read = "the key" if form.api_key_env else "every prompt"
        problems.add(at, f"must be https: over http anybody on the way can read {read}")
    if host not in _hosts(form.api_key_env) | trusted:
        sent = f"the key in {form.api_key_env}" if form.api_key_env else "every prompt"
        allow = f"If you know it and mean it: --trust-host {host}; if somebody gave you this manifest, do not"
        problems.add(at, f"{sent} would go to {host}, a host that is not in the catalog. {allow}")


def _hosts(api_key_env: str) -> frozenset[str]:
    """Where a key may go: to its own provider's hosts, or to any of the catalog's if it is nobody's."""
    known = catalog.providers().values()
    owners = [entry for entry in known if api_key_env and entry.api_key_env == api_key_env] or known
    return frozenset(host for entry in owners for host in entry.hosts)


def _check_price(form: ProviderForm, loc: Loc, problems: Problems) -> None:
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
            (*loc, "price"), "is empty: image: 0.04, or text_in, image_in, image_out in USD per million tokens"
        )
    if any(rate is not None and not 0 <= rate < float("inf") for rate in rates):
        problems.add((*loc, "price"), "a price cannot be less than nothing")
