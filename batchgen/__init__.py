"""Overnight batch jobs for image APIs, with books that equal the provider's bill.

`run`, `run_sync`, `plan` and `Ledger` are the Python API; see batchgen.api.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchgen.api import Image, Ledger, Result, plan, run, run_sync
    from batchgen.errors import BatchgenError, Blocked, LockedError, ManifestError, StorageError, UsageError

__version__ = "0.1.0"
_API = ("Image", "Ledger", "Result", "plan", "run", "run_sync")
__all__ = [
    "BatchgenError",
    "Blocked",
    "Image",
    "Ledger",
    "LockedError",
    "ManifestError",
    "Result",
    "StorageError",
    "UsageError",
    "plan",
    "run",
    "run_sync",
]


def __getattr__(name: str) -> Any:
    """Load the API when it is asked for: the command line starts faster without it."""
    if name not in __all__:
        raise AttributeError(f"module 'batchgen' has no attribute {name!r}")
    from batchgen import api, errors

    return getattr(api if name in _API else errors, name)
