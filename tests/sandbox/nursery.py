"""Forks the program: a process that has imported everything once starts a command in a tenth of the time.

Run as a script, it is given a command and three streams at a time over the socket of which it is told the number.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
MESSAGE_MOST = 1 << 17  # bytes
PACKAGES = ("batchgen", "batchgen.commands", "batchgen.dialects", "batchgen.engines", "batchgen.sandbox")
LATE = (
    *("anyio._backends._asyncio", "anyio._core._signals", "httpcore", "importlib.resources.readers", "resource"),
    *("multiprocessing.synchronize", "uvicorn.loops.asyncio", "uvicorn.protocols.http.auto", "uvicorn.lifespan.off"),
    *(f"PIL.{kind}ImagePlugin" for kind in ("Bmp", "Gif", "Jpeg", "Ppm", "Png")),
)
"""What the program imports only as it works; the rest comes with the packages."""
EARLY = ("LD_", "LC_", "LANG", "PYTHON")
"""Variables that a process reads only as it starts."""
ENVIRON = {**os.environ, "PYTHONUNBUFFERED": "1"}


def start(module: str, *arguments: str, env: Mapping[str, str], **streams: Any) -> "subprocess.Popen[str]":
    """`python -m module`, forked where nobody can tell: an interpreter of its own if `env` is meant for its start."""
    kind = Forked if early(env) == early(ENVIRON) else subprocess.Popen
    return kind([sys.executable, "-m", module, *arguments], env=env, text=True, **streams)


def early(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(EARLY)}


class Forked(subprocess.Popen[str]):
    """`python -m …`, forked instead of executed; of Popen's options it knows those for the folder and the streams."""

    def _execute_child(self, args: Sequence[str], *given: Any) -> None:
        _, _, _, _, cwd, env, _, _, _, stdin, ours, its_out, stdout, its_err, stderr, *_ = given
        order = {"words": list(args[2:]), "folder": str(cwd or Path.cwd()), "env": dict(env or os.environ)}
        streams = [own if own >= 0 else known for known, own in enumerate((stdin, stdout, stderr))]
        self.pid = _told(order, *streams)
        self._life = os.pidfd_open(self.pid)
        self._child_created = True
        self._close_pipe_fds(stdin, ours, its_out, stdout, its_err, stderr)  # type: ignore[attr-defined]

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        return self._seen(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._seen(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _seen(self, timeout: float | None) -> int | None:
        """Its exit code, as soon as it has one within this time; the nursery keeps its id from being given again."""
        if self.returncode is None and select.select([self._life], [], [], timeout)[0]:
            self.returncode = _told({"ended": self.pid})
            os.close(self._life)
        code: int | None = self.returncode
        return code


@cache
def _nursery() -> socket.socket:
    """One for each process of tests, and it ends with that."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, str(Path(__file__)), str(its.fileno())]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRON, pass_fds=[its.fileno()])
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


_turn = threading.Lock()


def _told(order: Mapping[str, object], *streams: int) -> int:
    with _turn:
        line = _nursery()
        socket.send_fds(line, [json.dumps(order).encode()], list(streams))
        return int(line.recv(MESSAGE_MOST))


def _warm() -> None:
    """Import all there is; nothing is opened, started or read from the environment by that."""
    for package in PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    gc.freeze()  # else each child's first collection would copy it all


def _serve(line: socket.socket) -> dict[str, Any]:
    """Returns in each child, with its order."""
    while True:
        message, streams, _, _ = socket.recv_fds(line, MESSAGE_MOST, 3)
        if not message:
            sys.exit()
        order: dict[str, Any] = json.loads(message)
        if "ended" in order:
            line.send(str(os.waitstatus_to_exitcode(os.waitpid(order["ended"], 0)[1])).encode())
            continue
        child = os.fork()
        if not child:
            line.close()
            _dress(streams, order["folder"], order["env"])
            return order
        for each in streams:
            os.close(each)
        line.send(str(child).encode())


def _dress(streams: list[int], folder: str, env: dict[str, str]) -> None:
    """As an interpreter that has just started."""
    for known, given in enumerate(streams):
        os.dup2(given, known)
        os.close(given)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.path[0] = folder


def _leave(code: int) -> NoReturn:
    """As an interpreter ends, but for taking down all that was imported, which would copy the nursery."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _warm()
    module, *arguments = _serve(socket.socket(fileno=int(sys.argv[1])))["words"]
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            _leave(end.code)
        raise
