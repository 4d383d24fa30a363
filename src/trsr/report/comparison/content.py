"""What the page of a comparison shows: plain records, gathered by whoever ran the systems.

Nothing here reads a file or a clock. Systems are referred to by their names
(``sasrec_text``); `System` says once how each is called on the page. Every text
is shown as text and escaped by the page. A part that was not measured stays at
its default, and the page says so in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from trsr.report.comparison.insights import Agreement, Calibration, Duels, Fusion
from trsr.report.comparison.provenance import Provenance
from trsr.report.comparison.standings import System, Table, TwoStage


@dataclass(frozen=True, slots=True)
class ComparisonContent:
    """Everything that the page of a comparison shows.

    Parameters
    ----------
    name
        The comparison's name.
    measure
        The primary measure, set before any test user was measured; headline, slices and marks speak of it.
    systems
        All systems, in the order in which tables without any sorting show them.
    tables
        Sampled tables on the test users; the first is the one that the headline speaks of.
    provenance
        Command, configuration, seeds, versions, choices.
    domain
        What is ranked: ``shopping``, ``news``, ``video`` or ``generic``.
    items
        Number of items in the catalogue; None when it isn't known.
    language_model
        Name of the language model that validation chose; empty without one.
    baseline
        Name of the baseline that validation chose as the best; empty without one.
    catalogue
        Ranks in the whole catalogue; None when they were not computed. Systems that can't score the
        whole catalogue are left out.
    two_stage
        The two-stage ranking; None when it was not run.
    calibration
        One per system that gives a probability.
    fusion
        Weights of the fused ranker; None without one.
    agreement
        Shared hits; None when not computed.
    duels
        Cards; None without a language model or a baseline.
    """

    name: str
    measure: str
    systems: tuple[System, ...]
    tables: tuple[Table, ...]
    provenance: Provenance
    domain: str = "generic"
    items: int | None = None
    language_model: str = ""
    baseline: str = ""
    catalogue: Table | None = None
    two_stage: TwoStage | None = None
    calibration: tuple[Calibration, ...] = ()
    fusion: Fusion | None = None
    agreement: Agreement | None = None
    duels: Duels | None = None
