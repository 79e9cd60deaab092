"""How much of what two keys may do together is used: 240 and 60 images a minute, one queue."""

import sys
from pathlib import Path

from .life import lived, sandbox, scratch
from .race import Setting, span
from .section import Section, Target

LIMITS = {"sk-bench-of-the-first-account": 240, "sk-bench-of-the-second-one": 60}
ENVIRON = {f"BENCH_KEY_{n}": key for n, key in enumerate(LIMITS)}
TASKS = 300  # a minute's worth
MANIFEST = """\
name: bench
provider: {{name: pretend, dialect: openai, base_url: "{url}", keys: [{keys}], price: {{image: 0.01}}}}
model: gpt-image-2
prompts: [{{prompt: "Otter number {{{{ number }}}}", vars: {{number: [{numbers}]}}}}]
request: {{size: 1024x1024, quality: low}}
limits: {{concurrency: auto, budget: 1000000, {limits}}}
"""
PACES = ", ".join(f"pretend/{name}: {LIMITS[key]}" for name, key in ENVIRON.items())
GIVEN, HEADERS, WORDS = "by the manifest", "by headers", "by 429s"
WAYS = {
    GIVEN: ("nothing", f"images_per_minute: {{{PACES}}}"),
    HEADERS: ("headers", ""),
    WORDS: ("words", ""),
}
SHARE = "of both limits, %"
TARGETS = (Target(SHARE, GIVEN, least=95), Target(SHARE, HEADERS, least=95))


def keys(setting: Setting) -> Section:
    """Images a minute from a run's start to its end, beside the sum of both limits."""
    found = {way: [once(*how, setting) for _ in range(setting.rounds)] for way, how in WAYS.items()}
    about = f"{TASKS} tasks of 1 s by two keys, {' and '.join(map(str, LIMITS.values()))} a minute; {setting.times}"
    return Section("keys", about, {SHARE: found}, TARGETS)


def once(tells: str, limits: str, setting: Setting) -> float:
    flags = f"--tell-limits {tells} --retry-after-header --latency 1 --paint-bytes 20000 --burst 5".split()
    own = ",".join(f"{key}={limit}" for key, limit in LIMITS.items())
    with scratch(setting.folder) as folder, sandbox(*flags, "--key-ipm", own) as url:
        lived([sys.executable, "-m", "batchgen", "run", str(written(url, folder, limits))], setting.patience, ENVIRON)
        return 100 * TASKS / span(folder / "runs" / "bench" / "ledger.db") * 60 / sum(LIMITS.values())


def written(url: str, folder: Path, limits: str) -> Path:
    file = folder / "bench.yaml"
    numbers = ", ".join(map(str, range(TASKS)))
    file.write_text(MANIFEST.format(url=url, numbers=numbers, keys=", ".join(ENVIRON), limits=limits))
    return file
