"""Titles that say nothing of what is taken together, histories that do, and a tiny causal language model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trsr.baselines.training_data import Places

N_CLUSTERS, A_CLUSTER = 4, 8
N_ITEMS = N_CLUSTERS * A_CLUSTER
_KINDS = ["anvil", "brush", "chair", "drill"]


def titles() -> list[str]:
    """A made-up name of the item's own, and a kind of which each cluster has as many."""
    draw = np.random.default_rng(5)
    parts = np.array(["ba", "do", "fe", "ki", "lu", "mo", "na", "pe", "ri", "su", "ta", "vo"])
    names = sorted({"".join(draw.choice(parts, 3)) for _ in range(2 * N_ITEMS)})[:N_ITEMS]
    return [f"{name} {_KINDS[place % len(_KINDS)]}" for place, name in enumerate(draw.permutation(names))]


def histories(n: int = 160, seed: int = 0) -> list[Places]:
    """Six items of one cluster each."""
    draw = np.random.default_rng(seed)
    return [
        (cluster * A_CLUSTER + draw.permutation(A_CLUSTER)[:6]).astype(np.int32)
        for cluster in draw.integers(N_CLUSTERS, size=n)
    ]


def shuffled(taken: list[Places], seed: int = 0) -> list[Places]:
    """Give each item of each history to any other history: as often taken, but not together."""
    mixed = np.random.default_rng(seed).permutation(np.concatenate(taken))
    return np.split(mixed, np.cumsum([len(each) for each in taken])[:-1])


def cluster_auc(vectors: NDArray[np.float32]) -> float:
    """Share of (same cluster, other cluster) pairs of pairs whose cosine is higher in the same cluster."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    one, other = np.triu_indices(N_ITEMS, 1)
    cosines = (unit @ unit.T)[one, other]
    same = one // A_CLUSTER == other // A_CLUSTER
    higher = cosines[same][:, None] > cosines[~same][None]
    return float(higher.mean())


def save_tiny_titles_model(folder: Path) -> None:
    """Write a random Llama of two layers, and a byte-level BPE that knows the words."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(titles() * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        LlamaForCausalLM(config).save_pretrained(folder)
