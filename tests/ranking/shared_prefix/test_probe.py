from __future__ import annotations

import pytest
import torch
from small_models import PACKED, make
from transformers import LlamaConfig

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import Probe, check_windows, plain_logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_passes_and_a_lost_token_does_not(dtype: torch.dtype) -> None:
    model = make(PACKED["llama"]).to(dtype)
    with torch.no_grad():
        probe = Probe(model)
        assert probe.check(lambda user, answers: plain_logits(model, [user], answers, 10_000)) < 0.1
        with pytest.raises(ModelError, match="differ from those of single prompts"):
            probe.check(
                lambda user, answers: plain_logits(
                    model, [UserPrompts(user.prefix[1:], user.suffixes)], answers, 10_000
                )
            )
        with pytest.raises(ModelError, match="nan"):
            probe.check(lambda user, answers: torch.full((3, len(answers)), torch.nan))


def test_prompts_are_longer_than_a_short_window() -> None:
    lengths: list[int] = []
    with torch.no_grad():
        probe = Probe(make(PACKED["mistral-window"]))

        def look(user: UserPrompts, answers: list[int]) -> torch.Tensor:
            lengths.append(len(user.prefix))
            return torch.zeros(3, len(answers))

        with pytest.raises(ModelError):
            probe.check(look)
    assert lengths[0] > 9


def test_windows_must_arrive_as_the_configuration_has_them() -> None:
    config = PACKED["gemma3"]
    right = {0: 6, 1: None, 2: 6}
    check_windows(config, right)
    with pytest.raises(ModelError, match="layer 1 should have the window None, and told 6"):
        check_windows(config, {**right, 1: 6})
    with pytest.raises(ModelError, match="layer 2 should have the window 6, and told None"):
        check_windows(config, {0: 6, 1: None})
    check_windows(PACKED["llama"], {0: None, 1: None, 2: None})
    chunked = LlamaConfig(num_hidden_layers=1)
    chunked.layer_types = ["chunked_attention"]
    with pytest.raises(ModelError, match="chunked_attention"):
        check_windows(chunked, {0: None})
