"""The command as a stranger meets it: mistakes, help, streams, and what never reaches a terminal or a file."""

import base64
import csv
import io
import json
import os
import pty
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Start
from sandbox import nursery
from world import KEY, Host, Respond, World, environment, many

from batchgen.cli import VERBS

FIVE_MISTAKES = """\
name: otters
provider: sandbox
modell: gpt-image-2
model: gpt-image-2
prompts:
  - A shirt with #1 on it
  - A shirt with stripes
matrix:
  quality: [low, hihg]
request: {size: 1000}
limits:
  concurrency: many
"""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
TITLE = "\x1b]0;owned\x07\x1b[2J\x9b31mred"
"""Sets a terminal's title, clears it, and colours it, in two spellings of the escape."""


def test_every_mistake_is_told_at_once_with_its_line(world: World) -> None:
    (world.folder / "otters.yaml").write_text(FIVE_MISTAKES)
    said = world.command("run", "otters.yaml")
    places = [re.match(r"otters\.yaml:(\d+):\d+: ", line) for line in said.stderr.splitlines()]
    assert [int(place[1]) for place in places if place] == [3, 6, 9, 10, 12]
    assert (said.returncode, said.stdout, world.run_folder.parent.exists()) == (2, "", False)
    assert "did you mean high?" in said.stderr
    assert "did you mean model?" in said.stderr


def test_a_manifest_that_is_not_there_is_said_in_one_line(world: World) -> None:
    said = world.command("run", "nowhere.yaml")
    assert (said.returncode, said.stderr) == (2, "nowhere.yaml: No such file or directory\n")


@pytest.mark.parametrize("verb", ["status", "report", "verify", "retry"])
def test_a_run_that_is_not_there_is_said_in_one_line(world: World, verb: str) -> None:
    flags = ["--held"] if verb == "retry" else []
    said = world.command(verb, "nowhere", *flags)
    assert (said.returncode, said.stdout, len(said.stderr.splitlines())) == (2, "", 1)
    assert "there is no run in" in said.stderr


def test_help_shows_commands_to_copy_first(world: World) -> None:
    said = world.command("--help")
    assert said.returncode == 0
    examples = [line for line in said.stdout.splitlines() if line.startswith("    batchgen ")]
    assert len(examples) >= 3
    assert said.stdout.index(examples[0]) < said.stdout.index("Options:")


def test_a_verb_that_is_none_brings_the_nearest(world: World) -> None:
    said = world.command("reprot", "otters.yaml")
    assert (said.returncode, "report" in said.stderr) == (2, True)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(world: World, verb: str) -> None:
    said = world.command(verb, "--help")
    assert (said.returncode, said.stderr, len(said.stdout) > 100) == (0, "", True)


def test_the_version_names_batchgen_python_and_platform(world: World) -> None:
    assert re.fullmatch(r"batchgen \S+, Python 3\.\d+\.\S+, \S+\n", world.command("--version").stdout)


def test_results_go_to_stdout_and_all_else_to_stderr(world: World) -> None:
    ran = world.command("run", str(world.write(prompts=many(2))))
    assert (ran.stdout, "2 saved" in ran.stderr, f"{world.run_folder} (new)" in ran.stderr) == ("", True, True)
    assert f"{world.run_folder} (resumed)" in world.command("run", "otters.yaml").stderr
    for verb in ("status", "report", "verify"):
        said = world.command(verb, "otters.yaml", "--json")
        assert (json.loads(said.stdout)["schema_version"], said.stderr) == (1, "")


def test_without_a_terminal_nothing_is_coloured_and_no_bar_is_drawn(world: World) -> None:
    for command in (("run", str(world.write())), ("status", "otters.yaml"), ("report", "otters.yaml")):
        said = world.command(*command)
        assert not CONTROL.search(said.stdout + said.stderr)


def on_a_terminal(world: World, *arguments: str, **env: str) -> str:
    """What a command writes where all its streams are one terminal."""
    here, there = pty.openpty()
    variables = environment(TERM="xterm-256color", **env)
    process = nursery.start(
        "batchgen", *arguments, env=variables, cwd=world.folder, stdin=there, stdout=there, stderr=there
    )
    os.close(there)
    said = b""
    try:
        while chunk := os.read(here, 65536):
            said += chunk
    except OSError:  # the other end is closed
        pass
    os.close(here)
    process.wait(20)
    return said.decode()


def test_no_color_means_no_colour(world: World) -> None:
    world.run()
    for verb in ("report", "run"):
        said = on_a_terminal(world, verb, "otters.yaml", NO_COLOR="1")
        assert not re.search(r"\x1b\[[0-9;]*\b(3[0-7]|4[0-7]|9[0-7]|38|48)\b[0-9;]*m", said)


def rude(host: Callable[[Respond], Host], status: int = 400) -> Host:
    """Its errors try to steer the terminal that shows them, and a spreadsheet that opens them."""
    error = {"error": {"message": f"=cmd|'/C calc'!A0 {TITLE}\nINFO forged", "code": f"=1+1{TITLE}", "type": "x"}}
    body = json.dumps(error).encode()
    return host(lambda method, path: (status, {"x-request-id": "=2+2"}, body))


READERS = (("report",), ("report", "--attempts", "all"), ("status",), ("verify",), ("report", "--json"))


@pytest.mark.parametrize(
    "status",
    [
        400,
        401,
    ],
)
def test_what_a_server_says_cannot_steer_a_terminal(world: World, host: Callable[[Respond], Host], status: int) -> None:
    path = world.write(provider=world.provider(base_url=rude(host, status).url))
    said = [world.command("run", str(path))]
    said += [world.command(verb, "otters.yaml", *flags) for verb, *flags in READERS[:4]]
    for each in said:
        assert not CONTROL.search(each.stdout + each.stderr), each.args
    assert not re.search(r"\x1b\]0|\x9b|\x1b\[2J", on_a_terminal(world, "run", "otters.yaml"))


@pytest.mark.parametrize(
    "flags",
    [
        ("--json",),
        ("--csv",),
        ("--attempts", "all", "--json"),
        ("--attempts", "all", "--csv"),
    ],
    ids=" ".join,
)
def test_json_and_csv_carry_no_raw_escape(
    world: World, host: Callable[[Respond], Host], flags: tuple[str, ...]
) -> None:
    world.run(provider=world.provider(base_url=rude(host).url))
    assert not CONTROL.search(world.command("report", "otters.yaml", *flags).stdout)


def test_a_log_line_cannot_be_forged(world: World, host: Callable[[Respond], Host]) -> None:
    world.run(provider=world.provider(base_url=rude(host, 401).url))
    lines = (world.run_folder / "run.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in lines)


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "prompts",
        "bogus\\e]0;owned\\a",
    ],
)
def test_a_manifest_cannot_steer_a_terminal(world: World, key: str) -> None:
    path = world.write()
    path.write_text(path.read_text() + f'"{key}": "\\e]0;owned\\a \\u009b31m"\n')
    said = world.command("run", str(path))
    assert (said.returncode, bool(CONTROL.search(said.stderr))) == (2, False)


def test_cells_that_a_spreadsheet_would_run_are_quoted(world: World, host: Callable[[Respond], Host]) -> None:
    models = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"]
    provider = world.provider(base_url=rude(host).url)
    world.run(provider=provider, matrix={"model": models}, limits={"images": 9})
    for flags in (["--csv"], ["--by", "model", "--csv"], ["--attempts", "all", "--csv"]):
        rows = list(csv.reader(io.StringIO(world.command("report", "otters.yaml", *flags).stdout)))
        assert len(rows) == 5
        assert not [cell for row in rows[1:] for cell in row if re.match(r"[=+@\t\r]|-(?!\d+$)", cell)]


def secrets_in(folder: Path) -> list[str]:
    """The files that hold the key, raw or as base64 would show it."""
    spellings = [KEY.encode(), *(base64.b64encode(b"." * n + KEY.encode())[4:-4] for n in range(3))]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(spelling in path.read_bytes() for spelling in spellings)]


@pytest.mark.parametrize("faults", ["echo=0.5,html=0.3,cut=0.2", "401=1"])
def test_the_key_is_written_and_shown_nowhere(bad: Start, faults: str) -> None:
    world = bad("--faults", faults)
    path = str(world.write(prompts=many(12), limits={"concurrency": 2, "budget": 1}, retry={"attempts": 1}))
    said = [world.command("run", path)]
    said += [world.command(verb, path, *flags) for verb, *flags in READERS]
    assert not [each.args for each in said if KEY in each.stdout + each.stderr]
    assert secrets_in(world.run_folder) == []


def test_a_key_that_the_provider_sends_back_in_an_answer_of_no_use_is_not_kept(
    world: World, host: Callable[[Respond], Host]
) -> None:
    seller = host(lambda method, path: (200, {}, b"you sent Bearer " + KEY.encode()))
    world.run(provider=world.provider(base_url=seller.url), retry={"attempts": 1})
    assert world.attempts() == ["unusable"]
    assert secrets_in(world.run_folder) == []


def test_the_run_folder_is_its_owners_alone(world: World) -> None:
    world.run()
    private = ("ledger.db", "manifest.yaml", "spool")
    assert {name: (world.run_folder / name).stat().st_mode & 0o077 for name in private} == dict.fromkeys(private, 0)
