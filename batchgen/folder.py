"""The run folder: runs/<name>/ and what lies in it."""

from dataclasses import dataclass
from pathlib import Path

from batchgen import document
from batchgen.errors import ManifestError, UsageError


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.db"

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def batches(self) -> Path:
        """What goes to a Batch API and comes from it, on its way."""
        return self.path / "batches"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.yaml"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def control(self) -> Path:
        """What a run at work is asked to change."""
        return self.path / "control.json"

    @property
    def settings(self) -> Path:
        """What it changed."""
        return self.path / "settings.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def bill(self) -> Path:
        """What the sandbox charged, where it played the provider."""
        return self.path / "sandbox-bill.jsonl"


def beside(manifest: Path) -> Path:
    """Where a manifest's runs lie: `runs/` beside it, or beside the `jobs/` folder that holds it."""
    parent = manifest.absolute().parent
    return (parent.parent if parent.name == "jobs" else parent) / "runs"


def is_manifest(run: str) -> bool:
    return run.endswith((".yaml", ".yml")) and not Path(run).is_dir()


def find(run: str, runs: Path | None) -> Folder:
    """The folder of a run, by its name, its path, or the manifest that made it; UsageError where there is none."""
    if is_manifest(run):
        path = Path(run)
        found = Folder((runs or beside(path)) / _name(path))
    else:
        found = next(
            (Folder(path) for path in (Path(run), (runs or Path("runs")) / run) if (path / "ledger.db").exists()),
            Folder((runs or Path("runs")) / run),
        )
    rehearsal = Folder(found.path.with_name(f"{found.path.name}.sandbox"))
    if not found.ledger.exists() and rehearsal.ledger.exists():
        raise UsageError(f"there is no run in {found.path}, but a rehearsal: give {rehearsal.path}")
    if not found.ledger.exists():
        raise UsageError(
            f"there is no run in {found.path}. Give a manifest, a run's folder, or a name together with --runs DIR."
        )
    return found


def _name(manifest: Path) -> str:
    try:
        text = document.decode(manifest.read_bytes(), str(manifest))
    except FileNotFoundError:
        raise UsageError(f"{manifest}: no such file") from None
    except OSError as error:
        raise UsageError(f"{manifest}: {error.strerror}") from None
    tree = document.parse(text, str(manifest))
    value = tree.value.get("name") if isinstance(tree.value, dict) else None
    if value is None or isinstance(value, list | dict):
        raise ManifestError(f"{manifest}:1:1: name: is missing")
    return tree.text(("name",), value)
