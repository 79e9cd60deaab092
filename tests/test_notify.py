"""Somebody who does not watch is told how a run goes; and nothing that goes wrong with that touches the run."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import Start
from test_lane import lane
from test_manifest import BASE, read, refused
from test_process import planted
from world import HERON, KEY, KEY_ENV, OTTER, Host, Respond, World, environment, eventually, many

from batchgen import attempt, manifest, notify
from batchgen.ending import Ended
from batchgen.errors import Blocked, StorageError
from batchgen.folder import Folder
from batchgen.form import Event
from batchgen.lane import Lane
from batchgen.lookout import AGAIN, STALLED, Lookout
from batchgen.manifest import Setup
from batchgen.notice import Notice
from batchgen.notify import attempted, endings, lacks, run
from batchgen.progress import Progress
from batchgen.tallies import AttemptTally, Engine, Price, Tallies, TaskTally, Wanted
from batchgen.task import AttemptState, TaskState
from batchgen.terms import Notify

EVERYTHING: frozenset[Event] = frozenset({"end", "blocked", "budget", "until", "held", "stalled"})
SECRET = "s3cr3t-path-of-a-webhook"
TOLD = {"schema_version", "job", "text", "events", "reason", "exit_code", "tasks", "cost", "at"}
Hosts = Callable[[Respond], Host]


def taking(status: int = 200, **headers: str) -> Respond:
    return lambda method, path: (status, headers, b"thanks")


@pytest.fixture
def hook(host: Hosts, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A webhook that takes everything; WEBHOOK_URL holds where it is."""
    made = host(taking())
    monkeypatch.setenv("WEBHOOK_URL", f"{made.url}/{SECRET}")
    return made


def log(world: World) -> str:
    return Folder(world.run_folder).log.read_text(encoding="utf-8")


def objects(hook: Host) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in hook.taken]


def test_the_end_of_a_run_is_told_in_one_line(world: World, hook: Host) -> None:
    prompts = [OTTER, HERON, "A fox [moderated]"]
    told = {"url_env": "WEBHOOK_URL", "command": ["sh", "-c", 'cat > "told here.txt"']}
    assert world.run(prompts=prompts, notify=told).exit_code == 3
    ((headers, body),) = hook.taken
    assert (hook.seen, headers["content-type"]) == ([("POST", f"/{SECRET}")], "text/plain; charset=utf-8")
    assert body.decode() == f"otters 2/3 · ${world.billed() / 1e9:.4f} · 1 refused\n"
    assert (world.folder / "told here.txt").read_bytes() == body
    assert "notify" not in log(world)


def test_a_program_is_told_in_json_and_neither_where_the_run_lies_nor_any_secret(world: World, hook: Host) -> None:
    assert world.run(prompts=many(2), notify={"url_env": "WEBHOOK_URL", "format": "json"}).exit_code == 0
    ((headers, body),) = hook.taken
    (found,) = objects(hook)
    assert (headers["content-type"], set(found)) == ("application/json", TOLD)
    paid = world.billed() / 1e9
    assert (found["job"], found["text"], found["events"]) == ("otters", f"otters 2/2 · ${paid:.4f}", ["end"])
    assert (found["exit_code"], found["reason"], found["tasks"]["done"]) == (0, "all done", 2)
    assert found["cost"] == {"currency": "USD", "paid": paid, "low": paid, "high": paid, "pretend": False}
    assert not any(secret in body.decode() for secret in (KEY, SECRET, str(world.folder)))


@pytest.mark.parametrize(
    ("changes", "code", "events", "line"),
    [
        ({"limits": {"budget": 0.01}}, 4, ["end", "budget"], "ended with 4: stopped by budget · 1/4 · $0.00"),
        ({"limits": {"images": 1, "budget": 1}}, 4, ["end", "budget"], "ended with 4: stopped by limits.images · 1/4"),
        ({"limits": {"until": "2020-01-01 07:00"}}, 4, ["end", "until"], "ended with 4: stopped by limits.until (2020"),
        ({"prompts": [OTTER]}, 0, ["end"], "1/1 · $0.0059"),
    ],
)
def test_what_ended_it_is_told_with_the_end(
    world: World, hook: Host, changes: dict[str, Any], code: int, events: list[str], line: str
) -> None:
    changed = {"prompts": many(4), "notify": {"url_env": "WEBHOOK_URL", "format": "json"}, **changes}
    assert world.run(**changed).exit_code == code
    (found,) = objects(hook)
    assert (found["exit_code"], found["events"]) == (code, events)
    assert found["text"].startswith(f"otters {line}"), found["text"]


@pytest.mark.parametrize(
    ("flags", "code", "events", "line"),
    [
        (("--script", "401"), 5, ["end", "blocked"], "otters ended with 5: blocked: pretend: Incorrect API key"),
        (("--script", "cut"), 3, ["end", "held"], "otters 0/1 · $0.00 to $0.0"),
    ],
)
def test_what_no_look_has_seen_before_is_told_with_the_end(
    bad: Start, hook: Host, flags: tuple[str, ...], code: int, events: list[str], line: str
) -> None:
    world = bad(*flags)
    retry = {"attempts": 1, "on_unknown": "hold"}
    assert world.run(notify={"url_env": "WEBHOOK_URL", "format": "json"}, retry=retry).exit_code == code
    (found,) = objects(hook)
    assert (found["exit_code"], found["events"]) == (code, events)
    assert found["text"].startswith(line), found["text"]
    assert found["text"].endswith(" · 1 to do" if code == 5 else " · 1 perhaps paid")


def test_a_disk_that_is_full_is_told_though_the_run_raises(
    world: World, hook: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "ROOM", 1 << 50)
    with pytest.raises(StorageError):
        world.run(notify={"url_env": "WEBHOOK_URL", "format": "json"})
    (found,) = objects(hook)
    assert (found["exit_code"], found["events"]) == (5, ["end", "blocked"])
    assert re.fullmatch("otters ended with 5: .+ · 0/1 · 1 to do", found["text"]), found["text"]


def test_only_what_is_asked_for_is_told(bad: Start, hook: Host) -> None:
    world = bad("--script", "401")
    told = {"url_env": "WEBHOOK_URL", "format": "json", "on": ["blocked", "held"]}
    assert world.run(notify=told).exit_code == 5
    assert [each["events"] for each in objects(hook)] == [["blocked"]]
    assert world.run(notify=told, provider=world.provider()).exit_code == 0
    assert len(hook.taken) == 1


def test_a_run_at_work_tells_once_what_happens_and_its_end_later(
    bad: Start, hook: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "EVERY", 0.05)
    world = bad("--script", "cut", "--latency", "0.3")
    told = {"url_env": "WEBHOOK_URL", "format": "json"}
    retry, limits = {"attempts": 1, "on_unknown": "hold"}, {"concurrency": 1, "budget": 1}
    assert world.run(prompts=many(4), notify=told, retry=retry, limits=limits).exit_code == 3
    held, end = objects(hook)
    assert (held["events"], held["exit_code"], end["events"]) == (["held"], None, ["end"])
    assert held["text"].startswith("otters held: no usable answer came to a request that may be paid for · 0/4 · ")
    assert end["text"].startswith("otters 3/4 · ")
    assert end["text"].endswith(" · 1 perhaps paid")


def test_a_rehearsal_tells_of_pretend_money_and_a_plan_who_is_told(world: World, hook: Host) -> None:
    path = str(world.write(notify={"url_env": "WEBHOOK_URL", "command": ["./no such tell", "it"]}, provider="openai"))
    drawn = world.command("plan", path, WEBHOOK_URL="").stdout
    assert "Tells    the webhook in WEBHOOK_URL and the command './no such tell' it\n" in drawn
    assert "warning: notify: WEBHOOK_URL is not set\n" in drawn
    assert f"warning: notify: there is no command ./no such tell; paths begin in {world.folder}\n" in drawn
    (world.folder / "no such tell").symlink_to("/bin/true")
    ran = world.command("run", path, "--sandbox", WEBHOOK_URL=f"{hook.url}/{SECRET}")
    assert (ran.returncode, "notify" in ran.stderr) == (0, False), ran.stderr
    ((_, body),) = hook.taken
    assert body.decode().startswith("otters.sandbox 1/1 · $0.00")
    assert body.decode().endswith(" of pretend money\n")


def test_a_command_sees_the_environment_but_no_key_of_a_provider(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELL_TOKEN", "mine")
    world.run(notify={"command": ["sh", "-c", "env > told.txt"]})
    seen = (world.folder / "told.txt").read_text().splitlines()
    assert "TELL_TOKEN=mine" in seen
    assert not any(line.startswith(KEY_ENV) for line in seen)


# What goes wrong.


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"


def warning(world: World, url: str, **told: object) -> str:
    """What the log says of a run that ends well, and cannot tell."""
    job = world.job(notify={"url_env": "WEBHOOK_URL", **told})
    job._herald.environ = {**environment(), "WEBHOOK_URL": url}
    assert anyio.run(job.run) == Ended(0, "all done")
    (line,) = [line for line in log(world).splitlines() if "notify: " in line]
    assert "WARNING" in line
    return line.partition("notify: ")[2]


def test_a_webhook_that_never_answers_is_waited_for_in_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PATIENCE", 0.3)
    with silent() as url:
        assert warning(world, url) == "the webhook in WEBHOOK_URL was not told: not within 0.3 s"


@pytest.mark.parametrize(
    ("status", "says", "asked"),
    [
        (500, "it answered 500", 2),
        (404, "it answered 404", 1),
        (302, "it answered 302, and nobody is followed", 1),
        (307, "it answered 307, and nobody is followed", 1),
    ],
)
def test_a_webhook_that_will_not_have_it_is_asked_twice_at_most_and_followed_nowhere(
    world: World, host: Hosts, monkeypatch: pytest.MonkeyPatch, status: int, says: str, asked: int
) -> None:
    monkeypatch.setattr(notify, "SECOND", 0.0)
    other = host(taking())
    hook = host(taking(status, location=f"{other.url}/elsewhere"))
    assert warning(world, f"{hook.url}/{SECRET}") == f"the webhook in WEBHOOK_URL was not told: {says}"
    assert (len(hook.seen), other.seen) == (asked, [])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "it is not set"),
        (f"http://127.0.0.1:1/{SECRET}", "ConnectError"),
        (f"http://me:{SECRET}@127.0.0.1:1/x", "ConnectError"),
        (f"ftp://127.0.0.1/{SECRET}", "UnsupportedProtocol"),
        (f"http://[::{SECRET}/x", "InvalidURL"),
        (f"http://127.0.0.1:1/{SECRET}\x07", "InvalidURL"),
        (f"{SECRET}", "UnsupportedProtocol"),
    ],
)
def test_an_error_never_tells_the_url(world: World, monkeypatch: pytest.MonkeyPatch, url: str, says: str) -> None:
    monkeypatch.setattr(notify, "SECOND", 0.0)
    assert warning(world, url) == f"the webhook in WEBHOOK_URL was not told: {says}"
    assert SECRET not in log(world)


def test_what_a_url_says_of_its_user_is_sent_to_the_webhook_alone(world: World, host: Hosts) -> None:
    hook = host(taking())
    job = world.job(notify={"url_env": "WEBHOOK_URL"})
    job._herald.environ = {**environment(), "WEBHOOK_URL": hook.url.replace("//", f"//me:{SECRET}@")}
    anyio.run(job.run)
    assert hook.taken[0][0]["authorization"].startswith("Basic ")
    assert SECRET not in log(world)


def test_a_webhook_that_sends_without_end_is_not_listened_to(world: World, host: Hosts) -> None:
    hook = host(lambda method, path: (200, {}, b"x" * (64 << 20)))
    job = world.job(notify={"url_env": "WEBHOOK_URL"})
    job._herald.environ = {**environment(), "WEBHOOK_URL": hook.url}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socketserver.BaseServer.handle_error", lambda *_: None)  # it is hung up on
        assert anyio.run(job.run).exit_code == 0
    assert "notify" not in log(world)


def said(caplog: pytest.LogCaptureFixture, *words: str, folder: Path) -> str:
    """What is logged of a command."""
    tell = partial(run, words, folder, environment(), b"it ended\n")
    anyio.run(attempted, "the command", tell)
    return "".join(record.getMessage() for record in caplog.records)


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
CHILDREN = f"trap '' TERM HUP; sleep 600 & echo $! > child; {sys.executable} -c '{STUBBORN}'"


def test_a_command_that_hangs_is_killed_with_all_its_group(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "PATIENCE", 2.5)
    assert said(caplog, "sh", "-c", CHILDREN, folder=tmp_path) == "notify: the command was not told: not within 2.5 s"
    child = int((tmp_path / "child").read_text())
    eventually(lambda: not alive(child))


def alive(process: int) -> bool:
    """Whether it is there and no zombie that nobody has buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("true",), ""),
        (("head", "-c", "1G", "/dev/zero"), ""),
        (("sh", "-c", "exec < /dev/null; exit 3"), "it ended with 3"),
        (("sh", "-c", "kill -9 $$"), "it ended with -9"),
        (("no-such-command",), "No such file or directory"),
        (("./not executable",), "Permission denied"),
        (("./with spaces in it", "it's", "$HOME; exit 1"), ""),
        (("x\0y",), "ValueError"),
    ],
)
def test_a_command_may_do_as_it_likes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: tuple[str, ...], says: str
) -> None:
    for name, mode in (("not executable", 0o600), ("with spaces in it", 0o700)):
        (tmp_path / name).write_text('#!/bin/sh\ntest "$#" = 2 && test "$(cat)" = "it ended"\n')
        (tmp_path / name).chmod(mode)
    assert said(caplog, *words, folder=tmp_path) == (f"notify: the command was not told: {says}" if says else "")


def test_a_command_of_a_folder_that_is_gone_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "No such file or directory" in said(caplog, "true", folder=tmp_path / "gone")


def test_who_leaves_at_once_waits_for_no_webhook(world: World) -> None:
    path = str(world.write(notify={"url_env": "WEBHOOK_URL", "command": ["sh", "-c", "echo $$ > child; sleep 600"]}))
    with silent() as url:
        process = world.begin("run", path, WEBHOOK_URL=url)
        child = world.folder / "child"
        eventually(lambda: child.exists() and child.read_text())
        process.send_signal(signal.SIGINT)
        assert process.stderr
        eventually(lambda: "finishing" in str(process.stderr and process.stderr.readline()))
        process.send_signal(signal.SIGINT)
        assert process.wait(8) == 0, "all was done before"
    eventually(lambda: not alive(int(child.read_text())))
    assert world.states() == {"done": 1}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", ["notify: WEBHOOK_URL is not set"]),
        (SECRET, ["notify: WEBHOOK_URL holds no URL such as https://host/…"]),
        (f"HTTPS://host/{SECRET}", []),
    ],
)
def test_why_nobody_would_hear_is_known_before(url: str, says: list[str]) -> None:
    found = read(BASE + "notify: {url_env: WEBHOOK_URL, command: ['true']}\n")
    assert list(lacks(found, {"WEBHOOK_URL": url, "PATH": os.defpath})) == says


def test_a_path_of_a_command_begins_where_the_manifest_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = BASE + "notify: {command: [./tell me]}\n"
    here, there = (manifest.loads(text, Path(file), Setup({})) for file in ("x.yaml", "jobs/x.yaml"))
    (tmp_path / "tell me").symlink_to("/bin/true")
    assert list(lacks(here, {})) == []
    assert list(lacks(there, {})) == [
        f"notify: there is no command ./tell me; paths begin in {there.folder.absolute()}"
    ]


# When it is told.


def looking(body: Callable[[Lookout, Progress, Lane], None], folder: Path) -> None:
    """With a run of a hundred tasks, at a provider that takes 60 s for an answer."""

    async def main() -> None:
        async with lane(folder) as one:
            progress = Progress(lanes=[one])
            progress.states[TaskState.TODO] = 100
            body(Lookout(progress, 60.0, 0.0), progress, one)

    anyio.run(main)


def events(lookout: Lookout, now: float) -> list[str]:
    return [event for event, _ in lookout.look(now)]


def test_a_run_is_stalled_when_nothing_ends_for_long_and_again_only_after_something_did(tmp_path: Path) -> None:
    def body(lookout: Lookout, progress: Progress, one: Lane) -> None:
        assert events(lookout, STALLED - 1) == []
        one.waiting["a task"] = "503 overloaded"
        ((event, says),) = lookout.look(STALLED)
        assert (event, says) == ("stalled", "stalled: no task ended for 15 min; openai: 1 wait: 503 overloaded")
        assert events(lookout, 9 * STALLED) == []
        progress.states[TaskState.DONE] += 1
        assert events(lookout, 9 * STALLED + 1) == []
        assert events(lookout, 10 * STALLED) == []
        assert events(lookout, 10 * STALLED + 1) == ["stalled"]

    looking(body, tmp_path)


@pytest.mark.anyio
async def test_a_run_whose_batches_take_a_day_is_not_stalled(bad: Start) -> None:
    world = bad("--batch-rate", "0.1")
    job = world.job(provider=world.provider(batch={"poll": 0.05}), engine="batch", prompts=many(3))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(job.run)
        await anyio.to_thread.run_sync(eventually, lambda: "of 3 made" in job.progress.handed_over)
        assert events(Lookout(job.progress, 1.0, 0.0), 9 * STALLED) == []
        job.drain()
    assert job.ended
    assert job.ended.exit_code == 7


def test_a_run_that_may_take_its_time_or_has_nothing_to_do_is_not_stalled(tmp_path: Path) -> None:
    def body(lookout: Lookout, progress: Progress, one: Lane) -> None:
        lookout.timeout = STALLED
        assert events(lookout, 2 * STALLED - 1) == []
        one.paused = True
        assert events(lookout, 9 * STALLED) == []
        one.paused, progress.draining = False, True
        assert events(lookout, 19 * STALLED) == []
        progress.draining, progress.states[TaskState.TODO] = False, 0
        assert events(lookout, 29 * STALLED) == []
        progress.states[TaskState.TODO] = 1
        assert events(lookout, 31 * STALLED - 1) == []
        assert events(lookout, 31 * STALLED) == ["stalled"]

    looking(body, tmp_path)


def test_a_provider_that_blocks_and_works_by_turns_is_told_of_now_and_then(tmp_path: Path) -> None:
    def body(lookout: Lookout, progress: Progress, one: Lane) -> None:
        one.blocked = Blocked("no credit", status=402)
        assert events(lookout, 10) == ["blocked"]
        assert events(lookout, 11 + AGAIN) == [], "it is the same trouble, and not stalled either"
        for now in (20.0 + AGAIN, 21.0 + AGAIN, 22.0 + AGAIN):
            one.blocked = None
            assert events(lookout, now) == []
            one.blocked = Blocked("no credit", status=402)
            assert events(lookout, now) == (["blocked"] if now == 20 + AGAIN else [])
        assert events(lookout, 21 + 2 * AGAIN) == ["blocked"]

    looking(body, tmp_path)


def test_thousands_of_tasks_that_are_held_are_told_once(tmp_path: Path) -> None:
    def body(lookout: Lookout, progress: Progress, one: Lane) -> None:
        found = []
        for now in range(90):
            progress.states[TaskState.HELD] += 1
            progress.states[TaskState.TODO] -= 1
            found += events(lookout, now)
        assert found == ["held"]

    looking(body, tmp_path)


def test_what_was_held_before_is_nothing_new(tmp_path: Path) -> None:
    progress = Progress()
    progress.states[TaskState.HELD] = 7
    assert events(Lookout(progress, 60.0, 0.0), 1.0) == []


@pytest.mark.parametrize(
    ("code", "reason", "known", "found"),
    [
        (0, "all done", False, ["end"]),
        (4, "stopped by what was agreed to: a run draws up a new plan", False, ["end", "budget"]),
        (4, "stopped by limits.until (07:00)", False, ["end", "until"]),
        (5, "the disk is full", False, ["end", "blocked"]),
        (5, "blocked: openai: no credit", True, ["end"]),
        (1, "KeyError: 5", False, ["end"]),
    ],
)
def test_what_an_end_is_beside_that(code: int, reason: str, known: bool, found: list[str]) -> None:
    assert list(endings(code, reason, known)) == found


# What is said.


def tallies(cost: tuple[int, int] = (0, 0), price: Price = Price.TOLD, **tasks: int) -> Tallies:
    states = [TaskTally(0, Wanted.YES, TaskState(name), count) for name, count in tasks.items()]
    attempt = AttemptTally(0, Wanted.YES, AttemptState.PAID, Engine.LOCAL, price, 9, *cost, 0, 0, 0, 0)
    return Tallies((*states, TaskTally(0, Wanted.DROPPED, TaskState.DONE, 5)), (attempt,), ())


WHOLE = tallies((1_142_400_000_000, 1_142_400_000_000), done=11_960, refused=31, held=9)


@pytest.mark.parametrize(
    ("notice", "line"),
    [
        (
            Notice("animals", ("end",), "31 refused, 9 held", 3, WHOLE, False),
            "animals 11,960/12,000 · $1,142 · 31 refused · 9 perhaps paid",
        ),
        (Notice("animals", ("end",), "31 refused", 3, None, False), "animals ended with 3: 31 refused"),
        (
            Notice("a", ("end",), "a break", 7, tallies((5, 2 * 10**9), todo=3, doing=1, failed=2), True),
            "a ended with 7: a break · 0/6 · $0.0000 to $2.00 of pretend money · 2 failed · 3 to do · 1 on the way",
        ),
        (
            Notice(
                "a", ("blocked",), "blocked: no\n\x1b[31mcredit", None, tallies(price=Price.UNPRICED, done=1), False
            ),
            "a blocked: no [31mcredit · 1/1 · 9 at no known price",
        ),
    ],
    ids=["all", "unreadable", "interrupted", "unpriced"],
)
def test_the_line(notice: Notice, line: str) -> None:
    assert (notice.line, notice.body("text")) == (line, f"{line}\n".encode())
    assert json.loads(notice.body("json"))["text"] == line


# How it is asked for.


def test_who_is_told_is_read_from_the_manifest() -> None:
    assert read(BASE).notify is None
    assert read(BASE + "notify: {url_env: WEBHOOK_URL}\n").notify == Notify("WEBHOOK_URL", (), "text", EVERYTHING)
    found = read(BASE + "notify: {command: [say, 007, 1.50], format: json, on: [end, held]}\n").notify
    assert found == Notify("", ("say", "007", "1.50"), "json", frozenset({"end", "held"}))


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ("notify: {}", "notify: tells nobody: give it url_env, command, or both"),
        ("notify: {on: [end]}", "notify: tells nobody: give it url_env, command, or both"),
        ("notify: {command: []}", "notify.command: is empty"),
        ("notify: {command: say it}", "notify.command: must be a list: [say it]"),
        ("notify: {command: [say], on: [over]}", "'over' is not one of end, blocked, budget, until, held, stalled"),
        ("notify: {url: 'https://x'}", "notify.url: unknown key (did you mean url_env?)"),
        (
            f"notify: {{url_env: 'https://x/{SECRET}'}}",
            "must be the name of an environment variable, such as WEBHOOK_URL (without $), never the URL itself",
        ),
        ("url_env: WEBHOOK_URL", "url_env: belongs under notify: indent it"),
    ],
)
def test_a_mistake_in_it_is_told_and_no_url_is(added: str, says: str) -> None:
    problems = "\n".join(refused(f"{BASE}{added}\n"))
    assert says in problems
    assert SECRET not in problems


SLOW_NAME = """
import socket, time, batchgen.notify
ask = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: time.sleep(90) if host == "slow.example" else ask(host, *rest, **more)
batchgen.notify.PATIENCE = 0.5
"""


def test_a_name_that_is_never_resolved_keeps_no_run_from_its_end(world: World) -> None:
    path = world.write(notify={"url_env": "WEBHOOK_URL"})
    process = planted(world, SLOW_NAME, "run", str(path), WEBHOOK_URL="http://slow.example/")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "all done; exit 0" in err) == (0, True)
    assert "was not told: not within 0.5 s" in (world.run_folder / "run.log").read_text()
