"""The page as people have it: a real browser, with and without scripts, by keys, on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Error, Locator, Page, expect, sync_playwright
from served_process import ServedProcess

from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.serve.door import make_key

PHONE = {"width": 360, "height": 740}
_QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
_PATIENCE_MS = 60_000
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or else the one that Playwright has installed."""
    expect.set_options(timeout=_PATIENCE_MS)
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=found, args=_QUIET)
        except Error as error:
            if "Executable doesn't exist" not in str(error):
                raise
            pytest.skip(
                "no Chromium is installed: `make test` installs one, or `playwright install chromium`"
            )
        with started:
            yield started


@pytest.fixture(scope="module")
def run(fused_run: tuple[Config, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(fused_run[1].path, tmp_path_factory.mktemp("page") / "run"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    return {
        "path": str(path),
        "read": make_key(path, "looks", "read"),
        "full": make_key(path, "keeps", "full"),
    }


@pytest.fixture(scope="module")
def service(run: Path, keys: dict[str, str]) -> Iterator[ServedProcess]:
    process = ServedProcess(str(run), "--keys", keys["path"])
    yield process
    process.stop()


@pytest.fixture
def opened(browser: Browser, service: ServedProcess, keys: dict[str, str]) -> Iterator[Opened]:
    """Open the page as somebody who has come in; afterwards nothing may have gone wrong or elsewhere."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def listen(page: Page) -> None:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda asked: wrong.extend([asked.url] * (not asked.url.startswith(service.url))))
        page.on("console", lambda told: wrong.extend([told.text] * ("Content Security" in told.text)))

    def give(role: str = "full", **settings: Any) -> Page:
        context = browser.new_context(base_url=service.url, **settings)
        context.set_default_timeout(_PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        listen(page)
        page.goto("/")
        page.get_by_label("Key").fill(keys[role])
        page.get_by_role("button", name="Come in").click()
        expect(page.get_by_role("heading", name="Users")).to_be_visible()
        return page

    yield give
    for context in contexts:
        context.close()
    assert wrong == []


def follow(link: Locator) -> None:
    """Click, and wait for the next page to be there."""
    with link.page.expect_navigation():
        link.click()


def lines(page: Page, side: str = ".ranking .line") -> list[str]:
    return [text.strip() for text in page.locator(side).all_inner_texts()]


WHAT_IF = "#compare .sides > div:last-child .clamp"
AS_IT_IS = "#compare .sides > div:first-child .clamp"


def test_a_newcomer_finds_a_user_tries_a_text_keeps_it_and_sees_the_ranking_follow(opened: Opened) -> None:
    page = opened()
    first = page.locator(".user-id").first.inner_text()
    page.get_by_label("User id begins with").press_sequentially(first)
    expect(page.locator(".user-id")).to_have_count(1)
    follow(page.locator(".user-id"))
    expect(page.get_by_role("heading", level=1)).to_have_text(first)
    written, order = page.locator("blockquote").first.inner_text(), lines(page)

    page.get_by_label("The summary", exact=True).fill("Only benches of walnut and lamps.")
    expect(page.locator("#compare .told")).to_contain_text("Only benches of walnut and lamps.")
    assert lines(page, AS_IT_IS) == order
    tried = lines(page, WHAT_IF)
    assert sorted(tried) == sorted(order)
    follow(page.get_by_role("button", name="Keep this text as the summary"))

    expect(page.get_by_role("status")).to_contain_text("Your text is the summary now")
    expect(page.locator("blockquote").first).to_have_text("Only benches of walnut and lamps.")
    assert lines(page) == tried
    page.reload()
    assert lines(page) == tried
    follow(page.get_by_role("button", name="Undo the last change"))
    expect(page.locator("blockquote").first).to_have_text(written)
    assert lines(page) == order


def test_items_are_left_out_and_added_while_the_order_follows(opened: Opened) -> None:
    page = opened()
    follow(page.locator(".user-id").nth(1))
    order = lines(page)
    page.get_by_text("Leave items out", exact=True).click()
    page.locator("input[name=without]").first.check()
    expect(page.locator("#compare .sides")).to_be_visible()
    without = lines(page, WHAT_IF)
    page.get_by_text("Add items", exact=True).click()
    word = order[-1].split()[0]
    page.get_by_label("Words of the title").press_sequentially(word)
    page.locator("#items input").first.check()
    with page.expect_response("**/page/what-if"):
        page.get_by_role("button", name="Try it").click()
    page.get_by_label("Words of the title").fill("no such words")
    expect(page.locator("#items")).to_contain_text("No other item")
    expect(page.locator("#items input")).to_be_checked()
    added = lines(page, WHAT_IF)
    assert sorted(added) == sorted(without) == sorted(order)
    page.reload()
    assert lines(page) == order


def test_who_said_what_opens_by_keys_and_is_asked_once(opened: Opened) -> None:
    page = opened()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    with page.expect_navigation():
        page.locator(".people a").nth(2).press("Enter")
    summary = page.locator(".ranking summary").first
    summary.focus()
    outline = summary.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(3):
        summary.press("Enter")
    expect(page.locator(".why").first).to_contain_text("Language model")
    expect(page.locator(".why").first).to_contain_text("the summary")
    assert len(asked) == 1


def test_a_deletion_is_taken_back_or_confirmed(opened: Opened, run: Path) -> None:
    page = opened()
    link = page.locator(".user-id").nth(3)
    user = link.inner_text()
    follow(link)
    for confirmed in (False, True):
        page.get_by_text("Delete this user").click()
        follow(page.get_by_role("button", name=f"Delete {user}"))
        expect(page.locator(".leaving")).to_contain_text(user)
        expect(page.locator("#found")).not_to_contain_text(user)
        if not confirmed:
            follow(page.get_by_role("button", name=f"Undo the deletion of {user}"))
            expect(page.get_by_role("heading", level=1)).to_have_text(user)
    follow(page.get_by_role("button", name=f"Delete now user {user}"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Deleted")
    expect(page.locator(".removed")).to_contain_text("histories.parquet")
    assert user.encode() not in RunFolder(run).users.read_bytes()


def test_all_of_it_goes_without_scripts(opened: Opened) -> None:
    page = opened(java_script_enabled=False, viewport=PHONE)
    user = page.locator(".user-id").nth(4).inner_text()
    page.get_by_label("User id begins with").fill(user)
    follow(page.get_by_role("button", name="Find"))
    follow(page.locator(".user-id"))
    order = lines(page)
    page.get_by_label("The summary", exact=True).fill("Only mugs.")
    follow(page.get_by_role("button", name="Try it"))
    expect(page.locator("#compare .told")).to_contain_text("Only mugs.")
    tried = lines(page, WHAT_IF)
    follow(page.get_by_role("button", name="Keep this text as the summary"))
    assert lines(page) == tried
    page.locator(".ranking summary").first.click()
    follow(page.get_by_text("ask all who said something").first)
    expect(page.locator(".why")).to_contain_text("Language model")
    page.go_back()
    follow(page.get_by_role("button", name="Undo the last change"))
    assert lines(page) == order


def test_a_key_that_reads_sees_and_tries(opened: Opened) -> None:
    page = opened("read")
    follow(page.locator(".user-id").nth(5))
    expect(page.get_by_text("Edit the summary")).to_have_count(0)
    page.get_by_label("The summary", exact=True).fill("Only mugs.")
    expect(page.locator("#compare .told")).to_contain_text("Only mugs.")
    expect(page.get_by_role("button", name="Keep")).to_have_count(0)
    follow(page.get_by_role("button", name="Leave"))
    page.goto("/page")
    expect(page.get_by_label("Key")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_hold_what_wcag_asks_and_fit_a_phone(opened: Opened, scheme: str) -> None:
    page = opened(color_scheme=scheme, viewport=PHONE)
    check = Axe()
    # What is dark differs in its colours alone.
    rules = (
        ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] if scheme == "light" else ["color-contrast"]
    )

    def holds() -> None:
        found = check.run(page, options={"runOnly": rules})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    if scheme == "light":
        holds()
    follow(page.locator(".user-id").nth(6))
    page.locator(".ranking summary").first.click()
    page.get_by_label("The summary", exact=True).fill("Only mugs.")
    expect(page.locator("#compare .sides")).to_be_visible()
    expect(page.locator(".why")).to_be_visible()
    for each in page.locator("details.tool > summary").all():
        each.click()
    holds()


def test_a_refusal_is_said_in_place(opened: Opened) -> None:
    page = opened()
    follow(page.locator(".user-id").nth(7))
    order = lines(page)
    page.get_by_label("The summary", exact=True).fill("x" * 20_001)
    expect(page.get_by_role("alert")).to_contain_text("a text may have 20,000 characters")
    assert lines(page) == order
