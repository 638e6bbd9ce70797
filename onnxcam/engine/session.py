"""Sessions on onnxruntime: opened once, providers checked and never silently replaced."""

import io
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InferenceError, OptionError, OutOfMemory, ProviderError, RuntimeMissing, near

PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
AUTO = ("cuda", "rocm", "migraphx", "directml", "cpu")
"""What `auto` tries, in this order; TensorRT, OpenVINO and CoreML change numbers or compile for minutes: by name."""

MOST_THREADS = 1024

logger = logging.getLogger(__name__)
Array = npt.NDArray[Any]


def runtime() -> ModuleType:
    """The onnxruntime module; raises RuntimeMissing with both ways to install one."""
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        what = "is not installed" if absent else f"cannot be imported ({error})"
        raise RuntimeMissing(
            f'onnxruntime {what}: `pip install "onnxcam[cpu]"` for the CPU, `pip install "onnxcam[gpu]"` for CUDA'
        ) from None
    if not hasattr(onnxruntime, "InferenceSession"):
        # What is left in site-packages when two builds were installed over each other and one was removed.
        raise RuntimeMissing(
            "onnxruntime is broken (two builds overwrote each other): `pip uninstall onnxruntime onnxruntime-gpu`, "
            'then `pip install "onnxcam[cpu]"` or `pip install "onnxcam[gpu]"`'
        )
    return onnxruntime


class Session:
    """One opened graph. `run` keeps no state, so threads may share it."""

    def __init__(
        self,
        model: bytes,
        providers: Sequence[str] = ("auto",),
        threads: int | None = None,
        *,
        optimise: bool = True,
    ) -> None:
        """providers: short names in order of preference, each of which must start; 'auto' takes the best that does.

        threads: within one run; the runtime's own choice if None. optimise: False opens faster and keeps every tensor,
        for a model that is run once or twice. Raises ProviderError, InferenceError.
        """
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise OptionError(f"threads must be 1 to {MOST_THREADS}, not {threads}")
        self.passed_over: tuple[str, ...] = ()
        self._ort = runtime()
        self.threads = threads or available_threads()
        self._optimise = optimise
        self._session = self._open(model, (providers,) if isinstance(providers, str) else tuple(providers), threads)
        self.provider = _short(self._session.get_providers()[0])
        self.inputs = tuple(i.name for i in self._session.get_inputs())
        self.outputs = tuple(o.name for o in self._session.get_outputs())

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], *, seconds: float | None = None) -> list[Array]:
        """The named outputs, in that order; given up after `seconds`. Raises OutOfMemory or InferenceError."""
        session = self._session
        if session is None:
            raise InferenceError("this session is closed")
        options, late = self._ort.RunOptions(), threading.Event()
        options.log_severity_level = 4

        def stop() -> None:
            late.set()
            options.terminate = True

        timer = threading.Timer(seconds, stop) if seconds is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            return [np.asarray(a) for a in session.run(list(outputs), dict(feeds), options)]
        except MemoryError:
            raise OutOfMemory("out of memory") from None
        except self._errors() as error:
            if late.is_set():
                raise InferenceError(f"one forward pass takes more than {seconds:g} s, so it was given up") from None
            raise self._translated(error) from None
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Free the session's memory. Closing twice is harmless; running afterwards is an InferenceError."""
        self._session = None

    def _errors(self) -> tuple[type[Exception], ...]:
        state = self._ort.capi.onnxruntime_pybind11_state
        names = (
            "RuntimeException",
            "Fail",
            "InvalidArgument",
            "InvalidGraph",
            "InvalidProtobuf",
            "NotImplemented",
        )
        return tuple(getattr(state, n) for n in (*names, "EPFail", "NoSuchFile") if hasattr(state, n))

    def _translated(self, error: Exception) -> InferenceError:
        text = " ".join(str(error).split())
        if any(sign in text.lower() for sign in ("failed to allocate", "out of memory", "bad_alloc", "bad allocation")):
            return OutOfMemory(f"out of memory ({text[:200]})")
        return InferenceError(f"onnxruntime could not run the model ({text[:300]})")

    def _open(self, model: bytes, providers: tuple[str, ...], threads: int | None) -> Any:
        if tuple(p.lower() for p in providers) != ("auto",):
            return self._start(model, requested(providers, self._ort.get_available_providers()), threads)
        available = self._ort.get_available_providers()
        for name in AUTO:
            if PROVIDERS[name] not in available:
                continue
            try:
                return self._start(model, [PROVIDERS[name]], threads)
            except ProviderError as error:
                logger.info("provider %s does not start: %s", name, error)
                self.passed_over = (*self.passed_over, str(error))
        raise ProviderError(f"none of the providers {', '.join(AUTO)} starts with the installed onnxruntime")

    def _start(self, model: bytes, names: list[str], threads: int | None) -> Any:
        ort = self._ort
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or available_threads()
        if not self._optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Idle pools of several sessions in one process would burn the cores that the others need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if "CUDAExecutionProvider" in names and hasattr(ort, "preload_dlls"):
            # It prints what it cannot find; whether the provider starts is seen below.
            with redirect_stdout(io.StringIO()) as printed:
                ort.preload_dlls()
            logger.info("preload_dlls: %s", printed.getvalue())
        failures: tuple[type[Exception], ...] = (*self._errors(), RuntimeError, ValueError)
        try:
            # Its fallback would print, open the session on the CPU and, when a run fails, do so once more.
            session = ort.InferenceSession(model, options, providers=names, enable_fallback=0)
        except failures as error:
            if names[0] == PROVIDERS["cpu"]:
                raise self._translated(error) from None
            reason = " ".join(str(error).split())[:200]
            raise ProviderError(
                f"the provider {_short(names[0])} does not start ({reason}); use --providers cpu, or auto"
            ) from None
        missing = [_short(n) for n in names if n not in session.get_providers()]
        if missing:
            raise ProviderError(
                f"the provider {', '.join(missing)} is installed but does not start (driver or libraries missing?); "
                f"use --providers cpu, or auto"
            )
        return session


def requested(providers: Sequence[str], available: Sequence[str]) -> list[str]:
    """onnxruntime's names for short ones; raises ProviderError on one that is unknown or not in this build."""
    names = []
    for short in providers:
        if short.lower() == "auto":
            raise ProviderError("the provider auto stands alone: it takes the best that starts")
        full = PROVIDERS.get(short.lower(), short)
        if full not in PROVIDERS.values():
            raise ProviderError(f"no provider is called {short!r}; {near(short, [*PROVIDERS, 'auto'])}")
        if full not in available:
            have = ", ".join(_short(a) for a in available)
            way = 'install it with `pip install "onnxcam[gpu]"`, or use' if short.lower() == "cuda" else "use"
            raise ProviderError(
                f"the provider {short} is not in the installed onnxruntime (it has {have}); {way} --providers auto"
            )
        names.append(full)
    if not names:
        raise ProviderError(f"no provider given; known: auto, {', '.join(PROVIDERS)}")
    return names


def may_leave_the_cpu(providers: Sequence[str]) -> bool:
    """Whether something else may start than the CPU alone; of 'auto', what the installed runtime has."""
    wanted = [p.lower() for p in providers]
    if wanted != ["auto"]:
        return wanted != ["cpu"]
    available = runtime().get_available_providers()
    return any(PROVIDERS[name] in available for name in AUTO if name != "cpu")


def _short(full: str) -> str:
    return next((short for short, name in PROVIDERS.items() if name == full), full)


def available_threads() -> int:
    """Cores that this process may use: taskset or a container's quota allows fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return max(1, min(cores, -(-int(quota) // int(period)))) if quota.isdigit() and period.isdigit() else cores
