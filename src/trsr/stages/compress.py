"""A run's language model made smaller, and what that costs on the run's own test users."""

from __future__ import annotations

import copy
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json
from trsr.bundle import CARD, Bundle
from trsr.config import Config
from trsr.config.load import load_run
from trsr.config.ranking import EndpointModel
from trsr.data.candidates import user_keys
from trsr.data.dataset import Catalogue
from trsr.data.prepare import load as load_prepared
from trsr.errors import ConfigError, DataError
from trsr.evaluation.metrics import metrics_at, user_metrics
from trsr.evaluation.statistics import paired_tests
from trsr.hf import compression
from trsr.hf.adapters import has_adapter, merge_adapter
from trsr.progress import Progress
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import CANDIDATES, ITEM, SCORE, SPLIT, TARGET, USER, Split
from trsr.stages.train import ranking_tasks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FOLDER: Final = "compressed"
REPORT: Final = "compression.json"
ORIGINAL: Final = "original"
_TIMED_USERS: Final = 15
_AT_8_BITS: Final = "whitened, bytes of 8 bits"


def compress_run(
    run: Path,
    keep: float,
    prompts: int = 64,
    users: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compress a run's language model into the bundle ``RUN/compressed``, and measure it beside others.

    Returned is what is written to its `REPORT`. Layers are fitted to prompts of training users, by the run's
    seed; ranking is measured on test users among the frozen candidates, of the saved model as it loads: on
    `users` of them, drawn by the seed, or on all for None.

    Raises ConfigError when `keep` is no share, or the run's model is behind a server; ArtifactError,
    DataError or ModelError when the run isn't finished, has no users to fit to or to measure, or the model
    can't be compressed.
    """
    if not 0 < keep <= 1:
        message = f"--keep must be above 0 and at most 1, got {keep}"
        raise ConfigError(message)
    folder = RunFolder(run)
    config = load_run(folder.config)
    if isinstance(config.model, EndpointModel):
        message = f"{run}: its model is behind a server; only weights that lie here can be compressed"
        raise ConfigError(message)
    folder.require(folder.bundle / CARD, "train")
    bundle = Bundle(folder.bundle)
    bundle.require_current(folder)
    frozen, train, test, test_users = _users(config, folder, users)
    ranker = _merged(Ranker.load(folder.model))
    rows = _prompts(ranker, train, prompts, config.seed)
    say(f"  fitting to {len(rows):,} prompts of training users, {sum(map(len, rows)):,} tokens")

    systems, per_user = {}, {}
    place = Path(tempfile.mkdtemp(prefix=".compressed.", dir=folder.path))
    place.chmod(0o755)
    metrics = metrics_at(config.evaluation.ks, config.evaluation.metrics)
    for name, make in _variants(ranker, rows, keep).items():
        say(f"  {name}")
        model, layers = make()
        asked = ranker.with_model(model)
        told: dict[str, Any] = {}
        if name == "whitened":
            asked = bundle.with_ranker(asked, place).ranker()
            told["file_bytes"] = _file_bytes(place / "model")
        if name == ORIGINAL:
            told["file_bytes"] = _file_bytes(folder.model)
        total, without = compression.weight_bytes(model)
        told |= {"bytes": total, "bytes_without_embeddings": without}
        told |= {"ms_a_prompt": _milliseconds(asked, test, f"{name}, time"), "way": str(asked.plan.path)}
        per_user[name] = user_metrics(frozen, _scored(asked, test, f"{name}, ranking"), metrics)
        told["means"] = {each.name: float(per_user[name][each.name].to_numpy().mean()) for each in metrics}
        systems[name] = told | {"layers": [asdict(layer) for layer in layers]}
    primary = f"NDCG@{max(config.evaluation.ks)}"
    others = [(name, ORIGINAL) for name in systems if name != ORIGINAL]
    tests = paired_tests(per_user, others, [primary], resamples=config.evaluation.bootstrap, seed=config.seed)
    report = {
        "keep": keep,
        "prompts": len(rows),
        "tokens": sum(map(len, rows)),
        "users": len(test),
        "test_users": test_users,
        "metric": primary,
        "systems": systems,
        "tests": [asdict(each) for each in tests],
    }
    write_json(report, place / REPORT)
    shutil.rmtree(folder.path / FOLDER, ignore_errors=True)
    place.rename(folder.path / FOLDER)
    return report | {"folder": str(folder.path / FOLDER)}


def _merged(ranker: Ranker) -> Ranker:
    return ranker.with_model(merge_adapter(ranker.model)) if has_adapter(ranker.model) else ranker


_Made = tuple["PreTrainedModel", list[compression.LayerError]]


def _variants(ranker: Ranker, rows: Sequence[Sequence[int]], keep: float) -> dict[str, Callable[[], _Made]]:
    """Name what is measured, each made when its turn comes, from a copy of the ranker's model."""
    whole: Any = ranker.model

    def smaller(share: float, **options: bool) -> Callable[[], _Made]:
        def make() -> _Made:
            model = copy.deepcopy(whole)
            return model, compression.compress(model, rows, share, title="fitting", **options)

        return make

    made: dict[str, Callable[[], _Made]] = {
        ORIGINAL: lambda: (copy.deepcopy(whole), []),
        "whitened": smaller(keep),
        "plain": smaller(keep, whiten=False, align=False),
    }
    if whole.device.type == "cpu" and str(whole.dtype) == "torch.float32":
        eight = compression.in_8_bits(whole)
        saved = compression.weight_bytes(whole)[0] - compression.weight_bytes(eight)[0]
        same = 1 - saved / compression.layer_bytes(whole)
        made |= {"8 bits": lambda: (eight, []), _AT_8_BITS: smaller(same)}
    return made


def _users(
    config: Config, folder: RunFolder, count: int | None
) -> tuple[pl.DataFrame, list[RankingUser], list[RankingUser], int]:
    """Return test users' frozen candidates, the tasks of training and of test users, and how many there are.

    Of test users `count` are drawn, or all for None; the number is of all.
    """
    prepared = load_prepared(folder)
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    catalogue = Catalogue(prepared.items, config.ranking_fields)
    train, test = (
        ranking_tasks(prepared, summaries, catalogue, split) for split in (Split.TRAIN, Split.TEST)
    )
    if not train or not test:
        message = (
            f"{folder.path}: compression needs training and test users, got {len(train)} and {len(test)}"
        )
        raise DataError(message)
    drawn = _drawn(test, count, config.seed)
    histories = prepared.histories.filter(pl.col(USER).is_in([user.user_id for user in drawn]))
    frozen = histories.select(USER, SPLIT, TARGET).join(
        prepared.candidates.select(USER, CANDIDATES), on=USER, how="left"
    )
    return frozen, train, drawn, len(test)


def _drawn(users: list[RankingUser], count: int | None, seed: int) -> list[RankingUser]:
    """Draw some users, all for None, in their order; more hold fewer."""
    order = np.argsort(user_keys((user.user_id for user in users), seed, "compression"), kind="stable")
    return [users[place] for place in sorted(order[:count])]


def _prompts(ranker: Ranker, users: Sequence[RankingUser], count: int, seed: int) -> list[list[int]]:
    """Draw training users, and of each the prompt of one candidate."""
    draw = np.random.default_rng(seed)
    drawn = draw.permutation(len(users))[:count]
    encoded = ranker.encode([users[place] for place in drawn])
    return [user.row(int(draw.integers(len(user.suffixes)))) for user in encoded]


def _scored(ranker: Ranker, users: Sequence[RankingUser], title: str) -> pl.DataFrame:
    scores = ranker.score(users, title=title)
    return pl.DataFrame(
        {
            USER: [user.user_id for user in users for _ in user.candidates],
            ITEM: [item.id for user in users for item in user.candidates],
            SCORE: np.concatenate(scores),
        }
    )


def _milliseconds(ranker: Ranker, users: Sequence[RankingUser], title: str) -> float:
    """Return the median over users of what one of a user's prompts takes, asked alone, the best of three."""
    ranker.score(users[:1])  # finds out how
    best = []
    timed = ranker.encode(users[:_TIMED_USERS])
    with Progress(title, len(timed), "users") as bar:
        for user in timed:
            seconds = []
            for _ in range(3):
                start = perf_counter()
                ranker.score_encoded([user])
                seconds.append(perf_counter() - start)
            best.append(min(seconds) / len(user.suffixes))
            bar.advance()
    return 1000 * statistics.median(best)


def _file_bytes(model: Path) -> int:
    return sum(path.stat().st_size for path in model.rglob("*.safetensors"))


def render(report: dict[str, Any]) -> str:
    """Write a report as a short table for the terminal."""
    metric, tests = report["metric"], {test["first"]: test for test in report["tests"]}
    lines = [f"{'':<26}{'MB':>8}{'without emb.':>14}{'ms/prompt':>11}{metric:>9}  difference, 95% interval"]
    for name, told in report["systems"].items():
        size, rest = (told[key] / 1e6 for key in ("bytes", "bytes_without_embeddings"))
        row = f"{name:<26}{size:>8.2f}{rest:>14.2f}{told['ms_a_prompt']:>11.2f}{told['means'][metric]:>9.3f}"
        if name in tests:
            change = tests[name]["difference"]
            row += f"  {change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
        lines.append(row)
    for name in ("whitened", "plain"):
        errors = [layer["in_place"] for layer in report["systems"][name]["layers"]]
        lines.append(
            f"{name}: error of {len(errors)} layers' outputs, median {statistics.median(errors):.3f}, "
            f"largest {max(errors):.3f}"
        )
    if "8 bits" not in report["systems"]:
        lines.append("8 bits: not measured, they are for float32 on the CPU")
    measured = f"measured on {report['users']:,} of {report['test_users']:,} test users"
    tail = f"{measured}; fitted to {report['prompts']:,} prompts of training users"
    return "\n".join([*lines, tail, f"Compressed: {report['folder']}"])
