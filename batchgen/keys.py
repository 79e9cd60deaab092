"""The headers that carry the keys, one for each lane, out of the environment."""

from collections.abc import Mapping, Sequence

from batchgen import catalog
from batchgen.catalog import Provider
from batchgen.errors import UsageError

Headers = dict[str, str]


def authorizations(lanes: Sequence[Provider], environ: Mapping[str, str]) -> dict[str, Headers]:
    """Of each lane, by its name; UsageError where a key is missing, or two lanes have the same."""
    found = {lane.lane: authorization(lane, environ) for lane in lanes}
    _check_apart(lanes, found)
    return found


def authorization(provider: Provider, environ: Mapping[str, str]) -> Headers:
    """The headers that carry the key; UsageError where it is missing or cannot be one. Its value is never shown."""
    if provider.pretend:
        return _headers(provider, f"{catalog.SANDBOX}-{provider.label}" if provider.label else catalog.SANDBOX)
    if not provider.api_key_env:
        return {}
    key = environ.get(provider.api_key_env, "").strip()
    if not key and provider.key_optional:
        return {}
    if not key:
        raise UsageError(
            f"{provider.api_key_env} is not set: export it with your key for {provider.name or provider.host}"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(
            f"{provider.api_key_env} holds characters that no key has (a space, a line end, a stray letter)"
        )
    extra = {name: environ[variable] for name, variable in provider.headers_env.items() if environ.get(variable)}
    return {**_headers(provider, key), **extra}


def _check_apart(lanes: Sequence[Provider], auths: Mapping[str, Mapping[str, str]]) -> None:
    """UsageError where two lanes have the same key for the same host: its limits would be counted twice."""
    first: dict[object, Provider] = {}
    for lane in lanes:
        other = first.setdefault((lane.identity, lane.base_url, *sorted(auths[lane.lane].items())), lane)
        if other is not lane:
            names = f"{other.api_key_env} and {lane.api_key_env} hold the same key for {lane.host}"
            raise UsageError(f"{names}: leave one of them out of keys. Nothing was sent.")


def _headers(provider: Provider, key: str) -> Headers:
    name = provider.key_header.lower()
    return {name: f"Bearer {key}" if name == "authorization" else key}
