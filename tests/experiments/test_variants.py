from pathlib import Path

import pytest
from small_comparison import Finished

from trsr.artifacts import RunFolder
from trsr.config import Config, load
from trsr.errors import ArtifactError
from trsr.experiments.contest import open_contest, require_same_candidates
from trsr.experiments.variants import Variant, configure, fingerprint, form
from trsr.pipeline import run


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
