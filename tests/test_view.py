"""The live view: who is let in, what it shows of a run at work, and that it reads this run and nothing else."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from browser import Browser
from sandbox import child
from world import CARP, HERON, OTTER, World, eventually, many


@dataclass(frozen=True, slots=True)
class View:
    """A view that is served; `url` ends with its token."""

    world: World
    process: "subprocess.Popen[str]"
    url: str

    def get(self, path: str = "", **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=headers, trust_env=False, verify=False)

    def told(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def served(world: World) -> View:
    process = world.begin("view", str(world.run_folder))
    assert process.stdout
    return View(world, process, process.stdout.readline().strip())


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory, polite: Any) -> Iterator[View]:
    """Of a run that is over."""
    world = World(tmp_path_factory.mktemp("view"), polite)
    matrix = {"quality": ["low", "medium"]}
    said = world.command("run", str(world.write(prompts=[OTTER, HERON, CARP], matrix=matrix, request=None)))
    assert said.returncode == 0, said.stderr
    yield served(world)
    world.end()


def test_it_is_served_to_this_machine_alone_under_a_name_that_nobody_can_guess(view: View) -> None:
    where = urlsplit(view.url)
    assert where.hostname == "127.0.0.1"
    assert len(where.path) >= 32
    for address in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)} - {"127.0.0.1", "::1"}:
        with socket.socket(socket.AF_INET6 if ":" in str(address) else socket.AF_INET) as other:
            assert other.connect_ex((str(address), where.port or 0)) != 0


def test_who_does_not_know_the_token_is_told_nothing(view: View) -> None:
    root = view.url[: view.url.index("/", 8)]
    token = urlsplit(view.url).path.strip("/")
    for path in ("/", "/head", f"/{token[:-1]}/head", f"/{token}x/head", "//head", f"/x/../{token[:-1]}/", "/%00/head"):
        answer = httpx.get(f"{root}{path}", trust_env=False, verify=False)
        assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:80"},
        {"host": "localhost@evil.example"},
        {"host": "["},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_pages_and_other_names_of_this_machine_are_refused(view: View, headers: dict[str, str]) -> None:
    assert (view.get("head", **headers).status_code, view.get("head").status_code) == (403, 200)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_asked_of_it_but_to_show(view: View, method: str) -> None:
    answer = httpx.request(method, f"{view.url}head", trust_env=False, verify=False)
    assert (answer.status_code, answer.content) == (405, b"")


def test_every_answer_tells_the_browser_to_be_strict(view: View) -> None:
    for path in ("", "head", "web/page.css", "image/1", "nothing", "thumb/1"):
        headers = view.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "image/999",
        "image/-1",
        "image/1.5",
        "image/" + "9" * 30,
        "image/..%2f..%2fledger.db",
        "image/../../ledger.db",
        "web/..%2fpage.py",
        "web/../page.py",
        "web/page.html",
        "task/999",
        "thumb/x",
        "ledger.db",
        "head/",
    ],
)
def test_nothing_but_images_of_the_ledger_is_served(view: View, path: str) -> None:
    assert view.get(path).status_code == 404


def test_images_are_served_as_they_are_and_small(view: View) -> None:
    ((path,),) = view.world.rows("SELECT path FROM images WHERE id = 1")
    answer = view.get("image/1")
    assert (answer.content, answer.headers["content-type"]) == (
        (view.world.run_folder / "images" / path).read_bytes(),
        "image/png",
    )
    assert view.get("thumb/1").headers["content-type"] == "image/webp"


def test_rows_are_found_as_in_the_report(view: View) -> None:
    found = view.told("rows?offset=1&most=1")
    assert (found["total"], [row["text"] for row in found["rows"]]) == ({"rows": 3, "tasks": 6}, [HERON])
    low = {"axis": json.dumps(["quality", "low"]), "text": "CARP", "most": "9", "states": "done failed"}
    ((row,),) = [view.told(f"rows?{httpx.QueryParams(low)}")["rows"]]
    assert (row["text"], len(row["tasks"])) == (CARP, 1)
    assert view.told(f"task/{row['tasks'][0]['seq']}")["detail"]["sendings"][0]["state"] == "paid"


@pytest.mark.parametrize(
    "asked",
    [
        "offset=-1&most=x",
        "most=9&axis=junk",
        "most=9&axis=[1]",
        "most=9&axis=" + "[" * 5000,
        "most=9&order=1;DROP",
        "most=9&states=x'y",
        "most=9&text=%00%ff",
        "most=999999999&offset=999999999999999",
        'most=9&axis=["sample","x"]',
    ],
)
def test_a_question_that_makes_no_sense_has_an_answer(view: View, asked: str) -> None:
    assert set(view.told(f"rows?{asked}")) == {"rows", "total"}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """Of a run that is at work, an image a second."""
    flags = ("--paint", "cached", "--paint-bytes", "3000", "--latency", "0.2", "--ipm", "60", "--burst", "4")
    world = World(tmp_path_factory.mktemp("busy"), child.fork(*flags))
    world.begin("run", str(world.write(prompts=many(200), limits={"concurrency": 4, "budget": 5})))
    eventually(lambda: (world.run_folder / "ledger.db").exists() and world.charges())
    yield served(world)
    world.end()
    world.sandbox.end()


def test_what_it_does_is_told_while_it_works(busy: View, view: View) -> None:
    eventually(lambda: busy.told("now?most=9")["waits"])
    now = busy.told("now?most=9")
    assert (now["working"], now["budget"], now["paused"]) == (True, 5.0, False)
    assert now["pace"][0].startswith("pretend: ")
    assert [image["id"] for image in now["newest"]] == sorted((image["id"] for image in now["newest"]), reverse=True)
    assert busy.told(f"now?most=9&after={now['newest'][0]['id'] + 1000}")["newest"] == []
    over = view.told("now")
    assert (over["working"], over["waits"], over["state"].startswith("ended ")) == (False, [], True)


def test_in_a_browser_images_land_as_the_run_saves_them(busy: View, browser: Browser) -> None:
    tab = browser.tab().open(busy.url)
    tab.eventually("document.querySelectorAll('#newest img').length >= 2")
    assert "running (process " in tab.text("#work")
    assert "of a budget of $5.00" in tab.text("#work")
    before = tab.count(".tile.is-done")
    tab.eventually(f"document.querySelectorAll('.tile.is-done').length > {before}")
    tab.page.click(".tile.is-done")
    tab.eventually("document.querySelector('.view img')?.naturalWidth > 0")
    assert "1 attempt" in tab.text(".facts")
    tab.keys("Escape")
    tab.page.fill("#find", "number 129")
    tab.eventually("document.querySelectorAll('#grid tbody').length === 1")
    tab.check_quiet(busy.url)


def test_ctrl_c_ends_it_in_silence(view: View) -> None:
    second = served(view.world)
    assert second.get("web/page.css").status_code == 200
    second.process.send_signal(signal.SIGINT)
    assert (second.process.wait(10), *second.process.communicate()) == (0, "", "")


def test_a_ledger_that_vanishes_is_said_so_and_links_are_not_followed(view: View, tmp_path: Path) -> None:
    world = World(tmp_path, view.world.sandbox)
    shutil.copytree(view.world.run_folder, world.run_folder)
    other = served(world)
    ((path,),) = world.rows("SELECT path FROM images WHERE id = 1")
    file = world.run_folder / "images" / path
    file.unlink()
    os.symlink("/etc/hostname", file)
    shutil.rmtree(world.run_folder / "thumbs", ignore_errors=True)
    assert [other.get(f"{kind}/1").status_code for kind in ("image", "thumb")] == [404, 404]
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db:
        db.execute("UPDATE images SET path = '../ledger.db', format = 'html' WHERE id = 2")
        db.commit()
    assert [other.get(f"{kind}/2").status_code for kind in ("image", "thumb")] == [404, 404]
    os.rename(world.run_folder / "ledger.db", world.folder / "away.db")
    for asked in ("rows?most=1", "now", "task/1"):
        answer = other.get(asked)
        assert (answer.status_code, "cannot be read" in answer.json()["error"]) == (503, True)
    os.rename(world.folder / "away.db", world.run_folder / "ledger.db")
    assert other.told("rows?most=1")["total"]["rows"] == 3
    world.end()


def test_a_port_that_is_taken_is_said_so(view: View) -> None:
    taken = f"{urlsplit(view.url).port}"
    said = view.world.command("view", str(view.world.run_folder), "--port", taken)
    assert (said.returncode, "in use" in said.stderr) == (2, True)
