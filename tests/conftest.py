"""Worlds for the tests: with the sandbox that all share, or with one that misbehaves as it is told."""

import importlib.util
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import buckets
import netns
import pytest
from browser import browser  # noqa: F401 - a fixture
from buckets import Bucket
from canary import _shared_folders_hold_no_key, pytest_configure, pytest_runtest_makereport  # noqa: F401 - pytest's
from cluster import Cluster
from hypothesis import settings
from sandbox import child
from sandbox.child import Child
from world import Host, Respond, World

settings.register_profile("patient", deadline=None, max_examples=30)  # a busy machine is slow, and not wrong
settings.load_profile("patient")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would pass on that it is ignored
SMALL = ("--paint", "cached", "--paint-bytes", "3000")
Start = Callable[..., World]


@pytest.fixture(scope="session")
def polite() -> Iterator[Child]:
    """A sandbox without any fault, which all tests share."""
    shared = child.fork(*SMALL)
    yield shared
    shared.end()


@pytest.fixture
def world(tmp_path: Path, polite: Child) -> Iterator[World]:
    """A folder, and the sandbox without faults."""
    made = World(tmp_path, polite, before=len(polite.bill()["charges"]))
    yield made
    made.end()


@pytest.fixture
def bad(tmp_path: Path) -> Iterator[Start]:
    """Makes a world with a sandbox of its own, with flags: `bad("--script", "cut 429")`."""
    made: list[World] = []

    def begin(*flags: str) -> World:
        folder = tmp_path / f"world-{len(made)}"
        folder.mkdir()
        made.append(World(folder, child.fork(*SMALL, *flags)))
        return made[-1]

    yield begin
    for each in made:
        each.end()
        each.sandbox.end()


@pytest.fixture
def host() -> Iterator[Callable[[Respond], Host]]:
    """Starts a provider that answers as a function says."""
    started: list[Host] = []

    def begin(respond: Respond) -> Host:
        started.append(Host(respond))
        return started[-1]

    yield begin
    for each in started:
        each.end()


@pytest.fixture(scope="session")
def s3() -> Iterator[Bucket]:
    """An S3 server that all tests share."""
    shared = buckets.start()
    yield shared
    shared.end()


@pytest.fixture
def bucket(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The same without any fault, where the environment leads to it."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    yield s3
    s3.tell("honest")


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    """Starts a Ray cluster, with nodes that can be cut off if it is to be `isolated`."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("NO CLUSTER TESTS: ray is not installed")
    started: list[Cluster] = []

    def begin(isolated: bool = False, ports: Sequence[int] = ()) -> Cluster:
        if isolated and (missing := netns.missing()):
            pytest.skip(missing)
        started.append(Cluster(isolated, ports).__enter__())
        return started[-1]

    yield begin
    for each in started:
        each.end()
