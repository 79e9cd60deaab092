"""A benchmark, not a test: batchgen beside two bare loops, on the same work, in the same minutes."""
