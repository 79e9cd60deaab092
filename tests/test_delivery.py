"""How images come: by links, from tasks to poll, in streams. Whatever fails there, nothing is bought again."""

import base64
import io
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from world import CARP, HERON, KEY, KEY_ENV, OTTER, Host, Respond, World, many, png

Start = Callable[..., World]
PRICE = {"text_in": 5, "image_in": 10, "image_out": 40}
KEY_HEADERS = {"authorization", "api-key", "x-client-request-id", "idempotency-key"}


def seller(world: World, name: str, **more: object) -> dict[str, object]:
    """The sandbox, speaking like a provider of the catalog."""
    url = f"{world.sandbox.root}/{name}/v1"
    return {"name": "seller", "dialect": name, "base_url": url, "api_key_env": KEY_ENV, "price": PRICE, **more}


def by_link(world: World, **changes: object) -> dict[str, Any]:
    """A manifest whose images come by links, from another origin than the API's."""
    asked = {"provider": seller(world, "aimlapi", links=["127.0.0.1"]), "model": "openai/gpt-image-1"}
    request = {"quality": "low", "response_format": "url"}
    return {**asked, "request": request, "prompts": [OTTER, HERON], **changes}


def polled(world: World, **changes: object) -> dict[str, Any]:
    """A manifest of a model that answers with a task to poll."""
    asked = {"provider": seller(world, "onerouter", links=["127.0.0.1"]), "model": "openai/gpt-image-2/text-to-image"}
    return {**asked, "request": {"quality": "low"}, "prompts": [OTTER, HERON], **changes}


# links


def test_z7_an_image_on_another_origin_is_fetched_without_the_key(bad: Start) -> None:
    world = bad()
    assert world.run(**by_link(world)).exit_code == 0
    fetches = world.sandbox.fetches()
    assert [fetch["status"] for fetch in fetches] == [200, 200]
    for fetch in fetches:
        assert not KEY_HEADERS & {name.lower() for name in fetch["headers"]}
        assert KEY not in json.dumps(fetch)
    world.check_equal_to_the_bill()


def test_z8_a_link_to_a_stranger_stops_the_lane_and_is_fetched_once_the_user_trusts_it(world: World) -> None:
    world.write(
        **by_link(world, provider=seller(world, "aimlapi"), prompts=many(6), limits={"concurrency": 1, "budget": 9})
    )
    stopped = world.command("run", "otters.yaml")
    assert stopped.returncode == 5
    assert "an answer links to http://127.0.0.1: images are fetched over https only" in stopped.stderr
    assert "Nothing is bought again" in stopped.stderr
    bought = len(world.charges())
    assert (bought, set(world.attempts())) == (min(bought, 2), {"accepted"})
    assert world.command("run", "otters.yaml").returncode == 5
    assert len(world.charges()) == bought, "while its links lead nowhere, nothing more is bought"
    assert world.command("run", "otters.yaml", "--trust-host", "127.0.0.1").returncode == 0
    assert (len(world.charges()), len(world.files())) == (6, 6)
    world.check_equal_to_the_bill()


def test_s18_a_download_that_fails_is_asked_for_again_and_never_bought_again(bad: Start) -> None:
    world = bad("--file-faults", "500 cut html truncate 404 redirect")
    ended = world.run(**by_link(world, prompts=many(6), limits={"concurrency": 6, "budget": 9}))
    assert (ended.exit_code, len(world.charges()), len(world.files())) == (0, 6, 6)
    assert len(world.sandbox.fetches()) == 6 + 5 + 1
    world.check_equal_to_the_bill()


def test_s18_what_the_provider_has_no_more_is_held_and_never_bought_again_by_itself(bad: Start) -> None:
    world = bad("--file-faults", "404 404 404 404")
    asked = by_link(world, prompts=[OTTER], retry={"attempts": 1, "duplicate_allowance": "100%"})
    assert (world.run(**asked).exit_code, world.attempts()) == (7, ["accepted"]), "it may be there again tomorrow"
    ended = world.run(**asked)
    assert (ended.exit_code, world.states(), world.attempts()) == (3, {"held": 1}, ["unusable"])
    assert "404" in world.rows("SELECT error FROM attempts")[0][0]
    assert world.run(**asked).exit_code == 3
    assert len(world.charges()) == 1
    world.check_books()


def test_z8_a_redirect_away_is_not_followed(bad: Start) -> None:
    world = bad("--file-faults", "redirect-away")
    assert world.run(**by_link(world, prompts=[OTTER])).exit_code == 5
    assert [fetch["status"] for fetch in world.sandbox.fetches()] == [302]
    assert world.run(**by_link(world, prompts=[OTTER])).exit_code == 0
    assert len(world.charges()) == 1


# tasks to poll


def wait_for(check: Callable[[], bool], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)


def accepted(world: World) -> int:
    ledger = world.run_folder / "ledger.db"
    return world.attempts().count("accepted") if ledger.exists() else 0


def test_p_a_run_that_is_killed_while_it_polls_goes_on_polling(bad: Start) -> None:
    world = bad("--latency", "2")
    world.write(**polled(world, prompts=[OTTER, HERON, CARP]))
    process = world.begin("run", "otters.yaml")
    wait_for(lambda: accepted(world) == 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    handles = world.rows("SELECT handle FROM attempts")
    assert all(handle for (handle,) in handles)
    for file in (world.run_folder / "spool").iterdir():  # the ledger alone knows enough
        file.unlink()
    resumed = world.command("run", "otters.yaml")
    assert (resumed.returncode, world.attempts()) == (0, ["paid"] * 3), resumed.stderr
    assert (len(world.charges()), len(world.files())) == (3, 3)
    assert world.rows("SELECT handle FROM attempts") == handles
    world.check_books()


def test_a_drained_run_waits_for_what_it_polls(bad: Start) -> None:
    world = bad("--latency", "1.5")
    world.write(**polled(world, prompts=many(9), limits={"concurrency": 2, "budget": 9}))
    process = world.begin("run", "otters.yaml")
    wait_for(lambda: accepted(world) >= 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 7
    assert set(world.attempts()) == {"paid"}
    world.check_books()


def test_a_task_that_fails_may_be_billed(world: World) -> None:
    ended = world.run(**polled(world, prompts=[f"{OTTER} [task-failed]"], retry={"duplicate_allowance": 0}))
    assert (ended.exit_code, world.states(), world.attempts()) == (3, {"held": 1}, ["unusable"])
    world.check_books()


def test_a_task_that_moderation_ends_is_refused_and_may_be_billed(world: World) -> None:
    ended = world.run(**polled(world, prompts=[f"{OTTER} [task-moderated]"]))
    assert (ended.exit_code, world.states(), world.attempts()) == (3, {"refused": 1}, ["unknown"])
    world.check_books()


def test_an_error_inside_a_200_lands_where_its_code_belongs(world: World) -> None:
    ended = world.run(**polled(world, prompts=[f"{OTTER} [code-402]"], model="gpt-image-1"))
    assert (ended.exit_code, world.attempts()) == (5, ["rejected"])
    assert "insufficient balance" in ended.reason
    assert not world.charges()


# streams


def streamed(**changes: object) -> dict[str, Any]:
    request = {"quality": "low", "stream": True, "partial_images": 2}
    return {"request": request, "prompts": [OTTER], **changes}


def test_the_last_image_of_a_stream_is_taken_and_its_usage(world: World) -> None:
    assert world.run(**streamed()).exit_code == 0
    (path,) = world.files()
    assert path.suffix == ".png"
    (tokens,) = world.rows("SELECT output_image_tokens FROM attempts")
    assert tokens == (196 + 2 * 100,)
    world.check_equal_to_the_bill()


def test_the_pictures_on_the_way_are_kept_by_option(world: World) -> None:
    assert world.run(**streamed(output={"partials": True})).exit_code == 0
    names = sorted(path.name.partition(".")[2] for path in world.files())
    assert [name.partition(".")[2] or name for name in names] == ["partial-0.png", "partial-1.png", "png"]
    assert world.rows("SELECT state, count(*) FROM images GROUP BY state") == [("partial", 2), ("saved", 1)]
    told = json.loads(world.command("report", "otters.yaml", "--json").stdout)
    assert told["images"]["saved"] == 1
    assert world.command("verify", "otters.yaml").returncode == 0


def test_a_stream_buys_the_same_image_as_a_plain_answer(world: World) -> None:
    assert world.run(**streamed()).exit_code == 0
    assert world.run(prompts=[OTTER], request={"quality": "low"}).exit_code == 0
    assert len(world.charges()) == 1


@pytest.mark.parametrize(("fault", "attempt"), [("stream-cut", "unknown"), ("stream-error", "unusable")])
def test_a_stream_that_ends_without_its_image_may_be_billed(bad: Start, fault: str, attempt: str) -> None:
    world = bad("--script", fault)
    ended = world.run(**streamed(retry={"attempts": 1}))
    assert (ended.exit_code, world.attempts(), world.states()) == (3, [attempt], {"held": 1})
    world.check_books()


def test_a_stream_that_is_cut_behind_its_image_is_an_answer(world: World, host: Callable[[Respond], Host]) -> None:
    """A proxy may cut the line at the very end: what was paid for is there."""
    usage = {"input_tokens": 9, "output_tokens": 196, "total_tokens": 205}
    event = {"type": "image_generation.completed", "b64_json": base64.b64encode(png()).decode(), "usage": usage}
    body = f"event: image_generation.completed\ndata: {json.dumps(event)}\n\n".encode()
    headers = {"content-type": "text/event-stream", "content-length": str(len(body) + 100)}
    seller = host(lambda method, path: (200, headers, body))
    assert world.run(**streamed(provider=world.provider(base_url=seller.url))).exit_code == 0
    assert (world.attempts(), len(world.files())) == (["paid"], 1)


def test_a_stream_whose_last_line_end_comes_by_itself_is_an_answer(world: World) -> None:
    """A server that flushes each line, and then cuts the connection."""
    usage = {"input_tokens": 9, "output_tokens": 196, "total_tokens": 205}
    event = {"type": "image_generation.completed", "b64_json": base64.b64encode(png()).decode(), "usage": usage}
    parts = [b"event: image_generation.completed\n", f"data: {json.dumps(event)}\n".encode(), b"\n"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=flush, args=(server, parts), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        ended = world.run(**streamed(provider=world.provider(base_url=url)))
    assert (ended.exit_code, world.attempts(), len(world.files())) == (0, ["paid"], 1)


def flush(server: socket.socket, parts: list[bytes]) -> None:
    """Answers one request with a chunk a part, and hangs up without the last chunk."""
    line, _ = server.accept()
    with line:
        while not line.recv(65_536).endswith(b"}"):
            pass
        line.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in parts:
            line.sendall(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(0.05)


def test_an_image_that_comes_inside_of_a_polls_answer_is_taken(world: World, host: Callable[[Respond], Host]) -> None:
    picture = base64.b64encode(noise()).decode()

    def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if method == "POST":
            return 200, {}, json.dumps({"code": 200, "data": {"task_id": "t1", "status": "created"}}).encode()
        done = {"task_id": "t1", "status": "completed", "outputs": [f"data:image/png;base64,{picture}"]}
        return 200, {}, json.dumps({"code": 200, "data": done}).encode()

    provider = seller(world, "onerouter", base_url=f"{host(respond).url}/v1")
    ended = world.run(**polled(world, provider=provider, prompts=[OTTER]))
    assert (ended.exit_code, world.attempts(), len(world.files())) == (0, ["paid"], 1)
    assert not list((world.run_folder / "spool").glob("*.part"))


def noise() -> bytes:
    """A picture too large to be held in memory."""
    out = io.BytesIO()
    Image.effect_noise((800, 800), 90).save(out, "PNG")
    return out.getvalue()


def test_what_has_no_price_is_bounded_by_its_number_alone(world: World) -> None:
    """Its answers name their price, which nobody could agree to before."""
    provider = {name: value for name, value in seller(world, "aimlapi").items() if name != "price"}
    asked = by_link(world, provider=provider, prompts=many(9), limits={"concurrency": 2, "images": 9})
    world.write(**{**asked, "request": {"quality": "low"}})
    ran = world.command("run", "otters.yaml")
    assert (ran.returncode, len(world.charges())) == (0, 9), ran.stderr
    world.check_equal_to_the_bill()
