"""What others write, in prompts, answers, names and manifests, is obeyed nowhere: no terminal, log or table does."""

import base64
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from conftest import Start
from test_cli import on_a_terminal
from test_process import planted
from world import Host, Respond, World, eventually, many, png

ROOT = Path(__file__).parents[1]
CLIPBOARD, TITLE = "\x1b]52;c;Y3VybCBldmlsfHNo\x07", "\x1b]0;owned\x07"
LINK, CLEAR, C1 = "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\", "\x1b[2J\x1b[31m", "\x9b31m\x9d0;owned\x9c"
RUDE = f"{CLIPBOARD}{TITLE}{LINK}{CLEAR}{C1}"
"""Writes a clipboard, sets a title, hides a link, clears the screen; in two spellings of the escape."""
OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What tqdm and click send to a terminal themselves: colours, and moves of the cursor."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def modes(folder: Path) -> dict[str, int]:
    """Who may do what with each file, by its path below the run's folder."""
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_z21_d19_what_a_run_keeps_is_its_owners_alone_but_for_the_images(bad: Start, umask: int) -> None:
    """While it works, with answers in the spool and a log beside the ledger; whatever the umask says."""
    world = bad("--script", "ok html ok hang")
    path = str(world.write(prompts=many(4), retry={"attempts": 1}, limits={"concurrency": 1, "budget": 5}))
    process = planted(world, f"import os\nos.umask({umask})", "run", path)
    eventually(lambda: (world.run_folder / "ledger.db").exists() and world.attempts()[-1:] == ["sending"], within=60)
    eventually(lambda: len(world.attempts()) == 4)
    found = modes(world.run_folder)
    process.kill()
    process.wait()
    images = {name: mode for name, mode in found.items() if re.match(r"images/.*\.\w+$", name)}
    folders = {name for name in found if (world.run_folder / name).is_dir()}
    private = {name: oct(mode) for name, mode in found.items() if name not in images and name not in folders}
    del private[".lock"]
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm", "manifest.yaml", "run.log"} <= private.keys()
    assert (any(name.startswith("spool/") for name in private), len(images)) == (True, 2)
    assert {name: mode for name, mode in private.items() if int(mode, 8) & 0o077} == {}
    assert found["spool"] == 0o700
    assert set(images.values()) == {0o644 & ~umask}


def test_d19_nobody_else_can_hold_the_lock_of_a_run(world: World) -> None:
    """Who may open it may hold it, and keep every run away for ever."""
    assert world.command("run", str(world.write())).returncode == 0
    assert oct((world.run_folder / ".lock").stat().st_mode & 0o077) == oct(0)


def rude_answers(host: Callable[[Respond], Host]) -> Host:
    """A no, a good answer and a page, each with all that a terminal might obey."""
    picture = {"b64_json": base64.b64encode(png()).decode(), "revised_prompt": RUDE}
    error = {"error": {"message": f"{RUDE}\nforged", "code": RUDE, "type": RUDE}}
    answers = [
        (400, {"x-request-id": "=1+1"}, json.dumps(error).encode()),
        (200, {}, json.dumps({"data": [picture], "quality": RUDE, "size": RUDE}).encode()),
        (200, {}, RUDE.encode()),
        (200, {}, json.dumps({"data": [{"url": f"https://{RUDE}.example/"}]}).encode()),
    ]
    left = iter(answers)
    return host(lambda method, path: next(left, answers[0]))


VERBS: tuple[tuple[str, ...], ...] = (
    *(("plan",), ("run",), ("status",), ("report",), ("report", "--attempts"), ("report", "--attempts", "--json")),
    ("verify",),
)


def test_z14_nothing_that_others_wrote_steers_a_terminal(world: World, host: Callable[[Respond], Host]) -> None:
    """A seller in its answers, and whoever left a strange file among the images."""
    limits = {"concurrency": 1, "budget": 5}
    provider = world.provider(base_url=rude_answers(host).url)
    path = str(world.write(provider=provider, prompts=many(4), limits=limits, retry={"attempts": 1}))
    screens = {verb: on_a_terminal(world, verb[0], path, *verb[1:]) for verb in VERBS[:2]}
    (world.run_folder / "images" / f"strange{TITLE}{CLEAR}.png").write_bytes(b"x")
    screens |= {verb: on_a_terminal(world, verb[0], path, *verb[1:]) for verb in VERBS[2:]}
    screens["costs",] = on_a_terminal(world, "costs", "--by", "model,provider")
    left = {verb: CONTROL.findall(OWN.sub("", said)) for verb, said in screens.items()}
    assert {verb: found for verb, found in left.items() if found} == {}
    assert {verb for verb, said in screens.items() if "\x1b[2J" in said or "\x1b[31m" in said} == set()
    assert "strange" in screens["verify",]


@pytest.mark.parametrize("where", ["verb", "run", "option", "setting", "file"])
def test_z14_what_was_typed_is_not_sent_back_as_it_is(world: World, where: str) -> None:
    """An argument may have been pasted, or come from a script that read it somewhere."""
    commands = {
        "verb": (f"r{RUDE}",),
        "run": ("report", f"r{RUDE}"),
        "option": ("report", "otters", f"--by{RUDE}"),
        "setting": ("run", str(world.write()), "--set", f"limits.{RUDE}=1"),
        "file": ("run", f"{RUDE}.yaml"),
    }
    said = on_a_terminal(world, *commands[where])
    assert (CONTROL.findall(OWN.sub("", said)), "\x1b[2J" in said) == ([], False)


def test_z15_no_line_of_the_log_is_forged(world: World, host: Callable[[Respond], Host]) -> None:
    """Whatever breaks lines for anybody who reads it."""
    breaks = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    message = "".join(f"{each}2026-01-01 00:00:00,000 INFO ended with 0: all done" for each in breaks)
    body = json.dumps({"error": {"message": message, "code": message}}).encode()
    for status in (401, 400):
        seller = host(lambda method, path, status=status: (status, {}, body))  # type: ignore[misc]
        world.run(provider=world.provider(base_url=seller.url), prompts=many(11))
    lines = (world.run_folder / "run.log").read_text().splitlines()
    ends = [line for line in lines if re.match(r"[\d-]+ [\d:,]+ INFO ended with", line)]
    assert len(ends) == 2
    assert not [line for line in ends if "INFO ended with 0" in line[:50]]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ", line) for line in lines)


MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_z10_markup_is_text_like_any_other_and_no_page_is_made(world: World, host: Callable[[Respond], Host]) -> None:
    """What a browser would open by its name is not there; what scripts read holds the text as it was."""
    answer = {"data": [{"b64_json": base64.b64encode(png()).decode(), "revised_prompt": MARKUP}], "quality": MARKUP}
    seller = host(lambda method, path: (200, {"content-type": "text/html"}, json.dumps(answer).encode()))
    world.run(provider=world.provider(base_url=seller.url), prompts=[MARKUP])
    assert world.rows("SELECT p.text, i.revised_prompt FROM prompts p, images i") == [(MARKUP, MARKUP)]
    assert [path for path in world.run_folder.rglob("*") if path.suffix in PAGES or "<" in path.name] == []
    (image,) = world.files()
    assert (image.suffix, MARKUP.encode() in image.read_bytes()) == (".png", False)
    told = json.loads(world.command("report", "otters.yaml", "--attempts", "--json").stdout)
    assert told["attempts"][0]["said"] == json.dumps({"quality": MARKUP}, separators=(",", ":"))


PAGES = {".html", ".htm", ".xhtml", ".svg", ".xml", ".js", ".css", ".md"}
FORMULAS = ("=1+1", "+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "\u200b=1", "\ufeff=1", "\x00=1")


@pytest.mark.parametrize("flags", [("--csv",), ("--attempts", "--csv"), ("--by", "model", "--csv")], ids=" ".join)
def test_z13_no_cell_of_a_report_is_run_as_a_formula(
    world: World, host: Callable[[Respond], Host], flags: tuple[str, ...]
) -> None:
    """In the name of a model, and in all that a server says; whatever stands before it and is not seen."""
    said = iter(FORMULAS * 2)
    bodies = (json.dumps({"error": {"message": text, "code": text}}).encode() for text in said)
    provider = world.provider(base_url=host(lambda *_: (400, {"x-request-id": "=2"}, next(bodies))).url)
    matrix = {"model": ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"]}
    world.run(provider=provider, matrix=matrix, limits={"images": 9, "concurrency": 1})
    check_cells(world.command("report", "otters.yaml", *flags).stdout, 5)


def test_z13_no_cell_of_costs_is_run_as_a_formula(world: World) -> None:
    world.run(project="=cmd|' /C calc'!A0", provider=world.provider(price={"image": 0.01}, name="pretend"))
    check_cells(world.command("costs", "--by", "project,job,provider,model", "--csv").stdout, 2)


def check_cells(text: str, rows: int) -> None:
    found = list(csv.reader(io.StringIO(text)))
    assert len(found) == rows
    cells = [cell.lstrip("\t\r\n \u200b\ufeff\x00") for row in found[1:] for cell in row]
    assert [cell for cell in cells if re.match(r"[=+@]|-(?!\d+(\.\d+)?$)", cell)] == []


def test_z16_no_variable_of_the_environment_and_no_file_gets_into_a_prompt(world: World) -> None:
    """Neither as a shell, YAML nor a template would fetch them; a plain prompt is sent letter by letter."""
    fetching = ("${PRETEND_API_KEY}", "$PRETEND_API_KEY", "%PRETEND_API_KEY%", "`id`", "$(id)", "~/x", "@/etc/passwd")
    prompts = [f"An otter {each}" for each in fetching]
    world.run(prompts=prompts)
    assert sorted(text for (text,) in world.rows("SELECT text FROM prompts")) == sorted(prompts)


@pytest.mark.parametrize(
    "prompt",
    [
        "{% include '/etc/passwd' %}{{ x }}",
        "{{ x.__class__.__mro__ }}",
        "{{ ''.__class__ }}{{ x }}",
        "{{ self._TemplateReference__context }}{{ x }}",
        "{% for a in range(10**9) %}{% endfor %}{{ x }}",
        "{{ x ~ lipsum.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.environ }}{{ x }}",
    ],
)
def test_z16_a_template_reaches_nothing_but_its_variables(world: World, prompt: str) -> None:
    said = world.command("plan", str(world.write(prompts=[{"prompt": prompt, "vars": {"x": ["1"]}}])), "--json")
    assert (said.returncode, "Traceback" in said.stderr, world.charges()) == (2, False, [])


@pytest.mark.parametrize("tag", ["!include /etc/passwd", "!ENV ${HOME}", "!!python/object/apply:os.system ['id']"])
def test_z16_u5_no_tag_of_yaml_fetches_or_runs_anything(world: World, tag: str) -> None:
    path = world.write()
    path.write_text(path.read_text().replace("model: gpt-image-2", f"model: {tag}"))
    said = world.command("plan", str(path))
    assert (said.returncode, "Traceback" in said.stderr, "root:" in said.stdout + said.stderr) == (2, False, False)


def test_z18_no_module_can_open_an_archive() -> None:
    """Nothing is unpacked, so that no member can lead out of a folder; gzip holds one stream and no names."""
    words = re.compile(r"^\s*(?:import|from) (zipfile|pickle|marshal|shelve)\b|(unpack_archive|tarfile\.[a-z]\w*)")
    texts = {path: path.read_text() for path in (ROOT / "batchgen").rglob("*.py")}
    assert len(texts) > 50
    assert [path for path, text in texts.items() if any(map(words.search, text.splitlines()))] == []
    makes = [path.name for path, text in texts.items() if "tarfile" in text]
    assert makes == ["webdataset.py"], "the only one that makes archives: it writes the heads of their members"


def test_z19_no_pixel_of_an_answer_is_decoded(world: World, host: Callable[[Respond], Host]) -> None:
    """Its chunks are walked, and no codec is asked: one that is called would end the process here."""
    picture = json.dumps({"data": [{"b64_json": base64.b64encode(png()).decode()}]}).encode()
    provider = world.provider(base_url=host(lambda *_: (200, {}, picture)).url)
    trap = "import PIL.ImageFile, os\nPIL.ImageFile.ImageFile.load = lambda *_: os._exit(99)"
    process = planted(world, trap, "run", str(world.write(provider=provider)))
    process.communicate(timeout=60)
    assert (process.returncode, len(world.files())) == (0, 1)


IF_THERE = {"setuptools", "sniffio"}
"""What a .pth file of an environment, and httpx, load where they find it."""


def test_z20_nothing_is_imported_that_is_not_written_down() -> None:
    """What the package needs is named in pyproject.toml; a run loads no other distribution's module."""
    code = (
        "import sys, importlib.metadata as m\n"
        "import batchgen, batchgen.cli, batchgen.commands.run, batchgen.commands.report, batchgen.commands.doctor\n"
        "owners = m.packages_distributions()\n"
        "print('\\n'.join({d for n in sys.modules for d in owners.get(n.partition('.')[0], [])}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert loaded.returncode == 0, loaded.stderr
    found = {plain(name) for name in loaded.stdout.split()}
    assert {"httpx", "pydantic"} <= found
    assert found - IF_THERE <= needed("batchgen", set())


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str, seen: set[str]) -> set[str]:
    """A distribution and all that it needs, of those that are installed."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return seen
    if (spelled := plain(name)) in seen:
        return seen
    seen.add(spelled)
    for line in found.requires or []:
        if "extra ==" not in line and (match := re.match(r"[\w.-]+", line)):
            needed(match[0], seen)
    return seen


def test_z9_z7_a_key_goes_over_no_open_line_and_to_no_stranger(world: World) -> None:
    for url in ("http://example.com/v1", "https://evil.example/v1"):
        said = world.command("run", str(world.write(provider=world.provider(base_url=url))))
        assert (said.returncode, "Traceback" in said.stderr) == (2, False)
    assert not (world.run_folder / "ledger.db").exists()
