"""The providers that a manifest names or describes, and whether their hosts may be given a key."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypedDict
from urllib.parse import urlsplit

from batchgen import catalog
from batchgen.catalog import Batching, Intake, Key, Parameter, Price, Provider, Rule
from batchgen.document import Loc
from batchgen.form import KeyForm, ProviderForm, RefinedForm, check
from batchgen.problems import Problems, not_one_of, unfit
from batchgen.task import travels

LOOPBACK = "127.0.0.1"
STREAMING = ("stream", "partial_images")  # these cost
OWN = ProviderForm.model_fields.keys() - RefinedForm.model_fields.keys()
"""What only a host of the user's own has."""


class Told(TypedDict):
    """What a manifest may say of any provider."""

    price: Price | None
    prompt_most: int | None
    idempotency: float
    models: Mapping[str, str]
    send: Mapping[str, str]
    edit: Intake | None
    vary: Intake | None
    batch: Batching | None
    parameters: Mapping[str, Parameter]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Doors:
    """Where requests may go: what the environment says, the hosts that the user trusts, or only to the sandbox."""

    environ: Mapping[str, str]
    trusted: frozenset[str] | None = frozenset()
    rehearse: bool = False

    def read(self, value: object, loc: Loc, problems: Problems) -> Provider | None:
        """The provider; or None, and `problems` knows why."""
        found = self._described(value, loc, problems) if isinstance(value, dict) else self._named(value, loc, problems)
        if found is None:
            return None
        return (
            _rehearsed(found)
            if self.rehearse
            else replace(found, trusted=frozenset(each.lower() for each in self.trusted or ()))
        )

    def _named(self, value: object, loc: Loc, problems: Problems) -> Provider | None:
        name = problems.document.text(loc, value)
        if name in catalog.providers():
            try:
                found = catalog.provider(name, self.environ)
            except ValueError:
                problems.add(loc, f"{catalog.providers()[name].base_url_env} holds no address: mend it, or unset it")
                return None
            if "@" in found.base_url or "?" in found.base_url:
                says = "must hold no user name, which would take the key's place, and no query"
                problems.add(loc, f"{found.base_url_env} {says}")
            if not (found.base_url or self.rehearse):
                problems.add(loc, f"{name} has no address of its own: export {found.base_url_env}=https://…")
            return found
        if isinstance(value, list):
            problems.several(loc, value)
        elif value is None:
            problems.add(loc, "is empty: name a provider")
        else:
            problems.add(loc, unfit(name) or not_one_of(name, catalog.providers()))
        return None

    def _described(self, value: dict[str, object], loc: Loc, problems: Problems) -> Provider | None:
        name = problems.document.text((*loc, "name"), value.get("name", ""))
        if name in catalog.providers() and not value.keys() & OWN:
            return self._refined(value, name, loc, problems)
        own = "base_url" in value
        form = check(ProviderForm, value if own else {**value, **_first_host(value)}, loc, problems)
        if form is None:
            return None
        _check_name(name, loc, problems)
        if not (own or name):
            problems.add(loc, "needs a name, or a base_url of its own: its tasks are known by that, not by one of keys")
        if own and not form.keys:
            self._check_host(form.api_key_env, form.base_url, (*loc, "base_url"), problems)
        _check_price(form, loc, problems)
        found = _provider(form, name)
        _check_sent(form, found, loc, problems)
        return self._keyed(found, form, loc, problems, own)

    def _keyed(self, found: Provider, form: RefinedForm, loc: Loc, problems: Problems, own: bool = True) -> Provider:
        """The provider with all its keys, where it has several. Its host counts among theirs if it is its `own`."""
        keys = tuple(
            Key("", each.api_key_env or found.api_key_env, each.base_url or found.base_url) for each in form.keys
        )
        described = isinstance(form, ProviderForm)
        for n, key in enumerate(keys):
            at = (*loc, "keys", n)
            if key in keys[:n]:
                problems.add(at, f"is the same key for the same host as number {keys.index(key) + 1}: leave it out")
            if form.keys[n] == KeyForm():
                problems.add(at, "says nothing: the name of a variable, or {api_key_env: …, base_url: …}")
            if form.keys[n].base_url or described:
                self._check_host(key.api_key_env, key.base_url, at, problems)
            elif not self.rehearse:
                _check_owner(key, found, at, problems)
        if described and keys and found.api_key_env not in {"", *(each.api_key_env for each in keys)}:
            problems.add((*loc, "api_key_env"), "is none of keys: put it there too, or leave it out")
        home = Key("", found.api_key_env, found.base_url) if own else None
        labels = _labels(keys)
        named = (key if key == home else replace(key, label=label) for key, label in zip(keys, labels, strict=True))
        return replace(
            found, keys=tuple(replace(each, base_url="") if each.base_url == found.base_url else each for each in named)
        )

    def _check_host(self, key: str, url: str, at: Loc, problems: Problems) -> None:
        """A manifest may come from a stranger: it cannot send a key, or prompts, where its user never meant."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if self.rehearse or self.trusted is None or catalog.loopback(host):
            return
        if parts.scheme != "https":
            read = "the key" if key else "every prompt"
            problems.add(at, f"must be https: over http anybody on the way can read {read}")
        if host not in _hosts(key) | self.trusted:
            sent = f"the key in {key}" if key else "every prompt"
            allow = f"If you know it and mean it: --trust-host {host}; if somebody gave you this manifest, do not"
            problems.add(at, f"{sent} would go to {host}, a host that is not in the catalog. {allow}")

    def _refined(self, value: dict[str, object], name: str, loc: Loc, problems: Problems) -> Provider | None:
        """A provider of the catalog, of which the manifest knows more: its price, above all."""
        form, known = check(RefinedForm, value, loc, problems), self._named(name, (*loc, "name"), problems)
        if form is None or known is None:
            return None
        _check_price(form, loc, problems)
        if known.prices and form.price and not any(asdict(form.price).values()):
            problems.add((*loc, "price"), f"is nothing, and {name} takes money: leave it out")
        _check_sent(form, known, loc, problems)
        found = replace(known, links=(*known.links, *form.links), **_told(form, known))
        return self._keyed(found, form, loc, problems)


def _provider(form: ProviderForm, name: str) -> Provider:
    """What the catalog says of the one that it speaks like, but for what belongs to that one's own host."""
    known = catalog.providers()[form.dialect]
    return replace(
        known,
        base_url=form.base_url,
        name=name,
        identity=name or f"{form.dialect}@{catalog.origin(form.base_url)}",
        assumed=bool(known.prices),
        base_url_env="",
        api_key_env=form.api_key_env,
        key_header=form.key_header or known.key_header,
        headers_env={},
        query=form.query or known.query,
        hosts=(),
        links=tuple(form.links),
        generate=form.generate or known.generate,
        **_told(form, replace(known, price=None, batch=None)),
    )


def _told(form: RefinedForm, known: Provider) -> Told:
    """What a manifest says of a provider, in place of what the catalog does."""
    return {
        "price": form.price or known.price,
        "prompt_most": form.prompt_most or known.prompt_most,
        "idempotency": form.idempotency or known.idempotency,
        "models": {**known.models, **form.models},
        "send": {**known.send, **form.send},
        "edit": form.edit or known.edit,
        "vary": form.vary or known.vary,
        "batch": form.batch or known.batch,
        "parameters": {**known.parameters, **form.parameters},
        "rules": (*known.rules, *form.rules),
    }


def _rehearsed(provider: Provider) -> Provider:
    """The same provider, played by the sandbox: no key, no money, and a name that says so in every report."""
    known = catalog.providers()[provider.like]
    return replace(
        provider,
        key_header=known.key_header,
        query=known.query,
        generate=known.generate,
        edit=_played(provider.edit, known.edit),
        vary=_played(provider.vary, known.vary),
        base_url=catalog.SANDBOX + ("/v1" if provider.like == catalog.SANDBOX else f"/{provider.like}/v1"),
        identity=provider.identity if provider.pretend else f"sandbox:{provider.identity}",
        keys=tuple(Key(each.label) for each in provider.keys),
        api_key_env="",
        headers_env={},
        trusted=frozenset({LOOPBACK}),
        pretend=True,
    )


def _played(intake: Intake | None, known: Intake | None) -> Intake | None:
    """How images are taken, where the sandbox takes them."""
    return replace(intake, path=known.path, mask_field=known.mask_field) if intake and known else intake


def _check_name(name: str, loc: Loc, problems: Problems) -> None:
    if name in catalog.providers():
        problems.add((*loc, "name"), f"{name!r} is the catalog's {name}: give it a name of its own")


def _first_host(value: Mapping[str, object]) -> Mapping[str, object]:
    """Of a provider that says of each of its keys where it goes, and not where it is itself: the first."""
    keys = value.get("keys")
    urls = [each.get("base_url") if isinstance(each, dict) else None for each in keys] if isinstance(keys, list) else []
    return {"base_url": urls[0]} if urls and None not in urls else {}


def _labels(keys: Sequence[Key]) -> list[str]:
    """Names, each of which one key alone has: its variable, else its host, else more of both."""
    names = [_names(key) for key in keys]
    counts = Counter(name for each in names for name in set(each))
    return [next((name for name in each if name and counts[name] == 1), each[-1]) for each in names]


def _names(key: Key) -> tuple[str, ...]:
    parts = urlsplit(key.base_url)
    return key.api_key_env, parts.hostname or "", parts.netloc, f"{key.api_key_env}@{key.base_url}"


def _check_owner(key: Key, provider: Provider, at: Loc, problems: Problems) -> None:
    """The key of one provider of the catalog is nothing for another."""
    owners = [
        each.name for each in catalog.providers().values() if key.api_key_env and key.api_key_env == each.api_key_env
    ]
    if owners and provider.name not in owners:
        problems.add(at, f"is the key of {owners[0]}: {provider.name} must not see it")


def _hosts(api_key_env: str) -> frozenset[str]:
    """Where a key may go: to its own provider's hosts, or to any of the catalog's if it is nobody's."""
    known = catalog.providers().values()
    owners = [entry for entry in known if api_key_env and entry.api_key_env == api_key_env] or known
    return frozenset(host for entry in owners for host in entry.hosts)


def _check_sent(form: RefinedForm, provider: Provider, loc: Loc, problems: Problems) -> None:
    """What goes along unasked stands in no key and no price: it may only say how an image comes."""
    for name, value in form.send.items():
        parameter = {**provider.parameters, **form.parameters}.get(name)
        if parameter is None:
            problems.add((*loc, "send", name), f"{provider.identity} takes no {name}")
        elif not travels(name, value) or parameter.kind != "text" or name in STREAMING:
            says = "belongs under request: here stands only how images come, as response_format"
            problems.add((*loc, "send", name), says)
        elif parameter.values and value not in parameter.values:
            problems.add((*loc, "send", name), not_one_of(value, parameter.values))


def _check_price(form: RefinedForm, loc: Loc, problems: Problems) -> None:
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
