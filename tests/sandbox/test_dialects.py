"""What the other dialects do in ways of their own: prices, deliveries, edits, tasks, and words for misfortune."""

import hashlib
import time
from typing import Any

import httpx
import pytest

from .child import KEY, Child
from .conftest import Start
from .examples import DIALECTS
from .pictures import file, picture

SMALL = ("--paint", "cached", "--paint-bytes", "2000")


def ask(sandbox: Child, name: str, **changes: object) -> httpx.Response:
    dialect = DIALECTS[name]
    path = f"{name}/v1/images/generations{dialect.query}"
    return sandbox.post(path, headers=dialect.headers, json={**dialect.least, **changes})


def last(sandbox: Child) -> dict[str, Any]:
    charge: dict[str, Any] = sandbox.bill()["charges"][-1]
    return charge


def test_aimlapi_tells_what_it_took_to_the_last_nano_dollar(cached: Child) -> None:
    reply = ask(cached, "aimlapi", response_format="b64_json", size="1536x1024", quality="high").json()
    charge = last(cached)
    assert charge["nano_usd"] == 7 * 5_000 + 6208 * 40_000
    assert reply["meta"]["usage"] == {"usd_spent": charge["usd"], "credits_used": round(charge["usd"] * 2_000_000)}
    assert (reply["usage"], reply["background"], reply["size"]) == (charge["usage"], "opaque", "1536x1024")
    assert reply["data"][0]["b64_json"].startswith("iVBOR")


def test_aimlapi_edits_up_to_sixteen_files_under_either_name(cached: Child) -> None:
    fields = {"model": "openai/gpt-image-1", "prompt": "x"}
    for name in ("image", "image[]"):
        files = [(name, file()), (name, file("L", (600, 1200))), ("mask", file("RGBA"))]
        reply = cached.post("aimlapi/v1/images/edits", data={**fields, "n": "2"}, files=files)
        tokens = reply.json()["usage"]["input_tokens_details"]["image_tokens"]
        assert (len(reply.json()["data"]), tokens) == (2, 65 + 129 + 65 + 2 * 129)
    many = cached.post("aimlapi/v1/images/edits", data=fields, files=[("image", file())] * 17)
    assert many.json()["message"].startswith("Body validation error: image: ")
    moderated = {**fields, "moderation": "low"}
    assert cached.post("aimlapi/v1/images/edits", data=moderated, files=[("image", file())]).status_code == 400


def test_onerouter_edits_what_a_list_of_links_names(cached: Child) -> None:
    body = {"model": "gpt-image-1", "prompt": "x", "image_urls": ["https://example.com/a.png"]}
    reply = cached.post("onerouter/v1/images/edits", json=body)
    (image,) = reply.json()["data"]
    assert (set(image), image["revised_prompt"]) == ({"url", "revised_prompt"}, "x")
    assert (last(cached)["inputs"], last(cached)["operation"]) == (["link:https://example.com/a.png"], "edit")
    assert cached.post("onerouter/v1/images/edits", json={**body, "image_urls": []}).status_code == 422
    assert cached.post("onerouter/v1/images/edits", json={**body, "mask": "x"}).status_code == 422


def test_onerouter_says_that_the_balance_is_gone_with_a_good_status(cached: Child) -> None:
    before = len(cached.fates())
    reply = ask(cached, "onerouter", prompt="[code-402]")
    assert (reply.status_code, reply.json()) == (200, {"code": 402, "message": "insufficient balance"})
    assert len(cached.fates()) == before


def test_a_task_is_paid_for_at_once_and_done_in_its_time(start: Start) -> None:
    sandbox = start(*SMALL, "--latency", "0.3")
    promise = ask(sandbox, "onerouter", model="openai/gpt-image-2/text-to-image", n=2).json()
    assert (promise["code"], promise["data"]["status"], sandbox.fates()) == (200, "created", ["delivered"])
    query = promise["data"]["urls"]["query"]
    assert query == f"{sandbox.root}/onerouter/v1/images/tasks/{promise['data']['task_id']}"
    assert sandbox.client.get(query).status_code == 401
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] != "completed":
        seen.append(sandbox.client.get(query, headers={"Authorization": KEY}).json()["data"])
        time.sleep(0.05)
    assert list(dict.fromkeys(poll["status"] for poll in seen)) == ["created", "in_progress", "completed"]
    assert [len(poll["outputs"]) for poll in seen] == [0] * (len(seen) - 1) + [2]
    assert all(sandbox.client.get(link).content.startswith(b"\x89PNG") for link in seen[-1]["outputs"])
    lost = sandbox.get("onerouter/v1/images/tasks/task_none")
    assert (lost.status_code, lost.json()) == (200, {"code": 404, "message": "task not found"})


@pytest.mark.parametrize(
    ("mark", "fate", "reason"),
    [("[task-failed]", "task-failed", "failed"), ("[task-moderated]", "refused-output", "moderation")],
)
def test_a_task_may_fail_and_is_billed_all_the_same(cached: Child, mark: str, fate: str, reason: str) -> None:
    promise = ask(cached, "onerouter", model="gpt-image-2", prompt=mark).json()["data"]
    first, second = (cached.get(f"onerouter/v1/images/tasks/{promise['task_id']}").json()["data"] for _ in range(2))
    assert (first["status"], second["status"], second["outputs"]) == ("created", "failed", [])
    assert reason in second["fail_reason"]
    assert (last(cached)["fate"], last(cached)["nano_usd"] > 0) == (fate, True)


def test_classic_answers_with_nothing_but_images(cached: Child) -> None:
    reply = ask(cached, "classic", size="256x256", response_format="b64_json", n=2).json()
    assert (set(reply), [set(item) for item in reply["data"]]) == ({"data"}, [{"b64_json"}] * 2)
    assert (last(cached)["model"], last(cached)["size"], last(cached)["nano_usd"] > 0) == ("", "256x256", True)


def test_azure_wants_its_own_header_and_a_version(cached: Child) -> None:
    body, path = DIALECTS["azure"].least, "azure/v1/images/generations"
    assert cached.post(f"{path}?api-version=preview", json=body).status_code == 401
    unversioned = cached.post(path, json=body, headers={"api-key": "k"})
    assert (unversioned.status_code, unversioned.json()["error"]["message"]) == (404, "Resource not found")
    assert ask(cached, "azure").json()["quality"] == "high"


def test_localai_inpaints_what_is_white_and_tells_no_usage(cached: Child) -> None:
    files = [("image", file()), ("mask", file("L"))]
    reply = cached.post("localai/v1/images/inpainting", data={"prompt": "x"}, files=files).json()
    assert (set(reply["data"][0]), reply["usage"]["total_tokens"], bool(reply["id"])) == ({"url"}, 0, True)
    assert (last(cached)["operation"], last(cached)["size"]) == ("edit", "512x512")
    assert cached.post("localai/v1/images/inpainting", data={"prompt": "x"}, files=files[:1]).status_code == 400


def test_vllm_calls_the_mask_by_another_name(cached: Child) -> None:
    files = [("image[]", file()), ("mask_image", file("L"))]
    reply = cached.post("vllm/v1/images/edits", data={"prompt": "x", "size": "640x480"}, files=files)
    assert (reply.status_code, set(reply.json())) == (200, {"created", "data"})
    assert last(cached)["mask"] == hashlib.sha256(picture("L")).hexdigest()
    wrong = cached.post("vllm/v1/images/edits", data={"prompt": "x"}, files=[files[0], ("mask", file("L"))])
    assert wrong.json()["detail"][0]["type"] == "extra_forbidden"


def test_sglang_sends_links_for_what_is_new_and_bytes_for_what_is_edited(cached: Child) -> None:
    (made,) = ask(cached, "sglang", seed=7).json()["data"]
    edited = cached.post("sglang/v1/images/edits", data={"prompt": "x", "seed": "7"}, files={"image": file()}).json()
    assert set(made) == set(edited["data"][0]) == {"b64_json", "url", "revised_prompt", "file_path"}
    assert (made["b64_json"], edited["data"][0]["url"]) == (None, None)
    assert (edited["data"][0]["b64_json"][:5], "usage" in edited) == ("iVBOR", False)


DECLINED = {
    "aimlapi": {"429": 429, "quota": 403, "billing": 403, "401": 401, "403": 403, "400": 400, "500": 500},
    "onerouter": {"429": 429, "quota": 402, "billing": 402, "401": 401, "403": 403, "400": 400, "500": 500},
    "classic": {"429": 429, "quota": 429, "billing": 400, "401": 401, "403": 403, "400": 400, "500": 500},
}


def test_what_is_declined_is_said_in_each_dialects_shape(start: Start) -> None:
    names = [*DECLINED["aimlapi"], "503-retry", "echo"]
    sandbox = start(*SMALL, "--script", " ".join(names * 3))
    for dialect, statuses in DECLINED.items():
        replies = [ask(sandbox, dialect) for _ in names]
        assert [reply.status_code for reply in replies] == [*statuses.values(), 503, 400]
        shape = {"aimlapi": "message", "onerouter": "detail", "classic": "error"}[dialect]
        said = [reply.json()[shape] for reply in replies]
        assert f"Bearer {KEY}" in str(said[-1])
        assert dialect != "aimlapi" or "credits" in said[1]
        assert dialect != "classic" or all(error["code"] is None for error in said)
        assert replies[-2].headers["retry-after"] == "1"
    assert sandbox.fates() == []


def test_spoils_leave_what_a_dialect_does_not_tell(start: Start) -> None:
    spoils = ["badpng", "noiend", "wrongformat", "junk64", "dataurl", "nodata", "two", "nousage", "badusage"]
    spoils.append("stream-error")
    sandbox = start(*SMALL, "--script", " ".join(spoils * 3))
    classic = [ask(sandbox, "classic") for _ in spoils]
    assert [len(reply.json()["data"]) for reply in classic[:-1]] == [1, 1, 1, 1, 1, 0, 2, 1, 1]
    tasks = [ask(sandbox, "onerouter", model="gpt-image-2") for _ in spoils]
    assert all(reply.json()["data"]["status"] == "created" for reply in tasks[:-1])
    aimlapi = [ask(sandbox, "aimlapi") for _ in spoils]
    assert {"usage", "meta"} & set(aimlapi[7].json()) == set()
    assert aimlapi[8].json()["meta"]["usage"] == {"credits_used": -5, "usd_spent": -5}
    assert [replies[-1].status_code for replies in (classic, tasks, aimlapi)] == [500] * 3
    assert len(sandbox.fates()) == 3 * len(spoils)


def test_a_flat_price_is_an_images_whatever_its_tokens(start: Start) -> None:
    sandbox = start(*SMALL, "--flat", "0.04", "--any-model", "--script", "redirect")
    away = ask(sandbox, "aimlapi").headers["location"]
    assert sandbox.post(away[1:], json=DIALECTS["aimlapi"].least).json()["meta"]["usage"]["usd_spent"] == 0.04
    assert ask(sandbox, "myrouter", n=3, model="flux-1").json()["usage"]["total_tokens"] > 0
    assert [charge["nano_usd"] for charge in sandbox.bill()["charges"]] == [40_000_000, 120_000_000]
    assert sandbox.bill()["charges"][0]["path"] == "/elsewhere/aimlapi/v1/images/generations"
