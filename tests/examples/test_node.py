"""The Node.js example: the same map as the package's, from the picture's bytes; and the page's modules alone."""

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.inputs import bundled
from onnxcam.inputs.preprocess import apply
from onnxcam.inputs.presets import PRESETS

pytestmark = pytest.mark.node
ROOT = Path(__file__).parents[2]
EXAMPLE, PAGE = ROOT / "examples" / "node", ROOT / "examples" / "web" / "page" / "js"
SIZES = ((400, 600), (300, 451), (97, 60), (224, 224), (777, 230), (1, 9))
"""(height, width) of pictures: wide, smaller than the network's input, of its size, narrow, and of a line."""


def node(*words: object, cwd: Path | None = None) -> str:
    done = subprocess.run(["node", *map(str, words)], capture_output=True, text=True, timeout=300, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example beside its packages: `npm install --ignore-scripts` in examples/node, or another folder's."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(EXAMPLE / "explain.mjs", folder)
    (folder / "node_modules").symlink_to(os.environ.get("ONNXCAM_NODE_MODULES", EXAMPLE / "node_modules"))
    onnxcam.compile(bundled.model(), "grad-cam", raw=True).save(folder / "model.onnx")
    Image.open(bundled.pictures()["coffee"]).save(folder / "photo.png")
    Image.open(folder / "photo.png").save(folder / "photo.ppm")
    return folder


@pytest.mark.parametrize("target", [-1, 504])
def test_the_map_is_the_product_s(example: Path, target: int) -> None:
    script = f"""
        import {{ InferenceSession }} from 'onnxruntime-node';
        import {{ explain, readPpm }} from './explain.mjs';
        const answer = await explain(await InferenceSession.create('model.onnx'), readPpm('photo.ppm'), {target});
        console.log(JSON.stringify({{ ...answer, map: [...answer.map], box: [...answer.box] }}));
    """
    answer = json.loads(node("--input-type=module", "-e", script, cwd=example))
    with onnxcam.Explainer(bundled.model(), "grad-cam") as explainer:
        (expected,) = explainer.explain(example / "photo.png", (None if target < 0 else target,))
    assert answer["target"] == expected.target.index
    assert tuple(answer["sides"]) == expected.map.shape
    assert np.abs(np.reshape(answer["map"], expected.map.shape) - expected.map).max() <= 1e-5
    assert expected.placement is not None
    np.testing.assert_allclose(answer["box"], expected.placement.box, atol=1e-3)


def test_the_command_writes_the_map_as_a_picture(example: Path) -> None:
    said = node("explain.mjs", "model.onnx", "photo.ppm", "map.pgm", cwd=example)
    assert said == "class 967: map.pgm is the map of the part 125, 25, 475, 375 (left, top, right, bottom)\n"
    with onnxcam.Explainer(bundled.model(), "grad-cam") as explainer:
        (expected,) = explainer.explain(example / "photo.png")
    written = np.asarray(Image.open(example / "map.pgm"), np.float32) / 255
    assert np.abs(written - expected.map).max() <= 0.5 / 255 + 1e-5


def test_what_cannot_be_used_is_refused_in_a_sentence(example: Path) -> None:
    onnxcam.compile(bundled.model(), "grad-cam").save(example / "no-raw.onnx")
    refused = (("model.onnx", "photo.png", "is no PPM"), ("no-raw.onnx", "photo.ppm", "compile the model with --raw"))
    for model, photo, sentence in refused:
        done = subprocess.run(
            ["node", "explain.mjs", model, photo, "map.pgm"], cwd=example, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 1
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_prepares_pictures_as_the_command_line_does(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    preset, channels = PRESETS[name], 1 if PRESETS[name].color == "gray" else 3
    cases: list[dict[str, Any]] = []
    for height, width in SIZES:
        picture = random.integers(0, 256, (height, width, 3), np.uint8)
        image, placement = apply(picture, preset, (224, 224), channels)
        opaque = np.dstack([picture, np.full((height, width), 255, np.uint8)])
        case = {"width": width, "height": height, "box": placement.box, "channels": channels}
        files = {"pixels": opaque, "image": image.astype("<f4")}
        for part, array in files.items():
            (tmp_path / f"{part}{len(cases)}").write_bytes(array.tobytes())
        cases.append(case)
    (tmp_path / "cases.json").write_text(json.dumps({"preset": preset.to_json(), "cases": cases}))
    differences = json.loads(node(Path(__file__).parent / "prepare.mjs", PAGE, tmp_path))
    assert [d["image"] for d in differences] == [0] * len(SIZES)
    assert max(d["box"] for d in differences) <= 1e-9


def test_the_page_reads_names_and_metadata_of_a_model_file(tmp_path: Path) -> None:
    compiled = onnxcam.compile(bundled.model(), "grad-cam").save(tmp_path / "model.onnx")
    script = f"""
        import {{ readFileSync }} from 'node:fs';
        import {{ readOnnx }} from '{PAGE / "onnx-file.js"}';
        const bytes = readFileSync('{compiled}');
        console.log(JSON.stringify([readOnnx(bytes), readOnnx(bytes.subarray(0, 1000)), readOnnx(Buffer.from('text'))]));
    """
    whole, cut, text = json.loads(node("--input-type=module", "-e", script))
    assert whole["inputs"] == ["images", "target"]
    assert whole["outputs"][0] == "logits"
    assert json.loads(whole["metadata"]["onnxcam.compiled"])["method"] == "grad-cam"
    assert cut is None
    assert text is None


def test_the_page_tells_whole_pictures_from_cut_ones(tmp_path: Path) -> None:
    photograph = Image.open(bundled.pictures()["coffee"]).convert("RGB")
    whole = {
        "baseline": encoded(photograph, "JPEG"),
        "progressive": encoded(photograph, "JPEG", progressive=True),
        "restarts": encoded(photograph, "JPEG", restart_marker_blocks=2) + b"more",
        "plain": encoded(Image.new("RGB", (4000, 3000)), "JPEG", progressive=True, optimize=True),
        "png": encoded(photograph, "PNG"),
        "gif": encoded(photograph, "GIF"),
    }
    cut = {name: whole[name][: len(whole[name]) // 2] for name in ("baseline", "progressive", "restarts", "png")}
    small = encoded(Image.new("L", (8, 8)), "JPEG")
    frame = small.index(b"\xff\xc0") + 5
    cut["lie"] = small[:frame] + b"\x32\xc8\x32\xc8" + small[frame + 4 :]  # 13000 x 13000 pixels
    files = {**whole, **{f"cut {name}": data for name, data in cut.items()}}
    for i, data in enumerate(files.values()):
        (tmp_path / f"{i}").write_bytes(data)
    script = f"""
        import {{ readFileSync }} from 'node:fs';
        import {{ isCut }} from '{PAGE / "intact.js"}';
        console.log(JSON.stringify([...Array({len(files)}).keys()].map((i) => isCut(readFileSync(`{tmp_path}/${{i}}`)))));
    """
    answers = dict(zip(files, json.loads(node("--input-type=module", "-e", script)), strict=True))
    assert answers == {name: name.startswith("cut ") for name in files}


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()
