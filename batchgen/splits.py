"""Splits of a dataset: every prompt stands on one side, always the same, however many others are added."""

import re
from dataclasses import dataclass
from decimal import Decimal

from batchgen.errors import UsageError

WHOLE = 1 << 64
TRAIN = "train"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")
_SHARE = re.compile(r"1|[01]?\.[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Split:
    """`upto`: the prompts whose number, of 2^64, lies below it belong here, if they belong to none before."""

    name: str
    upto: int


def parse(text: str) -> tuple[Split, ...]:
    """`train=0.9,val=0.1`; all of it is `train` where nothing is given."""
    shares = [_share(each) for each in text.split(",")] if text else [(TRAIN, Decimal(1))]
    if len({name for name, _ in shares}) < len(shares):
        raise UsageError(f"--split {text}: give each name once")
    if sum(share for _, share in shares) != 1:
        raise UsageError(f"--split {text}: the shares add up to {sum(share for _, share in shares)}, and must make 1")
    found, upto = [], Decimal(0)
    for name, share in shares:
        upto += share
        found.append(Split(name, int(upto * WHOLE)))
    return tuple(found)


def _share(text: str) -> tuple[str, Decimal]:
    name, _, share = (part.strip() for part in text.partition("="))
    if not _NAME.fullmatch(name) or name == "all":
        raise UsageError(f"--split {text.strip()}: give names with shares, like train=0.9,val=0.1")
    if not _SHARE.fullmatch(share) or not Decimal(share):
        raise UsageError(f"--split {text.strip()}: the share must be a number above 0, like 0.9")
    return name, Decimal(share)


def side(digest: bytes, splits: tuple[Split, ...]) -> int:
    """Which split a prompt belongs to, by its digest."""
    number = int.from_bytes(digest[:8])
    return next(at for at, split in enumerate(splits) if number < split.upto)
