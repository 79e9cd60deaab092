"""Where runs lie, and how a run is named."""

from pathlib import Path

import pytest

from batchgen import folder
from batchgen.errors import UsageError


@pytest.mark.parametrize(
    ("file", "runs"),
    [
        ("/work/zoo/jobs/animals.yaml", "/work/zoo/runs"),
        ("/work/zoo/animals.yaml", "/work/zoo/runs"),
        ("/jobs/deep/animals.yaml", "/jobs/deep/runs"),
    ],
)
def test_runs_are_beside_the_manifest_or_its_jobs_folder(file: str, runs: str) -> None:
    assert folder.beside(Path(file)) == Path(runs)


def test_runs_of_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path / "jobs")
    assert folder.beside(Path("x.yaml")) == tmp_path / "runs"


def test_a_run_is_found_by_its_manifest_its_folder_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "x.yaml").write_text("name: otters\nmodel: m\n")
    ledger = tmp_path / "runs" / "otters" / "ledger.db"
    ledger.parent.mkdir(parents=True)
    ledger.touch()
    assert folder.find(str(tmp_path / "jobs" / "x.yaml"), None).ledger == ledger
    assert folder.find(str(ledger.parent), None).ledger == ledger
    assert folder.find("otters", tmp_path / "runs").ledger == ledger


@pytest.mark.parametrize("run", ["nowhere", "nowhere.yaml"])
def test_a_run_that_is_not_there_says_what_to_give(tmp_path: Path, run: str) -> None:
    with pytest.raises(UsageError, match=r"no such file|Give a manifest"):
        folder.find(str(tmp_path / run), None)
