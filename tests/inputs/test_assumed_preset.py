"""What is assumed of the preprocessing where nothing says: a crop for class vectors, the whole picture for the rest."""

import onnx.parser
import pytest

from onnxcam.inputs.choices import choose_preset
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Source

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


@pytest.mark.parametrize(
    ("outputs", "nodes", "name"),
    [
        ("float[N,10] y", "p = GlobalAveragePool (x)  f = Flatten (p)  y = Gemm (f, w)", "imagenet"),
        ("float[N,10,1,1] y", "p = GlobalAveragePool (x)  y = Conv (p, k)", "imagenet"),
        ("float[N,10,H,W] y", "y = Conv (x, k)", "imagenet+whole"),
        ("float[N,10,M] y", "m = Conv (x, k)  y = Reshape (m, s)", "imagenet+whole"),
        ("int64[M,3] y", "m = Conv (x, k)  q = Reshape (m, s)  y = NonMaxSuppression (b, q)", "imagenet+whole"),
    ],
)
def test_only_pictures_of_class_vectors_are_cropped(outputs: str, nodes: str, name: str) -> None:
    extra = "float[3,10] w, float[10,3,1,1] k, float[1,4096,4] b"
    text = f"{HEAD} g (float[N,3,64,64] x, {extra}) => ({outputs}) <int64[3] s = {{1, 10, -1}}> {{ {nodes} }}"
    file = read_model(onnx.parser.parse_model(text))
    preset, origin = choose_preset(file, None, find_image(file.model))
    assert (preset.name, origin.source) == (name, Source.ASSUMED)
    assert (preset.crop, preset.resize) == ((1.0, "squash") if "whole" in name else (0.875, "shortest"))
