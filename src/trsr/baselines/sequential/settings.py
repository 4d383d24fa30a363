"""The settings of every sequential system, in one place.

Those of `sasrec_text` and `sasrec` were compared on validation users of two real data sets; the others share
what these have in common, and were not tuned one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

SequentialName = Literal["ncf", "din", "caser", "gru4rec", "sasrec", "bert4rec", "sasrec_text"]
"""Sequential systems, by their names in tables and settings."""

SEQUENTIAL_NAMES: Final[tuple[SequentialName, ...]] = get_args(SequentialName)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a network is built and trained.

    Parameters
    ----------
    width
        Numbers in an item's vector.
    layers
        Blocks, or layers, on top of the item vectors.
    heads
        Attention heads.
    max_length
        Newest items of a history that are read.
    dropout
        Share of numbers dropped inside the network in training.
    negatives
        Where the loss is a softmax: negatives of a batch, drawn once; 0 for every item that training saw.
        Where the loss is binary: negatives of an example.
    uniform_share
        Share of negatives drawn uniformly; the others are drawn by training count.
    label_smoothing
        Share of the target's probability that is spread over the negatives.
    learning_rate
        Of AdamW, after `warmup_steps`.
    warmup_steps
        Steps in which the rate rises to `learning_rate`.
    weight_decay
        Of AdamW.
    batch_size
        Sequences a step.
    max_epochs, patience
        Training ends after so many epochs, or after so many without a better validation figure. No clock ends
        it, so that a seed gives the same system on a busy machine.
    average
        Decay of the mean of weights over steps, which is what is validated and kept; 0: the weights are.
    mask_share
        Share of items hidden at a time, for systems that learn to fill gaps.
    text_width
        Numbers in a text vector; 0: items have learned vectors alone.
    offset_scale
        What the learned part is multiplied with before it is added to the text's part. AdamW's steps don't
        depend on the gradient's size, so that this is the learned part's share of the learning rate: below 1,
        items move away from their texts slowly.
    """

    width: int = 64
    layers: int = 2
    heads: int = 2
    max_length: int = 50
    dropout: float = 0.3
    negatives: int = 0
    uniform_share: float = 0.5
    label_smoothing: float = 0.0
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.0
    batch_size: int = 256
    max_epochs: int = 60
    patience: int = 4
    average: float = 0.0
    mask_share: float = 0.3
    text_width: int = 0
    offset_scale: float = 1.0


DEFAULTS: Final[dict[SequentialName, Settings]] = {
    "ncf": Settings(negatives=4, uniform_share=1.0, batch_size=1024, learning_rate=3e-3),
    "din": Settings(negatives=4, uniform_share=1.0, batch_size=1024, learning_rate=3e-3),
    "caser": Settings(negatives=512, learning_rate=3e-3, batch_size=128, average=0.99),
    "gru4rec": Settings(negatives=512, learning_rate=3e-3, batch_size=128, average=0.99, layers=1),
    "sasrec": Settings(negatives=512, learning_rate=3e-3, batch_size=128, average=0.99),
    "bert4rec": Settings(negatives=512, learning_rate=3e-3, batch_size=128, average=0.99),
    "sasrec_text": Settings(
        negatives=512, learning_rate=3e-3, batch_size=128, average=0.99, text_width=64, offset_scale=0.3
    ),
}
"""Settings by name."""
