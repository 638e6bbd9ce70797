"""What the library logs: nothing by default, what was chosen when asked, and never what a picture holds."""

import ast
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam import Explainer
from onnxcam.engine import session as session_module
from onnxcam.engine.batching import Samples, in_chunks
from onnxcam.engine.parallel import ParallelRunner, RunLimits
from onnxcam.engine.session import Session
from onnxcam.errors import OutOfMemory, ProviderError
from onnxcam.types import Floats

LIBRARY = Path(onnxcam.__file__).parent
METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")
X = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)


def lines(caplog: pytest.LogCaptureFixture, module: str) -> list[tuple[str, str]]:
    """(level, text) of what one module of onnxcam logged."""
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.name == f"onnxcam.{module}"]


def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)


# Silence


def test_nothing_is_printed_by_default_even_of_warnings(classifier_file: Path) -> None:
    code = """
import logging, sys
from onnxcam import Explainer
Explainer(sys.argv[1], "grad-cam", providers=["cpu"]).close()
logging.getLogger("another.library").warning("printed by Python itself")
"""
    done = run(code, str(classifier_file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "printed by Python itself\n")


def test_importing_onnxcam_does_not_load_logging() -> None:
    code = "import sys; before = set(sys.modules); import onnxcam; print(sorted(set(sys.modules) - before))"
    done = run(code)
    assert "onnxcam" in ast.literal_eval(done.stdout)
    assert "logging" not in ast.literal_eval(done.stdout)


def test_every_logger_of_the_library_is_made_by_logs_and_called_with_a_constant_text() -> None:
    loggers = 0
    for path in sorted(LIBRARY.rglob("*.py")):
        room = path.relative_to(LIBRARY).parts[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name))):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            loggers += name == "module_logger"
            assert name != "getLogger" or room in ("logs.py", "cli"), path
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            if isinstance(owner, ast.Name) and owner.id in ("log", "logger", "_log") and name in METHODS:
                text = node.args[1 if name == "log" else 0]
                assert isinstance(text, ast.Constant), f"{path}:{node.lineno}: formatted before it is needed"
    assert loggers > 10


# What is logged


def test_an_opening_says_what_was_chosen(
    classifier: onnx.ModelProto, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path))
    with caplog.at_level("INFO", "onnxcam"):
        for preset in (None, "unit"):
            Explainer(classifier, "grad-cam", providers=["cpu"], preset=preset).close()
    (assumed, given) = lines(caplog, "inputs.choices")
    assert assumed[0] == "WARNING"
    assert "imagenet ('assumed: nothing beside the model says" in assumed[1]
    assert given[0] == "INFO"
    assert given[1].endswith("unit ('given')")
    (record,) = tmp_path.glob("*.json")
    assert [text for _, text in lines(caplog, "network.cache")] == [f"cache: there is no record {str(record)!r} yet"]
    read = {f"cache: the graph {str(path)!r} is read" for path in tmp_path.glob("*.graph")}
    assert {text for _, text in lines(caplog, "network.stored_graphs")} == read  # of the second opening
    opened = [text for _, text in lines(caplog, "network.opening")]
    assert len(opened) == 2
    for text in opened:
        assert " on cpu: input 'x' of 16x12, layer 'features' ('what enters GlobalAveragePool" in text
        assert "output 'logits', batches dynamic ('the export takes any batch" in text
    assert [level for level, _ in lines(caplog, "engine.parallel")] == ["INFO", "INFO"]
    assert "run plan on cpu: " in lines(caplog, "engine.parallel")[0][1]


def test_an_explanation_is_a_line_of_debug_without_what_the_picture_holds(
    classifier: onnx.ModelProto, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", "onnxcam"), Explainer(classifier, "grad-cam", providers=["cpu"]) as explain:
        caplog.clear()
        saliencies = explain.explain(X, ["top1", 2], name="ward 7\nforged line")
        explain.explain(X)
    first, _ = lines(caplog, "explainer.pipeline")
    passes = saliencies[0].provenance.forwards + saliencies[0].provenance.steps
    assert first[0] == "DEBUG"
    assert first[1].startswith("explained 'ward 7\\nforged line' by grad-cam on ")
    assert f": 2 targets, {passes} forward passes, " in first[1]
    assert not any(f"{number:.4f}"[:6] in caplog.text for number in (X[0, 0, 0], saliencies[0].score))


def test_a_stream_is_a_line_too(classifier: onnx.ModelProto, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "onnxcam"), Explainer(classifier, "rise", providers=["cpu"]) as explain:
        maps = list(explain.stream(X))
    (line,) = lines(caplog, "explainer.pipeline")
    assert f"{maps[-1].provenance.forwards} forward passes" in line[1]


def test_a_name_in_a_model_stays_in_its_line(caplog: pytest.LogCaptureFixture) -> None:
    model = filled(CLASSIFIER)
    for value in (model.graph.input[0], *model.graph.node):
        if isinstance(value, onnx.NodeProto):
            value.input[:] = ["x\nERROR forged" if name == "x" else name for name in value.input]
        else:
            value.name = "x\nERROR forged"
    with caplog.at_level("DEBUG", "onnxcam"):
        Explainer(model, "grad-cam", providers=["cpu"]).close()
    assert "input 'x\\nERROR forged' of 16x12" in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_memory_that_runs_out_is_a_warning_with_both_sizes(caplog: pytest.LogCaptureFixture) -> None:
    def chunk(samples: Samples) -> Floats:
        if len(samples) > 3:
            raise OutOfMemory("out of memory")
        return samples.astype(np.float32)

    results = in_chunks(chunk, np.arange(20), 16)
    with ThreadPoolExecutor(2) as pool:
        beside = in_chunks(chunk, np.arange(20), 4, pool=pool, parallel=2)
    np.testing.assert_array_equal(results, np.arange(20))
    np.testing.assert_array_equal(beside, np.arange(20))
    assert lines(caplog, "engine.batching") == [
        ("WARNING", f"a run of {size} samples does not fit into memory; the next ones hold {size // 2}")
        for size in (16, 8, 4, 4)
    ]


def test_runs_side_by_side_that_do_not_fit_go_one_after_another_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed: list[int] = []

    def chunk(samples: Samples) -> Floats:
        if not failed:
            failed.append(int(samples[0]))
            raise OutOfMemory("out of memory")
        return samples.astype(np.float32)

    with ThreadPoolExecutor(2) as pool:
        results = in_chunks(chunk, np.arange(6), 1, pool=pool, parallel=2)
    np.testing.assert_array_equal(results, np.arange(6))
    assert lines(caplog, "engine.batching") == [
        ("WARNING", "samples side by side do not fit into memory; the next ones go one after another")
    ]


def test_a_provider_that_auto_leaves_out_is_a_warning(
    classifier: onnx.ModelProto, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Session._start

    def no_cuda(self: Session, model: bytes, providers: list[session_module.Provider], threads: int | None) -> object:
        if providers[0].name == "CUDAExecutionProvider":
            raise ProviderError("no driver")
        return start(self, model, providers, threads)

    monkeypatch.setattr(Session, "_start", no_cuda)
    monkeypatch.setattr(
        session_module.runtime(), "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with caplog.at_level("DEBUG", "onnxcam"):
        session = Session(classifier.SerializeToString())
    assert session.skipped_providers == ("no driver",)
    # INFO: that the process imported onnxruntime before, where it did.
    warned, opened = [line for line in lines(caplog, "engine.session") if line[0] != "INFO"]
    assert warned == ("WARNING", "provider cuda does not start, another one is taken: 'no driver'")
    assert opened[0] == "DEBUG"
    assert opened[1].startswith(f"session on cpu: {session.threads} threads, ")


def test_the_plan_says_whose_choice_it_is(classifier: onnx.ModelProto, caplog: pytest.LogCaptureFixture) -> None:
    graph = classifier.SerializeToString()
    with caplog.at_level("INFO", "onnxcam"):
        ParallelRunner(lambda: graph, ["cpu"], RunLimits(1, 3, None, 1000)).close()
        free = RunLimits(None, None, None, 1000)
        ParallelRunner(lambda: graph, ["cpu"], free).close()
    given, by_default = [text for _, text in lines(caplog, "engine.parallel")]
    assert given == "run plan on cpu: 1 at a time with 1 threads and 3 images each (as given)"
    assert by_default.endswith("(by default)")
