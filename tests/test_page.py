"""The report page in a real browser: what can be found, opened, marked and read on it, and that it asks nobody."""

import json
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Browser, Tab, url
from sandbox import child
from world import CARP, HERON, OTTER, World

from batchgen import page
from batchgen.errors import UsageError
from batchgen.folder import Folder

MATRIX = {"size": ["1024x1024", "1536x1024"], "quality": ["low", "medium"]}
WICKED = [
    *(
        f"<{tag} src=x onerror=pwned=1>"
        for tag in ("img", "audio", "video", "svg", "iframe", "object", "embed", "input")
    ),
    *(
        "</script><script>pwned=1</script>",
        "<script>pwned=1</script>",
        "<!--<script>pwned=1//",
        "-->",
        "<![CDATA[",
        "]]>",
    ),
    *("</style><script>pwned=1</script>", "</title><script>pwned=1</script>", "</textarea><img src=x onerror=pwned=1>"),
    *(
        '"><img src=x onerror=pwned=1>',
        "'><img src=x onerror=pwned=1>",
        "` onmouseover=pwned=1 x=`",
        '\\"><script>pwned=1',
    ),
    *("javascript:pwned=1", "data:text/html,<script>pwned=1</script>", "vbscript:pwned=1", "file:///etc/passwd"),
    *(
        "<a href=javascript:pwned=1>press</a>",
        "<base href=//evil.example/>",
        "<meta http-equiv=refresh content=0;url=//evil.example>",
    ),
    *(
        "<link rel=stylesheet href=//evil.example/x.css>",
        "<style>@import '//evil.example/x.css';</style>",
        "{{ head }}",
    ),
    *(
        "<form action=//evil.example><button>go</button></form>",
        "<body onload=pwned=1>",
        "<details open ontoggle=pwned=1>",
    ),
    *("<math><mi xlink:href=javascript:pwned=1>x", "<svg><script>pwned=1</script></svg>", "<svg/onload=pwned=1>"),
    *("<template><script>pwned=1</script></template>", "<noscript><p title='</noscript><img src=x onerror=pwned=1>'>"),
    *(
        "\\u003cscript\\u003epwned=1\\u003c/script\\u003e",
        "&lt;script&gt;pwned=1&lt;/script&gt;",
        "%3Cscript%3Epwned=1",
    ),
    *(
        "${pwned=1}",
        "{{constructor.constructor('pwned=1')()}}",
        "#{pwned=1}",
        "<%= pwned=1 %>",
        "__proto__",
        "constructor",
    ),
    *(
        "toString",
        "; rm -rf ~",
        "$(touch pwned)",
        "`touch pwned`",
        "'; DROP TABLE tasks; --",
        "\u202egnp.exe\u202c",
        "\u2028pwned\u2029",
    ),
    *(
        "\u200b\u200e\u200f",
        "﷽" * 40,
        "Z̴̛̹a̵l̶g̷o̸" * 30,
        "x" * 30_000,
        "🦦" * 500,
        "a\nb\tc\r\nd",
        "=1+1",
        "\ufeffBOM",
        "NaN",
        "null",
    ),
]


LOADED = "[...document.querySelectorAll('.tile img')].every((image) => image.complete && image.naturalWidth)"


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written down, and the run that it is of."""

    world: World
    file: Path

    @property
    def url(self) -> str:
        return url(self.file)

    def write(self) -> page.Written:
        return page.write(Folder(self.world.run_folder), self.file, lambda images: None)


def change(world: World, *statements: tuple[str, tuple[object, ...]]) -> None:
    """What a hostile provider, or a hostile ledger, would say."""
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db:
        for sql, values in statements:
            db.execute(sql, values)
        db.commit()


def bought(world: World, **changes: object) -> None:
    """The run, in another thread: in that of the browser an event loop is at work."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(world.run, **changes).result()
    world.sandbox.end()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three prompts by four combinations: one refused, one failed, one held, one replaced by redo."""
    flags = ("--paint", "cached", "--paint-bytes", "3000", "--script", "ok cut 400 nousage")
    world = World(tmp_path_factory.mktemp("page"), child.fork(*flags))
    prompts = [OTTER, f"{HERON} [moderated]", CARP]
    retry = {"attempts": 1, "on_unknown": "hold"}
    bought(world, prompts=prompts, matrix=MATRIX, request=None, limits={"concurrency": 1, "budget": 10}, retry=retry)
    new, old = (key for (key,) in world.rows("SELECT key FROM tasks ORDER BY seq DESC LIMIT 2"))
    change(world, ("UPDATE tasks SET wanted = ? WHERE key = ?", (new, old)))
    made = Report(world, world.folder / "report.html")
    made.write()
    return made


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A run whose prompts, ids, axes, errors, file names and rewritten prompts all mean harm."""
    world = World(tmp_path_factory.mktemp("hostile"), child.fork("--paint", "cached", "--paint-bytes", "3000"))
    rows = {"prompt": "{{ i }}", "id": "{{ i }}", "vars": {"i": [f"otter {at}" for at in range(len(WICKED))]}}
    bought(world, prompts=[rows], matrix={"quality": ["low", "medium"]}, request={"size": "1024x1024"})
    evil = "</script><img src=x onerror=pwned=1>"
    change(
        world,
        *(("UPDATE prompts SET text = ? WHERE id = ?", (text, at)) for at, text in enumerate(WICKED, 1)),
        *(("UPDATE names SET id = ? WHERE task = ?", (text, at)) for at, text in enumerate(WICKED, 1)),
        ("UPDATE attempts SET error = ?, code = ?, request_id = ?", (evil, evil, evil)),
        ("UPDATE images SET revised_prompt = ?, note = ?", (evil, evil)),
        ("UPDATE images SET path = '../../../../etc/passwd' WHERE id = 1", ()),
        ("UPDATE images SET path = 'javascript:pwned=1' WHERE id = 2", ()),
        ("UPDATE images SET path = ? WHERE id = 3", (f"{evil} %23#?.png",)),
        ("UPDATE variants SET axes = ?, model = ? WHERE id = 1", (json.dumps({evil: evil, "quality": "low"}), evil)),
        ("UPDATE tasks SET state = 'failed' WHERE seq % 7 = 0", ()),
        ("UPDATE tasks SET key = '; touch pwned #' WHERE seq = 1", ()),
        ("UPDATE job SET name = ?, project = ?", (evil, evil)),
    )
    made = Report(world, world.folder / "report.html")
    made.write()
    return made


@pytest.fixture(scope="module")
def window(browser: Browser) -> Tab:
    """One for many tests: each that is opened takes half a second."""
    return browser.tab()


@pytest.fixture
def tab(report: Report, window: Tab) -> Iterator[Tab]:
    """The page as it opens; it must have nothing to complain of, and ask for nothing beside the run."""
    window.open("about:blank", "body")
    window.open(report.url)
    yield window
    window.js("localStorage.clear()")
    window.check_quiet(url(report.world.folder))
    window.asked.clear()


def keys(tab: Tab) -> list[str]:
    """The tasks on the page."""
    found: list[str] = tab.js("[...document.querySelectorAll('.tile')].map((tile) => tile.dataset.key)")
    return found


def shown(tab: Tab, rows: int) -> None:
    """Wait for so many rows."""
    tab.eventually(f"document.querySelectorAll('#grid tbody').length === {rows}")


def test_every_task_has_its_place_and_its_word(tab: Tab) -> None:
    assert tab.texts(".grid .prompt p:first-child, .grid .prompt bdi, .grid .prompt p")[0] == OTTER
    assert tab.count(".tile") == 11
    assert tab.texts(".tile .word b") == ["held", "failed", *["refused"] * 4]
    assert "Invalid value" in tab.text(".tile.is-failed")
    assert tab.texts(".chip") == ["5 done", "4 refused", "1 failed", "1 held", "1 perhaps paid", "1 replaced"]
    tab.eventually(LOADED)
    assert tab.count(".tile img") == 5


def test_money_is_four_figures_with_its_bounds(tab: Tab) -> None:
    assert tab.texts("#figures dt") == ["Images", "Paid", "Estimated", "Perhaps also", "The bill"]
    assert re.fullmatch(r"\$[\d.]+ – \$[\d.]+", tab.texts("#figures dd b")[-1])


def test_it_filters_by_text_axis_and_state(tab: Tab) -> None:
    tab.page.fill("#find", "CARP in")
    shown(tab, 1)
    assert tab.count(".tile") == 3
    tab.page.select_option("select[aria-label=quality]", "low")
    tab.eventually("document.querySelectorAll('.tile').length === 1")
    tab.page.fill("#find", "")
    shown(tab, 3)
    tab.page.select_option("select[aria-label=quality]", label="any")
    for state, tiles in (("held", 1), ("unknown", 1), ("replaced", 1), ("refused", 4)):
        tab.page.click(f".chip.is-{state}")
        tab.eventually(f"document.querySelectorAll('.tile').length === {tiles}")
        tab.page.click(f".chip.is-{state}")
        tab.eventually("document.querySelectorAll('.tile').length === 11")
    tab.page.fill("#find", "no such thing")
    tab.eventually("!document.querySelector('#empty').hidden")
    assert tab.text("#empty") == "Nothing here is like that."


def test_a_choice_stands_in_the_address_and_holds_when_it_is_opened_again(tab: Tab, report: Report) -> None:
    tab.page.click(".chip.is-failed")
    tab.eventually("document.querySelectorAll('.tile').length === 1")
    tab.page.reload()
    tab.page.wait_for_selector(".tile")
    assert (tab.count(".tile"), tab.page.get_attribute(".chip.is-failed", "aria-pressed")) == (1, "true")


def test_it_sorts_and_lays_out_as_it_is_told(tab: Tab) -> None:
    first = "document.querySelector('.grid .prompt').innerText"
    assert tab.texts("thead .axis") == ["size", "quality"]
    tab.page.select_option("select[aria-label=Sort]", "prompt")
    tab.eventually(f"{first} === {json.dumps(CARP)}")
    tab.page.click(".layout summary")
    tab.page.select_option("select[aria-label='Where quality goes']", "down")
    tab.eventually("document.querySelectorAll('#grid thead tr').length === 1")
    assert tab.texts(".grid .value")[:2] == ["low", "medium"]
    tab.page.select_option("select[aria-label='Where size goes']", "inside")
    tab.eventually("!document.querySelector('#grid thead')")
    assert tab.texts(".tile .label")[0] == "1024x1024"


def test_a_picture_opens_at_its_full_size_with_all_that_is_known_of_it(tab: Tab, report: Report) -> None:
    tab.page.click(".tile img")
    tab.eventually("document.querySelector('.view img')?.naturalWidth > 0")
    facts = tab.text(".facts")
    for what in (
        OTTER,
        "1024x1024",
        "low",
        "gpt-image-2",
        "tokens",
        "cost",
        "latency",
        "1 attempt",
        "HTTP 200",
        "sha256",
    ):
        assert what in facts
    path = report.world.rows("SELECT path FROM images WHERE id = 1")[0][0]
    assert tab.page.get_attribute(".facts a", "href").endswith(path)
    assert any(asked.endswith(path) for asked in tab.asked)
    tab.keys("Escape")
    tab.page.click(".tile.is-held")
    assert "without a usable answer" in tab.text(".facts")
    assert "perhaps paid" in tab.text(".stage")


def test_what_was_replaced_is_reached_from_what_took_its_place(tab: Tab) -> None:
    tab.page.locator(".tile").last.click()
    tab.page.click(".facts .link")
    tab.eventually("document.querySelector('.facts .flags').innerText === 'replaced'")


def test_the_keyboard_alone_does_it_all(tab: Tab) -> None:
    focused = "document.activeElement.dataset.key"
    every = keys(tab)
    tab.keys("ArrowDown")
    assert tab.js(focused) == every[0]
    tab.keys("ArrowRight", "ArrowDown")
    assert tab.js(focused) == every[5]
    tab.keys("ArrowUp", "ArrowLeft", "x")
    assert tab.page.input_value(".marks input").endswith(f" {every[0]}")
    tab.keys("Enter")
    tab.page.wait_for_selector("dialog[open]")
    tab.keys("ArrowRight")
    tab.eventually(f"document.querySelector('.facts').innerText.includes('{every[1]}')")
    tab.keys("x", "Escape")
    tab.eventually(f"{focused} === '{every[1]}'")
    assert tab.text(".marks b") == "2 marked"
    tab.keys("/")
    assert tab.js("document.activeElement.id") == "find"
    tab.keys("Escape", "?")
    assert "mark it" in tab.text("#help")
    tab.keys("Escape", "f")
    assert tab.page.is_visible("#plots")


def test_what_is_marked_yields_the_line_that_makes_it_again(tab: Tab, report: Report) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.page.locator(".tile").nth(2).focus()
    tab.keys("x", "ArrowRight", "x")
    tab.page.click(".marks .main")
    tab.eventually("document.querySelector('.marks .main').textContent === 'Copied'")
    line = f"batchgen redo {report.world.run_folder} {keys(tab)[2]} {keys(tab)[3]}"
    assert (tab.js("navigator.clipboard.readText()"), tab.count(".tile.marked")) == (line, 2)
    tab.page.reload()
    tab.page.wait_for_selector(".tile")
    assert tab.count(".tile.marked") == 2
    tab.page.locator(".marks button").last.click()
    assert (tab.count(".tile.marked"), tab.page.is_visible("#marks")) == (0, False)


def test_plots_and_sums_are_drawn(tab: Tab) -> None:
    tab.keys("f")
    titles = tab.texts("#plots figcaption b")
    assert titles[:4] == ["Spend over time", "Images per minute", "Latency by quality", "Cost by quality"]
    assert tab.count("#plots svg rect.bar") > 0
    assert tab.texts("#plots h2") == ["By quality", "By size"]


def test_a_phone_has_each_prompt_above_its_pictures(report: Report, browser: Browser) -> None:
    tab = browser.tab(390, 844, has_touch=True, is_mobile=True).open(report.url)
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    box = "document.querySelector('{}').getBoundingClientRect()"
    assert tab.js(f"{box.format('.prompt')}.bottom <= {box.format('.tile')}.top")
    assert tab.page.is_visible(".tile .label.across")
    tab.page.tap(".tile")
    tab.page.wait_for_selector("dialog[open]")
    assert tab.js("document.querySelector('dialog').scrollWidth <= innerWidth")
    tab.check_quiet(url(report.world.folder))


def test_it_is_dark_where_that_is_liked_and_black_on_white_on_paper(report: Report, browser: Browser) -> None:
    tab = browser.tab(color_scheme="dark").open(report.url)
    background = "getComputedStyle(document.body).backgroundColor"
    assert tab.js(background) == "rgb(19, 19, 18)"
    tab.page.emulate_media(media="print")
    assert (tab.js(background), tab.page.is_visible("#tools")) == ("rgb(255, 255, 255)", False)
    assert tab.page.is_visible("#plots")


def test_prompts_that_mean_harm_do_nothing(hostile: Report, browser: Browser) -> None:
    assert len(WICKED) >= 60
    tab = browser.tab(bypass_csp=True).open(hostile.url)  # the policy would hide what slips through
    before = tab.js("document.scripts.length")
    prompts = hostile.world.rows("SELECT count(*) FROM prompts")[0][0]
    assert tab.count("#grid tbody") == prompts > 50
    for key in ("f", "f", "?", "Escape"):
        tab.keys(key)
    for number in range(0, tab.count(".tile"), 11):
        tab.page.locator(".tile").nth(number).focus()
        tab.keys("Enter")
        tab.page.wait_for_selector("dialog[open] .sending")
        tab.keys("x", "Escape")
    assert tab.js("window.pwned") is None
    assert tab.js("document.scripts.length") == before
    handlers = "[...each.attributes].some((one) => one.name.startsWith('on'))"
    assert tab.js(f"[...document.querySelectorAll('*')].filter((each) => {handlers}).length") == 0
    assert tab.js("[...document.links].map((each) => each.protocol).every((one) => one === 'file:')")
    lost = [said for said in tab.said if "ERR_FILE_NOT_FOUND" not in said]  # three paths lead nowhere
    assert lost == []
    assert [asked for asked in tab.asked if not asked.startswith(url(hostile.world.folder))] == []
    assert re.fullmatch(r"batchgen redo \S+( [a-z2-7]{16})+", tab.page.input_value(".marks input"))


def test_the_policy_lets_nothing_in_from_elsewhere(report: Report, browser: Browser) -> None:
    tab = browser.tab().open(report.url)
    tab.js("void fetch('https://evil.example/').catch(() => 0)")
    tab.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'pwned=1'}))")
    tab.js(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"https://evil.example/x.png\" onerror=\"pwned=1\">')"
    )
    tab.page.wait_for_timeout(100)
    assert tab.js("window.pwned") is None
    assert len([said for said in tab.said if "Content Security Policy" in said]) >= 3


def test_it_says_so_where_the_images_are_gone(report: Report, browser: Browser, tmp_path: Path) -> None:
    moved = tmp_path / "report.html"
    moved.write_bytes(report.file.read_bytes())
    tab = browser.tab().open(url(moved))
    tab.eventually("!document.querySelector('#notice').hidden")
    assert "not where it was" in tab.text("#notice")
    tab.eventually(LOADED)
    tab.page.click(".tile img")
    tab.page.wait_for_selector(".lost img")


def copied(report: Report, folder: Path, *statements: str) -> Report:
    """Another run with the same ledger but for what is changed, and without its images."""
    copy = Report(World(folder, report.world.sandbox), folder / "report.html")
    copy.world.run_folder.mkdir(parents=True)
    ledgers = [sqlite3.connect(each.run_folder / "ledger.db") for each in (report.world, copy.world)]
    with closing(ledgers[0]) as db, closing(ledgers[1]) as other:
        db.backup(other)
    change(copy.world, *((sql, ()) for sql in statements))
    return copy


def test_a_run_without_an_image_has_a_page(report: Report, browser: Browser, tmp_path: Path) -> None:
    copy = copied(report, tmp_path, "UPDATE tasks SET wanted = 'dropped' WHERE state <> 'refused'")
    assert copy.write() == page.Written(images=6, bare=6, embedded=True)
    tab = browser.tab().open(copy.url)
    assert set(tab.texts(".tile .word b")) == {"refused"}
    tab.page.click(".chip.is-dropped")
    tab.eventually("document.querySelectorAll('.tile.is-dropped').length === 8")
    change(copy.world, ("UPDATE tasks SET wanted = 'dropped'", ()))
    copy.write()
    tab.open(copy.url, "#empty:not([hidden])")
    assert tab.text("#empty") == "No tasks yet: nothing was asked for."


def test_targets_stand_side_by_side_and_equal_files_are_flagged(
    report: Report, browser: Browser, tmp_path: Path
) -> None:
    copy = copied(report, tmp_path, "UPDATE variants SET axes = replace(axes, '\"quality\"', '\"target\"')")
    copy.write()
    tab = browser.tab().open(copy.url)
    assert tab.texts("#grid thead .axis") == ["target", "size"]
    same = "sha256 IN (SELECT sha256 FROM images GROUP BY 1 HAVING count(*) > 1)"
    equal = copy.world.rows(f"SELECT 1 FROM images JOIN tasks ON seq = task WHERE wanted = 'yes' AND {same}")
    assert tab.texts(".caption abbr").count("= equal") == len(equal) > 0
    tab.keys("f")
    assert tab.texts("#plots h2")[0] == "Targets side by side"
    assert tab.texts(".sums tbody th")[:2] == ["low", "medium"]


def test_a_file_that_is_no_report_page_is_kept(report: Report) -> None:
    other = report.world.folder / "letter.html"
    other.write_text("<p>Dear Mother")
    said = report.world.command("report", str(report.world.run_folder), "--html", "letter.html")
    assert (said.returncode, "it is kept" in said.stderr, other.read_text()) == (2, True, "<p>Dear Mother")
    with pytest.raises(UsageError, match="there is no folder"):
        page.write(
            Folder(report.world.run_folder), report.world.folder / "nowhere" / "report.html", lambda images: None
        )
    with pytest.raises(UsageError, match="directory"):
        page.write(Folder(report.world.run_folder), report.world.folder / "runs", lambda images: None)


def test_the_command_writes_it_whole_over_an_older_one(report: Report) -> None:
    said = report.world.command("report", str(report.world.run_folder), "--html", "report.html")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("report.html: 6 images, ")
    assert [path.name for path in report.world.folder.iterdir() if "part" in path.name] == []


def test_above_so_many_images_their_thumbnails_stay_beside_the_run(
    report: Report,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "EMBEDDED_MOST", 4)
    monkeypatch.setattr(page, "TASKS_A_PAGE", 1)
    monkeypatch.setattr(page, "ROWS_LEAST", 1)
    large = Report(report.world, report.world.folder / "large.html")
    assert large.write() == page.Written(images=6, bare=0, embedded=False)
    assert "base64" not in large.file.read_text().partition("<style>")[0]
    tab = browser.tab().open(large.url)
    tab.eventually(LOADED)
    assert tab.text("#pager span").startswith("Prompts 1–1 of 3, 11 tasks")
    tab.keys("n", "n")
    tab.eventually("document.querySelector('.prompt').innerText.startsWith('A carp')")
    tab.keys("p")
    tab.eventually("document.querySelector('.prompt').innerText.startsWith('A heron')")
    tab.check_quiet(url(report.world.folder))
