"""A ranking model as it stands: on this machine or behind a server, where nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json
from trsr.compact.start import fresh_ranker
from trsr.config import Config
from trsr.config.evaluation import Untrained
from trsr.config.ranking import EndpointModel
from trsr.data.dataset import Catalogue
from trsr.data.prepare import Prepared
from trsr.ranking.likelihood import LikelihoodRanker
from trsr.ranking.ranker import CARD, CandidateScorer, Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import CANDIDATES, HISTORY, MEASURED, SPLIT, USER, Usage
from trsr.served import ServedOrder, ServedRanker
from trsr.stages.train import LOG, outside, shown_items
from trsr.stages.work import Artifact, Made, Work
from trsr.summarize.cost import Bill
from trsr.summarize.forecast import Forecast
from trsr.summarize.store import Store


def stand(
    work: Work, prepared: Artifact[Prepared], start: Artifact[Path | None], untrained: Untrained | None = None
) -> Artifact[CandidateScorer]:
    """Give the ranking model without training, in the place of `trsr.stages.train.train`.

    `untrained` says what of it ranks, p(yes) where it is None. Only what it is goes into the folder: weights
    that have a place of their own stay there.
    """
    folder = work.folder.model
    ranks = {"by": "p_yes", "length": "sum"}
    if untrained is not None:
        ranks = {"by": untrained.by, "length": untrained.length}
    orders = ranks["by"] == "order"
    opened: list[Ranker | ServedRanker | ServedOrder] = []
    told = [prepared.digest] if work.config.prompt.nearest_items else []

    def make(config: Config) -> Made:
        ranker = _served(config, orders) or fresh_ranker(
            config, start.value, catalogue=shown_items(config, prepared.value.items)
        )
        opened.append(ranker)
        if not isinstance(ranker, Ranker):
            write_json(ranker.card, folder / CARD)
        else:
            ranker.save(folder, weights=ranker.origin.base is None)
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        write_json({"pretraining": [], "fine_tuning": []}, folder / LOG)
        write_json(card | ranks, folder / CARD)
        work.say(f"  model, as it stands: {card['identity']}")
        return Made([folder])

    def load(made: Artifact[CandidateScorer]) -> CandidateScorer:
        ranker = opened[0] if opened else _served(work.config, orders) or Ranker.load(made.path)
        if untrained is not None and untrained.by == "likelihood":
            assert isinstance(ranker, Ranker)  # the settings refuse servers
            return LikelihoodRanker(ranker, untrained.length)
        return ranker

    return work.step(
        "train",
        "nothing to train: the ranking model stands as it is",
        make,
        load,
        settings=("items", "prompt", "model", "training.method"),
        free=("seed", "training.seed", "summary.store", "out", "name"),
        content=[ranks, start.digest, *told, *outside(work.config)],
    )


def _served(config: Config, orders: bool) -> ServedRanker | ServedOrder | None:
    if not isinstance(config.model, EndpointModel):
        return None
    return ServedOrder(config) if orders else ServedRanker(config)


def plan_scores(config: Config, folder: RunFolder, items: pl.DataFrame) -> list[Forecast]:
    """Forecast what a run's scores by a server cost; empty for any other model.

    Raises ModelError when the tokenizer can't be loaded, StoreError when the store can't be read.
    """
    if not isinstance(config.model, EndpointModel):
        return []
    ranker, price = ServedRanker(config), config.model.price
    histories = read_parquet(folder.require(folder.histories, "prepare"))
    candidates = read_parquet(folder.require(folder.candidates, "prepare"))
    shown = Catalogue(items, config.ranking_fields).items
    measured = histories.filter(pl.col(SPLIT).is_in([split.value for split in MEASURED]))
    rows = measured.join(candidates.select(USER, CANDIDATES), on=USER).select(USER, HISTORY, CANDIDATES)
    users = [RankingUser(user, "", shown(taken), shown(asked)) for user, taken, asked in rows.iter_rows()]
    questions = [question for user in users for question in ranker.questions(user)]
    with Store(config.store_url) as store:
        stored = store.get_many([question.key for question in questions])
    new = [question for question in questions if question.key not in stored]
    usage = sum((ranker.most(question) for question in new), Usage())
    told = config.summary.paradigm != "none"
    basis = "p(yes) is asked of the validation and test users' candidates" + (
        f"; their prompts are counted without the summaries, of at most {config.prompt.summary_tokens} "
        "tokens each."
        if told
        else "."
    )
    return [Forecast(Bill.of("p(yes)", usage, len(questions) - len(new), None, price), basis)]
