"""The commands of a run, its plan, comparisons, ablations and studies."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import trsr
from trsr.config import Config, load, parse_overrides
from trsr.errors import USERS_FAILED, ConfigError
from trsr.hf import processes

ConfigPath = Annotated[
    Path | None,
    typer.Argument(metavar="[CONFIG]", help="YAML file with settings; without it, the generated demo shop."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting: --set summary.paradigm=none. Repeatable."
    ),
]
OutFolder = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder (else runs/NAME).")]


def read_config(path: Path | None, settings: list[str] | None, out: Path | None) -> Config:
    """Read the configuration that a command was given; without a file, the demo shop."""
    overrides: dict[str, Any] = parse_overrides(settings or [])
    if path is None:
        overrides.setdefault("preset", "demo")
    if out is not None:
        overrides["out"] = str(out)
    return load(path, overrides)


TrialUsers = Annotated[
    int | None,
    typer.Option(
        "--users",
        metavar="N",
        min=1,
        help="A trial: N users, drawn by the seed, go through every stage; the catalogue stays whole.",
    ),
]
Measure = Annotated[
    int,
    typer.Option(
        "--measure",
        metavar="N",
        min=0,
        help="Make N real calls first, to know time and length; they are stored and not paid for again.",
    ),
]
MaxCalls = Annotated[
    int | None,
    typer.Option("--max-calls", min=0, help="Stop when so many calls are paid for; answers are kept."),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0, help="Stop at so much money, by summary.price; answers are kept."),
]


def plan(
    config: ConfigPath = None,
    settings: Settings = None,
    out: OutFolder = None,
    measure: Measure = 0,
    users: TrialUsers = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Tell calls, tokens, time and money of captions and summaries, before the first call."""
    given = [*(settings or []), *options(users, max_calls, max_cost)]
    show_plan(read_config(config, given, out), measure, as_json)


def options(users: int | None, max_calls: int | None = None, max_cost: float | None = None) -> list[str]:
    """Write options that stand for settings as these."""
    given = {
        "history.users": users,
        "summary.limits.max_calls": max_calls,
        "summary.limits.max_cost": max_cost,
    }
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def show_plan(config: Config, measure: int = 0, as_json: bool = False) -> None:
    """Prepare the data, and print what the summaries will cost."""
    from trsr.artifacts import read_parquet  # noqa: PLC0415  polars stays out of `trsr --help`
    from trsr.stages import summarize as planning  # noqa: PLC0415  as above
    from trsr.stages.caption import plan_captions  # noqa: PLC0415  as above
    from trsr.stages.untrained import plan_scores  # noqa: PLC0415

    folder = trsr.run(config, until="prepare", say=lambda line: typer.echo(line, err=True))
    captions, items = plan_captions(config, folder, read_parquet(folder.items))
    if measure and captions and captions[0].bill.calls != 0:
        message = (
            "--measure makes calls for summaries of items whose captions are not there yet: run "
            "`trsr caption` first"
        )
        raise ConfigError(message)
    summaries = planning.plan(config, folder, items, measure)
    forecasts = [*captions, *summaries, *plan_scores(config, folder, items)]
    if as_json:
        rows: dict[str, Any] = {
            each.bill.name: each.bill.as_json() | {"basis": each.basis} for each in forecasts
        }
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    typer.echo(planning.render(forecasts))


def run(
    config: ConfigPath = None,
    settings: Settings = None,
    out: OutFolder = None,
    users: TrialUsers = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
) -> None:
    """Run every stage: prepare, caption, summarize, train, evaluate, report. Resumes where it was stopped."""
    _run_until(None, config, [*(settings or []), *options(users, max_calls, max_cost)], out)


def prepare(
    config: ConfigPath = None, settings: Settings = None, out: OutFolder = None, users: TrialUsers = None
) -> None:
    """Read the data, choose users and targets, draw and freeze the candidates."""
    _run_until("prepare", config, [*(settings or []), *options(users)], out)


def caption(
    config: ConfigPath = None,
    settings: Settings = None,
    out: OutFolder = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
) -> None:
    """Describe the items' images, where `images` asks for it (and first whatever it needs)."""
    _run_until("caption", config, [*(settings or []), *options(None, max_calls, max_cost)], out)


def summarize(
    config: ConfigPath = None,
    settings: Settings = None,
    out: OutFolder = None,
    users: TrialUsers = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what it will cost, as `trsr plan` does.")
    ] = False,
    measure: Measure = 0,
) -> None:
    """Write each user's preference summary (and first whatever it needs)."""
    given = [*(settings or []), *options(users, max_calls, max_cost)]
    if dry_run:
        show_plan(read_config(config, given, out), measure)
        return
    if measure:
        message = "--measure belongs to --dry-run; a run measures itself (bill.json)"
        raise ConfigError(message)
    _run_until("summarize", config, given, out)


def pretrain(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Teach the model what comes next in histories (and first whatever it needs)."""
    _run_until("pretrain", config, settings, out)


def train(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Fine-tune the ranking model on answers yes or no (and first whatever it needs)."""
    _run_until("train", config, settings, out)


def evaluate(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Score the frozen candidates and compute the metrics (and first whatever it needs)."""
    _run_until("evaluate", config, settings, out)


def report(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Write the self-contained page report.html (and first whatever it needs)."""
    _run_until("report", config, settings, out)


def _run_until(stage: str | None, path: Path | None, settings: list[str] | None, out: Path | None) -> None:
    config = read_config(
        path, settings, out
    )  # first: a wrong setting is told before anything heavy is loaded
    folder = trsr.run(config, until=stage, say=typer.echo)
    typer.echo(f"Run folder: {folder.path}")
    if stage in (None, "report"):
        typer.echo(f"Report: {folder.report}")
    from trsr.stages.summarize import count_failed  # noqa: PLC0415  polars stays out of `trsr --help`

    if stage not in ("prepare", "caption") and processes.is_main() and (failed := count_failed(folder)):
        typer.echo(f"{failed:,} users have no summary; run the same command again to redo them", err=True)
        raise typer.Exit(USERS_FAILED)


Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        help="Only these systems, by comma: --only sasrec,tfidf,recurrent (else all of `comparison`).",
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="NUMBERS",
        help="Training seeds, by comma: --seeds 0,1 (else those of `comparison`).",
    ),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--pair",
        metavar="A,B",
        help="Test two systems against each other: --pair sasrec,tfidf (else comparison.pairs). Repeatable.",
    ),
]
Dimensions = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        help="Only these dimensions, by comma: --only summary,recent_items,grid (else all).",
    ),
]
AblationSeeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="NUMBERS", help="Training seeds, by comma (else those of `ablation`)."),
]
NoUsers = Annotated[
    bool, typer.Option("--no-users", help="Show no single users on the page, so that it can be passed on.")
]


def compare(
    config: ConfigPath = None,
    only: Only = None,
    seeds: Seeds = None,
    pair: Pairs = None,
    settings: Settings = None,
    out: OutFolder = None,
    users: TrialUsers = None,
    no_users: NoUsers = False,
) -> None:
    """Train and score every system on the same users; write one table.

    Systems: those of comparison.baselines, your own among them as
    package.module:Class; the language model as tallrec (whole history, no
    summary), hierarchical, recurrent, sections and llmseqprompt (orders what a
    system retrieves); fused (the form that validation
    chose, joined with fusion.companions); and all that `trsr import` brought
    in.

    Split and candidates stay those of the run's seed; seeds train again, and
    a table to be believed has three or more. Two samplers of negatives stand
    side by side, then ranks in the whole catalogue and a two-stage ranking.
    Everything is chosen on validation users.

    For a first look: trsr compare CONFIG --only popularity,tfidf,itemknn

    Each system is tested against the best; --pair A,B tests A against B. The
    same command with a --pair more tests it by the scores that are there.

    Stop it when you like: the same command goes on where it was, and what is
    complete is not trained again.
    """
    given = [*(settings or []), *options(users), *_seed_setting("comparison", seeds), *_pair_setting(pair)]
    resolved = read_config(config, given, out)
    from trsr.experiments.compare import compare as run_comparison  # noqa: PLC0415  torch stays out of help

    written = run_comparison(
        resolved, only=_names(only), command=_command(), users=not no_users, say=typer.echo
    )
    typer.echo(f"\nTable: {written.csv}")
    typer.echo(f"Report: {written.page}")


def ablate(
    config: ConfigPath = None,
    only: Dimensions = None,
    seeds: AblationSeeds = None,
    settings: Settings = None,
    out: OutFolder = None,
    users: TrialUsers = None,
) -> None:
    """Change one setting at a time and measure what it is worth, on the same users and candidates.

    Dimensions: summary (none, recurrent, hierarchical), recent_items, block_size, writer, tokens (loss on
    the answer or on all tokens), negatives, loss (pointwise, listwise), method (LoRA ranks, full), and
    grid: summary and recent items together, each alone, none.

    Stop it when you like: the same command goes on, and what is complete is never trained again.
    """
    given = [*(settings or []), *options(users), *_seed_setting("ablation", seeds)]
    resolved = read_config(config, given, out)
    from trsr.experiments.ablate import ablate as run_ablation  # noqa: PLC0415  torch stays out of help

    written = run_ablation(resolved, only=_names(only), command=_command(), say=typer.echo)
    typer.echo(f"\nFigures: {written.figures}")
    typer.echo(f"Report: {written.page}")


studies = typer.Typer(no_args_is_help=True, help="Ask one question of several arms: summaries.")
Arms = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="ARMS",
        help="Only these arms, by comma: --only d,f; or `summaries`, to write these and train nothing.",
    ),
]
StudySeeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="NUMBERS", help="Only these of `study.seeds`, by comma."),
]


@studies.command()
def summaries(
    config: ConfigPath = None,
    only: Arms = None,
    seeds: StudySeeds = None,
    settings: Settings = None,
    out: OutFolder = None,
    users: TrialUsers = None,
    no_users: NoUsers = False,
) -> None:
    """Ask what a summary is worth beside recent items in as many tokens, and beside another user's summary.

    Arms, at one budget: a recent items, b recent items until it is full, c the whole history, d summary and
    recent items, e summary alone, f another user's summary and recent items, g a summary of the recent items,
    and these. The claim, d above b and f and growing with length, is written down before test users are
    scored; the page says in its first sentence whether it stands.

    Stop it when you like: the same command goes on. Several processes may work on one folder, by --only and
    --seeds or just so, each takes what nobody has; a call without these options gathers and writes the page.
    """
    given = [*(settings or []), *options(users)]
    resolved = read_config(config, given, out)
    taken = None if seeds is None else _numbers(seeds)
    from trsr.experiments.study import study  # noqa: PLC0415  torch stays out of help

    written = study(
        resolved, only=_names(only), seeds=taken, command=_command(), users=not no_users, say=typer.echo
    )
    if written is not None:
        typer.echo(f"Figures: {written.figures}")
        typer.echo(f"Report: {written.page}")


def compress(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run.")],
    keep: Annotated[
        float, typer.Option("--keep", help="Share of the linear layers' weights to be kept, above 0 to 1.")
    ] = 0.5,
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, help="Training users whose prompts the layers are fitted to.")
    ] = 64,
    users: Annotated[
        int | None,
        typer.Option(
            "--users", metavar="N", min=1, help="Test users to measure on, drawn by the seed; else all."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Make a run's language model smaller, and measure on its test users what that costs.

    Each linear layer becomes two smaller ones by an SVD that is weighed by what training prompts send through
    it, layer after layer. Beside it: plain SVD of the same size, 8 bits, and this method at the bytes of 8
    bits. RUN_DIR/compressed is a bundle like any other, with compression.json in it: errors by layer, bytes,
    milliseconds a prompt, and ranking before and after. An adapter is merged into its base first.

    With a pretrained model 8 bits take one prompt a candidate, hours on all users: measure on --users 50.
    """
    from trsr.stages.compress import compress_run, render  # noqa: PLC0415  torch stays out of help

    report = compress_run(run_dir, keep, prompts, users, say=lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(report, ensure_ascii=False) if as_json else render(report))


def _names(only: str | None) -> list[str] | None:
    return (
        None if only is None else [name.strip() for name in re.split(r",(?![^(]*\))", only) if name.strip()]
    )


def _command() -> str:
    return shlex.join(["trsr", *sys.argv[1:]])


def _seed_setting(section: str, seeds: str | None) -> list[str]:
    return [] if seeds is None else [f"{section}.seeds={_numbers(seeds)}"]


def _pair_setting(pairs: list[str] | None) -> list[str]:
    named = [_names(pair) or [] for pair in pairs or []]
    if wrong := [pair for pair, names in zip(pairs or [], named, strict=True) if len(names) != 2]:
        message = f"--pair must be two systems by comma, such as --pair sasrec,tfidf, got {wrong[0]!r}"
        raise ConfigError(message)
    return [f"comparison.pairs={json.dumps(named)}"] if named else []


def _numbers(seeds: str) -> list[int]:
    numbers = [number.strip() for number in seeds.split(",")]
    if not all(number.isdecimal() for number in numbers):
        message = f"--seeds must be whole numbers by comma, such as --seeds 0,1,2, got {seeds!r}"
        raise ConfigError(message)
    return list(map(int, numbers))
