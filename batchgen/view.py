"""The live view: a page that this machine alone is served, of a ledger and the run that writes it. It only reads."""

import json
import re
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchgen import album, exhibit, page
from batchgen.album import Choice
from batchgen.errors import BatchgenError
from batchgen.folder import Folder
from batchgen.glance import Glance
from batchgen.images import EXTENSIONS
from batchgen.report import Object

HOSTS = {"127.0.0.1", "localhost"}  # what a page may call this machine: any other name may lead to it, too
POLICY = (
    "default-src 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
SCRIPTS = (*page.SCRIPTS, "live.js")
KINDS = {".js": "text/javascript", ".css": "text/css"}
ID_MOST = (1 << 63) - 1
TEXT_MOST = 1000  # letters that are looked for
BYTES_MOST = 1 << 28  # of an image that is shown


def _id(request: Request) -> int:
    """Of a row; none has a higher one than SQLite can count."""
    found: int = request.path_params["id"]
    return min(found, ID_MOST)


def _number(asked: QueryParams, name: str) -> int:
    """A number of the address, 0 where it is none."""
    text = asked.get(name, "")
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else 0


def _rows(glance: Glance, asked: QueryParams) -> Response:
    """What the page asks for; of what nothing is called so, nothing is found."""
    axes = dict(map(_pair, asked.getlist("axis")))
    sample = axes.pop(exhibit.SAMPLE, None)
    order = asked.get("order", "")
    choice = Choice(
        text=asked.get("text", "")[:TEXT_MOST],
        states=frozenset(asked.get("states", "").split()) & album.STATES.keys(),
        samples=None if sample is None else frozenset({int(sample)} if sample.isdecimal() else ()),
        order=order if order in album.ORDERS else "manifest",
    )
    return _json(glance.rows(choice, axes, _number(asked, "offset"), _number(asked, "most")))


def _now(glance: Glance, asked: QueryParams) -> Response:
    return _json(glance.now(_number(asked, "after"), _number(asked, "most")))


def _pair(text: str) -> tuple[str, str]:
    with suppress(ValueError, TypeError, RecursionError):
        name, value = json.loads(text)
        return str(name), str(value)
    return "", text


def application(folder: Folder, token: str) -> ASGIApp:
    """Answers those who know the token."""
    glance = Glance(folder)
    at = f"/{token}"
    routes = [
        Route(f"{at}/", lambda request: Response(_page(), media_type="text/html")),
        Route(f"{at}/web/{{name}}", _asset),
        Route(f"{at}/head", lambda request: _json(glance.head())),
        Route(f"{at}/rows", lambda request: _rows(glance, request.query_params)),
        Route(f"{at}/now", lambda request: _now(glance, request.query_params)),
        Route(f"{at}/task/{{id:int}}", lambda request: _json(glance.task(_id(request)))),
        Route(f"{at}/thumb/{{id:int}}", partial(_thumbnail, glance)),
        Route(f"{at}/image/{{id:int}}", partial(_image, glance)),
    ]
    inside = Starlette(routes=routes, exception_handlers={BatchgenError: _unreadable})
    inside.router.redirect_slashes = False
    return Guard(inside, token)


def _page() -> str:
    scripts = "".join(f'<script src="web/{name}" defer></script>\n' for name in SCRIPTS)
    head = f'<link rel="stylesheet" href="web/{page.STYLE}">'
    return page.asset("page.html").replace("{{ head }}", head).replace("{{ body }}", scripts)


def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in (page.STYLE, *SCRIPTS):
        return Response(status_code=404)
    return Response(page.asset(name), media_type=KINDS[Path(name).suffix])


def _json(value: Object | None) -> Response:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(errors="replace"), 200 if value is not None else 404, media_type="application/json")


def _unreadable(request: Request, error: Exception) -> Response:
    """The ledger may be gone, or not be there yet: the page asks again."""
    text = json.dumps({"error": str(error)}).encode()
    return Response(text, 503, media_type="application/json")


def _thumbnail(glance: Glance, request: Request) -> Response:
    picture = glance.picture(_id(request))
    data = glance.thumbnail(picture) if picture else b""
    return Response(data, media_type="image/webp") if data else Response(status_code=404)


def _image(glance: Glance, request: Request) -> Response:
    """The file that the ledger names, as an image and nothing else; no link leads out of the folder."""
    picture = glance.picture(_id(request))
    if picture is None or picture.format not in EXTENSIONS:
        return Response(status_code=404)
    try:
        data = glance.images.read(picture.path, BYTES_MOST)
    except OSError:
        return Response(status_code=404)
    return Response(data, media_type=f"image/{picture.format}")


class Guard:
    """Lets in who asks by this machine's own name, knows the token and only reads; tells browsers to be strict."""

    def __init__(self, inside: ASGIApp, token: str) -> None:
        self._inside, self._token = inside, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        refused = self._refused(scope)
        await (Response(status_code=refused) if refused else self._inside)(scope, receive, strict)

    def _refused(self, scope: Scope) -> int:
        """The status to refuse with, or 0."""
        if scope["method"] not in ("GET", "HEAD"):
            return 405
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if _hostname(host) not in HOSTS or (origin is not None and origin != f"http://{host}"):
            return 403  # another name of this machine, or another page that asks
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403
        first = str(scope["path"]).split("/")[1:2]
        known = secrets.compare_digest("".join(first).encode(errors="replace"), self._token.encode())
        return 0 if known else 404


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def serve(folder: Folder, port: int, tell: Callable[[str], object]) -> None:
    """Serve until it is interrupted; tells the address. OSError where the port cannot be had."""
    token = secrets.token_urlsafe(24)
    with socket.create_server(("127.0.0.1", port)) as listening:
        tell(f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/")
        config = uvicorn.Config(
            application(folder, token),
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
