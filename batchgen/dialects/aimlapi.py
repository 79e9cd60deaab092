"""AI/ML API: as OpenAI's, but it names the price of each answer, and 403 means that the credit is used up."""

from collections.abc import Mapping
from dataclasses import replace

from batchgen.catalog import Provider
from batchgen.dialects import base, openai
from batchgen.errors import Blocked, ProviderError
from batchgen.task import Task, Usage
from batchgen.wire import Conversation, Reply

NANO = 10**9
USD_MOST = 1000.0  # a price beyond it is damage


def talk(task: Task, provider: Provider, handle: str = "") -> Conversation:
    """Ask for the images; fetch those that came as links."""
    reply = yield openai.request(task, provider)
    found = openai.found(reply)
    if not openai.is_stream(reply):
        found = replace(found, usage=_usage(base.body_of(reply), found.usage))
    return (yield from base.answered(found, task, provider))


def fault(reply: Reply) -> ProviderError:
    """What any reply but a 2xx means."""
    error = base.fault(reply)
    if reply.status == 403 and isinstance(error, Blocked):
        error.args = (f"out of credit: {error}",)
        error.code = "no_credit"
    return error


def _usage(body: Mapping[str, object], counted: Usage | None) -> Usage | None:
    """Tokens, where they are told, and in `meta.usage` what was charged; that it cost nothing is not believed."""
    meta = body.get("meta")
    told = meta.get("usage") if isinstance(meta, dict) else None
    usd = told.get("usd_spent") if isinstance(told, dict) else None
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 < usd <= USD_MOST:
        return counted
    used = told.get("credits_used") if isinstance(told, dict) else None
    credits = f"{used:g} credits" if isinstance(used, int | float) and abs(used) < 10**15 else ""
    note = "; ".join(each for each in (counted.note if counted else "", credits) if each)
    return replace(counted or Usage(), charged=round(usd * NANO), note=note)
