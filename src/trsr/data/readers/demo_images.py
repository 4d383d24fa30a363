"""Pictures of the demo shop's items: the colour is that of the look, the shape that of the department."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.errors import ConfigError

_SIDE: Final = 48
_COLOURS: Final = (
    "saddlebrown",
    "lightskyblue",
    "dimgray",
    "gold",
    "teal",
    "green",
    "purple",
    "red",
    "silver",
)
"""By look, and last for neutral items."""
_CORNERS: Final = (3, 4, 5, 6, 8, 0)
"""Of the shape of each department; 0 is a circle."""


def draw_images(looks: NDArray[np.int64], departments: NDArray[np.int64], seed: int) -> pl.Series:
    """Draw every item as a ``data:`` URL of a PNG; place and size differ a little, colour and shape tell.

    Raises ConfigError when Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw  # noqa: PLC0415  an optional extra
    except ImportError as error:
        message = "data.images draws with Pillow: pip install 'trsr[images]', or set data.images to false"
        raise ConfigError(message) from error
    rng = np.random.default_rng([seed, 1])
    drawn = []
    for look, department in zip(looks.tolist(), departments.tolist(), strict=True):
        image = Image.new("RGB", (_SIDE, _SIDE), "white")
        pen, colour = ImageDraw.Draw(image), _COLOURS[look]
        x, y, radius = (float(number) for number in rng.uniform((20, 20, 12), (28, 28, 18)))
        if corners := _CORNERS[department]:
            pen.regular_polygon((x, y, radius), corners, fill=colour)
        else:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        stream = io.BytesIO()
        image.save(stream, "PNG")
        drawn.append(f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}")
    return pl.Series("image", drawn)
