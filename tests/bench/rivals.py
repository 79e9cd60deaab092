"""What people write instead: a bare loop over httpx or aiohttp, without a ledger, retries or fsync.

`python -m tests.bench.rivals httpx URL FOLDER TASKS WORKERS` prints how many seconds its loop took.
"""

import asyncio
import base64
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

KEY = {"authorization": "Bearer sk-bench"}
Post = Callable[[dict[str, object]], Awaitable[Any]]


async def work(orders: Iterator[int], post: Post, folder: Path) -> None:
    """One of the workers: they share the iterator."""
    for number in orders:
        prompt = f"Otter number {number}"
        answer = await post({"model": "gpt-image-2", "prompt": prompt, "size": "1024x1024", "quality": "low"})
        (folder / f"{number}.png").write_bytes(base64.b64decode(answer["data"][0]["b64_json"]))


async def share(post: Post, folder: Path, tasks: int, workers: int) -> float:
    orders = iter(range(tasks))
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work(orders, post, folder))
    return time.monotonic() - begun


async def by_httpx(url: str, folder: Path, tasks: int, workers: int) -> float:
    import httpx

    limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
    async with httpx.AsyncClient(limits=limits, timeout=60, headers=KEY) as client:

        async def post(order: dict[str, object]) -> Any:
            response = await client.post(f"{url}/images/generations", json=order)
            return response.raise_for_status().json()

        return await share(post, folder, tasks, workers)


async def by_aiohttp(url: str, folder: Path, tasks: int, workers: int) -> float:
    import aiohttp

    pool = aiohttp.TCPConnector(limit=workers)
    async with aiohttp.ClientSession(connector=pool, headers=KEY, raise_for_status=True) as session:

        async def post(order: dict[str, object]) -> Any:
            async with session.post(f"{url}/images/generations", json=order) as response:
                return await response.json()

        return await share(post, folder, tasks, workers)


def main(rival: str, url: str, folder: str, tasks: str, workers: str) -> None:
    loop = {"httpx": by_httpx, "aiohttp": by_aiohttp}[rival]
    print(asyncio.run(loop(url, Path(folder), int(tasks), int(workers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
