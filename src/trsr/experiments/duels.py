"""Users for whom the language model and the best baseline differ most, chosen by a rule."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.artifacts import RunFolder, read_parquet
from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.evaluation.metrics import place_target
from trsr.experiments.contest import Contest
from trsr.experiments.entry import Entry
from trsr.experiments.scored import Floats
from trsr.records import SUMMARY, USER, Item, Split
from trsr.report.comparison.insights import Duel, Duels, Placed

_CARDS: Final = 3
_SHOWN: Final = 5
_LINE_LIMIT: Final = 120


def duels(config: Config, contest: Contest, model: Entry, baseline: Entry) -> Duels:
    """Show the test users whose target the two rank most differently, at the first training seed.

    Parameters
    ----------
    config
        The run's settings.
    contest
        What was asked.
    model, baseline
        The language model and the baseline that validation chose.
    """
    sampler, seed = contest.samplers[0], model.seeds[0]
    panel = contest.panels[Split.TEST]
    scores = [entry.at(seed).scores[Split.TEST][sampler] for entry in (model, baseline)]
    ranks = np.stack([_ranks(table, panel.columns[sampler]) for table in scores])
    ahead = ranks[1] - ranks[0]
    # Equal differences: whoever is ranked best by the winner comes first, then the user's id.
    wins = [user for user in np.lexsort((ranks[0], -ahead)) if ahead[user] > 0][:_CARDS]
    losses = [user for user in np.lexsort((ranks[1], ahead)) if ahead[user] < 0][:_CARDS]
    summaries = written_summaries(config, model.name, seed)
    catalogue = Catalogue(contest.prepared.items)
    lines = [_line(catalogue.item(item)) for item in catalogue.ids]

    def card(user: np.int64) -> Duel:
        candidates, target = panel.candidates[sampler][user], panel.targets[user]
        tops = [
            tuple(
                Placed(lines[candidates[place]], float(table[user, place]), bool(candidates[place] == target))
                for place in np.argsort(-table[user], kind="stable")[:_SHOWN]
            )
            for table in scores
        ]
        return Duel(
            user_id=panel.users[user],
            history=tuple(lines[item] for item in panel.histories[user]),
            summary=summaries.get(panel.users[user], ""),
            target=lines[target],
            model_rank=float(ranks[0, user]),
            baseline_rank=float(ranks[1, user]),
            model_top=tops[0],
            baseline_top=tops[1],
        )

    rule = (
        f"The {_CARDS} test users on either side whose target's rank differs most between the two, at "
        f"training seed {seed}."
    )
    return Duels(rule, tuple(map(card, wins)), tuple(map(card, losses)), sampler)


def _ranks(scores: Floats, columns: NDArray[np.int64]) -> Floats:
    above, tied = place_target(scores, columns)
    return 1 + above + tied / 2


def written_summaries(config: Config, form: str, seed: int) -> dict[str, str]:
    """Read what one form of the language model was told about each user; empty where nothing was written."""
    folder = RunFolder(config.folder / "comparison" / form / f"run-{seed}")
    if not folder.summaries.exists():
        return {}
    return dict(read_parquet(folder.summaries).select(USER, SUMMARY).iter_rows())


def _line(item: Item) -> str:
    text = next(iter(item.fields.values()), f"(item {item.id}, no text)")
    return text if len(text) <= _LINE_LIMIT else f"{text[: _LINE_LIMIT - 1].rstrip()}…"
