"""The catalogue of faults in tests/faults/: each of the 192 has a test that shows it, or a reason why it has none.

`python tests/test_fault_table.py` prints it.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTS = Path(__file__).parent
KINDS = {"P": 18, "D": 22, "N": 20, "S": 30, "X": 9, "U": 16, "K": 6, "C": 11, "Z": 21, "B": 21, "O": 10, "R": 8}
NUMBERS = [f"{kind}{n}" for kind, most in KINDS.items() for n in range(1, most + 1)]
TRIED = {"P": 18, "D": 9, "N": 20, "S": 24, "C": 11, "Z": 10, "B": 21, "O": 10, "R": 8}
"""Up to which number of a kind no reason will do: it is tried."""
CAMPAIGN = re.compile(r"torture: (\w+)")
Row = dict[str, Any]


@cache
def table() -> dict[str, Row]:
    """Every fault by its number; a number that stands twice is an error."""
    found: dict[str, Row] = {}
    for file in sorted((TESTS / "faults").glob("*.yaml")):
        rows = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert not found.keys() & rows.keys(), f"{file.name}: {sorted(found.keys() & rows.keys())} stand twice"
        found |= rows
    return found


@cache
def functions(file: str) -> set[str]:
    """The names of a test file's functions, those of classes among them."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@cache
def campaigns() -> set[str]:
    """What `python -m tests.torture --only` knows."""
    text = (TESTS / "torture" / "__main__.py").read_text(encoding="utf-8")
    return set(re.findall(r'"(\w+)"', text))


def missing(named: str) -> Iterator[str]:
    """What is wrong with the name of a test, or nothing."""
    if found := CAMPAIGN.fullmatch(named):
        if found[1] not in campaigns():
            yield f"{named}: there is no such campaign"
        return
    file, _, function = named.partition("::")
    if not (TESTS / file).is_file() or function not in functions(file):
        yield f"{named} does not exist"


def test_the_table_has_every_fault() -> None:
    assert sorted(table()) == sorted(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_fault_is_tried_or_argued(number: str) -> None:
    row = table()[number]
    assert row.keys() <= {"fault", "tests", "argued"}
    assert row["fault"].strip()
    assert bool(row.get("tests")) != bool(row.get("argued")), "one of them"
    if int(number[1:]) <= TRIED.get(number[0], 0):
        assert row.get("tests"), "a reason is not enough here"
    assert not [problem for named in row.get("tests", []) for problem in missing(named)]


if __name__ == "__main__":
    for number in NUMBERS:
        row = table().get(number, {"fault": "MISSING"})
        print(f"{number:4} {row['fault']:60} {', '.join(row.get('tests', [])) or 'argued: ' + row.get('argued', '')}")
    tried = sum(bool(row.get("tests")) for row in table().values())
    print(f"{len(table())} faults: {tried} tried, {len(table()) - tried} argued")
