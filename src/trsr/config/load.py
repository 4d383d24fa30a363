"""The whole configuration, and how it is read from a file, a preset and overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from trsr.config.data import (
    CandidateRule,
    DataSource,
    DemoData,
    HistoryWindow,
    ItemText,
    SplitRule,
    require_one_protocol,
    source_settings,
)
from trsr.config.evaluation import Ablation, Cluster, Comparison, Fusion, Study
from trsr.config.images import Images
from trsr.config.presets import PRESETS
from trsr.config.ranking import (
    CompactModel,
    EndpointModel,
    Evaluation,
    HuggingFaceModel,
    RankingModel,
    Training,
)
from trsr.config.section import Section
from trsr.config.summary import Limits, Prompting, Summarization
from trsr.errors import ConfigError, DataError
from trsr.registry import READERS, find_part, is_dotted


class Config(Section):
    """Everything that decides what a run does."""

    name: str = Field("run", pattern=r"^\w[\w .-]*$")
    """Name of the run, shown in the report and, without `out`, the name of its folder."""
    preset: Literal["demo", "paper", "llm_sequential", "llm2rec", "mllm_msr"] | None = None
    """Named starting values; the file's own values go over them."""
    seed: int = 0
    """Seed of split, negatives and bootstrap, and of training unless `training.seed` is given."""
    out: Path | None = None
    """The run folder; null: `runs/NAME`."""
    data: DataSource = DemoData()
    """Where the data comes from."""
    items: ItemText = ItemText()
    """How an item becomes one line of text."""
    images: Images | None = None
    """Images of the items, which become a text field; null: there are none, or they are not looked at."""
    history: HistoryWindow = HistoryWindow()
    """Which users take part."""
    split: SplitRule = SplitRule()
    """How users are divided."""
    candidates: CandidateRule = CandidateRule()
    """Which items are ranked against the target."""
    summary: Summarization = Summarization()
    """How a history becomes a preference summary."""
    prompt: Prompting = Prompting()
    """How prompts are worded and how long they may be."""
    model: RankingModel = CompactModel()
    """The model that answers yes or no."""
    training: Training = Training()
    """How it is fine-tuned."""
    fusion: Fusion = Fusion()
    """The fused ranker."""
    evaluation: Evaluation = Evaluation()
    """What is measured."""
    ablation: Ablation = Ablation()
    """What `trsr ablate` changes."""
    study: Study = Study()
    """What `trsr study summaries` measures."""
    cluster: Cluster = Cluster()
    """Machines beyond this one."""
    comparison: Comparison = Comparison()
    """What `trsr compare` puts into one table."""

    @model_validator(mode="before")
    @classmethod
    def _embedding_model(cls, values: Any) -> Any:
        """Take `comparison.embedding_model`, as version 0.1 has it, for a setting of `embeddings`."""
        if not isinstance(values, Mapping):
            return values
        comparison = values.get("comparison")
        if not (isinstance(comparison, Mapping) and "embedding_model" in comparison):
            return values
        made = deepcopy(dict(values))
        model = made["comparison"].pop("embedding_model")
        for section, key in (
            ("comparison", "baselines"),
            ("evaluation", "baselines"),
            ("fusion", "companions"),
        ):
            names = made.get(section)
            if model and isinstance(names, dict) and isinstance(names.get(key), list | tuple):
                told = {"kind": "embeddings", "model": model}
                names[key] = [told if name == "embeddings" else name for name in names[key]]
        return made

    @model_validator(mode="after")
    def _trainable(self) -> Config:
        quantized = isinstance(self.model, HuggingFaceModel) and self.model.quantization != "none"
        if quantized and self.training.method == "full":
            message = (
                "training.method: full changes all weights, which weights of 8 or 4 bits can't take; set "
                "lora, or model.quantization: none"
            )
            raise ValueError(message)
        if self.prompt.nearest_items and isinstance(self.model, EndpointModel):
            message = (
                "prompt.nearest_items: a model behind a server isn't trained to read them; set 0, or another "
                "kind of model"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _one_currency(self) -> Config:
        if self.images is not None and self.summary.limits.max_cost is not None:
            own, other = self.images.price.currency, self.summary.price.currency
            if own != other:
                message = f"images.price and summary.price must be of one currency, got {own} and {other}"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _one_protocol(self) -> Config:
        require_one_protocol(self.split, self.candidates, self.history)
        return self

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.out if self.out is not None else Path("runs") / self.name

    @property
    def trains(self) -> bool:
        """Whether the ranking model is trained at all."""
        return self.training.method != "none" and not isinstance(self.model, EndpointModel)

    @property
    def training_seed(self) -> int:
        """Seed of everything that is trained."""
        return self.seed if self.training.seed is None else self.training.seed

    @property
    def ranking_fields(self) -> tuple[str, ...]:
        """Fields of an item in the ranking prompt; empty for all."""
        return self.prompt.item_fields or self.items.fields

    @property
    def ranking_item_tokens(self) -> int:
        """Cap of an item's line in the ranking prompt."""
        return self.prompt.item_tokens or self.items.max_tokens

    @property
    def store_url(self) -> str:
        """URL of the store of model answers."""
        return self.summary.store or f"sqlite:///{self.folder.parent.resolve() / 'answers.db'}"


def load(path: Path | str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration: defaults, then the preset, then the file, then the overrides.

    Parameters
    ----------
    path
        YAML file; None for the defaults alone. Relative data paths in the file are
        relative to the file's folder.
    overrides
        Dotted key to value, as `parse_overrides` gives them; relative data paths are
        relative to the working folder.

    Raises
    ------
    ConfigError
        With every wrong setting at once: its place, its rule and the value got.
    """
    values = {} if path is None else _read_yaml(Path(path))
    if path is not None:
        _anchor_paths(values, Path(path).parent)
    for key, value in (overrides or {}).items():
        _put(values, key, deepcopy(value))
    _anchor_paths(values, Path.cwd())
    preset = values.get("preset")
    if preset is not None:
        if preset not in PRESETS:
            message = f"preset must be one of {', '.join(PRESETS)}, got {preset!r}"
            raise ConfigError(message)
        values = _merge(PRESETS[preset], values)
    values = _merge(_default_kinds(), values)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, values)) from error


def load_run(path: Path, limits: Limits | None = None) -> Config:
    """Read the configuration that a run has left in its folder, for work on the finished run.

    The folder may have been moved: the store of answers lies beside it. A cap was that of the run alone;
    `limits` are those of what is done now, None for no cap. `path` is the folder's ``config.yaml``; raises
    DataError when it isn't there, and else as `load` does.
    """
    if not path.exists():
        message = f"{path.parent}: not a run folder (it has no {path.name}); make one with `trsr run`"
        raise DataError(message)
    config = load(path)
    summary = config.summary.model_copy(update={"limits": limits or Limits()})
    return config.model_copy(update={"out": path.parent, "summary": summary})


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Read ``key.sub=value`` settings of the command line; values are YAML.

    Raises ConfigError when a setting has no ``=`` or its value is not YAML.

    Examples
    --------
    >>> parse_overrides(["summary.paradigm=none", "evaluation.ks=[3, 5]"])
    {'summary.paradigm': 'none', 'evaluation.ks': [3, 5]}
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            message = f"--set must be key=value, got {setting!r}; for example --set summary.paradigm=none"
            raise ConfigError(message)
        try:
            parsed[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            message = f"--set {key.strip()}: value is not YAML ({error})"
            raise ConfigError(message) from error
    return parsed


def dump(config: Config) -> str:
    """Write the resolved configuration as YAML that `load` reads back to an equal one.

    Examples
    --------
    >>> "paradigm: recurrent" in dump(Config())
    True
    """
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{path}: no such file; see examples/ for configurations to start from"
        raise ConfigError(message) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        message = (
            f"{path}: not a readable YAML file ({error}); give a configuration such as examples/demo.yaml"
        )
        raise ConfigError(message) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        message = f"{path}: must hold settings as `key: value`, got a {type(values).__name__}"
        raise ConfigError(message)
    return values


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make relative input paths absolute, so that the resolved configuration means the same anywhere."""
    for name, inside in values.items():
        if isinstance(inside, dict) and name in Config.model_fields:
            _anchor_section(inside, _sections(name, inside, Config.model_fields[name].annotation), folder)


def _anchor_section(inside: dict[str, Any], sections: Sequence[type[Section]], folder: Path) -> None:
    for section in sections:
        for key, of_key in section.model_fields.items():
            value = inside.get(key)
            paths = Path in _parts(of_key.annotation)
            if isinstance(value, str) and paths:
                inside[key] = str((folder / value).resolve())
            elif isinstance(value, list | tuple) and paths:
                inside[key] = [
                    str((folder / each).resolve()) if isinstance(each, str) else each for each in value
                ]
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    _anchor_section(each, _sections(key, each, of_key.annotation), folder)


def _sections(name: str, inside: dict[str, Any], annotation: Any) -> list[type[Section]]:
    """Give the sections that settings may be meant for; those of data are the reader's."""
    if name != "data":
        return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, Section)]
    with suppress(ConfigError):  # told when the settings are checked
        return [source_settings(inside.get("format", DemoData().format))]
    return []


def _parts(annotation: Any) -> list[Any]:
    """Take a type apart: unions and what is annotated."""
    inside = get_args(annotation)
    return [annotation, *(part for each in inside for part in _parts(each))] if inside else [annotation]


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inside = values.setdefault(parent, {})
        if not isinstance(inside, dict):
            message = f"--set {key}: {parent} holds a value, not settings"
            raise ConfigError(message)
        values = inside
    values[last] = value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        beneath = merged.get(key)
        if isinstance(beneath, Mapping) and isinstance(value, Mapping) and _same_kind(beneath, value):
            merged[key] = _merge(beneath, value)
        else:
            merged[key] = value
    return merged


def _default_kinds() -> dict[str, Any]:
    """Name the kind of each section that has several, so that a file may leave the default's kind out."""
    default = Config()
    return {
        "data": {"format": default.data.format},
        "model": {"kind": default.model.kind},
        "summary": {"writer": {"kind": default.summary.writer.kind}},
    }


def _same_kind(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Say whether both are settings of one kind; another kind's settings replace the preset's as a whole."""
    return all(above.get(key, below.get(key)) == below.get(key) for key in ("kind", "format"))


_MAY_HOLD_SECRETS: Final = ("base_url", "api_key_env", "store")
"""Settings whose wrong values are not repeated: a key or a password may stand in them."""


def _explain(error: ValidationError, path: Path | str | None, values: Mapping[str, Any]) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{place}: no such setting{_meant(problem['loc'], values)}")
        elif problem["type"] == "missing":
            lines.append(f"{place}: is required")
        else:
            got = "" if place.endswith(_MAY_HOLD_SECRETS) else f", got {problem['input']!r}"
            lines.append(f"{place}: {problem['msg']}{got}")
    head = f"{path or 'configuration'}: {len(lines)} setting{'s' if len(lines) > 1 else ''} to mend"
    return "\n  ".join([head, *lines])


def _meant(place: tuple[int | str, ...], values: Mapping[str, Any]) -> str:
    """Say which setting an unknown one may have been meant for: of a similar name, or the same elsewhere."""
    known = [*dict.fromkeys(_names(Config))]
    # Where a section has several kinds, pydantic puts the kind between, which is no part of a setting's name.
    *sections, last = map(str, place)
    above = [part for at, part in enumerate(sections) if ".".join(sections[: at + 1]) in known or not at]
    near = get_close_matches(".".join([*above, last]), known, n=1, cutoff=0.85)
    own = get_close_matches(last, _own_names(place[:-1], values), n=1)
    near = [".".join([*above, *own])] if own else near
    near = near or [name for name in known if name.endswith(f".{last}")][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _own_names(place: tuple[int | str, ...], values: Any) -> list[str]:
    """Name the settings of the own part that stands at a place; nothing where none does."""
    for part in place:  # the kind that pydantic puts between is no key
        is_key = part in values if isinstance(values, Mapping) else isinstance(part, int)
        values = values[part] if is_key else values
    kind = values.get("kind", values.get("format")) if isinstance(values, Mapping) else None
    if isinstance(kind, str) and is_dotted(kind):
        with suppress(ConfigError):  # what can't be imported is told where the part stands
            return [*getattr(getattr(find_part("part", kind, {}), "Settings", None), "model_fields", ())]
    return []


def _names(section: type[Section], above: str = "") -> Iterator[str]:
    """Name all settings below a section, in dots; those of data are of all readers."""
    for name, field in section.model_fields.items():
        yield above + name
        own = map(source_settings, READERS) if name == "data" else _sections(name, {}, field.annotation)
        for inner in own:
            yield from _names(inner, f"{above}{name}.")
