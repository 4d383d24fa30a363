"""Where rooms meet: nothing leaks from a target into what is read, and every score reaches its candidate.

One run, comparison, ablation, export and import of a shop whose texts say whose they are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

import numbered_shop as shop
from counting_server import counting_server
from small_run import small_config
from trsr import Recommender
from trsr.artifacts import RunFolder, read_parquet
from trsr.baselines.simple import Random
from trsr.baselines.training_data import training_data
from trsr.data.prepare import load
from trsr.experiments import fused
from trsr.experiments import report as content
from trsr.experiments.ablate import ablate
from trsr.experiments.compare import compare
from trsr.experiments.protocol import comparison_protocol
from trsr.fusion.features import Evidence
from trsr.fusion.fusion import Fusion
from trsr.interop.export import DataTool, export
from trsr.interop.importing import import_scores
from trsr.pipeline import run
from trsr.records import Ranking
from trsr.stages.prepare import prepare
from trsr.stages.work import Work

INDEX = {shop.user_id(user): user for user in range(shop.USERS + 2 * shop.SHORT)}
MEASURED = (*shop.VALID, *shop.TEST)
SETTINGS: dict[str, Any] = {
    "summary__checks": [],
    "summary__sampling__max_new_tokens": 40,
    "training__epochs": 1,
    "evaluation__baselines": ["random", "popularity"],
    "fusion__companions": ["random"],
    "comparison": {
        "baselines": ["random", "popularity", "sasrec"],
        "language_models": ["tallrec", "recurrent"],
        "seeds": [0],
        "retrieve": 12,
    },
    "ablation": {"dimensions": ["recent_items"], "recent_items": [0], "grid": False, "seeds": [0]},
}


@dataclass(frozen=True)
class Whole:
    """All that can be done with a run, done once, and what was heard on the way."""

    folder: RunFolder
    heard: shop.Heard
    chats: list[str]
    ranked: dict[str, Ranking]
    comparison: dict[str, Any]
    ablation: dict[str, Any]
    exported: Path
    joined: list[tuple[Evidence, np.ndarray, Sequence[str]]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = tmp_path_factory.mktemp("seams")
    data = {name.replace(".", "__"): value for name, value in shop.write_shop(place).items()}
    with counting_server() as server, shop.numbering() as heard, pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "render", lambda content: "")  # drawing takes longer than all else
        joined, fit = [], fused.fit_fusion
        patch.setattr(fused, "fit_fusion", lambda *told: joined.append(told) or fit(*told))
        server.say = _answer
        writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted"}
        config = small_config(place / "run", summary__writer=writer, **SETTINGS, **data)
        folder = run(config, until="evaluate", say=_silent)
        ranker = Recommender.load(folder.path, ranker="language_model")
        ranked = {shop.user_id(user): ranker.rank_user(shop.user_id(user)) for user in MEASURED[::5]}
        work = Work(config, folder, _silent)
        comparison_protocol(work, prepare(work))  # freezes the candidates of the other sampler
        _export_and_bring_back(folder, place)
        compared = compare(config, say=_silent)
        ablated = ablate(config, say=_silent)
        for paradigm in ("hierarchical", "recurrent"):
            written = "endpoint" if paradigm == "hierarchical" else "keyphrase"
            kind = writer if written == "endpoint" else {"kind": "keyphrase"}
            other = small_config(place / written, summary__writer=kind, summary__paradigm=paradigm, **data)
            run(other, until="summarize", say=_silent)
    return Whole(
        folder=folder,
        heard=heard,
        chats=list(server.asked),
        ranked=ranked,
        comparison=json.loads(compared.figures.read_text(encoding="utf-8")),
        ablation=json.loads(ablated.figures.read_text(encoding="utf-8")),
        exported=place / "exported",
        joined=joined,
    )


def _silent(line: str) -> None:
    pass


def _answer(prompt: str) -> str:
    """Write a summary that repeats every telling word of the chat."""
    return f"Likes {', '.join(dict.fromkeys(re.findall(r'own[0-9]{3}|zx[a-z]{3}', prompt)))} and quiet tools."


def _export_and_bring_back(folder: RunFolder, place: Path) -> None:
    """Write for all tools, and import the run's own scores in another order as those of a stranger."""
    for tool in get_args(DataTool):
        export(folder, tool, place / "exported" / tool.value)
    pairs = pl.concat([_pairs(candidates) for candidates in _frozen(folder).values()]).unique()
    told = pairs.with_columns(pl.Series("score", _expected(pairs)))
    told.sample(fraction=1, shuffle=True, seed=1).write_csv(place / "stranger.csv")
    import_scores(folder, place / "stranger.csv", "stranger")


def _frozen(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Read the candidates of measured users by sampler."""
    paths = {
        "uniform": folder.candidates,
        "popularity": folder.path / "comparison" / "candidates_popularity.parquet",
    }
    return {name: read_parquet(path).filter(pl.col("split") != "train") for name, path in paths.items()}


def _pairs(candidates: pl.DataFrame) -> pl.DataFrame:
    return candidates.select("user_id", pl.col("candidates").alias("item_id")).explode("item_id")


def _expected(pairs: pl.DataFrame) -> list[float]:
    rows = pairs.select("user_id", "item_id").iter_rows()
    return [shop.p_of(INDEX[user], shop.number_of(item)) for user, item in rows]


def _targets_in(texts: Sequence[str]) -> set[str]:
    words = {word for text in texts for word in re.findall(r"zx[a-z]{3}", text)}
    numbers = {int(number) for text in texts for number in re.findall(r"\bn(\d{3})", text)}
    return words | {shop.nonsense(u) for u in range(shop.USERS) if shop.target_item(u) in numbers}


# Nothing that is read before the answer tells the target.


def test_no_chat_and_no_summary_tells_a_target(whole: Whole) -> None:
    place = whole.folder.path.parent
    written = [read_parquet(path) for path in sorted(place.rglob("summaries.parquet"))]
    assert len(written) == 4, "the run, a form without summaries, two runs of other paradigms or writers"
    texts = [text for table in written for text in [*table["summary"], *table["block_summaries"].explode()]]
    # The words would be there: every user's last item before the target is told.
    told = " ".join(whole.chats)
    assert all(f"own{user:03d}" in told for user in range(shop.USERS))
    assert "zx" not in told
    assert not _targets_in([*whole.chats, *(text for text in texts if text)])


def test_no_ranking_prompt_tells_a_target_but_as_a_candidate(whole: Whole) -> None:
    shown = " ".join(whole.heard.prefixes)
    assert all(f"own{user:03d}" in shown for user in MEASURED)
    assert not _targets_in(whole.heard.prefixes)
    assert all(len(re.findall(r"\bn\d{3}", text)) <= 1 for text in set(whole.heard.suffixes))
    assert _targets_in(whole.heard.suffixes) >= {shop.nonsense(user) for user in MEASURED}


def test_nothing_of_measured_users_or_of_later_histories_is_learnt(whole: Whole) -> None:
    """The split goes by time: what ended after the first measured target is not learnt from either."""
    assert {"embeddings", "next item", "questions", "sasrec"} < set(whole.heard.learnt)
    early = [user for user in range(shop.USERS, shop.USERS + 2 * shop.SHORT) if user % 2]
    events = pl.read_csv(whole.folder.path.parent / "events.csv").sort("time")
    histories: dict[int, tuple[int, ...]] = {}
    for user, item in events.select("user_id", "item_id").iter_rows():
        histories[INDEX[user]] = (*histories.get(INDEX[user], ()), shop.number_of(item))
    allowed = {histories[user] for user in (*shop.TRAIN, *early)}
    for name, sequences in whole.heard.learnt.items():
        assert {tuple(sequence) for sequence in sequences} == allowed, name


def test_no_history_that_a_baseline_reads_holds_the_target(whole: Whole) -> None:
    assert {user for user, _ in whole.heard.asked} == {shop.user_id(user) for user in MEASURED}
    for user, history in whole.heard.asked:
        assert history[-1] == shop.own_item(INDEX[user])
        assert shop.target_item(INDEX[user]) not in history


# Every score reaches the candidate that it was asked for.


def test_scores_of_a_run_belong_to_their_users_and_items(whole: Whole) -> None:
    scores = _scored(whole.folder, "recurrent")
    assert scores.height == len(MEASURED) * 21 + len(shop.VALID) * 21
    assert scores["score"].to_list() == pytest.approx(_expected(scores), abs=1e-6)
    metrics = json.loads(whole.folder.metrics.read_text(encoding="utf-8"))["systems"]
    own = metrics["recurrent"]
    for split in ("valid", "test"):
        candidates = _frozen(whole.folder)["uniform"].filter(pl.col("split") == split)
        assert _means(own[split]["metrics"]) == pytest.approx(_by_hand(candidates), abs=1e-6)


def test_baselines_of_a_run_belong_to_their_users_and_items(whole: Whole) -> None:
    chance = _scored(whole.folder, "random")
    assert chance["score"].to_list() == pytest.approx(_chance(whole.folder, chance), abs=1e-12)
    popular = _scored(whole.folder, "popularity")
    counts = np.bincount(np.concatenate(whole.heard.learnt["Popularity"][: len(shop.TRAIN) + shop.SHORT]))
    seen = [
        int(counts[number]) if number < len(counts) else 0
        for number in map(shop.number_of, popular["item_id"])
    ]
    by_count: dict[int, set[float]] = {}
    for count, score in zip(seen, popular["score"], strict=True):
        by_count.setdefault(count, set()).add(score)
    assert all(len(scores) == 1 for scores in by_count.values())
    ordered = [by_count[count].pop() for count in sorted(by_count)]
    assert ordered == sorted(set(ordered))


def test_fused_scores_of_a_run_join_what_was_said_of_the_same_pair(whole: Whole) -> None:
    """One user at a time, items by name: the order of the frozen list can't matter."""
    tested = _scored(whole.folder, "fused").filter(split="test")
    assert tested.height == len(shop.TEST) * 21
    prepared = load(whole.folder)
    data = training_data(prepared)
    weights = Fusion.load(whole.folder.fusion / "fusion.json")
    place = {item: at for at, item in enumerate(prepared.items["item_id"])}
    for _, rows in tested.sort("item_id").group_by("user_id", maintain_order=True):
        at = np.array([[place[item] for item in rows["item_id"]]], np.int32)
        said = {
            "language_model": np.array([_expected(rows)]),
            "random": np.array([_chance(whole.folder, rows)]),
        }
        alone = weights.score(Evidence(said, data.counts[at], np.array([False])))
        assert rows["score"].to_list() == pytest.approx(alone[0].tolist(), abs=1e-5)


def _scored(folder: RunFolder, system: str) -> pl.DataFrame:
    return read_parquet(folder.scores / f"{system}.parquet")


def _chance(folder: RunFolder, pairs: pl.DataFrame) -> list[float]:
    """Ask the random baseline for one pair after the other."""
    random = Random(seed=0)
    prepared = load(folder)
    random.fit(training_data(prepared))
    place = {item: at for at, item in enumerate(prepared.items["item_id"])}
    nothing = [np.empty(0, np.int32)]
    return [
        float(random.score([user], nothing, np.array([[place[item]]], np.int32))[0, 0])
        for user, item in pairs.select("user_id", "item_id").iter_rows()
    ]


def test_a_ranking_of_a_user_is_that_of_the_scores(whole: Whole) -> None:
    for user, ranking in whole.ranked.items():
        said = {item.item_id: item.score for item in ranking.items}
        own = {name: shop.p_of(INDEX[user], shop.number_of(name)) for name in said}
        assert said == pytest.approx(own, abs=1e-6)
        assert list(said) == sorted(own, key=lambda name: -own[name])


def _compared(folder: RunFolder) -> Path:
    return folder.path / "comparison" / "scores"


@pytest.mark.parametrize("system", ["recurrent", "tallrec", "random"])
def test_answers_of_a_comparison_belong_to_their_users_and_items(whole: Whole, system: str) -> None:
    answers = read_parquet(_compared(whole.folder) / system / "seed-0.parquet")
    for sampler, candidates in _frozen(whole.folder).items():
        pairs = answers.filter(sampler=sampler)
        assert sorted(pairs.select("user_id", "item_id").rows()) == sorted(_pairs(candidates).rows())
        said = _chance(whole.folder, pairs) if system == "random" else _expected(pairs)
        assert pairs["score"].to_list() == pytest.approx(said, abs=1e-6)


@pytest.mark.parametrize("system", ["recurrent", "tallrec", "stranger"])
def test_figures_of_a_comparison_are_those_of_the_scores(whole: Whole, system: str) -> None:
    """The stranger's scores came through a file, in another order."""
    for table in whole.comparison["tables"]:
        [row] = [row for row in table["rows"] if row["system"] == system]
        candidates = _frozen(whole.folder)[table["sampler"]].filter(pl.col("split") == "test")
        assert _means(row["metrics"]) == pytest.approx(_by_hand(candidates), abs=1e-4)


def test_a_comparison_fuses_what_was_said_of_the_same_pairs(whole: Whole) -> None:
    frozen = [frame.filter(pl.col("split") == "valid") for frame in _frozen(whole.folder).values()]
    rows = pl.concat([frame.sort("user_id").select("user_id", "target", "candidates") for frame in frozen])
    counts = training_data(load(whole.folder)).counts
    ids = load(whole.folder).items["item_id"].to_list()
    assert whole.joined
    for evidence, targets, users in whole.joined:
        assert list(users) == rows["user_id"].to_list()
        for at, (user, target, offered) in enumerate(rows.iter_rows()):
            pairs = pl.DataFrame({"user_id": [user] * len(offered), "item_id": offered})
            assert evidence.scores["language_model"][at].tolist() == pytest.approx(_expected(pairs), abs=1e-6)
            assert evidence.scores["random"][at].tolist() == pytest.approx(_chance(whole.folder, pairs))
            assert evidence.counts[at].tolist() == [counts[ids.index(item)] for item in offered]
            assert offered[targets[at]] == target
            assert evidence.drawn_by_popularity[at] == (at >= len(shop.VALID))


def test_the_second_stage_orders_what_the_retriever_handed_on(whole: Whole) -> None:
    two = whole.comparison["two_stage"]
    retriever = read_parquet(_compared(whole.folder) / two["retriever"] / "seed-0.catalogue.parquet")
    retrieved = retriever.filter(pl.col("split") == "test").select("user_id", "retrieved")
    ids = load(whole.folder).items["item_id"]
    targets = dict(load(whole.folder).histories.select("user_id", "target").iter_rows())
    ranks = []
    scores = read_parquet(whole.folder.path / "comparison" / "second_stage" / "recurrent" / "seed-0.parquet")
    for user, places, said in retrieved.join(scores, on="user_id").iter_rows():
        items = ids.gather(places[: two["retrieved"]]).to_list()
        own = [shop.p_of(INDEX[user], shop.number_of(item)) for item in items]
        assert said == pytest.approx(own, abs=1e-6)
        target = shop.p_of(INDEX[user], shop.number_of(targets[user]))
        ranks.append(1 + sum(p > target for p in own) if targets[user] in items else None)
    assert len(ranks) == len(shop.TEST)
    [row] = [row for row in two["rows"] if row["system"] == "recurrent"]
    assert _means(row["metrics"]) == pytest.approx(
        {name: value for name, value in _figures(ranks).items() if name in row["metrics"]}, abs=1e-4
    )


def test_figures_of_an_ablation_are_those_of_the_scores(whole: Whole) -> None:
    [panel] = whole.ablation["panels"]
    candidates = _frozen(whole.folder)["uniform"].filter(pl.col("split") == "test")
    assert len(panel["variants"]) == 2
    for variant in panel["variants"]:
        assert variant["value"]["mean"] == pytest.approx(_by_hand(candidates)["NDCG@10"], abs=1e-4)


def test_exported_scores_belong_to_their_users_and_items(whole: Whole) -> None:
    table = read_parquet(whole.exported / "rectools" / "reco_recurrent_uniform.parquet")
    assert table["score"].to_list() == pytest.approx(_expected(table), abs=1e-6)
    lines = (whole.exported / "trec" / "run.recurrent.txt").read_text(encoding="utf-8").split("\n")
    uniform = [line.split() for line in lines if line.startswith("uniform:")]
    assert len(uniform) == table.height == len(MEASURED) * 21
    for query, _, item, rank, score, _ in uniform:
        user = query.removeprefix("uniform:")
        assert float(score) == pytest.approx(shop.p_of(INDEX[user], shop.number_of(item)), abs=1e-6)
        assert int(rank) == table.filter(user_id=user, item_id=item)["rank"][0]
    frozen = _pairs(_frozen(whole.folder)["uniform"])
    listed = pl.read_csv(whole.exported / "recbole" / "candidates.tsv", separator="\t")
    named = listed.filter(pl.col("sampler:token") == "uniform").select("user_id:token", "item_id:token")
    assert sorted(named.rows()) == sorted(frozen.rows())
    relevant = {
        (line.split()[0].removeprefix("uniform:"), line.split()[2])
        for line in (whole.exported / "trec" / "qrels.test.txt").read_text(encoding="utf-8").split("\n")
        if line.startswith("uniform:") and line.endswith(" 1")
    }
    assert relevant == {(shop.user_id(user), shop.numbered(shop.target_item(user))) for user in shop.TEST}


def test_the_whole_catalogue_is_ranked_without_the_history(whole: Whole) -> None:
    prepared = load(whole.folder)
    ids = prepared.items["item_id"].to_list()
    rows = {row["user_id"]: row for row in prepared.histories.iter_rows(named=True)}
    for system in ("random", "popularity", "sasrec"):
        answers = read_parquet(_compared(whole.folder) / system / "seed-0.catalogue.parquet")
        assert answers.height == len(MEASURED)
        for answer in answers.iter_rows(named=True):
            row = rows[answer["user_id"]]
            assert not {ids[place] for place in answer["retrieved"]} & set(row["history"])
            assert answer["others"] == len(ids) - len({*row["history"], row["target"]})
    random = Random(seed=0)
    random.fit(training_data(prepared))
    answers = read_parquet(_compared(whole.folder) / "random" / "seed-0.catalogue.parquet")
    for answer in answers.iter_rows(named=True):
        row = rows[answer["user_id"]]
        all_items = random.score([answer["user_id"]], [np.empty(0, np.int32)])[0]
        left = {item: score for item, score in zip(ids, all_items, strict=True) if item not in row["history"]}
        assert answer["above"] == sum(score > left[row["target"]] for score in left.values())
        best = sorted(left, key=lambda item: -left[item])
        assert [ids[place] for place in answer["retrieved"]] == best[:20]


def _means(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value["mean"] for name, value in metrics.items() if name != "AUC"}


def _by_hand(candidates: pl.DataFrame) -> dict[str, float]:
    ranks = []
    for user, target, offered in candidates.select("user_id", "target", "candidates").iter_rows():
        own = shop.p_of(INDEX[user], shop.number_of(target))
        ranks.append(1 + sum(shop.p_of(INDEX[user], shop.number_of(item)) > own for item in offered))
    return _figures(ranks)


def _figures(ranks: Sequence[int | None]) -> dict[str, float]:
    """Compute every metric of ranks without ties; None is a target that was not retrieved."""
    gains = {
        "Recall": lambda rank: 1.0,
        "MRR": lambda rank: 1 / rank,
        "NDCG": lambda rank: 1 / math.log2(rank + 1),
    }
    return {
        f"{name}@{k}": sum(gain(rank) for rank in ranks if rank is not None and rank <= k) / len(ranks)
        for name, gain in gains.items()
        for k in (3, 5, 10)
    }
