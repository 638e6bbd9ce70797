"""An isolated Explainer gives the maps of a plain one, and what ends its process ends no other."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import onnxcam
from forked import in_fork
from PIL import Image
from small_models import CLASSIFIER, filled

from onnxcam import Explainer
from onnxcam.errors import InferenceError, OnnxCamError, OptionError, OutOfMemory, PictureError, ProcessDied
from onnxcam.evaluation.comparison import compare
from onnxcam.evaluation.sanity import sanity_check
from onnxcam.explainer import isolation
from onnxcam.explainer.child_process import ChildProcess
from onnxcam.explainer.isolated_process import Answer, Explained, budget_of, failure_of, machine_memory
from onnxcam.explainer.isolation import Isolated
from onnxcam.explainer.measuring import Requests
from onnxcam.explainer.prefetch import explain_each
from onnxcam.explainer.sending import Request
from onnxcam.limits import SAFE, Limits
from onnxcam.outputs.saliency import Saliency

X = np.random.default_rng(0).standard_normal((3, 16, 12)).astype(np.float32)
OTHER = X[:, ::-1].copy()

TAIL = "logits0 = Gemm <transB=1> (flat, w3, b3)  zero = Mul (extra, none)  logits = Add (logits0, zero)"
DIVIDES = CLASSIFIER.replace("b3>", "b3, int64 lowest = {-9223372036854775808}, float none = {0}>").replace(
    "logits = Gemm <transB=1> (flat, w3, b3)",
    f"""top = ReduceMax <keepdims=0> (x)  whole = Cast <to=7> (top)  divided = Div (lowest, whole)
    extra = Cast <to=1> (divided)  {TAIL}""",
)
"""Divides -2^63 by the largest number of the picture: by -1, the processor refuses and onnxruntime dies of SIGFPE."""
DEADLY = np.full((3, 16, 12), -1, np.float32)

GROWS = CLASSIFIER.replace("b3>", "b3, float none = {0}, float one = {1}, int64[1] first = {1}>").replace(
    "logits = Gemm <transB=1> (flat, w3, b3)",
    f"""top = ReduceMax <keepdims=0> (x)  whole = Cast <to=7> (top)  sides = Reshape (whole, first)
    big = Expand (one, sides)  extra = ReduceMax <keepdims=0> (big)  {TAIL}""",
)
"""Makes as many numbers as the largest number of the picture says."""

ENDLESS = CLASSIFIER.replace("b3>", "b3, float none = {0}, bool yes = {1}>").replace(
    "logits = Gemm <transB=1> (flat, w3, b3)",
    f"""top = ReduceMax <keepdims=0> (x)  rounds = Cast <to=7> (top)
    extra = Loop (rounds, yes, none) <body = step (int64 i, bool c, float s) => (bool go, float t) {{
      go = Identity (c)  t = Add (s, s) }}>  {TAIL}""",
)
"""Counts to the largest number of the picture."""


def large(top: float) -> np.ndarray:
    image = X.copy()
    image[0, 0, 0] = top
    return image


def explainer(
    model: onnx.ModelProto | Path, method: str = "score-cam", *, isolated: bool = True, **named: Any
) -> Explainer:
    return Explainer(model, method, providers=["cpu"], preset="raw", isolated=isolated, **named)


def described(saliencies: Sequence[Saliency]) -> list[Any]:
    """All that a Saliency says, but how long it took."""
    records = []
    for each in saliencies:
        record = {**asdict(replace(each, picture=None)), "provenance": {**asdict(each.provenance), "seconds": 0}}
        assert not each.map.flags.writeable
        records.append({k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in record.items()})
    return records


def process_of(explain: Explainer) -> "subprocess.Popen[bytes]":
    return explain._isolated._process._process


@pytest.fixture(scope="module")
def pair(classifier: onnx.ModelProto) -> Iterator[tuple[Explainer, Explainer]]:
    with explainer(classifier) as isolated, explainer(classifier, isolated=False) as plain:
        yield isolated, plain


def test_results_and_attributes_are_those_of_a_plain_explainer(pair: tuple[Explainer, Explainer]) -> None:
    isolated, plain = pair
    for entry in (
        lambda e: e.explain(X, ["top1", 2]),
        lambda e: e.batch([X, OTHER, X], [0, 1, 2]),
        lambda e: e.batch(np.stack([X, OTHER])),
        lambda e: list(e.stream(X, 1)),
        lambda e: [e(X, e(OTHER).target)],
    ):
        assert described(entry(isolated)) == described(entry(plain))
    assert len(list(isolated.stream(X))) > 1
    measured = [
        {n: (m.value, m.options, m.passes) for n, m in e.measure(e(X), "average-drop", "deletion", picture=X).items()}
        for e in pair
    ]
    assert measured[0] == measured[1]
    for name in (
        "method", "model_sha256", "model_name", "preset", "preset_origin", "size", "size_origin", "labels",
        "labels_origin", "anatomy", "batching", "provider", "batch_size",
    ):  # fmt: skip
        assert getattr(isolated, name) == getattr(plain, name), name


def test_pictures_of_every_kind_and_their_errors_arrive(pair: tuple[Explainer, Explainer], tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 30, 3), np.uint8))
    path = tmp_path / "photo.png"
    photo.save(path)
    isolated, plain = pair
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), file, photo, np.asarray(photo)):
            assert np.array_equal(isolated(source).map, plain(source).map)
    for wrong in (tmp_path / "none.png", b"GIF89a", np.zeros((5, 7, 16, 12))):
        with pytest.raises(PictureError) as raised:
            isolated(wrong)
        with pytest.raises(PictureError) as expected:
            plain(wrong)
        assert str(raised.value) == str(expected.value)


def test_paths_are_those_of_the_callers_present_folder(
    pair: tuple[Explainer, Explainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", X)
    monkeypatch.chdir(tmp_path)
    assert pair[0]("x.npy").provenance.image == "x.npy"


@pytest.mark.slow
def test_progress_arrives_and_a_callback_that_raises_is_raised(pair: tuple[Explainer, Explainer]) -> None:
    seen: dict[Explainer, list[tuple[int, int]]] = {e: [] for e in pair}
    for e in pair:
        e.explain(X, progress=lambda done, of, e=e: seen[e].append((done, of)))
    assert seen[pair[0]] == seen[pair[1]]

    def fail(done: int, of: int) -> None:
        raise KeyError("a callback")

    def nested(done: int, of: int) -> None:
        pair[0](X)

    with pytest.raises(KeyError, match="a callback"):
        pair[0].explain(X, progress=fail)
    with pytest.raises(InferenceError, match="one thing at a time"):
        pair[0].explain(X, progress=nested)
    assert np.array_equal(pair[0](X).map, pair[1](X).map)


def test_streams_may_be_left_and_walked_beside_other_calls(pair: tuple[Explainer, Explainer]) -> None:
    isolated, plain = pair
    first, second = isolated.stream(X), isolated.stream(OTHER)
    maps = [next(first).map, next(second).map, isolated(X).map]
    first.close()
    assert np.array_equal(maps[0], next(plain.stream(X)).map)
    assert np.array_equal(maps[1], next(plain.stream(OTHER)).map)
    assert np.array_equal(maps[2], plain(X).map)
    assert np.array_equal(list(second)[-1].map, plain(OTHER).map)


def test_what_needs_the_opened_model_here_says_so(
    pair: tuple[Explainer, Explainer], classifier: onnx.ModelProto
) -> None:
    isolated = pair[0]
    for call in (isolated.scorer, isolated.prepare, isolated.explain_on_device, lambda x: compare(isolated, x)):
        with pytest.raises(OptionError, match=r"without isolated=True.*measure\(\) and with_method\(\)"):
            call(X)
    with pytest.raises(OptionError, match="without isolated=True"):
        sanity_check(classifier, [X], ["score-cam"], opener=lambda file, method, layer: Isolating(isolated))


class Isolating:
    """Stands for an isolated Explainer that the check opened, and does not close it."""

    def __init__(self, explain: Explainer) -> None:
        self.explain = explain

    def __enter__(self) -> Explainer:
        return self.explain

    def __exit__(self, *error: object) -> None:
        return


def test_another_method_is_explained_by_a_process_of_its_own(pair: tuple[Explainer, Explainer]) -> None:
    isolated, plain = pair
    with isolated.with_method("grad-cam") as another, plain.with_method("grad-cam") as expected:
        assert process_of(another).pid != process_of(isolated).pid
        assert described([another(X)]) == described([expected(X)])
        assert another.method == expected.method != isolated.method
    assert np.array_equal(isolated(X).map, plain(X).map)
    with pytest.raises(InferenceError, match="closed"):
        another.with_method("score-cam")


@pytest.mark.slow
def test_an_argument_that_cannot_be_sent_is_an_option_error(classifier: onnx.ModelProto) -> None:
    with pytest.raises(OptionError, match="cannot be sent to the isolated process"):
        explainer(classifier, adjust=lambda preset: preset)


def test_the_process_has_limits_and_no_core_files(pair: tuple[Explainer, Explainer]) -> None:
    if sys.platform != "linux":
        return
    pair[0](X)
    lines = Path(f"/proc/{process_of(pair[0]).pid}/limits").read_text().splitlines()
    soft = {line[:26].strip(): line[26:].split()[0] for line in lines[1:]}
    assert soft["Max core file size"] == "0"
    assert soft["Max address space"].isdigit()
    assert soft["Max cpu time"].isdigit()
    assert soft["Max file size"].isdigit()
    assert Path(f"/proc/{process_of(pair[0]).pid}/oom_score_adj").read_text().strip() == "300"


@pytest.mark.slow
def test_a_forked_child_starts_a_process_of_its_own(pair: tuple[Explainer, Explainer]) -> None:
    isolated, plain = pair
    before = process_of(isolated).pid
    mine, same = in_fork(lambda: (isolated(X).map, process_of(isolated).pid == before))
    assert not same
    assert np.array_equal(mine, plain(X).map)
    assert np.array_equal(isolated(X).map, mine)
    assert process_of(isolated).pid == before


def test_a_crash_in_onnxruntime_is_a_typed_error_and_the_next_picture_is_explained(tmp_path: Path) -> None:
    model = filled(DIVIDES)
    with explainer(model, isolated=False) as plain:
        expected, other = plain(X).map, plain(OTHER).map
    with explainer(model) as isolated:
        with pytest.raises(ProcessDied, match="died of SIGFPE"):
            isolated(DEADLY)
        assert np.array_equal(isolated(X).map, expected)
        results = list(explain_each(isolated, [(image, [None]) for image in (X, DEADLY, OTHER, X)]))
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert isinstance(results[1].error, ProcessDied)
    for result, one in zip(results[:1] + results[2:], (expected, other, expected), strict=True):
        assert np.array_equal(result.saliencies[0].map, one)


@pytest.fixture
def deadly(tmp_path: Path) -> Path:
    """A folder with deadly.onnx, which crashes whatever the picture is, and a.png."""
    fixed = "divided = Div (lowest, minus)  unused = Identity (whole)"
    text = DIVIDES.replace("divided = Div (lowest, whole)", fixed).replace(
        "float none", "int64 minus = {-1}, float none"
    )
    onnx.save(filled(text), tmp_path / "deadly.onnx")
    Image.new("RGB", (12, 16)).save(tmp_path / "a.png")
    return tmp_path


CRASHES = {
    "SIGSEGV": (
        "int64[4] empty = {1,4,0,8}, float[4] ones",
        "nothing = ConstantOfShape (empty)  n = InstanceNormalization (nothing, ones, ones)  extra = ReduceSum <keepdims=0> (n)",
    ),
    "SIGABRT": (
        "int64[3] empty = {0,2,3}, float[1,15,3] wg, float[1,15,5] rg",
        """nothing = ConstantOfShape (empty)  top = ReduceMax <keepdims=0> (x)  s = Add (nothing, top)
        y, last = GRU <hidden_size=5> (s, wg, rg)  extra = ReduceMax <keepdims=0> (last)""",
    ),
}
"""Weights and nodes on which onnxruntime dies of the signal."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CRASHES)
def test_whatever_signal_ends_the_process_is_a_typed_error(name: str) -> None:
    weights, nodes = CRASHES[name]
    text = CLASSIFIER.replace("b3>", f"b3, float none = {{0}}, {weights}>")
    model = filled(text.replace("logits = Gemm <transB=1> (flat, w3, b3)", f"{nodes} {TAIL}"), check=False)
    with pytest.raises(ProcessDied, match=f"died of {name}"), explainer(model) as isolated:
        isolated(X)


COMMANDS = [
    ["explain", "deadly.onnx", "a.png"],
    pytest.param(["explain", "deadly.onnx", "a.png", "--keep-going", "--json"], marks=pytest.mark.slow),
    ["inspect", "deadly.onnx"],
    pytest.param(["rewrite", "deadly.onnx", "-o", "out.onnx"], marks=pytest.mark.slow),
    pytest.param(["sanity", "deadly.onnx", "a.png", "-m", "grad-cam", "--quiet"], marks=pytest.mark.slow),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_model_that_crashes_while_it_is_opened_is_one_line_of_a_command(words: list[str], deadly: Path) -> None:
    done = onnxcam(*words, "--isolated", cwd=deadly)
    assert done.returncode == 1
    if "--json" in words:
        assert json.loads(done.stdout)["error"]["type"] == "ProcessDied"
    else:
        assert done.stdout == ""
    assert done.stderr.startswith("error: the isolated process died of SIGFPE")
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in deadly.iterdir()} == {"deadly.onnx", "a.png"}


@pytest.mark.slow
def test_isolated_commands_print_and_write_what_plain_ones_do(classifier_file: Path) -> None:
    folder = classifier_file.parent
    np.save(folder / "x.npy", X)
    for words in (
        ["inspect", "tiny.onnx", "--json"],
        ["rewrite", "tiny.onnx", "-o", "out.onnx"],
        [
            "explain",
            "tiny.onnx",
            "x.npy",
            "--format",
            "npy",
            "-o",
            "out.npy",
            "--scale",
            "1",
            "--metrics",
            "average-drop",
        ],
    ):
        outputs = []
        for more in ([], ["--isolated"]):
            done = onnxcam(*words, *more, cwd=folder)
            assert done.returncode == 0, done.stderr
            written = [(path.name, path.read_bytes()) for path in sorted(folder.glob("out.*"))]
            for name, _ in written:
                (folder / name).unlink()
            seconds = r"[\d.]+ s\b"  # of the maps, and of the metrics
            outputs.append((re.sub(seconds, "", done.stdout), done.stderr, written))
        assert outputs[0] == outputs[1]
    wrong = onnxcam("inspect", "none.onnx", "--isolated", cwd=folder)
    assert (wrong.returncode, wrong.stderr) == (1, onnxcam("inspect", "none.onnx", cwd=folder).stderr)


def test_a_lack_of_memory_is_a_typed_error() -> None:
    arguments = {"model": filled(GROWS), "providers": ["cpu"], "preset": "raw", "threads": 1}
    limits = Limits(memory=2**28, seconds=None)
    isolated = Isolated({**arguments, "limits": limits}, limits)
    try:
        isolated.explain(X, [None], {}, None)
        with pytest.raises((OutOfMemory, ProcessDied)):
            isolated.explain(large(2e9), [None], {}, None)
        isolated.explain(X, [None], {}, None)
    finally:
        isolated.close()


@pytest.mark.slow
def test_a_process_that_gives_no_sign_of_life_is_ended() -> None:
    arguments = {"model": filled(ENDLESS), "providers": ["cpu"], "preset": "raw", "threads": 1}
    isolated = Isolated(arguments, Limits(seconds=1.0))
    try:
        start = time.monotonic()
        with pytest.raises(InferenceError, match=r"died of SIGXCPU|no sign of life|takes more than"):
            isolated.explain(large(9e15), [None], {}, None)
        assert time.monotonic() - start < 25
    finally:
        isolated.close()


def test_a_death_while_idle_costs_no_request_its_answer(classifier: onnx.ModelProto) -> None:
    with explainer(classifier) as isolated:
        expected = isolated(X).map
        dead = process_of(isolated)
        dead.kill()
        assert np.array_equal(isolated(X).map, expected)
        assert process_of(isolated).pid != dead.pid
        dead = process_of(isolated)
        dead.kill()
        dead.wait()
        assert np.array_equal(isolated.batch([X, X])[1].map, expected)


def test_the_memory_of_the_process_is_at_most_that_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gib = 2**30
    assert budget_of(Limits(memory=2**28)).memory == min(3 * gib, machine_memory())
    assert budget_of(Limits(memory=2**50)).memory == machine_memory()
    for text, expected in (("1073741824\n", gib), ("max\n", machine_memory())):
        group = tmp_path / "memory.max"
        group.write_text(text)
        monkeypatch.setattr("onnxcam.explainer.isolated_process.CONTROL_GROUPS", (str(group),))
        assert budget_of(Limits(memory=2**50)).memory == expected


def test_a_lack_of_memory_names_the_limit_and_what_raises_it() -> None:
    failure = failure_of(OutOfMemory("no memory"), 3 * 2**30)
    assert failure.kind == "OutOfMemory"
    assert failure.text.startswith("no memory; the isolated process may take 3 GiB, which --max-memory or Limits(")


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_a_closed_one_is_not(
    classifier: onnx.ModelProto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "onnxcam")
    isolated = explainer(classifier)
    first = process_of(isolated).pid
    expected = isolated(X).map
    stream = isolated.stream(X)
    next(stream)
    process_of(isolated).kill()
    assert np.array_equal(isolated(X).map, expected)
    with pytest.raises(ProcessDied, match="begin again"):
        next(stream)
    process = process_of(isolated)
    logged = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "onnxcam.explainer.isolation"]
    assert [level for level, _ in logged] == ["INFO", "WARNING", "WARNING", "INFO"]
    assert logged[0][1] == f"isolated process {first} has opened '<ModelProto>' on 'cpu'"
    assert "SIGKILL" in logged[1][1]
    assert logged[2][1] == "the isolated process had ended while it was idle; one more is started"
    assert logged[3][1] == logged[0][1].replace(str(first), str(process.pid))
    isolated.close()
    isolated.close()
    assert process.poll() == -signal.SIGKILL
    with pytest.raises(InferenceError, match="closed"):
        isolated(X)


class Forged(Isolated):
    """Believes what a test says that its process sent."""

    def __init__(self, opened: Any, answers: Sequence[Answer]) -> None:
        self.opened, self._answers, self._closed, self._numbers = opened, list(answers), False, count()
        self._limits = SAFE

    def _call(self, *arguments: Any, **named: Any) -> Answer:
        return self._answers.pop(0)


def test_an_answer_that_does_not_fit_the_request_is_a_typed_error(pair: tuple[Explainer, Explainer]) -> None:
    good = pair[1](X)
    maps = (
        np.zeros((3, 3), np.float32), np.zeros((16, 12), np.float64), np.zeros((2, 16, 12), np.float32),
    )  # fmt: skip
    wrong = [(replace(good, map=array),) for array in maps] + [(good, good), ()]
    for saliencies in wrong:
        with pytest.raises(ProcessDied):
            Forged(pair[1], [Answer("done", saliencies=saliencies)]).explain(X, [None], {}, None)
    with pytest.raises(ProcessDied):
        Forged(pair[1], [Answer("done", measurements=({},))]).measure(X, [good], Requests(("deletion",)), None, None)


def test_a_result_that_is_sent_twice_or_never_requested_is_a_typed_error(pair: tuple[Explainer, Explainer]) -> None:
    one = Answer("done", explained=Explained(0, (pair[1](X),), None, None))

    class Asking(Forged):
        def _iterated(self, name: str, request: Any, reports: Any, picture: Any, begin: Any) -> Iterator[Answer]:
            picture()
            for answer in self._answers:
                if answer.event == "begin":
                    begin(answer.numbers)
                yield answer

    for answers in ([one, one], [Answer("begin", (5,))], [Answer("begin", (-1,))]):
        results = Asking(pair[1], answers)._each(enumerate([(X, [None])]), deque(), True, lambda group: [None], 0)
        with pytest.raises(ProcessDied):
            list(results)


def test_no_process_is_a_typed_error(classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(InferenceError, match="cannot be started"):
        explainer(classifier)


def test_a_class_that_the_process_cannot_import_is_an_option_error() -> None:
    request = pickle.dumps(("explain", {"image": Isolating}))
    with pytest.raises(OptionError, match="module that can be imported"):
        Request(None, request.replace(b"Isolating", b"Isolatinx")).loaded()


def test_an_opening_that_hangs_ends_on_its_deadline(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "OPENING", 0.5)
    write = ChildProcess.write

    def stop(process: ChildProcess, data: bytes | memoryview) -> None:
        os.kill(process._process.pid, signal.SIGSTOP)
        write(process, data)

    monkeypatch.setattr(ChildProcess, "write", stop)
    start = time.monotonic()
    with pytest.raises(ProcessDied, match=r"no sign of life for 0\.7 s"):
        explainer(classifier, limits=Limits(seconds=0.2))
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_a_model_that_changed_is_not_taken_for_the_one_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(filled(CLASSIFIER), path)
    with explainer(path) as isolated:
        isolated(X)
        onnx.save(filled(CLASSIFIER, seed=1), path)
        process_of(isolated).kill()
        with pytest.raises(InferenceError, match="changed since it was opened"):
            isolated(X)


@pytest.mark.slow
def test_a_model_whose_weights_beside_it_changed_is_not_taken_for_the_one_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"

    def save(seed: int) -> bytes:
        onnx.save(filled(CLASSIFIER, seed=seed), path, save_as_external_data=True, location="w.bin", size_threshold=0)
        return path.read_bytes()

    before = save(0)
    with explainer(path) as isolated:
        isolated(X)
        (tmp_path / "w.bin").unlink()  # onnx appends to a file that is there
        assert save(1) == before, "the graph alone is the same"
        process_of(isolated).kill()
        with pytest.raises(InferenceError, match="weights beside it, changed since it was opened"):
            isolated(X)


@pytest.mark.slow
def test_closing_while_other_threads_explain_gives_maps_or_one_error(classifier: onnx.ModelProto) -> None:
    raised: list[BaseException] = []

    def explain(isolated: Explainer) -> None:
        try:
            while True:
                isolated(X)
        except (OnnxCamError, ValueError) as error:
            raised.append(error)

    for wait in (0.0, 0.01, 0.05):
        isolated = explainer(classifier)
        threads = [threading.Thread(target=explain, args=(isolated,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(wait)
        isolated.close()
        for thread in threads:
            thread.join(20)
    assert len(raised) == 9
    assert {str(error) for error in raised} == {"this explainer is closed"}


@pytest.mark.slow
def test_the_process_ends_when_its_parent_is_killed_while_it_computes(tmp_path: Path) -> None:
    onnx.save(filled(ENDLESS), tmp_path / "tiny.onnx")
    np.save(tmp_path / "large.npy", large(9e15))
    text = PARENT.replace("isolated=True", 'preset="raw", limits=Limits(seconds=None), isolated=True')
    text = text.replace("import Explainer", "import Explainer, Limits").replace(
        "time.sleep(60)", 'explain("large.npy")'
    )
    parent = subprocess.Popen([sys.executable, "-c", text], cwd=tmp_path, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 20
    while time.monotonic() < end and _runs(child):
        time.sleep(0.05)
    try:
        assert not _runs(child)
    finally:
        if _runs(child):
            os.kill(child, signal.SIGKILL)


PARENT = """
import os, time
from onnxcam import Explainer
explain = Explainer("tiny.onnx", providers=["cpu"], isolated=True)
print(explain._isolated._process._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_the_process_ends_when_its_parent_was_killed(classifier_file: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=classifier_file.parent, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 20
    while time.monotonic() < end and _runs(child):
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_the_picture_of_a_stranger_is_not_kept_and_not_decoded_here(pair: tuple[Explainer, Explainer]) -> None:
    one = pair[0](X)
    assert one.picture is None
    with pytest.raises(PictureError, match="keeps no picture; pass what was explained as picture="):
        one.overlay()
    assert "The map alone" in one._repr_html_()
