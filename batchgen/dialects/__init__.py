"""The table of dialects: how the families of image APIs are spoken."""

from collections.abc import Mapping

from batchgen.dialects import aimlapi, classic, litellm, myrouter, onerouter, openai
from batchgen.dialects.base import Dialect

DIALECTS: Mapping[str, Dialect] = {
    "openai": openai,
    "aimlapi": aimlapi,
    "onerouter": onerouter,
    "myrouter": myrouter,
    "classic": classic,
    "litellm": litellm,
}
