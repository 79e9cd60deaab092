"""What people write instead: a bare loop over httpx, aiohttp or the openai package, without ledger, retries or fsync.

`python -m tests.bench.rivals httpx URL FOLDER TASKS WORKERS IMAGES` prints how many seconds its loop took.
"""

import asyncio
import base64
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

KEY = "sk-bench"
HEADERS = {"authorization": f"Bearer {KEY}"}
PATIENCE = 120  # seconds, for one answer
Buy = Callable[[str], Awaitable[Sequence[str]]]
"""A prompt → its images in base64."""


async def work(orders: Iterator[int], buy: Buy, folder: Path) -> None:
    """One of the workers: they share the iterator."""
    for number in orders:
        for nth, text in enumerate(await buy(f"Otter number {number}")):
            (folder / f"{number}-{nth}.png").write_bytes(base64.b64decode(text))


async def share(buy: Buy, folder: Path, tasks: int, workers: int) -> float:
    orders = iter(range(tasks))
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work(orders, buy, folder))
    return time.monotonic() - begun


def order(prompt: str, images: int) -> dict[str, object]:
    return {"model": "gpt-image-2", "prompt": prompt, "n": images, "size": "1024x1024", "quality": "low"}


async def by_httpx(url: str, folder: Path, tasks: int, workers: int, images: int) -> float:
    import httpx

    limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
    async with httpx.AsyncClient(limits=limits, timeout=PATIENCE, headers=HEADERS) as client:

        async def buy(prompt: str) -> list[str]:
            response = await client.post(f"{url}/images/generations", json=order(prompt, images))
            return [item["b64_json"] for item in response.raise_for_status().json()["data"]]

        return await share(buy, folder, tasks, workers)


async def by_aiohttp(url: str, folder: Path, tasks: int, workers: int, images: int) -> float:
    import aiohttp

    pool, patience = aiohttp.TCPConnector(limit=workers), aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(
        connector=pool, timeout=patience, headers=HEADERS, raise_for_status=True
    ) as session:

        async def buy(prompt: str) -> list[str]:
            async with session.post(f"{url}/images/generations", json=order(prompt, images)) as response:
                return [item["b64_json"] for item in (await response.json())["data"]]

        return await share(buy, folder, tasks, workers)


async def by_openai(url: str, folder: Path, tasks: int, workers: int, images: int) -> float:
    import openai

    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0, timeout=PATIENCE) as client:

        async def buy(prompt: str) -> list[str]:
            answer = await client.images.generate(
                model="gpt-image-2", prompt=prompt, n=images, size="1024x1024", quality="low"
            )
            return [item.b64_json or "" for item in answer.data or ()]

        return await share(buy, folder, tasks, workers)


def main(rival: str, url: str, folder: str, tasks: str, workers: str, images: str) -> None:
    loop = {"httpx": by_httpx, "aiohttp": by_aiohttp, "openai": by_openai}[rival]
    print(asyncio.run(loop(url, Path(folder), int(tasks), int(workers), int(images))))


if __name__ == "__main__":
    main(*sys.argv[1:])
