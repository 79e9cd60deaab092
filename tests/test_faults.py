"""Every fault of the sandbox, by its number in the catalogue of faults: what it makes of the attempt and of the task.

One request at a time, so that the n-th attempt meets the n-th fault of the script.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from conftest import SMALL, Start
from PIL import Image
from sandbox import child
from world import HERON, OTTER, Host, Respond, World, many

from batchgen.sandbox.faults import FAULTS


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, its numbers, and what must come of it where a task has one try and nothing is bought twice."""

    fault: str
    number: str
    attempt: str
    task: str
    code: str = ""


CASES = (
    Case("ok", "none", "paid", "done"),
    Case("cut", "N5 reset after it was billed", "unknown", "held", "cut"),
    Case("cut-before", "N5 reset before it was billed", "unknown", "held", "cut"),
    Case("truncate", "N8 closed in the middle", "unknown", "held", "cut"),
    Case("slow", "N17 slow, and whole", "paid", "done"),
    Case("400", "N16 no for ever", "rejected", "failed", "invalid_value"),
    Case("500", "S5 in the provider's own envelope", "rejected", "failed", "server_error"),
    Case("503-retry", "S5 overloaded, with a time", "rejected", "failed", "server_is_overloaded"),
    Case("500-html", "S5 a gateway's page", "unknown", "held", "http_500"),
    Case("502", "S5 a gateway's page", "unknown", "held", "http_502"),
    Case("503", "S5 a gateway's page without a time", "unknown", "held", "http_503"),
    Case("html", "S9 a page with 200", "unusable", "held", "not_json"),
    Case("empty", "S10 an empty 200", "unusable", "held", "not_json"),
    Case("badjson", "S11 half a JSON", "unusable", "held", "not_json"),
    Case("badusage", "S13 negative usage", "paid", "done"),
    Case("nousage", "S14 no usage", "paid", "done"),
    Case("nodata", "S16 no image", "unusable", "held", "no_image"),
    Case("two", "S16 two images for one", "paid", "done"),
    Case("wrongformat", "S17 another format", "paid", "done"),
    Case("gzbomb", "S19 a bomb", "unusable", "held", "not_json"),
    Case("bighdr", "S21 a header of 200 KB", "unknown", "held", "cut"),
    Case("redirect", "S22 elsewhere", "rejected", "failed", "http_307"),
    Case("badpng", "X1 half an image", "unusable", "held", "broken"),
    Case("noiend", "X2 no end of the image", "unusable", "held", "broken"),
    Case("junk64", "X6 junk in the base64", "unusable", "held", "broken"),
    Case("dataurl", "X8 a data URL", "paid", "done"),
    Case("echo", "Z3 the key in the answer", "rejected", "failed", "invalid_value"),
)
ELSEWHERE = {"stream-cut", "stream-error", "stall", "hang", "429", "429-header", "quota", "billing", "401", "403"}
"""Faults with tests of their own, here and among the runs: those that take time, and those that stop a run."""
ONCE = {"attempts": 1, "on_unknown": "hold", "duplicate_allowance": 0}
"""One try for each task, and nothing bought twice."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ledger says of one attempt and of its task."""

    attempt: str
    task: str
    code: str
    error: str
    id: str
    task_seq: int
    estimated: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run that met every fault, and what came of each."""

    world: World
    exit_code: int
    seen: dict[str, Seen]

    def images(self, fault: str) -> list[tuple[str, str, int]]:
        """Index, state and format are enough to tell what was saved."""
        sql = "SELECT state, format, idx FROM images WHERE task = ? ORDER BY idx"
        return self.world.rows(sql, self.seen[fault].task_seq)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    names = [case.fault for case in CASES]
    sandbox = child.start(*SMALL, "--script", " ".join(names))
    world = World(tmp_path_factory.mktemp("faulty"), sandbox)
    ended = world.run(prompts=many(len(names)), limits={"concurrency": 1, "budget": 5}, retry=ONCE)
    rows = world.rows(
        "SELECT a.state, t.state, a.code, a.error, a.id, t.seq, a.estimated FROM attempts a"
        " JOIN tasks t ON t.seq = a.task ORDER BY a.seq"
    )
    yield Run(world, ended.exit_code, {name: Seen(*row) for name, row in zip(names, rows, strict=True)})
    sandbox.end()


def test_every_fault_of_the_sandbox_is_tried_somewhere() -> None:
    assert {case.fault for case in CASES} | ELSEWHERE == set(FAULTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}: {case.fault}")
def test_a_fault_is_told_for_what_it_is(faulty: Run, case: Case) -> None:
    seen = faulty.seen[case.fault]
    assert (seen.attempt, seen.task, seen.code) == (case.attempt, case.task, case.code)
    assert bool(seen.error) == (case.attempt != "paid"), "what went wrong is always said, and nothing else"


def test_every_charge_is_a_known_attempts_and_within_its_bounds(faulty: Run) -> None:
    assert faulty.exit_code == 3
    faulty.world.check_books()
    assert len(faulty.world.charges()) == sum(case.attempt != "rejected" for case in CASES) - len({"cut-before", "503"})


def test_answers_without_believable_usage_are_estimates(faulty: Run) -> None:
    assert [name for name, seen in faulty.seen.items() if seen.estimated] == ["badusage", "nousage"]


def test_an_image_more_than_asked_for_is_kept_too(faulty: Run) -> None:
    assert faulty.images("two") == [("saved", "png", 0), ("saved", "png", 1)]


def test_an_image_of_another_format_bears_its_true_name(faulty: Run) -> None:
    assert faulty.images("wrongformat") == [("saved", "jpeg", 0)]
    assert sum(path.suffix == ".jpg" for path in faulty.world.files()) == 1


def test_a_damaged_image_leaves_a_reason_and_no_file(faulty: Run) -> None:
    for fault in ("badpng", "noiend", "junk64"):
        assert [state for state, _, _ in faulty.images(fault)] == ["broken"]
    saved = faulty.world.rows("SELECT count(*) FROM images WHERE state = 'saved'")
    assert saved == [(len(faulty.world.files()),)]


def test_nobody_followed_the_redirect(faulty: Run) -> None:
    assert {charge["path"] for charge in faulty.world.charges()} == {"/v1/images/generations"}


def test_answers_of_no_use_are_kept_for_a_person_and_all_others_are_gone(faulty: Run) -> None:
    kept = {path.stem for path in (faulty.world.run_folder / "spool").iterdir()}
    assert kept == {seen.id for seen in faulty.seen.values() if seen.attempt == "unusable"}


@pytest.mark.parametrize("fault", ["stall", "hang"])
def test_n10_an_answer_that_does_not_come_is_given_up_and_may_be_billed(bad: Start, fault: str) -> None:
    world = bad("--script", fault)
    world.run(prompts=[OTTER, HERON], limits={"concurrency": 1, "budget": 1, "timeout": "0.7s"}, retry=ONCE)
    assert world.attempts() == ["unknown", "paid"]
    assert world.rows("SELECT code FROM attempts WHERE state = 'unknown'") == [("timeout",)]
    world.check_books()


def test_s1_a_rate_limit_uses_up_no_try_and_is_not_billed(bad: Start) -> None:
    world = bad("--script", "429 429 429 429-header")
    assert world.run(prompts=[OTTER], retry=ONCE).exit_code == 0
    assert world.attempts() == ["rejected"] * 4 + ["paid"]
    assert world.rows("SELECT tries FROM tasks") == [(1,)]
    world.check_equal_to_the_bill()


def test_s4_a_bucket_that_is_empty_loses_no_task(bad: Start) -> None:
    world = bad("--ipm", "300", "--burst", "4")
    assert world.run(prompts=many(12), limits={"concurrency": 8, "budget": 1}).exit_code == 0
    assert world.attempts().count("paid") == 12
    world.check_equal_to_the_bill()


def test_s5_a_clear_no_is_tried_again_for_nothing(bad: Start) -> None:
    world = bad("--script", "500 503-retry")
    assert world.run(prompts=[OTTER]).exit_code == 0
    assert world.attempts() == ["rejected", "rejected", "paid"]
    world.check_equal_to_the_bill()


def test_with_an_allowance_all_that_can_be_made_is_made(bad: Start) -> None:
    cured = [case.fault for case in CASES if case.task == "held" or case.attempt == "paid"]
    world = bad("--script", " ".join(cured))
    limits = {"concurrency": 16, "budget": 5}
    assert world.run(prompts=many(len(cured)), limits=limits, retry={"duplicate_allowance": 5}).exit_code == 0
    assert world.states() == {"done": len(cured)}
    world.check_books()


def test_faults_at_random_never_put_the_bill_out_of_its_bounds(bad: Start) -> None:
    faults = "cut=0.1,truncate=0.1,429=0.1,500=0.05,502=0.05,badpng=0.1,nousage=0.1,html=0.05"
    world = bad("--seed", "7", "--faults", faults)
    world.run(prompts=many(40), limits={"concurrency": 16, "budget": 0.3}, retry={"attempts": 3})
    world.check_books()
    assert world.billed() <= 300_000_000
    assert world.rows("SELECT sum(cost_high) <= 300000000 FROM attempts") == [(1,)]


GOOD_USAGE = {"input_tokens": 5, "output_tokens": 196, "total_tokens": 201}


def sold(host: Callable[[Respond], Host], world: World, **body: object) -> World:
    """A run of one task at a provider that answers with this body."""
    text = json.dumps(body).encode()
    seller = host(lambda method, path: (200, {"content-type": "application/json"}, text))
    world.run(provider=world.provider(base_url=seller.url), retry=ONCE)
    return world


def test_s12_json_of_absurd_depth_is_no_answer(world: World, host: Callable[[Respond], Host]) -> None:
    seller = host(lambda method, path: (200, {}, b'{"data": ' + b"[" * 200_000))
    world.run(provider=world.provider(base_url=seller.url), retry=ONCE)
    assert (world.attempts(), world.states()) == (["unusable"], {"held": 1})


def test_s15_a_total_that_is_none_is_noted_and_not_believed(world: World, host: Callable[[Respond], Host]) -> None:
    picture = {"b64_json": base64.b64encode(png()).decode()}
    sold(host, world, data=[picture], usage={**GOOD_USAGE, "total_tokens": 999})
    assert world.rows("SELECT total_tokens, usage_note FROM attempts") == [(201, "total_tokens said 999")]


@pytest.mark.parametrize("link", ["file:///etc/passwd", "http://169.254.169.254/latest", "http://127.0.0.1:22/"])
def test_z8_links_to_places_that_are_nobodys_business_are_not_fetched(
    world: World, host: Callable[[Respond], Host], link: str
) -> None:
    sold(host, world, data=[{"url": link}], usage=GOOD_USAGE)
    assert world.rows("SELECT state, status FROM attempts") == [("accepted", 0)], "it is bought, and waits"
    reason, code = world.rows("SELECT reason, exit_code FROM runs")[0]
    assert (code, "Nothing is bought again" in reason) == (5, True)


def test_x3_bytes_behind_the_end_of_an_image_are_refused(world: World, host: Callable[[Respond], Host]) -> None:
    picture = {"b64_json": base64.b64encode(png() + b"<script>").decode()}
    sold(host, world, data=[picture], usage=GOOD_USAGE)
    assert (world.attempts(), world.files()) == (["unusable"], [])


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    return out.getvalue()
