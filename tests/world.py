"""A world for each test: a folder, a pretend provider with books of its own, and batchgen between them."""

import io
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import yaml
from PIL import Image
from sandbox import child, nursery
from sandbox.child import Child

from batchgen import offer
from batchgen.ending import Ended
from batchgen.job import Job, Order
from batchgen.manifest import Setup

KEY = child.KEY
KEY_ENV = "PRETEND_API_KEY"
OTTER, HERON, CARP = "A sea otter on its back", "A heron at dawn", "A carp in ink"
SETTLED = ("paid", "unusable", "rejected", "unsent", "unknown")


def many(count: int) -> list[str]:
    """So many different prompts."""
    return [f"Otter number {number}" for number in range(count)]


def png() -> bytes:
    """The smallest picture that anybody would sell."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    return out.getvalue()


def environment(**more: str) -> dict[str, str]:
    """What a command sees: the key, and nothing that would lead it elsewhere or hide an error."""
    return {**os.environ, KEY_ENV: KEY, "PYTHONUNBUFFERED": "1", **more}


@dataclass(slots=True)
class World:
    """`before` is how many charges the sandbox had made when this world began."""

    folder: Path
    sandbox: Child
    before: int = 0
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def run_folder(self) -> Path:
        return self.folder / "runs" / "otters"

    def write(self, **changes: object) -> Path:
        """A manifest of one task, but for what is changed; a value of None leaves its key out."""
        manifest: dict[str, object] = {
            "name": "otters",
            "provider": self.provider(),
            "model": "gpt-image-2",
            "prompts": [OTTER],
            "request": {"size": "1024x1024", "quality": "low"},
            "limits": {"concurrency": 4, "budget": 10},
            **changes,
        }
        path = self.folder / "otters.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in manifest.items() if v is not None}, sort_keys=False))
        return path

    def provider(self, **more: object) -> dict[str, object]:
        """Named, so that a task's key does not depend on the port."""
        return {"name": "pretend", "dialect": "openai", "base_url": self.sandbox.url, "api_key_env": KEY_ENV, **more}

    def job(self, **changes: object) -> Job:
        """The job as it was surveyed now; `run` holds its folder."""
        wish = offer.wish(str(self.write(**changes)), None, Setup(environment()))
        return Job(Order(wish.manifest, wish.folder, offer.drawn_up(wish), environ=wish.environ))

    def run(self, **changes: object) -> Ended:
        """The whole run, in this process."""
        return anyio.run(self.job(**changes).run)

    def begin(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        """The command `batchgen`, started and not waited for; ended with the test at the latest."""
        nobody, pipe = subprocess.DEVNULL, subprocess.PIPE
        process = nursery.start(
            "batchgen", *arguments, env=environment(**env), cwd=self.folder, stdin=nobody, stdout=pipe, stderr=pipe
        )
        self.started.append(process)
        return process

    def command(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """The command `batchgen`, from start to end."""
        process = self.begin(*arguments, **env)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def end(self) -> None:
        """Ends what this world started, by its id."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        ledger = self.run_folder / "ledger.db"
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(sql, values).fetchall()

    def states(self) -> dict[str, int]:
        """How many wanted tasks are in each state that occurs."""
        return dict(self.rows("SELECT state, count(*) FROM tasks WHERE wanted = 'yes' GROUP BY state"))

    def attempts(self) -> list[str]:
        """The attempts' states, in the order they were sent."""
        return [state for (state,) in self.rows("SELECT state FROM attempts ORDER BY seq")]

    def charges(self) -> list[dict[str, Any]]:
        charges: list[dict[str, Any]] = self.sandbox.bill()["charges"]
        return charges[self.before :]

    def billed(self) -> int:
        """The bill, in nano-dollars."""
        return sum(charge["nano_usd"] for charge in self.charges())

    def files(self) -> list[Path]:
        """Everything below images/."""
        return sorted(path for path in (self.run_folder / "images").rglob("*") if path.is_file())

    def check_books(self) -> None:
        """What must hold after any run: each charge is a known attempt's, and lies between its bounds.

        Where a provider knew the key of a purchase, that was charged once, and the attempt that settled it bears it.
        """
        found = self.rows("SELECT id, state, cost_low, cost_high, purchase FROM attempts ORDER BY seq")
        attempts = {id_: (state, low, high) for id_, state, low, high, _ in found}
        last = {purchase: id_ for id_, *_, purchase in found}
        bearer = {id_: last[purchase] for id_, *fate, purchase in found if fate == ["unknown", 0, 0]}
        assert {state for state, _, _ in attempts.values()} <= set(SETTLED)
        for charge in self.charges():
            id_ = charge["client_request_id"]
            state, low, high = attempts.pop(bearer.get(id_, id_))
            assert state not in ("rejected", "unsent"), f"{charge['fate']} was billed, and is {state}"
            assert low <= charge["nano_usd"] <= high, f"{charge['fate']} was billed out of its bounds"
        assert {low for _, low, _ in attempts.values()} <= {0}, "what was never billed has no lower bound"
        paid = self.rows("SELECT task, count(*) FROM attempts WHERE state = 'paid' GROUP BY task")
        done = self.rows("SELECT seq FROM tasks WHERE state = 'done'")
        assert sorted(paid) == [(task, 1) for (task,) in sorted(done)]

    def check_equal_to_the_bill(self) -> None:
        """After a run without doubt: to the last nano-dollar."""
        self.check_books()
        assert self.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts") == [(self.billed(), self.billed())]


def eventually(holds: Callable[[], object], within: float = 20.0) -> None:
    """Wait until something holds."""
    last = time.monotonic() + within
    while not holds():
        assert time.monotonic() < last, "it never came to hold"
        time.sleep(0.02)


Respond = Callable[[str, str], tuple[int, dict[str, str], bytes]]
"""(method, path) → (status, headers, body)."""


class Host:
    """A provider that the sandbox would never be: it answers whatever `respond` says.

    `seen` are the requests, `taken` their headers, with names in small letters, and bodies.
    """

    def __init__(self, respond: Respond) -> None:
        self.seen: list[tuple[str, str]] = []
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(respond))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def _handler(self, respond: Respond) -> type[BaseHTTPRequestHandler]:
        seen, taken = self.seen, self.taken

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
                seen.append((self.command, self.path))
                status, headers, said = respond(self.command, self.path)
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(said)), "connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            do_POST = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
