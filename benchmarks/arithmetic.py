"""Floating-point operations that a way of computing needs, counted from the model's shape."""

from __future__ import annotations

from transformers import PreTrainedConfig


def operations(config: PreTrainedConfig, tokens: int, pairs: int) -> float:
    """Count multiplications and additions of a forward pass through the layers.

    Parameters
    ----------
    config
        Of a model with gated MLPs and grouped heads.
    tokens
        Tokens that go through the layers.
    pairs
        Pairs of a query and a key that it sees.
    """
    width = config.hidden_size
    keys = width * config.num_key_value_heads // config.num_attention_heads
    linear = 2 * width * (width + keys) + 3 * width * config.intermediate_size
    return config.num_hidden_layers * (2.0 * linear * tokens + 4.0 * width * pairs)


def separate(config: PreTrainedConfig, prefix: int, suffix: int, candidates: int) -> float:
    """Count for one prompt per candidate."""
    length = prefix + suffix
    return operations(config, candidates * length, candidates * _causal(length))


def shared(config: PreTrainedConfig, prefix: int, suffix: int, candidates: int) -> float:
    """Count for the prefix once and the candidates behind it."""
    pairs = _causal(prefix) + candidates * (suffix * prefix + _causal(suffix))
    return operations(config, prefix + candidates * suffix, pairs)


def _causal(length: int) -> int:
    return length * (length + 1) // 2
