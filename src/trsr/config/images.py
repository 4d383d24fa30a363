"""The images of items: where they lie, who describes them, and the text field that takes their place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, SerializeAsAny, Tag, field_validator

from trsr.config.section import Section, checking
from trsr.config.summary import ChatEndpoint, Check, Price, Sampling
from trsr.registry import CAPTIONERS, dotted, find_part, is_dotted


class EndpointCaptioner(ChatEndpoint):
    """A model that reads images behind any OpenAI-compatible server (`image_url` with a data URL)."""

    kind: Literal["endpoint"]
    """The captioner's name."""

    setting: ClassVar[str] = "images.captioner"
    shorter: ClassVar[str] = "images.side or images.sampling.max_new_tokens"


class LocalCaptioner(Section):
    """Any Hugging Face model from image and text to text, on this machine."""

    kind: Literal["local"]
    """The captioner's name."""
    model: str
    """Folder or hub id. A model without a chat template is not shown the prompt: it captions the image."""
    revision: str | None = None
    """Hub revision; part of the key under which captions are stored."""
    device: str = "auto"
    """`auto` (CUDA when there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: bfloat16 on a GPU, float32 on a CPU."""


class OwnCaptioner(Section):
    """Any class that answers chats with an image; its own ``Settings``, a subclass, say what is set."""

    kind: str
    """The captioner's class, as `package.module:Class`."""


def _kind(captioner: object) -> str:
    kind = captioner.get("kind") if isinstance(captioner, Mapping) else getattr(captioner, "kind", None)
    return "own" if isinstance(kind, type) or is_dotted(str(kind)) else str(kind)


def _own_settings(captioner: object) -> OwnCaptioner:
    """Check the settings of an own captioner by those that its class declares."""
    if isinstance(captioner, OwnCaptioner):
        return captioner
    values = dict(captioner) if isinstance(captioner, Mapping) else {}
    values["kind"] = dotted(values["kind"])
    with checking():
        made = find_part("captioner", values["kind"], {})
    declared: type[OwnCaptioner] = getattr(made, "Settings", OwnCaptioner)
    return declared.model_validate(values)


Captioner = Annotated[
    Annotated[EndpointCaptioner, Tag("endpoint")]
    | Annotated[LocalCaptioner, Tag("local")]
    | Annotated[SerializeAsAny[OwnCaptioner], BeforeValidator(_own_settings), Tag("own")],
    Discriminator(
        _kind,
        custom_error_type="captioner",
        custom_error_message=f"kind must be {', '.join(CAPTIONERS)}, or your own as package.module:Class",
    ),
]


class Images(Section):
    """Images of items become a text field, before anything reads the items."""

    column: str = "image"
    """Field of the items that names an image: a file, a `data:` URL, or an address. It is no text: `field`
    takes its place."""
    field: str = "caption"
    """Text field that is filled."""
    captioner: Captioner
    """Who describes an image."""
    folder: Path | None = None
    """Folder of the images. Paths are relative to it; one that leads out of it, also by a link, is not read.
    Null: the folder of the table of items, or of the data."""
    urls: tuple[str, ...] = ()
    """What addresses must begin with to be fetched, such as `https://images.example.com/shop/`; redirections
    are not followed. Empty: none is fetched. Whoever wrote the items chooses what this machine asks for, so
    name nothing that answers with more than images, and no host of an inner network."""
    side: int = Field(768, ge=32)
    """Longest side in pixels; a larger image is scaled down before it is shown."""
    max_bytes: int = Field(20_000_000, ge=1)
    """A larger file is not read."""
    max_pixels: int = Field(50_000_000, ge=1)
    """An image of more pixels is not decoded."""
    sampling: Sampling = Sampling(max_new_tokens=200)
    """How the model draws its answer."""
    checks: tuple[Check, ...] = tuple(
        name for name in get_args(Check) if name not in ("grounding", "no_summary")
    )
    """What makes a caption useless, as for summaries: it is asked for once more, then the item has none."""
    price: Price = Price()
    """What a call costs. Calls are counted against `summary.limits`, together with those of summaries."""
    permuted: bool = False
    """The control: every item has the caption of another one. What then still helps is not the images."""

    @field_validator("urls")
    @classmethod
    def _whole_beginnings(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.endswith("/"):
                message = f"must be beginnings such as https://host/ with the slash behind, got {url!r}"
                raise ValueError(message)
        return urls
