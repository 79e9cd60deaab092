"""The house: floors, doors, SQL in its place, sizes, and what the repository holds."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "batchgen"

# Top first. A module imports from lower floors alone: neither upwards nor a neighbour.
FLOORS = """
__main__
cli
commands.retry    commands.redo    commands.set
commands.run
commands.plan     commands.progress  commands.providers  commands.report  commands.status  commands.verify
commands.costs    commands.doctor    commands.drop       commands.init    commands.resolve commands.sandbox
commands.schema   commands.export    commands.view
commands.wishes   commands.details   commands.paper
commands.options   commands.tables
view
api                exports           glance
outline            exports.imagefolder  exports.webdataset  exports.parquet    amend    page
offer      spending      billing   exports.originals  exports.shards  exports.card  exports.croissant    exhibit
worker     exports.base
job        report        verify
ending
notify
steer      lookout    notice
consent
engines.batched  forecast     enqueue      engines.remote
engines.local    engines.ray
engines.pool
progress       schedule     lessons
desk           engines.queue
clerk          collect       sizing
counter
buyer
generate
crew
hand
compare
lane       expand        causes        hold
purse      paths         settle
supply     slot    remedy
attempt    rows          ledger    receipt        dialects   dataset    charts   thumbs
manifest   schema        wanted        decide        shelf         troubles    adopt    album
dialects.aimlapi   dialects.classic   dialects.litellm   dialects.myrouter   dialects.onerouter   combinations
finisher   batchbook     losses    far
batch      results
client     images        spool         costs         dialects.openai   matrix   sources   doctor   fixes   terms
pour       control       target
dialects.base  endpoint  parameters    body          spelling
form       sizes         inputs        links         variables   reconcile   throttle  sums  turn  listing
values     pace   place         keys
catalog    problems      folder        readers     statement         quota     columns   splits   store
sieve      provenance   objects
document   gate          wire          disk          records       commit      books     pretend   bucket   tallies
task       errors        limits        text          deadline         template         wording   redact   connection
"""

# Foreign package: the only modules, or folders of modules, that may import it.
DOORS = {
    "anyio": "client body links commit attempt finisher lane turn purse supply enqueue generate progress engines steer "
    "clerk desk collect hand crew job notify pretend api commands sandbox",
    "aiosqlite": "commit",
    "sqlite3": "commit batchbook losses books ledger records wanted decide shelf troubles adopt dataset album charts",
    "httpx": "client connection notify",
    "h11": "connection",
    "tenacity": "generate",
    "yaml": "document",
    "pydantic": "catalog values form receipt",
    "pydantic_core": "wire form",
    "PIL": "images inputs thumbs sandbox",
    "pybase64": "images wire sieve",
    "jinja2": "template",
    "filelock": "hold",
    "ray": "engines.ray",
    "pyarrow": "exports.parquet",
    "tqdm": "commands",
    "rich": "commands",
    "click": "cli commands",
    "starlette": "view sandbox",
    "uvicorn": "view sandbox",
    "obstore": "objects",
}
SQL_ROOMS = {
    "ledger",
    "batchbook",
    "losses",
    "records",
    "commit",
    "books",
    "sums",
    "wanted",
    "decide",
    "shelf",
    "troubles",
    "adopt",
    "album",
    "charts",
    "dataset",
}
SQL = re.compile(
    r"\s*(SELECT .|INSERT (OR \w+ )?INTO|UPDATE \w+ SET|DELETE FROM|REPLACE INTO|CREATE |DROP |ALTER |PRAGMA "
    r"|WITH \w+ AS|(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|VACUUM|ATTACH)\b)"
)
FUNCTION_MOST, FILE_MOST = 40, 350  # lines
SLOW_TO_IMPORT = {"httpx", "pydantic", "rich", "jinja2", "yaml", "anyio", "PIL", "sqlite3"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Module:
    """`name` is what comes behind `batchgen.`; a package bears its folder's name, the house itself none."""

    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return parsed(self.path)

    @property
    def inside_sandbox(self) -> bool:
        return lies_in(self.name, "sandbox")

    def imports(self) -> set[str]:
        """Full dotted names, wherever in the file they stand; `from x import y` is x.y where that is a module."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: imports are written in full"
                found |= {resolved(f"{node.module}", alias.name) for alias in node.names}
        return found

    def ours(self) -> set[str]:
        """The modules of the house that it imports."""
        inner = {name.removeprefix("batchgen.") for name in self.imports() if name.startswith("batchgen.")}
        return inner - {self.name}

    def foreign(self) -> set[str]:
        tops = {name.partition(".")[0] for name in self.imports()}
        return {top for top in tops if top != "batchgen" and (top in DOORS or top not in sys.stdlib_module_names)}


def lies_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def resolved(module: str, name: str) -> str:
    stem = ROOT.joinpath(*module.split("."), name)
    return f"{module}.{name}" if stem.with_suffix(".py").exists() or (stem / "__init__.py").exists() else module


@cache
def house() -> list[Module]:
    paths = sorted(HOUSE.rglob("*.py"))
    return [Module(".".join(path.relative_to(HOUSE).with_suffix("").parts), path) for path in paths]


@cache
def modules() -> list[Module]:
    """Every module that says something, packages under their folder's name."""
    named = [Module(re.sub(r"\.?__init__$", "", module.name), module.path) for module in house()]
    return [module for module in named if module.path.stat().st_size > 0]


def levels() -> dict[str, int]:
    """Module → its floor, counted from the street."""
    floors = [line.split() for line in FLOORS.strip().splitlines()]
    return {name: height for height, names in enumerate(reversed(floors)) for name in names}


def floored() -> list[Module]:
    return [module for module in modules() if module.name and not module.inside_sandbox]


def test_every_module_has_a_floor_and_every_name_on_a_floor_is_a_module() -> None:
    names = [name for line in FLOORS.strip().splitlines() for name in line.split()]
    assert len(names) == len(set(names)), "a module stands on two floors"
    assert sorted(names) == sorted(module.name for module in floored())


def test_imports_go_down_only_and_nobody_knows_a_neighbour() -> None:
    height = levels()
    wrong = [
        f"{module.name} ({height[module.name]}) imports {other} ({height[other]})"
        for module in floored()
        for other in sorted(module.ours())
        if other in height and height[other] >= height[module.name]
    ]
    assert not wrong


def test_the_sandbox_stands_outside_it_imports_nothing_of_ours_and_nobody_imports_it() -> None:
    for module in modules():
        for other in module.ours() | ({""} if "batchgen" in module.imports() else set()):
            assert lies_in(other, "sandbox") == module.inside_sandbox, f"{module.name} imports batchgen.{other}"


def test_every_foreign_package_comes_in_through_its_doors_alone() -> None:
    for module in modules():
        for package in module.foreign():
            doors = DOORS.get(package, "").split()
            assert any(lies_in(module.name, door) for door in doors), f"{module.name} imports {package}"


def test_every_door_is_used() -> None:
    for package, doors in DOORS.items():
        for door in doors.split():
            behind = [module for module in modules() if lies_in(module.name, door)]
            assert any(package in module.foreign() for module in behind), f"{door} does not import {package}"


def statements(module: Module) -> Iterator[str]:
    """Strings that are SQL, with their line; the parts of an f-string count one by one."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield f"{module.path}:{node.lineno}: {node.value[:60]}"


def test_sql_stands_in_the_ledgers_rooms_alone() -> None:
    assert not [found for module in modules() if module.name not in SQL_ROOMS for found in statements(module)]


def test_each_of_the_ledgers_rooms_holds_sql() -> None:
    for name in SQL_ROOMS:
        assert any(statements(module) for module in modules() if module.name == name), name


@pytest.mark.parametrize("folder", ["batchgen", "tests"])
def test_no_function_is_longer_than_a_screen(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= FUNCTION_MOST, f"{path}:{node.lineno}: {node.name} has {lines} lines"


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    for path in sorted(path for kind in ("*.py", "*.sql") for path in HOUSE.rglob(kind)):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= FILE_MOST, f"{path} has {lines} lines"


def test_every_module_says_what_it_is_for() -> None:
    for module in modules():
        assert ast.get_docstring(module.tree), f"{module.path} has no docstring"


def test_the_top_of_the_repository_holds_six_things() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    top = {name.partition("/")[0] for name in listed.stdout.split("\0") if name}
    wanted = {"pyproject.toml", "batchgen", "jobs", "tests", "README.md", "Makefile"}
    assert {name for name in top if not name.startswith(".")} == wanted


def test_help_imports_nothing_that_is_slow_to_import() -> None:
    script = (
        "import sys; from batchgen.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: print(end.code, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    code, *loaded = out.splitlines()[-1].split()
    assert code == "0"
    assert "Overnight batch jobs" in out
    assert not SLOW_TO_IMPORT & set(loaded)
