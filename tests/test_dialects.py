"""The dialects: replies in, words and errors out. No socket is needed."""

import json
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen import catalog
from batchgen.dialects import DIALECTS, base, openai
from batchgen.errors import Blocked, ProviderError, Refused, Rejected, Transient, Unknown, Unusable
from batchgen.task import Operation, Task, Usage, Variant
from batchgen.wire import Answer, Fetched, Inline, Reply, Request

PROVIDER = catalog.provider("openai", {})
TALKERS = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


def task(**params: object) -> Task:
    variant = Variant("openai", "gpt-image-2", Operation.GENERATE, tuple(sorted(params.items())), ())
    return Task("key", variant, "Otter “❄”", 1, 1, "otter")


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def answer(body: object, asked: Task | None = None) -> Answer | Request:
    """What the conversation says to a first 2xx: its end, or the next request."""
    talk = openai.talk(asked or task(), PROVIDER)
    next(talk)
    try:
        return talk.send(reply(body))
    except StopIteration as end:
        found: Answer = end.value
        return found


# what went wrong


def said(code: str | None = None, kind: str = "invalid_request_error", message: str = "no", **more: object) -> object:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


HTML = b"<html><h1>502 Bad Gateway</h1></html>"
IMAGE = "image_generation_user_error"
FAULTS: list[tuple[str, int, object, type[ProviderError]]] = [
    *(("bad parameter", 400, said(code), Rejected) for code in ("invalid_value", "unknown_parameter", None)),
    ("missing parameter", 400, said("missing_required_parameter"), Rejected),
    ("S8 safety", 400, said("moderation_blocked", IMAGE), Refused),
    ("safety, DALL·E era", 400, said("content_policy_violation"), Refused),
    ("safety, Azure", 400, said("content_filter"), Refused),
    ("safety, Azure too", 400, said("contentFilter"), Refused),
    *(
        ("S7 hard limit", 400, said("billing_hard_limit_reached", kind), Blocked)
        for kind in (IMAGE, "insufficient_quota")
    ),
    ("S6 key", 401, said("invalid_api_key"), Blocked),
    ("S6 key, no JSON", 401, HTML, Blocked),
    ("no money, router", 402, {"message": "pay"}, Blocked),
    ("verify the organization", 403, said(None), Blocked),
    ("country", 403, said("unsupported_country_region_territory"), Blocked),
    ("model", 404, said("model_not_found"), Rejected),
    ("S5 timeout there", 408, said(None), Unknown),
    ("conflict", 409, said(None), Transient),
    ("N16 too large", 413, HTML, Rejected),
    ("unprocessable", 422, {"detail": [{"msg": "size literal_error"}]}, Rejected),
    ("S1 rate, images", 429, said("rate_limit_exceeded", "input-images"), Transient),
    ("S1 rate, tokens", 429, said("rate_limit_exceeded", "tokens"), Transient),
    ("slow down", 429, said("slow_down", "rate_limit_error"), Transient),
    ("429 without a word", 429, b"", Transient),
    *(("S7 no money", 429, said(code, "insufficient_quota"), Blocked) for code in ("insufficient_quota", "429", None)),
    *(("S7 no money", 429, said(code, "requests"), Blocked) for code in sorted(base.NO_CREDIT)),
    ("server error", 500, said("server_error", "server_error"), Transient),
    ("S5 500 of a gateway", 500, HTML, Unknown),
    ("S5 502", 502, HTML, Unknown),
    ("S5 502 with an envelope", 502, said("server_error"), Unknown),
    ("overloaded", 503, said("server_is_overloaded"), Transient),
    ("slow down, older", 503, said("slow_down"), Transient),
    ("S5 bare 503", 503, b"", Unknown),
    ("S5 504", 504, said(None), Unknown),
    *(("S5 of Cloudflare", status, HTML, Unknown) for status in range(520, 530)),
    *(("S5 529 with an envelope", 529, said("overloaded"), Unknown) for _ in range(1)),
    *(("S22 S23 a redirect", status, b"", Rejected) for status in (301, 302, 303, 307, 308)),
]


@TALKERS
@pytest.mark.parametrize(
    ("status", "body", "kind"), [row[1:] for row in FAULTS], ids=[f"{row[1]} {row[0]}" for row in FAULTS]
)
def test_every_no_is_named_for_the_reaction_it_asks_for(
    dialect: base.Dialect, status: int, body: object, kind: type[ProviderError]
) -> None:
    error = dialect.fault(reply(body, status, x_request_id="req_1"))
    if dialect is DIALECTS["litellm"] and status >= 500:  # a relay's own word is no proof of what became of it behind
        kind = Unknown
    assert type(error) is kind
    assert (error.status, error.request_id) == (status, "req_1")
    assert error.code
    assert str(error)


@pytest.mark.parametrize("name", sorted(DIALECTS.keys() - {"litellm"}))
def test_what_is_wrong_with_the_users_image_is_no_refusal(name: str) -> None:
    """LiteLLM's codes are gone: there the type alone is left, which is that of refusals, too."""
    error = DIALECTS[name].fault(reply(said("invalid_input_fidelity_model", IMAGE), 400))
    assert (type(error), error.status, error.code) == (Rejected, 400, "invalid_input_fidelity_model")


GATEWAY = (
    "litellm.APIConnectionError: APIConnectionError: OpenAIException - Connection error.\n\n"
    "LiteLLM: model group 'gpt-image-2' failed"
)
MODERATED = {
    "message": "Your request was rejected by the safety system.",
    "type": IMAGE,
    "code": "moderation_blocked",
    "moderation_details": {"moderation_stage": "input", "categories": ["violence"]},
}


def upstream(**error: object) -> object:
    """What was said behind a proxy, inside of what the proxy says of it."""
    message = (
        f"litellm.BadRequestError: OpenAIException - {json.dumps({'error': error})} Received Model Group=gpt-image-2"
    )
    return said("400", "None", message)


RELAYED: list[tuple[str, int, object, type[ProviderError]]] = [
    ("a connection behind it", 500, said("500", "internal_server_error", GATEWAY), Unknown),
    ("any 5xx of its own", 503, said("503", "None", "litellm.ServiceUnavailableError: no"), Unknown),
    ("its key", 400, said("400", "no_db_connection", "No connected db."), Blocked),
    ("its key, of its table", 400, said("400", "token_not_found_in_db", "Authentication Error"), Blocked),
    ("its budget", 400, said("400", "budget_exceeded", "Budget has been exceeded!"), Blocked),
    (
        "no credit behind it",
        429,
        said("429", "throttling_error", "You have no credit left. Retrying does not restore access"),
        Blocked,
    ),
    ("a quota behind it", 429, said("429", "throttling_error", "You exceeded your current quota"), Blocked),
    ("a rate", 429, said("429", "throttling_error", "Rate limit reached for gpt-image-2"), Transient),
    ("safety", 400, said("400", IMAGE, "Your request was rejected by the safety system"), Refused),
    ("no money, as the user's fault", 400, said("400", IMAGE, "Billing hard limit has been reached."), Blocked),
    ("a parameter", 400, said("400", "invalid_request_error", "Unknown parameter: 'seed'."), Rejected),
    ("safety, told whole", 400, upstream(**MODERATED), Refused),
    ("money, told whole", 400, upstream(message="no", type="insufficient_quota", code="insufficient_quota"), Blocked),
    ("a parameter, told whole", 400, upstream(message="no", type="invalid_request_error", code=None), Rejected),
    ("half of what was said", 400, said("400", "None", 'OpenAIException - {"error": {"message": "no'), Rejected),
]


@pytest.mark.parametrize(
    ("status", "body", "kind"), [row[1:] for row in RELAYED], ids=[f"{row[1]} {row[0]}" for row in RELAYED]
)
def test_a_proxys_no_is_named_by_what_was_said_behind_it(status: int, body: object, kind: type[ProviderError]) -> None:
    error = DIALECTS["litellm"].fault(reply(body, status, x_litellm_call_id="call-1", x_litellm_version="1.109.1"))
    assert (type(error), error.status) == (kind, status)
    assert error.code
    assert str(error)


@pytest.mark.parametrize(
    "body",
    [
        said("400", "None", "no"),
        upstream(message="no", type="x", code=None),
    ],
)
def test_a_proxys_no_names_the_request_for_its_support(body: object) -> None:
    assert DIALECTS["litellm"].fault(reply(body, 400, x_litellm_call_id="call-1")).request_id == "call-1"


@pytest.mark.parametrize(
    ("body", "billed"),
    [
        (said("400", IMAGE, "Your request was rejected by the safety system"), True),
        (upstream(**MODERATED), False),
        (upstream(**{**MODERATED, "moderation_details": {"moderation_stage": "output"}}), True),
    ],
)
def test_behind_a_proxy_a_refusal_may_be_billed_unless_its_stage_is_told(body: object, billed: bool) -> None:
    error = DIALECTS["litellm"].fault(reply(body, 400, x_litellm_call_id="call-1"))
    assert isinstance(error, Refused)
    assert error.billed is billed


@TALKERS
@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
def test_a_5xx_that_a_proxy_hands_on_may_be_billed_whoever_is_thought_to_speak(
    dialect: base.Dialect, status: int
) -> None:
    error = dialect.fault(reply(said("server_error", "server_error"), status, x_litellm_call_id="c", retry_after="1"))
    assert type(error) is Unknown


@TALKERS
@given(
    st.integers(300, 599), st.binary(max_size=50), st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text())
)
def test_any_other_answer_is_some_error(
    dialect: base.Dialect, status: int, body: bytes, headers: Mapping[str, str]
) -> None:
    error = dialect.fault(Reply(status, headers, body))
    assert isinstance(error, ProviderError)
    assert str(error)


WORDS = ["error", "message", "type", "code", "data", "usage", "b64_json", "url", "moderation_details"]
SCALARS = st.none() | st.booleans() | st.integers() | st.text()
ANYTHING = st.recursive(SCALARS, lambda each: st.lists(each) | st.dictionaries(st.sampled_from(WORDS), each))


@given(ANYTHING)
def test_json_of_any_shape_is_an_answer_or_an_error_of_the_provider(body: object) -> None:
    assert isinstance(openai.fault(reply(body, 400)), ProviderError)
    with suppress(Unusable):
        answer(body)


def test_a_503_that_says_when_to_come_back_was_not_billed() -> None:
    """S5."""
    assert type(openai.fault(reply(b"", 503, retry_after="3"))) is Transient
    assert type(openai.fault(reply(HTML, 502, retry_after="3"))) is Unknown


@pytest.mark.parametrize(("stage", "billed"), [("input", False), ("output", True), ("unknown", True), (None, False)])
def test_a_refusal_may_be_billed_once_an_image_was_made(stage: str | None, billed: bool) -> None:
    details = stage and {"moderation_stage": stage, "categories": ["violence"]}
    error = openai.fault(reply(said("moderation_blocked", IMAGE, moderation_details=details), 400))
    assert isinstance(error, Refused)
    assert error.billed is billed


def test_s24_words_in_another_encoding_are_kept_as_well_as_can_be() -> None:
    error = openai.fault(reply("Größe ist ungültig".encode("latin1"), 400))
    assert str(error) == "HTTP 400 Gr��e ist ung�ltig"


def test_the_providers_own_words_are_kept_within_bounds() -> None:
    assert str(openai.fault(reply(said("x", message="m" * 10**5), 400))) == "m" * base.TEXT_MOST
    assert len(str(openai.fault(reply(b"<html>" + b"x" * 10**5, 502)))) < 300


# how long to wait


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "20"}, "", 20),
        ({"retry-after": "0"}, "", 0),
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after-ms": "240"}, "", 0.24),
        ({"retry-after-ms": "240", "retry-after": "20"}, "", 0.24),
        ({"retry-after-ms": "soon", "retry-after": "20"}, "", 20),
        ({"retry-after": "20"}, "Please try again in 12s.", 20),
        *(({"retry-after": bad}, "", None) for bad in ("nan", "inf", "-inf", "-1", "1e999", "soon", "", "315360000")),
        *(({"retry-after": bad}, "try again in 12s", 12) for bad in ("nan", "inf", "-1", "1e999", "soon", "315360000")),
        *(({"retry-after-ms": bad}, "", None) for bad in ("nan", "inf", "-1", "1e999")),
        ({}, "Please try again in 12s.", 12),
        ({}, "Please try again in 240ms.", 0.24),
        ({}, "Please try again in 7.5s. Visit", 7.5),
        ({}, "Please TRY AGAIN IN 1m2s", 62),
        ({}, "try again in 1h0m0.5s", 3600.5),
        ({}, "try again in a while", None),
        ({}, "try again in 12 parsecs", None),
        ({}, "", None),
    ],
)
def test_s1_s3_a_wait_is_read_where_it_makes_sense(
    headers: dict[str, str], message: str, seconds: float | None
) -> None:
    error = openai.fault(Reply(429, headers, json.dumps(said("rate_limit_exceeded", message=message)).encode()))
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("until", "date", "seconds"),
    [
        ("Fri, 20 Nov 2026 22:01:00 GMT", "Fri, 20 Nov 2026 22:00:00 GMT", 60),
        ("Fri, 20 Nov 2026 22:01:00 GMT", "Fri, 20 Nov 2026 23:00:00 GMT", 0),
        ("Fri, 20 Nov 1970 00:01:00 GMT", "Fri, 20 Nov 1970 00:00:00 GMT", 60),
        ("Fri, 20 Nov 2026 22:01:00 GMT", "", None),
        ("Fri, 20 Nov 2026 22:01:00 GMT", "Fri, 20 Nov 2026 22:00:00 -0000", None),
        ("Fri, 99 Nov 2026 22:01:00 GMT", "Fri, 20 Nov 2026 22:00:00 GMT", None),
        ("Fri, 20 Nov 99999999999 22:01:00 GMT", "Fri, 20 Nov 2026 22:00:00 GMT", None),
    ],
)
def test_s2_a_date_is_held_against_the_servers_own_clock(until: str, date: str, seconds: float | None) -> None:
    assert base.wait_hint(reply(b"", 429, retry_after=until, date=date)) == seconds


# what is asked, and what comes back


@TALKERS
def test_the_first_request_asks_for_what_the_task_says_with_the_key(dialect: base.Dialect) -> None:
    request = next(dialect.talk(task(n=2, size="1024x1024"), PROVIDER))
    assert (request.method, request.auth) == ("POST", True)
    assert "://" not in request.url
    assert request.json
    assert {"model": "gpt-image-2", "prompt": "Otter “❄”", "n": 2, "size": "1024x1024"}.items() <= request.json.items()


@TALKERS
def test_the_same_task_is_said_in_the_same_words(dialect: base.Dialect) -> None:
    """Recovery runs the conversation again."""
    assert next(dialect.talk(task(n=2), PROVIDER)) == next(dialect.talk(task(n=2), PROVIDER))


USAGE = {"input_tokens": 10, "output_tokens": 196, "total_tokens": 206}


def test_images_come_inline_in_their_order() -> None:
    body = {"created": 1, "data": [{"b64_json": "QQ=="}, {"b64_json": "Qg=="}], "usage": USAGE}
    expected = Usage(input_text=10, output_image=196, total=206, unsplit=True)
    assert answer(body, task(n=2)) == Answer((Inline("QQ=="), Inline("Qg==")), expected, said=(("created", 1),))


def test_s18_links_are_fetched_one_by_one_without_the_key() -> None:
    talk = openai.talk(task(n=3), PROVIDER)
    next(talk)
    data = [{"url": "https://cdn/1"}, {"b64_json": "QQ=="}, {"url": "https://cdn/2"}]
    first = talk.send(reply({"data": data}))
    second = talk.send(one := reply(b"one"))
    assert [(each.method, each.url, each.auth, each.json) for each in (first, second)] == [
        ("GET", f"https://cdn/{k}", False, None) for k in (1, 2)
    ]
    with pytest.raises(StopIteration) as end:
        talk.send(two := reply(b"two"))
    assert end.value.value == Answer((Fetched(one), Inline("QQ=="), Fetched(two)), None)


@pytest.mark.parametrize("item", [{}, None, 5, "x", [], {"b64_json": ""}, {"b64_json": None, "url": None}])
def test_s16_a_picture_that_was_promised_and_is_missing_is_none(item: object) -> None:
    found = answer({"data": [{"b64_json": "QQ=="}, item]}, task(n=2))
    assert isinstance(found, Answer)
    assert found.pictures == (Inline("QQ=="), None)


@pytest.mark.parametrize(("n", "came", "pictures"), [(1, 2, 2), (3, 1, 3), (2, 2, 2)])
def test_s16_more_images_than_asked_for_are_kept_and_fewer_are_noticed(n: int, came: int, pictures: int) -> None:
    found = answer({"data": [{"b64_json": "QQ=="}] * came}, task(n=n))
    assert isinstance(found, Answer)
    assert len(found.pictures) == pictures
    assert found.pictures.count(None) == max(0, n - came)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (HTML, "not_json"),
        (b"", "not_json"),
        (b"null", "not_json"),
        (b"[]", "not_json"),
        (b'{"data": [{"b64_json": "QQ', "not_json"),
        (b"[" * 200_000, "not_json"),
        ({}, "no_image"),
        ({"created": 1}, "no_image"),
        ({"data": []}, "no_image"),
        ({"data": None}, "no_image"),
        ({"data": {"task_id": "t"}}, "no_image"),
        (said("server_error"), "server_error"),
    ],
)
def test_s9_s10_s11_s12_a_200_without_an_image_is_billed_and_unusable(body: object, code: str) -> None:
    with pytest.raises(Unusable) as error:
        answer(body)
    assert error.value.code == code
    assert error.value.status == 200


@pytest.mark.parametrize(
    ("code", "kind"), [("insufficient_quota", Blocked), ("moderation_blocked", Refused), ("invalid_api_key", Blocked)]
)
def test_an_error_inside_a_200_keeps_its_own_kind(code: str, kind: type[ProviderError]) -> None:
    with pytest.raises(kind):
        answer(said(code))


# usage


def usage(into: object, out: object, total: object = None, **details: object) -> Usage | None:
    return base.usage_of({"usage": {"input_tokens": into, "output_tokens": out, "total_tokens": total, **details}})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (usage(50, 50, 100), Usage(input_text=50, output_image=50, total=100, unsplit=True)),
        (
            usage(50, 50, 100, input_tokens_details={"text_tokens": 10, "image_tokens": 40}),
            Usage(input_text=10, input_image=40, output_image=50, total=100),
        ),
        (
            usage(10, 60, 70, output_tokens_details={"image_tokens": 50, "text_tokens": 10}),
            Usage(input_text=10, output_image=50, output_text=10, total=70, unsplit=True),
        ),
        (
            usage(10, 60, 70, input_tokens_details={"cached_tokens": 8}),
            Usage(input_text=10, cached_text=8, output_image=60, total=70, unsplit=True),
        ),
        (
            usage(10, 60, 70, input_tokens_details={"image_tokens": 6, "cached_tokens": 8}),
            Usage(input_text=4, input_image=6, cached_text=4, cached_image=4, output_image=60, total=70, unsplit=True),
        ),
        (usage(10, 60, 70, input_tokens_details=None), Usage(input_text=10, output_image=60, total=70, unsplit=True)),
        (usage(10, 60), Usage(input_text=10, output_image=60, total=70, unsplit=True)),
        (usage(10, 60, 71), Usage(input_text=10, output_image=60, total=70, note="total_tokens said 71", unsplit=True)),
    ],
)
def test_s15_usage_is_read_by_kind_of_token_and_a_wrong_total_is_noted(found: Usage | None, expected: Usage) -> None:
    assert found == expected


BAD = [-1, -(10**30), 10**9, 10**30, 1.5, "50", None, True, [], {}]


@pytest.mark.parametrize("bad", BAD)
def test_s13_a_count_that_cannot_be_is_no_usage(bad: object) -> None:
    assert usage(bad, 50, 100) is None
    assert usage(50, bad, 100) is None


@pytest.mark.parametrize("bad", BAD)
def test_s13_a_detail_that_cannot_be_is_left_out(bad: object) -> None:
    details = {"image_tokens": bad, "text_tokens": bad, "cached_tokens": bad}
    found = usage(10, 60, 70, input_tokens_details=details, output_tokens_details=details)
    assert found
    assert 0 <= found.input_image <= 10
    assert found.input_text + found.input_image == 10
    assert found.output_text + found.output_image == 60


@pytest.mark.parametrize("body", [{}, {"usage": None}, {"usage": []}, {"usage": {}}, {"usage": {"prompt_tokens": 5}}])
def test_s14_usage_may_be_missing(body: dict[str, object]) -> None:
    assert base.usage_of(body) is None


def test_counts_that_are_all_zero_are_no_usage() -> None:
    """LocalAI sends them; a price of nothing would be a lie."""
    assert usage(0, 0, 0) is None


@pytest.mark.parametrize(
    "odd",
    [
        b'"usage": {"input_tokens": NaN}',
        b'"usage": {"input_tokens": ' + b"9" * 5000 + b"}",
        b'"revised_prompt": "\\ud83d"',
    ],
    ids=["NaN", "5,000 digits", "half a surrogate pair"],
)
def test_s13_an_odd_value_beside_an_image_does_not_cost_the_image(odd: bytes) -> None:
    found = answer(b'{"data": [{"b64_json": "QQ=="}], ' + odd + b"}")
    assert isinstance(found, Answer)
    assert found.pictures == (Inline("QQ=="),)


def test_the_tokens_of_an_svgs_author_are_not_overlooked() -> None:
    svg = {"model": "m", "input_tokens": 900, "output_tokens": 4000, "total_tokens": 4900}
    found = answer({"data": [{"b64_json": "QQ=="}], "usage": USAGE, "svg_usage": svg})
    assert isinstance(found, Answer)
    assert found.usage is None or found.usage.note


def test_an_image_that_took_no_tokens_is_no_usage() -> None:
    assert usage(50, 0, 50) is None


@pytest.mark.parametrize("odd", [b"\\ud83d", b"\\udc00\\ud800", b"a \\udfff b"])
def test_u8_what_is_kept_of_an_answer_can_be_written_down(odd: bytes) -> None:
    words = b'"size": "%s", "quality": "%s", "created": 1' % (odd, odd)
    found = answer(b'{"data": [{"b64_json": "QQ==", "revised_prompt": "%s"}], %s}' % (odd, words))
    assert isinstance(found, Answer)
    (picture,) = found.pictures
    assert picture
    assert dict(found.said).keys() == {"created", "quality", "size"}
    for text in (picture.revised, *(value for _, value in found.said if isinstance(value, str))):
        assert "?" in text.encode().decode()


@pytest.mark.parametrize(
    ("value", "most", "expected"),
    [
        ("otter", 500, "otter"),
        ("o" * 600, 500, "o" * 500),
        ("\ud83d", 5, "?"),
        (None, 5, ""),
        (7, 5, ""),
        (["a"], 5, ""),
    ],
)
def test_text_is_kept_within_bounds_and_nothing_else_is(value: object, most: int, expected: str) -> None:
    assert base.kept(value, most) == expected


@pytest.mark.parametrize("value", [True, 2**53, -(10**400), 1.5, None, [], {}])
def test_a_value_that_no_table_can_hold_is_not_kept(value: object) -> None:
    assert all(abs(kept) < 2**53 for _, kept in base.said_of({"created": value}) if isinstance(kept, int))


@pytest.mark.parametrize("handle", ["", "t 1", "tä", "t\n", "\x00", "\ud800", "t" * 201, 1.5, None, ["t"]])
def test_a_name_to_poll_by_that_can_be_none_is_no_task(handle: object) -> None:
    talk = DIALECTS["onerouter"].talk(task(), catalog.provider("onerouter", {}))
    next(talk)
    with pytest.raises(Unusable, match="neither an image nor a task"):
        talk.send(reply({"data": {"task_id": handle}}))


def test_a_name_to_poll_by_leads_to_no_other_path() -> None:
    talk = DIALECTS["onerouter"].talk(task(), catalog.provider("onerouter", {}))
    next(talk)
    poll = talk.send(reply({"data": {"task_id": "../../x?y#z"}}))
    assert isinstance(poll, Request)
    assert (poll.url, poll.handle) == ("images/tasks/..%2F..%2Fx%3Fy%23z", "../../x?y#z")


def streamed(*events: bytes, kind: str = "text/event-stream") -> Answer:
    talk = openai.talk(task(), PROVIDER)
    next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send(reply(b"".join(events), content_type=kind))
    found: Answer = end.value.value
    return found


COMPLETED = b'data: {"type": "image_generation.completed", "b64_json": "QQ=="}\n\n'


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/plain", ""])
@pytest.mark.parametrize("first", [b"", b": ping\n\n", b"event: x\n", b"id: 1\n", b"retry: 9\n\n", b"\r\n"])
def test_a_stream_is_one_by_how_it_begins_whatever_it_is_called(kind: str, first: bytes) -> None:
    assert streamed(first, COMPLETED, kind=kind).pictures == (Inline("QQ=="),)


def test_an_event_may_be_named_beside_its_data() -> None:
    event = b'event: image_generation.completed\ndata: {"b64_json": "QQ=="}\n\n'
    assert streamed(event).pictures == (Inline("QQ=="),)


@pytest.mark.parametrize("wrong", [b'data: {"error": {"message": "no", "code": "server_error"}}\n\n'])
def test_an_error_beside_the_whole_image_costs_no_image(wrong: bytes) -> None:
    assert streamed(wrong, COMPLETED, wrong).pictures == (Inline("QQ=="),)
    talk = openai.talk(task(), PROVIDER)
    next(talk)
    with pytest.raises(Unusable, match="no"):
        talk.send(reply(wrong))


def test_an_error_beside_images_is_a_remark() -> None:
    found = answer({"error": {"message": "one was moderated"}, "data": [{"b64_json": "QQ=="}]})
    assert isinstance(found, Answer)
    assert found.pictures == (Inline("QQ=="),)


@TALKERS
def test_u8_the_words_of_an_error_can_be_written_down(dialect: base.Dialect) -> None:
    body = b'{"error": {"message": "half \\ud83d", "code": "\\udc00%s", "type": "\\ud800"}}' % (b"x" * 500)
    error = dialect.fault(reply(body, 400))
    assert f"{error} {error.code}".encode().decode()
    assert len(error.code) <= base.CODE_MOST
