"""A model from image and text to text of random weights, made here, and really run."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tiny_chat import train_tokenizer
from trsr.config.data import DemoData
from trsr.config.images import Images, LocalCaptioner
from trsr.config.summary import Sampling
from trsr.data.images import ImageSource, ItemImage
from trsr.data.readers.registry import read
from trsr.errors import ModelError
from trsr.llm.generator import Chat, Completion
from trsr.llm.local_images import LocalImageGenerator, identify_captioner

EYES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_llava(folder: Path) -> None:
    """A model that is told the prompt, by a chat template."""
    tokenizer = train_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    sides = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**sides),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
        image_token="<image>",
    ).save_pretrained(folder)
    writer = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**EYES, initializer_factor=30.0),
        text_config=writer,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        LlavaForConditionalGeneration(config).save_pretrained(folder)


def save_captioner(folder: Path) -> None:
    """A vision encoder with a text decoder, made to caption; it takes no prompt."""
    tokenizer = train_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(folder)
    start, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    writer = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=1,
        n_head=2,
        n_positions=64,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=start,
        add_cross_attention=True,
        is_decoder=True,
        initializer_range=0.5,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**EYES), writer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = start
    model.generation_config.eos_token_id = end
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def images() -> list[ItemImage]:
    settings = Images.model_validate({"captioner": {"kind": "local", "model": "none"}})
    dataset, _ = read(DemoData(users=10, items=60, images=True))
    found, _ = ImageSource(settings, DemoData()).look(dataset.items.head(4))
    return list(found.values())


def ask(generator: LocalImageGenerator, chats: list[Chat], sampling: Sampling) -> list[Completion]:
    async def together() -> list[Completion]:
        async with generator.session(sampling) as answer:

            async def one(chat: Chat) -> Completion:
                async with answer(chat) as completion:
                    return completion

            return await asyncio.gather(*map(one, chats))

    return asyncio.run(together())


@pytest.mark.parametrize("save", [save_llava, save_captioner])
def test_a_model_in_this_process_looks_at_the_image(tmp_path: Path, images: list[ItemImage], save) -> None:
    save(tmp_path)
    config = LocalCaptioner(kind="local", model=str(tmp_path), device="cpu")
    generator = LocalImageGenerator(config)
    assert generator.identity == identify_captioner(config)
    assert generator.identity.endswith(" float32")
    greedy = Sampling(max_new_tokens=6)
    chats = [Chat("Describe this picture.", image=image) for image in images]
    answers = ask(generator, chats, greedy)
    assert [ask(generator, [chat], greedy)[0] for chat in chats] == answers  # nothing of its neighbours
    assert len({answer.text for answer in answers}) > 1
    assert all(answer.completion_tokens in range(7) and answer.prompt_tokens for answer in answers)
    assert {answer.finish_reason for answer in answers} <= {"stop", "length"}
    drawn = Sampling(max_new_tokens=6, temperature=1.0, frequency_penalty=0.5)
    first = ask(generator, chats, drawn)
    assert first == ask(generator, chats, drawn) != answers
    assert first != ask(generator, chats, drawn.model_copy(update={"seed": 1}))
    told = ask(generator, [Chat("What is this? Say more than one word.", image=images[0])], greedy)[0]
    is_told = save is save_llava
    assert (told.prompt_tokens != answers[0].prompt_tokens) == is_told  # else the prompt isn't shown


def test_a_folder_without_such_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"images\.captioner\.model: .*can't be"):
        LocalImageGenerator(LocalCaptioner(kind="local", model=str(tmp_path / "nothing")))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"images\.captioner\.model: .*can't be loaded"):
        LocalImageGenerator(LocalCaptioner(kind="local", model=str(tmp_path)))
