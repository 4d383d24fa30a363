import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from trsr.config import load
from trsr.config.data import DemoData
from trsr.config.images import Images
from trsr.data.doctor import examine, render
from trsr.data.images import ImageSource, ItemImage, tokens_written
from trsr.data.readers.registry import read
from trsr.errors import ConfigError, DataError
from trsr.llm.generator import Chat
from vision_server import describe, draw

SERVER = {"kind": "endpoint", "base_url": "http://localhost/v1", "model": "m"}


def source(folder: Path | None, **settings: Any) -> ImageSource:
    made = Images.model_validate({"captioner": SERVER, "folder": folder, **settings})
    return ImageSource(made, DemoData())


def catalogue(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"item_id": [f"i{place}" for place in range(len(names))], "image": names})


def look(folder: Path | None, *names: str, **settings: Any) -> tuple[dict[str, ItemImage], dict[str, Any]]:
    found, findings = source(folder, **settings).look(catalogue(*names))
    return found, {finding.rule: finding for finding in findings}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shop"
    made.mkdir()
    draw("red").save(made / "red.png")
    return made


def test_whatever_is_wrong_with_an_image_is_counted_and_shown(folder: Path) -> None:
    draw("blue").save(folder.parent / "secret.png")
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    whole = (folder / "red.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "page.png").write_text("<html>not found</html>")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "heavy.png").write_bytes(whole + b"\0" * 3000)
    draw("red", side=80).save(folder / "wide.gif")
    wrong = {
        "no-image": [""],
        "missing-image": ["nothing.png", ".", "a" * 300, "nul\0.png"],
        "image-outside": ["../secret.png", str(folder.parent / "secret.png"), "link.png"],
        "image-address": [
            "https://example.com/a.png",
            "//example.com/a.png",
            "file:///etc/passwd",
            "ftp://a/b",
        ],
        "large-image": ["heavy.png", "wide.gif"],
        "image-kind": ["page.png", "drawing.svg", "data:text/plain;base64,aGk="],
        "broken-image": ["half.png"],
    }
    names = ["red.png", *(name for group in wrong.values() for name in group)]
    found, findings = look(folder, *names, max_bytes=3000, max_pixels=3000)
    assert [*found] == ["i0"]
    assert {rule: finding.count for rule, finding in findings.items()} == {
        rule: len(group) for rule, group in wrong.items()
    }
    assert findings["broken-image"].examples[0].startswith(f"item i{len(names) - 1}: half.png (OSError")
    assert "secret" not in str(found)


def test_files_inside_the_folder_are_read_whatever_their_names(folder: Path) -> None:
    (folder / "a b").mkdir()
    draw("blue").save(folder / "a b" / "ü 1.jpeg")
    draw("gold").quantize(8).save(folder / "gold.gif")
    names = ["red.png", "./a b/../red.png", "a b/ü 1.jpeg", str(folder / "gold.gif")]
    found, findings = look(folder, *names)
    assert [describe(found[item].decode()).split()[4] for item in found] == ["red", "red", "blue", "gold"]
    assert found["i0"].key == found["i1"].key != found["i2"].key
    assert findings["shared-image"].count == 2


def test_a_picture_is_shown_upright_on_white_small_and_with_nothing_else(folder: Path) -> None:
    tall = Image.new("RGB", (200, 400), "blue")
    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = 6, "taken at home"  # turned by a quarter; a description
    tall.save(folder / "tall.jpg", exif=tags)
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (10, 10, 30, 30))
    clear.save(folder / "clear.png")
    found, _ = look(folder, "tall.jpg", "clear.png", side=100)
    assert (found["i0"].width, found["i0"].height) == (100, 50)
    encoded = found["i0"].encode()
    assert encoded.media_type == "image/jpeg"
    assert b"home" in (folder / "tall.jpg").read_bytes()
    assert b"home" not in encoded.content
    encoded = found["i1"].encode()
    assert encoded.media_type == "image/png"
    assert "red square on a white ground" in describe(Image.open(io.BytesIO(encoded.content)))


def test_a_picture_that_changes_meanwhile_is_refused(folder: Path) -> None:
    found, _ = look(folder, "red.png")
    draw("blue").save(folder / "red.png")
    with pytest.raises(DataError, match=r"red\.png'.* has changed"):
        found["i0"].encode()


def test_without_a_single_image_nothing_goes_on(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"none of 2 items .*such as item i0: a\.png .*images\.folder is"
    ) as told:
        look(folder, "a.png", "b.png")
    assert told.value.findings[0].count == 2
    with pytest.raises(ConfigError, match=r"images\.folder must be given"):
        look(None, "a.png")
    with pytest.raises(ConfigError, match=r"images\.column must be a field of the items \(image\)"):
        look(folder, "red.png", column="cover")


@contextmanager
def web(pages: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, content = pages.get(self.path, (404, b""))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/shop/red.png")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_addresses_are_fetched_where_they_are_allowed_and_nowhere_else(folder: Path) -> None:
    content = (folder / "red.png").read_bytes()
    pages = {"/shop/red.png": (200, content), "/shop/moved.png": (302, b""), "/inner/red.png": (200, content)}
    with web(pages) as (root, asked):
        paths = [
            "/shop/red.png",
            "/shop/moved.png",
            "/shop/gone.png",
            "/inner/red.png",
            "/shop/../inner/red.png",
        ]
        made = source(None, urls=[f"{root}/shop/"])
        found, findings = made.look(catalogue(*(root + path for path in paths)))
        assert describe(found["i0"].decode()).startswith("The picture shows one red")
    assert [*found] == ["i0"]
    counts = {finding.rule: finding.count for finding in findings}
    assert counts == {"image-not-fetched": 2, "image-address": 2}
    assert sorted(asked) == ["/shop/gone.png", "/shop/moved.png", "/shop/red.png"]  # each once
    with pytest.raises(ValueError, match="with the slash behind"):
        source(None, urls=["https://example.com"])


def test_an_image_in_a_prompt_is_a_part_of_it(folder: Path) -> None:
    found, _ = look(folder, "red.png", side=32)
    chat = Chat("Describe it.", image=found["i0"])
    assert chat.written == f"Describe it.\n[image {found['i0'].digest} 32x32]"
    assert tokens_written(chat.written) == chat.image_tokens == 100
    assert tokens_written("Describe it.") == Chat("Describe it.").image_tokens == 0


def test_the_demo_shop_draws_looks_and_departments() -> None:
    dataset, _ = read(DemoData(users=20, items=60, images=True))
    plain, _ = read(DemoData(users=20, items=60))
    assert dataset.items.drop("image").equals(plain.items)
    assert dataset.histories.equals(plain.histories)
    found, findings = source(None).look(dataset.items)
    assert len(found) == 60
    assert findings == ()
    colours = {describe(image.decode()).split()[4] for image in found.values()}
    assert len(colours) == 3  # two looks, and neutral
    assert np.asarray(found["P0001"].decode()).shape == (48, 48, 3)
    head, _, content = dataset.items["image"][0].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")


def test_the_doctor_looks_at_pictures_too(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(b"\x89PNG nothing")
    pl.DataFrame({"item_id": ["a", "b", "c"], "image": ["red.png", "blue.png", ""]}).write_csv(
        tmp_path / "items.csv"
    )
    pl.DataFrame({"user_id": ["u"], "item_ids": [["a", "b", "c"]]}).write_parquet(tmp_path / "h.parquet")
    data = {"format": "tables", "items": tmp_path / "items.csv", "histories": tmp_path / "h.parquet"}
    config = load(overrides={"data": data, "images": {"captioner": SERVER}, "history": {"min": 2, "max": 9}})
    diagnosis = examine(config)
    rules = [finding.rule for finding in diagnosis.findings]
    assert [rule for rule in rules if "image" in rule] == ["no-image", "missing-image", "image-kind"]
    assert "none of 3 items has an image that can be read" in render(diagnosis) or diagnosis.refusal
