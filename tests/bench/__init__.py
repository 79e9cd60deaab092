"""A benchmark, not a test: batchgen beside bare loops, on the same work, in the same minutes."""
