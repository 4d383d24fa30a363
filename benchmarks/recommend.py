"""What `recommend` takes in catalogues of made-up items: time by stage and memory, exactly and by an index.

python benchmarks/recommend.py [--items 10000 100000 1000000] [--requests 30] [--read 100]

Titles are six of some 20,000 made-up words, histories hold ten items of three topics. A compact model of the
default size, hardly trained, reads the retrieved items. Retrievers are TF-IDF, neighbours, popularity and
vectors of 64 numbers, which alone an index can look up; all have the same weight, as what is learnt changes
no time. A catalogue has a process of its own, with one thread, that loads a bundle as any service does.
Milliseconds of the clock depend on who else works here, those of the processor do less. `index` is the share
of the 300 nearest vectors that the index finds, `of 300` and `of 10` are shares of what is proposed and
recommended exactly.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from trsr import Recommender, TextRanker, from_frames, prepare
from trsr.artifacts import RunFolder, write_parquet
from trsr.baselines.base import Baseline, open_baseline
from trsr.baselines.training_data import Places, TrainingData
from trsr.bundle import save_bundle
from trsr.config.evaluation import Fusion as FusionSettings
from trsr.config.ranking import CompactModel
from trsr.fusion.companions import WEIGHTS, Companions
from trsr.fusion.features import LANGUAGE_MODEL, Scale, column_names
from trsr.fusion.fusion import Calibration, Fusion
from trsr.fusion.retrieval import CatalogueFusion, Retriever

TOPICS, WIDTH, HISTORY, MOST_SEQUENCES = 500, 64, 10, 50_000
VECTORS = "recommend:Vectors"
NAMES = (VECTORS, "itemknn", "tfidf", "popularity")


class Vectors(Baseline):
    """Made-up vectors of items around topics, compared with the mean of the history's."""

    learnt = ("_vectors",)

    def fit(self, data: TrainingData) -> None:
        """Draw them; nothing is learnt."""
        topics, draw = topics_of(data.items.height), np.random.default_rng(2)
        centres = draw.normal(size=(TOPICS, WIDTH))
        made = centres[topics] + 0.7 * draw.normal(size=(len(topics), WIDTH))
        self._vectors = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> np.ndarray:
        """Multiply vectors; see `Baseline`."""
        own = self.history_vectors(histories)
        if candidates is None:
            return (own @ self._vectors.T).astype(np.float64)
        return np.einsum("ud,ucd->uc", own, self._vectors[candidates]).astype(np.float64)

    def item_vectors(self) -> np.ndarray:
        """Give the vectors; see `Baseline`."""
        return self._vectors

    def history_vectors(self, histories: Sequence[Places]) -> np.ndarray:
        """Average; see `Baseline`."""
        nothing = np.zeros(WIDTH, np.float32)
        return np.stack([self._vectors[each].mean(axis=0) if len(each) else nothing for each in histories])


def topics_of(size: int) -> np.ndarray:
    """Draw the topic of every item."""
    return np.random.default_rng(0).integers(TOPICS, size=size)


def titles(size: int) -> list[str]:
    """Write three words of the topic and three that any item may have, some of them often."""
    draw, topics = np.random.default_rng(1), topics_of(size)
    common = np.minimum(draw.zipf(1.3, size=(size, 3)), 12_000)
    own = 12_000 + topics[:, None] * 17 + draw.integers(40, size=(size, 3))
    return [" ".join(f"w{word}" for word in row) for row in np.concatenate([common, own], axis=1)]


def histories(size: int, count: int, seed: int) -> list[Places]:
    """Draw histories of items of three topics each."""
    topics, draw = topics_of(size), np.random.default_rng(seed)
    order = np.argsort(topics, kind="stable")
    ends = np.searchsorted(topics[order], np.arange(TOPICS + 1))
    liked = np.take_along_axis(
        draw.integers(TOPICS, size=(count, 3)), draw.integers(3, size=(count, HISTORY)), axis=1
    )
    places = ends[liked] + (draw.random(liked.shape) * (ends[liked + 1] - ends[liked])).astype(np.int64)
    return [*order[np.minimum(places, size - 1)].astype(np.int32)]


def language_model() -> TextRanker:
    """Make a compact model of the default size; what it has learnt changes no time."""
    size = 1000
    items = pl.DataFrame({"item_id": [f"i{place}" for place in range(size)], "title": titles(size)})
    lists = [[f"i{place}" for place in dict.fromkeys(row.tolist())] for row in histories(size, 150, 3)]
    people = pl.DataFrame({"user_id": [f"u{at}" for at in range(150)], "item_ids": lists})
    data = from_frames(items, histories=people)
    model = CompactModel(pretrain_epochs=0.1, pretrain_questions=8)
    settings = {"recent_items": 10, "item_tokens": 12}
    ranker = TextRanker.from_pretrained(model, prompt=settings, epochs=1, negatives=1, max_users=8)
    return ranker.fit(prepare(data, min_history=5, negatives=20))


def even(names: Sequence[str], *, retrieved: bool) -> Fusion:
    """Make a fusion in which all columns weigh the same."""
    weights = dict.fromkeys(column_names(names, retrieved=retrieved), 1.0)
    line = Calibration("platt", (0.0, 1.0), (0.0, 1.0), 1.0)
    return Fusion(dict.fromkeys(names, Scale(0.0, 1.0)), weights, line, 0.01, 100)


def make_bundle(ranker: Path, size: int, read: int, out: Path) -> dict[str, float]:
    """Fit the companions and put a bundle together, as a run does; say what the index took."""
    items = pl.DataFrame({"item_id": [f"i{place}" for place in range(size)], "title": titles(size)})
    taken = tuple(histories(size, min(size // 2, MOST_SEQUENCES), 4))
    nobody = np.empty((0, 0), np.int32)
    data = TrainingData(items, (), taken, (), (), nobody, np.empty(0, np.int64))
    systems = {name: open_baseline(name, 0) for name in NAMES}
    for system in systems.values():
        system.fit(data)
    companions, told = Companions(systems, data.counts), {}
    for index in ("exact", "usearch"):
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            made, before = RunFolder(scratch), time.process_time()
            retriever = companions.retriever(FusionSettings(companions=NAMES, index=index))
            told[index] = time.process_time() - before
            write_parquet(items, made.items)
            loaded = TextRanker.load(ranker)
            loaded._fitted[0].save(made.model)
            companions.save(made.fusion)
            even([LANGUAGE_MODEL, *NAMES], retrieved=False).save(made.fusion / WEIGHTS)
            full, first = even([LANGUAGE_MODEL, *NAMES], retrieved=True), even(NAMES, retrieved=True)
            CatalogueFusion(retriever, first, full, read).save(made.fusion)
            save_bundle(loaded.config, made, items, fused=True)
            made.bundle.rename(out / index)
    return told


def serve(bundle: Path, requests: int) -> dict[str, object]:
    """Load a bundle and recommend to users who were never seen; say what each stage took at the median."""
    before = time.process_time()
    with Recommender.load(bundle) as recommender:
        recommender.scorer.warm()  # as the service does before it is ready
        loaded, ids = time.process_time() - before, recommender.catalogue.ids
        people = histories(len(ids), requests + 3, 5)
        rows, listed = [], []
        for at, history in enumerate(people):
            cpu, wall = time.process_time(), time.perf_counter()
            found = recommender.recommend([ids[place] for place in history], k=10, summary="")
            took = {"all": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            if at >= 3:  # the first ones make what is made once
                rows.append(took | dict(found.seconds))
                listed.append([item.item_id for item in found.items])
        retriever = recommender.whole._retriever
        proposed = [
            retriever.propose([""], [history], 300, repeats=False).places[0].tolist()
            for history in people[3:]
        ]
        nearest = index_recall(retriever, people[3:])
    medians = {name: float(np.median([row[name] for row in rows]) * 1e3) for name in rows[0]}
    medians["p95"] = float(np.quantile([row["all"] for row in rows], 0.95) * 1e3)
    medians["cpu_p95"] = float(np.quantile([row["cpu"] for row in rows], 0.95) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "ms": medians,
        "load_s": loaded,
        "mb": peak,
        "listed": listed,
        "proposed": proposed,
        "index": nearest,
    }


def index_recall(retriever: Retriever, people: Sequence[Places], n: int = 300) -> float | None:
    """Say which share of the nearest vectors the index finds; None without an index."""
    if VECTORS not in retriever.indexes:
        return None
    system, index = retriever.systems[VECTORS], retriever.indexes[VECTORS]
    wanted = [np.argsort(-system.score([""], [each])[0])[:n].tolist() for each in people]
    found = [index.search(system.history_vectors([each])[0], n).tolist() for each in people]
    return overlap(wanted, found)


def overlap(exact: list[list[object]], other: list[list[object]]) -> float:
    """Say which share of what is found exactly is found."""
    return float(np.mean([len({*a} & {*b}) / len(a) for a, b in zip(exact, other, strict=True)]))


def main() -> None:
    """Measure catalogue by catalogue, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--read", type=int, default=100, help="items that the language model reads")
    parser.add_argument("--model", type=Path, help="a bundle whose language model reads (else one is made)")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        print(json.dumps(serve(asked.serve, asked.requests)))
        return
    print(
        "| items | search | retrieve | read | fuse | all | all, p95 | CPU | CPU, p95 | load, s | MB | index "
        "| of 300 | of 10 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as place:
        ranker = asked.model or Path(place) / "ranker"
        if not asked.model:
            language_model().save(ranker)
        for size in asked.items:
            folder = Path(place) / str(size)
            folder.mkdir()
            built = make_bundle(ranker, size, asked.read, folder)
            exact: dict[str, list[list[object]]] = {}
            for index in ("exact", "usearch"):
                command = [sys.executable, __file__, "--serve", str(folder / index)]
                command += ["--requests", str(asked.requests)]
                done = subprocess.run(command, capture_output=True, check=True, text=True, env=_one_thread())
                told = json.loads(done.stdout.splitlines()[-1])
                exact = exact or told
                stages = ("retrieve", "read", "fuse", "all", "p95", "cpu", "cpu_p95")
                ms = (f"{told['ms'][name]:,.1f}" for name in stages)
                kept = (f"{overlap(exact[name], told[name]):.3f}" for name in ("proposed", "listed"))
                near = "" if told["index"] is None else f"{told['index']:.3f}"
                kept = (near, *kept)
                cells = (f"{size:,}", index, *ms, f"{told['load_s']:.1f}", f"{told['mb']:,.0f}", *kept)
                print(f"| {' | '.join(cells)} |", flush=True)
            print(
                f"  the index of {size:,} vectors took {built['usearch']:.1f} s of CPU to build", flush=True
            )


def _one_thread() -> dict[str, str]:
    folder = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


if __name__ == "__main__":
    main()
