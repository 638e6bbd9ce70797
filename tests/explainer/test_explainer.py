import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import CLASSIFIER, PIXELS, Make

from onnxcam import BLACK, MEAN, Explainer, OnnxCamError, Preset, blur, score_cam
from onnxcam.errors import (
    InferenceError,
    LabelError,
    ModelError,
    NoSpatialFeatures,
    OptionError,
    PictureError,
    PresetError,
    TargetError,
)
from onnxcam.explainer.heads import Heads
from onnxcam.inputs import bundled
from onnxcam.types import BatchMode, NoteCode, Origin, Source

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
RNG = np.random.default_rng(3)
PHOTOGRAPH = RNG.integers(0, 256, (40, 30, 3)).astype(np.uint8)
LABELS = ["ant", "bee", "cat", "dog", "eel"]


@pytest.fixture
def explainer(classifier: onnx.ModelProto) -> Explainer:
    return Explainer(classifier, score_cam(), providers=["cpu"], preset=PLAIN, labels=LABELS)


def test_the_result_is_a_frozen_map_on_the_models_input(explainer: Explainer) -> None:
    saliency = explainer(PHOTOGRAPH)
    assert saliency.map.shape == (16, 12)
    assert saliency.map.dtype == np.float32
    assert saliency.map.min() == 0
    assert saliency.map.max() == 1
    assert saliency.raw.shape == (4, 3)
    with pytest.raises(ValueError, match="read-only"):
        saliency.map[0, 0] = 1
    with pytest.raises(AttributeError):
        saliency.score = 0.0  # type: ignore[misc]


def test_path_bytes_and_proto_of_the_model_give_the_same_map(
    classifier: onnx.ModelProto, classifier_file: Path
) -> None:
    maps = [
        Explainer(source, preset=PLAIN)(PHOTOGRAPH).map
        for source in (classifier, classifier_file, str(classifier_file), classifier_file.read_bytes())
    ]
    for other in maps[1:]:
        np.testing.assert_array_equal(maps[0], other)


def test_path_array_and_preprocessed_image_give_the_same_map(explainer: Explainer, tmp_path: Path) -> None:
    Image.fromarray(PHOTOGRAPH).save(tmp_path / "photo.png")
    prepared = explainer.prepare(PHOTOGRAPH).image
    from_array = explainer(PHOTOGRAPH)
    np.testing.assert_array_equal(from_array.map, explainer(tmp_path / "photo.png").map)
    preprocessed = explainer(prepared)
    np.testing.assert_array_equal(from_array.map, preprocessed.map)
    assert preprocessed.placement is None
    assert preprocessed.provenance.preset_origin == Origin(Source.PREPARED, "preprocessed by the caller")


def test_a_batch_of_pictures_gives_one_saliency_each(explainer: Explainer) -> None:
    several = np.stack([PHOTOGRAPH, PHOTOGRAPH[::-1]])
    from_array, from_list = explainer.batch(several), explainer.batch(list(several))
    assert len(from_array) == 2
    np.testing.assert_array_equal(from_array[1].map, explainer(PHOTOGRAPH[::-1]).map)
    np.testing.assert_array_equal(from_array[1].map, from_list[1].map)


def test_target_by_index_label_rank_and_text_are_one(explainer: Explainer) -> None:
    best = explainer(PHOTOGRAPH).target
    assert best.label == LABELS[best.index]
    for target in (best.index, str(best.index), best.label, str(best.label).upper(), "top1", None):
        assert explainer(PHOTOGRAPH, target).target == best
    ranked = [explainer(PHOTOGRAPH, f"rank{i}").target.probability for i in range(1, 6)]
    assert ranked == sorted(ranked, reverse=True)
    assert sum(ranked) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, "0 to 4"),
        (-1, "0 to 4"),
        ("99", "0 to 4"),
        ("rank6", "5 classes"),
        ("top0", "5 classes"),
        ("catt", "did you mean cat"),
        (1.5, "not 1.5"),
        (True, "not True"),
    ],
)
def test_targets_that_do_not_exist_are_said(explainer: Explainer, target: object, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        explainer(PHOTOGRAPH, target)  # type: ignore[arg-type]


def test_a_label_without_labels_asks_for_them(classifier: onnx.ModelProto) -> None:
    with pytest.raises(TargetError, match="--labels"):
        Explainer(classifier, preset=PLAIN)(PHOTOGRAPH, "cat")


def test_labels_that_do_not_fit_leave_no_session_open(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Heads] = []
    monkeypatch.setattr(Heads, "close", lambda heads: closed.append(heads))
    with pytest.raises(LabelError):
        Explainer(classifier, preset=PLAIN, providers=["cpu"], labels=["one", "too", "few"])
    assert len(closed) == 1


def test_the_provenance_names_every_choice(explainer: Explainer, classifier: onnx.ModelProto) -> None:
    provenance = explainer.explain(PHOTOGRAPH, name="my photo")[0].provenance
    assert provenance.image == "my photo"
    assert provenance.layer == "features"
    assert provenance.method == "score-cam"
    assert provenance.options == {
        "convention": "constructive",
        "variant": "official",
        "fill": "zero",
        "budget": None,
        "tolerance": None,
    }
    assert provenance.fill == "zero"
    assert provenance.preset.name == "plain"
    assert provenance.provider == "cpu"
    assert provenance.channels.scored + provenance.channels.skipped == provenance.channels.total == 8
    assert provenance.forwards == provenance.channels.scored + 1
    assert {"onnxcam", "onnx", "numpy"} <= set(provenance.versions)
    assert len(provenance.model_sha256) == 64
    json.dumps(provenance.preset.to_json())


def test_the_same_call_gives_the_same_map_bit_for_bit(explainer: Explainer) -> None:
    np.testing.assert_array_equal(explainer(PHOTOGRAPH).map, explainer(PHOTOGRAPH).map)


@pytest.mark.parametrize("fill", [BLACK, MEAN, blur(2.0)])
def test_every_fill_is_blended_in_as_numpy_does_it(classifier: onnx.ModelProto, fill: object) -> None:
    import onnxruntime

    from onnxcam.resampling import upsample

    explainer = Explainer(classifier, score_cam(fill=fill), preset=PLAIN)  # type: ignore[arg-type]
    saliency = explainer(PHOTOGRAPH, 2)
    image = explainer.prepare(PHOTOGRAPH).image
    replacement = fill.make(image, PLAIN)  # type: ignore[attr-defined]
    session = onnxruntime.InferenceSession(classifier.SerializeToString(), providers=["CPUExecutionProvider"])
    exposed = onnx.ModelProto()
    exposed.CopyFrom(classifier)
    exposed.graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, None))
    features = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        ["features"], {"x": image[None]}
    )[0][0]
    total = np.zeros((4, 3))
    for channel in features:
        if channel.max() == channel.min():
            continue
        up = upsample(channel, (16, 12))
        mask = (up - up.min()) / (up.max() - up.min())
        logits = session.run(None, {"x": (image * mask + replacement * (1 - mask))[None].astype(np.float32)})[0][0]
        total += np.exp(logits[2]) / np.exp(logits).sum() * channel
    np.testing.assert_allclose(saliency.raw, total, rtol=1e-4)
    assert saliency.provenance.fill == fill.name  # type: ignore[attr-defined]


def test_eight_threads_share_one_explainer(explainer: Explainer) -> None:
    pictures = [RNG.integers(0, 256, (40, 30, 3)).astype(np.uint8) for _ in range(50)]
    alone = [explainer(p).map for p in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = [s.map for s in pool.map(explainer, pictures)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_closed_explainer_says_so(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, preset=PLAIN) as explainer:
        explainer(PHOTOGRAPH)
    with pytest.raises(InferenceError, match="this explainer is closed"):
        explainer(PHOTOGRAPH)


def test_nothing_is_printed(explainer: Explainer, capfd: pytest.CaptureFixture[str]) -> None:
    explainer(PHOTOGRAPH)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 5, 5), np.uint8), "height, width, 3"),
        (np.zeros((0, 4, 3), np.uint8), "height, width, 3"),
        (np.full((3, 8, 8), -1, np.float32), "shape \\(3, 16, 12\\)"),
        (np.full((16, 12, 3), -1, np.float32), r"numpy.moveaxis\(image, -1, 0\) gives that"),
        (np.full((3, 16, 12), np.nan, np.float32), "NaN"),
    ],
)
def test_arrays_that_fit_nothing_are_refused(explainer: Explainer, image: np.ndarray, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        explainer(image)


def test_metadata_gives_preset_and_labels(classifier: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(classifier)
    for key, value in {"onnxcam.preset": json.dumps(PLAIN.to_json()), "onnxcam.labels": json.dumps(LABELS)}.items():
        model.metadata_props.add(key=key, value=value)
    explainer = Explainer(model)
    assert explainer.preset == PLAIN
    assert explainer.preset_origin == Origin(Source.METADATA, "ONNX metadata onnxcam.preset")
    assert explainer.labels == tuple(LABELS)


def test_without_any_hint_the_assumption_is_stated(classifier: onnx.ModelProto) -> None:
    origin = Explainer(classifier).preset_origin
    assert origin.source is Source.ASSUMED
    assert "assumed" in str(origin)


def test_wrong_options_are_refused(classifier: onnx.ModelProto) -> None:
    with pytest.raises(PresetError, match="did you mean imagenet"):
        Explainer(classifier, preset="imagenett")
    with pytest.raises(PresetError, match="16x12"):
        Explainer(classifier, size=(32, 32))
    with pytest.raises(LabelError, match="2 labels, but the model has 5"):
        Explainer(classifier, labels=["a", "b"])
    with pytest.raises(OptionError, match="sigma"):
        blur(0)
    with pytest.raises(OptionError, match="no target"):
        Explainer(classifier, preset=PLAIN).explain(PHOTOGRAPH, [])


def test_a_fixed_batch_export_gives_the_map_of_a_dynamic_one(classifier: onnx.ModelProto) -> None:
    for fixed in (1, 3):
        model = onnx.ModelProto()
        model.CopyFrom(classifier)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = fixed
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = fixed
        freed = Explainer(model, preset=PLAIN)(PHOTOGRAPH)
        np.testing.assert_allclose(freed.map, Explainer(classifier, preset=PLAIN)(PHOTOGRAPH).map, atol=1e-5)
        assert freed.provenance.batch_mode is BatchMode.REWRITTEN


@pytest.mark.parametrize("broken", ["mixes", "fails"])
def test_an_export_that_only_declares_a_dynamic_batch_is_rewritten(classifier: onnx.ModelProto, broken: str) -> None:
    single = onnx.ModelProto()
    single.CopyFrom(classifier)
    single.graph.node[-1].output[0] = "inner"
    if broken == "mixes":
        single.graph.node.append(onnx.helper.make_node("ReduceMean", ["inner"], ["mean"], axes=[0]))
    else:
        single.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 5]), "one_row"))
        single.graph.node.append(onnx.helper.make_node("Reshape", ["inner", "one_row"], ["mean"]))
    single.graph.node.append(onnx.helper.make_node("Add", ["inner", "mean"], ["logits"]))
    expected = onnx.ModelProto()
    expected.CopyFrom(single)
    expected.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    explainer = Explainer(single, preset=PLAIN, batch=8)
    assert explainer.batching.mode is BatchMode.REWRITTEN
    assert "declares a dynamic batch, but" in explainer.batching.reason
    saliency = explainer(PHOTOGRAPH)
    assert saliency.provenance.batch == 8
    np.testing.assert_allclose(saliency.map, Explainer(expected, preset=PLAIN)(PHOTOGRAPH).map, atol=1e-6)


def test_models_that_need_more_than_a_picture_are_refused(classifier: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(classifier)
    model.graph.input.append(onnx.helper.make_tensor_value_info("meta", onnx.TensorProto.FLOAT, ["N", 5]))
    model.graph.node[-1].output[0] = "inner"
    model.graph.node.append(onnx.helper.make_node("Add", ["inner", "meta"], ["logits"]))
    with pytest.raises(ModelError, match="extra inputs besides the picture: meta"):
        Explainer(model, preset=PLAIN)


def test_every_zoo_model_is_explained_or_refused_with_a_reason(zoo: Path) -> None:
    picture = np.asarray(Image.open(bundled.pictures()["chelsea"]))
    explained = 0
    for path in [*sorted((zoo / "models").glob("pt_gap_mean*")), zoo / "models" / "sk_forest.onnx"]:
        try:
            saliency = Explainer(path, preset="imagenet")(picture)
        except OnnxCamError as error:
            assert str(error)
            assert path.name.startswith("sk_"), error
        else:
            assert np.isfinite(saliency.map).all()
            assert saliency.map.max() == 1
            explained += 1
    assert explained == 8


def test_a_table_model_has_no_spatial_map(zoo: Path) -> None:
    with pytest.raises((NoSpatialFeatures, ModelError)):
        Explainer(zoo / "models" / "sk_logreg_nozipmap.onnx")


def test_pixels_models_refuse_normalised_pictures(make: Make) -> None:
    model = make(PIXELS)
    explainer = Explainer(model)
    assert explainer.preset.name == "raw"
    assert explainer(PHOTOGRAPH).map.max() == 1
    with pytest.raises(PresetError, match="--preset raw"):
        Explainer(model, preset="imagenet")(PHOTOGRAPH)


def test_black_is_refused_where_it_is_not_known(classifier: onnx.ModelProto) -> None:
    explainer = Explainer(classifier, score_cam(fill=BLACK))
    with pytest.raises(OptionError, match="black"):
        explainer(np.zeros((3, 16, 12), np.float32))


def test_other_types_of_pictures_are_refused(explainer: Explainer) -> None:
    for wrong in ([1, 2], 3, object()):
        with pytest.raises(PictureError, match="a path, bytes, an image or an array"):
            explainer(wrong)  # type: ignore[arg-type]


def test_an_assumed_size_is_noted(make: Make) -> None:
    text = CLASSIFIER.replace("float[N,3,16,12] x", "float[N,3,H,W] x")
    saliency = Explainer(make(text), preset=PLAIN)(PHOTOGRAPH)
    assert saliency.map.shape == (224, 224)
    note = saliency.provenance.notes[0]
    assert note.code is NoteCode.SIZE_ASSUMED
    assert "224x224 (HxW) assumed" in note.text
    assert Explainer(make(text), preset=PLAIN, size=(40, 64))(PHOTOGRAPH).map.shape == (40, 64)


def test_a_result_keeps_the_file_of_a_photograph_and_a_copy_of_what_came_from_memory(
    explainer: Explainer, tmp_path: Path
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(picture).save(path)
    for image in (path, str(path)):
        assert explainer(image).picture == path
    for image in (picture, path.read_bytes(), Image.open(path)):
        one = explainer(image)
        np.testing.assert_array_equal(one.picture, picture)
        np.testing.assert_array_equal(one.overlay(), explainer(path).overlay())
    kept = explainer(picture)
    picture[:] = 0  # the next frame of a camera
    assert isinstance(kept.picture, np.ndarray)
    assert kept.picture.any()
    prepared = explainer.prepare(path).image
    np.testing.assert_array_equal(explainer(prepared).picture, prepared)
    assert explainer(prepared).overlay().shape[2] == 3
