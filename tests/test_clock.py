"""A clock that lies: it goes back, jumps by years, stands still; nothing that is bought or ordered hangs on it.

The real program runs under libfaketime, which lies about the time of day alone: the monotonic clock is left as it is.
"""

import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Start
from world import World, eventually, many

LIBRARIES = [
    *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
    *Path("/usr/lib").glob("*/faketime/libfaketime.so.1"),
]
lying = pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime: apt-get install faketime")
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def lie(moment: str, file: Path | None = None) -> dict[str, str]:
    """What makes a process believe in another time; with a file it can be changed while it runs."""
    told = {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"} if file else {"FAKETIME": moment}
    if file:
        file.write_text(moment)
    never = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": str(LIBRARIES[0]), "TZ": "UTC", **never, **told}


def moments(world: World) -> list[str]:
    """Every moment that the ledger holds of an attempt, in the order they were sent."""
    return [time for row in world.rows("SELECT sent_at, ended_at FROM attempts ORDER BY seq") for time in row if time]


def told(world: World) -> Iterator["subprocess.CompletedProcess[str]"]:
    """What the readers say, who believe in the time of this machine."""
    for verb in (("status",), ("report", "--attempts"), ("verify",)):
        yield world.command(verb[0], "otters.yaml", *verb[1:])
    yield world.command("costs")


@lying
def test_k1_a_clock_that_goes_back_by_two_hours_stops_nothing_and_orders_nothing(bad: Start) -> None:
    world = bad("--latency", "0.3", "--script", "ok 429")
    clock = world.folder / "clock"
    path = str(world.write(prompts=many(8), limits={"concurrency": 2, "budget": 1}))
    process = world.begin("run", path, **lie("+0", clock))
    eventually(lambda: world.charges())
    clock.write_text("-2h")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, world.states()) == (0, {"done": 8}), said
    world.check_equal_to_the_bill()
    times = moments(world)
    assert max(times) > times[-1], "the clock did go back"
    listed = world.command("report", "otters.yaml", "--attempts", "--csv").stdout.splitlines()[1:]
    assert [int(line.partition(",")[0]) for line in listed] == list(range(1, len(listed) + 1))


@lying
@pytest.mark.parametrize("moment", ["@1970-01-02 00:00:00", "@2038-01-19 03:14:05"])
def test_k2_k6_in_another_year_a_run_does_the_same(world: World, moment: str) -> None:
    path = str(world.write(prompts=many(4)))
    ran = world.command("run", path, **lie(moment))
    assert (ran.returncode, "Traceback" in ran.stderr, world.states()) == (0, False, {"done": 4}), ran.stderr
    world.check_equal_to_the_bill()
    assert all(STAMP.fullmatch(time) for time in moments(world))
    years = {time[:4] for time in moments(world)}
    assert years <= {str(datetime.now(UTC).year + 10), "1970", "2038", "2106"}, years
    for each in told(world):
        assert (each.returncode, "Traceback" in each.stderr) == (0, False), each.stderr


@lying
def test_k2_the_next_run_of_an_earlier_year_buys_nothing_again(world: World) -> None:
    path = str(world.write(prompts=many(4)))
    assert world.command("run", path, **lie("+10y")).returncode == 0
    world.write(prompts=many(6))
    assert world.command("run", path, **lie("@1970-01-02 00:00:00")).returncode == 0
    assert (world.states(), len(world.charges())) == ({"done": 6}, 6)
    for each in told(world):
        assert (each.returncode, "Traceback" in each.stderr) == (0, False), each.stderr


@lying
def test_k5_where_time_stands_still_attempts_are_told_in_the_order_they_were_sent(world: World) -> None:
    """The clock shows one second for ever."""
    path = str(world.write(prompts=many(12), limits={"concurrency": 1, "budget": 1}))
    still = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert world.command("run", path, **lie(still)).returncode == 0
    assert len(set(moments(world))) == 1, "every moment is the same"
    asked = [text for (text,) in world.rows(ASKED)]
    assert asked == many(12)
    charged = [charge["client_request_id"] for charge in world.charges()]
    assert [id_ for (id_,) in world.rows("SELECT id FROM attempts ORDER BY seq")] == charged
    assert world.rows("SELECT min(seconds) >= 0, max(seconds) < 1 FROM v_attempts") == [(1, 1)]


ASKED = "SELECT p.text FROM attempts a JOIN tasks t ON t.seq = a.task JOIN prompts p ON p.id = t.prompt ORDER BY a.seq"


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati"])
def test_k4_the_ledger_is_in_utc_wherever_the_machine_is(world: World, zone: str) -> None:
    before = datetime.now(UTC)
    assert world.command("run", str(world.write(prompts=many(2))), TZ=zone).returncode == 0
    times = [datetime.fromisoformat(time) for time in moments(world)]
    assert all(before.timestamp() - 1 <= time.timestamp() <= datetime.now(UTC).timestamp() + 1 for time in times)
    month = world.command("costs", "--month", moments(world)[0][:7], TZ=zone)
    assert (month.returncode, "2" in month.stdout) == (0, True)
    said = world.command("report", "otters.yaml", TZ=zone).stdout
    assert moments(world)[0][:10] in said
    assert "UTC" in said, "the zone is told with the time"


@lying
@pytest.mark.parametrize("moment", ["@2026-10-25 00:59:58"], ids=["back"])
def test_k4_a_night_in_which_the_hour_changes_is_as_long_as_any(world: World, moment: str) -> None:
    """In Berlin it is 01:59:58 then, and soon 03:00, or 02:00 again; the lie is told in UTC."""
    path = str(world.write(prompts=many(4), limits={"concurrency": 1, "budget": 1}))
    ran = world.command("run", path, **{**lie(moment), "TZ": "UTC"})
    assert (ran.returncode, len(world.charges())) == (0, 4)
    times = [time for (time,) in world.rows("SELECT sent_at FROM attempts ORDER BY seq")]
    assert (times, len(times)) == (sorted(times), 4)
    for verb in ("report", "status"):
        said = world.command(verb, "otters.yaml", TZ="Europe/Berlin")
        assert (said.returncode, times[0][:10] in said.stdout) == (0, True)


@lying
def test_k3_a_machine_that_slept_past_its_time_notices_it_and_ends(bad: Start) -> None:
    """A lid that is closed: the time of day goes on, the monotonic clock does not."""
    world = bad("--latency", "0.3")
    clock, until = world.folder / "clock", datetime.now(UTC) + timedelta(hours=1)
    limits = {"concurrency": 2, "budget": 10, "until": f"{until:%Y-%m-%d %H:%M}"}
    process = world.begin("run", str(world.write(prompts=many(200), limits=limits)), **lie("+0", clock))
    eventually(lambda: len(world.charges()) > 2)
    clock.write_text("+2h")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, f"stopped by limits.until ({limits['until']})" in said) == (4, True), said
    assert "the clock went ahead by 7" in (world.run_folder / "run.log").read_text()
    assert set(world.attempts()) == {"paid"}
    world.check_equal_to_the_bill()
