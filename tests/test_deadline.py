"""When to stop, by a clock that is passed in: the next such time, hours that are left out or come twice, what fits."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen import deadline, values
from batchgen.deadline import DAY, RECENT, Clocks, Deadline, Span, Until, clock, cut, parse

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = st.sampled_from(
    [UTC, *map(ZoneInfo, ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"))]
)
NOWS = st.integers(1_262_304_000, 2_000_000_000)  # 2010 to 2033: Apia left out a whole day in 2011


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@given(st.times(), NOWS, ZONES)
def test_a_time_of_day_is_the_next_one_that_the_wall_clock_shows_or_jumps_over(
    time: object, now: int, zone: ZoneInfo
) -> None:
    until = parse(f"{time:%H:%M}")
    moment = until.moment(now, zone)
    assert now < moment <= now + 3 * DAY
    shown = datetime.fromtimestamp(moment, zone)
    if (shown.hour, shown.minute, shown.second) != (until.time.hour, until.time.minute, 0):
        before = datetime.fromtimestamp(moment - 1, zone)
        wanted = datetime.combine(shown.date(), until.time)
        skipped = [wanted - timedelta(days=1), wanted]
        assert any(before.replace(tzinfo=None) < each < shown.replace(tzinfo=None) for each in skipped)
    between = (datetime.fromtimestamp(now - now % 60 + step, zone) for step in range(60, int(moment - now), 60))
    assert not any((each.hour, each.minute) == (until.time.hour, until.time.minute) for each in between)


@given(st.datetimes(datetime(2010, 1, 1), datetime(2033, 1, 1)), NOWS, ZONES)
def test_a_date_is_the_same_moment_whenever_one_asks(wall: datetime, now: int, zone: ZoneInfo) -> None:
    until = parse(f"{wall:%Y-%m-%d %H:%M}")
    moment = until.moment(now, zone)
    assert moment == until.moment(0, zone)
    shown = datetime.fromtimestamp(moment, zone).replace(tzinfo=None)
    assert shown >= wall.replace(second=0, microsecond=0)


@pytest.mark.parametrize(
    ("text", "now", "moment"),
    [
        ("07:00", at("2026-11-21 22:00"), at("2026-11-22 07:00")),
        ("07:00", at("2026-11-22 06:59:59"), at("2026-11-22 07:00")),
        ("7:00", at("2026-11-22 07:00"), at("2026-11-23 07:00")),
        ("07:00", at("2026-03-28 22:00"), at("2026-03-28 22:00") + 8 * 3600),  # a night of one hour less
        ("07:00", at("2026-10-24 22:00"), at("2026-10-24 22:00") + 10 * 3600),
        ("02:30", at("2026-03-28 22:00"), at("2026-03-29 03:00")),  # there is none that night
        ("02:30", at("2026-10-24 22:00"), at("2026-10-25 02:30")),
        ("02:30", at("2026-10-25 02:40"), at("2026-10-25 02:30", fold=1)),  # and once more
        ("2026-03-29 02:30", 0.0, at("2026-03-29 03:00")),
        ("2026-10-25T02:30:15", at("2027-01-01"), at("2026-10-25 02:30:15")),
        ("2026-11-20 07:00", at("2026-11-21"), at("2026-11-20 07:00")),  # over: nothing is sent
    ],
)
def test_the_wall_clock_counts(text: str, now: float, moment: float) -> None:
    assert parse(text).moment(now, BERLIN) == moment


def test_without_a_zone_it_is_this_machines_clock() -> None:
    now = datetime(2026, 11, 21, 22).timestamp()
    assert parse("07:00").moment(now) == datetime(2026, 11, 22, 7).timestamp()
    assert clock(now, now) == "22:00"


NEITHER = ["", "7", "7am", "24:00", "07:60", "2026-02-30 07:00", "0001-01-01 07:00", "2026-11-22", "07:00Z", "tomorrow"]


@pytest.mark.parametrize("text", NEITHER)
def test_what_is_no_time_is_told_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match=r'is not a time such as "07:00" or "2026-11-22 07:00", by the clock of this'):
        values.until(text)


@pytest.mark.parametrize("value", [420, 7, True, 7.0, -1, 1440])
def test_a_number_is_no_time_but_tells_which_one_another_reader_made_it_of(value: object) -> None:
    with pytest.raises(ValueError, match="is not a time such as") as caught:
        values.until(value)
    meant = {420: "(is 07:00 meant? Put it in quotes)", 7: "(is 00:07 meant? Put it in quotes)"}
    told = meant.get(value, "") if type(value) is int else ""
    assert str(caught.value).endswith(told or "by the clock of this machine")


def test_a_request_that_nine_of_ten_times_would_not_be_over_is_not_begun() -> None:
    one = Deadline()
    assert not one.due("openai", 10**12)
    one.move(Until("07:00", parse("07:00").time), at("2026-11-21 22:00"), BERLIN)
    end = at("2026-11-22 07:00")
    assert (one.name, one.moment) == ("limits.until (07:00)", end)
    assert (one.due("openai", end - 1), one.due("openai", end)) == (False, True), "at the start nothing is known"
    for seconds in range(1, 11):
        one.took("openai", float(seconds))
    assert one.usual("openai") == 9.0
    assert (one.due("openai", end - 9.5), one.due("openai", end - 9), one.due("other", end - 1)) == (False, True, False)
    for _ in range(RECENT):
        one.took("openai", 2.0)
    assert one.usual("openai") == 2.0


@given(st.lists(st.floats(0, 600), min_size=1, max_size=RECENT))
def test_nine_of_ten_recent_answers_came_as_fast_as_is_reckoned_with(took: list[float]) -> None:
    one = Deadline()
    for seconds in took:
        one.took("openai", seconds)
    within = sum(seconds <= one.usual("openai") for seconds in took)
    assert within >= 0.9 * len(took) - 1
    assert one.usual("openai") in took


def test_a_machine_that_slept_is_noticed_and_one_that_is_slow_is_not() -> None:
    clocks = Clocks(1000.0, 50.0)
    assert clocks.jumped(1001.0, 51.0) == 0
    assert clocks.jumped(1031.0, 81.0) == 0, "both went on"
    assert clocks.jumped(8231.0, 81.5) == 7199.5
    assert clocks.jumped(8232.0, 82.5) == 0
    assert clocks.jumped(1000.0, 83.5) == 0, "a clock that goes back says nothing of a sleep"


WHOLE = Span(1000.0, 100.0, "limits.concurrency: 8 requests at a time at openai")


@pytest.mark.parametrize(
    ("seconds", "given_", "expected"),
    [
        (100.0, 200, (100.0, WHOLE.limited_by, 0)),
        (100.0, 25, (25.0, "limits.until", 30)),
        (100.0, -5, (0.0, "limits.until", 40)),
        (None, 25, (None, WHOLE.limited_by, 0)),
        (None, 0, (0.0, "limits.until", 40)),
        (0.0, 25, (0.0, WHOLE.limited_by, 0)),
    ],
)
def test_a_plan_is_cut_short_where_there_is_less_time_than_it_takes(
    seconds: float | None, given_: int, expected: tuple[float | None, str, int]
) -> None:
    stops = datetime.fromtimestamp(1000 + given_)
    until = Until("then", stops.time(), stops.date())
    span = cut(Span(1000.0, seconds, WHOLE.limited_by), until, 40)
    assert ((span.seconds, span.limited_by, span.left), span.stops) == (expected, 1000.0 + given_)


def test_a_moment_is_told_with_its_day_where_that_is_not_plain() -> None:
    now = at("2026-11-21 22:00")
    assert clock(now + 8 * 3600, now, BERLIN) == "06:00"
    assert clock(now + 3 * DAY, now, BERLIN) == "2026-11-24 22:00"
    assert parse("2026-11-22 07:00").day == date(2026, 11, 22)
    assert deadline.parse(" 07:00 ").text == "07:00"
