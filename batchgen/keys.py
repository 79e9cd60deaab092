"""The headers that carry a provider's key, out of the environment."""

from collections.abc import Mapping

from batchgen.catalog import Provider
from batchgen.errors import UsageError


def authorization(provider: Provider, environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that carry the key; UsageError where it is missing or cannot be one. Its value is never shown."""
    if provider.pretend:
        return _headers(provider, "sandbox")
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


def _headers(provider: Provider, key: str) -> dict[str, str]:
    name = provider.key_header.lower()
    return {name: f"Bearer {key}" if name == "authorization" else key}
