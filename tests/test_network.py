"""Faults of the network, met by whole runs: what each makes of the attempt, and that the run goes on behind it."""

import shutil
import signal
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from PIL import Image
from sandbox.child import Child
from wild import CHUNKED, OK, Behaviour, Exchange, Over, Wild, answer, good, image, says
from world import HERON, KEY, OTTER, World, eventually, many

ONCE = {"attempts": 1, "on_unknown": "hold", "duplicate_allowance": 0}
WHOLE, HALF = answer(), answer()[: len(answer()) // 2]
HALF_JSON = image()[: len(image()) // 2]
IN_CHUNKS = OK + CHUNKED + b"\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and what must come of it where a task has one try and nothing is bought twice."""

    behaviour: Behaviour
    attempt: str
    task: str
    code: str = ""


def lost(behaviour: Behaviour) -> Case:
    """Left, and not answered."""
    return Case(behaviour, "unknown", "held", "cut")


def early(status: int, *, reads: bool) -> Behaviour:
    """Says no as soon as it has seen the head; takes the body in afterwards, or resets."""

    async def behave(exchange: Exchange) -> None:
        await exchange.say(answer(b"no", status, b"Connection: close\r\n"))
        if reads:
            await exchange.asked()
        raise Over

    return behave


FAULTS = {
    "N5: reset before any byte": lost(says(then="rst")),
    "none": Case(says(WHOLE), "paid", "done"),
    "N13: a kept connection closed as we send": lost(says(then="fin")),
    "N6: closed before any byte": lost(says(then="fin")),
    "N6: closed inside the head": lost(says(WHOLE[:30], then="fin")),
    "N6: no HTTP at all": lost(says(b"220 smtp.example.org ready\r\n", then="fin")),
    "N7: reset inside the body": lost(says(HALF, pause=0.05, then="rst")),
    "N8: closed inside the body": lost(says(HALF, then="fin")),
    "N8: a length that is too long": lost(says(answer(length=len(image()) + 1), then="fin")),
    "N8: a length that is too short": Case(
        says(answer(length=len(image()) - 1), then="fin"), "unusable", "held", "not_json"
    ),
    "N8: no length, closed inside the body": Case(
        says(OK + b"\r\n" + HALF_JSON, then="fin"), "unusable", "held", "not_json"
    ),
    "N9: a chunk cut": lost(says(IN_CHUNKS + b"fff\r\n{", then="fin")),
    "N9: no last chunk": lost(says(IN_CHUNKS + b"%x\r\n%b\r\n" % (len(image()), image()), then="fin")),
    "N9: a chunk's size is no number": lost(says(IN_CHUNKS + b"xyz\r\n{}\r\n", then="fin")),
    "N16: 413 before the body": Case(early(413, reads=True), "rejected", "failed", "http_413"),
    "N16: 400 before the body": Case(early(400, reads=True), "rejected", "failed", "http_400"),
    "N17: no length, whole, and closed": Case(says(OK + b"\r\n" + image(), then="fin"), "paid", "done"),
    "N17: an interim answer first": Case(says(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE), "paid", "done"),
    "S5: 408": Case(says(answer(b"", 408)), "unknown", "held", "http_408"),
    "S5: 504": Case(says(answer(b"", 504)), "unknown", "held", "http_504"),
    "S5: 520": Case(says(answer(b"", 520)), "unknown", "held", "http_520"),
    "S5: 524": Case(says(answer(b"", 524)), "unknown", "held", "http_524"),
    "S21: a header of 200 KB": lost(says(answer(headers=b"X-A: " + b"a" * 200_000 + b"\r\n"), then="fin")),
    "S24: an error in another encoding": Case(
        says(answer("Größe zu groß".encode("latin-1"), 400)), "rejected", "failed", "http_400"
    ),
}


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory, polite: Child) -> dict[str, dict[str, Any]]:
    """One run that met them all, one after the other, and an image behind each: a provider that fails is paused."""
    world = World(tmp_path_factory.mktemp("network"), polite)
    between = [each for case in FAULTS.values() for each in (case.behaviour, good)]
    with Wild(*between) as wild:
        provider = world.provider(base_url=wild.url)
        world.run(prompts=many(len(between)), provider=provider, limits={"concurrency": 1, "budget": 5}, retry=ONCE)
        assert len(wild.heard) == len(between), "each was asked once"
    assert set(world.attempts()[1::2]) == {"paid"}, "the run went on behind each"
    names = ("attempt", "task", "code", "error", "low", "high")
    rows = world.rows(
        "SELECT a.state, t.state, a.code, a.error, a.cost_low, a.cost_high FROM attempts a"
        " JOIN tasks t ON t.seq = a.task ORDER BY a.seq"
    )[::2]
    seen = [dict(zip(names, row, strict=True)) for row in rows]
    return dict(zip(FAULTS, seen, strict=True))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_network_is_told_for_what_it_is(met: dict[str, dict[str, Any]], name: str) -> None:
    seen, case = met[name], FAULTS[name]
    assert (seen["attempt"], seen["task"], seen["code"]) == (case.attempt, case.task, case.code)
    assert bool(seen["error"].strip()) == (case.attempt != "paid"), "what went wrong is always said"
    if case.attempt == "rejected":
        assert (seen["low"], seen["high"]) == (0, 0)
    elif case.attempt != "paid":
        assert 0 == seen["low"] < seen["high"]


@pytest.mark.parametrize("status", [303, 307])
def test_s22_s23_nobody_is_led_to_another_host(world: World, status: int) -> None:
    with Wild() as other:
        away = answer(b"", status, b"Location: %b/images\r\n" % other.url.encode())
        with Wild(says(away)) as wild:
            provider = world.provider(base_url=wild.url)
            world.run(prompts=[OTTER, HERON], provider=provider, limits={"concurrency": 1, "budget": 1}, retry=ONCE)
        assert (world.attempts(), other.heard) == (["rejected", "paid"], [])


async def _drip_head(exchange: Exchange) -> None:
    await exchange.asked()
    await exchange.say(OK)
    while True:
        await exchange.say(b"X-A: a\r\n", pause=0.05)


async def _drip_body(exchange: Exchange) -> None:
    await exchange.asked()
    await exchange.say(OK + b"Content-Length: 1000000\r\n\r\n")
    while True:
        await exchange.say(b"{", pause=0.05)


async def _drip_chunks(exchange: Exchange) -> None:
    await exchange.asked()
    await exchange.say(IN_CHUNKS)
    while True:
        await exchange.say(b"1\r\n \r\n", pause=0.05)


def test_n10_n11_one_deadline_ends_all_that_does_not_come_or_comes_byte_by_byte(world: World) -> None:
    """No pause in a drip is long enough for any other timeout."""
    silent = (says(then="hang"), says(WHOLE[:30], then="hang"), says(HALF, then="hang"))
    slow = (*silent, _drip_head, _drip_body, _drip_chunks)
    with Wild(*slow) as wild:
        limits = {"concurrency": 3, "budget": 1, "timeout": "1.5s"}
        world.run(prompts=many(len(slow)), provider=world.provider(base_url=wild.url), limits=limits, retry=ONCE)
    found = world.rows("SELECT state, code, error FROM attempts")
    assert set(found) <= {("unknown", "timeout", "no whole answer within 1.5 s"), ("unsent", "unreachable", "")}
    assert world.attempts().count("unknown") == len(slow)
    assert world.states() == {"held": len(slow)}


def test_n12_a_server_that_is_frozen_may_have_billed(bad: Start) -> None:
    world = bad()
    server = world.sandbox.process
    server.send_signal(signal.SIGSTOP)
    try:
        world.run(prompts=[OTTER], limits={"concurrency": 1, "budget": 1, "timeout": "1s"}, retry=ONCE)
    finally:
        server.send_signal(signal.SIGCONT)
    assert world.rows("SELECT state, code FROM attempts") == [("unknown", "timeout")]
    assert world.states() == {"held": 1}
    eventually(lambda: world.sandbox.stats()["open"] == 0)
    world.check_books()


@pytest.mark.parametrize("more", [answer(headers=b"X-Request-Id: stale\r\n"), b"}\r\n"], ids=["twice", "too short"])
def test_what_a_server_says_behind_an_answer_is_nobodys_answer(world: World, more: bytes) -> None:
    """A second answer that nobody asked for, or a length that is too short, on a connection that stays open."""
    with Wild(says(WHOLE + more)) as wild:
        provider = world.provider(base_url=wild.url)
        world.run(prompts=many(3), provider=provider, limits={"concurrency": 1, "budget": 1}, retry=ONCE)
    assert world.rows("SELECT state, request_id FROM attempts") == [("paid", "")] * 3


def test_n16_an_early_no_to_a_large_file_is_not_billed(world: World) -> None:
    """The server hears the head alone, so that most of the file never leaves; the connection is then reset."""
    Image.effect_noise((3000, 3000), 90).save(world.folder / "reef.png")
    edit = {"prompt": OTTER, "operation": "edit", "images": ["reef.png"]}
    with Wild(early(413, reads=False)) as wild:
        world.run(prompts=[edit, HERON], provider=world.provider(base_url=wild.url), retry=ONCE)
    assert sorted(world.attempts()) == ["paid", "rejected"]
    assert world.rows("SELECT cost_low, cost_high FROM attempts WHERE state = 'rejected'") == [(0, 0)]
    assert world.states() == {"failed": 1, "done": 1}


def certificate(folder: Path, name: str) -> Path:
    """Self-signed, for this name, with its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    key, made = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=pretend"
    more = ["-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(made)]
    subprocess.run([*command.split(), *more], check=True, capture_output=True, timeout=60)
    made.write_text(made.read_text() + key.read_text())
    return made


@pytest.mark.parametrize(
    ("name", "trusted"),
    [("IP:127.0.0.1", False), ("DNS:other.example.com", True)],
    ids=["nobody vouches for it", "of another host"],
)
def test_n4_a_server_that_cannot_show_who_it_is_gets_neither_key_nor_second_try(
    world: World, name: str, trusted: bool
) -> None:
    made = certificate(world.folder, name)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made)
    with Wild(tls=tls) as wild:
        limits = {"concurrency": 1, "budget": 1}
        world.write(prompts=many(5), provider=world.provider(base_url=wild.url), limits=limits)
        ended = world.command("run", "otters.yaml", **({"SSL_CERT_FILE": str(made)} if trusted else {}))
        assert (ended.returncode, wild.heard) == (5, [])
    assert "certificate" in ended.stderr
    assert world.rows("SELECT state, code, cost_high FROM attempts") == [("rejected", "certificate", 0)]
    assert world.states() == {"todo": 5}


def test_n4_the_same_server_is_spoken_to_once_somebody_vouches_for_it(world: World) -> None:
    made = certificate(world.folder, "IP:127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made)
    with Wild(tls=tls) as wild:
        world.write(provider=world.provider(base_url=wild.url))
        ended = world.command("run", "otters.yaml", SSL_CERT_FILE=str(made))
    assert (ended.returncode, world.attempts()) == (0, ["paid"])


def test_n15_a_proxy_that_wants_a_password_is_told_neither_key_nor_prompt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wild(*[says(answer(b"", 407, b"Proxy-Authenticate: Basic\r\n"))] * 100) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        ended = world.run(provider="openai", retry=ONCE)
        said = b"".join(proxy.heard)
    assert said.startswith(b"CONNECT api.openai.com:443")
    assert KEY.encode() not in said
    assert set(world.rows("SELECT state, cost_high, error != '' FROM attempts")) == {("rejected", 0, 1)}
    assert (ended.exit_code, "the proxy lets nobody through" in ended.reason, world.states()) == (5, True, {"todo": 1})


def test_n18_a_second_address_is_tried_where_the_first_is_dead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def two(host: Any, *rest: Any, **named: Any) -> Any:
        found = real("127.0.0.1" if host in ("localhost", b"localhost") else host, *rest, **named)
        dead = [(*each[:4], ("127.0.0.2", each[4][1])) for each in found]
        return dead + found if host in ("localhost", b"localhost") else found

    with Wild() as wild:
        monkeypatch.setattr(socket, "getaddrinfo", two)
        provider = world.provider(base_url=f"http://localhost:{wild.port}")
        assert world.run(prompts=[OTTER], provider=provider).exit_code == 0
    assert world.attempts() == ["paid"]
