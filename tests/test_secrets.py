"""The key of all tests turns up in no file, in no output and on no terminal; and whoever looks for it would find it."""

import base64
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from canary import KEY, forms_in, leaks
from conftest import Start
from test_cli import on_a_terminal
from test_process import ended, planted
from world import Host, Respond, World, eventually, many, png

TESTS = Path(__file__).parent
CAUGHT = ("raw", "half", "deep", "named", "out", "err", "beside", "late", "shared")
CONFTEST = "from canary import _shared_folders_hold_no_key, pytest_configure, pytest_runtest_makereport\n"
PLANTED = """
import sys, pytest
from base64 import b64encode
from canary import KEY

def test_clean(tmp_path): (tmp_path / "log").write_text("nothing here")
def test_raw(tmp_path): (tmp_path / "log").write_text(f"says {KEY}!")
def test_half(tmp_path): (tmp_path / "log").write_text(KEY[30:])
def test_deep(tmp_path): (tmp_path / "a").mkdir(); (tmp_path / "a" / "db").write_bytes(b64encode(b"x" + KEY.encode()))
def test_named(tmp_path): (tmp_path / KEY).touch()
def test_out(): print("Bearer", KEY)
def test_err(): print(KEY[:27], file=sys.stderr)
@pytest.mark.holds_key("keys.env")
def test_allowed(tmp_path): (tmp_path / "keys.env").write_text(KEY)
@pytest.mark.holds_key("keys.env")
def test_beside(tmp_path): (tmp_path / "other.env").write_text(KEY)
@pytest.fixture
def late(tmp_path):
    yield
    (tmp_path / "late", "shared").write_text(KEY)
def test_late(late): pass
@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    (tmp_path_factory.mktemp("shared") / "log").write_text(KEY)
def test_shared(shared): pass
"""


@pytest.mark.holds_key("*")
def test_whoever_plants_the_key_is_found_out_and_nobody_else(tmp_path: Path) -> None:
    """A pytest of its own, with the hooks of this one."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_planted.py").write_text(PLANTED)
    flags = ("-rA", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={tmp_path / 'planted'}")
    command = [sys.executable, "-m", "pytest", *flags, str(tmp_path / "test_planted.py")]
    environ = {**os.environ, "PYTHONPATH": str(TESTS), "COLUMNS": "200"}
    ran = subprocess.run(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True, timeout=60)
    found = {line.split("::")[1].split()[0] for line in ran.stdout.splitlines() if line.startswith("ERROR ")}
    assert (found, ran.returncode) == ({f"test_{name}" for name in CAUGHT}, 1)


def encoded(before: int) -> str:
    """A text of so many letters and the key behind it, as base64."""
    return base64.b64encode(b"k" * before + b":" + KEY.encode() + b" it was").decode()


MIDDLE = len(KEY) // 2
FORMS = {
    "raw": KEY,
    **{f"base64 at {n}": encoded(n) for n in range(3)},
    "base64url": base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
    "percent-encoded": "".join(f"%{ord(letter):02X}" for letter in KEY),
    "percent-encoded twice": "".join(f"%25{ord(letter):02x}" for letter in KEY),
    "JSON in JSON": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "JSON in JSON in JSON": "".join(f"\\\\u{ord(letter):04x}" for letter in KEY),
    "first half": f"{KEY[:MIDDLE]}****",
    "second half": f"****{KEY[MIDDLE:]}",
    "cut in its middle": "x" * (500 - MIDDLE) + KEY,
    "base64 cut in its middle": "x" * (500 - len(KEY)) + encoded(0),
}
"""How a server may show a key that it was sent; the whole text of an error."""


def envelope(**error: str) -> bytes:
    return json.dumps({"error": {"message": "no", "code": "invalid_value", "type": "invalid", **error}}).encode()


def bought(world: World, host: Callable[[Respond], Host], respond: Respond, **changes: object) -> None:
    """Three tasks of a seller that answers so; one after the other, each tried once."""
    provider = world.provider(base_url=host(respond).url)
    settings = {"prompts": many(3), "retry": {"attempts": 1}, "limits": {"concurrency": 1, "budget": 9}}
    world.run(**{"provider": provider, **settings, **changes})
    assert world.attempts()


@pytest.mark.parametrize("status", [401])
@pytest.mark.parametrize("form", FORMS)
def test_z3_a_key_that_an_error_shows_is_kept_nowhere(
    world: World, host: Callable[[Respond], Host], form: str, status: int
) -> None:
    body = envelope(message=FORMS[form])
    bought(world, host, lambda method, path: (status, {}, body))
    assert list(leaks(world.folder)) == []


def sold(**more: object) -> bytes:
    """A good answer, and what the seller has to say besides."""
    picture = {"b64_json": base64.b64encode(png()).decode()}
    revised = more.pop("revised_prompt", None)
    return json.dumps({"data": [{**picture, "revised_prompt": revised} if revised else picture], **more}).encode()


PLACES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "a page of a gateway": (502, {"content-type": "text/html"}, f"<html>{KEY}</html>".encode()),
    "an error's code": (400, {}, envelope(code=KEY)),
    "an error's type": (400, {}, envelope(code="", type=KEY)),
    "an error inside a 200": (200, {}, envelope(message=KEY)),
    "the name of a request": (400, {"x-request-id": KEY}, envelope()),
    "the name of a request that was paid": (200, {"x-request-id": KEY}, sold()),
    "a prompt as it was rewritten": (200, {}, sold(revised_prompt=f"An otter, {KEY}")),
    "a value that took effect": (200, {}, sold(quality=KEY)),
    "a count that is none": (200, {}, sold(usage={"input_tokens": KEY, "output_tokens": 1, "total_tokens": 1})),
    "a link's host": (200, {}, json.dumps({"data": [{"url": f"https://{KEY}.example/a.png"}]}).encode()),
    "a link": (200, {}, json.dumps({"data": [{"url": f"http://127.0.0.1:9/{KEY}"}]}).encode()),
    "a header": (200, {"x-echo": f"Bearer {KEY}", "set-cookie": KEY}, b"junk"),
    "a redirect": (307, {"location": f"https://example.com/{KEY}"}, b""),
    "a page with 200": (200, {}, f"Bearer {KEY}".encode()),
    "a page with 200, as base64": (200, {}, encoded(1).encode()),
    "a page with 200, by half": (200, {}, KEY[:MIDDLE].encode()),
}


@pytest.mark.holds_key("spool/*")
@pytest.mark.parametrize("place", PLACES)
def test_z3_a_key_that_an_answer_shows_anywhere_is_kept_nowhere(
    world: World, host: Callable[[Respond], Host], place: str
) -> None:
    """But for an answer whose link must still be followed: it waits in the spool as it came."""
    bought(world, host, lambda method, path: PLACES[place])
    waits = world.attempts().count("accepted") > 0
    assert list(leaks(world.folder, ["spool/*"] if waits else [])) == []


VERBS = (
    *(("plan",), ("run",), ("status",), ("report",), ("report", "--attempts"), ("report", "--attempts", "--json")),
    *(("report", "--attempts", "--csv"), ("verify",), ("retry", "--failed", "--yes")),
)
ENCODED = f"{FORMS['base64 at 1']} {FORMS['percent-encoded']} {FORMS['JSON in JSON'][:120]}"


@pytest.mark.holds_key("spool/*")
@pytest.mark.parametrize("shown", [KEY + ENCODED], ids=["raw and encoded"])
def test_z3_no_verb_shows_the_key_on_a_terminal(world: World, host: Callable[[Respond], Host], shown: str) -> None:
    """The seller says it in a no, in an error of its own, in a page, and in the no to the key itself."""
    body = envelope(message=shown)
    answers = [(400, body), (500, body), (200, b"junk"), (502, shown.encode()), (401, body)]
    left = iter(answers)
    url = host(lambda method, path: ((answer := next(left, answers[-1]))[0], {}, answer[1])).url
    settings = {"retry": {"attempts": 1}, "limits": {"concurrency": 1, "budget": 9}}
    manifest = str(world.write(provider=world.provider(base_url=url), prompts=many(5), **settings))
    named = [*((verb[0], manifest, *verb[1:]) for verb in VERBS), ("costs",)]
    named += [("doctor",), ("providers",), ("providers", "azure")]
    screens = {verb: on_a_terminal(world, *verb) for verb in named}
    assert all(screens.values())
    assert {verb: forms for verb, said in screens.items() if (forms := forms_in("".join(said.split()).encode()))} == {}


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HTTPS_PROXY"])
def test_z2_a_key_where_doctor_looks_is_not_shown(world: World, name: str) -> None:
    shown = {"HTTPS_PROXY": f"http://user:{KEY}@127.0.0.1:9", "OPENAI_BASE_URL": f"https://user:{KEY}@example.com/v1"}
    for verb in (("doctor",), ("providers",), ("providers", "openai"), ("doctor", "--json")):
        said = on_a_terminal(world, *verb, **{name: shown.get(name, KEY)})
        assert forms_in("".join(said.split()).encode()) == [], verb


@pytest.mark.parametrize("place", ["prompts", "api_key"])
def test_z2_a_key_in_a_manifest_is_refused_without_being_shown(tmp_path: Path, world: World, place: str) -> None:
    """Where no text of the user's own belongs. The manifest itself holds it, and nothing else does."""
    values: dict[str, object] = {"prompts": {"prompt": "x", "token": KEY}, "limits": {KEY: 1}, "provider": KEY}
    manifest = world.write(**{place: values.get(place, KEY)})
    said = [on_a_terminal(world, verb, str(manifest)) for verb in ("plan", "run", "status")]
    manifest.unlink()
    assert forms_in("".join("".join(said).split()).encode()) == []


def test_z17_no_process_has_the_key_among_its_arguments(bad: Start) -> None:
    """Neither the run nor the sandbox that it starts: whoever may list processes sees those."""
    world = bad("--latency", "1")
    process = planted(world, "", "run", str(world.write()))  # a process of its own, with a command line of its own
    eventually(lambda: world.sandbox.stats()["open"] > 0)
    lines = [path.read_bytes() for path in (Path("/proc") / str(process.pid)).glob("cmdline")]
    assert (len(lines), [line for line in lines if forms_in(line)]) == (1, [])
    assert process.wait(20) == 0


def test_z17_a_process_that_knows_the_key_leaves_no_core_dump(bad: Start) -> None:
    world = bad("--latency", "1")
    allowed = "import resource as r\nmost = r.getrlimit(r.RLIMIT_CORE)[1]\nr.setrlimit(r.RLIMIT_CORE, (most, most))"
    process = planted(world, allowed, "run", str(world.write()))
    eventually(lambda: world.sandbox.stats()["open"] > 0)
    soft, _ = resource.prlimit(process.pid, resource.RLIMIT_CORE)
    assert process.wait(20) == 0
    assert soft == 0


@pytest.mark.holds_key("*")
def test_p10_z2_a_bug_whose_words_hold_the_key_does_not_tell_it(world: World) -> None:
    bug = f"import batchgen.images as m\ndef bug(*_): raise RuntimeError('no header {KEY}')\nm.save = bug\n"
    code, said = ended(planted(world, bug, "run", str(world.write())))
    assert (code, "RuntimeError" in said) == (1, True)
    assert (forms_in(said.encode()), list(leaks(world.run_folder))) == ([], [])
