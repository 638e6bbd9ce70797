"""Damaged label files, configurations beside a model, and texts in its metadata.

What is read must be what an independent reading of the same text gives; a text with a repeated key has two readings, so
none may be used.
"""

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

from fuzzing.kept import Bounds
from fuzzing.odd import FLOATS, INTEGERS
from fuzzing.odd import TEXTS as ODD
from fuzzing.raw import RAW
from fuzzing.seeds import MODEL, built_in
from fuzzing.subject import Case, Files, Rng, Subject, subject
from fuzzing.verdict import ANSWER, Verdict, Wrong

META = "metadata."
"""Before the key of an entry of a model's metadata."""
STRAY = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HUGGING_FACE = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": MEAN, "image_std": STD, "resample": 2, "size": {"height": 224, "width": 224},
}  # fmt: skip
CLIP = {
    "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}, "do_center_crop": True,
    "crop_size": 224, "resample": 3,
}  # fmt: skip
CONVNEXT = {"image_processor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875}
EFFICIENTNET = {"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True, "include_top": True}
ULTRALYTICS = {
    "task": "detect", "imgsz": "[640, 640]", "names": "{0: 'cat', 1: 'dog'}", "stride": "32",
    "description": "Ultralytics YOLOv8n model",
}  # fmt: skip
TIMM = {
    "architecture": "resnet18", "num_classes": 5, "label_names": ["a", "b", "c", "d", "e"],
    "label_descriptions": {"a": "ant", "b": "bee"}, "pretrained_cfg": {"input_size": [3, 224, 224],
    "test_input_size": [3, 288, 288], "mean": MEAN, "std": STD, "crop_pct": 0.95, "crop_mode": "center",
    "interpolation": "bicubic", "test_crop_pct": 1.0, "labels": None},
}  # fmt: skip
NVINFER = (
    "[property]\nnet-scale-factor=0.0173520735728\noffsets=123.675;116.28;103.53\nmodel-color-format=1\n"
    "infer-dims=3;224;224\nmaintain-aspect-ratio=1\nsymmetric-padding=0\n"
)
PRESET = {
    "name": "mine", "scale": 1 / 255, "mean": MEAN, "std": STD, "color": "rgb", "resize": "shortest", "crop": 0.875,
    "interpolation": "bilinear", "size": [16, 12], "padding": [114.0],
}  # fmt: skip
NAMES = {str(i): name for i, name in enumerate(["cat", "dog", "owl", "été", "犬"])}


def seeds() -> dict[str, Files]:
    values: dict[str, dict[str, Any]] = {
        "labels-text": {"labels.txt": "cat\ndog\nowl\nété\n犬\n"},
        "labels-list": {"labels.json": list(NAMES.values())},
        "labels-object": {"labels.json": NAMES},
        "hugging-face": {
            "preprocessor_config.json": HUGGING_FACE,
            "config.json": {"id2label": NAMES, "architectures": ["V"]},
        },
        "clip": {"preprocessor_config.json": {**HUGGING_FACE, **CLIP}},
        "convnext": {"preprocessor_config.json": {**HUGGING_FACE, **CONVNEXT}},
        "efficientnet": {"preprocessor_config.json": {**HUGGING_FACE, **EFFICIENTNET}},
        "timm": {"config.json": TIMM},
        "timm-old": {"config.json": {"architecture": "x", "input_size": [3, 16, 12], "mean": MEAN, "std": STD}},
        "nvinfer": {"nvinfer_config.txt": NVINFER},
        "preset": {META + "onnxcam.preset": PRESET, META + "onnxcam.labels": list(NAMES.values())},
        "ultralytics": {META + key: value for key, value in ULTRALYTICS.items()},
    }
    return {name: {file: encoded(value) for file, value in files.items()} for name, files in values.items()}


def encoded(value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()


def make(rng: Rng, models: dict[str, Files]) -> Case:
    origin = rng.choice(sorted(models))
    files = dict(models[origin])
    if rng.random() < 0.02:
        return Case(origin, files, must_answer=True)
    changes = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(sorted(files))
        files[name], change = changed(rng, files[name])
        changes.append(f"{name} {change}")
    return Case(origin, files, tuple(changes))


def changed(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """The text after one change: to a value of its JSON, to a number, a line or a byte of it."""
    how = rng.random()
    if how < 0.5:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict | list) and value:
            return with_value(rng, value)
    if how < 0.75:
        text = data.decode("utf-8", "replace")
        places = [m.span() for m in re.finditer(r"-?[\d.]+(e-?\d+)?|\w+|[^\w\s]", text)] or [(0, 0)]
        start, end = rng.choice(places)
        new = rng.choice((*ODD, *map(str, INTEGERS), *map(repr, FLOATS), text[start:end] * 2))
        return (text[:start] + new + text[end:]).encode("utf-8", "replace"), f"has {new[:40]!r} at {start}"
    if how < 0.85:
        lines = data.split(b"\n") if b"\n" in data else data.split(b",")
        rng.shuffle(lines) if rng.random() < 0.3 else lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
        return (b"\n" if b"\n" in data else b",").join(lines), "has a line twice, or its lines in another order"
    if not data:
        return b"\0", "is a null byte"
    return RAW[rng.choice(sorted(set(RAW) - {"nest_deeply", "nest_types"}))](rng, data)


def with_value(rng: Rng, value: Any) -> tuple[bytes, str]:
    """The JSON with one value replaced, gone, renamed or twice."""
    holders: list[Any] = [value]
    for one in holders:
        inner = one.values() if isinstance(one, dict) else one
        holders += [v for v in inner if isinstance(v, dict | list) and v]
    holder = rng.choice(holders)
    key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    odd = (
        *INTEGERS,
        *FLOATS,
        *ODD,
        None,
        True,
        False,
        [],
        {},
        [[]],
        {"": 0},
        [0.5],
        [0.5] * 4,
        [1e300] * 3,
        "1",
        10**400,
    )
    how, new = rng.randrange(6), rng.choice(odd)
    if how <= 2:
        holder[key] = new
    elif how == 3:
        del holder[key]
    elif how == 4 and isinstance(holder, dict):
        holder[rng.choice((*ODD, "do_pad", "size", "mean", "id2label", "0", "-1", "architectures"))] = holder.pop(key)
    elif isinstance(holder, dict):
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        place = text.find(json.dumps(key))
        return (text[:place] + f"{json.dumps(key)}: {json.dumps(new)}, " + text[place:]).encode(), f"has {key!r} twice"
    else:
        holder[key : key + 1] = [holder[key]] * rng.choice((0, 2, 400))
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    ), f"has {str(new)[:40]!r} for {key!r}"


def check(files: Files, folder: Path) -> Verdict:
    from onnxcam.errors import OnnxCamError
    from onnxcam.inputs.labels import find_labels, read_labels
    from onnxcam.inputs.processor_config import find_preset
    from onnxcam.inputs.ultralytics import read_export

    metadata = {}
    for name, data in files.items():
        if name.startswith(META):
            metadata[name.removeprefix(META)] = data.decode("utf-8", "replace")
        else:
            (folder / name).write_bytes(data)
    labels = [name for name in files if name.startswith("labels.")]
    if labels:
        check_labels(read_labels(folder / labels[0]), files[labels[0]], labels[0])
        return ANSWER
    check_names(find_labels(metadata, folder / MODEL))
    export = read_export(metadata)
    if export is not None:
        for classifies in (True, False):
            check_preset(export.preset(classifies=classifies))
    if zlib.crc32(b"".join(files.values())) % 50 == 0:
        explain(metadata, folder)
    try:
        chosen = find_preset(metadata, folder / MODEL, (288, 288))
    except OnnxCamError:
        raise
    if chosen is not None:
        check_preset(chosen[0])
        check_origin(chosen[0], chosen[1].text, files)
    return ANSWER


def check_labels(labels: list[str], data: bytes, name: str) -> None:
    """Raises Wrong unless the labels are those of the file, up to what is not printed."""
    text = data.decode("utf-8-sig")
    if name.endswith(".json"):
        value = json.loads(text, object_pairs_hook=once)
        expected = [value[str(i)] for i in range(len(value))] if isinstance(value, dict) else list(value)
    else:
        expected = text.rstrip().split("\n")
    if len(labels) != len(expected):
        raise Wrong("another number of labels than the file has", len(labels), len(expected))
    for label, original in zip(labels, expected, strict=True):
        if STRAY.search(label) or (not STRAY.search(original) and label != original.strip()):
            raise Wrong("a label is not that of the file", ascii(label), ascii(original))


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises Wrong for a repeated key, which onnxcam has then read."""
    if len(dict(pairs)) != len(pairs):
        raise Wrong("reads JSON with a repeated key")
    return dict(pairs)


def check_names(found: Any) -> None:
    if found is not None and (not found[0] or any(STRAY.search(name) for name in found[0])):
        raise Wrong("labels beside the model that cannot be printed", ascii(found[0])[:300])


def check_preset(preset: Any) -> None:
    """Raises Wrong unless the preset computes finite numbers of every pixel."""
    for mean in preset.mean:
        for std in preset.std:
            for pixel in (0.0, 255.0):
                if not math.isfinite((pixel * preset.scale - mean) / std):
                    raise Wrong("a preset that gives no finite numbers", preset)
    if preset.size is not None and not all(type(side) is int and 1 <= side <= 2**16 for side in preset.size):
        raise Wrong("a preset of an impossible size", preset.size)


def check_origin(preset: Any, origin: str, files: Files) -> None:
    """Raises Wrong if mean and deviation are not those that stand in the file which the preset is said to be of."""
    name = next(
        (n for n in files if origin.startswith(n) or (n == META + "onnxcam.preset" and "onnxcam.preset" in origin)),
        None,
    )
    if name is None or name == "nvinfer_config.txt":
        return
    values = json.loads(files[name].decode("utf-8-sig"), object_pairs_hook=once)
    stored = values.get("pretrained_cfg") or values
    mean = stored.get("image_mean", stored.get("mean"))
    kind = str(stored.get("image_processor_type", ""))
    if mean is None or kind.startswith("EfficientNet") or not stored.get("do_normalize", True):
        return
    if list(preset.mean) not in (mean, [mean], [0.0]):
        raise Wrong("another mean than the file's", preset.mean, mean)


def explain(metadata: dict[str, str], folder: Path) -> None:
    """Opens a model with these texts, and explains a picture with it."""
    import numpy as np
    import onnx

    from onnxcam import Explainer

    model = onnx.ModelProto.FromString(built_in()["cnn"][MODEL])
    for key, value in metadata.items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    onnx.save(model, folder / MODEL)
    with Explainer(folder / MODEL, cache=False, threads=1) as explainer:
        saliency = explainer.explain(np.full((20, 24, 3), 90, np.uint8) + np.arange(24, dtype=np.uint8)[:, None])[0]
    if not np.isfinite(saliency.map).all():
        raise Wrong("a map that is not finite")


subject(Subject("texts", seeds, make, check, Bounds(seconds=20, peak=2**29)))
