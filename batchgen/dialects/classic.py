"""OpenAI's images API as it was before gpt-image-1, which older servers speak: links or base64, and no usage.

A model is named all the same: those servers ask for one, and the others pass over it.
"""

from batchgen.dialects.openai import fault, talk

__all__ = ["fault", "talk"]
