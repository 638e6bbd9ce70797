"""A model that never ends is stopped wherever it runs, and what is too large is refused with the option that raises it."""

import threading
import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Explainer, Limits
from onnxcam.errors import PictureError, TimedOut
from onnxcam.inputs.presets import preset_named

RNG = np.random.default_rng(3)
BRIGHT = RNG.integers(0, 256, (16, 12, 3), np.uint8)
DARK = np.minimum(BRIGHT, 3)
SECONDS = Limits(seconds=0.3)

ENDLESS = CLASSIFIER.replace("(float[N,3,16,12] x)", "(float[N,3,16,12] x)").replace(
    "Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)",
    "Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (looped, w1)",
)
LOOP = """
  brightest = ReduceMax <keepdims=0> (x)
  seventh = Constant <value_float=7.0> ()
  many = Pow (brightest, seventh)
  rounds = Cast <to=7> (many)
  looped = Loop <body = step (int64 i, bool go, float[N,3,16,12] v) => (bool on, float[N,3,16,12] w)
    { w = Identity (v)
      on = Identity (go) }> (rounds, , x)
"""
"""As many rounds as the brightest number of the picture to the power of seven: 10^16 for 255, few for a dark picture."""


@pytest.fixture(scope="module")
def endless() -> onnx.ModelProto:
    start = ENDLESS.index("{", ENDLESS.index("<float")) + 1
    return filled(ENDLESS[:start] + LOOP + ENDLESS[start:])


def opened(proto: onnx.ModelProto, **options: object) -> Explainer:
    return Explainer(proto, preset=preset_named("raw"), providers=["cpu"], cache=False, **options)  # type: ignore[arg-type]


def test_a_loop_whose_rounds_come_from_the_picture_ends_in_time(
    endless: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "begin", lambda limits, what: limits)  # a busy machine may need longer to open it
    with opened(endless, limits=SECONDS) as explainer:
        calls: list[Callable[[], object]] = [
            lambda: explainer(BRIGHT),
            lambda: explainer.batch([DARK, BRIGHT]),
            lambda: list(explainer.stream(BRIGHT)),
            lambda: explainer.scorer(BRIGHT),
            lambda: explainer.explain_on_device(BRIGHT),
        ]
        for call in calls:
            start = time.monotonic()
            with pytest.raises(TimedOut, match=r"more than 0\.3 s .* the limit is 0\.3 s; raise it with --timeout or"):
                call()
            assert time.monotonic() - start < 20  # without the limit it would take ten thousand years
        assert explainer(DARK).map.shape == (16, 12)  # the session is whole


def test_other_threads_go_on_while_one_waits_for_its_deadline(endless: onnx.ModelProto) -> None:
    with opened(endless, limits=Limits(seconds=2.0), threads=1) as explainer, opened(endless, threads=1) as other:
        other(DARK)
        error: list[TimedOut] = []

        def wait() -> None:
            try:
                explainer(BRIGHT)
            except TimedOut as late:
                error.append(late)

        thread = threading.Thread(target=wait)
        thread.start()
        times = [time.monotonic()]
        while thread.is_alive():
            other(DARK)
            with pytest.raises(PictureError, match="625,000,000 pixels"):
                other(np.broadcast_to(np.uint8(7), (25_000, 25_000, 3)))
            times.append(time.monotonic())
        thread.join()
    assert error
    assert len(times) > 10
    # None of them waited for the deadline; its 2 s are longer on a busy machine, and so is all else.
    assert max(np.diff(times)) < 0.75 * (times[-1] - times[0])
