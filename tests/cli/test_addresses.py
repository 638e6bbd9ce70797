"""A URL where a file belongs is refused with a sentence that names it as it was typed; nothing is fetched."""

import socket
from pathlib import Path
from typing import NoReturn

import onnx
import pytest
from command import write_photos
from small_models import CLASSIFIER, filled
from typer.testing import CliRunner

from onnxcam import Explainer, OnnxCamError
from onnxcam.cli.main import app

ADDRESSES = [
    "https://example.com/a//b/model.onnx?download=true", "http://example.com/p.jpg", "HTTPS://EXAMPLE.com/x", "ftp://h/f",
    "s3://bucket/key.jpg", "gs://bucket/key", "hf://org/model/model.onnx", "file:///tmp/x.jpg", "data:image/png;base64,iVBO",
]  # fmt: skip
PLACES = {
    "explain": [
        ["{}", "p.png"],
        ["m.onnx", "{}"],
        *(["m.onnx", "p.png", flag, "{}"] for flag in ("--labels", "--step")),
    ],
    "compare": [["{}", "p.png"], ["m.onnx", "{}"]],
    "sanity": [["{}", "p.png"], ["m.onnx", "{}"]],
    "evaluate": [["{}", "p.png"], ["m.onnx", "{}"], ["m.onnx", "p.png", "--maps", "{}"]],
    "inspect": [["{}"]],
    "rewrite": [["{}"]],
    "compile": [["{}"], ["m.onnx", "--picture", "{}"]],
}
OPTIONS = [["--reference", "{}"], ["--region", "{}"], ["--input", "image={}"]]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> NoReturn:
        raise AssertionError("a socket was opened")

    onnx.save(filled(CLASSIFIER), tmp_path / "m.onnx")
    write_photos(tmp_path, ["p.png"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "socket", refuse)


def message(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, OnnxCamError), (words, done.exception)
    return str(done.exception)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_kind_of_address_is_refused_as_it_was_typed(address: str) -> None:
    text = message(["explain", "m.onnx", address])
    assert text.startswith(f"{address}: nothing is fetched: download it first")
    assert ("curl" in text) == address.lower().startswith(("http", "ftp"))


@pytest.mark.parametrize("name", PLACES)
def test_every_command_refuses_an_address_in_each_place_of_a_file(name: str) -> None:
    address = "https://example.com/a//b"
    for words in PLACES[name]:
        text = message([name, *(word.format(address) for word in words)])
        assert text.startswith(f"{address}: nothing is fetched: download it first (`curl -LO {address}`)")


@pytest.mark.parametrize("words", OPTIONS, ids=lambda words: words[0])
def test_an_option_refuses_an_address(words: list[str]) -> None:
    text = message(["explain", "m.onnx", "p.png", *(word.format("s3://b//k.png") for word in words)])
    assert text.startswith("s3://b//k.png: nothing is fetched")


@pytest.mark.parametrize("make", [str, Path])
def test_the_library_says_so_too(make: type) -> None:
    with pytest.raises(
        OnnxCamError, match=r"nothing is fetched: download it first \(`curl -LO https://e.com/m.onnx`\)"
    ):
        Explainer(make("https://e.com/m.onnx"))
