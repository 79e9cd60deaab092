"""The origin that links lead to: it holds images, wants no key, and remembers who came for what."""

import html
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from batchgen.sandbox import delivery
from batchgen.sandbox.delivery import Delivery, Wire
from batchgen.sandbox.journal import Journal
from batchgen.sandbox.order import Answer, Order, ordered
from batchgen.sandbox.paint import Painter, media_type

AWAY = "127.0.0.2"  # another host, and this machine all the same


@dataclass(frozen=True, slots=True)
class _Fault:
    """What a fetch gets: the image, or what is said instead, delivered in some way."""

    instead: Callable[["Files", str], Answer] | None = None
    deliver: Delivery = delivery.whole


def _page(status: int, title: str) -> _Fault:
    body = f"<!DOCTYPE html>\n<html><body><h1>{html.escape(title)}</h1></body></html>\n".encode()
    return _Fault(lambda files, name: Answer(status, body, {"content-type": "text/html; charset=utf-8"}))


FAULTS = {
    "ok": _Fault(),
    "404": _page(404, "Not Found"),
    "403": _page(403, "Forbidden"),
    "500": _page(500, "Internal Server Error"),
    "cut": _Fault(deliver=delivery.cut),
    "redirect": _Fault(lambda files, name: Answer(302, b"", {"location": files.alias(name)})),
    "redirect-away": _Fault(lambda files, name: Answer(302, b"", {"location": files.away(name)})),
    "html": _page(200, "Just a moment…"),
    "truncate": _Fault(deliver=delivery.truncate),
}


def script(text: str) -> tuple[str, ...]:
    """`404 cut ok`; ValueError where a name is unknown."""
    names = tuple(text.split())
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(FAULTS)}")
    return names


class Files:
    """An ASGI application; images are painted whenever their link is fetched. The i-th fetch gets the i-th fault."""

    def __init__(
        self, origin: str, painter: Painter, faults: tuple[str, ...] = (), journal: Journal | None = None
    ) -> None:
        self._origin = origin
        self._painter = painter
        self._faults = faults
        self._journal = journal or Journal()
        self._made = {each["name"]: (ordered(each["order"]), each["number"]) for each in self._journal.records()}
        self._fetches: list[dict[str, object]] = []

    def link(self, order: Order, number: int) -> str:
        name = f"{uuid4().hex}.{order.format}"
        self._made[name] = order, number
        self._journal.add({"name": name, "order": asdict(order), "number": number})
        return f"{self._origin}/files/{name}"

    def alias(self, name: str) -> str:
        """Another link to the same image."""
        return self.link(*self._made[name])

    def away(self, name: str) -> str:
        """The same link at another host."""
        return f"http://{AWAY}:{self._origin.rpartition(':')[2]}/files/{name}"

    def fetches(self) -> list[dict[str, object]]:
        """Path, headers and status of every request; the status is null where no answer was begun."""
        return self._fetches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(scope, receive, send)
        headers = Headers(scope=scope)
        seen: dict[str, object] = {"path": scope["path"], "headers": dict(headers), "status": None}
        self._fetches.append(seen)
        name = scope["path"].removeprefix("/files/")
        fault = self._fault(name, headers, len(self._fetches))
        answer = fault.instead(self, name) if fault.instead else await self._image(name)
        if fault.deliver is not delivery.cut:
            seen["status"] = answer.status
        await fault.deliver(wire, answer)

    def _fault(self, name: str, headers: Mapping[str, str], ordinal: int) -> _Fault:
        if "authorization" in headers or "api-key" in headers:  # as at a store of signed links: no key belongs there
            return _page(400, "A link is its own key: send none.")
        if name not in self._made:
            return FAULTS["404"]
        return FAULTS[self._faults[ordinal - 1]] if ordinal <= len(self._faults) else FAULTS["ok"]

    async def _image(self, name: str) -> Answer:
        order, number = self._made[name]
        return Answer(200, (await self._painter(order, number)).raw, {"content-type": media_type(order.format)})
