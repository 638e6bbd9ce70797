"""The command line's options of a GPU: looked up once, refused on a CPU."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from onnxcam.cli.main import app
from onnxcam.cli.options import EngineArgs
from onnxcam.cli.parsing import parse_engine
from onnxcam.engine.options import EngineOptions, MemoryCap
from onnxcam.errors import OptionError
from onnxcam.inputs import bundled

PICTURE = bundled.pictures()["coffee"]


def test_words_become_engine_options() -> None:
    assert parse_engine(EngineArgs()) == EngineOptions()
    assert parse_engine(EngineArgs(gpu_mem="50%", half=True)) == EngineOptions(MemoryCap(share=0.5), half=True)
    options = parse_engine(EngineArgs(gpu_mem="4GB", tf32=True, cuda_graph=True))
    assert options == EngineOptions(MemoryCap(4 * 10**9), False, True, True)


@pytest.mark.parametrize("words", [["--half"], ["--tf32"], ["--cuda-graph"], ["--gpu-mem", "4GB"]])
def test_what_would_do_nothing_on_the_cpu_is_refused(words: list[str], classifier_file: Path) -> None:
    done = CliRunner().invoke(app, ["explain", str(classifier_file), str(PICTURE), "--providers", "cpu", *words])
    assert isinstance(done.exception, OptionError)
    assert f"{words[0][2:]} would do nothing on the provider cpu" in str(done.exception)


def test_an_amount_of_memory_that_cannot_be_read_is_refused(classifier_file: Path) -> None:
    done = CliRunner().invoke(app, ["explain", str(classifier_file), str(PICTURE), "--gpu-mem", "much"])
    assert isinstance(done.exception, OptionError)
    assert "write 4GB, 512MiB, or 50%" in str(done.exception)
