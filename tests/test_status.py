"""A run that is watched from another terminal: anew every 2 s, until it ends or somebody has seen enough."""

import os
import pty
import signal
import sys
from contextlib import suppress

import pytest
from conftest import Start
from sandbox import nursery
from world import World, environment, eventually, many

from batchgen.commands import tables
from batchgen.commands.status import command
from batchgen.errors import UsageError


class Watcher:
    """Somebody who watches, at a terminal or not."""

    def __init__(self, world: World, terminal: bool) -> None:
        self._here, there = pty.openpty() if terminal else os.pipe()
        words = ("status", "otters.yaml", "--watch")
        variables = environment(TERM="xterm-256color", COLUMNS="120", LINES="40")
        self.process = nursery.start("batchgen", *words, env=variables, cwd=world.folder, stdout=there, stderr=there)
        os.close(there)
        self.seen = b""

    def leave(self) -> None:
        """As soon as there was something to see."""
        self.seen = os.read(self._here, 1)
        self.process.send_signal(signal.SIGINT)

    def end(self) -> str:
        """All that it saw; it ended well."""
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(self._here, 65536):
                self.seen += chunk
        os.close(self._here)
        assert self.process.wait(20) == 0
        assert b"Traceback" not in self.seen
        return self.seen.decode().replace("\r\n", "\n")


def test_a_run_is_watched_until_it_ends_or_somebody_has_seen_enough(bad: Start) -> None:
    world = bad("--latency", "0.5")
    process = world.begin("run", str(world.write(prompts=many(24), limits={"concurrency": 2, "budget": 1})))
    eventually(world.charges)
    *watchers, hasty = [Watcher(world, terminal) for terminal in (True, False, True)]
    hasty.leave()
    assert "with 0: all done" not in hasty.end()
    assert process.wait(20) == 0
    shown, told = (watcher.end() for watcher in watchers)
    assert shown.count("\x1b[1A") > 1, "the cursor goes up, and the lines before are written over"
    assert (shown.count("\x1b[?25l"), shown.count("\x1b[?25h")) == (1, 1), "it is hidden, and shown again"
    assert "running (process" in shown
    assert "24 saved" in shown.rpartition("\x1b[1A")[2]
    *before, last = told.splitlines()
    assert before
    assert len(set(before)) == len(before)
    assert all(line.startswith("otters, running · Images ") and " · Paid $" in line for line in before), before
    assert last.startswith("otters, ended 20")
    assert "with 0: all done · Images 24 saved · Paid $" in last


def test_a_run_that_is_over_is_told_once_and_a_program_does_not_watch(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.run()
    command.main([str(world.run_folder), "--watch"], standalone_mode=False)
    said = capsys.readouterr().out
    assert (said.count("\n"), "otters, ended 20" in said) == (1, True)
    with pytest.raises(UsageError, match="--watch is for people"):
        command.main([str(world.run_folder), "--watch", "--json"], standalone_mode=False)


def test_a_terminal_that_cannot_draw_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for term, draws in (("xterm", True), ("dumb", False)):
        monkeypatch.setenv("TERM", term)
        assert tables.lively() is draws
