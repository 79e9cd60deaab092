"""An S3 server as a process of its own: moto's, with an outage, a delay or a bad habit on request.

Run as a script it tells its port, and does what it is told line by line, until that stops.
"""

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

SECRET = "sk-canary-8HlrwYMfvea9lkxwkkMxzwwM5hpA6eEfujfoRnxa6wHW"  # canary.py looks for it everywhere
BUCKET = "zoo"
LATE = 1.0  # seconds from a put that was done to its answer
Start = Callable[..., Any]


def environment(port: int) -> dict[str, str]:
    """What leads a command there."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@dataclass(slots=True)
class Bucket:
    """The server, and the only bucket in it."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def env(self) -> dict[str, str]:
        return environment(self.port)

    def tell(self, word: str) -> None:
        """down, up, careless, refuse, short (lists), late, conflict (once), slow 0.05, honest; it is done then."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline()

    def end(self) -> None:
        """Ends this very process, by its id."""
        self.process.kill()
        self.process.communicate()


def start() -> Bucket:
    command = [sys.executable, __file__]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout
    return Bucket(process, int(process.stdout.readline()))


class Served:
    """The server's application, and what it is told to do to it."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._inner = DomainDispatcherApplication(create_backend_app)
        self._server: Any = None
        self.port = 0
        self.word, self.delay = "honest", 0.0

    def __call__(self, environ: dict[str, Any], begin: Start) -> Iterable[bytes]:
        time.sleep(self.delay)
        if self.word == "refuse":
            begin("403 Forbidden", [("content-type", "text/xml")])
            told = environ.get("HTTP_AUTHORIZATION", "")
            return [f"<Error><Code>AccessDenied</Code><Told>{told} {SECRET}</Told></Error>".encode()]
        if self.word == "conflict" and environ["REQUEST_METHOD"] == "PUT":  # another put of it is under way
            self.word = "honest"
            begin("409 Conflict", [("content-type", "text/xml")])
            return [b"<Error><Code>ConditionalRequestConflict</Code></Error>"]
        if self.word == "short" and "list-type" in environ["QUERY_STRING"]:
            environ["QUERY_STRING"] += "&max-keys=3"
        if self.word == "careless":
            environ.pop("HTTP_IF_NONE_MATCH", None)
        found: Iterable[bytes] = self._inner(environ, begin)
        if self.word == "late" and environ["REQUEST_METHOD"] == "PUT":
            time.sleep(LATE)
        return found

    def up(self) -> None:
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log_request(self, *_: object) -> None:
                pass

        self._server = make_server("127.0.0.1", self.port, self, threaded=True, request_handler=Quiet)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def make(self) -> None:
        entry = (
            "AWS4-HMAC-SHA256 Credential=anybody/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
        )
        url = f"http://127.0.0.1:{self.port}/{BUCKET}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers={"Authorization": entry})).close()

    def down(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def do(self, word: str) -> None:
        verb, _, number = word.partition(" ")
        if verb in ("up", "down"):
            getattr(self, verb)()
        elif verb == "slow":
            self.delay = float(number)
        else:
            self.word, self.delay = verb, 0.0


def main() -> None:
    served = Served()
    served.up()
    served.make()
    print(served.port, flush=True)
    for line in sys.stdin:
        served.do(line.strip())
        print("done", flush=True)


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    main()
