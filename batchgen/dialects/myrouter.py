"""MyRouter: generations as OpenAI's, in base64, with the tokens that they took; nothing of it differs."""

from batchgen.dialects.openai import fault, talk

__all__ = ["fault", "talk"]
