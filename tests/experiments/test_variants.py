import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from small_comparison import Finished, comparison_config

from trsr.artifacts import RunFolder
from trsr.config import Config, load
from trsr.data.prepare import Prepared
from trsr.experiments.protocol import EvaluationProtocol, comparison_protocol
from trsr.experiments.variants import Variant, configure, form, train_variant
from trsr.ranking.scoring import RankingUser
from trsr.records import Split
from trsr.stages import train as train_module
from trsr.stages.prepare import prepare
from trsr.stages.work import Artifact, Work


def opened(config: Config) -> tuple[Work, Artifact[Prepared], EvaluationProtocol]:
    """Give the work of the comparison, the data and what is asked."""
    work = Work(config, RunFolder(config.folder), lambda line: None)
    compared = Work(config, RunFolder(config.folder / "comparison"), lambda line: None)
    prepared = prepare(work)
    return compared, prepared, comparison_protocol(work, prepared)


def test_a_form_is_the_runs_settings_with_another_summary(tmp_path: Path) -> None:
    config = load(overrides={"prompt.recent_items": 7, "history.max": 18, "out": str(tmp_path / "run")})
    made = configure(config, form(config, "hierarchical"), 4, tmp_path / "variant")
    assert made.summary.paradigm == "hierarchical"
    assert made.prompt.recent_items == 7
    assert (made.seed, made.training_seed) == (config.seed, 4)
    whole = configure(config, form(config, "tallrec"), 4, tmp_path / "variant")
    assert (whole.summary.paradigm, whole.prompt.recent_items) == ("none", 17)
    ordering = configure(config, form(config, "llmseqprompt"), 4, tmp_path / "variant")
    assert (ordering.training.sampler, ordering.prompt.recent_items) == ("retrieved", 17)
    assert whole.model_dump(exclude={"out", "summary", "prompt", "training"}) == config.model_dump(
        exclude={"out", "summary", "prompt", "training"}
    )


def test_variants_share_the_runs_store_of_answers(tmp_path: Path) -> None:
    config = Config(out=tmp_path / "runs" / "shop")
    made = configure(config, form(config, "recurrent"), 0, tmp_path / "runs" / "shop" / "comparison" / "x")
    assert made.store_url == config.store_url


def test_scores_depend_on_what_they_are_made_from_and_on_nothing_else(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TrainingError(Exception):
        pass

    def train(*_: object) -> None:
        raise TrainingError

    monkeypatch.setattr(train_module, "fine_tune", train)
    shutil.copytree(finished.config.folder, tmp_path / "run")
    aside = comparison_config(tmp_path / "run", evaluation__bootstrap=500, name="elsewhere")
    work, prepared, protocol = opened(aside)
    known = set()
    for name in ("recurrent", "tallrec"):
        for seed in (0, 1):
            model = train_variant(work, prepared, form(aside, name), seed)
            scored = model.scores(work, f"{name}/seed-{seed}", protocol, begin=train)
            known.add(scored.entry.fingerprint)
    assert len(known) == 4
    own = form(aside, "recurrent")
    for changed, seed in ((Variant("x", {**own.overrides, "training.epochs": 9}), 0), (own, 2)):
        with pytest.raises(TrainingError):
            train_variant(work, prepared, changed, seed)


def test_what_the_run_has_made_is_used_where_it_lies(small: tuple[Config, RunFolder], tmp_path: Path) -> None:
    shutil.copytree(small[1].path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    work, prepared, _ = opened(small[0].model_copy(update={"out": run.path}))
    model = train_variant(work, prepared, form(work.config, "recurrent"), 0)
    assert (model.summaries.path, model.start.path, model.ranker.path) == (
        run.summaries,
        run.pretrained,
        run.model,
    )
    assert not (run.path / "comparison" / "recurrent").exists()


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
    work, prepared, protocol = opened(finished.config)
    data, ids = protocol.splits[split], protocol.prepared.items["item_id"]
    model = train_variant(work, prepared, form(finished.config, "recurrent"), 0)
    ranker = NumberingRanker(data.users)
    monkeypatch.setattr(model.ranker, "value", ranker)
    rng = np.random.default_rng(0)
    # Lists of other lengths, with repeats, in any order.
    offered = [rng.integers(len(ids), size=rng.integers(1, 40)).astype(np.int32) for _ in data.users]
    scores = model.score(protocol, split, offered, "numbers")
    for user, row, said in zip(data.users, offered, scores, strict=True):
        assert said.tolist() == [ranker.say(user, ids[int(place)]) for place in row]
    told = model.told
    rows = {row["user_id"]: row for row in protocol.prepared.histories.iter_rows(named=True)}
    for task in ranker.tasks:
        assert [item.id for item in task.history] == rows[task.user_id]["history"]
        assert task.summary == told[task.user_id]
