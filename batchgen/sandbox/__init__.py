"""A pretend provider over real HTTP, with books of its own: `python -m batchgen.sandbox`."""
