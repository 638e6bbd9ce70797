"""What a start does not load: sympy, until onnx_ir calculates with a size that has a name, and onnxscript."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
from small_models import CLASSIFIER, filled

CALCULATE = """
from onnxcam.cli.late_imports import import_late
import_late()
import sys
import onnx_ir
before = "sympy.core" in sys.modules
print(before, (onnx_ir.SymbolicDim("n") + 1).value, "sympy.core" in sys.modules)
import sympy
print(sympy.Integer(2) + sympy.Symbol("m"))
"""
FROM_EIGHT_THREADS = """
from onnxcam.cli.late_imports import import_late
import_late()
import sys, threading
import onnx_ir
sys.setswitchinterval(1e-5)
at_once, done = threading.Barrier(8), []
def calculate(number):
    at_once.wait()
    if number % 2:
        done.append((onnx_ir.SymbolicDim("n") + 1).value)
    else:
        import sympy
        done.append(str(sympy.Symbol("n") + 1))
threads = [threading.Thread(target=calculate, args=(number,), daemon=True) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
print(done == 8 * ["n + 1"], type(sys.modules["sympy"]).__name__)
"""
EXPLAIN = """
import atexit, sys
loaded = ("sympy.core", "onnxscript", "onnx_ir")
atexit.register(lambda: print("LOADED", [name for name in loaded if name in sys.modules]))
from onnxcam.cli.start import start
sys.argv = ["onnxcam", *sys.argv[1:]]
start()
"""


def output(code: str, *words: str, cache: str = "off") -> str:
    settings = {**os.environ, "ONNXCAM_CACHE": cache}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sympy_is_loaded_where_it_calculates_and_works_as_ever() -> None:
    assert output(CALCULATE).splitlines() == ["False n + 1 True", "m + 2"]


def test_threads_that_use_it_first_at_the_same_time_see_all_of_it() -> None:
    assert output(FROM_EIGHT_THREADS) == "True module\n"


def test_a_first_start_loads_neither_sympy_nor_onnxscript_where_all_sizes_are_plain(tmp_path: Path) -> None:
    from PIL import Image

    onnx.save(filled(CLASSIFIER), tmp_path / "model.onnx")
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "picture.png")
    words = [
        "explain",
        str(tmp_path / "model.onnx"),
        str(tmp_path / "picture.png"),
        "-q",
        "-o",
        str(tmp_path / "map.png"),
    ]
    assert output(EXPLAIN, *words) == "LOADED ['onnx_ir']\n"
