"""The sandbox as a child process, for the length of a run."""

import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import anyio
from anyio.abc import Process

from batchgen.errors import UsageError

READY = b"listening on "
PATIENCE = 30.0  # seconds for it to start


@asynccontextmanager
async def sandbox(bill: Path, flags: str) -> AsyncIterator[str]:
    """Start it on a free loopback port and end it with the block; yields its origin. `flags` are its own options."""
    command = [sys.executable, "-m", "batchgen.sandbox", "--port", "0", "--until-stdin-closes"]
    command += ["--any-model", "--bill", str(bill)]
    # A session of its own: Ctrl-C is meant for the run, which still wants its answers.
    process = await anyio.open_process(
        [*command, *shlex.split(flags)], stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        yield await _address(process)
    finally:
        with anyio.CancelScope(shield=True):
            process.terminate() if process.returncode is None else None
            await process.aclose()


async def _address(process: Process) -> str:
    said = b""
    assert process.stdout
    assert process.stderr
    with anyio.move_on_after(PATIENCE):
        while b"\n" not in said:
            try:
                said += await process.stdout.receive()
            except anyio.EndOfStream:
                said += await process.stderr.receive()
                break
    _, ready, url = said.partition(READY)
    if not ready:
        raise UsageError(f"the sandbox did not start: {said.decode(errors='replace').strip() or 'no word from it'}")
    return url.partition(b"\n")[0].decode().strip().removesuffix("/v1")
