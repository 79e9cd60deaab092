"""An evening as a user has it: forty prompts, seven pictures that do not please and are made again, and a dataset."""

import json
import shlex
from collections import Counter

from browser import Browser, url
from world import World, many

from batchgen import api

BETTER = "An otter as it should be"


def test_pictures_that_are_marked_on_the_page_are_made_again_and_the_dataset_holds_the_new_ones(
    world: World, browser: Browser
) -> None:
    world.write(prompts=many(40))
    assert world.command("run", "otters.yaml").returncode == 0
    assert world.command("report", "otters.yaml", "--html", "report.html").returncode == 0
    tab = browser.tab().open(url(world.folder / "report.html"))
    tab.page.locator(".tile").first.focus()
    for _ in range(7):
        tab.keys("x", "ArrowDown")
    line = tab.page.input_value(".marks input")
    tab.check_quiet(url(world.folder))
    program, *words = shlex.split(line)
    assert (program, len(words)) == ("batchgen", 2 + 7)
    old = words[2:]
    told = world.command(*words, "--set", f"prompt={BETTER}")
    assert (told.returncode, "+7 new" in told.stderr) == (0, True), told.stderr
    assert world.command("export", "runs/otters", "--format", "imagefolder", "--to", "set").returncode == 0
    rows = [json.loads(row) for row in (world.folder / "set" / "train" / "metadata.jsonl").read_text().splitlines()]
    assert Counter(row["prompt"] == BETTER for row in rows) == {False: 33, True: 7}
    assert not {row["id"] for row in rows} & set(old)
    assert len({*(world.folder / "set" / "train").rglob("*.png")}) == 40
    report = api.Ledger(world.run_folder).report()
    assert (len(world.charges()), report["not_wanted"]) == (47, {"dropped": 0, "replaced": 7})
    world.check_equal_to_the_bill()
    assert world.command("verify", "otters.yaml").returncode == 0
    assert world.command("report", "otters.yaml", "--html", "report.html").returncode == 0
    tab.page.reload()
    tab.page.wait_for_selector(".tile")
    assert tab.count(".tile.marked") == 0, "what was made again is marked no more"
    tab.check_quiet(url(world.folder))
