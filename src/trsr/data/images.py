"""Images of items: found, checked and decoded; what can't be is counted, and the item stays.

An image is named by a path below one folder, by a ``data:`` URL, or by an address, of which only those are
fetched that the settings allow. Files are untrusted: their bytes and pixels are bounded before they are
decoded, only formats of single pictures are read, and what is shown to a model is encoded anew, so that
nothing else in a file (a place, a name, a comment) leaves this machine.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
import shutil
import tempfile
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import httpx2
import polars as pl

from trsr.config.data import ItemTableData, Source
from trsr.config.images import Images
from trsr.data.notes import Notes, printable
from trsr.errors import ConfigError, DataError
from trsr.records import ITEM, Finding

if TYPE_CHECKING:
    from PIL import Image

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_PHOTOGRAPHS: Final = ("JPEG", "WEBP")
"""Formats that lose something already, so that JPEG, which is small, may be sent of them."""
_QUALITY: Final = 90
_PIXELS_A_TOKEN, _FEWEST_TOKENS = 150, 100
_THREADS: Final = 4
_TIMEOUT_S: Final = 30.0
_SHOWN: Final = 5
_DATA_URL: Final = re.compile(r"data:image/[\w.+-]+;base64,(?P<content>[A-Za-z0-9+/=]*)\Z", re.IGNORECASE)
_WRITTEN: Final = re.compile(r"\[image [0-9a-f]{64} (\d+)x(\d+)\]\Z")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)

_RULES: Final[Mapping[str, str]] = {
    "no-image": "items name no image: they have no caption",
    "missing-image": "items name an image that is not there: they have no caption",
    "image-outside": "items name an image outside images.folder, which is not read: they have no caption",
    "image-address": ("items name an address that images.urls doesn't allow to fetch: they have no caption"),
    "image-not-fetched": "items name an address that could not be fetched: they have no caption until it can",
    "large-image": "images are larger than images.max_bytes or images.max_pixels: they get no caption",
    "image-kind": f"images are of a kind that isn't read ({', '.join(_FORMATS)} are): they get no caption",
    "broken-image": "images are damaged: they get no caption",
}
"""What can be wrong with an image, and what becomes of its item."""


class _Unread(Exception):
    """One image can't be had: by which of `_RULES`, and what was found."""

    def __init__(self, rule: str, said: str) -> None:
        super().__init__(said)
        self.rule, self.said = rule, said


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image as a model is shown it: a file's content, ``image/png`` or ``image/jpeg``."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class ItemImage:
    """One readable image: the SHA-256 of its file, and its size as it is shown, in pixels."""

    name: str
    digest: str
    width: int
    height: int
    source: ImageSource = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """What tells it from all others: its content, and how large it is shown."""
        return f"image {self.digest} {self.width}x{self.height}"

    @property
    def tokens(self) -> int:
        """The most tokens that a model may count for it: one for 150 pixels, 100 at least.

        That is what LLaVA-NeXT's tiles come to (2,880 for 672 x 672), the dearest of the common models.
        """
        return _most_tokens(self.width, self.height)

    def encode(self) -> Encoded:
        """Read it again and encode it; raises DataError when it has changed or is gone meanwhile."""
        return self.source.encode(self)

    def decode(self) -> Image.Image:
        """Read it again, in RGB; raises as `encode` does."""
        return self.source.decode(self)


def tokens_written(prompt: str) -> int:
    """Count the image tokens of a prompt as it stands in the store; 0 for one without an image."""
    found = _WRITTEN.search(prompt)
    return 0 if found is None else _most_tokens(int(found[1]), int(found[2]))


def _most_tokens(width: int, height: int) -> int:
    return max(_FEWEST_TOKENS, math.ceil(width * height / _PIXELS_A_TOKEN))


class ImageSource:
    """The images of one data set.

    Raises ConfigError when Pillow is not installed, or no folder is known.
    """

    def __init__(self, settings: Images, data: Source) -> None:
        self._settings = settings
        self._pillow = _pillow()
        folder = settings.folder or _folder_of(data)
        self._folder = None if folder is None else folder.resolve()
        self._fetched: dict[str, Path] = {}
        self._scratch: Path | None = None
        self._lock = threading.Lock()

    def look(self, items: pl.DataFrame) -> tuple[dict[str, ItemImage], tuple[Finding, ...]]:
        """Find the image of every item; return those that can be read, by item id, and what is wrong.

        Raises ConfigError when the items have no such field, and DataError when no image at all can be read.
        """
        column = self._settings.column
        if column not in items.columns:
            message = (
                f"images.column must be a field of the items ({', '.join(items.columns[1:])}), got "
                f"{column!r}; where data.text_fields names the fields, name it there too"
            )
            raise ConfigError(message)
        names = [str(name or "").strip() for name in items[column]]
        with _bombs_refused(), ThreadPoolExecutor(_THREADS) as threads:
            distinct = list(dict.fromkeys(names))
            looked = dict(zip(distinct, threads.map(self._look, distinct), strict=True))
        found = {
            item: image
            for item, name in zip(items[ITEM], names, strict=True)
            if isinstance(image := looked[name], ItemImage)
        }
        findings = _findings(items[ITEM].to_list(), [looked[name] for name in names], names)
        if not found:
            first = f"; {findings[0].sentence}, such as {findings[0].examples[0]}" if findings else ""
            message = (
                f"none of {items.height:,} items has an image that can be read{first}; images.folder is "
                f"{self._folder}, images.column {column!r}"
            )
            error = DataError(message)
            error.findings = findings
            raise error
        return found, findings

    def encode(self, image: ItemImage) -> Encoded:
        """Encode an image for a model; see `ItemImage.encode`."""
        decoded = self.decode(image)
        stream = io.BytesIO()
        if decoded.info.get("photograph"):
            decoded.save(stream, "JPEG", quality=_QUALITY)
            return Encoded(stream.getvalue(), "image/jpeg")
        decoded.save(stream, "PNG")
        return Encoded(stream.getvalue(), "image/png")

    def decode(self, image: ItemImage) -> Image.Image:
        """Decode an image for a model; see `ItemImage.decode`."""
        try:
            content = self._read(image.name)
            if sha256(content).hexdigest() != image.digest:
                raise _Unread(rule="broken-image", said="its content has changed since it was looked at")
            return self._decode(content)
        except _Unread as error:
            message = f"image {_short(image.name)!r}: {error.said}; run again when nothing writes to it"
            raise DataError(message) from error

    def _look(self, name: str) -> ItemImage | _Unread:
        try:
            content = self._read(name)
            decoded = self._decode(content)
        except _Unread as error:
            return error
        return ItemImage(name, sha256(content).hexdigest(), *decoded.size, self)

    def _read(self, name: str) -> bytes:
        if not name:
            raise _Unread(rule="no-image", said="")
        if name.lower().startswith("data:"):
            return self._from_data_url(name)
        if _SCHEME.match(name) or name.startswith("//"):
            return self._from_address(name)
        return self._from_file(self._path(name))

    def _path(self, name: str) -> Path:
        if self._folder is None:
            message = "images.folder must be given: these data have no folder of their own"
            raise ConfigError(message)
        try:
            path = (self._folder / name).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a circle of links
            raise _Unread(rule="missing-image", said=str(error)) from error
        if not path.is_relative_to(self._folder):
            raise _Unread(rule="image-outside", said="it lies outside images.folder")
        return path

    def _from_file(self, path: Path) -> bytes:
        try:
            if not path.is_file():
                raise _Unread(rule="missing-image", said=f"there is no file {path}")
            self._check_bytes(path.stat().st_size)
            return path.read_bytes()
        except OSError as error:
            raise _Unread(rule="missing-image", said=f"{path}: {error.strerror}") from error

    def _from_data_url(self, name: str) -> bytes:
        match = _DATA_URL.match(name)
        if match is None:
            raise _Unread(rule="image-kind", said="a data: URL must be of an image, in base64")
        self._check_bytes(len(match["content"]) * 3 // 4)
        try:
            return base64.b64decode(match["content"], validate=True)
        except binascii.Error as error:
            raise _Unread(rule="broken-image", said=f"no base64: {error}") from error

    def _from_address(self, name: str) -> bytes:
        if not name.startswith(self._settings.urls) or "/.." in name or "@" in name:
            raise _Unread(rule="image-address", said="images.urls doesn't allow it")
        if name not in self._fetched:
            content = self._fetch(name)
            with self._lock:
                if self._scratch is None:
                    self._scratch = Path(tempfile.mkdtemp(prefix="trsr-images-"))
                    weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
            path = self._scratch / sha256(name.encode()).hexdigest()
            path.write_bytes(content)
            self._fetched[name] = path
        return self._from_file(self._fetched[name])

    def _fetch(self, address: str) -> bytes:
        content = bytearray()
        try:
            with httpx2.stream("GET", address, timeout=_TIMEOUT_S, follow_redirects=False) as reply:
                if reply.status_code != 200:
                    raise _Unread(rule="image-not-fetched", said=f"status {reply.status_code}")
                for part in reply.iter_bytes():
                    content += part
                    self._check_bytes(len(content))
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            raise _Unread(rule="image-not-fetched", said=str(error) or type(error).__name__) from error
        return bytes(content)

    def _check_bytes(self, size: int) -> None:
        if size > self._settings.max_bytes:
            raise _Unread(rule="large-image", said=f"{size:,} bytes")

    def _decode(self, content: bytes) -> Image.Image:
        """Decode the first picture: upright, on white where it is transparent, in RGB, as large as shown."""
        images = self._pillow["Image"]
        try:
            with images.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > self._settings.max_pixels:
                    raise _Unread(rule="large-image", said=f"{image.width:,} x {image.height:,} pixels")
                photograph = image.format in _PHOTOGRAPHS
                upright = self._pillow["ImageOps"].exif_transpose(image)
        except self._pillow["UnidentifiedImageError"] as error:
            raise _Unread(rule="image-kind", said=f"it begins with {content[:8]!r}") from error
        except (images.DecompressionBombError, images.DecompressionBombWarning) as error:
            raise _Unread(rule="large-image", said=str(error)) from error
        except _Unread:
            raise
        # Decoders fail in as many ways as files are broken: OSError, SyntaxError, struct.error, ...
        except Exception as error:
            raise _Unread(rule="broken-image", said=f"{type(error).__name__}: {error}") from error
        if upright.has_transparency_data:
            page = images.new("RGBA", upright.size, "white")
            page.alpha_composite(upright.convert("RGBA"))
            upright = page
        shown = upright.convert("RGB")
        shown.thumbnail((self._settings.side, self._settings.side))
        shown.info = {"photograph": photograph}
        made: Image.Image = shown
        return made


def _pillow() -> dict[str, Any]:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415  an optional extra
    except ImportError as error:
        message = "images are read by Pillow: pip install 'trsr[images]', or leave the section `images` out"
        raise ConfigError(message) from error
    parts: dict[str, ModuleType | type] = {
        "Image": Image, "ImageOps": ImageOps, "UnidentifiedImageError": UnidentifiedImageError
    }  # fmt: skip
    return parts


@contextmanager
def _bombs_refused() -> Iterator[None]:
    """Let Pillow refuse what it would only warn of; our own bound is told where it is lower."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Image size .* exceeds limit")
        yield


def _folder_of(data: Source) -> Path | None:
    if isinstance(data, ItemTableData):
        return data.items.parent
    path = getattr(data, "path", None)
    return path if isinstance(path, Path) else None


def _findings(ids: list[str], looked: list[ItemImage | _Unread], names: list[str]) -> tuple[Finding, ...]:
    """Count what is wrong with images, and those that several items share."""
    notes = Notes()
    for rule, message in _RULES.items():
        wrong = [
            f"item {item}: {_short(name)} {f'({fault.said})' if fault.said else ''}".strip()
            for item, fault, name in zip(ids, looked, names, strict=True)
            if isinstance(fault, _Unread) and fault.rule == rule
        ]
        notes.count(rule, message, "noted", len(wrong), _printable(wrong[:_SHOWN]))
    shared = Counter(image.digest for image in looked if isinstance(image, ItemImage))
    several = [
        f"item {item}: {_short(name)}"
        for item, image, name in zip(ids, looked, names, strict=True)
        if isinstance(image, ItemImage) and shared[image.digest] > 1
    ]
    message = "items share their image with others, and so the caption: is it a placeholder?"
    notes.count("shared-image", message, "noted", len(several), _printable(several[:_SHOWN]))
    return notes.findings()


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"{name[:45]}..."


def _printable(lines: list[str]) -> tuple[str, ...]:
    texts = pl.DataFrame({"text": lines}, schema={"text": pl.String})
    return tuple(texts.select(printable(pl.col("text")))["text"])
