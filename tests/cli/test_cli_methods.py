"""Methods on the command line: their list, their options, and methods of other packages."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import onnxcam, onnxcam_here
from PIL import Image
from small_models import filled

from onnxcam.inputs.bundled import model as embedded
from onnxcam.methods import METHODS

EMBEDDED = str(embedded())

QUICK = {
    "rise": ["masks=20"], "mask": ["max_iter=5"], "opti-cam": ["max_iter=5"], "smooth-grad": ["samples=3"],
    "integrated-gradients": ["steps=8"],
}  # fmt: skip
WITHOUT_RULE = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,5] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  f = ReduceProd <axes=[2,3], keepdims=0> (c)
  p = ReduceMean <axes=[2,3], keepdims=0> (c)
  q = Add (f, p)
  logits = MatMul (q, v)
}
"""


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    """tiny.onnx and photo.png."""
    onnx.save(classifier, tmp_path / "tiny.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path


def test_the_list_names_every_method_with_what_it_needs_and_costs(folder: Path) -> None:
    listed = json.loads(onnxcam_here("methods", "--json", cwd=folder).stdout)
    assert [m["name"] for m in listed] == list(METHODS)
    assert {m["origin"] for m in listed} == {"onnxcam"}
    by_name = {m["name"]: m for m in listed}
    assert by_name["grad-cam"]["needs"] == ["features", "gradient", "tail"]
    assert by_name["score-cam"]["needs"] == ["features"]
    assert by_name["opti-cam"]["options"]["max_iter"] == 100
    assert all(m["paper"] and m["cost"] and m["summary"] for m in listed)
    page = onnxcam_here("methods", cwd=folder).stdout
    assert all(name in page for name in METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_from_the_command_line(name: str, folder: Path) -> None:
    options = [word for option in QUICK.get(name, []) for word in ("--option", option)]
    words = ["explain", "tiny.onnx", "photo.png", "--method", name, *options, "--format", "npy,json"]
    done = onnxcam_here(*words, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["method"]["name"] == name
    for option in QUICK.get(name, []):
        key, _, value = option.partition("=")
        assert record["method"]["options"][key] == int(value)
    saved = np.load(folder / f"photo.{name}.npy")
    assert saved.shape == (16, 12)
    assert saved.max() == 1
    assert saved.min() == 0


def test_a_pair_of_numbers_is_an_option_too(folder: Path) -> None:
    words = [
        "--method",
        "opti-cam",
        "--option",
        "bounds=0,1",
        "--option",
        "score=probability",
        "--option",
        "max_iter=2",
    ]
    (record,) = json.loads(onnxcam_here("explain", "tiny.onnx", "photo.png", *words, "--json", cwd=folder).stdout)
    options = record["method"]["options"]
    assert (options["bounds"], options["score"]) == ([0, 1], "probability")
    assert record["passes"]["gradient"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "grad-camm"], "no method is called 'grad-camm'; did you mean grad-cam"),
        (["--method", ""], "no method is called ''"),
        (["--method", "grad-cam", "--convention", "destructive"], "grad-cam has no option 'convention'; it has none"),
        (["--method", "rise", "--variant", "paper"], "rise has no option 'variant'; it has masks, cells"),
        (["--method", "opti-cam", "--option", "max_iter"], "give NAME=VALUE"),
        (["--method", "opti-cam", "--option", "max_iter=2", "--option", "max-iter=3"], "each name once"),
        (["--method", "opti-cam", "--option", "max_iter=many"], "the option max_iter is a number, not 'many'"),
        (["--method", "opti-cam", "--option", "max_iter=1.5"], "max_iter must be a whole number"),
        (["--method", "opti-cam", "--option", "lr=-1"], "lr must be above 0"),
        (["--method", "opti-cam", "--option", "bounds=1,0"], "bounds are two numbers, the lower one first"),
        (
            ["--method", "opti-cam", "--option", "iterations=3"],
            "opti-cam has no option 'iterations'; it has convention",
        ),
        (["--step", "tiny.onnx"], "score-cam searches without gradients of masks"),
        (["--method", "opti-cam", "--step", "tiny.onnx"], "the step graph must take onnxcam/image"),
        (["--method", "opti-cam", "--step", "absent.onnx"], "absent.onnx: no such model file"),
        (["--method", "opti-cam", "--step", "photo.png"], "photo.png"),
        (["--method", "opti-cam", "--step", "tiny.onnx", "--fill", "mean"], "a step graph fills"),
    ],
)
def test_slips_are_errors_of_a_line_and_nothing_is_written(words: list[str], message: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", *words, cwd=folder)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == ""
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_an_operator_without_a_rule_is_named_with_the_methods_that_work(folder: Path) -> None:
    onnx.save(filled(WITHOUT_RULE), folder / "odd.onnx")
    done = onnxcam_here("explain", "odd.onnx", "photo.png", "--method", "grad-cam", "--layer", "c", cwd=folder)
    assert done.returncode == 1
    assert "ReduceProd-18" in done.stderr
    assert "without gradients work: score-cam" in done.stderr
    assert (
        onnxcam_here(
            "explain", "odd.onnx", "photo.png", "--method", "ablation-cam", "--layer", "c", cwd=folder
        ).returncode
        == 0
    )
    gradient = json.loads(onnxcam_here("inspect", "odd.onnx", "--json", cwd=folder).stdout)["gradient"]
    assert gradient["works"] is False
    assert gradient["missing"] == [{"operator": "ReduceProd-18", "nodes": 1}]
    assert "ReduceProd-18 (1)" in onnxcam_here("inspect", "odd.onnx", cwd=folder).stdout


def test_the_overlay_records_options_that_are_no_default(folder: Path) -> None:
    words = ["--method", "opti-cam", "--option", "max_iter=2", "--convention", "destructive"]
    onnxcam_here("explain", "tiny.onnx", "photo.png", *words, cwd=folder)
    text = Image.open(folder / "photo.opti-cam.png").text  # type: ignore[attr-defined]
    assert json.loads(text["onnxcam:options"])["max_iter"] == 2
    assert text["onnxcam:method"] == "opti-cam"


@pytest.mark.slow
def test_a_budget_is_kept_and_its_error_reported(folder: Path) -> None:
    done = onnxcam_here("explain", EMBEDDED, "photo.png", "--budget", "12", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["channels"]["scored"] == 12
    assert record["channels"]["estimated"] + record["channels"]["skipped"] == 1280 - 12
    assert record["passes"]["forward"] == 13
    assert record["error"] > 0
    summary = onnxcam_here("explain", EMBEDDED, "photo.png", "--budget", "12", cwd=folder).stdout
    assert f"{record['error']:.2g} at most in 9 of 10 cases" in summary
    assert "12 scored, " in summary
    assert "tolerance none" not in summary


def test_too_small_a_budget_has_no_known_error(folder: Path) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", "--budget", "4", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["channels"]["scored"] == 4
    assert record["error"] is None
    assert any("too few masks were scored" in note["text"] for note in record["notes"])


def test_fast_is_a_tolerance_that_the_record_names(folder: Path) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", "--fast", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["method"]["options"]["tolerance"] == 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "0"], "budget must be a whole number from 1 on"),
        (["--budget", "-3"], "budget must be a whole number from 1 on, not -3"),
        (["--tolerance", "0"], "tolerance must be above 0"),
        (["--tolerance", "-0.1"], "tolerance must be above 0"),
        (["--tolerance", "1"], "tolerance must be below 1"),
        (["--tolerance", "nan"], "is a number, not 'nan'"),
        (["--fast", "--tolerance", "0.1"], "--fast is a tolerance of 0.02"),
        (["--budget", "9", "--option", "budget=8"], "budget is given twice"),
        (["--method", "rise", "--budget", "9"], "--budget is for score-cam"),
        (["--method", "grad-cam", "--fast"], "--fast is for score-cam"),
        (["--method", "opti-cam", "--fast"], "--fast is for score-cam"),
        (["--method", "opti-cam", "--tolerance", "0.1"], "--tolerance is for score-cam"),
        (["--option", "budget=1.5"], "budget must be a whole number"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(folder: Path, words: list[str], message: str) -> None:
    done = onnxcam_here("explain", "tiny.onnx", "photo.png", *words, cwd=folder)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not list(folder.glob("*.score-cam.png"))


OTHER = """
import numpy as np
from onnxcam import Method
from onnxcam.methods.maps import Outcome


def centre(power: float = 1.0) -> Method:
    "Centre (nobody 2026): marks the middle of the picture."

    def explain(probe):
        y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in probe.size), indexing="ij")
        middle = np.maximum(1.5 - np.hypot(y, x), 0).astype(np.float32) ** power
        return [Outcome((middle - middle.min()) / np.ptp(middle), middle) for _ in range(probe.targets)]

    return Method("centre", "nobody 2026", "none", explain, needs=frozenset(), options={"power": power})


def broken() -> Method:
    raise ValueError("no licence")


def upper(fill: str = "zero") -> Method:
    " "
    assert isinstance(fill, str)
    return Method("Upper-CAM", "none", "none", centre().explain, needs=frozenset(), options={"fill": fill})


def quit() -> Method:
    raise SystemExit(7)
"""


def install(folder: Path, package: str, module: str, entries: dict[str, str]) -> dict[str, str]:
    """Installs a package of one module in the folder; returns the environment in which it is seen."""
    (folder / f"{package}.py").write_text(module)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {package}:{function}" for name, function in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[onnxcam.methods]", *lines]))
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.mark.slow
def test_methods_of_other_packages_are_listed_with_their_origin_and_explain(folder: Path, tmp_path: Path) -> None:
    env = install(tmp_path, "centred", OTHER, {"centre": "centre", "lame": "broken", "rise": "centre"})
    listed = json.loads(onnxcam("methods", "--json", cwd=folder, env=env).stdout)
    others = {m["name"]: m for m in listed if m["origin"] != "onnxcam"}
    assert [m["name"] for m in listed if m["origin"] == "onnxcam"] == list(METHODS)
    assert others["centre"] == {
        "name": "centre",
        "origin": "centred",
        "summary": "marks the middle of the picture.",
        "paper": "nobody 2026",
        "needs": [],
        "cost": "none",
        "options": {"power": 1.0},
    }
    assert others["lame"].keys() == others["rise"].keys() == {"name", "origin", "error"}
    assert "no licence" in others["lame"]["error"]
    assert "the built-in one is used" in others["rise"]["error"]
    page = onnxcam("methods", cwd=folder, env=env).stdout
    assert "centre\n  nobody 2026\n  package   centred\n" in page
    assert "lame\n  error     " in page
    words = ["explain", "tiny.onnx", "photo.png", "--method", "centre", "--option", "power=2", "--json"]
    done = onnxcam(*words, "--format", "npy", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["method"]["name"] == "centre"
    saved = np.load(folder / "photo.centre.npy")
    assert saved[8, 6] == saved.max() == 1
    wrong = onnxcam(*words[:-1], "--option", "size=3", cwd=folder, env=env)
    assert "centre has no option 'size'; it has power" in wrong.stderr
    lame = onnxcam("explain", "tiny.onnx", "photo.png", "--method", "lame", cwd=folder, env=env)
    assert (lame.returncode, "no licence" in lame.stderr, "Traceback" in lame.stderr) == (1, True, False)
    assert "did you mean centre" in onnxcam(*words[:3], "--method", "center", cwd=folder, env=env).stderr


def test_a_package_that_ends_the_program_does_not_end_the_list(folder: Path, tmp_path: Path) -> None:
    env = install(tmp_path, "quitting", OTHER, {"quits": "quit", "Upper-CAM": "upper"})
    done = onnxcam("methods", "--json", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    others = {m["name"]: m for m in json.loads(done.stdout) if m["origin"] != "onnxcam"}
    assert "SystemExit: 7" in others["quits"]["error"]
    assert others["Upper-CAM"]["summary"] == "Upper-CAM"  # its docstring is blank


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Upper-CAM", "upper-cam"])
def test_a_name_with_capitals_is_used_and_its_overlays_are_no_pictures(folder: Path, tmp_path: Path, name: str) -> None:
    env = install(tmp_path, "capital", OTHER, {"Upper-CAM": "upper"})
    words = ["explain", "tiny.onnx", ".", "--method", name, "--fill", "blur(3)", "--json"]
    for _ in range(2):
        done = onnxcam(*words, cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
        (record,) = json.loads(done.stdout)
        assert record["method"]["name"] == "Upper-CAM"
        assert record["method"]["options"] == {"fill": "blur(sigma=3)"}
    assert [path.name for path in folder.glob("*.png")].count("photo.Upper-CAM.png") == 1
    assert not list(folder.glob("*.Upper-CAM.Upper-CAM.png"))
