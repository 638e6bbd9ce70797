"""The command line as a person or a program meets it: in a process of its own, from the words to the exit code."""

import json
import os
import subprocess
import sys
from importlib.resources import files as files_of
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import files, onnxcam, onnxcam_here
from jsonschema import Draft202012Validator
from PIL import Image
from small_models import CLASSIFIER, TWO_SCALES, filled

from onnxcam.inputs import bundled

LABELS = ["ant", "bee", "cat", "dog", "eel"]


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    """tiny.onnx, labels.txt and photo.png (40 high, 30 wide)."""
    onnx.save(classifier, tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path


def test_explain_writes_the_overlay_and_says_what_it_did(folder: Path) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", "--labels", "labels.txt", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert Image.open(folder / "photo.score-cam.png").width >= 30
    for word in ("photo.score-cam.png", "class", "probability", "features", "GlobalAveragePool"):
        assert word in done.stdout
    for word in ("provider      cpu", "imagenet (assumed", "scored", "skipped", " s, "):
        assert word in done.stdout
    assert done.stderr == ""


def test_json_is_all_there_is_on_standard_output(folder: Path) -> None:
    done = onnxcam_here(
        "explain", "tiny.onnx", "photo.png", "--json", "--format", "png,npy,json", "--target", "top1,3", cwd=folder
    )
    records = json.loads(done.stdout)
    assert len(records) == 2
    schema = Draft202012Validator(json.loads(files_of("onnxcam.outputs").joinpath("record.schema.json").read_text()))
    for record in records:
        schema.validate(record)
        assert "raw" not in record["map"]
        assert len(record["outputs"]) == 3
        assert all((folder / o).is_file() for o in record["outputs"])
    assert records[1]["target"]["index"] == 3
    saved = np.load(folder / next(o for o in records[0]["outputs"] if o.endswith(".npy")))
    assert saved.shape == (16, 12)
    assert saved.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "UTF8"])
def test_json_is_json_in_every_encoding_of_standard_output(folder: Path, encoding: str) -> None:
    name = "é\N{GRINNING FACE}.png"
    (folder / "photo.png").rename(folder / name)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "onnxcam", "explain", "tiny.onnx", name, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode(encoding))[0]["image"] == name
    assert done.stdout.isascii() is not encoding.lower().startswith("utf")


def test_the_probability_of_a_single_output_is_called_a_sigmoid(folder: Path) -> None:
    onnx.save(
        filled(
            CLASSIFIER.replace("N,5]", "N,1]").replace("w3, float[5] b3", "w3, float[1] b3").replace("[5,8]", "[1,8]")
        ),
        folder / "one.onnx",
    )
    done = onnxcam_here("explain", "one.onnx", "photo.png", "-m", "grad-cam", cwd=folder)
    assert "(sigmoid of the logit)" in done.stdout, done.stderr
    assert "softmax" not in done.stdout


def test_several_pictures_and_targets_never_share_a_file(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "photo.png").write_bytes((folder / "photo.png").read_bytes())
    words = ["explain", "tiny.onnx", "a/photo.png", "b", "photo.png", "--target", "top1", "--target", "rank2"]
    done = onnxcam_here(*words, "-o", "out/", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert len(list((folder / "out").iterdir())) == 6


def test_an_output_file_is_named_as_asked(folder: Path) -> None:
    assert onnxcam_here("explain", "tiny.onnx", "photo.png", "-o", "deep/map.npy", cwd=folder).returncode == 0
    assert np.load(folder / "deep" / "map.npy").max() == 1


def test_explicit_preprocessing_overrides_and_is_reported(folder: Path) -> None:
    words = ["--mean", "0.5", "--std", "0.25,0.25,0.25", "--scale", "1/255", "--crop", "none", "--color", "bgr"]
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", "--json", *words, cwd=folder)
    record = json.loads(done.stdout)[0]
    preset = record["preset"]
    assert preset["origin"]["source"] == "assumed"
    assert preset["origin"]["text"].endswith("then single settings were changed")
    assert preset["name"] == "imagenet+custom"
    assert (preset["mean"], preset["color"], preset["crop"]) == ([0.5], "bgr", 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "resize", "crop", "hidden"),
    [
        (["--resize", "letterbox"], "letterbox", 1.0, 0.0),
        (["--resize", "letterbox-corner", "--padding", "0"], "letterbox-corner", 1.0, 0.0),
        (["--resize", "letterbox", "--whole"], "letterbox", 1.0, 0.0),
        (["--whole"], "squash", 1.0, 0.0),
        (["--whole", "--crop", "none"], "squash", 1.0, 0.0),
        (["--resize", "squash"], "squash", 0.875, None),
    ],
)
def test_the_whole_picture_is_explained_squashed_or_in_a_letterbox(
    folder: Path, words: list[str], resize: str, crop: float, hidden: float | None
) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", "--json", *words, cwd=folder)
    record = json.loads(done.stdout)[0]
    assert (record["preset"]["resize"], record["preset"]["crop"]) == (resize, crop)
    assert record["map"]["hidden"] == hidden if hidden is not None else record["map"]["hidden"] > 0
    if "--padding" in words:
        assert record["preset"]["padding"] == [0.0]


@pytest.mark.slow
def test_the_first_line_and_the_record_say_that_the_preset_is_only_assumed(folder: Path) -> None:
    first = onnxcam_here("explain", "tiny.onnx", "photo.png", cwd=folder).stdout.splitlines()[0]
    assert "preprocessing assumed: imagenet" in first
    (record,) = json.loads(onnxcam_here("explain", "tiny.onnx", "photo.png", "--json", cwd=folder).stdout)
    assert record["caption"]["detail"].endswith("imagenet assumed")
    words = ["explain", "tiny.onnx", "photo.png", "--preset", "imagenet", "-o", "said.png"]
    assert "assumed" not in onnxcam_here(*words, cwd=folder).stdout
    assert "assumed" not in json.loads(onnxcam_here(*words, "--json", cwd=folder).stdout)[0]["caption"]["detail"]


@pytest.mark.slow
def test_the_summary_says_what_the_crop_hid_and_how_to_see_it(folder: Path) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", cwd=folder)
    hidden = json.loads(onnxcam_here("explain", "tiny.onnx", "photo.png", "--json", cwd=folder).stdout)[0]["map"][
        "hidden"
    ]
    assert f"hid {hidden:.0%} of the picture; --whole" in done.stdout
    whole = onnxcam_here("explain", "tiny.onnx", "photo.png", "--whole", "-o", "whole.png", cwd=folder)
    assert whole.returncode == 0
    assert "--whole" not in whole.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--whole", "--crop", "0.9"], "--whole cuts nothing"),
        (["--whole", "--resize", "shortest"], "--whole cuts nothing"),
        (["--padding", "0"], "give --resize letterbox"),
        (["--resize", "letterbox", "--padding", "300"], "from 0 to 255"),
        (["--resize", "letterbox", "--crop", "0.5"], "a letterbox shows the whole picture"),
        (["--resize", "boxed"], "resize 'boxed' is unknown"),
    ],
)
def test_ways_to_fit_a_picture_that_contradict_each_other_are_refused(
    folder: Path, words: list[str], message: str
) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", *words, cwd=folder)
    assert done.returncode == 1
    assert message in done.stderr


def test_layer_convention_variant_and_fill_reach_the_record(folder: Path) -> None:
    words = ["--layer", "last-conv", "--convention", "destructive", "--variant", "paper", "--fill", "blur"]
    done = onnxcam_here(
        "explain", "tiny.onnx", "photo.png", "--json", *words, "--batch", "2", "--threads", "1", cwd=folder
    )
    record = json.loads(done.stdout)[0]
    assert record["layer"]["tensor"] == "c2"
    method = record["method"]
    assert method["options"] == {
        "convention": "destructive",
        "variant": "paper",
        "fill": "blur(sigma=10)",
        "budget": None,
        "tolerance": None,
    }
    assert method["fill"] == "blur(sigma=10)"
    assert record["batch"]["size"] == 2


def test_inspect_tells_what_was_chosen_and_what_lost(folder: Path) -> None:
    record = json.loads(onnxcam_here("inspect", "tiny.onnx", "--json", cwd=folder).stdout)
    assert record["inputs"][0]["shape"] == ["N", 3, 16, 12]
    assert record["opset"] == 17
    assert record["features"]["tensor"] == "features"
    assert record["features"]["shape"] == [1, 8, 4, 3]
    assert record["logits"] == record["logits"] | {"tensor": "logits", "activation": "none"}
    assert record["candidates"][0]["tensor"] == "c2"
    assert record["batch"]["mode"] == "dynamic"
    page = onnxcam_here("inspect", "tiny.onnx", cwd=folder).stdout
    assert "GlobalAveragePool" in page
    assert "not chosen" in page


def test_inspect_lists_the_scales_of_a_detector(folder: Path) -> None:
    onnx.save(filled(TWO_SCALES), folder / "detector.onnx")
    record = json.loads(onnxcam_here("inspect", "detector.onnx", "--json", cwd=folder).stdout)
    scales = [(scale["tensor"], scale["shape"], scale["rows"]) for scale in record["scales"]]
    assert scales == [("fine", [1, 8, 4, 4], [[0, 16]]), ("coarse", [1, 8, 2, 2], [[16, 20]])]
    page = onnxcam_here("inspect", "detector.onnx", cwd=folder).stdout
    assert "scale       fine  1x8x4x4 NCHW" in page
    assert "boxes 16 to 19" in page


def test_rewrite_adds_the_features_and_keeps_the_logits(folder: Path) -> None:
    import onnxruntime

    done = onnxcam_here("rewrite", "tiny.onnx", "-o", "tiny.cam.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(onnx.load(folder / "tiny.cam.onnx"), full_check=True)
    before, after = (onnxruntime.InferenceSession(folder / n) for n in ("tiny.onnx", "tiny.cam.onnx"))
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 12)).astype(np.float32)
    logits, features = after.run(None, {"x": x})
    np.testing.assert_array_equal(before.run(None, {"x": x})[0], logits)
    assert features.shape == (2, 8, 4, 3)


TWO_HEADS = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,5] fine, float[N,4] coarse)
<float[8,3,3,3] w, float[6,8,3,3] u, float[8,4] v, float[6,5] r>
{
  a = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  b = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (a, u)
  p = ReduceMean <axes=[2,3], keepdims=0> (a)
  q = ReduceMean <axes=[2,3], keepdims=0> (b)
  coarse = MatMul (p, v)
  fine = MatMul (q, r)
}
"""


@pytest.mark.slow
def test_output_is_the_models_output_and_out_the_file(folder: Path) -> None:
    onnx.save(filled(TWO_HEADS), folder / "two.onnx")
    for output, features in (("fine", "b"), ("coarse", "a")):
        words = ["two.onnx", "--output", output]
        written = onnxcam_here("rewrite", *words, "--out", f"{output}.onnx", cwd=folder)
        assert written.returncode == 0, written.stderr
        assert [o.name for o in onnx.load(folder / f"{output}.onnx").graph.output] == ["fine", "coarse", features]
        record = json.loads(onnxcam_here("inspect", *words, "--json", cwd=folder).stdout)
        assert (record["logits"]["output"], record["features"]["tensor"]) == (output, features)
        done = onnxcam_here("explain", "two.onnx", "photo.png", *words[1:], "-o", f"{output}/", "--json", cwd=folder)
        assert json.loads(done.stdout)[0]["layer"]["tensor"] == features
    wrong = onnxcam_here("rewrite", "two.onnx", "--output", "two.cam.onnx", cwd=folder)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "fine, coarse" in wrong.stderr
    assert not (folder / "two.cam.onnx").exists()
    assert onnxcam_here("demo", "--output", "demo/", cwd=folder).returncode == 2


def test_the_rewriting_tool_does_the_same(folder: Path) -> None:
    tool = Path(__file__).parents[2] / "tools" / "rewrite.py"
    subprocess.run([sys.executable, tool, "tiny.onnx", "-o", "tool.onnx", "--quiet"], cwd=folder, check=True)
    onnxcam_here("rewrite", "tiny.onnx", "-o", "command.onnx", cwd=folder)
    assert (folder / "tool.onnx").read_bytes() == (folder / "command.onnx").read_bytes()


@pytest.mark.slow
def test_demo_explains_the_embedded_photographs(tmp_path: Path) -> None:
    done = onnxcam_here("demo", "--json", cwd=tmp_path)
    records = json.loads(done.stdout)
    assert [Path(r["image"]).stem for r in records] == ["chelsea", "coffee"]
    assert records[1]["target"]["label"] == "espresso"
    assert files(tmp_path) == {"chelsea.score-cam.png", "coffee.score-cam.png"}
    fast = json.loads(onnxcam_here("demo", "--fast", "--overwrite", "--json", cwd=tmp_path).stdout)
    assert [r["target"]["label"] for r in fast] == [r["target"]["label"] for r in records]
    for few, all_ in zip(fast, records, strict=True):
        assert few["passes"]["forward"] < all_["passes"]["forward"] / 3
        assert few["error"] <= 0.02


def damaged_models(folder: Path) -> None:
    data = (folder / "tiny.onnx").read_bytes()
    (folder / "truncated.onnx").write_bytes(data[: len(data) // 2])
    (folder / "text.onnx").write_text("this is not a model")
    opset = onnx.load(folder / "tiny.onnx")
    opset.opset_import[0].version = 999
    (folder / "opset.onnx").write_bytes(opset.SerializeToString())
    domain = onnx.load(folder / "tiny.onnx")
    domain.graph.node[1].domain = "my.company"
    (folder / "domain.onnx").write_bytes(domain.SerializeToString())
    flat = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4,4] x) => (float[1,48] y) { y = Flatten (x) }'
    )
    onnx.save(flat, folder / "flat.onnx")
    onnx.save(
        onnx.load(folder / "tiny.onnx"), folder / "external.onnx", save_as_external_data=True, location="gone.bin",
        size_threshold=0,
    )  # fmt: skip
    (folder / "gone.bin").unlink()
    escaping = onnx.load(folder / "external.onnx", load_external_data=False)
    for tensor in escaping.graph.initializer:
        tensor.external_data[0].value = "../../etc/hostname"
    (folder / "escaping.onnx").write_bytes(escaping.SerializeToString())


def damaged_pictures(folder: Path) -> None:
    data = (folder / "photo.png").read_bytes()
    (folder / "truncated.png").write_bytes(data[: len(data) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data[33:])
    (folder / "nothing").mkdir()


BAD = [
    ("none.onnx photo.png", "no such model file"),
    ("tiny.onnx none.png", "none.png"),
    ("tiny.onnx text.png", "text.png"),
    ("tiny.onnx truncated.png", "truncated.png"),
    ("tiny.onnx empty.png", "empty.png"),
    ("tiny.onnx huge.png", "huge.png"),
    ("tiny.onnx nothing", "no pictures"),
    ("text.onnx photo.png", "not an ONNX model"),
    ("truncated.onnx photo.png", "not an ONNX model"),
    ("opset.onnx photo.png", "opset 999"),
    ("domain.onnx photo.png", "my.company"),
    ("flat.onnx photo.png", "no spatial feature map"),
    ("external.onnx photo.png", "gone.bin"),
    ("escaping.onnx photo.png", "outside the model's folder"),
    ("tiny.onnx photo.png --layer featurez", "did you mean features"),
    ("tiny.onnx photo.png --target 5", "0 to 4"),
    ("tiny.onnx photo.png --target cta --labels labels.txt", "did you mean cat"),
    ("tiny.onnx photo.png --target top9", "rank6 does not exist: the model has 5 classes"),
    ("tiny.onnx photo.png --preset imagenett", "did you mean imagenet"),
    ("tiny.onnx photo.png --providers cudaa", "did you mean cuda"),
    ("tiny.onnx photo.png --target top0", "top0 does not exist: ranks count from 1"),
    ("tiny.onnx photo.png --target ant,bee --labels labels.txt", "repeat --target for several labels"),
    ("tiny.onnx photo.png --target ant,bee", "repeat --target for several labels"),
    ("tiny.onnx photo.png --layer logits", "is not a spatial feature map; the last that are: r1, c2, features"),
    ("tiny.onnx https://example.org/a.png", "https://example.org/a.png: nothing is fetched: download it first"),
    ("https://example.org/m.onnx photo.png", "https://example.org/m.onnx: nothing is fetched: download it first"),
    ("nothing photo.png", "nothing: cannot be read: it is a folder, not a model; give the .onnx file"),
    ("tiny.onnx photo.png --providers gpu", "no provider is called 'gpu'; did you mean cuda?"),
    ("tiny.onnx photo.png --providers tensorrt", "not in the installed onnxruntime"),
    ("tiny.onnx photo.png --labels none.txt", "none.txt"),
    ("tiny.onnx photo.png --labels short.txt", "2 labels, but the model has 5"),
    ("tiny.onnx photo.png --fill blurr", "did you mean blur"),
    ("tiny.onnx photo.png --convention destruct", "did you mean destructive"),
    ("tiny.onnx photo.png --variant x", "official"),
    ("tiny.onnx photo.png --colormap turboo", "turbo"),
    ("tiny.onnx photo.png --alpha 2", "alpha"),
    ("tiny.onnx photo.png --format gif", "unknown format 'gif'"),
    ("tiny.onnx photo.png --mean a,b", "not a finite number"),
    ("tiny.onnx photo.png --mean= --std=1", "number"),
    ("tiny.onnx photo.png --mean 1,2", "mean"),
    ("tiny.onnx photo.png --size 0", "size"),
    ("tiny.onnx photo.png --size 64", "16x12"),
    ("tiny.onnx photo.png --layout abcd", "NCHW"),
    ("tiny.onnx photo.png --batch 0", "batch"),
    ("tiny.onnx photo.png --threads 0", "threads"),
    ("tiny.onnx photo.png -o photo.png", "photo.png"),
    ("tiny.onnx photo.png -o /proc/onnxcam/out.png", "cannot write"),
    ("tiny.onnx photo.png -o labels.txt/out.png", "cannot write"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "message"), BAD, ids=[w for w, _ in BAD])
def test_bad_input_is_one_or_two_lines_and_leaves_no_trace(folder: Path, words: str, message: str) -> None:
    damaged_models(folder)
    damaged_pictures(folder)
    (folder / "short.txt").write_text("a\nb\n")
    (folder / "photo.score-cam.png").write_bytes(b"what was there before")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = onnxcam_here("explain", *words.split(), cwd=folder)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) <= 2
    assert done.stdout == ""
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "words",
    [["photo.png", "text.png"], ["photo.png", "photo2.png", "--target", "dog", "--labels", "labels.txt", "text.png"]],
)
def test_the_first_error_ends_the_run_and_keeps_the_pictures_before(folder: Path, words: list[str]) -> None:
    damaged_pictures(folder)
    (folder / "photo2.png").write_bytes((folder / "photo.png").read_bytes())
    target = ".dog" if "--target" in words else ""
    written = {f"{Path(w).stem}{target}.score-cam.png" for w in words if w.startswith("photo")}
    before = files(folder)
    done = onnxcam_here("explain", "tiny.onnx", *words, "--json", cwd=folder)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"{len(written)} of {len(written) + 1} pictures w" in done.stderr
    assert files(folder) == before | written
    *records, last = json.loads(done.stdout)
    assert [record["outputs"] for record in records] == [[name] for name in sorted(written)]
    assert last["error"]["message"] in done.stderr


def test_keep_going_skips_what_cannot_be_read_and_says_so(folder: Path) -> None:
    damaged_pictures(folder)
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", "text.png", "--keep-going", cwd=folder)
    assert done.returncode == 1
    assert "skipped 1 of 2 pictures:" in done.stderr
    assert (folder / "photo.score-cam.png").is_file()


@pytest.mark.slow
def test_pictures_that_go_together_keep_their_order_their_files_and_their_errors(folder: Path) -> None:
    damaged_pictures(folder)
    names = ["1.png", "2.png", "text.png", "3.png", "4.png"]
    for i in (1, 2, 3, 4):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    done = onnxcam_here(
        "explain", "tiny.onnx", *names, "--keep-going", "--json", "--fast", "-o", "together/", cwd=folder
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: skipped 1 of 5 pictures:\n  ")
    assert done.stderr.count("text.png") == 1
    *records, failure = json.loads(done.stdout)
    assert failure["error"]["type"] == "SkippedPictures"
    assert [record["image"] for record in records] == ["1.png", "2.png", "3.png", "4.png"]
    for record in records:
        alone = onnxcam_here("explain", "tiny.onnx", record["image"], "--fast", "-o", "alone/", cwd=folder)
        assert alone.returncode == 0
        name = Path(record["outputs"][0]).name
        assert (folder / "together" / name).read_bytes() == (folder / "alone" / name).read_bytes()
    stopped = onnxcam_here("explain", "tiny.onnx", *names, "-o", "before/", cwd=folder)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("error: text.png: ")
    assert stopped.stderr.endswith("; 2 of 5 pictures were written (--keep-going leaves such a picture out)\n")
    assert files(folder / "before") == {"1.score-cam.png", "2.score-cam.png"}
    broken = onnxcam_here("explain", "tiny.onnx", "text.png", "empty.png", "-o", "none/", "--keep-going", cwd=folder)
    assert broken.returncode == 1
    assert not (folder / "none").exists()
    assert "skipped 2 of 2 pictures:" in broken.stderr
    assert [
        line.count(name) for line, name in zip(broken.stderr.splitlines()[1:], ("text.png", "empty.png"), strict=True)
    ] == [1, 1]
    unknown = onnxcam_here("explain", "tiny.onnx", "1.png", "2.png", "--target", "99", "--keep-going", cwd=folder)
    assert unknown.stderr.startswith("error: ")
    assert [unknown.stderr.count(what) for what in ("\n", "99", "1.png")] == [1, 1, 0], "once, before any picture"
    both = onnxcam_here("explain", "tiny.onnx", "nowhere.png", "1.png", "--target", "99", "--keep-going", cwd=folder)
    assert both.stderr == unknown.stderr
    missing = onnxcam_here("explain", "tiny.onnx", "nowhere.png", "nor.png", "--keep-going", cwd=folder)
    assert [line.split(":")[0].strip() for line in missing.stderr.splitlines()] == ["error", "nowhere.png", "nor.png"]


def test_no_onnxruntime_names_both_commands(folder: Path) -> None:
    (folder / "onnxruntime.py").write_text("raise ImportError('not here')")
    done = onnxcam("explain", "tiny.onnx", "photo.png", cwd=folder, env={"PYTHONPATH": str(folder)})
    assert done.returncode == 1
    assert "not here" in done.stderr
    assert "onnxcam[cpu]" in done.stderr
    assert "onnxcam[gpu]" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "photo.png", "tiny.onnx"], "the model comes first"),
        (["explain", "tiny.onnx", ""], "empty"),
        (["explain", "tiny.onnx", "photo.png", "--target", ""], "a target is empty"),
        (["explain", "", "photo.png"], "empty"),
        (["rewrite", "tiny.onnx", "-o", ""], "empty"),
        (["explain", "tiny.onnx", "photo.png", "--layout", ""], "NCHW"),
        (["explain", "tiny.onnx", "photo.png", "--threads", "99999999999"], "threads"),
        (["explain", "tiny.onnx", "photo.png", "--target", "9" * 5000], "5000 characters"),
        (["explain", "tiny.onnx", "photo.png", "--providers", "auto,cpu"], "stands alone"),
        (["inspect", "tiny.onnx", "--size", "3"], "16x12"),
    ],
)
def test_slips_of_the_hand_are_told(folder: Path, words: list[str], message: str) -> None:
    done = onnxcam_here(*words, cwd=folder)
    assert done.returncode == 1, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_can_be_explained_twice(folder: Path) -> None:
    assert onnxcam_here("explain", "tiny.onnx", ".", "--quiet", cwd=folder).returncode == 0
    again = onnxcam_here("explain", "tiny.onnx", ".", "--json", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert [r["image"] for r in json.loads(again.stdout)] == ["photo.png"]


def test_rewrite_into_a_folder_that_is_made(folder: Path) -> None:
    assert onnxcam_here("rewrite", "tiny.onnx", "-o", "new/", "--quiet", cwd=folder).returncode == 0
    assert (folder / "new" / "tiny.cam.onnx").is_file()


def test_the_model_is_not_overwritten_by_its_rewriting(folder: Path) -> None:
    before = (folder / "tiny.onnx").read_bytes()
    done = onnxcam_here("rewrite", "tiny.onnx", "-o", "tiny.onnx", cwd=folder)
    assert done.returncode == 1
    assert (folder / "tiny.onnx").read_bytes() == before


@pytest.mark.slow
def test_imagenets_labels_are_at_hand_by_name(tmp_path: Path) -> None:
    bare = onnx.load(bundled.model())
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    words = ["--labels", "imagenet", "--preset", "efficientnet-lite", "--target", "espresso", "--json"]
    done = onnxcam_here("explain", "bare.onnx", bundled.pictures()["coffee"], *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["target"]["index"] == 967


def test_keep_going_also_skips_a_url_and_a_picture_that_ends_early(folder: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2] + content[-2:])
    address = "https://example.org/a.png"
    words = ("photo.png", address, "cut.jpg", "whole.jpg")
    done = onnxcam_here("explain", "tiny.onnx", *words, "-o", "going/", "--keep-going", cwd=folder)
    assert done.returncode == 1
    assert {path.name for path in (folder / "going").iterdir()} == {"photo.score-cam.png", "whole.score-cam.png"}
    assert "skipped 2 of 4 pictures" in done.stderr
    assert f"{address}: nothing is fetched: download it first" in done.stderr
    assert "cut.jpg: damaged or cut short (a part of the pixels is missing)" in done.stderr


def test_keep_going_also_skips_what_is_not_there(folder: Path) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "nowhere.png", "photo.png", "-o", "kept/", "--keep-going", cwd=folder)
    assert done.returncode == 1
    assert "skipped 1 of 2 pictures:" in done.stderr
    assert [p.name for p in (folder / "kept").iterdir()] == ["photo.score-cam.png"]


def test_a_layout_that_the_shape_contradicts_is_told(folder: Path) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", "--layout", "nhwc", cwd=folder)
    assert "layout NHWC does not fit the input 'x' of shape" in done.stderr
