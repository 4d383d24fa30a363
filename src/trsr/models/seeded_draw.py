"""Drawing tokens so that an answer depends on its own prompt and seed, not on its batch mates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, TopPLogitsWarper

from trsr.config.summary import Sampling


class SeededDraw(LogitsProcessor):
    """Turns greedy decoding into sampling with one random stream a prompt.

    Adding Gumbel noise to log-probabilities and taking the largest is a draw from
    them (the Gumbel-max trick), so ``generate`` runs greedily and this processor
    brings temperature, nucleus and chance. Each prompt's noise is seeded by the
    seed and the prompt's own ids and is made on the CPU, the same on every device.

    Parameters
    ----------
    prompts
        Token ids of the batch's prompts, without padding.
    sampling
        Temperature above 0, nucleus and seed.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._nucleus = TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None
        self._streams = [
            torch.Generator().manual_seed(_stream_seed(prompt, sampling.seed)) for prompt in prompts
        ]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return scores ``(batch, vocabulary)`` whose largest entry of each row is the drawn token."""
        logits = scores.float() / self._temperature
        if self._nucleus is not None:
            logits = self._nucleus(input_ids, logits)
        uniform = torch.stack([torch.rand(logits.shape[1], generator=stream) for stream in self._streams])
        tiny = torch.finfo(uniform.dtype).tiny
        gumbel = -torch.log(-torch.log(uniform.clamp(tiny, 1 - 1e-7)))
        return logits + gumbel.to(logits.device)  # type: ignore[return-value]


def _stream_seed(prompt: Sequence[int], seed: int) -> int:
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
