"""`python -m batchgen` is the command `batchgen`."""

from batchgen.cli import main

main()
