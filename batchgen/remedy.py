"""What a person can do where a provider wants one."""

from batchgen.catalog import Provider
from batchgen.dialects.base import NO_CREDIT
from batchgen.errors import Blocked


def remedy(error: Blocked, provider: Provider) -> str:
    """The end of a sentence that says how it is blocked."""
    if error.status == 401 and provider.api_key_env:
        says = f". Put a key that it takes into {provider.api_key_env}"
        return f"{says}, or leave it out of keys" if provider.label else says
    if error.status == 402 or error.code in NO_CREDIT:
        return ". Add credit or raise the limit there; limits.on_blocked: wait tries again by itself"
    return ". See there what this key and account may do" if error.status == 403 else ""
