"""The commands on data and finished runs: doctor, append, rank, recommend, export, import."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import trsr
from trsr.cli.run import MaxCalls, MaxCost
from trsr.config import load
from trsr.config.summary import Limits
from trsr.errors import USERS_FAILED, ConfigError, DataError
from trsr.records import Tool, Usage

if TYPE_CHECKING:
    from trsr.recommending import Wanted


def doctor(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder, file or YAML configuration to examine.")
    ],
    min_history: Annotated[
        int | None,
        typer.Option("--min", help="Shortest history that takes part (else the file's, or 11)."),
    ] = None,
    max_history: Annotated[
        int | None,
        typer.Option("--max", help="Longest; longer keep their newest (else the file's, or 26)."),
    ] = None,
) -> None:
    """Say what is wrong with data, who survives each rule, and whether `prepare` takes it (else exit 2)."""
    from trsr.data import doctor as examiner  # noqa: PLC0415  polars stays out of `trsr --help`

    is_config = path.suffix.lower() in (".yaml", ".yml")
    given = {"history.min": min_history, "history.max": max_history}
    config = load(
        path if is_config else None, {key: value for key, value in given.items() if value is not None}
    )
    if path.is_file() and not is_config:
        typer.echo(f"examining the folder of {path.name}")
    if not is_config:
        config = config.model_copy(update={"data": examiner.detect(path)})
    diagnosis = examiner.examine(config)
    typer.echo(examiner.render(diagnosis))
    if diagnosis.refusal:
        raise typer.Exit(DataError.exit_code)


def append(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run with summaries.")],
    events: Annotated[
        Path,
        typer.Argument(
            metavar="EVENTS",
            help="Table of events in any format of own tables. Its columns are called as in the run's data "
            "settings, or user_id, item_id and time; without times its rows are taken oldest first.",
        ),
    ],
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
) -> None:
    """Add new events to users' histories; only blocks that changed are summarised.

    The table is read by the run's own rules for ids, times and the order of rows. Events that are known
    (user, item and second; without times: the whole table) are left out, so that the same table twice changes
    nothing; so are events older than the newest known one of their user. Caps are those of this command: the
    run's own don't hold here.
    """
    from trsr.append import append_events  # noqa: PLC0415  polars stays out of `trsr --help`
    from trsr.stages.prepare import tell  # noqa: PLC0415

    limits = Limits(max_calls=max_calls, max_cost=max_cost)
    written = append_events(run_dir, events, lambda found: tell(found, typer.echo), limits=limits)
    if not written:
        typer.echo("Nothing to append: histories and summaries stay as they are")
        return
    usage = sum((summary.usage for summary in written), Usage())
    typer.echo(
        f"{len(written):,} users: {usage.calls:,} calls made, {usage.calls_reused:,} answered from the store"
    )
    if failed := [summary for summary in written if summary.failed]:
        typer.echo(
            f"{len(failed):,} failed, the first is {failed[0].user_id!r}: {failed[0].failed}", err=True
        )
        raise typer.Exit(4)


def rank(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run, or a bundle.")
    ],
    user: Annotated[str | None, typer.Option(help="A user of the run: uses their history.")] = None,
    history: Annotated[
        str | None,
        typer.Option(
            help="Item ids, oldest first, by comma; ids that hold commas in double quotes, as in CSV."
        ),
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(
            help='Item ids as in --history: a,"b, c" are two (else the user\'s frozen ones, or all).'
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items to show.")] = 10,
    ranker: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="RANKER",
            help="fused or language_model (else fused, when the run has a fused ranker).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Rank candidates for one user, with the summary that was used."""
    if (user is None) == (history is None):
        message = 'give either --user or --history (an empty one, --history "", ranks for a newcomer)'
        raise ConfigError(message)
    taken, chosen = (None if text is None else ids_in_line(text) for text in (history, candidates))
    with trsr.Recommender.load(run_dir, ranker) as recommender:  # type: ignore[arg-type]
        ranking = (
            recommender.rank_user(user.strip(), chosen, k)
            if user is not None
            else recommender.rank(history=taken or [], candidates=chosen, k=k)
        )
    if as_json:
        items = [asdict(item) for item in ranking.items]
        typer.echo(json.dumps({"summary": ranking.summary, "items": items}, ensure_ascii=False))
        return
    typer.echo(f"Summary: {ranking.summary or '(none)'}\n")
    for place, item in enumerate(ranking.items, start=1):
        typer.echo(f"{place:>3}. {item.score:.3f}  {item.item_id}  {recommender.describe(item.item_id)}")


UsersTable = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Many at once, into --out: a table (Parquet, CSV, ...) with user_id and, for users whom the "
        "run doesn't know, history; `all` for all that the run knows.",
    ),
]
OutTable = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Parquet file for --users; after a kill the same command goes on."),
]
Milliseconds = Annotated[
    float | None,
    typer.Option(
        "--ms",
        min=0,
        help="Time a user: when it is up, no further 25 items are read, and that is said.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=TEXT",
        help="Items that have the text in a field, whole or between commas. Given again for the field: "
        "one of the texts; for another field: both.",
    ),
]
RepeatsRule = Annotated[
    str,
    typer.Option(help="Items of the history: learnt (as far as people take things again), never, or always."),
]
ItemsRead = Annotated[
    int | None,
    typer.Option(min=1, help="Retrieved items that the language model reads (else as it was learnt)."),
]


def recommend(
    path: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run, or a bundle.")],
    user: Annotated[str | None, typer.Option(help="A user of the run: uses their history.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids by comma, oldest first, as in rank.")] = None,
    users: UsersTable = None,
    out: OutTable = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items a user.")] = 10,
    items: ItemsRead = None,
    milliseconds: Milliseconds = None,
    allow: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Item ids, one a line: nothing else is recommended.")
    ] = None,
    deny: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Item ids, one a line: these are not.")
    ] = None,
    where: Where = None,
    repeats: RepeatsRule = "learnt",
    explain: Annotated[bool, typer.Option("--explain", help="Say what each system adds.")] = False,
    ranker: Annotated[
        str | None, typer.Option("--with", metavar="RANKER", help="fused or language_model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Recommend out of the whole catalogue, to one user or to many.

    The fused ranker's companions retrieve (fusion.retrievers), the language model reads the best
    (fusion.items), and a fusion that was learnt from such lists orders them. `rank` orders candidates that
    you give instead.
    """
    if sum(each is not None for each in (user, history, users)) != 1 or (users is None) != (out is None):
        message = "give --user, --history (an empty one for a newcomer), or --users together with --out"
        raise ConfigError(message)
    from trsr.recommending import Wanted  # noqa: PLC0415  polars stays out of `trsr --help`

    lists = [None if file is None else ids_in_file(file) for file in (allow, deny)]
    wanted = Wanted(k, items, milliseconds, lists[0], lists[1] or (), _fields(where), repeats, explain)  # type: ignore[arg-type]
    with trsr.Recommender.load(path, ranker) as recommender:  # type: ignore[arg-type]
        if users is not None and out is not None:
            _recommend_all(recommender, users, out, wanted)
            return
        taken = None if history is None else ids_in_line(history)
        [found] = recommender.recommend_to([(user and user.strip(), taken, None)], wanted)
        if as_json:
            typer.echo(json.dumps(asdict(found), ensure_ascii=False))
        else:
            _show(recommender, found)


def _show(recommender: trsr.Recommender, found: trsr.Recommendation) -> None:
    typer.echo(f"Summary: {found.summary or '(none)'}\n")
    for place, item in enumerate(found.items, start=1):
        line = f"{place:>3}. {item.score:.4f}  {item.item_id}  {recommender.describe(item.item_id)}"
        voices = "; ".join(f"{voice.system} {voice.adds:+.2f}" for voice in item.voices if voice.adds)
        typer.echo(f"{line}\n       {voices}" if voices else line)
    for note in found.notes:
        typer.echo(note)


def _recommend_all(recommender: trsr.Recommender, users: str, out: Path, wanted: Wanted) -> None:
    import polars as pl  # noqa: PLC0415  stays out of `trsr --help`

    from trsr.recommend_table import read_users, recommend_table  # noqa: PLC0415  as above
    from trsr.records import USER  # noqa: PLC0415

    table = pl.DataFrame({USER: recommender.users.ids()}) if users == "all" else read_users(Path(users))
    written = recommend_table(recommender, table, out, wanted)
    typer.echo(f"{out}: {written.users:,} users, up to {wanted.k} items each")
    if written.failed.height:
        first, why = written.failed.row(0)
        typer.echo(f"{written.failed.height:,} users have none, the first is {first!r}: {why}", err=True)
        raise typer.Exit(USERS_FAILED)


def ids_in_file(path: Path) -> list[str]:
    """Read ids, one a line; white space around them goes."""
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _fields(given: list[str] | None) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for each in given or ():
        name, equals, text = each.partition("=")
        if not (equals and name.strip() and text.strip()):
            message = f"--where must be FIELD=TEXT, got {each!r}"
            raise ConfigError(message)
        fields.setdefault(name.strip(), []).append(text)
    return fields


def ids_in_line(text: str) -> list[str]:
    """Read ids by comma, as a line of CSV; further lines may follow.

    Raises ConfigError when a double quote is not closed.

    Examples
    --------
    >>> ids_in_line('0007, "Nut, 5 mm",B2,')
    ['0007', 'Nut, 5 mm', 'B2']
    """
    try:
        rows = list(csv.reader(text.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        message = (
            f"ids must be a list by comma, double quotes closed and doubled inside ({error}), got {text!r}"
        )
        raise ConfigError(message) from error
    return [part.strip() for row in rows for part in row if part.strip()]


RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a prepared run.")]


def export(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Folder of a prepared run; for a model, or a bundle.")
    ],
    to: Annotated[Tool, typer.Option("--to", help="Whose files to write.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")],
) -> None:
    """Write the frozen candidates and all scores for TREC tools, RecBole or RecTools; or the trained model.

    For sentence-transformers (a CrossEncoder) and for sequence-classification (one label: vLLM and others)
    the adapter is merged, and the folder is kept only if up to 100 prompts score there as here. Its README.md
    says how prompts are given. The fused ranker's other systems stay with TRSR.
    """
    if to is Tool.SENTENCE_TRANSFORMERS or to is Tool.SEQUENCE_CLASSIFICATION:
        from trsr.bundle import export_model  # noqa: PLC0415  as torch does

        prompts, difference = export_model(run_dir, to, out)
        typer.echo(f"{out}: {prompts} prompts score there as here, log-odds to {difference:.1e}")
        return
    from trsr.artifacts import RunFolder  # noqa: PLC0415  polars stays out of `trsr --help`
    from trsr.interop import export as exporter  # noqa: PLC0415

    paths = exporter.export(RunFolder(run_dir), to, out)
    for path in paths:
        typer.echo(path)


def import_scores(
    run_dir: RunDir,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TREC run, CSV, TSV or Parquet: user_id, item_id, score.")
    ],
    name: Annotated[str, typer.Option("--name", help="What tables call the outside system.")],
) -> None:
    """Put another system's scores of the frozen candidates into the run, so that it is compared too."""
    from trsr.artifacts import RunFolder  # noqa: PLC0415  polars stays out of `trsr --help`
    from trsr.interop import importing  # noqa: PLC0415

    typer.echo(f"Imported: {importing.import_scores(RunFolder(run_dir), file, name)}")
