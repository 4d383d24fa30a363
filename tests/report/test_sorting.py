"""The page in a real browser, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium")

SILENT = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def opened(page: str, folder: Path) -> str:
    """Give the document as it is after the browser has run its scripts."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, *SILENT, f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def first_table(page: str) -> str:
    return page.split('data-table="uniform"')[1].split("</table>")[0]


def names(table: str) -> list[str]:
    return re.findall(r'<th scope="row"[^>]*><bdi>(.*?)</bdi>', table)


def test_every_head_becomes_a_button_under_the_page_s_own_policy(
    comparison_page: str, tmp_path: Path
) -> None:
    table = first_table(opened(comparison_page, tmp_path))
    heads = re.findall(r'<th scope="col".*?</th>', table, re.DOTALL)
    assert heads
    assert all('<button type="button">' in head for head in heads)
    assert names(table) == names(first_table(comparison_page))


@pytest.mark.parametrize(
    ("column", "clicks", "state"), [(1, 1, "descending"), (1, 2, "ascending"), (0, 1, "ascending")]
)
def test_a_click_sorts(comparison_page: str, tmp_path: Path, column: int, clicks: int, state: str) -> None:
    head = f"document.querySelector('table.metrics').tHead.rows[0].cells[{column}]"
    click = f"{head}.querySelector('button').click();"
    # The page's policy forbids a second script, so that the click needs a copy without it.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", comparison_page)
    page = page.replace("</body>", f"<script>{click * clicks}</script></body>")
    table = first_table(opened(page, tmp_path))
    assert table.count("aria-sort=") == 1
    assert f'aria-sort="{state}"' in table
    if column == 0:
        assert names(table) == sorted(names(table), key=str.casefold)
        return
    rows = table.split("<tbody>")[1].split("<tr")[1:]
    values = [
        float(re.findall(r'<td class="num[^"]*" data-value="([^"]*)"', row)[column - 1]) for row in rows
    ]
    assert len(values) == 14
    assert values == sorted(values, reverse=state == "descending")
