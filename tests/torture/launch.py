"""`python -m tests.torture.launch PHASE …`: batchgen, stopped where a tracer is to take over.

A tracer counts the calls of each thread from where it takes over, so that a later phase reaches what the main thread's
many calls before would hide: `start` is when nothing is left to import, `ledger` when the ledger is there and first
opened, `work` when the spool is first touched, in whichever thread that is.
"""

import importlib
import os
import signal
import sys

EARLY = ("batchgen.commands.run", "anyio._backends._asyncio", "encodings.idna")  # what else is imported on the way
SPOOL = ("open", "os.mkdir", "os.remove", "os.rename", "shutil.rmtree")
EVENTS = {  # of Python's audit hooks: their names, and what their first argument holds
    "ledger": (("sqlite3.connect",), "/ledger.db"),
    "work": (SPOOL, "/spool/"),
}


class Hook:
    """Stops the process once."""

    def __init__(self, phase: str) -> None:
        self._events, self._path = EVENTS[phase]
        self._waiting = True

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._waiting and event in self._events and self._path in str(arguments[0]):
            self._waiting = False
            stop()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def main() -> None:
    phase, *arguments = sys.argv[1:]
    for name in EARLY:
        importlib.import_module(name)
    if phase == "start":
        stop()
    else:
        sys.addaudithook(Hook(phase))
    importlib.import_module("batchgen.cli").main(arguments)


if __name__ == "__main__":
    main()
