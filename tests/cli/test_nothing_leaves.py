"""No command writes beside its outputs and the cache, opens a socket or looks up a name."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from command import files
from confinement import SOCKET_CALL, confined

TELEMETRY = "ORT_DISABLE_TELEMETRY"
PRINT_IT = f"import os; print(os.environ.get({TELEMETRY!r}))"


def settings(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a user with empty folders, who set nothing about telemetry."""
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ONNXCAM_")) and k != TELEMETRY}
    homes = {"HOME": str(folder / "home"), "USERPROFILE": str(folder / "home"), "LOCALAPPDATA": str(folder / "home")}
    return {**kept, **homes, "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1", **more}


@pytest.mark.parametrize(
    ("words", "outputs"),
    [
        (
            ["explain", "../tiny.onnx", "../x.npy", "--format", "png,npy,json"],
            {f"x.score-cam.{e}" for e in ("png", "npy", "json")},
        ),
        (["demo", "--fast", "--quiet"], {"coffee.score-cam.png", "chelsea.score-cam.png"}),
        (["inspect", "../tiny.onnx"], set()),
        (["rewrite", "../tiny.onnx"], {"tiny.cam.onnx"}),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else "",
)
def test_a_command_writes_only_outputs_and_cache_and_opens_no_socket(
    words: list[str], outputs: set[str], classifier_file: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3, 16, 12), np.float32))
    code = f"from onnxcam.cli.main import run; sys.argv = ['onnxcam', *{words!r}]; run()"
    done = confined(code, cwd=tmp_path / "work", env=settings(tmp_path))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "work") == outputs
    assert files(tmp_path / "tmp") == set()
    assert {name for name in files(tmp_path / "home") if "onnxcam" not in Path(name).parts} == set()


def test_the_socket_would_have_been_noticed(tmp_path: Path) -> None:
    sockets = "import ctypes; print(ctypes.CDLL(None).socket(2, 1, 0), flush=True)"
    done = confined(sockets, cwd=tmp_path, env=dict(os.environ))
    machine = os.uname().machine if sys.platform == "linux" else ""
    assert (done.returncode < 0) == (machine in SOCKET_CALL), (done.stdout, done.stderr)
    look_up = confined("import socket; socket.getaddrinfo('localhost', 80)", cwd=tmp_path, env=dict(os.environ))
    assert "AssertionError: a look-up of ('localhost', 80)" in look_up.stderr


def test_a_users_own_setting_of_telemetry_stays(tmp_path: Path) -> None:
    code = f"from onnxcam.engine.session import runtime; runtime(); {PRINT_IT}"
    for given, then in (({}, "1"), ({TELEMETRY: "0"}, "0"), ({TELEMETRY: ""}, "")):
        done = confined(code, cwd=tmp_path, env=settings(tmp_path, **given))
        assert (done.returncode, done.stdout.strip()) == (0, then), done.stderr


def test_a_runtime_that_the_process_imported_before_is_left_alone_and_logged(tmp_path: Path) -> None:
    code = f"""
import json, logging, types
class Keep(logging.Handler):
    texts = []
    def emit(self, record):
        self.texts.append(record.getMessage())
logging.getLogger("onnxcam").addHandler(Keep())
logging.getLogger("onnxcam").setLevel("INFO")
sys.modules["onnxruntime"] = types.SimpleNamespace(InferenceSession=None)
from onnxcam.engine.session import runtime
runtime()
import os
print(json.dumps([os.environ.get({TELEMETRY!r}), Keep.texts]))
"""
    done = confined(code, cwd=tmp_path, env=settings(tmp_path))
    setting, texts = json.loads(done.stdout)
    assert setting is None
    (text,) = texts
    assert "set ORT_DISABLE_TELEMETRY=1" in text
