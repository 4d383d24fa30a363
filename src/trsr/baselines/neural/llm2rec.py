"""LLM2Rec: a causal language model learns from histories and titles to give vectors of titles.

Three steps, each of which takes a model's folder and makes a model's folder. Collaborative supervised
fine-tuning reads the titles of a history one after the other. The loss is that of every title after the
first: as the model is causal, one row teaches what as many rows with one answer each would. Masked next token
prediction and SimCSE read each title by itself, by a mask that lets every token see all others.

Source: He et al., LLM2Rec: large language models are powerful embedding models for sequential recommendation,
KDD 2025; the last two steps are those of BehnamGhader et al., LLM2Vec, 2024, and Gao et al., SimCSE, 2021.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, TrainingArguments

from trsr.artifacts import hash_value
from trsr.baselines.pretrained_encoder import CsftStep, LLM2RecSettings, MntpStep, SimcseStep, Step
from trsr.baselines.training_data import Places
from trsr.config.ranking import HuggingFaceModel
from trsr.errors import ConfigError, DataError, ModelError
from trsr.hf.adapters import add_adapter, has_adapter, merge_adapter
from trsr.hf.known_models import cache_folder, filling, seal
from trsr.hf.loading import LanguageModel, load_language_model, without_bars
from trsr.hf.processes import count
from trsr.hf.text_encoders import begin_ids, encoder_identity, lifted_mask, pool, require_lifted
from trsr.hf.tokenization import PlainEncoder, pad_right
from trsr.hf.trainer import (
    PlannedTrainer,
    last_checkpoint,
    plan_arguments,
    shuffled_batches,
    uses_bfloat16,
)

_FORMAT: Final = 1
"""Of what a step makes: another number makes it anew."""
_IGNORED: Final = -100
_LOGGED_LOSSES: Final = 100
_STEPS_UNSAVED: Final = 200
_BETWEEN: Final = "\n"
"""Ends a title among others; no title has one inside."""
_BLANK: Final = "_"


def learn(settings: LLM2RecSettings, texts: Sequence[str], histories: Sequence[Places]) -> str:
    """Take the steps that `settings` name, and return the folder of the model that the last one made.

    A step that was taken before, with the same settings and from the same model, texts and histories, is not
    taken again; one that was interrupted goes on from its last checkpoint.

    Parameters
    ----------
    texts
        One a place of the catalogue, of one line each; empty ones are left out.
    histories
        Places that users took, oldest first. Only the first step reads them.

    Returns
    -------
    str
        The path of the model as it stands when no step is named.

    Raises
    ------
    DataError
        When no history has two texts, or fewer than two texts differ.
    ModelError
        When the model can't be loaded, its mask can't be lifted or its loss is no number any more.
    ConfigError
        Under ``torchrun``.
    """
    path, origin = settings.model, encoder_identity(settings.model)
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    told: Mapping[str, Any] = {
        "csft": [[texts[place] for place in history if texts[place].strip()] for history in histories],
        "mntp": different,
        "simcse": different,
    }
    for name, read in told.items():
        step: Step = getattr(settings, name)
        if not step.steps:
            continue
        facts = {
            "step": name,
            "from": origin,
            "settings": step.model_dump(mode="json"),
            "learns": settings.model_dump(
                mode="json", include={"method", "lora", "max_tokens", "learning_seed"}
            ),
            "lifted": name != "csft" and bool(settings.mntp.steps),
            "read": hash_value(read),
            "format": _FORMAT,
        }
        origin = f"{name}-{hash_value(facts)[:16]}"
        target = cache_folder() / "llm2rec" / origin
        checkpoints = target.with_name(f"{origin}.checkpoints")
        with filling(target) as folder:
            if folder is not None:
                losses = _take(name, path, read, settings, checkpoints, folder)
                seal(folder, **facts, losses=losses)
                print(f"LLM2Rec: the model after {name} is {target}", file=sys.stderr, flush=True)
        shutil.rmtree(checkpoints, ignore_errors=True)
        path = str(target)
    return path


def _take(
    name: str, path: str, read: Any, settings: LLM2RecSettings, checkpoints: Path, folder: Path
) -> list[dict[str, float]]:
    """Train the model at `path` by one step, and write it to `folder`; return the losses that were logged."""
    if count() > 1:
        message = (
            "llm2rec learns in one process: run the command once without torchrun, then what it has learnt "
            "is found again"
        )
        raise ConfigError(message)
    # What is drawn afterwards is the same, whether the model has learnt now or before.
    with torch.random.fork_rng(), without_bars():
        torch.manual_seed(settings.learning_seed)
        whole = HuggingFaceModel(kind="huggingface", path=path, dtype="float32")
        loaded = load_language_model(whole, setting="encoder: model")
        task = _task(name, loaded, read, settings)
        model: Any = loaded.model
        if settings.method == "lora":
            model = add_adapter(model, settings.lora)
        model.train()
        plan = _plan(task.lengths, getattr(settings, name), settings.learning_seed)
        arguments = _arguments(checkpoints, getattr(settings, name), settings.learning_seed)
        trainer = _StepTrainer(model, plan, task, arguments, f"LLM2Rec {name}")
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
        model.eval()
        merged: PreTrainedModel = merge_adapter(model) if has_adapter(model) else model
        broken = [key for key, weight in merged.named_parameters() if not weight.isfinite().all()]
        if broken:
            message = (
                f"LLM2Rec {name}: the loss is no number any more; lower its setting learning_rate (it is "
                f"{getattr(settings, name).learning_rate:g})"
            )
            raise ModelError(message)
        merged.save_pretrained(str(folder))
        loaded.tokenizer.save_pretrained(folder)
    log = trainer.state.log_history
    return [{"step": entry["step"], "loss": entry["loss"]} for entry in log if "loss" in entry]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of a forward pass, and the seed of what is drawn for them."""

    rows: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class _Task:
    """What a step asks: the tokens of rows ``(n_rows,)``, how a batch is put, how answers are judged."""

    lengths: NDArray[np.int64]
    collate: Callable[[_Batch], dict[str, Tensor]]
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]


class _StepTrainer(PlannedTrainer):
    """Trains by a task's loss."""

    def __init__(
        self, model: nn.Module, plan: Sequence[_Batch], task: _Task, arguments: TrainingArguments, title: str
    ) -> None:
        self._judge = task.loss
        super().__init__(model, plan, task.collate, arguments, title)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Tensor:
        """Judge the answers."""
        return self._judge(model, inputs)


def _plan(lengths: NDArray[np.int64], step: Step, seed: int) -> list[_Batch]:
    """Plan every batch of a step: all rows in each pass, in another order."""
    generator = np.random.default_rng(seed)
    wanted = step.steps * step.accumulation
    plan: list[_Batch] = []
    while len(plan) < wanted:
        for rows in shuffled_batches(lengths, step.batch_size, generator, step.accumulation):
            plan.append(_Batch(tuple(rows.tolist()), int(generator.integers(2**32))))
    return plan[:wanted]


def _arguments(folder: Path, step: Step, seed: int) -> TrainingArguments:
    return plan_arguments(
        folder,
        learning_rate=step.learning_rate,
        lr_scheduler_type="linear",
        # The first step of a warm-up changes nothing.
        warmup_steps=min(step.warmup, step.steps - 1),
        weight_decay=0.0,
        gradient_accumulation_steps=step.accumulation,
        bf16=uses_bfloat16("auto"),
        logging_steps=max(1, step.steps // _LOGGED_LOSSES),
        save_steps=_STEPS_UNSAVED,
        save_total_limit=1,
        seed=seed,
    )


def _task(name: str, loaded: LanguageModel, read: Any, settings: LLM2RecSettings) -> _Task:
    encoder, begins = PlainEncoder(loaded.tokenizer), begin_ids(loaded.tokenizer)
    # A tokenizer of words may have neither sign.
    between, blank = (encoder([sign])[0] or begins[-1:] for sign in (_BETWEEN, _BLANK))
    if name == "csft":
        different = list(dict.fromkeys(text for history in read for text in history))
        known = dict(zip(different, encoder(different), strict=True))
        titles = [[known[text][: settings.max_tokens] for text in history] for history in read]
        return _next_titles(titles, begins, between, settings.csft)
    rows = [[*begins, *ids[: settings.max_tokens]] for ids in encoder(read)]
    if len(rows) < 2:
        message = f"LLM2Rec {name} learns from items whose texts differ, and there are {len(rows)}"
        raise DataError(message)
    lifted = bool(settings.mntp.steps)
    if lifted:
        require_lifted(loaded.model)
    if name == "mntp":
        return _masked(rows, len(begins), blank[-1], settings.mntp)
    _drop(loaded.model, settings.simcse.dropout)
    return _contrast(rows, len(begins), settings.simcse, lifted=lifted)


def answered(n: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Cut a history of `n` titles into rows, so that each but the first of all is asked for once.

    A row is told by where it begins, where its answers begin and where it ends. An answer has all titles
    before it in its row, or at least half of `most` and `most` of them at most.

    Examples
    --------
    >>> list(answered(3, most=10)), list(answered(1, most=10))
    ([(0, 1, 3)], [])
    >>> list(answered(9, most=4))
    [(0, 1, 5), (2, 5, 7), (4, 7, 9)]
    """
    asked, width = 1, most
    while asked < n:
        end = min(asked + width, n)
        yield max(0, end - most - 1), asked, end
        asked, width = end, max(1, most // 2)


def _next_titles(
    histories: Sequence[Sequence[list[int]]], begins: Sequence[int], between: Sequence[int], step: CsftStep
) -> _Task:
    """Ask which title comes next, after those before it; titles end with `between`."""
    rows: list[list[int]] = []
    answers: list[int] = []
    for titles in histories:
        for start, asked, end in answered(len(titles), step.items):
            ids = list(begins)
            for place in range(start, end):
                if place == asked:
                    answers.append(len(ids))
                ids += [*titles[place], *between]
            rows.append(ids)
    if not rows:
        message = (
            "LLM2Rec csft learns from histories of 2 items with texts or more, and there are none; lower "
            "history.min, or leave the step out (csft: {steps: 0})"
        )
        raise DataError(message)

    def collate(batch: _Batch) -> dict[str, Tensor]:
        wanted = [
            [*(_IGNORED for _ in range(answers[row])), *rows[row][answers[row] :]] for row in batch.rows
        ]
        # Padding on the right is exact for a causal model: no token sees what comes after it.
        return {"ids": pad_right([rows[row] for row in batch.rows], 0), "wanted": pad_right(wanted, _IGNORED)}

    return _Task(np.array([len(row) for row in rows]), collate, _token_loss)


def _masked(rows: Sequence[list[int]], begun: int, blank: int, step: MntpStep) -> _Task:
    """Ask for hidden tokens of each row, by the state before each, which sees all the others."""
    words = np.unique(np.concatenate([np.array(row[begun:], np.int64) for row in rows]))

    def collate(batch: _Batch) -> dict[str, Tensor]:
        draw = np.random.default_rng(batch.seed)
        ids, wanted = [], []
        for row in (np.array(rows[number]) for number in batch.rows):
            chances = draw.random(len(row) - begun)
            hidden = chances < max(step.masked, chances.min(initial=0.0) + 1e-12)
            asked = np.concatenate([np.zeros(begun, bool), hidden])
            wanted.append(np.where(asked, row, _IGNORED).tolist())
            how, others = draw.random(len(row)), draw.choice(words, len(row))
            put = np.where(how < 0.8, blank, np.where(how < 0.9, others, row))
            ids.append(np.where(asked, put, row).tolist())
        real = pad_right([[1] * len(row) for row in ids], 0).bool()
        return {"ids": pad_right(ids, 0), "wanted": pad_right(wanted, _IGNORED), "real": real}

    return _Task(np.array([len(row) for row in rows]), collate, _token_loss)


def _token_loss(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return the mean cross-entropy of the tokens that are wanted, each by the state before it.

    With `real`, the mask is lifted among these tokens.
    """
    options: dict[str, Any] = {"use_cache": False}
    if "real" in inputs:
        options["attention_mask"] = lifted_mask(inputs["real"], next(model.parameters()).dtype)
    logits = model(input_ids=inputs["ids"], **options).logits[:, :-1]
    wanted = inputs["wanted"][:, 1:]
    asked = wanted != _IGNORED
    return functional.cross_entropy(logits[asked].float(), wanted[asked])


def _contrast(rows: Sequence[list[int]], begun: int, step: SimcseStep, *, lifted: bool) -> _Task:
    """Ask which of the batch's other readings is of the same row."""

    def collate(batch: _Batch) -> dict[str, Tensor]:
        # Rows of a batch are of different texts, so that no row's negative is the row itself.
        twice = [rows[row] for row in batch.rows] * 2
        return {"ids": pad_right(twice, 0), "real": pad_right([[1] * len(row) for row in twice], 0).bool()}

    def loss(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        real = inputs["real"]
        plain: Any = model.get_base_model() if has_adapter(model) else model
        mask = lifted_mask(real, next(model.parameters()).dtype) if lifted else real.long()
        states = plain.base_model(input_ids=inputs["ids"], attention_mask=mask, use_cache=False)
        pooled = pool(states.last_hidden_state.float(), real, begun, "mean")
        return contrastive_loss(pooled, step.temperature)

    return _Task(np.array([len(row) for row in rows]), collate, loss)


def contrastive_loss(vectors: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of each vector's twin, ``(2 n, width)``: n vectors, then their twins.

    Examples
    --------
    >>> pair = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(contrastive_loss(torch.cat([pair, pair]), temperature=1.0).item(), 4)  # ln(1 + 1/e)
    0.3133
    """
    ones, twins = functional.normalize(vectors).chunk(2)
    return functional.cross_entropy(
        ones @ twins.T / temperature, torch.arange(len(ones), device=vectors.device)
    )


def _drop(model: PreTrainedModel, share: float) -> None:
    """Let a model drop attention weights in training, or numbers where it has layers that do.

    Raises ModelError where it has neither: both readings of a text would be the same.
    """
    able = [part for part in model.modules() if isinstance(getattr(part, "attention_dropout", None), float)]
    layers = [part for part in model.modules() if isinstance(part, nn.Dropout)]
    for part in able:
        part.attention_dropout = share  # type: ignore[assignment]
    for layer in layers if not able else ():
        layer.p = share
    if not able and not layers:
        message = (
            f"{type(model).__name__} has no dropout, by which LLM2Rec simcse reads a text in two ways; leave "
            "the step out (simcse: {steps: 0})"
        )
        raise ModelError(message)
