from __future__ import annotations

from matplotlib import rc_context

from trsr.report.charts import new_axes
from trsr.report.svg import STYLE, _clean, to_svg


def test_the_font_of_older_matplotlib_is_left_to_the_page_too() -> None:
    old = """<svg><text style="font: 700 9px 'DejaVu Sans', sans-serif; fill: #010101">a</text></svg>"""
    new = """<svg><text style="font-size: 9px; font-family: 'DejaVu Sans'; fill: #0">a</text></svg>"""
    assert _clean(old) == '<svg><text style="font-size: 9px; font-weight: 700; fill: #010101">a</text></svg>'
    assert _clean(new) == '<svg><text style="font-size: 9px; fill: #0">a</text></svg>'


def test_title_and_description_are_escaped_and_referred_to() -> None:
    with rc_context(STYLE):
        figure, axes = new_axes(1.0)
        axes.plot([0, 1], [0, 1])
    svg = to_svg(figure, "one", "<b>", 'a "quoted" & <script>')
    assert '<title id="one-title">&lt;b&gt;</title>' in svg
    assert "<script" not in svg
    assert 'aria-labelledby="one-title one-desc"' in svg


def test_two_figures_of_the_same_form_share_no_id() -> None:
    def draw(name: str) -> str:
        with rc_context(STYLE):
            figure, axes = new_axes(1.0)
            axes.plot([0, 1], [0, 1], "o-")
        return to_svg(figure, name, "t", "d")

    one, two = draw("one"), draw("two")
    assert "url(#one-" in one
    assert two == one.replace("one-", "two-")
