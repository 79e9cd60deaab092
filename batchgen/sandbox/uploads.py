"""Files that clients leave with the provider, and those that it makes for them: records, and the bytes on disk."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from batchgen.sandbox import inputs
from batchgen.sandbox.journal import Journal
from batchgen.sandbox.order import Input, Order, Problem, Refused

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
LARGEST, LARGEST_BATCH = 512 * 2**20, 200 * 2**20
MONTH = 30 * 86_400  # seconds: how long a batch's files are kept
_ARRIVING = "arriving-"
_PICTURES = ("vision", "user_data")


@dataclass(frozen=True, slots=True)
class Upload:
    """One file as the provider knows it; times are whole seconds since 1970."""

    filename: str
    purpose: str
    bytes: int
    expires_at: int | None = None
    id: str = field(default_factory=lambda: f"file-{uuid4().hex[:24]}")
    created_at: int = field(default_factory=lambda: int(time.time()))

    def told(self) -> dict[str, object]:
        return {"object": "file", **asdict(self), "status": "processed", "status_details": None}


class Uploads:
    """All files by id. Without a folder there is a temporary one from the first file on, until `end`."""

    def __init__(self, folder: Path | None = None, journal: Journal | None = None) -> None:
        self._folder = folder
        self._temporary = folder is None
        self._journal = journal or Journal()
        self._kept: dict[str, Upload] = {}
        self._deleted: set[str] = set()
        self._seen: dict[tuple[str, bool], Input] = {}
        for torn in folder.glob(f"{_ARRIVING}*") if folder else ():
            torn.unlink()
        for record in self._journal.records():
            if "deleted" in record:
                self._deleted.add(record["deleted"])
            else:
                self._kept[record["id"]] = Upload(**record)

    @property
    def folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="sandbox-files-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def arriving(self) -> Path:
        """Where to put a file that is not there yet."""
        return self.path(f"{_ARRIVING}{uuid4().hex}")

    def end(self) -> None:
        if self._temporary and self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def path(self, name: str) -> Path:
        return self.folder / name

    def add(self, upload: Upload, content: Path) -> Upload:
        """Keeps the bytes at `content`, which must lie in the folder, under a second name: the first may go."""
        self.path(upload.id).unlink(missing_ok=True)  # of one that a kill kept from being noted
        os.link(content, self.path(upload.id))
        self._kept[upload.id] = upload
        self._journal.add(asdict(upload))
        return upload

    def get(self, name: str) -> Upload | None:
        """None where there is none, or no longer."""
        upload = self._kept.get(name)
        expired = upload and upload.expires_at is not None and upload.expires_at <= time.time()
        return None if expired or name in self._deleted else upload

    def delete(self, name: str) -> None:
        self._deleted.add(name)
        self._journal.add({"deleted": name})
        self.path(name).unlink(missing_ok=True)

    def held(self) -> Sequence[Upload]:
        """Those that are there, the oldest first."""
        return [upload for upload in self._kept.values() if self.get(upload.id)]

    def all(self) -> Iterator[dict[str, object]]:
        """Every file that ever was, for tests."""
        for upload in self._kept.values():
            yield {**upload.told(), "deleted": upload.id in self._deleted}

    def seen(self, order: Order, *, strict: bool = False) -> Order:
        """The order with its files looked at; raises Refused. Unless `strict` a stranger's id is taken unseen."""
        found = tuple(self._picture(each, "images", strict=strict) for each in order.inputs)
        mask = self._picture(order.mask, "mask", strict=strict) if order.mask else None
        inputs.check_pair(mask, found)
        return replace(order, inputs=found, mask=mask)

    def _picture(self, given: Input, param: str, *, strict: bool) -> Input:
        kind, _, name = given.digest.partition(":")
        upload = self.get(name)
        if kind != "id" or (upload is None and not strict):
            return given
        if upload is None:
            raise Refused(Problem(400, f"No such File object: {name}", param=f"{param}.file_id", code="file_not_found"))
        if upload.purpose not in _PICTURES:
            message = f"The file {name} has purpose '{upload.purpose}': expected 'vision' or 'user_data'."
            raise Refused(Problem(400, message, param=f"{param}.file_id", code="invalid_file_purpose"))
        if (name, param == "mask") not in self._seen:
            content = self.path(name).read_bytes()
            look = inputs.mask(content) if param == "mask" else inputs.look(content, 1)[0]
            self._seen[name, param == "mask"] = look
        return self._seen[name, param == "mask"]


def name_of(batch: str, kind: str) -> str:
    """The id of a batch's file, which is the same after a restart."""
    return f"file-{hashlib.sha256(f'{batch} {kind}'.encode()).hexdigest()[:24]}"
