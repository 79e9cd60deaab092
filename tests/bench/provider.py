"""`python -m tests.bench.provider FLAGS… LOG`: the sandbox, writing down when it hands each answer to its socket."""

import sys
import time
from pathlib import Path
from typing import TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchgen.sandbox import __main__ as sandbox
from batchgen.sandbox.batch_pages import Desk
from batchgen.sandbox.pages import application
from batchgen.sandbox.studio import Studio


class Departures:
    """A line for each answer: the client's id of its request, and the second of the machine's monotonic clock."""

    def __init__(self, app: ASGIApp, log: TextIO) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                name = dict(scope["headers"]).get(b"x-client-request-id", b"")
                self._log.write(f"{name.decode()} {time.monotonic()}\n")
            await send(message)

        await self._app(scope, receive, noting)


def main(*arguments: str) -> int:
    *flags, log = arguments
    with Path(log).open("w", buffering=1) as file:

        def noted(studio: Studio, desk: Desk, port: int) -> ASGIApp:
            return Departures(application(studio, desk, port), file)

        vars(sandbox)["application"] = noted
        return sandbox.main(flags)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
