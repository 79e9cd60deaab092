"""Sandboxes for the tests: one that all share, and as many others as a test wants to start."""

from collections.abc import Callable, Iterator

import pytest

from . import child
from .child import Child

Start = Callable[..., Child]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Child]:
    """Without any flags; what it has billed depends on the tests before."""
    shared = child.fork()
    yield shared
    shared.end()


@pytest.fixture(scope="session")
def cached() -> Iterator[Child]:
    """With small images that nobody has to paint, for tests that look at words and shapes."""
    shared = child.fork("--paint", "cached", "--paint-bytes", "2000")
    yield shared
    shared.end()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a sandbox with flags of its own, ended with the test."""
    started: list[Child] = []

    def begin(*flags: str) -> Child:
        started.append(child.fork(*flags))
        return started[-1]

    yield begin
    for each in started:
        each.end()
