"""Summaries and scores computed by actors of a Ray cluster: a table in, a table out.

Ray Data hands batches of rows to actors that open their model once, and runs what a
lost machine had under way again elsewhere. What is not to be done twice, such as a
paid call, is remembered by whoever does it: the store of answers.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import polars as pl

from trsr.config import Config
from trsr.config.evaluation import Cluster
from trsr.data.dataset import Catalogue
from trsr.errors import BudgetError, ConfigError, RunError
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SUMMARY, USER, Summary, Usage, UserSummary
from trsr.summarize.cost import Budget, Purse
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.writer import to_frame

_PLACE: Final = "__place__"
_KNOCK_S: Final = 10.0
_OURS: Final = re.compile(r"trsr\.errors\.\w+: (.*)")

Work = Callable[[pl.DataFrame], pl.DataFrame]
"""One row in, one row out, in order."""


def map_rows(
    rows: pl.DataFrame, open_work: Callable[..., Work], shared: Mapping[str, Any], settings: Cluster
) -> pl.DataFrame:
    """Compute one row for every row, on the cluster, in the same order.

    `open_work` is called once an actor with `shared` as keywords, and returns what computes a batch;
    `shared` is sent to the cluster once, however many actors there are. Raises ConfigError when Ray
    isn't installed, and RunError when the cluster can't be reached or the work fails on it.
    """
    if rows.is_empty():
        return open_work(**shared)(rows)
    with _session(settings) as ray:
        reference = ray.put(dict(shared))
        numbered = rows.with_row_index(_PLACE)
        tasks = ray.data.from_arrow(numbered.to_arrow())
        done = tasks.repartition(target_num_rows_per_block=settings.users).map_batches(
            _Actor,
            fn_constructor_kwargs={"open_work": open_work, "shared": [reference]},
            batch_format="pyarrow",
            batch_size=settings.users,
            compute=ray.data.ActorPoolStrategy(size=settings.workers),
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
        )
        try:
            tables = [pl.DataFrame(pl.from_arrow(ray.get(block))) for block in done.to_arrow_refs()]
        except ray.exceptions.RayError as error:
            message = f"the Ray cluster at {settings.address!r} could not do the work: {_cause(error)}"
            raise RunError(message) from error
    whole = pl.concat([table for table in tables if table.height]).sort(_PLACE)
    if whole[_PLACE].to_list() != list(range(rows.height)):
        message = f"the cluster returned {whole.height:,} of {rows.height:,} rows; run the same command again"
        raise RunError(message)
    return whole.drop(_PLACE)


class Call:
    """Calls the methods of an actor by name, from any process of the cluster, and waits for the answer."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Return what the method returns. Raises RunError when the actor is lost."""
        import ray  # noqa: PLC0415  an optional extra

        try:
            return ray.get(getattr(self._actor, method).remote(*arguments))
        except ray.exceptions.RayError as error:
            message = f"the actor that all workers share is lost: {_cause(error)}; run the same command again"
            raise RunError(message) from error


@contextmanager
def one_for_all(kind: type, arguments: Mapping[str, Any], settings: Cluster) -> Iterator[Call]:
    """Keep one object for all workers, in an actor on the driver's machine: its loss ends the run anyway."""
    with _session(settings) as ray:
        here = ray.get_runtime_context().get_node_id()
        pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        actor = ray.remote(num_cpus=0, scheduling_strategy=pinned)(kind).remote(**arguments)
        try:
            yield Call(actor)
        finally:
            ray.kill(actor)


class _Actor:
    """Opens the work once, then does batches of it."""

    def __init__(self, open_work: Callable[..., Work], shared: list[Any]) -> None:
        import ray  # noqa: PLC0415  an optional extra

        self._work = open_work(**ray.get(shared[0]))

    def __call__(self, batch: Any) -> Any:
        rows = pl.DataFrame(pl.from_arrow(batch))
        done = self._work(rows.drop(_PLACE))
        return done.with_columns(rows[_PLACE]).to_arrow()


@contextmanager
def _session(settings: Cluster) -> Iterator[ModuleType]:
    """Connect to the cluster for the length of the block, unless the program is connected already."""
    try:
        import ray  # noqa: PLC0415  an optional extra
        import ray.data  # noqa: PLC0415
        import ray.util.scheduling_strategies  # noqa: PLC0415
    except ImportError as error:
        message = "cluster.kind is ray, but Ray is not installed; install it: pip install 'trsr[ray]'"
        raise ConfigError(message) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    connected = ray.is_initialized()
    if not connected:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            _knock(settings.address)
            ray.init(address=settings.address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            message = (
                f"cluster.address {settings.address!r}: no Ray cluster answers there ({error}); start one "
                "(`ray start --head`), or set cluster.kind to none"
            )
            raise RunError(message) from error
    try:
        yield ray
    finally:
        if not connected:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise at once when nothing listens at a ``host:port``; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def _cause(error: BaseException) -> str:
    r"""Return what our own code said, out of the traces that the cluster wraps around it.

    >>> _cause(RuntimeError("ray::Worker trsr.errors.WriterError: no answer\nray: UDF failed"))
    'no answer'
    """
    ours = _OURS.findall(str(error))
    return str(ours[-1] if ours else str(error).strip().splitlines()[-1])


class Parcel:
    """The files of a folder, read whole, on their way to another machine."""

    def __init__(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self._files = {str(path.relative_to(folder)): path.read_bytes() for path in files}

    def unpack(self) -> Path:
        """Write the files into a new folder that lives as long as the machine's temporary ones."""
        folder = Path(tempfile.mkdtemp(prefix="trsr-parcel-"))
        for name, content in self._files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder


def score_on_cluster(config: Config, model: Path, items: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Score every user's candidates on the cluster that `config.cluster` names.

    `model` is the folder of the fine-tuned ranker; its files are sent to the machines, so that they need
    not share a disk. The base model of an adapter is loaded by its own path or name.

    Takes users as `USER`, `SUMMARY`, `HISTORY` and `CANDIDATES`, and gives, in their order, `USER` and
    `P_YES`, a list in the order of the candidates. Raises as `map_rows` does.
    """
    shared: dict[str, Any] = {"config": config, "parcel": Parcel(model), "items": items}
    wanted = users.select(USER, SUMMARY, HISTORY, CANDIDATES)
    return map_rows(wanted, _open_ranker, shared, config.cluster)


def _open_ranker(config: Config, parcel: Parcel, items: pl.DataFrame) -> Work:
    catalogue = Catalogue(items, config.ranking_fields)
    ranker = Ranker.load(parcel.unpack())

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        tasks = [
            RankingUser(user, summary, catalogue.items(history), catalogue.items(candidates))
            for user, summary, history, candidates in rows.iter_rows()
        ]
        scores = ranker.score(tasks, config.evaluation.batch_tokens) if tasks else []
        p_yes = pl.Series(P_YES, [row.tolist() for row in scores], dtype=pl.List(pl.Float64))
        return pl.DataFrame([rows[USER], p_yes])

    return work


def summarize_on_cluster(
    config: Config, items: pl.DataFrame, histories: pl.DataFrame, budget: Budget
) -> pl.DataFrame:
    """Write every user's summary on the cluster that `config.cluster` names.

    Actors share the store of answers, `config.store_url`: a path that all machines see,
    or a PostgreSQL database. What was answered before a machine was lost is not asked
    for again. They also share one budget, which an actor beside the driver keeps: the
    caps hold for all together, and what a lost worker had reserved counts as spent. `budget`
    is the run's, which nothing was spent from yet; it is told what all workers spent, also
    when they fail.

    Takes `USER` and `HISTORY`, and gives the summaries table in their order; see `trsr.summarize.writer`.
    Raises as `map_rows` does, and BudgetError at the cap on calls or money, when all that was under way
    anywhere is stored.
    """
    # Actors may stand in other folders: a relative store would be another store.
    located = config.model_copy(
        update={"summary": config.summary.model_copy(update={"store": config.store_url})}
    )
    tasks = histories.select(USER, HISTORY)
    caps = {"limits": budget.left, "price": config.summary.price}
    with one_for_all(Purse, caps, config.cluster) as purse:
        try:
            shared = {"config": located, "items": items, "purse": purse}
            table = map_rows(tasks, _open_writer, shared, config.cluster)
        finally:
            budget.is_known = False  # until the actor has told it
            spent, is_stopped = purse("end")
            budget.spend(Usage(), spent)
            budget.is_known = True
    if is_stopped:
        raise budget.stop()
    return table


class _SharedBudget(Budget):
    """The run's budget as a worker sees it: each question goes to the actor that keeps it."""

    def __init__(self, purse: Call) -> None:
        super().__init__()
        self._purse = purse

    def allow(self, most: Usage) -> bool:
        return bool(self._purse("allow", most))

    def spend(self, reserved: Usage, actual: Usage) -> None:
        self._purse("spend", reserved, actual)

    def lose(self, most: Usage) -> bool:
        return bool(self._purse("lose", most))

    def stop(self) -> BudgetError:
        stop: BudgetError = self._purse("stop")
        return stop


def _open_writer(config: Config, items: pl.DataFrame, purse: Call) -> Work:
    catalogue = Catalogue(items, config.items.fields)
    summarizer = Summarizer(config, items.select(ITEM, *catalogue.fields), _SharedBudget(purse))

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        users = [
            (user, catalogue.items(taken)) for user, taken in zip(rows[USER], rows[HISTORY], strict=True)
        ]
        try:
            return to_frame(summarizer.summarize(users, progress=False))
        except BudgetError as error:
            # An error would end the other workers in the middle of calls that are paid for.
            failed = [UserSummary(user, Summary(""), (), Usage(), str(error)) for user, _ in users]
            return to_frame(failed)

    # The work lasts as long as its actor, which tells nobody that it ends.
    weakref.finalize(work, summarizer.close)
    return work
