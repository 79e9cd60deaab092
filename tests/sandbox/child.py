"""The sandbox as its users have it: a process of its own, spoken to over HTTP."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from .nursery import Forked

ROOT = Path(__file__).parents[2]
KEY = "sk-canary-8HlrwYMfvea9lkxwkkMxzwwM5hpA6eEfujfoRnxa6wHW"  # canary.py looks for it everywhere
ORDER = {"model": "gpt-image-2", "prompt": "A sea otter on its back", "quality": "low"}


@dataclass(frozen=True, slots=True)
class Child:
    """A running sandbox; `url` ends in /v1."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    def generate(self, headers: dict[str, str] | None = None, timeout: float = 20.0, **order: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}", **(headers or {})}
        url = f"{self.url}/images/generations"
        return self.client.post(url, headers=headers, json={**ORDER, **order}, timeout=timeout)

    def post(self, path: str, headers: dict[str, str] | None = None, **sent: Any) -> httpx.Response:
        """To any dialect: `path` is what comes behind the port."""
        headers = {"Authorization": f"Bearer {KEY}", **(headers or {})}
        return self.client.post(f"{self.root}/{path}", headers=headers, timeout=20, **sent)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"{self.root}/{path}", headers={"Authorization": f"Bearer {KEY}"})

    def fetches(self) -> list[dict[str, Any]]:
        """What reached the origin that links lead to."""
        fetches: list[dict[str, Any]] = self.client.get(f"{self.root}/__fetches").json()
        return fetches

    def bill(self) -> dict[str, Any]:
        bill: dict[str, Any] = self.client.get(f"{self.root}/__bill").json()
        return bill

    def fates(self) -> list[str]:
        return [charge["fate"] for charge in self.bill()["charges"]]

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self.client.get(f"{self.root}/__stats").json()
        return stats

    def end(self) -> int:
        """Ends this very process, by its id; its exit code. Killed, which is quick: the books are always up to date."""
        self.process.kill()
        return self.wait()

    def wait(self) -> int:
        self.client.close()
        code = self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        return code


def start(*flags: str) -> Child:
    """As a command line starts it."""
    return _child(subprocess.Popen, *flags)


def fork(*flags: str) -> Child:
    """The same, sooner."""
    return _child(Forked, *flags)


def _child(kind: type[subprocess.Popen[str]], *flags: str) -> Child:
    command = [sys.executable, "-m", "batchgen.sandbox", "--until-stdin-closes", *flags]
    process = kind(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    fresh = httpx.Limits(max_keepalive_connections=0)  # a connection that the server has just closed proves nothing
    return Child(process, line.removeprefix("sandbox listening on ").strip(), httpx.Client(verify=False, limits=fresh))
