"""What an ablation says, in plain words: which settings matter, which don't, and what stays open."""

from __future__ import annotations

from dataclasses import dataclass

from trsr.report.ablation.content import AblationContent, Panel, Variant
from trsr.report.comparison.board import LEVEL
from trsr.report.wording import counted, listed, p_value, sampler_name, signed, split_name


@dataclass(frozen=True, slots=True)
class Headline:
    """A title, what was measured, and what it rests on."""

    title: str
    task: str
    sentences: tuple[str, ...]


def default_of(panel: Panel) -> Variant | None:
    """Give the default variant of a panel; None when it was not measured."""
    return next((variant for variant in panel.variants if variant.is_default), None)


def headline(content: AblationContent) -> Headline:
    """Say which settings the paired tests tell apart from the default.

    Parameters
    ----------
    content
        The ablation.
    """
    better = [_change(panel, one) for panel in content.panels for one in _told(panel, above=True)]
    worse = [_change(panel, one) for panel in content.panels for one in _told(panel, above=False)]
    untold = [panel.name for panel in content.panels if _is_tested(panel) and not _is_told(panel)]
    untested = [panel.name for panel in content.panels if not _is_tested(panel)]
    sentences = []
    if better:
        sentences.append(f"Better than the default: {listed(better)}.")
    if worse:
        sentences.append(f"Worse than the default: {listed(worse)}.")
    if untold:
        sentences.append(
            f"No value can be told apart from the default in: {listed(untold)}. This does not show that the "
            "values are equal: the intervals say how large a difference could have been missed."
        )
    if untested:
        sentences.append(f"Not tested: {listed(untested)}.")
    users = content.provenance.users.get(content.split, 0)
    who = split_name(content.split).lower()
    changed = ", with one setting changed at a time" if content.panels else ""
    task = (
        f"{content.measure} of {counted(users, who.removesuffix('s'))}, {content.candidates} candidates "
        f"each, {sampler_name(content.sampler)}{changed}."
    )
    return Headline(_title(content), task, tuple(sentences))


def _title(content: AblationContent) -> str:
    if not content.panels:
        return _grid_title(content)
    told = [panel.name for panel in content.panels if _is_told(panel)]
    if not told:
        return "No changed setting can be told apart from the default"
    total = counted(len(content.panels), "setting")
    return f"Of {total}, {len(told)} clearly matter{'s' if len(told) == 1 else ''}: {listed(told)}"


def _grid_title(content: AblationContent) -> str:
    differences = [one.difference for grid in content.grids for one in grid.expectations]
    if not content.grids:
        return "No setting was changed"
    if not differences:
        return "Two settings were crossed"
    came_out = sum(one is not None and one.low > 0 for one in differences)
    if came_out == len(differences):
        return "What was planted comes out in full"
    return f"Of {counted(len(differences), 'planted order')}, {came_out} came out"


def _is_tested(panel: Panel) -> bool:
    return any(variant.p is not None for variant in panel.variants)


def _is_told(panel: Panel) -> bool:
    return any(variant.p is not None and variant.p < LEVEL for variant in panel.variants)


def _told(panel: Panel, above: bool) -> list[Variant]:
    default = default_of(panel)
    if default is None:
        return []
    return [
        variant
        for variant in panel.variants
        if variant.p is not None and variant.p < LEVEL and (variant.value.mean > default.value.mean) == above
    ]


def _change(panel: Panel, variant: Variant) -> str:
    default = default_of(panel)
    assert default is not None
    difference = signed(variant.value.mean - default.value.mean)
    return f"{panel.name} “{variant.label}” ({difference}, p {p_value(variant.p)})"
