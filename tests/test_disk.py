"""Files are whole or not there, whatever lay in their way."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from batchgen import disk
from batchgen.errors import StorageError


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_and_its_temporary_name_is_gone(tmp_path: Path) -> None:
    disk.write_whole(tmp_path / "a", b"new" * 10**6, tmp_path / ".part", mode=0o644)
    assert (tmp_path / "a").read_bytes() == b"new" * 10**6
    assert listing(tmp_path) == ["a"]


def test_a_file_takes_the_place_of_an_older_one_and_of_what_a_crash_left(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / ".part").write_bytes(b"half of")
    disk.write_whole(tmp_path / "a", b"new", tmp_path / ".part")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert listing(tmp_path) == ["a"]


@pytest.mark.parametrize("planted", ["a", ".part"])
def test_d18_a_planted_link_is_replaced_and_never_written_through(tmp_path: Path, planted: str) -> None:
    (tmp_path / "precious").write_bytes(b"theirs")
    (tmp_path / planted).symlink_to(tmp_path / "precious")
    disk.write_whole(tmp_path / "a", b"ours", tmp_path / ".part")
    assert (tmp_path / "precious").read_bytes() == b"theirs"
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"ours"


@pytest.mark.parametrize("dangling", [True, False])
def test_d18_a_new_file_is_never_made_over_a_link(tmp_path: Path, dangling: bool) -> None:
    if not dangling:
        (tmp_path / "precious").write_bytes(b"theirs")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError):
        disk.write_synced(tmp_path / "a", b"ours")
    assert (tmp_path / "precious").exists() is not dangling


def test_d19_a_new_file_is_private_unless_told_otherwise(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        disk.write_synced(tmp_path / "a", b"")
        disk.write_synced(tmp_path / "b", b"", mode=0o644)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o600, 0o644]


LIMITED = """
import resource, sys
from pathlib import Path
from batchgen import disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
try:
    disk.write_whole(folder / "a", b"new" * 1000, folder / ".part")
except OSError as error:
    print(error.errno)
"""


def test_d8_a_file_that_may_not_grow_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    """In a process of its own: the limit holds for the tests' own output too."""
    (tmp_path / "a").write_bytes(b"old")
    said = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(said.stdout) == errno.EFBIG
    assert (tmp_path / "a").read_bytes() == b"old"


def test_folders_are_made_with_their_parents_and_twice_is_as_good_as_once(tmp_path: Path) -> None:
    for _ in range(2):
        disk.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_a_file_where_a_folder_should_be_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(StorageError, match=os.strerror(errno.EEXIST)), disk.storage("the images folder"):
        disk.make_folder(tmp_path / "a" / "b")


def test_d10_a_folder_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"), disk.storage("the images folder"):
        disk.write_whole(tmp_path / "gone" / "a", b"", tmp_path / "gone" / ".part")
    assert not (tmp_path / "gone").exists()


def test_a_relative_folder_is_made_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disk.make_folder(Path("a") / "b")
    disk.write_whole(Path("c"), b"new", Path(".part"))
    assert ((tmp_path / "a" / "b").is_dir(), (tmp_path / "c").read_bytes()) == (True, b"new")
