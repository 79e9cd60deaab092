"""A uvicorn server that lets the application cut its connections, and says when it listens."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol


class CuttingProtocol(H11Protocol):
    """Hands its transport to the application, in the state of each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}

    def shutdown(self) -> None:
        """A provider that goes down takes its connections along: nobody waits for the stalled ones."""
        self.transport.abort()


class Server(uvicorn.Server):
    """Serves on sockets that are bound already: the provider's first, that of its files second."""

    def __init__(self, config: uvicorn.Config, begin: Callable[[], None], end: Callable[[], None]) -> None:
        super().__init__(config)
        self.begin = begin
        self.end = end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begin()
        provider, files = (sockets or [])[:2]
        print(f"sandbox listening on {url(provider)}/v1", flush=True)
        print(f"sandbox files on {url(files)}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it laments every request that is now cut off
        await super().shutdown(sockets)
        self.end()

    def end_with(self, descriptor: int) -> None:
        """Ends when the descriptor, a pipe from the parent process, reaches its end: the parent has died."""

        def watch() -> None:
            while os.read(descriptor, 4096):
                pass
            self.should_exit = True

        threading.Thread(target=watch, daemon=True).start()


def bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def server(app: ASGIApp, keepalive: float, begin: Callable[[], None], end: Callable[[], None]) -> Server:
    """`begin` is called in its loop before it listens, `end` when it has ended."""
    config = uvicorn.Config(
        app,
        http=CuttingProtocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=keepalive,  # type: ignore[arg-type]  # handed to call_later, which takes fractions
        timeout_graceful_shutdown=0,
    )
    return Server(config, begin, end)


def url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
