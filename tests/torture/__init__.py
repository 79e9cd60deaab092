"""`python -m tests.torture` kills batchgen in every way, and holds what is left against the provider's bill."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' folder, as under pytest: `sandbox` starts the server
