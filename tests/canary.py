"""The canary: the key of all tests, which may turn up in no file and no output, whole or by half, in any spelling.

After every test the files below its tmp_path and all that it printed are searched: conftest.py hands these hooks to
pytest. A test that writes the key on purpose says where: `@pytest.mark.holds_key("keys.env")`, with patterns as
`Path.match` takes them; "*" means all that it leaves and says.
"""

import base64
import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from sandbox import child

KEY = child.KEY
ROOM = 64 << 20  # bytes that are searched after one test
FILE = 8 << 20  # bytes that are searched of one file
MARK = "holds_key(*patterns): files that hold the canary on purpose"
searched: set[Path] = set()
"""The folders of tests that had one of their own."""


def parts(key: str) -> dict[str, str]:
    """Pieces so short that any half of the key holds one of them whole, and so long that chance makes none."""
    secret = key.removeprefix("sk-canary-")
    size = len(secret) // 4
    return {f"letters {n} to {n + size}": secret[n : n + size] for n in range(0, 4 * size, size)}


def base64s(secret: bytes) -> Iterator[bytes]:
    """What base64 of any text shows of a secret inside of it, wherever that begins: in the middle, three spellings."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret).rstrip(b"=")
        sure = (before + len(secret)) * 8 // 6  # letters that do not depend on what follows
        yield whole[(before * 8 + 5) // 6 : sure]


@cache
def spellings(key: str = KEY) -> Mapping[str, bytes]:
    """Each form in which a part of the key may stand in a file, by its name."""
    found: dict[str, bytes] = {}
    for which, part in parts(key).items():
        found |= {f"{which}, raw": part.encode(), f"{which}, in small letters": part.lower().encode()}
        for n, text in enumerate(base64s(part.encode())):
            found[f"{which}, base64 at {n}"] = text
            safe = text.translate(bytes.maketrans(b"+/", b"-_"))
            found |= {f"{which}, base64url at {n}": safe} if safe != text else {}
        for mark, base in itertools.product(("%", "%25", "\\u00", "\\\\u00"), "xX"):
            escaped = "".join(f"{mark}{ord(letter):02{base}}" for letter in part)
            found[f"{which}, escaped with {mark}, {base}"] = escaped.encode()
    return found


def forms_in(data: bytes, key: str = KEY) -> list[str]:
    """The forms in which this holds the key."""
    return [name for name, spelling in spellings(key).items() if spelling in data]


def leaks(folder: Path, allowed: Sequence[str] = ()) -> Iterator[str]:
    """Each file below a folder that holds the key, with the forms; but for those whose name was allowed to."""
    room = ROOM
    for path in sorted(folder.rglob("*")):
        if room <= 0:
            return
        if path.is_symlink() or not path.is_file() or any(path.match(pattern) for pattern in allowed):
            continue
        with path.open("rb") as file:
            data = file.read(min(FILE, room))
        room -= len(data)
        if forms := [*forms_in(data), *(f"{form}, in its name" for form in forms_in(path.name.encode()))]:
            yield f"{path}: {'; '.join(forms)}"


def told(sections: Iterable[tuple[str, str]], allowed: Sequence[str] = ()) -> Iterator[str]:
    """Each captured output that holds the key; but for those whose name was allowed to."""
    for name, text in sections:
        forms = forms_in(text.encode(errors="replace"))
        if forms and not any(Path(name).match(pattern) for pattern in allowed):
            yield f"{name}: {'; '.join(forms)}"


def found_after(item: pytest.Item, report: pytest.TestReport) -> list[str]:
    """What a test that is over left behind of the key."""
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    allowed = [str(pattern) for mark in item.iter_markers("holds_key") for pattern in mark.args]
    found = list(told(report.sections, allowed))
    if isinstance(folder, Path):
        searched.add(folder)
        found += leaks(folder, allowed)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The last report of a test is its fixtures' end; by then all that it started has ended too."""
    report = yield
    if report.when == "teardown" and (found := found_after(item, report)):
        report.outcome = "failed"
        report.longrepr = "\n".join([str(report.longrepr or ""), "the key turned up:", *found]).strip()
    return report


@pytest.fixture(scope="session", autouse=True)
def _shared_folders_hold_no_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The folders that several tests share are searched once, at the end."""
    yield
    shared = (path for path in sorted(tmp_path_factory.getbasetemp().iterdir()) if path.is_dir())
    own = [path for path in shared if path not in searched and not path.is_symlink()]
    found = [leak for folder in own for leak in leaks(folder)]
    assert not found, "\n".join(["the key turned up:", *found])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)
