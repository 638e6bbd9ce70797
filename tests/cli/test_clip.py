"""`explain` of a network over frames."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import onnxcam_here
from PIL import Image
from small_models import filled

FRAMES = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4,3,20,16] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,5] v, int64[4] fold = {-1, 3, 20, 16}, int64[3] clip = {-1, 4, 8}>
{
  r = Reshape (x, fold)
  c = Conv <pads=[1,1,1,1], strides=[2,2]> (r, w)
  f = Relu (c)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
  q = Reshape (p, clip)
  m = ReduceMean <axes=[1], keepdims=0> (q)
  logits = MatMul (m, v)
}"""


@pytest.mark.slow
def test_an_animation_becomes_a_sheet_with_a_map_of_each_frame(tmp_path: Path) -> None:
    onnx.save(filled(FRAMES), tmp_path / "clip.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 30, 3)).astype(np.uint8)
    pictures = [Image.fromarray(frame) for frame in pixels]
    pictures[0].save(tmp_path / "walk.gif", save_all=True, append_images=pictures[1:])
    done = onnxcam_here("explain", "clip.onnx", "walk.gif", "--format", "png,npy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "preprocessing imagenet (assumed" in done.stdout
    assert "has 6 frames and the model takes 4; explained: 0, 2, 3, 5" in done.stdout
    assert np.load(tmp_path / "walk.score-cam.npy").shape == (4, 20, 16)
    assert Image.open(tmp_path / "walk.score-cam.png").width > 2 * 16
    single = onnxcam_here("explain", "clip.onnx", "walk.gif", "--json", "--target", "1", cwd=tmp_path)
    (record,) = json.loads(single.stdout)
    assert record["layer"]["shape"] == [8, 4, 10, 8]


def test_a_single_picture_is_refused_with_a_way_out(tmp_path: Path) -> None:
    onnx.save(filled(FRAMES), tmp_path / "clip.onnx")
    Image.new("RGB", (30, 40)).save(tmp_path / "photo.png")
    done = onnxcam_here("explain", "clip.onnx", "photo.png", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: photo.png: a single picture, and the model takes clips of 4 frames; give an")
