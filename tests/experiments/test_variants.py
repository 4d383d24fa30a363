from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_comparison import Finished

from trsr.artifacts import RunFolder
from trsr.config import Config, load
from trsr.errors import ArtifactError
from trsr.experiments import variants
from trsr.experiments.protocol import open_contest, require_same_candidates
from trsr.experiments.scores import Shelf
from trsr.experiments.variants import Variant, configure, fingerprint, form, score_lists, settings_of
from trsr.pipeline import run
from trsr.ranking.scoring import RankingUser
from trsr.records import Split


def test_a_form_is_the_runs_settings_with_another_summary(tmp_path: Path) -> None:
    config = load(overrides={"prompt.recent_items": 7, "history.max": 18, "out": str(tmp_path / "run")})
    made = configure(config, form(config, "hierarchical"), 4, tmp_path / "variant")
    assert made.summary.paradigm == "hierarchical"
    assert made.prompt.recent_items == 7
    assert (made.seed, made.training_seed) == (config.seed, 4)
    whole = configure(config, form(config, "tallrec"), 4, tmp_path / "variant")
    assert (whole.summary.paradigm, whole.prompt.recent_items) == ("none", 17)
    assert whole.model_dump(exclude={"out", "summary", "prompt", "training"}) == config.model_dump(
        exclude={"out", "summary", "prompt", "training"}
    )


def test_variants_share_the_runs_store_of_answers(tmp_path: Path) -> None:
    config = Config(out=tmp_path / "runs" / "shop")
    made = configure(config, form(config, "recurrent"), 0, tmp_path / "runs" / "shop" / "comparison" / "x")
    assert made.store_url == config.store_url


def test_answers_depend_on_what_they_are_made_from_and_on_nothing_else(finished: Finished) -> None:
    config = finished.config
    contest = open_contest(config, say=lambda line: None)
    own = form(config, "recurrent")
    told = fingerprint(config, contest, own, 0)
    assert fingerprint(config, contest, own, 1) != told
    assert fingerprint(config, contest, form(config, "tallrec"), 0) != told
    assert fingerprint(config, contest, Variant("x", dict(own.overrides) | {"training.epochs": 9}), 0) != told
    aside = config.model_copy(
        update={
            "out": Path("elsewhere"),
            "comparison": config.comparison.model_copy(update={"seeds": (0, 1, 2)}),
            "evaluation": config.evaluation.model_copy(update={"bootstrap": 500}),
        }
    )
    assert fingerprint(aside, contest, own, 0) == told


def test_a_run_with_other_candidates_is_refused(finished: Finished, tmp_path: Path) -> None:
    contest = open_contest(finished.config, say=lambda line: None)
    other = finished.config.model_copy(update={"seed": 7, "out": tmp_path / "run"})
    folder = run(other, until="prepare", say=lambda line: None)
    with pytest.raises(ArtifactError, match="is not what the comparison was started with; delete"):
        require_same_candidates(contest, folder)
    require_same_candidates(contest, RunFolder(finished.config.folder))


class NumberingRanker:
    """Answers with the number in the item's id, plus a number of the user."""

    def __init__(self, users: Sequence[str]) -> None:
        self.users = users
        self.tasks: list[RankingUser] = []

    def score(self, tasks: Sequence[RankingUser], *_: object, **__: object) -> list[np.ndarray]:
        self.tasks = list(tasks)
        return [np.array([self.say(task.user_id, item.id) for item in task.candidates]) for task in tasks]

    def say(self, user: str, item: str) -> float:
        return (1000 * self.users.index(user) + int("".join(filter(str.isdigit, item)))) / 1e6


@pytest.mark.parametrize("split", [Split.VALID, Split.TEST])
def test_lists_are_scored_in_the_order_in_which_they_are_asked(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, split: Split
) -> None:
    contest = open_contest(finished.config, say=lambda line: None)
    panel, ids = contest.panels[split], contest.prepared.items["item_id"]
    ranker = NumberingRanker(panel.users)
    monkeypatch.setattr(variants, "_load", lambda path, trained: ranker)
    rng = np.random.default_rng(0)
    # Lists of other lengths, with repeats, in any order.
    offered = [rng.integers(len(ids), size=rng.integers(1, 40)).astype(np.int32) for _ in panel.users]
    shelf = Shelf(finished.config.folder / "comparison")
    settings = settings_of(finished.config, shelf, form(finished.config, "recurrent"), 0)
    scores = score_lists(settings, contest, split, offered, "numbers")
    for user, row, said in zip(panel.users, offered, scores, strict=True):
        assert said.tolist() == [ranker.say(user, ids[int(place)]) for place in row]
    summaries = pl.read_parquet(RunFolder(settings.folder).summaries)
    told = dict(summaries.select("user_id", "summary").iter_rows())
    rows = {row["user_id"]: row for row in contest.prepared.histories.iter_rows(named=True)}
    for task in ranker.tasks:
        assert [item.id for item in task.history] == rows[task.user_id]["history"]
        assert task.summary == told[task.user_id]
