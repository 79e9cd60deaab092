"""How long it takes to find out that nothing is left to do, and what a large ledger costs those who only look."""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from .life import lived, sandbox, scratch
from .race import Setting
from .section import Section, Target

MANIFEST = """\
name: big
provider: {{name: pretend, dialect: openai, base_url: "{url}", api_key_env: BENCH_API_KEY}}
model: gpt-image-2
prompts: [{{file: prompts.csv, prompt: "{{{{ text }}}}, {{{{ style }}}}"}}]
{expansion}
limits: {{concurrency: 32, budget: 100000000}}
"""
MATRIX = "matrix: {size: [1024x1024, 1536x1024], quality: [low, medium]}"
COMMANDS = (("run",), ("plan",), ("plan", "--set", "samples=2"), ("status",), ("report",))
SECONDS, CPU, MEMORY, BYTES = "seconds", "of CPU", "peak RSS MB", "bytes"


def resuming(name: str, tasks: int, targets: Sequence[Target], setting: Setting) -> Section:
    """Every command in a process of its own; one that sent anything would have met nobody, and failed."""
    rows: dict[str, dict[str, list[float]]] = {}
    with scratch(setting.folder) as folder, sandbox() as url:
        file = big(folder, url, MATRIX, tasks // 4)
        built = lived([sys.executable, "-m", "tests.bench.fill", str(file)], setting.patience)
        for label, size in zip(("enqueued", "finished"), built.said.split(), strict=True):
            rows[f"{label}, a task"] = {BYTES: [int(size) / tasks]}
        for _ in range(setting.rounds):
            for command in COMMANDS:
                measure(rows.setdefault(" ".join(command), {}), file, command, setting)
        check(file.parent / "runs" / "big" / "ledger.db", tasks)
    return Section(name, f"{tasks:,} finished tasks; {setting.times}", rows, targets)


def big(folder: Path, url: str, expansion: str, prompts: int) -> Path:
    """A manifest over so many prompts."""
    file = folder / "big.yaml"
    file.write_text(MANIFEST.format(url=url, expansion=expansion))
    rows = (f"A photograph of animal number {n} in the snow at dawn,oil\n" for n in range(prompts))
    with (folder / "prompts.csv").open("w") as out:
        out.write("text,style\n")
        out.writelines(rows)
    return file


def measure(row: dict[str, list[float]], file: Path, command: Sequence[str], setting: Setting) -> None:
    verb, *flags = command
    life = lived([sys.executable, "-m", "batchgen", verb, str(file), *flags], setting.patience)
    row.setdefault(SECONDS, []).append(life.whole)
    row.setdefault(CPU, []).append(life.user + life.system)
    row.setdefault(MEMORY, []).append(life.rss_mb)


def check(ledger: Path, tasks: int) -> None:
    """Nothing was sent: no attempt is there but those that were filled in."""
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        (attempts,) = db.execute("SELECT count(*) FROM attempts").fetchone()
    if attempts != tasks:
        sys.exit(f"{attempts - tasks} requests were sent for tasks that are finished")
