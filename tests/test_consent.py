"""Nothing is spent unasked: who is asked, when, how often, and what a no leaves behind."""

import os
import pty
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from sandbox import nursery
from test_offer import said
from world import KEY, KEY_ENV, World, environment, many

from batchgen import consent, offer
from batchgen.errors import UsageError
from batchgen.manifest import Setup

HIGH = {"size": "1024x1024", "quality": "high"}  # 21 cents an image
OVER: dict[str, Any] = {"prompts": many(5), "request": HIGH, "limits": None, "retry": {"duplicate_allowance": 0}}
"""$1.05, at most $1.11, and no budget; nothing is bought twice."""
UNPRICED: dict[str, Any] = {"model": "dall-e-9", "request": None}
PROMPT = "[y/N]: "


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


def question(world: World, terminal: bool = True, yes: bool = False, sample: int | None = None, **changes: Any) -> str:
    """What would be asked before the run of a changed manifest."""
    wish = offer.wish(str(world.write(**changes)), None, Setup(environment()), sample)
    return consent.question(offer.drawn_up(wish), wish.manifest.limits, terminal, yes)


def untouched(world: World) -> bool:
    """Nothing was sent, and no folder was made."""
    return world.charges() == [] and [path.name for path in world.folder.iterdir()] == ["otters.yaml"]


# who is asked


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        (OVER, "Spend about $1.05, at most $1.11?"),
        ({**OVER, "limits": {"budget": 25}}, "Spend about $1.05, at most $1.11?"),
        ({**OVER, "limits": {"budget": 1.08}}, "Spend about $1.05, at most $1.08?"),
        ({**OVER, "limits": {"budget": 1.02}}, "Spend about $1.02, at most $1.02?"),
        ({**OVER, "limits": {"budget": 1}}, ""),
        ({**OVER, "limits": {"budget": 0}}, ""),
        ({**OVER, "prompts": many(4)}, ""),
        ({**OVER, "prompts": ["A fox"], "samples": 5}, "Spend about $1.05, at most $1.11?"),
        ({**OVER, "prompts": ["A fox"], "request": {**HIGH, "n": 5}}, "Spend about $1.05, at most $1.11?"),
        ({**OVER, "provider": "sandbox"}, ""),
    ],
)
def test_a_terminal_is_asked_where_the_run_may_spend_over_a_dollar(
    world: World, changes: dict[str, Any], asks: str
) -> None:
    assert question(world, **changes) == asks
    assert question(world, yes=True, **changes) == ""


def test_a_flat_price_is_asked_for_as_it_is(world: World) -> None:
    flat: dict[str, Any] = {**OVER, "provider": world.provider(price={"image": 0.5})}
    assert question(world, **{**flat, "prompts": many(2)}) == ""
    assert question(world, **{**flat, "prompts": many(3)}) == "Spend about $1.50, at most $1.50?"


@pytest.mark.parametrize(
    ("allowance", "asks"),
    [
        ({"duplicate_allowance": 0.5}, "at most $1.61?"),
        ({"duplicate_allowance": "10%"}, "at most $1.21?"),
        ({"duplicate_allowance": "100%", "on_unknown": "hold"}, "at most $2.16?"),  # answers of no use are bought again
        (None, "at most $1.33?"),
    ],
)
def test_at_most_counts_what_may_be_sent_again(world: World, allowance: dict[str, object] | None, asks: str) -> None:
    """At least the dearest image, where nothing is said."""
    assert question(world, **{**OVER, "retry": allowance}).endswith(asks)


def test_what_costs_nothing_is_never_asked_for_and_needs_no_budget(world: World) -> None:
    free: dict[str, Any] = {"provider": world.provider(price={"image": 0}), "prompts": many(99), "limits": None}
    assert question(world, terminal=True, **free) == question(world, terminal=False, **free) == ""


def test_a_price_that_nobody_knows_is_always_asked_for(world: World) -> None:
    asked = question(world, **UNPRICED, limits={"images": 3})
    assert asked.endswith("1 task at a price that is not known?")
    assert question(world, yes=True, **UNPRICED, limits={"images": 3}) == ""


@pytest.mark.parametrize("limits", [None, {"budget": 5}])
@pytest.mark.parametrize("yes", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_without_a_price_only_a_limit_of_images_can_bound_the_bill(
    world: World, limits: dict[str, object] | None, yes: bool, terminal: bool
) -> None:
    with pytest.raises(UsageError, match=r"dall-e-9 costs at pretend is not known.* limits\.images"):
        question(world, terminal, yes, **UNPRICED, limits=limits)


def test_a_provider_without_a_price_hides_behind_no_other(world: World) -> None:
    """One target has a price, the other none."""
    targets = [
        {"as": "known", "provider": world.provider(), "model": "gpt-image-2"},
        {"as": "strange", "provider": world.provider(name="strange"), "model": "dall-e-9"},
    ]
    changes: dict[str, Any] = {"provider": None, "model": None, "request": None, "matrix": {"target": targets}}
    with pytest.raises(UsageError, match="costs at strange is not known"):
        question(world, **changes, limits={"budget": 5})
    assert "1 task at a price that is not known" in question(world, **changes, limits={"budget": 5, "images": 3})


def test_a_real_provider_hides_behind_no_pretend_one(world: World) -> None:
    targets = [
        {"as": "play", "provider": "sandbox", "quality": "low"},
        {"as": "real", "provider": world.provider(), "quality": "high"},
    ]
    changes: dict[str, Any] = {"provider": None, "request": None, "matrix": {"target": targets}, "limits": None}
    assert question(world, prompts=many(6), **changes)
    with pytest.raises(UsageError, match="no terminal to ask at"):
        question(world, False, prompts=many(6), **changes)


def test_only_what_is_still_to_do_is_asked_for(world: World) -> None:
    """A budget that is nearly used up lowers what the run may spend; a sample asks for itself alone."""
    changes: dict[str, Any] = {"prompts": many(12), "request": HIGH, "retry": {"duplicate_allowance": 0}}
    assert world.run(**changes, limits={"budget": 0.5}).exit_code == 4
    assert len(world.charges()) == 2
    assert question(world, **changes, limits=None) == "Spend about $2.11, at most $2.22?"
    assert question(world, **changes, limits={"budget": 1.6}) == "Spend about $1.18, at most $1.18?"
    assert question(world, **changes, limits={"budget": 1.4}) == ""
    assert question(world, sample=4, **changes, limits=None) == ""


def test_where_nothing_is_to_do_nothing_is_asked_nor_needed(world: World) -> None:
    assert world.run(**OVER).exit_code == 0
    assert question(world, True, **OVER) == question(world, False, **OVER) == ""


# without a terminal


@pytest.mark.parametrize("flags", [(), ("--yes",), ("--sample", "1"), ("--set", "limits.images=1")])
def test_without_a_terminal_and_a_budget_nothing_is_sent(world: World, flags: tuple[str, ...]) -> None:
    refused = said(world, "run", str(world.write(limits=None)), *flags)
    assert (refused.returncode, untouched(world)) == (2, True)
    assert refused.stderr.splitlines()[-1].endswith(
        "give --budget USD (in Python budget=), or limits.budget in the manifest"
    )


def test_without_a_terminal_a_budget_is_enough_and_holds(world: World) -> None:
    ended = said(world, "run", str(world.write(**OVER)), "--budget", "0.5")
    assert (ended.returncode, len(world.charges())) == (4, 2)
    world.check_equal_to_the_bill()


def held(bad: Start, count: int) -> World:
    """A run whose first requests all vanished, so that each may have been paid."""
    world = bad("--script", "cut " * count)
    ended = world.run(prompts=many(count), request=HIGH, limits={"budget": 5}, retry={"on_unknown": "hold"})
    assert (ended.exit_code, world.states(), len(world.charges())) == (3, {"held": count}, count)
    world.write(prompts=many(count), request=HIGH, limits=None, retry={"on_unknown": "hold"})
    return world


@pytest.mark.parametrize("given_up", [False, True], ids=["held", "given up"])
@pytest.mark.parametrize("run", ["otters.yaml", "runs/otters"])
def test_a_retry_needs_a_budget_too_and_changes_nothing_without(bad: Start, run: str, given_up: bool) -> None:
    world = held(bad, 1)
    if given_up:
        assert said(world, "drop", "otters.yaml", "--held").returncode == 0
    before = world.rows("SELECT key, state, wanted, tries FROM tasks")
    settings = ("--set", "limits={}") if run == "runs/otters" else ()  # what was set for that run had a budget
    refused = said(world, "retry", run, "--held", *settings)
    assert (refused.returncode, "no terminal to ask at" in refused.stderr) == (2, True)
    assert (len(world.charges()), world.rows("SELECT key, state, wanted, tries FROM tasks")) == (1, before)


# on a terminal


@dataclass(slots=True)
class Terminal:
    """A command whose three streams are one pseudo terminal."""

    process: "subprocess.Popen[str]"
    screen: int
    said: str = ""

    def read(self, words: str = "\0", within: float = 20.0) -> bool:
        """Read on until these words stand on the screen, or to the end; whether they do."""
        last = time.monotonic() + within
        while words not in self.said and time.monotonic() < last:
            if not select.select([self.screen], [], [], 0.2)[0]:
                continue
            try:
                chunk = os.read(self.screen, 65536)
            except OSError:  # the other end is closed
                chunk = b""
            if not chunk:
                break
            self.said += chunk.decode()
        return words in self.said

    def answer(self, keys: bytes | signal.Signals) -> int:
        """Type this at the question, and wait for the end; the exit code."""
        assert self.read(PROMPT), self.said
        if isinstance(keys, bytes):
            os.write(self.screen, keys)
        else:
            time.sleep(0.2)  # what comes between the prompt and the read would be heard after the next key only
            self.process.send_signal(keys)
        return self.end()

    def end(self) -> int:
        self.read()
        os.close(self.screen)
        return self.process.wait(20)


def on_a_terminal(world: World, *arguments: str) -> Terminal:
    screen, end = pty.openpty()
    variables = environment(TERM="dumb", BATCHGEN_SANDBOX="--paint cached")
    process = nursery.start("batchgen", *arguments, env=variables, cwd=world.folder, stdin=end, stdout=end, stderr=end)
    os.close(end)
    world.started.append(process)
    return Terminal(process, screen)


@pytest.mark.parametrize(
    "no",
    [b"n\n", b"\n", b"\x04", signal.SIGINT],
    ids=["n", "nothing", "end of file", "Ctrl-C"],
)
def test_whoever_does_not_say_yes_has_said_no(world: World, no: bytes | signal.Signals) -> None:
    terminal = on_a_terminal(world, "run", str(world.write(**OVER)))
    assert terminal.answer(no) == 7
    assert terminal.said.count("Spend about $1.05, at most $1.11?") == 1
    assert untouched(world)


def test_what_is_neither_yes_nor_no_is_asked_again_and_buys_nothing(world: World) -> None:
    terminal = on_a_terminal(world, "run", str(world.write(**OVER)))
    assert terminal.answer(b"$1\n1\nyess\nn\n") == 7
    assert untouched(world)


def test_whoever_says_yes_is_asked_once_and_gets_what_was_said(world: World) -> None:
    terminal = on_a_terminal(world, "run", str(world.write(**OVER)))
    assert terminal.answer(b"y\n") == 0
    assert (terminal.said.count("[y/N]"), len(world.charges())) == (1, 5)
    assert world.billed() <= 1_110_000_000
    world.check_equal_to_the_bill()


@pytest.mark.parametrize(
    ("changes", "flags"),
    [(OVER, ("--yes",)), ({**OVER, "prompts": many(2)}, ()), (OVER, ("--sandbox",))],
    ids=["--yes", "below a dollar", "a rehearsal"],
)
def test_a_terminal_is_not_asked_where_nothing_is_to_be_decided(
    world: World, changes: dict[str, Any], flags: tuple[str, ...]
) -> None:
    terminal = on_a_terminal(world, "run", str(world.write(**changes)), *flags)
    assert terminal.end() == 0
    assert PROMPT not in terminal.said
    assert bool(world.charges()) == (flags != ("--sandbox",))


def test_a_run_that_has_nothing_to_do_asks_nothing(world: World) -> None:
    world.run(**OVER)
    terminal = on_a_terminal(world, "run", "otters.yaml")
    assert (terminal.end(), PROMPT in terminal.said, len(world.charges())) == (0, False, 5)


def test_a_retry_is_asked_for_and_a_no_leaves_all_as_it_was(bad: Start) -> None:
    world = held(bad, 5)
    terminal = on_a_terminal(world, "retry", "otters.yaml", "--held")
    assert terminal.answer(b"n\n") == 7
    assert (terminal.said.count("Spend about $1.05"), world.states()) == (1, {"held": 5})
    assert len(world.charges()) == 5
    assert on_a_terminal(world, "retry", "otters.yaml", "--held").answer(b"y\n") == 0
    assert (world.states(), len(world.charges())) == ({"done": 5}, 10)
    world.check_books()


def test_half_a_terminal_is_none(world: World) -> None:
    """Somebody must see the question, and be able to answer."""
    path, pipe = str(world.write(**OVER)), subprocess.PIPE
    screen, end = pty.openpty()
    for stdin, stderr in ((end, pipe), (subprocess.DEVNULL, end)):
        process = nursery.start(
            "batchgen", "run", path, env=environment(), cwd=world.folder, stdin=stdin, stdout=pipe, stderr=stderr
        )
        process.communicate(timeout=60)
        assert (process.returncode, untouched(world)) == (2, True)
    os.close(screen)
    os.close(end)


# what was agreed to


def grow(file: Path) -> None:
    with file.open("a") as more:
        more.writelines(f"Wolf number {number}\n" for number in range(6))


def test_rows_that_come_after_the_question_are_not_bought_by_its_answer(world: World) -> None:
    file = world.folder / "rows.txt"
    file.write_text("\n".join(many(5)) + "\n")
    terminal = on_a_terminal(world, "run", str(world.write(**{**OVER, "prompts": [{"file": "rows.txt"}]})))
    assert terminal.read(PROMPT)
    grow(file)
    terminal.answer(b"y\n")
    assert world.billed() <= 1_110_000_000


def test_dearer_rows_in_the_place_of_others_are_not_bought_by_its_answer(world: World) -> None:
    file = world.folder / "rows.csv"
    file.write_text("p,q\n" + "".join(f"Otter {n},low\n" for n in range(200)))
    source = {"file": "rows.csv", "prompt": "{{ p }}", "quality": "{{ q }}"}
    changes = {**OVER, "prompts": [source], "request": {"size": "1024x1024"}}
    terminal = on_a_terminal(world, "run", str(world.write(**changes)))
    assert terminal.read(PROMPT)
    file.write_text("p,q\n" + "".join(f"Wolf {n},high\n" for n in range(200)))
    assert terminal.answer(b"y\n") == 2
    assert ("the rows have changed" in terminal.said, world.charges()) == (True, [])
    refused = said(world, "run", "runs/otters", "--budget", "99")
    assert (refused.returncode, "run the manifest itself" in refused.stderr) == (2, True)


def test_at_most_is_the_most_also_where_answers_are_lost(bad: Start) -> None:
    world = bad("--faults", "cut=1")
    retry = {"attempts": 2, "duplicate_allowance": "100%"}
    terminal = on_a_terminal(world, "run", str(world.write(**{**OVER, "retry": retry})))
    assert terminal.answer(b"y\n") == 3
    asked = float(terminal.said.partition("at most $")[2].partition("?")[0])
    assert world.billed() <= round(asked * 1e9)
