"""One attempt: what the spool holds is never asked for again, and what is bought is never lost to a bad link."""

import base64
import gzip
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import PIL.Image
import pytest

from batchgen import catalog
from batchgen.attempt import SHORT, Bench, perform
from batchgen.dialects import openai
from batchgen.disk import Unsynced
from batchgen.errors import (
    Blocked,
    Gone,
    Pending,
    ProviderError,
    Refused,
    Rejected,
    StorageError,
    Transient,
    Unknown,
    Unsent,
    Unusable,
)
from batchgen.finisher import Finisher
from batchgen.pour import Sink
from batchgen.spool import Spool
from batchgen.store import Directory
from batchgen.task import Attempt, ImageState, Operation, Task, Usage, Variant
from batchgen.wire import Outcome, Reply, Request

pytestmark = pytest.mark.anyio
PROVIDER = replace(catalog.provider("openai", {}), base_url="http://127.0.0.1:8080/v1", links=("cdn.example",))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def png() -> bytes:
    file = io.BytesIO()
    PIL.Image.effect_noise((16, 16), 80).save(file, "PNG")
    return file.getvalue()


PNG = png()
INLINE = {"b64_json": base64.b64encode(PNG).decode()}
LINK = {"url": "https://cdn.example/a.png?sig=1"}


def attempt(n: int = 1) -> Attempt:
    variant = Variant("openai", "gpt-image-2", Operation.GENERATE, (("n", n),), ())
    return Attempt("id", Task("key", variant, "an otter", 1, 1, "otter/low"), "purchase", "openai", 1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for name in ("spool", "images"):
        (tmp_path / name).mkdir()
    spool = Spool(tmp_path / "spool")
    return Bench(PROVIDER, openai, spool, Directory(f"{tmp_path}/images"), Finisher(spool, 2))


class Wire:
    """Sends nothing anywhere: says these replies (or errors) in turn and keeps what was asked."""

    def __init__(self, *said: Reply | ProviderError) -> None:
        self._said: Iterator[Reply | ProviderError] = iter(said)
        self.asked: list[str] = []

    async def __call__(self, request: Request, sink: Sink) -> Reply:
        await anyio.lowlevel.checkpoint()
        self.asked.append(request.url)
        answer = next(self._said)
        if isinstance(answer, ProviderError):
            raise answer
        return answer


def answer(*data: object, **more: object) -> Reply:
    return Reply(200, {"x-request-id": "req_1"}, json.dumps({"data": data, **more}).encode())


def no(status: int) -> Reply:
    return Reply(status, {}, b'{"error": {"message": "no", "type": "server_error"}}')


async def test_images_are_on_the_disk_when_an_attempt_succeeds(bench: Bench) -> None:
    wire = Wire(answer(INLINE, usage={"input_tokens": 1, "output_tokens": 2}))
    outcome = await perform(attempt(), bench, wire, buy=True)
    (image,) = outcome.images
    assert bench.images.read(image.path) == PNG
    assert image.path == "otter/low.png"
    assert (outcome.usage, outcome.status, outcome.request_id) == (
        Usage(input_text=1, output_image=2, total=3, unsplit=True),
        200,
        "req_1",
    )
    assert wire.asked == ["images/generations"]
    assert bench.spool.holds("id", 1)


async def test_several_images_have_their_index_in_their_names(bench: Bench) -> None:
    """S16: also where only one was asked for."""
    outcome = await perform(attempt(), bench, Wire(answer(INLINE, INLINE)), buy=True)
    assert [image.path for image in outcome.images] == ["otter/low-0.png", "otter/low-1.png"]


async def test_one_broken_image_of_several_leaves_the_others_whole(bench: Bench) -> None:
    cut = {"b64_json": base64.b64encode(PNG[:-20]).decode()}
    outcome = await perform(attempt(4), bench, Wire(answer(INLINE, cut, {})), buy=True)
    states = [(image.index, image.state, image.note) for image in outcome.images]
    assert states == [
        (0, ImageState.SAVED, ""),
        (1, ImageState.BROKEN, "PNG is cut in its b'IDAT' chunk"),
        (2, ImageState.BROKEN, "missing from the answer"),
        (3, ImageState.BROKEN, "missing from the answer"),
    ]


NOES: list[tuple[Reply | ProviderError, type[ProviderError]]] = [
    (no(400), Rejected),
    (no(401), Blocked),
    (no(429), Transient),
    (no(500), Transient),
    (no(502), Unknown),
    (Reply(200, {}, b"<html>"), Unusable),
    (Reply(204, {}, b""), Unusable),
    (Unsent("no connection"), Unsent),
    (Unknown("cut"), Unknown),
]


@pytest.mark.parametrize(("said", "kind"), NOES)
async def test_a_first_no_is_what_it_is(bench: Bench, said: Reply | ProviderError, kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as error:
        await perform(attempt(), bench, Wire(said), buy=True)
    assert type(error.value) is kind


@pytest.mark.parametrize(("said", "_"), [row for row in NOES if isinstance(row[0], Reply) and row[0].status < 300])
async def test_a_paid_answer_that_holds_no_image_is_kept(bench: Bench, said: Reply, _: object) -> None:
    """S9: for a person to look at."""
    with pytest.raises(Unusable):
        await perform(attempt(), bench, Wire(said), buy=True)
    kept = bench.spool.load("id", 1)
    assert kept
    assert kept.read() == said.body


@pytest.mark.parametrize("status", [400, 429, 502])
async def test_a_no_is_not_kept_in_the_way_of_the_next_try(bench: Bench, status: int) -> None:
    with pytest.raises(ProviderError):
        await perform(attempt(), bench, Wire(no(status)), buy=True)
    assert not bench.spool.holds("id", 1)


async def test_what_the_spool_holds_is_not_asked_for_again(bench: Bench) -> None:
    data = [INLINE, LINK]
    with pytest.raises(Pending):
        await perform(attempt(2), bench, Wire(answer(*data), Unsent("no connection")), buy=True)
    wire = Wire(Reply(200, {}, PNG))
    outcome = await perform(attempt(2), bench, wire, buy=False)
    assert wire.asked == [LINK["url"]]
    assert [image.state for image in outcome.images] == [ImageState.SAVED] * 2
    again = Wire()
    assert await perform(attempt(2), bench, again, buy=False) == outcome
    assert again.asked == []


async def test_an_attempt_of_an_earlier_run_is_never_sent_again(bench: Bench) -> None:
    wire = Wire(answer(INLINE))
    with pytest.raises(Unknown) as error:
        await perform(attempt(), bench, wire, buy=False)
    assert (error.value.code, wire.asked) == ("cut", [])


@pytest.mark.parametrize("lost", [5, 200])
async def test_a_first_reply_that_a_crash_damaged_is_unknown_and_never_unusable(bench: Bench, lost: int) -> None:
    await perform(attempt(), bench, Wire(answer(INLINE)), buy=True)
    file = bench.spool.path("id", 1)
    file.write_bytes(file.read_bytes()[:-lost])
    wire = Wire()
    with pytest.raises(Unknown) as error:
        await perform(attempt(), bench, wire, buy=False)
    assert (error.value.code, wire.asked) == ("damaged", [])


async def test_a_later_reply_that_a_crash_damaged_is_fetched_again(bench: Bench) -> None:
    await perform(attempt(), bench, Wire(answer(LINK), Reply(200, {}, PNG)), buy=True)
    bench.spool.path("id", 2).write_bytes(PNG[:-5])
    with pytest.raises(Pending):
        await perform(attempt(), bench, Wire(), buy=False)
    wire = Wire(Reply(200, {}, PNG))
    await perform(attempt(), bench, wire, buy=False)
    assert wire.asked == [LINK["url"]]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (no(404), Gone),
        (no(410), Gone),
        (no(403), Gone),
        (no(401), Pending),
        (no(429), Pending),
        (no(500), Pending),
        (no(503), Pending),
        (Unsent("no connection"), Pending),
        (Unknown("cut"), Pending),
        (Rejected("cannot be sent"), Gone),
        (Unusable("too large"), Gone),
    ],
)
async def test_s18_a_link_that_cannot_be_had_is_bought_all_the_same(
    bench: Bench, said: Reply | ProviderError, kind: type[ProviderError]
) -> None:
    with pytest.raises(kind, match="bought, but not to be had"):
        await perform(attempt(), bench, Wire(answer(LINK), said), buy=True)
    assert bench.spool.holds("id", 1)


@pytest.mark.parametrize(
    "link",
    [
        "http://cdn.example/a.png",
        "file:///etc/passwd",
        "ftp://cdn.example/a.png",
        "http://127.0.0.1:8081/a.png",
        "http://127.0.0.1:8080@evil.example/a.png",
        "//cdn.example/a.png",
        "javascript:alert(1)",
    ],
)
async def test_z8_a_link_is_https_or_at_the_provider_itself(bench: Bench, link: str) -> None:
    wire = Wire(answer({"url": link}))
    with pytest.raises(Pending) as error:
        await perform(attempt(), bench, wire, buy=True)
    assert (error.value.code, len(wire.asked)) == ("link_refused", 1)
    assert bench.spool.holds("id", 1)


async def test_a_link_to_the_provider_itself_may_be_plain_http(bench: Bench) -> None:
    wire = Wire(answer({"url": "http://127.0.0.1:8080/a.png"}), Reply(200, {}, PNG))
    assert await perform(attempt(), bench, wire, buy=True)


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.1", "[::1]", "10.0.0.1", "localhost"])
async def test_z8_a_link_does_not_lead_into_the_users_own_network(bench: Bench, host: str) -> None:
    wire = Wire(answer({"url": f"https://{host}/a.png"}), Reply(200, {}, PNG))
    with pytest.raises(Pending, match="Nothing is bought again"):
        await perform(attempt(), bench, wire, buy=True)


async def test_a_link_leads_on_only_to_where_links_may_lead(bench: Bench) -> None:
    there = Reply(302, {"location": "/b.png"}, b"")
    away = Reply(302, {"location": "https://evil.example/b.png"}, b"")
    wire = Wire(answer(LINK), there, away)
    with pytest.raises(Pending, match=r"evil\.example, which is not known as a host of openai"):
        await perform(attempt(), bench, wire, buy=True)
    assert wire.asked[1:] == [LINK["url"], "https://cdn.example/b.png"]
    again = Wire(there, Reply(200, {}, PNG))
    assert await perform(attempt(), bench, again, buy=False)


async def test_a_link_that_leads_in_circles_is_left(bench: Bench) -> None:
    around = [Reply(302, {"location": "/a.png"}, b"")] * 9
    with pytest.raises(Pending, match="in circles"):
        await perform(attempt(), bench, Wire(answer(LINK), *around), buy=True)


async def test_what_a_link_leads_to_is_fetched_again_where_it_is_no_image(bench: Bench) -> None:
    with pytest.raises(Gone, match="no image"):
        await perform(attempt(), bench, Wire(answer(LINK), Reply(200, {}, b"<html>")), buy=True)
    wire = Wire(Reply(200, {}, PNG))
    assert await perform(attempt(), bench, wire, buy=False)
    assert wire.asked == [LINK["url"]]


async def test_d1_an_image_that_finds_no_room_leaves_its_answer_in_the_spool(bench: Bench) -> None:
    bench.images.put("otter", b"a file where the folder should be", "part", Unsynced())
    with pytest.raises(StorageError):
        await perform(attempt(), bench, Wire(answer(INLINE)), buy=True)
    bench.images.remove("otter")
    wire = Wire()
    outcome = await perform(attempt(), bench, wire, buy=False)
    assert outcome.images[0].state is ImageState.SAVED
    assert wire.asked == []


async def cancelled_after(bench: Bench, reply: Reply) -> Outcome | None:
    """Perform, and be told to leave in the very moment in which the whole reply is there."""
    with anyio.CancelScope() as scope:

        async def send(request: Request, sink: Sink) -> Reply:
            scope.cancel()
            return reply

        return await perform(attempt(), bench, send, buy=True)
    return None


async def test_c5_an_answer_that_came_whole_is_kept_even_by_who_is_told_to_leave(bench: Bench) -> None:
    await cancelled_after(bench, answer(INLINE))
    assert bench.spool.holds("id", 1)


async def test_a_refusal_inside_the_answer_of_a_link_is_no_refusal(bench: Bench) -> None:
    moderated = Reply(400, {}, b'{"error": {"code": "moderation_blocked", "message": "no"}}')
    with pytest.raises(ProviderError) as error:
        await perform(attempt(), bench, Wire(answer(LINK), moderated), buy=True)
    assert not isinstance(error.value, Refused)


OTHER = {"url": "https://cdn.example/b.png"}


@pytest.mark.parametrize(
    "bad", [no(404), no(410), no(403), Reply(200, {}, b"<html>"), Rejected("no"), Reply(200, {}, b"")]
)
async def test_who_gives_up_has_what_came_and_the_rest_is_broken(bench: Bench, bad: Reply | ProviderError) -> None:
    said = (answer(LINK, OTHER), bad, Reply(200, {}, PNG))
    with pytest.raises(Gone):
        await perform(attempt(2), bench, Wire(*said, Reply(200, {}, PNG)), buy=True)
    assert list(bench.images.names()) == []
    outcome = await perform(attempt(2), bench, Wire(bad, Reply(200, {}, PNG)), buy=False, give_up=True)
    assert [image.state for image in outcome.images] == [ImageState.BROKEN, ImageState.SAVED]
    assert outcome.images[0].note
    assert list(bench.images.names()) == ["otter/low-1.png"]


@pytest.mark.parametrize("bad", [no(404), Reply(200, {}, b"<html>")])
async def test_where_nothing_came_there_is_nothing_to_give_up_for(bench: Bench, bad: Reply) -> None:
    with pytest.raises(Gone):
        await perform(attempt(2), bench, Wire(answer(LINK, OTHER), bad, bad), buy=True, give_up=True)
    assert not list(bench.images.names())


@pytest.mark.parametrize("later", [no(500), no(429), Unsent("no connection"), Unknown("cut")])
async def test_what_may_still_come_is_not_given_up(bench: Bench, later: Reply | ProviderError) -> None:
    with pytest.raises(Pending) as error:
        await perform(attempt(2), bench, Wire(answer(LINK, OTHER), later), buy=True, give_up=True)
    assert not isinstance(error.value, Gone)
    outcome = await perform(attempt(2), bench, Wire(*[Reply(200, {}, PNG)] * 2), buy=False, give_up=True)
    assert [image.state for image in outcome.images] == [ImageState.SAVED] * 2


async def test_pictures_on_the_way_are_of_their_attempt(bench: Bench) -> None:
    """Another attempt of the same task shows others, and none is written over."""
    shown, whole = ({"type": f"image_generation.{name}", **INLINE} for name in ("partial_image", "completed"))
    body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in (shown, whole))
    wire = Wire(Reply(200, {"content-type": "text/event-stream"}, body))
    one = replace(attempt(), id="0123456789abcdef")
    outcome = await perform(one, replace(bench, partials=True), wire, buy=True)
    assert [image.path for image in outcome.images] == ["otter/low.png", "otter/low.01234567.partial-0.png"]
    assert [image.state for image in outcome.images] == [ImageState.SAVED, ImageState.PARTIAL]


async def test_a_429_of_which_much_must_be_read_is_not_read_on_the_loop(bench: Bench) -> None:
    here, seen = threading.get_ident(), list[int]()
    for body, headers in ((b" " * (SHORT + 1), {}), (gzip.compress(b"{}"), {"content-encoding": "gzip"}), (b"{}", {})):

        class Noted:
            talk = staticmethod(openai.talk)

            @staticmethod
            def fault(reply: Reply) -> ProviderError:
                seen.append(threading.get_ident())
                return openai.fault(reply)

        with pytest.raises(Transient):
            await perform(attempt(), replace(bench, dialect=Noted), Wire(Reply(429, headers, body)), buy=True)
    assert [each == here for each in seen] == [False, False, True]
