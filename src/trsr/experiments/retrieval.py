"""Ranking the whole catalogue: where the target stands, and which items a retriever hands on."""

from __future__ import annotations

import numpy as np

from trsr.baselines.baseline import Baseline
from trsr.baselines.score import score_catalogue
from trsr.evaluation.catalogue import CatalogueRanks, place_in_catalogue, top_items
from trsr.experiments.contest import Contest, Panel
from trsr.experiments.scored import InCatalogue


def rank_panel(baseline: Baseline, panel: Panel, n_items: int, depth: int, seed: int) -> InCatalogue:
    """Rank the catalogue for every user of a split, block by block.

    Parameters
    ----------
    baseline
        A trained one.
    panel
        The users.
    n_items
        Size of the catalogue.
    depth
        Items to retrieve a user.
    seed
        Decides the order of retrieved items with equal scores.
    """
    ranks, retrieved = [], []
    for part, scores in score_catalogue(baseline, panel.users, panel.histories, n_items):
        histories = panel.histories[part]
        ranks.append(place_in_catalogue(scores, panel.targets[part], histories))
        # The same order of equal scores in every block: blocks are a matter of memory only.
        retrieved.append(top_items(scores, histories, depth, np.random.default_rng(seed)))
    return InCatalogue(
        CatalogueRanks(
            np.concatenate([block.above for block in ranks]),
            np.concatenate([block.tied for block in ranks]),
            np.concatenate([block.others for block in ranks]),
        ),
        np.concatenate(retrieved).astype(np.int32),
    )


def retrieval_depth(contest: Contest, wanted: int) -> int:
    """Return `wanted`, or less when a small catalogue leaves a user with fewer new items."""
    longest = max(len(np.unique(history)) for panel in contest.panels.values() for history in panel.histories)
    return min(wanted, contest.prepared.items.height - longest)
