"""Variants of the language model: the run's settings with some changed, and the dimensions of an ablation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trsr.artifacts import RunFolder, hash_value
from trsr.config import Config
from trsr.config.evaluation import DimensionName, LanguageModelName, Untrained
from trsr.config.summary import KeyphraseWriter, OwnWriter, TableWriter, Writer
from trsr.data.prepare import Prepared
from trsr.experiments.progress import Job, Progress
from trsr.experiments.progress import Work as Sort
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import SeedScores
from trsr.experiments.systems import LanguageModel
from trsr.records import PROFILES
from trsr.registry import path_name
from trsr.stages.summarize import summarize
from trsr.stages.train import pretrain, train
from trsr.stages.untrained import stand
from trsr.stages.work import Artifact, Work


@dataclass(frozen=True, slots=True)
class Variant:
    """The run's settings with some changed, each by its dotted name; `name` is also that of its folder.

    Of a model that ranks as it stands, `untrained` says what of it ranks.
    """

    name: str
    overrides: Mapping[str, Any]
    untrained: Untrained | None = None


def standing(untrained: Untrained) -> Variant:
    """Return the variant whose ranking model is another one, as it stands.

    It isn't told the nearest items: what they mean is learnt by training.
    """
    model = untrained.model.model_dump(mode="json")
    overrides = {"model": model, "training.method": "none", "prompt.nearest_items": 0}
    return Variant(path_name(untrained.label), overrides, untrained)


def form(config: Config, name: LanguageModelName) -> Variant:
    """Return one of the forms of the language model.

    ``tallrec`` has the whole history in the prompt and no summary (Bao et al., TALLRec, RecSys
    2023); so has ``llmseqprompt``, which learns to order what a system retrieves (Harte et al., RecSys 2023);
    ``mllm_msr`` has a recurrent summary by blocks of three items, told with the captions of their images, and
    no recent items (Ye et al., MLLM-MSR, AAAI 2025); the others have a summary and the newest items.
    ``profiles`` has the texts of a table, which any paradigm takes as they are.

    Examples
    --------
    >>> dict(form(Config(), "tallrec").overrides)
    {'summary.paradigm': 'none', 'prompt.recent_items': 25}
    """
    whole = {"summary.paradigm": "none", "prompt.recent_items": config.history.max - 1}
    if name == "tallrec":
        return Variant(name, whole)
    if name == "llmseqprompt":
        return Variant(name, whole | {"training.sampler": "retrieved"})
    if name == "mllm_msr":
        told = {"summary.paradigm": "recurrent", "summary.block_size": 3, "prompt.recent_items": 0}
        return Variant(name, told | _with_captions(config))
    return Variant(name, {"summary.paradigm": "recurrent" if name == PROFILES else name})


def _with_captions(config: Config) -> dict[str, Any]:
    """Add the captions to the fields that are shown, where these are named one by one."""
    field = "" if config.images is None else config.images.field
    named = {"items.fields": config.items.fields, "prompt.item_fields": config.prompt.item_fields}
    return {key: [*names, field] for key, names in named.items() if names and field not in names}


def configure(config: Config, variant: Variant, seed: int, out: Path) -> Config:
    """Apply a variant's settings and a training seed.

    The store of model answers stays the run's, so that no answer is paid for twice.

    Examples
    --------
    >>> made = configure(Config(), form(Config(), "tallrec"), 7, Path("runs/x"))
    >>> made.summary.paradigm, made.training_seed, made.seed
    ('none', 7, 0)
    """
    values = config.model_dump(mode="json")
    overrides = {"out": str(out), "summary.store": config.store_url, "training.seed": seed}
    for key, value in {**overrides, **variant.overrides}.items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = deepcopy(value)
    return Config.model_validate(values)


def train_variant(
    work: Work,
    prepared: Artifact[Prepared],
    variant: Variant,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> LanguageModel:
    """Summarise, pre-train and fine-tune one variant with one seed, in a folder of its own beneath `work`'s.

    What the run or another variant has made for the same settings already is used where it lies: forms share
    the data, seeds share the summaries, and all forms of one seed share the pre-training.
    """
    folder = RunFolder(work.folder.path / variant.name / f"run-{seed}")
    settings = configure(work.config, variant, seed, folder.path)
    run = RunFolder(work.config.folder)
    places = dict.fromkeys((work.folder.path, run.path / "comparison"))
    others = [RunFolder(path) for place in places for path in sorted(place.glob("*/run-*"))]
    own = Work(settings, folder, lambda line: say(f"    {line}"), sources=(run, *others))
    summaries = summarize(own, prepared)
    start = pretrain(own, prepared)
    if not settings.trains:
        return LanguageModel(settings, summaries, start, stand(own, prepared, start, variant.untrained))
    return LanguageModel(settings, summaries, start, train(own, prepared, summaries, start))


def answer_variant(
    work: Work,
    prepared: Artifact[Prepared],
    protocol: EvaluationProtocol,
    variant: Variant,
    seed: int,
    progress: Progress,
) -> tuple[LanguageModel, SeedScores]:
    """Train one variant with one seed and score what the protocol asks, unless it was done before.

    `work` is that of the comparison or the ablation, whose folder keeps the scores.
    """
    sort = Sort.LANGUAGE_MODEL if variant.untrained is None else Sort.UNTRAINED
    name = variant.name if variant.untrained is None else variant.untrained.label
    with progress.job(Job(sort, name, seed)) as job:
        model = train_variant(work, prepared, variant, seed, job.tell)
        scored = model.scores(work, f"{variant.name}/seed-{seed}", protocol, begin=job.begin)
        job.seconds = scored.value.info.seconds
    return model, scored.value


_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a dimension: its words, and the settings that make it."""

    label: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension: a setting and its values in the order in which they are shown, the run's own among them.

    Labels of a numeric one are numbers.
    """

    name: DimensionName
    setting: str
    question: str
    values: tuple[Value, ...]
    numeric: bool = False


def dimension(name: DimensionName, config: Config) -> Dimension:
    """Give one dimension with the values that `config.ablation` names and the run's own.

    Examples
    --------
    >>> [value.label for value in dimension("negatives", Config()).values]
    ['1', '4', '20']
    """
    setting, question, values, numeric = _described(name, config)
    own = next((value for value in values if is_own(value, config)), None)
    if own is None:
        values = [*values, _own_value(name, config)]
    if numeric:
        values = sorted(values, key=lambda value: float(value.label))
    return Dimension(name, setting, question, tuple(values), numeric)


def is_own(value: Value, config: Config) -> bool:
    """Say whether a value is what the run's settings say already."""
    return not _differing(value.overrides, config)


def variant(values: Sequence[Value], config: Config) -> Variant:
    """Make the variant of some values together; the same settings always make the same variant.

    Examples
    --------
    >>> variant([Value("0", {"prompt.recent_items": 0})], Config()).name
    'prompt.recent_items=0'
    >>> variant([Value("5", {"prompt.recent_items": 5})], Config()).name
    'default'
    """
    overrides = {key: setting for value in values for key, setting in value.overrides.items()}
    differing = _differing(overrides, config)
    words = ",".join(f"{key}={_word(setting)}" for key, setting in sorted(differing.items()))
    if len(words) > _LONGEST_NAME:
        words = f"{words[: _LONGEST_NAME - 13]}-{hash_value(differing)[:12]}"
    return Variant(words or "default", differing)


def _described(name: DimensionName, config: Config) -> tuple[str, str, list[Value], bool]:
    told = config.ablation
    match name:
        case "summary":
            writing = ["recurrent", "hierarchical"]
            if isinstance(config.summary.writer, TableWriter):  # its text is the same by any of them
                own = config.summary.paradigm
                writing = ["recurrent" if own == "none" else own]
            values = [Value(paradigm, {"summary.paradigm": paradigm}) for paradigm in ("none", *writing)]
            return (
                "summary.paradigm",
                "Does a summary help, and by which paradigm?",
                values,
                False,
            )
        case "recent_items":
            values = [Value(str(count), {"prompt.recent_items": count}) for count in told.recent_items]
            return "prompt.recent_items", "How many of the newest items should the prompt show?", values, True
        case "block_size":
            values = [Value(str(size), {"summary.block_size": size}) for size in told.block_size]
            return "summary.block_size", "How many items should one summary call read?", values, True
        case "writer":
            values = [
                Value(writer_label(writer), {"summary.writer": writer.model_dump(mode="json")})
                for writer in told.writers
            ]
            return "summary.writer", "Does it matter who writes the summaries?", values, False
        case "tokens":
            values = [Value(tokens, {"training.tokens": tokens}) for tokens in ("answer", "all")]
            if config.training.loss == "listwise":
                # The loss over all tokens is one of single prompts.
                values = [
                    Value(value.label, {**value.overrides, "training.loss": "pointwise"}) for value in values
                ]
            return "training.tokens", "Should the loss count the answer alone, or every token?", values, False
        case "negatives":
            most = config.candidates.negatives
            counts = dict.fromkeys(min(count, most) for count in told.negatives)
            values = [Value(str(count), {"training.negatives": count}) for count in counts]
            return "training.negatives", "How many negatives should stand by each positive?", values, True
        case "loss":
            values = [Value(loss, {"training.loss": loss}) for loss in ("pointwise", "listwise")]
            question = "Should each candidate be judged alone, or against the user's others?"
            return "training.loss", question, values, False
        case "method":
            values = [Value("full", {"training.method": "full"})] + [
                Value(
                    f"LoRA {rank}",
                    {
                        "training.method": "lora",
                        "training.lora.rank": rank,
                        "training.lora.alpha": 2 * rank,
                    },
                )
                for rank in told.ranks
            ]
            return "training.method", "Adapters, and of which rank, or all weights?", values, False


def _own_value(name: DimensionName, config: Config) -> Value:
    """Give the run's own value of a dimension whose list lacks it."""
    match name:
        case "method":
            own = config.training.method
            return Value("as the file says" if own == "auto" else own, {"training.method": own})
        case "tokens":
            return Value(f"answer, {config.training.loss}", {})
        case "writer":
            writer = config.summary.writer
            return Value(writer_label(writer), {"summary.writer": writer.model_dump(mode="json")})
        case _:
            [key] = _described(name, config)[2][0].overrides
            setting = _setting(config, key)
            return Value(str(setting), {key: setting})


def writer_label(writer: Writer) -> str:
    """Name a writer, with the settings that tell it from others of its kind."""
    if isinstance(writer, KeyphraseWriter):
        return f"keyphrase, {writer.phrases} phrases, decay {writer.decay:g}"
    if isinstance(writer, OwnWriter):
        told = writer.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
        return ", ".join([writer.kind, *(f"{key} {value}" for key, value in told.items())])
    if isinstance(writer, TableWriter):
        return f"table {writer.path.name}: {', '.join(writer.text_columns)}"
    return f"{writer.kind} {writer.model}"


def _differing(overrides: Mapping[str, Any], config: Config) -> dict[str, Any]:
    return {key: value for key, value in overrides.items() if _setting(config, key) != value}


def _setting(config: Config, key: str) -> Any:
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def _word(setting: Any) -> str:
    if isinstance(setting, Mapping):
        return "+".join(f"{key}:{value}" for key, value in setting.items() if value is not None)
    return str(setting)
