"""Mistakes that people make: a wrong manifest each, and what is said of all of them in one golden file.

After a change of the messages:

    python tests/test_mistakes.py > tests/mistakes/messages.txt

and then read the diff as a stranger would: where is it, what is wrong, what shall I do?
"""

import re
import shutil
from contextlib import chdir
from difflib import unified_diff
from pathlib import Path

import pytest

from batchgen import compare, manifest
from batchgen.errors import ManifestError

FOLDER = Path(__file__).parent / "mistakes"
GOLDEN = FOLDER / "messages.txt"
NAMES = sorted((path.name for path in FOLDER.glob("*.yaml")), key=lambda name: int(name.split("-")[0]))
TEXTS = {".yaml", ".csv", ".txt", ".jsonl"}
MANY = "98-many-mistakes-at-once.yaml"
REWRITE = "python tests/test_mistakes.py > tests/mistakes/messages.txt"
KEY = "0123456789abcdefSECRET"
PLACE = re.compile(r"[\w.-]+\.yaml:\d+:\d+: \S|[\w.-]+\.(csv|txt|jsonl):\d+: \S")

GOOD = """\
name: animals        # a comment behind a word is one
provider: openai
model: gpt-image-2
prompts:
  - A sea otter on its back
  - "A sign: no entry"
  - {file: animals.csv, prompt: "A {{ animal }}", quality: "{{ quality }}"}
  - {file: animals.txt, prompt: "A {{ line }} at night", quality: low}
  - {file: lines.jsonl, quality: low}
matrix:
  size: [1024x1024, 1536x1024]
samples: "1"
output: {path: "{{ slug }}/{{ size }}"}
"""
DATA = {
    "animals.csv": 'animal,quality\nfox,low\n"a heron, at dawn",\n',
    "animals.txt": "fox\nheron\n",
    "lines.jsonl": '{"prompt": "A carp"}\n',
}


def told(name: str) -> tuple[str, ...]:
    """What is said of a manifest in the current folder, and of the rows that it names."""
    try:
        found = manifest.load(Path(name), manifest.Setup(environ={}))
        compare.survey(found, None)
    except ManifestError as error:
        return error.problems
    return ()


def messages(folder: Path = FOLDER) -> str:
    """The whole golden file, for the mistakes in that folder."""
    with chdir(folder):
        return "\n".join(line for name in NAMES for line in (name, *(f"  {says}" for says in told(name)), ""))


def windows(content: bytes) -> bytes:
    """As an editor on Windows would have saved it."""
    return b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")


def test_the_messages_are_the_golden_ones() -> None:
    diff = list(unified_diff(GOLDEN.read_text("utf-8").splitlines(), messages().splitlines(), "golden", "now", n=1))
    assert not diff, "\n".join([f"other messages; if they are better: {REWRITE}", *diff])


@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_told_in_one_line_with_its_place_and_without_any_key(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    said = told(name)
    assert said, "nothing is said"
    assert not [says for says in said if not PLACE.match(says) or "\n" in says or KEY in says]


def test_all_the_mistakes_of_a_file_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    lines = Path(MANY).read_text("utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong") or "says: " in line}
    assert len(wrong) > 10
    assert [int(says.split(":")[1]) for says in told(MANY)] == sorted(wrong)


def test_a_file_must_be_there_unless_the_manifest_itself_lies_elsewhere_by_now(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, "utf-8")
    with pytest.raises(ManifestError, match="no such file") as caught:
        manifest.load(path, manifest.Setup({}))
    assert len(caught.value.problems) == len(DATA)
    assert manifest.loads(GOOD, path, manifest.Setup({})).sources


def test_what_is_piped_in_is_left_for_the_run_to_read(tmp_path: Path) -> None:
    path = tmp_path / "piped.yaml"
    path.write_text(
        GOOD.replace("{file: lines.jsonl, ", "{file: '-', ").replace("animals.", f"{FOLDER}/animals."), "utf-8"
    )
    assert manifest.load(path, manifest.Setup({})).sources[-1].feed


def test_windows_line_ends_and_a_byte_order_mark_are_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"good.yaml": GOOD, **DATA}.items():
        Path(name).write_bytes(text.encode())
        Path(f"windows-{name}").write_bytes(windows(re.sub(r"file: ", "file: windows-", text).encode()))
    plain, saved = (manifest.load(Path(name), manifest.Setup({})) for name in ("good.yaml", "windows-good.yaml"))
    assert told("good.yaml") == told("windows-good.yaml") == ()
    assert compare.survey(plain, None).tasks == compare.survey(saved, None).tasks == 14
    assert plain.variants == saved.variants


def test_windows_line_ends_and_a_byte_order_mark_move_no_message(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(FOLDER, tmp_path / "mistakes"))
    for path in copy.rglob("*"):
        if path.suffix in TEXTS and path.is_file():
            path.write_bytes(windows(path.read_bytes()))
    assert messages(copy) == messages()


if __name__ == "__main__":
    print(messages(), end="")
