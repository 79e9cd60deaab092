"""Chromium for tests: each page keeps an eye on what it asks for, what it complains of, and what runs in it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from world import eventually

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "NO BROWSER TESTS: there is no Chromium here (apt-get install chromium)"


@dataclass(slots=True)
class Tab:
    """A page in a browser. `asked` are all requests but for data: URLs, `said` are errors and dialogs."""

    page: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def dismiss(self, dialog: Any) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, url: str, wait: str = ".tile") -> "Tab":
        self.page.goto(url)
        self.page.wait_for_selector(wait, state="attached")
        return self

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found

    def text(self, selector: str) -> str:
        return "\n".join(self.texts(selector))

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def js(self, code: str) -> Any:
        return self.page.evaluate(code)

    def eventually(self, code: str) -> None:
        """Wait until an expression holds."""
        eventually(lambda: self.page.evaluate(f"Boolean({code})"), within=10.0)

    def check_quiet(self, *origins: str) -> None:
        """It complained of nothing, and asked for nothing but what begins so."""
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(origins)] == []


@dataclass(slots=True)
class Browser:
    chromium: Any

    def tab(self, width: int = 1280, height: int = 800, **more: Any) -> Tab:
        context = self.chromium.new_context(viewport={"width": width, "height": height}, **more)
        tab = Tab(context.new_page())
        context.on("request", lambda asked: None if asked.url.startswith("data:") else tab.asked.append(asked.url))
        tab.page.on("console", lambda said: tab.said.append(said.text) if said.type in ("error", "warning") else None)
        tab.page.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.page.on("dialog", lambda dialog: tab.dismiss(dialog))
        return tab


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of a module. While it is there, nothing else can run an event loop in this thread."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    sync_api = pytest.importorskip("playwright.sync_api", reason="NO BROWSER TESTS: playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield Browser(chromium)
        chromium.close()


def url(path: Path) -> str:
    return path.absolute().as_uri()
