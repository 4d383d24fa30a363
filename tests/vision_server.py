"""A server of the vision protocol (`image_url` with a data URL) that answers from the pixels it decodes.

It stands in for a model that reads images: it knows colours and a few shapes, and nothing else.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from counting_server import CountingServer, counting_server

COLOURS = (
    "red",
    "green",
    "blue",
    "gold",
    "purple",
    "teal",
    "saddlebrown",
    "dimgray",
    "silver",
    "lightskyblue",
)
SHAPES = {"triangle": 0.5, "square": 1.0, "circle": 0.785}
"""Share of its bounding box that a shape covers."""


def draw(colour: str, shape: str = "circle", side: int = 32, at: tuple[int, int] = (16, 16)) -> Image.Image:
    """Draw one shape on white."""
    image = Image.new("RGB", (side, side), "white")
    pen, (x, y), radius = ImageDraw.Draw(image), at, 10
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        pen.regular_polygon((x, y, radius), 3 if shape == "triangle" else 4, fill=colour)
    return image


def describe(image: Image.Image) -> str:
    """Say what colour and shape stand out from white."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    marked = np.abs(pixels - 255).sum(axis=2) > 60
    if not marked.any():
        return "The picture is blank and shows nothing but a white ground."
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    share = marked.sum() / ((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
    mean = pixels[marked].mean(axis=0)
    colour = min(COLOURS, key=lambda name: float(np.square(mean - ImageColor.getrgb(name)).sum()))
    shape = min(SHAPES, key=lambda name: abs(SHAPES[name] - share))
    return f"The picture shows one {colour} {shape} on a white ground."


def answer_prompt(prompt: str) -> str:
    """Decode the image of a request's messages, as its JSON, and describe it."""
    [message] = json.loads(prompt)
    image, text = message["content"]
    assert (image["type"], text["type"]) == ("image_url", "text")
    head, _, content = image["image_url"]["url"].partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as decoded:
        return describe(decoded)


@contextmanager
def vision_server() -> Iterator[CountingServer]:
    """Run the server for the length of the block; `asked` counts the requests."""
    with counting_server() as server:
        server.say = answer_prompt
        yield server
