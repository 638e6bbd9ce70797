"""Sessions on onnxruntime: opened once, providers checked and never silently replaced."""

import io
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import Device, device_of, free_memory_of
from onnxcam.engine.options import CUDA, PLAIN, TENSORRT, EngineOptions
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
NO_MEMORY = (
    "failed to allocate", "out of memory", "out_of_memory", "bad_alloc", "bad allocation",
    "is smaller than requested bytes", "status_alloc_failed",
)  # fmt: skip
"""In what onnxruntime says when memory runs out: its arenas, CUDA, a gpu_mem_limit, cuDNN and cuBLAS."""

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
        engine: EngineOptions = PLAIN,
    ) -> None:
        """providers: short names in order of preference, each of which must start; 'auto' takes the best that does.

        threads: within one run; the runtime's own choice if None. optimise: False opens faster and keeps every tensor,
        for a model that is run once or twice. engine: what a GPU is told. Raises ProviderError, InferenceError, and
        OptionError for engine options that the provider that runs has no use for.
        """
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise OptionError(f"threads must be 1 to {MOST_THREADS}, not {threads}")
        self.passed_over: tuple[str, ...] = ()
        self._ort = runtime()
        self.threads = threads or available_threads()
        self._optimise, self.engine = optimise, engine
        self.cap: int | None = None
        self._session = self._open(model, (providers,) if isinstance(providers, str) else tuple(providers), threads)
        running = [_short(name) for name in self._session.get_providers()]
        self.provider = running[0]
        self.companions = tuple(name for name in running[1:] if name == "cuda")
        self.inputs = tuple(i.name for i in self._session.get_inputs())
        self.outputs = tuple(o.name for o in self._session.get_outputs())

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], *, seconds: float | None = None) -> list[Array]:
        """The named outputs, in that order; given up after `seconds`. Raises OutOfMemory or InferenceError."""
        session = self._session
        if session is None:
            raise InferenceError("this session is closed")
        options, late = self._ort.RunOptions(), threading.Event()
        options.log_severity_level = 4
        if self.engine.cuda_graph:
            options.add_run_config_entry("gpu_graph_id", "-1")  # a graph replays addresses, which are new in each run

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

    @property
    def device(self) -> Device | None:
        """Where the tensors lie; None for a provider whose tensors cannot be bound."""
        return device_of(self.provider)

    def binding(self) -> Any:
        """onnxruntime's IOBinding: inputs and outputs that stay where they are. Raises InferenceError if closed."""
        if self._session is None:
            raise InferenceError("this session is closed")
        return self._session.io_binding()

    def run_bound(self, binding: Any, *, wait: bool = True, graph: int | None = None) -> None:
        """One run over what is bound. wait: False returns as soon as the work is queued, behind what was queued before.

        graph: the number under which a CUDA graph of these very buffers is recorded and replayed. Raises OutOfMemory or
        InferenceError.
        """
        session, options = self._session, self._ort.RunOptions()
        if session is None:
            raise InferenceError("this session is closed")
        options.log_severity_level = 4
        if not wait:
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if self.engine.cuda_graph:
            options.add_run_config_entry("gpu_graph_id", str(-1 if graph is None else graph))
        with self.translating():
            session.run_with_iobinding(binding, options)

    @contextmanager
    def translating(self) -> Iterator[None]:
        """What onnxruntime raises, as OutOfMemory or InferenceError."""
        failures: tuple[type[Exception], ...] = (*self._errors(), RuntimeError)
        try:
            yield
        except MemoryError:
            raise OutOfMemory("out of memory") from None
        except failures as error:
            raise self._translated(error) from None

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
        if any(sign in text.lower() for sign in NO_MEMORY):
            return OutOfMemory(f"out of memory ({text[:200]})")
        return InferenceError(f"onnxruntime could not run the model ({text[:300]})")

    def _open(self, model: bytes, providers: tuple[str, ...], threads: int | None) -> Any:
        if tuple(p.lower() for p in providers) != ("auto",):
            return self._start(model, self._accompanied(providers), threads)
        available = self._ort.get_available_providers()
        for name in AUTO:
            if PROVIDERS[name] not in available:
                continue
            try:
                return self._start(model, [PROVIDERS[name]], threads)
            except ProviderError as error:
                logger.info("provider %s does not start: %s", name, error)
                self.passed_over = (*self.passed_over, str(error))
            except OptionError as error:
                raise OptionError("; ".join([str(error), *self.passed_over])) from None
        raise ProviderError(f"none of the providers {', '.join(AUTO)} starts with the installed onnxruntime")

    def _accompanied(self, providers: tuple[str, ...]) -> list[str]:
        """onnxruntime's names; TensorRT gets the CUDA provider for the operators that it lacks, ahead of the CPU."""
        available = self._ort.get_available_providers()
        names = requested(providers, available)
        if TENSORRT in names and CUDA not in names and CUDA in available:
            names.insert(names.index(TENSORRT) + 1, CUDA)
        return names

    def _provider_options(self, names: list[str]) -> list[dict[str, str]]:
        """Raises OptionError for what the first provider, the one that is to run, has no use for."""
        provider = _short(names[0])
        self.engine.check(provider)
        if self.engine.gpu_mem is not None:
            device = device_of(provider)
            asks = self.engine.gpu_mem.share is not None and device is not None
            self.cap = self.engine.gpu_mem.limit(free_memory_of(device)[0] if asks and device is not None else None)
        return [self.engine.of_provider(name, self.cap) for name in names]

    def _start(self, model: bytes, names: list[str], threads: int | None) -> Any:
        ort = self._ort
        told = self._provider_options(names)
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
            session = ort.InferenceSession(model, options, providers=names, provider_options=told, enable_fallback=0)
        except failures as error:
            if names[0] == PROVIDERS["cpu"]:
                raise self._translated(error) from None
            reason = " ".join(str(error).split())[:200]
            captured = "leave out --cuda-graph, " if self.engine.cuda_graph else ""
            raise ProviderError(
                f"the provider {_short(names[0])} does not start ({reason}); {captured}use --providers cpu, or auto"
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
