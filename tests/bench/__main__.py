"""`python -m tests.bench [SCENARIO…]`: how fast batchgen is, and what that takes, beside bare loops."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from . import machine
from .batches import collecting, priced
from .durable import durable
from .enqueue import enqueue
from .keys import keys
from .nodes import nodes
from .plot import svg
from .race import CPU, OURS, PROPER, RSS, STEADY, Course, Setting, race, ratio
from .resume import SECONDS, resuming
from .section import Section, Target
from .settling import settling
from .stored import stored
from .sweep import panels, sweep

COURSES = (
    Course(
        "small",
        tasks=1000,
        workers=32,
        targets=(
            Target(ratio(PROPER), "aiohttp", least=0.6),
            Target(RSS, OURS, most=70),
            Target(CPU, OURS, most=3.5),
        ),
    ),
    Course(
        "wide",
        tasks=1000,
        workers=128,
        targets=(
            Target(ratio(PROPER), "aiohttp", least=0.5),
            Target(RSS, OURS, most=110),
            Target(CPU, OURS, most=3.5),
        ),
    ),
    Course(
        "slow",
        tasks=384,
        workers=128,
        latency=1.0,
        targets=(Target(ratio(PROPER), "aiohttp", least=0.93), Target(ratio(STEADY), "aiohttp", least=0.93)),
    ),
    Course(
        "large",
        tasks=160,
        workers=32,
        size=1_500_000,
        targets=(Target(ratio(PROPER), "aiohttp", least=1.2), Target(RSS, OURS, most=120)),
    ),
    Course("many", tasks=36, workers=32, size=2_000_000, images=10, targets=(Target(RSS, OURS, most=250),)),
)
SCENARIOS: Mapping[str, Callable[[Setting], Section]] = {
    **{course.name: partial(race, course) for course in COURSES},
    "settling": settling,
    "durable": durable,
    "resume": partial(resuming, "resume", 100_000, (Target("run", SECONDS, most=2.0),)),
    "enqueue": enqueue,
}
UNASKED: Mapping[str, Callable[[Setting], Section]] = {  # only by name: each takes minutes
    "sweep": sweep,
    "keys": keys,
    "collecting": collecting,
    "priced": priced,
    "nodes": nodes,
    "stored": stored,
    "million": partial(resuming, "million", 1_000_000, (Target("report", SECONDS, most=2.0),)),
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__, allow_abbrev=False)
    known = f"{', '.join(SCENARIOS)} (default: these); {', '.join(UNASKED)}"
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=known)
    parser.add_argument("--rounds", type=int, default=5, help="each runner once a round, one after the other")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="a real disk, no tmpfs")
    parser.add_argument("--patience", type=float, default=300.0, metavar="SECONDS", help="then a runner is ended")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="of priced: a TSV with a column Prompt")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what sweep finds there, as SVG")
    chosen = parser.parse_args()
    if unknown := set(chosen.scenarios) - {*SCENARIOS, *UNASKED}:
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}: {known}")
    return chosen


def main() -> None:
    chosen = options()
    setting = Setting(chosen.rounds, chosen.folder, chosen.patience, chosen.prompts)
    print(f"{machine.name()}; files in {chosen.folder}\nEach figure is a median (least–most).", flush=True)
    found = {}
    for name in names(chosen):
        bystander = machine.Bystander()
        found[name] = replace({**SCENARIOS, **UNASKED}[name](setting), taken=f"{bystander}")
        print("", *found[name].lines(), sep="\n", flush=True)
        if chosen.json:  # after each: who loses patience keeps what was found
            chosen.json.write_text(told(found))
    if chosen.plot:
        about = f"{found['sweep'].about}: median, least and most; {found['sweep'].taken}; {machine.name()}"
        chosen.plot.write_text(svg("batchgen beside three bare loops", about, panels(found["sweep"])))


def told(found: Mapping[str, Section]) -> str:
    """All figures of all rounds, as JSON."""
    head = {"schema_version": 1, "at": datetime.now(UTC).isoformat(), "machine": machine.name()}
    return json.dumps({**head, "scenarios": {name: section.told() for name, section in found.items()}}, indent=1) + "\n"


def names(chosen: argparse.Namespace) -> list[str]:
    """Of the scenarios, each once: those that were named, or all; and what a plot needs."""
    asked = chosen.scenarios or ([] if chosen.plot else SCENARIOS)
    return list(dict.fromkeys([*asked, *(["sweep"] if chosen.plot else [])]))


if __name__ == "__main__":
    main()
