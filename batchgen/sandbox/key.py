"""Keys: where each provider wants its own, and what OpenAPI calls that."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchgen.sandbox.order import Asked, Problem, Refused

_VERSION = "api-version"
_HEADER = "Authorization: Bearer KEY"


@dataclass(frozen=True, slots=True)
class Lock:
    """`scheme` is empty where no key is asked for."""

    admit: Callable[[Asked], None]  # raises Refused
    scheme: Mapping[str, str]
    query: tuple[str, ...] = ()  # what must stand in the URL


def _bearer(asked: Asked) -> None:
    key = re.fullmatch(r"Bearer\s+(\S+)", asked.headers.get("authorization", ""))
    _check(key[1] if key else "", _HEADER)


def _bare(asked: Asked) -> None:
    key = re.fullmatch(r"(?:Bearer\s+)?(\S+)", asked.headers.get("authorization", ""))
    _check(key[1] if key else "", _HEADER)


def _api_key(asked: Asked) -> None:
    _check(asked.headers.get("api-key", ""), "api-key: KEY")
    if not asked.query.get(_VERSION):
        raise Refused(Problem(404, "Resource not found", code="404"))


def _check(key: str, header: str) -> None:
    if not key:
        raise Refused(Problem(401, f"You didn't provide an API key: expected the header '{header}'."))
    if key.startswith("bad"):
        raise Refused(Problem(401, f"Incorrect API key provided: {key[:3]}****.", code="invalid_api_key"))


BEARER = Lock(_bearer, {"type": "http", "scheme": "bearer"})
BARE = Lock(_bare, {"type": "apiKey", "in": "header", "name": "Authorization"})  # with or without the word Bearer
API_KEY = Lock(_api_key, {"type": "apiKey", "in": "header", "name": "api-key"}, query=(_VERSION,))
OPEN = Lock(lambda asked: None, {})
