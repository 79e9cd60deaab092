"""The table of dialects: how the families of image APIs are spoken."""

from collections.abc import Mapping

from batchgen.dialects import openai
from batchgen.dialects.base import Dialect

DIALECTS: Mapping[str, Dialect] = {"openai": openai}
