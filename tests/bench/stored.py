"""Images into a bucket beside a folder: the same run, the same provider; and what that bucket's server can take at all.

Run as a script it puts so many objects of a size into the bucket of the environment, and prints how many a second.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from .batches import Gauge, one
from .life import KEY, ROOT, lived, sandbox, scratch
from .race import CPU, Setting
from .section import Section, Target

MANIFEST = """\
name: stored
provider: {{name: pretend, dialect: openai, base_url: "{url}", api_key_env: BENCH_API_KEY}}
model: gpt-image-2
prompts: [{{prompt: "Otter number {{{{ number }}}}", vars: {{number: [{numbers}]}}}}]
limits: {{concurrency: 32, budget: 1000000}}
output: {output}
"""
IMAGES, SIZE, WIDE, FAR = 320, 1_500_000, 16, 0.05
RATE, RSS, SPOOL, RATIO = "images/s proper", "peak RSS MB", "spool/ at most, MB", "ratio to the folder"
FOLDER, NEAR, AWAY = "folder", "bucket", f"bucket {FAR * 1000:g} ms away"
ALONE = {NEAR: "its server alone", AWAY: "alone, as far away"}
SECONDS = "SELECT (julianday(max(ended_at)) - julianday(min(sent_at))) * 86400 FROM attempts"


def stored(setting: Setting) -> Section:
    rows: dict[str, dict[str, list[float]]] = {RATE: {}, RATIO: {}, CPU: {}, RSS: {}, SPOOL: {}}
    with sandbox("--paint-bytes", str(SIZE), "--latency", "0.05") as url:
        for _ in range(setting.rounds):
            once(rows, FOLDER, url, {}, setting)
            for column, delay in ((NEAR, 0.0), (AWAY, FAR)):
                with bucket(delay) as environ:
                    command = [sys.executable, "-m", "tests.bench.stored", str(IMAGES), str(SIZE)]
                    alone = float(lived(command, setting.patience, environ).said)
                    rows[RATE].setdefault(ALONE[column], []).append(alone)
                    once(rows, column, url, environ, setting)
                rows[RATIO].setdefault(column, []).append(rows[RATE][column][-1] / rows[RATE][FOLDER][-1])
    about = f"{IMAGES} images of {SIZE / 1e6:g} MB, 32 workers, moto's S3 server on the same machine; {setting.times}"
    return Section("stored", about, rows, (Target(RSS, NEAR, most=200), Target(RSS, AWAY, most=200)))


def once(
    rows: dict[str, dict[str, list[float]]], column: str, url: str, environ: dict[str, str], setting: Setting
) -> None:
    with scratch(setting.folder) as folder:
        file, gauge = folder / "stored.yaml", Gauge(folder / "runs" / "stored")
        output = "{store: s3://zoo/bench}" if environ else "{}"
        numbers = ", ".join(map(str, range(IMAGES)))
        file.write_text(MANIFEST.format(url=url, output=output, numbers=numbers))
        command = [sys.executable, "-m", "batchgen", "run", str(file)]
        life = lived(command, setting.patience, {**KEY, **environ}, watch=gauge.watch)
        (seconds,) = one(gauge.run, SECONDS)
        found = {
            RATE: IMAGES / seconds,
            CPU: (life.user + life.system) / IMAGES * 1000,
            RSS: life.rss_mb,
            SPOOL: gauge.most["spool"] / 1e6,
        }
        for row, value in found.items():
            rows[row].setdefault(column, []).append(value)


@contextmanager
def bucket(delay: float) -> Iterator[dict[str, str]]:
    """A server of its own for each run: it keeps what it is given in its memory. Yields what leads there."""
    command, pipe = [sys.executable, str(ROOT / "tests" / "buckets.py")], subprocess.PIPE
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            port = process.stdout.readline().strip()
            process.stdin.write(f"slow {delay}\n")
            process.stdin.flush()
            process.stdout.readline()
            names = {"ACCESS_KEY_ID": "bench", "SECRET_ACCESS_KEY": "bench", "REGION": "us-east-1"}
            yield {f"AWS_{name}": value for name, value in names.items()} | {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"
            }
        finally:
            process.kill()


def puts(images: int, size: int) -> float:
    import obstore
    from obstore.store import S3Store

    store, data = S3Store("zoo", client_options={"allow_http": True}), bytes(size)

    def put(n: int) -> None:
        obstore.put(store, f"alone/{n}", data, mode="create", use_multipart=False)

    begun = time.monotonic()
    with ThreadPoolExecutor(WIDE) as pool:
        list(pool.map(put, range(images)))
    return images / (time.monotonic() - begun)


if __name__ == "__main__":
    print(puts(*map(int, sys.argv[1:])))
