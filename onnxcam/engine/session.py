"""One graph opened in onnxruntime: Session.

A provider that does not start is an error and never silently replaced by another. Everything that onnxruntime raises
becomes an InferenceError, or OutOfMemory. On top of it stand parallel.py (several runs on a CPU) and io_binding.py
(tensors that stay on a device).
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.deadlines import Deadline
from onnxcam.engine.devices import Device, device_of, free_memory_of, turn_on
from onnxcam.engine.forking import Lock, renew_in_child
from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.plugins import DEFAULTS, built_in, devices_of, is_installed, offers_gpu
from onnxcam.engine.providers import (
    AUTO,
    CPU,
    CUDA,
    PROVIDERS,
    Provider,
    ProviderSpec,
    is_auto,
    parse_providers,
    resolve_providers,
    short_name,
    with_options,
)
from onnxcam.errors import InferenceError, OptionError, OutOfMemory, ProviderError, RuntimeMissing, TimedOut
from onnxcam.limits import SAFE, Limits, brief
from onnxcam.logs import module_logger

MOST_THREADS = 1024
NO_MEMORY = (
    "failed to allocate", "out of memory", "out_of_memory", "bad_alloc", "bad allocation",
    "is smaller than requested bytes", "status_alloc_failed", "exceeds the max buffer size", "[invalid buffer",
)  # fmt: skip
"""Parts of onnxruntime's messages when memory runs out: from its arenas, CUDA, a gpu_mem_limit, cuDNN, cuBLAS, and
WebGPU, where a buffer that cannot be had is an invalid one."""

logger = module_logger(__name__)
Array = npt.NDArray[Any]


NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""Read by onnxruntime while it is imported. Its disable_telemetry_events() comes too late: the files are there then."""


def runtime() -> ModuleType:
    """Imports and returns onnxruntime, its telemetry off unless the environment says otherwise.

    Nothing can be done where the process imported it before. Raises RuntimeMissing, which says how to install it.
    """
    if "onnxruntime" not in sys.modules:
        os.environ.setdefault(NO_TELEMETRY, "1")
    elif NO_TELEMETRY not in os.environ:
        logger.info("onnxruntime was imported before onnxcam could turn its telemetry off; set %s=1", NO_TELEMETRY)
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        what = "is not installed" if absent else f"cannot be imported ({error})"
        raise RuntimeMissing(
            f'onnxruntime {what}: `pip install "onnxcam[cpu]"` for the CPU, `pip install "onnxcam[gpu]"` for CUDA'
        ) from None
    if not hasattr(onnxruntime, "InferenceSession"):
        # Two builds were installed over each other and one was removed: this is what stays in site-packages.
        raise RuntimeMissing(
            "onnxruntime is broken (two builds overwrote each other): `pip uninstall onnxruntime onnxruntime-gpu`, "
            'then `pip install "onnxcam[cpu]"` or `pip install "onnxcam[gpu]"`'
        )
    return onnxruntime


class Session:
    """One opened graph. Threads may share it: `run` keeps no state.

    provider: short name of the one that runs. companions: 'cuda' where it runs what TensorRT lacks. inputs, outputs:
    names. threads: within one run. cap: the memory limit in bytes, None if there is none. skipped_providers: why `auto`
    did not take a better provider. provider_options: all that the provider was opened with, defaults of onnxcam too.
    """

    def __init__(
        self,
        model: bytes,
        providers: str | Sequence[ProviderSpec] = ("auto",),
        threads: int | None = None,
        *,
        optimise: bool = True,
        engine: EngineOptions = PLAIN,
        again: Callable[[], bytes] | None = None,
        limits: Limits = SAFE,
    ) -> None:
        """providers: in order, names or (name, options), each of which must start; 'auto' takes the best that does.

        threads: within one run; one for each core if None. optimise: False opens faster and keeps every tensor, for a
        graph that is run once or twice. engine: how a GPU computes; a provider's own options win over it. again: gives
        the model once more, by which a forked child reopens it. limits: how long a run may take. Raises ProviderError,
        InferenceError, and OptionError for options that the provider ignores.
        """
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise OptionError(f"threads must be 1 to {MOST_THREADS}, not {brief(threads)}")
        self.skipped_providers: tuple[str, ...] = ()
        self._ort = runtime()
        self.threads = threads or available_threads()
        self._optimise, self.engine, self._limits = optimise, engine, limits
        self.cap: int | None = None
        self._requested = parse_providers(providers)
        self._device_index = 0
        self._plugin: str | None = None
        self._turn = turn_on(None)
        self.provider_options: Mapping[str, str] = {}
        self._again, self._lost, self._reopening = again, False, Lock()
        self._runs: set[_InUse] = set()
        limits.check()
        self._session = self._open(model, threads)
        limits.check()  # nothing stops onnxruntime while it opens a graph
        running = [short_name(name) for name in self._session.get_providers()]
        self.provider = self._plugin or running[0]
        self.companions = tuple(name for name in running[1:] if name == "cuda")
        self.inputs = tuple(i.name for i in self._session.get_inputs())
        self.outputs = tuple(o.name for o in self._session.get_outputs())
        logger.debug("session on %s: %d threads, a graph of %d bytes", self.provider, self.threads, len(model))
        renew_in_child(self)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array], *, pictures: int = 1) -> list[Array]:
        """Returns the named outputs, in that order. pictures: in this forward pass, by which its deadline is set.

        Raises OutOfMemory, TimedOut or InferenceError.
        """
        options = self._run_options()
        if self.engine.cuda_graph:
            options.add_run_config_entry("gpu_graph_id", "-1")  # a graph replays addresses, and each run has new ones
        with self._turn, _InUse(self) as session, self._deadline(options, pictures):
            try:
                return [_array(a) for a in session.run(list(outputs), dict(feeds), options)]
            except MemoryError:
                raise OutOfMemory("out of memory") from None
            except self._errors() as error:
                raise self._translated(error) from None

    def _run_options(self) -> Any:
        options = self._ort.RunOptions()
        options.log_severity_level = 4
        return options

    @contextmanager
    def _deadline(self, options: Any, pictures: int) -> Iterator[None]:
        """Ends a run of the block that takes too long. Raises TimedOut in place of its InferenceError."""

        def stop() -> None:
            options.terminate = True

        # TensorRT compiles the graph for minutes, in the first run of each shape.
        seconds = None if self.provider == "tensorrt" else self._limits.seconds_of_run(pictures)
        with Deadline(seconds, stop) as deadline:
            try:
                yield
            except InferenceError:
                if not deadline.passed:
                    raise
                self._limits.check()  # the time of the opening that it is part of
                number = "" if pictures == 1 else f" of {pictures} pictures"
                each = "" if pictures == 1 else " a picture"
                raise TimedOut(
                    f"a forward pass{number} took more than {deadline.seconds:g} s and was given up; "
                    f"{self._limits.way_out('seconds')}{each}"
                ) from None

    @property
    def device(self) -> Device | None:
        """Where the tensors lie; None for a provider that is not used with IO binding."""
        return device_of(self.provider, self._device_index)

    @property
    def recorded_options(self) -> dict[str, str]:
        """Options that the caller set, as text: those of the engine, and of a provider as 'cuda.device_id'."""
        set_by_caller = {
            f"{short_name(provider.name)}.{key}": value
            for provider in self._requested
            for key, value in provider.options.items()
        }
        return {**self.engine.recorded, **set_by_caller}

    def binding(self) -> Any:
        """A new onnxruntime IOBinding, whose tensors stay where they are. Raises InferenceError if closed."""
        with _InUse(self) as session:
            return session.io_binding()

    def run_bound(self, binding: Any, *, graph: int | None = None, pictures: int = 1) -> None:
        """Runs once on the bound buffers.

        graph: the number under which a CUDA graph of these buffers is recorded and replayed. pictures: as run() takes
        it. Raises OutOfMemory, TimedOut or InferenceError.
        """
        options = self._run_options()
        if self.engine.cuda_graph:
            options.add_run_config_entry("gpu_graph_id", str(-1 if graph is None else graph))
        with self._turn, _InUse(self) as session, self._deadline(options, pictures), self.translating():
            session.run_with_iobinding(binding, options)

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turns what onnxruntime raises in the block into OutOfMemory or InferenceError."""
        failures: tuple[type[Exception], ...] = (*self._errors(), RuntimeError)
        try:
            yield
        except MemoryError:
            raise OutOfMemory("out of memory") from None
        except failures as error:
            raise self._translated(error) from None

    def close(self) -> None:
        """Frees the session's memory. Closing twice is harmless; a later run raises InferenceError."""
        with self._turn:
            self._session = None

    def after_fork(self) -> None:
        """Gives up what the child of a fork cannot use: threads of the session, a device, a run that was under way.

        A session of one thread goes on, and shares the memory of its weights with the parent.
        """
        if self._session is not None and (self.threads > 1 or self.provider != "cpu" or self._runs):
            # Its destructor would wait for threads that the child does not have, also at the end of the process.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._lost = True
        self._runs = set()

    def _live(self) -> Any:
        """The open session, which a forked child opens once more where it lost it. Raises InferenceError."""
        if not self._lost and (session := self._session) is not None:
            return session
        with self._reopening:
            if self._session is None:
                raise InferenceError("this session is closed")
            if not self._lost:  # another thread has opened it
                return self._session
            if self.provider != "cpu" or self._again is None:
                raise InferenceError(
                    f"this model was opened on the provider {self.provider} before the process forked, and such a "
                    f"session does not survive a fork; open it in the child, or start workers by spawn or forkserver"
                )
            logger.info("opening a session of %d threads once more in a forked child", self.threads)
            session = self._open(self._again(), self.threads)
            if self._session is None:  # closed meanwhile
                raise InferenceError("this session is closed")
            self._session, self._lost = session, False
            return session

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
            return OutOfMemory("onnxruntime gets no more memory for this model")
        return InferenceError(f"onnxruntime could not run the model ({text[:300]})")

    def _open(self, model: bytes, threads: int | None) -> Any:
        available = built_in(self._ort)
        if not is_auto(self._requested):
            named = [p.name for p in self._requested if _is_plugin(p.name, available)]
            return self._start(model, resolve_providers(self._requested, [*available, *named]), threads)
        for name in AUTO:
            if not _auto_tries(name, available):
                continue
            try:
                return self._start(model, [Provider(PROVIDERS[name])], threads)
            except ProviderError as error:
                logger.warning("provider %s does not start, another one is taken: %r", name, str(error))
                self.skipped_providers = (*self.skipped_providers, str(error))
            except OptionError as error:
                raise OptionError("; ".join([str(error), *self.skipped_providers])) from None
        raise ProviderError(f"none of the providers {', '.join(AUTO)} starts with the installed onnxruntime")

    def _configured(self, providers: Sequence[Provider]) -> list[Provider]:
        """The providers with the engine's options too. Raises OptionError for what the first, which runs, ignores."""
        name = short_name(providers[0].name)
        self._plugin = name if _is_plugin(providers[0].name, built_in(self._ort)) else None
        self._turn = turn_on(self._plugin)
        self.engine.check(name)
        self._device_index = providers[0].device_id
        if self.engine.gpu_mem is not None:
            device = device_of(name, self._device_index)
            is_share = self.engine.gpu_mem.share is not None and device is not None
            self.cap = self.engine.gpu_mem.limit(free_memory_of(device)[0] if is_share and device is not None else None)
        configured = [with_options(p, self.engine.provider_options(p.name, self.cap, self.threads)) for p in providers]
        if self._plugin is not None:
            configured[0] = with_options(configured[0], DEFAULTS.get(self._plugin, {}))
        limit = configured[0].options.get("gpu_mem_limit", "")
        if limit.isdecimal():
            self.cap = int(limit)
        self.provider_options = configured[0].options
        return configured

    def _start(self, model: bytes, providers: list[Provider], threads: int | None) -> Any:
        configured = self._configured(providers)
        names = [provider.name for provider in configured]
        if CUDA in names:
            _preload_cuda(self._ort)
        options, listed = self._session_options(threads), self._listed(configured)
        if self._plugin is not None:
            device = self._plugin_device(configured)
            own = {key: value for key, value in configured[0].options.items() if key != "device_id"}
            options.add_provider_for_devices([device], own)
            names[0] = device.ep_name
        failures: tuple[type[Exception], ...] = (*self._errors(), RuntimeError, ValueError)
        try:
            # Its fallback would print, open the session on the CPU and, when a run fails, do so once more.
            with self._turn:
                session = self._ort.InferenceSession(model, options, **listed, enable_fallback=0)
        except failures as error:
            if names[0] == CPU:
                raise self._translated(error) from None
            reason = shortened(str(error))
            captured = "leave out --cuda-graph, " if self.engine.cuda_graph else ""
            raise ProviderError(
                f"the provider {short_name(names[0])} does not start ({reason}); {captured}use --providers cpu, or auto"
            ) from None
        # The Python class keeps the model's bytes for its fallback, which is off: a second copy of the weights.
        # https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/python/onnxruntime_inference_collection.py
        session._model_bytes = None
        missing = [short_name(n) for n in names if n not in session.get_providers()]
        if missing:
            raise ProviderError(
                f"the provider {', '.join(missing)} is installed but does not start (are driver and libraries there, "
                f"and its options right?); use --providers cpu, or auto"
            )
        return session

    def _listed(self, providers: Sequence[Provider]) -> dict[str, Any]:
        """The providers as arguments of InferenceSession; none for a plugin, which is a device among its options."""
        if self._plugin is not None:
            return {}
        options = [dict(provider.options) for provider in providers]
        return {"providers": [provider.name for provider in providers], "provider_options": options}

    def _plugin_device(self, providers: Sequence[Provider]) -> Any:
        """The plugin's device. Raises ProviderError, and OptionError where another provider than the CPU follows."""
        if any(provider.name != CPU for provider in providers[1:]):
            raise OptionError(f"the plugin provider {self._plugin} stands first, and none but cpu may follow it")
        devices = devices_of(self._ort, str(self._plugin))
        if self._device_index >= len(devices):
            raise OptionError(f"the provider {self._plugin} has devices from 0 to {len(devices) - 1}")
        return devices[self._device_index]

    def _session_options(self, threads: int | None) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or available_threads()
        if not self._optimise:
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Idle pools of several sessions in one process would burn the cores that the others need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


class _InUse:
    """`with _InUse(session) as opened:` gives what is open in this process, and marks it as running within the block.

    A class, because a generator takes as long as a tenth of a small model's run. Raises InferenceError if closed.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> Any:
        self._session._runs.add(self)
        try:
            return self._session._live()
        except BaseException:
            self._session._runs.discard(self)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session._runs.discard(self)


def _preload_cuda(ort: ModuleType) -> None:
    """Loads the CUDA libraries that pip installed. What cannot be loaded is logged; the session shows if it matters."""
    preload = getattr(ort, "preload_dlls", None)
    if not isinstance(preload, FunctionType):  # an older onnxruntime
        return
    # onnxruntime prints here. Redirecting stdout would do so for all threads of the process, so it gets another print.
    names = {**preload.__globals__, "print": _log}
    copy = FunctionType(preload.__code__, names, preload.__name__, preload.__defaults__, preload.__closure__)
    copy.__kwdefaults__ = preload.__kwdefaults__
    copy()


def _log(*words: object, sep: str | None = " ", end: str | None = "", file: object = None, flush: bool = False) -> None:
    """Logs what print() would write; `end`, `file` and `flush` have no use in a log."""
    logger.info("preload_dlls: %s", (" " if sep is None else sep).join(map(str, words)))


def may_leave_the_cpu(providers: str | Sequence[ProviderSpec]) -> bool:
    """Whether another provider than the CPU's may run; for 'auto', whether the installed onnxruntime has one."""
    parsed = parse_providers(providers)
    if not is_auto(parsed):
        return [provider.name for provider in parsed] != [CPU]
    available = built_in(runtime())
    return any(_auto_tries(name, available) for name in AUTO if name != "cpu")


def _is_plugin(name: str, available: Sequence[str]) -> bool:
    """Whether a plugin has the provider of this name, which the build of onnxruntime lacks."""
    return name not in available and is_installed(short_name(name))


def _auto_tries(name: str, available: Sequence[str]) -> bool:
    """Whether `auto` tries the provider of this short name: the build has it, or a plugin that finds a GPU."""
    return PROVIDERS[name] in available or offers_gpu(runtime(), name)


def available_threads() -> int:
    """Cores that this process may use: all of the machine, or fewer under taskset or a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return max(1, min(cores, -(-int(quota) // int(period)))) if quota.isdigit() and period.isdigit() else cores


def shortened(message: str, most: int = 200) -> str:
    """A message in one line; of a longer one both ends, as a provider may give its reason last."""
    line = " ".join(message.split())
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-(most // 2) :]}"


def _array(output: Any) -> Array:
    """An output as an array; a sequence of tensors of several shapes as an array of objects."""
    if isinstance(output, list) and len({np.shape(part) for part in output}) > 1:
        parts: Array = np.empty(len(output), object)
        parts[:] = output
        return parts
    return np.asarray(output)
