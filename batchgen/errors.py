"""Errors, named for the reaction that each asks for."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def alone() -> Iterator[None]:
    """Let a single error out of the group that a task group wraps around it, though several have met it."""
    try:
        yield
    except BaseExceptionGroup as group:
        first = group.exceptions[0]
        if any(each is not first for each in group.exceptions):
            raise
        raise first from first.__cause__


class BatchgenError(Exception):
    """Anything that batchgen tells its user in one message; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(BatchgenError):
    """The command cannot be carried out as it was given."""

    exit_code = 2


class ManifestError(BatchgenError):
    """Fix the YAML; nothing was sent. `problems` holds every one, each with its file, line and column."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StorageError(BatchgenError):
    """The disk is full or gone: stop claiming, keep what was paid for."""

    exit_code = 5


class LockedError(BatchgenError):
    """Another run holds the folder."""

    exit_code = 6


class ProviderError(BatchgenError):
    """A request that brought no image.

    `code` is the provider's word for it, `status` the HTTP status (0: none came), `retry_after` the seconds that the
    provider asked us to wait, `request_id` what the provider's support wants to hear.
    """

    def __init__(
        self, text: str, *, code: str = "", status: int = 0, retry_after: float | None = None, request_id: str = ""
    ) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id


class Transient(ProviderError):
    """A clear no for now, not billed: 429, 503 with Retry-After, a 5xx in the provider's own envelope."""


class Unsent(Transient):
    """The request never left: no connection was made."""


class Unserved(Unsent):
    """It never left, and the provider has no part in that: nobody was there, or had what it takes, to send it."""


class Busy(Transient):
    """The same purchase is on its way: its outcome can be had under the same key in a while."""


class Unknown(ProviderError):
    """The request left and its fate is not known: perhaps billed. `on_unknown` decides."""


class Unusable(ProviderError):
    """The provider answered, and billed, and nothing usable came."""


class Failed(Unusable):
    """The provider's own last word on what it was asked to make: nothing comes of it."""


class Pending(ProviderError):
    """Bought, and the images are still with the provider: asking again is free."""


class Gone(Pending):
    """Bought, and the provider has it no more, or never had: asked for often enough, a person decides."""


class Refused(ProviderError):
    """The provider's safety system said no; `billed` where it looked at a finished image first."""

    billed = False


class Rejected(ProviderError):
    """This request will never work."""


class Blocked(ProviderError):
    """No request can work until a person acts: the key, the credit, the account."""

    exit_code = 5
