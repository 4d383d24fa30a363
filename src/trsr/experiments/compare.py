"""The story of a comparison: every system on the same users and candidates, one table at the end.

Split and candidates follow the run's seed and never change over training seeds. A system and seed
whose answers are complete for the same settings and data is skipped, so that a comparison that was
killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.errors import TrsrError
from trsr.experiments.content import Published, gather, publish
from trsr.experiments.external import imported_names, outside_systems
from trsr.experiments.fused import FusedSystem
from trsr.experiments.progress import render_text
from trsr.experiments.protocol import Contest, open_contest
from trsr.experiments.scores import Entry, Shelf
from trsr.experiments.selection import Judge, Lineup, line_up
from trsr.experiments.systems import Bench, retrieval_depth
from trsr.fusion.fusion import too_few
from trsr.records import Split
from trsr.report.results import Choice


def compare(
    config: Config,
    *,
    only: Sequence[str] | None = None,
    command: str = "trsr compare",
    users: bool = True,
    say: Callable[[str], None] = print,
) -> Published:
    """Train and score all systems, and write the comparison into ``comparison`` of the run folder.

    `only` names the systems wanted; None for all of the settings. `command`, the command line, stands in
    the report. Without `users` the page shows no single users with their histories, so that it can be passed
    on. What is said ends with the table. Raises `ConfigError` when `only` names an unknown system. When a
    system fails, what was finished is kept, and the next comparison goes on from there.
    """
    started = time.monotonic()
    folder = RunFolder(config.folder)
    lineup = line_up(config, only, imported_names(folder))
    contest = open_contest(config, say)
    if lineup.fused and (few := too_few(len(contest.panels[Split.VALID].users))):
        say(few)
        lineup = replace(lineup, fused=False)
    shelf = Shelf(folder.path / "comparison")
    entries, retriever, depth = _ask_all(config, contest, shelf, lineup, say)
    content = gather(config, contest, entries, retriever, depth, command, time.monotonic() - started)
    say(render_text(content))
    return publish(content if users else replace(content, cases=None), shelf.path)


def _ask_all(
    config: Config, contest: Contest, shelf: Shelf, lineup: Lineup, say: Callable[[str], None]
) -> tuple[list[Entry], Choice | None, int]:
    """Let everybody answer; return the systems, how the retriever was chosen, and how much it hands on."""
    names = imported_names(RunFolder(config.folder)) if lineup.imported is None else lineup.imported
    outside = outside_systems(config, contest, names, say)
    bench = Bench(config, contest, shelf, lineup.baselines, lineup.language_models, say)
    seeds = ", ".join(map(str, config.comparison.seeds))
    say(
        f"comparison: {len(lineup.baselines)} baselines, {len(lineup.language_models)} forms of the language "
        f"model, {len(outside)} imported, training seeds {seeds}; what is complete is kept in {shelf.path}"
    )
    judge = Judge(config, contest)
    depth = retrieval_depth(contest, config.comparison.retrieve)
    floor = bench.baselines()
    forms = bench.language_models()
    retriever = judge.retriever(floor, depth)
    chosen = judge.language_model(forms)
    if retriever is None or chosen is None:
        return [*floor, *forms, *outside], None, depth
    say(f"retriever, by validation: {retriever.chosen}; form of the language model: {chosen.chosen}")
    handing = next(entry for entry in floor if entry.name == retriever.chosen)
    forms = bench.rerank_with_forms(forms, handing)
    entries = [*floor, *forms]
    if lineup.fused:
        try:
            system = FusedSystem(config, contest, entries, chosen.chosen)
            entries.append(system.rerank(system.entry(), bench, handing))
        except (TrsrError, ValueError, ArithmeticError) as error:
            # All that was trained must reach the page.
            say(f"no fused ranker: {error}")
    kept = [handing.as_retrieved() if entry is handing else entry for entry in entries]
    return [*kept, *outside], retriever, depth
