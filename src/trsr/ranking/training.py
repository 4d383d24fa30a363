"""Supervised fine-tuning: the losses, and the loop in which the model learns to say yes or no."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import TrainingArguments

from trsr.artifacts import replacing
from trsr.config.ranking import Training
from trsr.errors import DataError
from trsr.evaluation.metrics import Recall, expected_metrics, place_target
from trsr.hf.loading import without_bars
from trsr.hf.tokenization import pad_right
from trsr.hf.trainer import (
    PlannedTrainer,
    clear_other_run,
    last_checkpoint,
    plan_arguments,
    shuffled_batches,
    uses_bfloat16,
)
from trsr.ranking.ranker import COMPACT, Ranker
from trsr.ranking.scoring import EncodedUser, RankingUser, score
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import candidate_logits

_IGNORED = -100


def whole_text_loss(model: nn.Module, users: Sequence[UserPrompts], answers: Tensor) -> Tensor:
    """Return the mean cross-entropy over all tokens of all prompts, answers included.

    `answers` has the token id of the right answer to each prompt, in order, ``(n_prompts,)``. Each token but
    a prompt's first counts the same.
    """
    rows = [
        [*user.prefix, *suffix, int(answer)]
        for (user, suffix), answer in zip(
            ((user, suffix) for user in users for suffix in user.suffixes), answers, strict=True
        )
    ]
    device = next(model.parameters()).device
    ids = pad_right(rows, 0)
    lengths = torch.tensor([len(row) for row in rows])
    wanted = ids.masked_fill(torch.arange(ids.shape[1])[None] >= lengths[:, None], _IGNORED)
    # Padding on the right is exact for a causal model: no token sees what comes after it.
    logits = model(input_ids=ids.to(device), use_cache=False).logits[:, :-1]
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), wanted[:, 1:].flatten().to(device), ignore_index=_IGNORED
    )


def listwise_loss(logits: Tensor, sizes: Sequence[int], targets: Sequence[int]) -> Tensor:
    """Return the mean cross-entropy of the true item among each user's candidates; each user counts the same.

    The probability of a candidate is the softmax, over the user's candidates, of the margin between the
    logits of yes and no, which stand in this order, ``(n_candidates of all users, 2)``. `sizes` has the
    candidates of each user, `targets` the place of the true item among them.

    Examples
    --------
    Two users; the first is undecided between two candidates, the second is sure of the right one of three.

    >>> logits = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 50.0], [50.0, 0.0], [0.0, 50.0]])
    >>> loss = listwise_loss(logits, sizes=[2, 3], targets=[0, 1])
    >>> round(loss.item(), 4)  # half of log 2
    0.3466
    """
    margins = torch.split(logits[:, 0] - logits[:, 1], list(sizes))
    losses = [-user.log_softmax(0)[target] for user, target in zip(margins, targets, strict=True)]
    return torch.stack(losses).mean()


_SELECTION: Final = tuple(Recall(k=k) for k in (3, 5, 10))
_RECALL_SUM: Final = "eval_recall_sum"
_LOGGED_LOSSES: Final = 200
_LEARNING_RATES: Final = {True: 1e-3, False: 1e-4}
"""Whether the model is the compact one, which is new to everything, to its learning rate."""
_MOST_STEPS_UNSAVED: Final = 200


@dataclass(frozen=True, slots=True)
class Example:
    """One user in one epoch: which of the candidates are asked about.

    Both are places: among the training users, and among the user's candidates, of which the positive is the
    user's target.
    """

    user: int
    candidates: tuple[int, ...]


def plan_epochs(
    users: Sequence[EncodedUser], settings: Training, seed: int, processes: int = 1
) -> list[list[Example]]:
    """Plan every batch of every epoch; each epoch has the same number of whole updates.

    Each user is asked about the target and `settings.negatives` of the other candidates; epochs take these in
    turn, in an order of the user's own. The seed decides negatives and order. `processes` train together; an
    update takes `settings.accumulation` batches of each.
    """
    generator = np.random.default_rng(seed)
    lengths = np.array([len(user.prefix) + max(map(len, user.suffixes)) for user in users])
    others = [
        generator.permutation([place for place in range(len(user.suffixes)) if place != user.target])
        for user in users
    ]
    size = max(1, settings.batch_size // (1 + settings.negatives))
    multiple = _accumulation(settings, len(users), processes) * processes
    plan = []
    for epoch in range(settings.epochs):
        for rows in shuffled_batches(lengths, size, generator, multiple):
            batch = []
            for user in rows:
                turn = np.arange(epoch * settings.negatives, (epoch + 1) * settings.negatives)
                negatives = dict.fromkeys(others[user][turn % len(others[user])].tolist())
                batch.append(Example(int(user), (users[user].target or 0, *negatives)))
            plan.append(batch)
    return plan


def fine_tune(
    ranker: Ranker,
    train: Sequence[RankingUser],
    valid: Sequence[RankingUser],
    settings: Training,
    folder: Path,
    seed: int,
    batch_tokens: int = 16384,
) -> list[dict[str, float]]:
    """Train the ranker in place and leave it with the weights of its best epoch.

    A run that was killed goes on from its last checkpoint in `folder` and ends with the weights of an
    uninterrupted one.

    Under ``torchrun`` every process calls this with the same arguments and ends with the same weights and
    log. W processes train as one does that accumulates W times as many batches, and share `folder`, which the
    main process alone clears.

    Parameters
    ----------
    ranker
        With a plain model; LoRA adapters are put on when `settings.method` says so.
    train, valid
        Users with a known target. Without `valid` the last epoch is kept.
    folder
        Checkpoints go here; the caller deletes it when the ranker is saved.
    seed
        Decides users, order, adapters and dropout.
    batch_tokens
        Tokens a validation batch, padding included.

    Returns
    -------
    list
        ``{"step", "epoch", "loss"}`` at logged steps, and ``{"step", "epoch",
        "valid_recall_sum"}`` after each epoch.

    Raises
    ------
    DataError
        When a user's target isn't known.
    ModelError
        When adapters can't be put on.
    """
    for user in (*train, *valid):
        if user.target is None:
            message = f"user {user.user_id!r} has no known target; training and validation need one"
            raise DataError(message)
    generator = np.random.default_rng(seed)
    encoded = ranker.encode(_some(train, settings.max_users, generator))
    validation = ranker.encode(_some(valid, settings.validation_users, generator))
    processes = PartialState(cpu=not torch.cuda.is_available())
    count = processes.num_processes
    plan = plan_epochs(encoded, settings, seed, count)
    accumulation = _accumulation(settings, len(encoded), count)
    updates = len(plan) // settings.epochs // (accumulation * count)
    start = [float(weight.detach().double().sum()) for weight in ranker.model.parameters()]
    with processes.main_process_first():
        if processes.is_main_process:
            inputs = [start, settings.model_dump(mode="json"), seed, count, encoded]
            clear_other_run(folder, hashlib.sha256(repr(inputs).encode()).hexdigest())
        checkpoint = last_checkpoint(folder)
    settings = make_trainable(ranker, settings, seed)
    arguments = _arguments(settings, folder, seed, accumulation, updates, bool(validation))
    trainer = _RankingTrainer(ranker, encoded, validation, plan, arguments, batch_tokens, settings)
    if processes.process_index:
        # Dropout is the process's own; the weights are the main process's.
        torch.manual_seed(seed + processes.process_index)
    with without_bars():
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer.restore_best()
    ranker.model.eval()
    return _history(trainer.state.log_history, updates)


def make_trainable(ranker: Ranker, settings: Training, seed: int) -> Training:
    """Put adapters on where these settings ask for them; those that are there already are trained on.

    Returns the settings with the learning rate that they mean. The seed decides how adapters begin. Raises
    `ModelError` when they can't be put on.
    """
    torch.manual_seed(seed)
    compact = ranker.origin.kind == COMPACT
    if settings.method == "lora" or (settings.method == "auto" and not compact):
        ranker.adapt(settings.lora)
    if settings.gradient_checkpointing:
        # Checkpointed layers pass gradients on only if their input asks, which frozen embeddings don't.
        ranker.model.enable_input_require_grads()
        ranker.model.gradient_checkpointing_enable()
    if settings.learning_rate is not None:
        return settings
    return settings.model_copy(update={"learning_rate": _LEARNING_RATES[compact]})


class _RankingTrainer(PlannedTrainer):
    """Cross-entropy at the answer position only; validates by ranking; keeps the best weights."""

    def __init__(
        self,
        ranker: Ranker,
        train: Sequence[EncodedUser],
        valid: Sequence[EncodedUser],
        plan: Sequence[list[Example]],
        arguments: TrainingArguments,
        batch_tokens: int,
        settings: Training,
    ) -> None:
        self._loss = settings.loss
        self._tokens = settings.tokens
        self._ranker = ranker
        self._train_users = train
        self._valid_users = valid
        self._batch_tokens = batch_tokens
        super().__init__(ranker.model, plan, self._collate, arguments, "fine-tuning")

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Tensor:
        """Compare the answer, or every token, with the vocabulary, or a user's candidates with each other."""
        ranker = self._ranker
        if self._tokens == "all":
            return whole_text_loss(model, inputs["users"], inputs["answers"])
        if self._loss == "listwise":
            words = (ranker.answers.yes, ranker.answers.no)
            logits = candidate_logits(model, inputs["users"], words, ranker.plan)
            sizes = [len(user.suffixes) for user in inputs["users"]]
            return listwise_loss(logits, sizes, [0] * len(sizes))
        logits = candidate_logits(model, inputs["users"], None, ranker.plan)
        return functional.cross_entropy(logits, inputs["answers"].to(logits.device))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Rank the validation users, on every process; keep the weights when they are the best so far."""
        ranker = self._ranker
        scores = score(ranker.model, self._valid_users, ranker.answers, ranker.plan, self._batch_tokens)
        metrics = {_RECALL_SUM: recall_sum(scores, [user.target or 0 for user in self._valid_users])}
        earlier = [entry[_RECALL_SUM] for entry in self.state.log_history if _RECALL_SUM in entry]
        best = max(earlier, default=-1.0)
        if metrics[_RECALL_SUM] > best and self.accelerator.is_main_process:
            self._keep_best()
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def restore_best(self) -> None:
        """Put the weights of the best epoch back into the model, on every process."""
        self.accelerator.wait_for_everyone()
        if self._best.exists():
            kept = load_file(self._best)
            with torch.no_grad():
                for name, parameter in _trained(self._ranker.model):
                    parameter.copy_(kept[name])
        # Who is done first may delete the folder.
        self.accelerator.wait_for_everyone()

    @property
    def _best(self) -> Path:
        return Path(str(self.args.output_dir)) / "best.safetensors"

    def _keep_best(self) -> None:
        trained = _trained(self._ranker.model)
        weights = {name: parameter.detach().cpu().contiguous() for name, parameter in trained}
        with replacing(self._best) as temporary:
            save_file(weights, temporary)

    def _collate(self, batch: list[Example]) -> dict[str, Any]:
        """Gather what is asked about each user; the first candidate of each is the target."""
        users = [self._train_users[example.user].ask(example.candidates) for example in batch]
        answers = [
            self._ranker.answers.no if number else self._ranker.answers.yes
            for example in batch
            for number in range(len(example.candidates))
        ]
        return {"users": users, "answers": torch.tensor(answers)}


def recall_sum(scores: Sequence[NDArray[np.float64]], targets: Sequence[int]) -> float:
    """Return the mean over users of Recall@3 + Recall@5 + Recall@10, ties counted by expected rank.

    Examples
    --------
    >>> recall_sum([np.array([0.9, 0.1, 0.5, 0.6, 0.7])], [1])
    2.0
    """
    sums = []
    for p_yes, target in zip(scores, targets, strict=True):
        above, tied = place_target(p_yes, [target])
        metrics = expected_metrics(above, tied, len(p_yes) - 1, _SELECTION)
        sums.append(sum(float(value[0]) for value in metrics.values()))
    return float(np.mean(sums))


def _accumulation(settings: Training, users: int, processes: int) -> int:
    """Return the batches of an update on each process: no more than there are users for."""
    return max(1, min(settings.accumulation, users // processes))


def _arguments(
    settings: Training, folder: Path, seed: int, accumulation: int, updates: int, validates: bool
) -> TrainingArguments:
    return plan_arguments(
        folder,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        # The first step of a warm-up changes nothing; where it is the whole epoch, nothing would be learnt.
        warmup_steps=settings.warmup if updates > 1 else 0,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        gradient_accumulation_steps=accumulation,
        bf16=uses_bfloat16(settings.precision),
        logging_steps=max(1, updates * settings.epochs // _LOGGED_LOSSES),
        eval_strategy="steps" if validates else "no",
        eval_steps=updates,
        save_steps=min(updates, _MOST_STEPS_UNSAVED),
        save_total_limit=2,
        seed=seed,
    )


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _some(
    users: Sequence[RankingUser], most: int | None, generator: np.random.Generator
) -> list[RankingUser]:
    if most is None or most >= len(users):
        return list(users)
    return [users[place] for place in sorted(generator.permutation(len(users))[:most])]


def _history(entries: Sequence[dict[str, float]], updates: int) -> list[dict[str, float]]:
    """Reduce the Trainer's log to losses and validation results, with epochs as they are for the reader."""
    history = []
    for entry in entries:
        at = {"step": entry["step"], "epoch": entry["step"] / updates}
        if "loss" in entry:
            history.append({**at, "loss": entry["loss"]})
        elif _RECALL_SUM in entry:
            history.append({**at, "valid_recall_sum": entry[_RECALL_SUM]})
    return history
