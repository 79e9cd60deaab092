"""Forks sandboxes: a process that has imported everything once starts another in a tenth of the time.

Run as a script, it is given flags and two pipes at a time over the socket of which it is told the number.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MESSAGE_MOST = 1 << 16  # bytes


class Forked:
    """A sandbox that was forked, as subprocess.Popen would show it."""

    def __init__(self, *flags: str) -> None:
        its_stdin, stdin = os.pipe()
        stdout, its_stdout = os.pipe()
        self.pid = _told({"flags": flags}, its_stdin, its_stdout)
        self.stdin, self.stdout = open(stdin, "w"), open(stdout)  # noqa: SIM115 - whoever waits for it closes them
        self._life = os.pidfd_open(self.pid)
        self.returncode: int | None = None
        os.close(its_stdin)
        os.close(its_stdout)

    def send_signal(self, what: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._life, what)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """Its exit code, negative for a signal; TimeoutExpired where it is still there after so many seconds."""
        if self.returncode is None:
            if not select.select([self._life], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("sandbox", timeout)
            os.close(self._life)
            self.returncode = _told({"ended": self.pid})
        return self.returncode


@cache
def _nursery() -> socket.socket:
    """One for each process of tests, and it ends with that."""
    ours, its = socket.socketpair()
    command = [sys.executable, str(Path(__file__)), str(its.fileno())]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=[its.fileno()])
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _told(order: dict[str, object], *pipes: int) -> int:
    line = _nursery()
    socket.send_fds(line, [json.dumps(order).encode()], list(pipes))
    return int(line.recv(MESSAGE_MOST))


def _serve(line: socket.socket) -> None:
    while True:
        message, pipes, _, _ = socket.recv_fds(line, MESSAGE_MOST, 2)
        if not message:
            return
        order = json.loads(message)
        if "ended" in order:
            line.send(str(os.waitstatus_to_exitcode(os.waitpid(order["ended"], 0)[1])).encode())
            continue
        child = os.fork()
        if not child:
            line.close()
            _live(order["flags"], *pipes)
        for each in pipes:
            os.close(each)
        line.send(str(child).encode())


def _live(flags: list[str], stdin: int, stdout: int) -> None:
    for ours, known in ((stdin, 0), (stdout, 1)):
        os.dup2(ours, known)
        os.close(ours)
    code = 1
    try:
        code = main(flags)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    from batchgen.sandbox.__main__ import main

    _serve(socket.socket(fileno=int(sys.argv[1])))
