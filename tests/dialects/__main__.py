"""`make dialects`: rehearses every provider × operation × delivery, and holds each report against the bill."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from dialects.cases import CASES, Case, lay_out

ENVIRONMENT = {**os.environ, "BATCHGEN_SANDBOX": "--paint cached --paint-bytes 20000"}
HEAD = f"{'provider':10} {'operation':10} {'delivery':9} {'tasks':>5} {'images':>6} {'paid':>9} {'bill':>9}"


@dataclass(frozen=True, slots=True)
class Row:
    """How a case ended; money in USD. `wrong` says what does not fit, or nothing."""

    case: Case
    tasks: int
    images: int
    low: float
    high: float
    bill: float
    wrong: str

    def __str__(self) -> str:
        paid = f"{self.high:9.4f}" if self.low == self.high else f"≤{self.high:8.4f}"
        case = self.case
        line = f"{case.provider:10} {case.operation:10} {case.delivery:9} {self.tasks:5} {self.images:6} {paid}"
        return f"{line} {self.bill:9.4f}{'  ' + self.wrong if self.wrong else ''}"


def rehearsed(case: Case, folder: Path) -> Row:
    """Run one manifest as a user would."""
    lay_out(folder)
    (folder / "x.yaml").write_text(yaml.safe_dump(case.manifest(case.provider), sort_keys=False))
    ran = batchgen(folder, "run", "x.yaml", "--sandbox")
    run = f"runs/{case.name}.sandbox"
    told = json.loads(batchgen(folder, "report", run, "--json").stdout or "{}")
    if not told:
        return Row(case, 0, 0, 0, 0, 0, f"exit {ran.returncode}: {ran.stderr}")
    charges = (folder / run / "sandbox-bill.jsonl").read_text().splitlines()
    bill = sum(json.loads(line)["nano_usd"] for line in charges) / 1e9
    cost, free = told["cost"], case.provider in ("localai", "vllm", "sglang")
    wrong = f"exit {ran.returncode}" if ran.returncode else ""
    if not free and not (cost["low"] - 1e-9 <= bill <= cost["high"] + 1e-9):
        wrong = f"the bill is not between {cost['low']} and {cost['high']}"
    if "all as the ledger says" not in batchgen(folder, "verify", run).stdout:
        wrong = "verify found something"
    return Row(
        case, told["tasks"]["done"], told["images"]["saved"], cost["low"], cost["high"], 0 if free else bill, wrong
    )


def batchgen(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "batchgen", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def main() -> int:
    print(HEAD)
    with tempfile.TemporaryDirectory() as top, ThreadPoolExecutor(2) as pool:
        folders = [Path(tempfile.mkdtemp(dir=top)) for _ in CASES]
        rows = []
        for row in pool.map(rehearsed, CASES, folders):
            rows.append(row)
            print(row, flush=True)
    wrong = sum(bool(row.wrong) for row in rows)
    tasks, images = sum(row.tasks for row in rows), sum(row.images for row in rows)
    print(f"{len(rows)} cases, {tasks} tasks, {images} images, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
