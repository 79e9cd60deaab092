"""Overnight batch jobs for image APIs, with books that equal the provider's bill."""

__version__ = "0.1.0"
