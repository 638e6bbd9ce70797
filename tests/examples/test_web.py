"""The web page in headless Chromium: it explains as the package does, alone, and says what it cannot open."""

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from programs import tool

import onnxcam
from onnxcam.inputs import bundled
from onnxcam.inputs.presets import override

pytestmark = pytest.mark.chromium
HERE = Path(__file__).parent
WEB = HERE.parents[1] / "examples" / "web"
LARGEST = 25_000_000
"""Bytes of the page, at most."""
TOLERANCE = 1e-4
"""Of the map, between WebAssembly and native arithmetic."""
RAW_TOLERANCE = 1e-3
"""Of the map of a file that prepares the picture itself: a few of its pixels are rounded another way."""


OPENCV = functools.partial(override, interpolation="cv2-linear")


@pytest.fixture(scope="module")
def modules() -> Path:
    """Where npm put the packages: `npm install --ignore-scripts` in examples/web, or in another folder."""
    return Path(os.environ.get("ONNXCAM_NODE_MODULES", WEB / "node_modules"))


@pytest.fixture(scope="module")
def site(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("web") / "site"
    tool("../examples/web/build").build(out, modules)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The demo's photographs as PNG, which every host decodes to the same bytes."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, path in bundled.pictures().items():
        Image.open(path).save(folder / f"{name}.png")
    Image.new("RGB", (400, 300), (128, 128, 128)).save(folder / "grey.png")
    return {name: str(folder / f"{name}.png") for name in [*bundled.pictures(), "grey"]}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def seen(address: str, modules: Path, pictures: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What page.mjs saw, in one visit."""
    folder = tmp_path_factory.mktemp("visit")
    (folder / "notes.txt").write_text("no picture")
    shutil.copy(folder / "notes.txt", folder / "notes.onnx")
    shutil.copy(bundled.model(), folder / "plain.onnx")
    own = {"layer-cam": False, "hires-cam": True}
    for method, raw in own.items():
        onnxcam.compile(bundled.model(), method, raw=raw).save(folder / f"{method}.onnx")
    onnxcam.compile(bundled.model(), "grad-cam", adjust=OPENCV).save(folder / "opencv.onnx")
    onnxcam.compile(bundled.model(), onnxcam.score_cam(budget=64)).save(folder / "score-cam.onnx")
    own |= {"opencv": False, "score-cam": False}
    bare = onnx.load(bundled.model())
    del bare.metadata_props[:]
    onnx.save(bare, folder / "bare.onnx")
    onnxcam.compile(folder / "bare.onnx", "grad-cam").save(folder / "assumed.onnx")
    own["assumed"] = False
    photograph = bundled.pictures()["coffee"].read_bytes()
    (folder / "cut.jpg").write_bytes(photograph[: len(photograph) // 2])
    models = {"plain": "plain.onnx", "text": "notes.onnx"}
    config = {
        "cut": str(folder / "cut.jpg"), "url": address, "modules": str(modules), "pictures": pictures,
        "chromium": os.environ.get("CHROMIUM") or shutil.which("chromium"),
        "models": {**{k: str(folder / v) for k, v in models.items()}, "own": {m: str(folder / f"{m}.onnx") for m in own}},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        ["node", HERE / "page.mjs", folder / "config.json"], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected(method: str, picture: str, target: int | None = None) -> tuple[np.ndarray[Any, Any], int]:
    with onnxcam.Explainer(bundled.model(), method) as explainer:
        (result,) = explainer.explain(picture, (target,))
        return result.map, result.target.index


def assert_same_map(
    visit: Any, method: str, picture: str, target: int | None = None, tolerance: float = TOLERANCE
) -> None:
    saliency, index = expected(method, picture, target)
    assert visit["target"] == index
    assert np.abs(np.asarray(visit["map"]).reshape(saliency.shape) - saliency).max() <= tolerance


def test_the_page_is_small_and_complete(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    kept = (site / "service-worker.js").read_text()
    assert all(f'"{path.relative_to(site).as_posix()}"' in kept for path in files if path.name != "service-worker.js")


def test_nothing_is_asked_of_another_host_and_nothing_complains(seen: Any) -> None:
    assert seen["outside"] == []
    assert seen["console"] == []


def test_it_opens_with_a_picture_explained(seen: Any) -> None:
    assert seen["start"]["answer"] == "espresso"
    assert seen["start"]["listed"][0] == "espresso"


def test_grad_cam_of_a_chosen_picture_is_the_product_s(seen: Any, pictures: dict[str, str]) -> None:
    assert_same_map(seen["gradCam"], "grad-cam", pictures["coffee"])
    assert seen["gradCam"]["box"] == pytest.approx(
        onnxcam.Explainer(bundled.model(), "grad-cam").explain(pictures["coffee"])[0].placement.box
    )


def test_the_arrow_keys_choose_another_class(seen: Any, pictures: dict[str, str]) -> None:
    second = int(np.argsort(seen["gradCam"]["probabilities"])[-2])
    assert seen["another"]["target"] == second
    assert seen["focused"] == "true"
    assert_same_map(seen["another"], "grad-cam", pictures["coffee"], second)


def test_the_search_reaches_classes_that_are_not_likely(seen: Any) -> None:
    assert seen["search"] == ["tabby"]


def test_a_pasted_picture_is_explained(seen: Any, pictures: dict[str, str]) -> None:
    assert_same_map(seen["pasted"], "grad-cam", pictures["chelsea"])


def test_score_cam_is_near_after_a_few_masks_and_exact_after_all(seen: Any, pictures: dict[str, str]) -> None:
    preview, exact = seen["preview"], seen["exact"]
    assert 4 <= preview["scored"] <= 16
    off = np.asarray(preview["map"]) - np.asarray(exact["map"])
    assert np.sqrt(np.square(off).mean()) <= 0.1
    assert exact["scored"] == exact["total"] > 400
    assert_same_map(exact, "score-cam", pictures["chelsea"])


def test_every_class_has_its_exact_map_without_another_mask(seen: Any, pictures: dict[str, str]) -> None:
    another = seen["exactOfAnother"]
    assert another["scored"] == another["total"]
    assert another["target"] != seen["exact"]["target"]
    assert_same_map(another, "score-cam", pictures["chelsea"], another["target"])


def test_the_space_bar_hides_the_map_while_it_is_held(seen: Any) -> None:
    assert (seen["peek"], seen["peekEnds"]) == (True, False)


def test_the_button_changes_between_light_and_dark(seen: Any) -> None:
    assert (seen["light"][0], seen["light"][2]) == ("light", "light")
    assert (seen["dark"][0], seen["dark"][2]) == ("dark", "dark")


def test_the_legend_has_the_chosen_colours(seen: Any) -> None:
    assert seen["legend"].startswith("linear-gradient(90deg, rgb(68, 1, 84)")  # the first colour of viridis


def test_every_control_has_a_name(seen: Any) -> None:
    assert seen["nameless"] == []
    assert "espresso" in seen["gradCam"]["label"]


def test_a_model_that_is_not_compiled_is_refused_with_the_command(seen: Any) -> None:
    assert "“saliency_map” is missing" in seen["notCompiled"]["text"]
    assert "“logits” from “images”" in seen["notCompiled"]["text"]
    assert seen["notCompiled"]["hint"] == "onnxcam compile plain.onnx -o plain.explained.onnx --method grad-cam"


def test_files_that_are_neither_are_refused(seen: Any) -> None:
    assert "notes.onnx is not an ONNX model" in seen["notAModel"]["text"]
    assert seen["notAModel"]["hint"] == ""


@pytest.mark.parametrize(("method", "tolerance"), [("layer-cam", TOLERANCE), ("hires-cam", RAW_TOLERANCE)])
def test_a_compiled_file_of_the_user_explains(
    method: str, tolerance: float, seen: Any, pictures: dict[str, str]
) -> None:
    assert seen["own"][method]["file"] == f"{method}.onnx"
    assert_same_map(seen["own"][method], method, pictures["chelsea"], tolerance=tolerance)


def test_a_file_whose_pictures_opencv_resizes_explains(seen: Any, pictures: dict[str, str]) -> None:
    with onnxcam.Explainer(bundled.model(), "grad-cam", adjust=OPENCV) as explainer:
        (result,) = explainer.explain(pictures["chelsea"])
    saliency = np.asarray(seen["own"]["opencv"]["map"]).reshape(result.map.shape)
    assert np.abs(saliency - result.map).max() <= TOLERANCE
    exact, _ = expected("grad-cam", pictures["chelsea"])
    assert np.abs(result.map - exact).max() > 10 * TOLERANCE  # Pillow's filter gives another map


def test_a_score_cam_file_of_the_user_explains_in_one_run_and_the_page_says_so(
    seen: Any, pictures: dict[str, str]
) -> None:
    saliency, index = expected("score-cam", pictures["chelsea"])
    visit = seen["own"]["score-cam"]
    assert visit["target"] == index
    assert np.sqrt(np.square(np.reshape(visit["map"], saliency.shape) - saliency).mean()) <= 0.06
    assert "It sharpens mask by mask" in visit["state"]
    assert "It sharpens" not in seen["own"]["layer-cam"]["state"]


def test_an_assumed_preset_is_said(seen: Any) -> None:
    assert "imagenet is assumed" in seen["own"]["assumed"]["doubt"]
    assert seen["own"]["layer-cam"]["doubt"] == seen["back"]["doubt"] == ""


def test_a_class_that_is_not_likely_is_not_announced(seen: Any) -> None:
    assert seen["unlikely"]["eyebrow"] == "No class is likely. The first is"
    assert seen["unlikely"]["sentence"].startswith("with a probability of only ")


def test_a_picture_that_was_cut_short_is_refused(seen: Any) -> None:
    assert "cut short" in seen["cut"]["text"]


def test_the_way_back_leads_to_the_bundled_file(seen: Any) -> None:
    assert "efficientnet-lite0" in seen["back"]["file"]


def test_the_camera_is_explained_live_and_its_picture_kept(seen: Any) -> None:
    assert seen["live"] == {"visible": True, "classes": 5}
    assert seen["taken"] == {"live": False}


def test_it_works_without_a_network_after_the_first_visit(seen: Any) -> None:
    assert seen["offline"]["answer"] == "espresso"


def test_no_width_scrolls_sideways(seen: Any) -> None:
    assert all(scroll <= int(width) for width, scroll in seen["widths"].items()), seen["widths"]
