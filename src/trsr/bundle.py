"""What training ends in: a folder that ranks on any machine, and knows no user.

It holds the model with its tokenizer and prompt, the texts of the catalogue that are read, the companions as
they were fitted with their weights and calibration, the vocabulary of the built-in writer, and the settings;
``bundle.json`` names every file with its hash. A copy is as good as the folder itself. Files that the run has
already are hard links, so that weights lie on the disk once.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from trsr import __version__
from trsr.artifacts import RunFolder, hash_path, read_parquet, write_json, write_parquet
from trsr.config import Config
from trsr.config.load import load_run
from trsr.config.ranking import EndpointModel, HuggingFaceModel
from trsr.config.summary import KeyphraseWriter, TableWriter
from trsr.data.dataset import Catalogue
from trsr.data.prepare import read_items
from trsr.errors import ArtifactError, ConfigError, ModelError
from trsr.fusion.companions import KeptFusion
from trsr.ranking.ranker import BASE, TEMPLATES, Ranker, read_card
from trsr.ranking.ranker import CARD as RANKER
from trsr.records import ITEM

if TYPE_CHECKING:
    import polars as pl

    from trsr.ranking.export import ModelTool
    from trsr.summarize.keyphrase.vocabulary import Phrasebook

FORMAT: Final = 1
CARD: Final = "bundle.json"
_MODEL: Final = "model"
_ITEMS: Final = "items.parquet"
_FUSION: Final = "fusion"
_VOCABULARY: Final = "vocabulary"
_ADAPTER: Final = "adapter_config.json"
_PICKLES: Final = frozenset((".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf"))
_HASHED_BYTES: Final = 64 << 20
"""Larger files are weights; opening them checks their form, and hashing them would double the time."""


class Bundle:
    """A bundle on disk, whole and of this format.

    Raises
    ------
    ArtifactError
        When it is missing, damaged, or was made by a newer TRSR.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.card: dict[str, Any] = json.loads((path / CARD).read_text(encoding="utf-8"))
            made = self.card["format"]
            if made != FORMAT:
                by = f"{path / CARD}: a bundle of format {made}, by trsr {self.card.get('trsr', '?')}"
                older = "it can't be read any more: make it again by `trsr run` on its run folder"
                newer = f"this is trsr {__version__}, which reads format {FORMAT}: update trsr"
                message = f"{by}; {newer if isinstance(made, int) and made > FORMAT else older}"
                raise ArtifactError(message)
            _require_whole(path, self.card["files"])
            values = self.card["settings"]
            if values["prompt"]["templates"]:
                values["prompt"]["templates"] = str(path / values["prompt"]["templates"])
            self.config = Config.model_validate(values | {"out": path})
            self.fields: tuple[str, ...] = tuple(self.card["fields"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            message = f"{path / CARD}: not a bundle ({error}); {_AGAIN}"
            raise ArtifactError(message) from error

    @property
    def is_fused(self) -> bool:
        """Whether it holds a fused ranker."""
        return (self.path / _FUSION).exists()

    def with_ranker(self, ranker: Ranker, place: Path) -> Bundle:
        """Make a bundle with another model at `place`, in which nothing else is.

        There is no fused ranker in it: weights and calibration were learnt from this one's scores.
        """
        ranker.save(place / _MODEL)
        for part in (_ITEMS, _VOCABULARY):
            source = self.path / part
            if source.is_dir():
                _put(source, place / part)
            elif source.exists():
                shutil.copyfile(source, place / part)
        files = {str(path.relative_to(place)): _told(path) for path in sorted(_files(place))}
        write_json(self.card | {"files": files}, place / CARD)
        return Bundle(place)

    def require_current(self, folder: RunFolder) -> None:
        """Raise ArtifactError when the run has been trained again since the bundle was made."""
        if self.card["made_from"] != _made_from(folder, self.card["made_from"]):
            message = f"{self.path}: is older than the run's model; run `trsr run` on this run folder again"
            raise ArtifactError(message)

    def items(self) -> pl.DataFrame:
        """Read the catalogue's texts."""
        return read_parquet(self.path / _ITEMS)

    def catalogue(self) -> Catalogue:
        """Read the catalogue; it shows all fields that are read, and knows of the others."""
        catalogue = Catalogue(self.items())
        catalogue.available = self.fields
        return catalogue

    def ranker(self, device: str = "auto") -> Ranker:
        """Load the model."""
        return Ranker.load(self.path / _MODEL, device)

    def fusion(self) -> KeptFusion:
        """Load the companions, their weights and calibration."""
        return KeptFusion.load(self.config, self.path / _FUSION)

    def vocabulary(self) -> Phrasebook | pl.DataFrame:
        """Read what the built-in writer has learnt, or the items that it learns from."""
        from trsr.summarize.keyphrase.vocabulary import Phrasebook  # noqa: PLC0415  only to write summaries

        if (self.path / _VOCABULARY).exists():
            return Phrasebook.load(self.path / _VOCABULARY)
        return self.items().select(ITEM, *self.config.items.fields or self.fields)


_AGAIN: Final = "copy it again, or make it again by `trsr run` on its run folder"


def _require_whole(path: Path, files: dict[str, dict[str, Any]]) -> None:
    for name, told in files.items():
        file = path / name
        if not file.is_file():
            message = f"{file} is missing: {_AGAIN}"
            raise ArtifactError(message)
        size = file.stat().st_size
        if size != told["bytes"] or (size <= _HASHED_BYTES and hash_path(file) != told["sha256"]):
            message = f"{file}: isn't the file that the bundle was made with; {_AGAIN}"
            raise ArtifactError(message)


def save_bundle(config: Config, folder: RunFolder, items: pl.DataFrame | None = None, *, fused: bool) -> bool:
    """Make the run's bundle from what it has trained, unless it is there; says whether it was made.

    `items` is the run's catalogue, where it is in memory already. When it is interrupted, the old bundle is
    there, or none. Raises ArtifactError when an artifact is missing.
    """
    items_of = folder.captioned if folder.captioned.exists() else folder.items
    read = str(items_of.relative_to(folder.path))
    made_from = _made_from(folder, ("model", read, *(["fusion"] if fused else [])))
    settings = _settings(config)
    try:
        card = Bundle(folder.bundle).card
        if (
            card["made_from"] == made_from
            and json.loads((folder.bundle / CARD).read_text())["settings"] == settings
        ):
            return False
    except ArtifactError:  # there is none, or none that can be used
        pass
    for unfinished in folder.path.glob(".bundle.*"):
        shutil.rmtree(unfinished)
    new = Path(tempfile.mkdtemp(prefix=".bundle.", dir=folder.path))
    new.chmod(0o755)
    if items is None:
        items = read_items(folder)
    _fill(new, config, folder, items, fused)
    files = {str(path.relative_to(new)): _told(path) for path in sorted(new.rglob("*")) if path.is_file()}
    fields = [name for name in items.columns if name != ITEM]
    told = {"format": FORMAT, "trsr": __version__, "made_from": made_from, "settings": settings}
    write_json(told | {"fields": fields, "files": files}, new / CARD)
    if folder.bundle.exists():
        folder.bundle.rename(folder.path / ".bundle.old")
    new.rename(folder.bundle)
    shutil.rmtree(folder.path / ".bundle.old", ignore_errors=True)
    return True


def _fill(new: Path, config: Config, folder: RunFolder, items: pl.DataFrame, fused: bool) -> None:
    read = Catalogue(items, config.items.fields).fields
    shown = {*read, *(config.ranking_fields or read)}
    write_parquet(items.select(ITEM, *(name for name in items.columns if name in shown)), new / _ITEMS)
    put_model(folder.require(folder.model, "train"), new / _MODEL)
    if fused:
        _put(folder.fusion, new / _FUSION)
    if config.summary.paradigm != "none" and isinstance(config.summary.writer, KeyphraseWriter):
        from trsr.summarize.keyphrase.vocabulary import Phrasebook  # noqa: PLC0415  only this writer's
        from trsr.summarize.keyphrase.writer import items_of  # noqa: PLC0415

        Phrasebook(items_of(items.select(ITEM, *read))).save(new / _VOCABULARY)


def put_model(model: Path, place: Path) -> None:
    """Put a ranker into the bundle, and with an adapter the base that lies in a folder of this machine."""
    card = read_card(model)
    base = card["base"]
    if base is None or card.get("weights", not card["adapter"]) or not Path(base["path"]).is_dir():
        _put(model, place)
        return
    _put(model, place, but=(RANKER, _ADAPTER))
    if (Path(base["path"]) / _ADAPTER).exists():  # an adapter itself, merged into what it sits on
        from trsr.hf.loading import load_language_model  # noqa: PLC0415  a whole model

        merged = load_language_model(HuggingFaceModel.model_validate(base))
        merged.model.save_pretrained(place / BASE)
        merged.tokenizer.save_pretrained(place / BASE)
    else:
        _put(Path(base["path"]), place / BASE)
    write_json(card | {"base": base | {"path": BASE}}, place / RANKER)
    if not card["adapter"]:
        return
    adapter = json.loads((model / _ADAPTER).read_text(encoding="utf-8"))
    write_json(adapter | {"base_model_name_or_path": BASE}, place / _ADAPTER)


def _put(source: Path, place: Path, but: Collection[str] = ()) -> None:
    """Link a folder's files, or copy them where that can't be; no pickles, and nothing hidden."""
    for path in _files(source):
        name = path.relative_to(source)
        if name.parts[-1] in but:
            continue
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            # What a link leads to may be replaced; its own content stays.
            os.link(path.resolve(), place / name)
        except OSError:
            shutil.copyfile(path, place / name)


def _files(source: Path) -> Iterator[Path]:
    for path in sorted(source.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
        if path.is_file() and not hidden and path.suffix not in _PICKLES:
            yield path


def _told(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hash_path(path)}


def _made_from(folder: RunFolder, names: Collection[str]) -> dict[str, str | None]:
    """Name the content of a run's artifacts, by what the manifest says of them."""
    outputs = {name: hashed for stage in folder.entries().values() for name, hashed in stage.outputs.items()}
    return {name: outputs.get(name) for name in names}


def _settings(config: Config) -> dict[str, Any]:
    """Return what ranking and summaries depend on, with no path of this machine and no place of a store."""
    kept = config.model_dump(mode="json", include={"name", "seed", "items", "summary", "prompt"})
    for name in ("store", "limits"):
        del kept["summary"][name]
    if config.prompt.templates is not None:
        kept["prompt"]["templates"] = f"{_MODEL}/{TEMPLATES}"
    if isinstance(config.summary.writer, TableWriter):
        # A table of texts of users stays where it is: whoever isn't told a text ranks without.
        kept["summary"] |= {"paradigm": "none", "writer": KeyphraseWriter().model_dump(mode="json")}
    writer = kept["summary"]["writer"]
    for name in ("model", "tokenizer"):
        if writer.get(name) and Path(writer[name]).is_absolute():
            writer[name] = Path(writer[name]).name
    return kept | {
        "training": {"seed": config.training_seed},
        "candidates": {"sampler": config.candidates.sampler},
    }


def export_model(path: Path, to: ModelTool, out: Path) -> tuple[int, float]:
    """Write the language model of a bundle, or of a finished run, for another tool; see `export_ranker`.

    Raises
    ------
    ModelError
        When the model is behind a server, ranks by likelihood, or is one that the tool can't have.
    ArtifactError
        When there is no bundle, or `out` holds something.
    """
    folder = RunFolder(path)
    if not (path / CARD).exists():
        if isinstance(model := load_run(folder.config).model, EndpointModel):
            message = (
                f"{path}: its ranking model is {model.model} behind a server; export it where its files are"
            )
            raise ModelError(message)
        folder.require(folder.bundle / CARD, "train")
    bundle = Bundle(path if (path / CARD).exists() else folder.bundle)
    if bundle.path == folder.bundle:
        bundle.require_current(folder)
    card = read_card(bundle.path / _MODEL)
    if card.get("by") == "likelihood":
        message = (
            f"{path}: it ranks by the likelihood of texts, not by yes and no; serve it with `trsr serve`"
        )
        raise ModelError(message)
    if (card["base"] or {}).get("quantization", "none") != "none":
        message = (
            f"{path}: weights of {card['base']['quantization']} can't be merged with an adapter; train with "
            "model.quantization: none, and export that"
        )
        raise ModelError(message)
    from trsr.ranking.export import export_ranker  # noqa: PLC0415  two libraries, only to export

    catalogue = bundle.catalogue().showing(bundle.config.ranking_fields)
    return export_ranker(bundle.ranker("cpu"), catalogue.items(catalogue.ids), to, out)


def require_fused(bundle: Bundle) -> None:
    """Raise ConfigError when the bundle has no fused ranker."""
    if not bundle.is_fused:
        message = (
            f"{bundle.path}: no fused ranker; make one with `trsr evaluate` on the run folder, or rank with "
            "language_model"
        )
        raise ConfigError(message)
