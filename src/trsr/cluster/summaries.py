"""Preference summaries, written by actors of a Ray cluster into one store."""

from __future__ import annotations

import weakref

import polars as pl

from trsr.cluster.ray_tasks import Call, Work, map_rows, one_for_all
from trsr.config import Config
from trsr.config.summary import Limits, Price
from trsr.data.catalogue import Catalogue
from trsr.errors import BudgetError
from trsr.records import HISTORY, ITEM, USER, Summary, Usage, UserSummary
from trsr.summarize.budget import Budget
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.table import to_frame


def summarize_on_cluster(
    config: Config, items: pl.DataFrame, histories: pl.DataFrame, budget: Budget
) -> pl.DataFrame:
    """Write every user's summary on the cluster that `config.cluster` names.

    Actors share the store of answers, `config.store_url`: a path that all machines see,
    or a PostgreSQL database. What was answered before a machine was lost is not asked
    for again. They also share one budget, which an actor beside the driver keeps: the
    caps hold for all together, and what a lost worker had reserved counts as spent.

    Parameters
    ----------
    config
        The run's settings.
    items
        The catalogue.
    histories
        `USER` and `HISTORY`.
    budget
        The run's, which nothing was spent from yet; told what all workers spent, also when they fail.

    Returns
    -------
    polars.DataFrame
        The summaries table, in the order of `histories`; see `trsr.summarize.table`.

    Raises
    ------
    ConfigError
        When Ray isn't installed.
    RunError
        When the cluster can't be reached or the work fails on it.
    BudgetError
        At the cap on calls or money, when all that was under way anywhere is stored.
    """
    # Actors may stand in other folders: a relative store would be another store.
    located = config.model_copy(
        update={"summary": config.summary.model_copy(update={"store": config.store_url})}
    )
    tasks = histories.select(USER, HISTORY)
    caps = {"limits": config.summary.limits, "price": config.summary.price}
    with one_for_all(_Purse, caps, config.cluster) as purse:
        try:
            shared = {"config": located, "items": items, "purse": purse}
            table = map_rows(tasks, _open, shared, config.cluster)
        finally:
            budget.is_known = False  # until the actor has told it
            spent, is_stopped = purse("settle")
            budget.spend(Usage(), spent)
            budget.is_known = True
    if is_stopped:
        raise budget.stop()
    return table


class _Purse:
    """The run's budget in an actor of its own; remembers whether some worker was stopped by it."""

    def __init__(self, limits: Limits, price: Price) -> None:
        self._budget = Budget(limits, price)
        self._is_stopped = False

    def allow(self, most: Usage) -> bool:
        return self._budget.allow(most)

    def spend(self, reserved: Usage, actual: Usage) -> None:
        self._budget.spend(reserved, actual)

    def lose(self, most: Usage) -> bool:
        return self._budget.lose(most)

    def stop(self) -> BudgetError:
        self._is_stopped = True
        return self._budget.stop()

    def settle(self) -> tuple[Usage, bool]:
        return self._budget.settle(), self._is_stopped


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


def _open(config: Config, items: pl.DataFrame, purse: Call) -> Work:
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
