"""`python -m tests.torture.blind …`: batchgen that does not look for room on the disk before it buys.

What fills a disk may be somebody else's, and come between the look and the write.
"""

from batchgen import attempt, cli

if __name__ == "__main__":
    attempt.ROOM = 0
    cli.main()
