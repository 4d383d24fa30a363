"""A bundle ranks as its run did, wherever it lies, and knows nobody."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from small_run import small_config
from trsr import Recommender
from trsr.artifacts import RunFolder, read_parquet, write_json
from trsr.bundle import CARD, Bundle, save_bundle
from trsr.config import Config
from trsr.errors import ArtifactError, DataError
from trsr.pipeline import run
from trsr.prompts.templates import BUILT_IN
from trsr.summarize.keyphrase.vocabulary import Phrasebook


@pytest.fixture
def copied(fused_run: tuple[Config, RunFolder], tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(fused_run[1].path, tmp_path / "run"))


def test_a_moved_bundle_ranks_as_the_run_did_when_the_run_is_gone(copied: RunFolder, tmp_path: Path) -> None:
    row = read_parquet(copied.histories).filter(pl.col("split") == "test").row(0, named=True)
    asked: dict[str, Any] = {"history": row["history"], "candidates": [row["target"], *row["history"][:4]]}
    asked["candidates"].append({"title": "Walnut bench"})
    with Recommender.load(copied.path) as recommender:
        expected = recommender.rank(**asked)
    shutil.copytree(copied.bundle, tmp_path / "elsewhere" / "shipped")
    shutil.rmtree(copied.path)
    with Recommender.load(tmp_path / "elsewhere" / "shipped") as recommender:
        assert recommender.rank(**asked) == expected
        assert recommender.describe(row["target"])
        with pytest.raises(DataError, match="a bundle knows no users; load the run folder"):
            recommender.rank_user(row["user_id"])
    assert expected.summary
    assert any(item.score != item.p_yes for item in expected.items)


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Give every file as bytes, and tables once more as what they hold."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            yield path.name, str(read_parquet(path).to_dicts())


def test_no_user_no_history_no_summary_and_no_place_of_this_machine_is_in_it(copied: RunFolder) -> None:
    users = read_parquet(copied.histories)
    summaries = read_parquet(copied.summaries)
    assert users["user_id"].str.contains(r"^U\d{4,}$").all()
    known = {*users["user_id"], *summaries["summary"], *summaries["block_summaries"].explode()} - {"", None}
    known |= {json.dumps(list(history)) for history in users["history"]}
    known |= {str(list(history)) for history in users["history"]}
    made_at = json.loads((copied.model / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert made_at == "base"
    assert {name for name, text in texts(copied.path) if any(part in text for part in known)} > {
        "users.sqlite"
    }
    places = {str(copied.path), str(Path.cwd()), str(Path.home()), "/tmp"}
    found = {name for name, text in texts(copied.bundle) if any(part in text for part in known | places)}
    assert found == set()
    # What stands for people are sums over all of them: nothing has a row a user.
    counts = {users.height, summaries.height, *users["split"].value_counts()["count"]}
    for path in copied.bundle.rglob("*.parquet"):
        assert read_parquet(path).height not in counts


def test_weights_lie_on_the_disk_once(fused_run: tuple[Config, RunFolder]) -> None:
    folder = fused_run[1]
    weights = list(folder.model.rglob("*.safetensors"))
    assert weights
    for path in [*weights, *folder.fusion.rglob("*.safetensors")]:
        assert path.samefile(folder.bundle / path.relative_to(folder.path))


def test_it_is_made_once_for_what_was_trained(copied: RunFolder) -> None:
    config = small_config(copied.path, **{"data__users": 150})
    made = (copied.bundle / CARD).stat().st_mtime_ns
    settings = json.loads((copied.bundle / CARD).read_text())["settings"]
    assert settings["summary"]["writer"]["kind"] == "keyphrase"
    assert "store" not in settings["summary"]
    own = Bundle(copied.bundle).config
    again = config.model_copy(update={name: getattr(own, name) for name in ("items", "prompt", "summary")})
    assert not save_bundle(again, copied, fused=True)
    assert (copied.bundle / CARD).stat().st_mtime_ns == made
    assert save_bundle(again, copied, fused=False)
    assert not (copied.bundle / "fusion").exists()


def test_a_bundle_that_is_older_than_the_model_is_refused(copied: RunFolder) -> None:
    entry = copied.entries()["train"]
    (copied.model / "more.json").write_text("{}")
    copied.mark_complete("train", entry.fingerprint, [copied.model], 0)
    with pytest.raises(ArtifactError, match="older than the run's model; run `trsr run`"):
        Recommender.load(copied.path)


def _cut(bundle: Path) -> None:
    path = bundle / "model" / "model.safetensors"
    path = path if path.exists() else bundle / "model" / "base" / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-8])


def _change(bundle: Path) -> None:
    card = (bundle / "fusion" / "fusion.json").read_text()
    (bundle / "fusion" / "fusion.json").unlink()
    (bundle / "fusion" / "fusion.json").write_text(card.replace("1", "2", 1))


def _edit(**values: Any) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        write_json(json.loads((bundle / CARD).read_text()) | values, bundle / CARD)

    return edit


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_cut, r"model\.safetensors: isn't the file that the bundle was made with; copy it again, or make"),
        (_change, r"fusion\.json: isn't the file that the bundle was made with"),
        (lambda bundle: (bundle / "items.parquet").unlink(), r"items\.parquet is missing: copy it again"),
        (lambda bundle: (bundle / CARD).write_text("{"), "not a bundle .* copy it again"),
        (
            _edit(format=2, trsr="9.0"),
            r"format 2, by trsr 9\.0; this is trsr .* which reads format 1: update",
        ),
        (_edit(format=0), "make it again by `trsr run`"),
        (_edit(settings={}), "not a bundle"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_next_step(
    fused_run: tuple[Config, RunFolder], tmp_path: Path, damage: Callable[[Path], object], told: str
) -> None:
    bundle = Path(shutil.copytree(fused_run[1].bundle, tmp_path / "bundle"))
    damage(bundle)
    with pytest.raises(ArtifactError, match=told):
        Recommender.load(bundle)


def test_own_templates_travel_with_it(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    template = (BUILT_IN / "rank_compact_prefix.jinja").read_text(encoding="utf-8")
    (own / "rank_compact_prefix.jinja").write_text(template + "Now:\n", encoding="utf-8")
    config = small_config(tmp_path / "run", prompt__templates=str(own), training__epochs=1)
    folder = run(config, until="train", say=lambda line: None)
    with Recommender.load(folder.path) as recommender:
        expected = recommender.rank(history=[], k=5)
    shutil.move(folder.bundle, tmp_path / "bundle")
    shutil.rmtree(folder.path)
    shutil.rmtree(own)
    with Recommender.load(tmp_path / "bundle") as recommender:
        assert recommender.rank(history=[], k=5) == expected
        assert (
            recommender.scorer.ranker.prompt.prompting.templates
            == tmp_path / "bundle" / "model" / "templates"
        )


def test_a_vocabulary_comes_back_as_it_was(copied: RunFolder, tmp_path: Path) -> None:
    loaded = Bundle(copied.bundle).vocabulary()
    assert isinstance(loaded, Phrasebook)
    loaded.save(tmp_path / "again")
    again = Phrasebook.load(tmp_path / "again")
    for name in ("kinds", "_size", "_usual", "_surfaces", "_things", "_telling"):
        assert getattr(again, name) == getattr(loaded, name), name
    (tmp_path / "again" / "features.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"not a readable Parquet file"):
        Phrasebook.load(tmp_path / "again")
