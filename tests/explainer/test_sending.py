"""What an isolated Explainer sends: looked at before, like a plain Explainer looks at it, and copied at most once."""

import io
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import ExifTags, Image

from onnxcam import Explainer
from onnxcam.errors import OnnxCamError, OptionError, PictureError, TargetError
from onnxcam.explainer.prefetch import PictureResult, explain_each
from onnxcam.explainer.sending import Request, Shared, packed_request, received, sendable
from onnxcam.limits import SAFE, Limits

X = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
LIMITS = Limits(pixels=10_000)
MEBIBYTE = 2**20


class Exported:
    """Another library's array: it cannot be pickled, and is shared through DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.unsendable = array, array.shape, array.dtype, lambda: None

    def __dlpack__(self, **named: Any) -> Any:
        return self.array.__dlpack__(**named)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def opened(model: onnx.ModelProto, *, isolated: bool) -> Explainer:
    return Explainer(model, providers=["cpu"], preset="raw", limits=LIMITS, isolated=isolated)


@pytest.fixture(scope="module")
def pair(classifier: onnx.ModelProto) -> Iterator[tuple[Explainer, Explainer]]:
    with opened(classifier, isolated=True) as isolated, opened(classifier, isolated=False) as plain:
        yield isolated, plain


def closed() -> io.BytesIO:
    file = io.BytesIO(b"GIF89a")
    file.close()
    return file


def damaged() -> Image.Image:
    """A PNG that Pillow has opened, and whose pixels it cannot decode."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(stream, "png")
    return Image.open(io.BytesIO(stream.getvalue()[:9000]))


HOSTILE: dict[str, Callable[[], Any]] = {
    "a closed file": closed,
    "a file opened for writing": lambda: Path("/dev/null").open("wb"),  # noqa: SIM115
    "a stream of text": lambda: io.StringIO("text"),
    "a function": lambda: lambda: None,
    "a generator": lambda: (i for i in range(3)),
    "a dictionary": lambda: {"image": X},
    "a list of functions": lambda: [lambda: None],
    "nothing": lambda: None,
    "a released memoryview": lambda: released(),
    "an array with too many pixels": lambda: np.zeros((101, 100, 1), np.uint8),
    "an array that repeats itself": lambda: np.broadcast_to(np.uint8(0), (2**20, 2**20, 3)),
    "an exported array with too many pixels": lambda: Exported(np.zeros((101, 100, 3), np.uint8)),
    "a Pillow image with too many pixels": lambda: Image.new("RGB", (101, 100)),
    "a Pillow image that is damaged": damaged,
    "empty bytes": lambda: b"",
    "an array of objects": lambda: np.array([lambda: None, 1], object),
}


def released() -> memoryview:
    view = memoryview(b"GIF89a")
    view.release()
    return view


def outcomes(results: Iterator[PictureResult]) -> list[tuple[int, str | None, bytes]]:
    return [
        (r.number, type(r.error).__name__ if r.error else None, b"".join(s.map.tobytes() for s in r.saliencies))
        for r in results
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_picture_that_cannot_be_sent_is_an_error_in_its_place(pair: tuple[Explainer, Explainer], name: str) -> None:
    isolated, plain = pair
    process = isolated._isolated._process
    for keep_going in (True, False):
        pictures = [lambda: X, HOSTILE[name], lambda: X[:, ::-1].copy()]
        expected, actual = (
            outcomes(explain_each(e, [(make(), [None]) for make in pictures], keep_going=keep_going))
            for e in (plain, isolated)
        )
        assert actual == expected
        assert expected[-1][:2] == ((2, None) if keep_going else (1, "PictureError"))
    with pytest.raises(PictureError) as raised:
        isolated(HOSTILE[name]())
    with pytest.raises(PictureError) as wanted:
        plain(HOSTILE[name]())
    assert str(raised.value) == str(wanted.value) or "list" in name or "objects" in name
    assert isolated._isolated._process is process


def test_many_unsendable_pictures_and_targets_leave_the_others(pair: tuple[Explainer, Explainer]) -> None:
    isolated = pair[0]
    pictures: list[tuple[Any, Any]] = [(X, [0]), (lambda: None, [None]), (X, [lambda: None]), (closed(), [1]), (X, [2])]
    results = [list(explain_each(e, iter(pictures))) for e in pair]
    for actual, expected in zip(*results, strict=True):
        assert (actual.number, actual.error is None) == (expected.number, expected.error is None)
        assert actual.error is None or isinstance(actual.error, OnnxCamError)
        assert [s.map.tobytes() for s in actual.saliencies] == [s.map.tobytes() for s in expected.saliencies]
    with pytest.raises(PictureError, match="not function"):
        isolated.batch([X, lambda: None, X])


def test_arguments_that_cannot_be_sent_are_one_sentence_and_end_nothing(pair: tuple[Explainer, Explainer]) -> None:
    isolated = pair[0]
    process = isolated._isolated._process
    saliency = isolated(X)
    for call in (
        lambda: isolated(X, lambda: None),
        lambda: list(isolated.stream(X, lambda: None)),
        lambda: isolated.explain(X, inputs={"x": lambda: None}),
        lambda: isolated.measure(saliency, "deletion", picture=X, target=lambda: None),
        lambda: isolated.batch([X], [lambda: None]),
    ):
        with pytest.raises((OptionError, TargetError), match=r"cannot be sent to the isolated|a target is") as raised:
            call()
        assert "\n" not in str(raised.value)
    counts: list[int] = []
    isolated.explain(X, progress=lambda done, of: counts.append(done))  # is not sent
    assert counts
    assert isolated._isolated._process is process


def test_what_a_plain_explainer_reads_is_sent(pair: tuple[Explainer, Explainer], tmp_path: Path) -> None:
    isolated, plain = pair
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    stream, array = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    np.save(array, X)
    (tmp_path / "a.png").write_bytes(stream.getvalue())

    class Here:
        def __fspath__(self) -> str:
            return str(tmp_path / "a.png")

    for image in (
        stream, array, stream.getvalue(), bytearray(stream.getvalue()), memoryview(stream.getvalue())[::1],
        memoryview(array.getvalue()), memoryview(pixels), Image.open(stream), Here(),
        X.T.copy().T, X[::-1], np.broadcast_to(X[:1], X.shape), X.astype(">f4"), X.astype(np.float64), X[None],
        pixels.transpose(2, 0, 1), np.ma.masked_array(X), Exported(X), Exported(X[::-1]), Exported(pixels),
        Exported(np.abs(X) / 9),
    ):  # fmt: skip
        actual, expected = isolated(image), plain(image)
        assert actual.map.tobytes() == expected.map.tobytes()
        if not isinstance(image, Here):
            assert actual.provenance.image == expected.provenance.image


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "webp", "tiff"])
@pytest.mark.parametrize("state", ["opened", "decoded", "changed", "reduced", "second frame"])
def test_a_pillow_image_is_explained_as_it_is(
    pair: tuple[Explainer, Explainer], tmp_path: Path, form: str, state: str
) -> None:
    photo = Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    more = {} if form in ("jpeg", "gif") else {"exif": exif}
    several = {} if form == "jpeg" else {"save_all": True, "append_images": [photo.rotate(180)]}
    photo.save(tmp_path / f"a.{form}", **({"exif": exif} if form == "jpeg" else more), **several)
    results = []
    for explain in pair:
        with Image.open(tmp_path / f"a.{form}") as image:
            if state == "second frame" and several:
                image.seek(1)
            if state == "reduced":
                image.draft("RGB", (15, 15))
            if state != "opened":
                image.load()
            if state == "changed" and form != "gif":
                image.paste(0, (0, 0, 20, 20))
            results.append(explain(image))
    actual, expected = results
    assert actual.map.tobytes() == expected.map.tobytes()
    if state == "opened":
        first, second = actual.provenance, expected.provenance
        assert first.image == second.image
        assert form == "webp" or first.notes == second.notes  # of WebP Pillow does not say whether it is decoded


def test_an_npy_file_that_is_open_may_be_larger_than_an_unknown_file() -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((2500, 2500, 3), np.uint8))
    assert sendable(file, SAFE).getvalue() == file.getvalue()
    assert len(file.getvalue()) > 2**24


def test_an_open_file_is_called_by_its_name(pair: tuple[Explainer, Explainer], tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for explain in pair:
        with (tmp_path / "damaged.png").open("rb") as file, pytest.raises(PictureError, match=r"damaged\.png: "):
            explain(file)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(lambda: np.zeros((30_000, 30_000, 1), np.uint8), id="an array"),
        pytest.param(lambda: np.broadcast_to(np.uint8(0), (25_000, 25_000, 3)), id="one that repeats itself"),
        pytest.param(lambda: Exported(np.zeros((30_000, 30_000), np.uint8)), id="DLPack"),
        pytest.param(lambda: [np.zeros((30_000, 30_000, 3), np.uint8)] * 2, id="a clip"),
    ],
)
def test_an_array_beyond_the_limit_costs_nothing(image: Callable[[], Any]) -> None:
    bomb = image()
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match="pixels"):
            sendable(bomb, SAFE)
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("contiguous", [True, False])
def test_an_array_is_copied_at_most_once_on_its_way(contiguous: bool) -> None:
    pixels = np.zeros((3, 1024, 1024), np.uint8)
    image = pixels if contiguous else pixels.transpose(1, 2, 0)
    tracemalloc.start()
    try:
        parts = packed_request("explain", {"image": sendable(image, SAFE), "maps": [np.ones((4, 4), np.float32)]})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (0.1 if contiguous else 1.1) * pixels.nbytes
    request = received(io.BytesIO(b"".join(parts)))
    assert request is not None
    name, arguments = request.loaded()
    assert name == "explain"
    assert np.array_equal(arguments["image"], image)
    assert arguments["image"].flags.writeable
    assert np.array_equal(arguments["maps"][0], np.ones((4, 4), np.float32))
    for cut in (0, 7, 8, 20, len(b"".join(parts)) - 1):
        assert received(io.BytesIO(b"".join(parts)[:cut])) is None


def test_an_array_of_another_library_is_exported_again_there() -> None:
    fixed = X.copy()
    fixed.setflags(write=False)
    for array in (X, fixed):
        request = received(io.BytesIO(b"".join(packed_request("explain", {"image": Shared(array)}))))
        assert isinstance(request, Request)
        image = request.loaded()[1]["image"]
        assert np.array_equal(np.from_dlpack(image), X)
        assert image.shape == X.shape
