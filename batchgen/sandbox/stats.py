"""How many requests came, how they were answered, and how many were open at once."""

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Stats:
    """Counts the requests of the application that it wraps, save those that read the sandbox's own books."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._statuses: Counter[str] = Counter()  # "none" where no answer was begun
        self._open = 0
        self._most_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/__"):
            await self._app(scope, receive, send)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = "none"

        async def noting(message: Message) -> None:
            nonlocal status
            status = str(message.get("status", status))
            await send(message)

        self._open += 1
        self._most_open = max(self._most_open, self._open)
        try:
            await self._app(scope, receive, noting)
        finally:
            self._open -= 1
            self._statuses[status] += 1

    def summary(self) -> dict[str, object]:
        return {"requests": dict(self._statuses), "open": self._open, "most_open": self._most_open}
