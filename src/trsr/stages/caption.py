"""Images of the items become a text field, before anything reads the items; and the bill of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import polars as pl

from trsr.artifacts import RunFolder, write_parquet
from trsr.config import Config
from trsr.config.images import Images
from trsr.data import prepare as data
from trsr.data.images import ImageSource, ItemImage
from trsr.data.prepare import Prepared
from trsr.prompts.templates import Templates
from trsr.records import FAILED, ITEM, Finding
from trsr.registry import own_source
from trsr.stages.prepare import tell
from trsr.stages.summarize import PACE, billed
from trsr.stages.work import Artifact, Made, Work
from trsr.summarize.captions import (
    Caption,
    check_field,
    filled,
    forecast_captions,
    template_version,
    write_captions,
)
from trsr.summarize.forecast import Forecast

BILL: Final = "captions_bill.json"
"""As ``bill.json`` is for summaries."""
_EXAMPLES: Final = 5


def caption(work: Work, prepared: Artifact[Prepared]) -> Artifact[Prepared]:
    """Describe the items' images where the settings ask for it; see `trsr.summarize.captions`.

    ``dataset/captioned.parquet`` has the items as all later steps read them, ``dataset/captions.parquet`` the
    image of each item with its caption. Images that can't be read or described are counted among the
    findings, their items stay. When a caption failed, the next run asks again.

    Raises `DataError` when no image at all can be read, `WriterError` or `BudgetError` as
    `write_captions` does.
    """
    images, folder = work.config.images, work.folder
    if images is None:
        for path in (folder.captioned, folder.captions):
            path.unlink(missing_ok=True)
        return prepared
    items = prepared.value.items
    check_field(items, images)
    found, wrong = ImageSource(images, work.config.data).look(items)

    def make(config: Config) -> Made:
        assert config.images is not None
        planned, _ = forecast_captions(config, images, found.values())
        with billed(work, planned, images.price, BILL, own=":" in images.captioner.kind) as budget:
            captions = write_captions(config, images, found.values(), budget)
        write_parquet(filled(items, images, found, captions, config.seed), folder.captioned)
        table = _table(items, found, captions)
        write_parquet(table, folder.captions)
        findings = (*wrong, *_failed(table), *_permuted(images, table))
        spent = budget.spent
        work.say(
            f"  {table.filter(pl.col('caption') != '').height:,} of {items.height:,} items have a caption; "
            f"{spent.calls:,} calls made, {spent.calls_reused:,} answered from the store"
        )
        tell(findings, work.say)
        again = any(finding.rule in ("caption-failed", "image-not-fetched") for finding in findings)
        return Made([folder.captioned, folder.captions], is_partial=again, findings=findings)

    made = work.step(
        "caption",
        "describe the images of the items",
        make,
        lambda made: _captioned(made, prepared),
        settings=("seed", "images", "prompt.domain"),
        free=(
            *("out", "name", "prompt.templates", "summary.store", "images.price", "images.folder"),
            *(f"images.captioner.{name}" for name in PACE if name != "tokenizer"),
        ),
        content=[
            prepared.digest,
            template_version(Templates(work.config.prompt.domain, work.config.prompt.templates)),
            own_source("captioner", images.captioner.kind),
            sorted((item, image.key) for item, image in found.items()),
            sorted((finding.rule, finding.count) for finding in wrong),
        ],
    )
    return Artifact(made.folder, replace(made.entry, outputs=_together(prepared, made)), lambda _: made.value)


def _together(prepared: Artifact[Prepared], made: Artifact[Prepared]) -> Mapping[str, str]:
    """Let what depends on the data depend on the captions too; what they are, the items tell."""
    return {**prepared.entry.outputs, "captions": made.digest}


def _captioned(made: Artifact[Prepared], prepared: Artifact[Prepared]) -> Prepared:
    items = data.read_items(made.folder)
    return replace(prepared.value, items=items, findings=(*prepared.value.findings, *made.findings))


def _table(
    items: pl.DataFrame, found: Mapping[str, ItemImage], captions: Mapping[str, Caption]
) -> pl.DataFrame:
    rows = []
    for item in items[ITEM]:
        image = found.get(item)
        made = Caption("") if image is None else captions[image.key]
        rows.append((item, "" if image is None else image.digest, made.text, made.failed))
    schema = {ITEM: pl.String, "image_sha256": pl.String, "caption": pl.String, FAILED: pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _failed(table: pl.DataFrame) -> tuple[Finding, ...]:
    failed = table.filter(pl.col(FAILED) != "")
    if failed.is_empty():
        return ()
    examples = tuple(
        f"item {item}: {why}" for item, why in failed.select(ITEM, FAILED).head(_EXAMPLES).rows()
    )
    message = f"items have an image without a caption, the first is {examples[0]}; run again to ask again"
    return (Finding("caption-failed", message, failed.height, "noted", examples),)


def _permuted(images: Images, table: pl.DataFrame) -> tuple[Finding, ...]:
    having = table.filter(pl.col("caption") != "").height
    message = "items have the caption of another one (images.permuted): this run is a control"
    return (Finding("permuted-captions", message, having, "noted"),) if images.permuted else ()


def plan_captions(
    config: Config, folder: RunFolder, items: pl.DataFrame
) -> tuple[list[Forecast], pl.DataFrame]:
    """Forecast the captions of a prepared run; give the items with those that are stored, and stand-ins."""
    images = config.images
    if images is None:
        return [], items
    check_field(items, images)
    found, wrong = ImageSource(images, config.data).look(items)
    forecast, known = forecast_captions(config, images, found.values())
    told = " ".join(f"{finding.sentence}." for finding in wrong)
    basis = f"{forecast.basis} {told}".strip()
    return [replace(forecast, basis=basis)], filled(items, images, found, known, config.seed)
