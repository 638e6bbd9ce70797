"""Which execution providers may run a graph: the caller's list, checked and in onnxruntime's names.

A provider is given by a short name ('cuda'), by onnxruntime's name ('CUDAExecutionProvider'), or in onnxruntime's own
form: a tuple of a name and a dict of options. session.py starts what is returned here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from onnxcam.errors import OptionError, ProviderError, near

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "cpu": "CPUExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "rocm": "ROCMExecutionProvider",
        "migraphx": "MIGraphXExecutionProvider",
        "openvino": "OpenVINOExecutionProvider",
        "directml": "DmlExecutionProvider",
        "coreml": "CoreMLExecutionProvider",
        "qnn": "QNNExecutionProvider",
        "webgpu": "WebGpuExecutionProvider",
        "xnnpack": "XnnpackExecutionProvider",
    }
)
"""onnxruntime's name by short name."""
CPU, CUDA, TENSORRT = PROVIDERS["cpu"], PROVIDERS["cuda"], PROVIDERS["tensorrt"]
OPENVINO = PROVIDERS["openvino"]
PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "cuda": '"onnxcam[gpu]"',
        "tensorrt": '"onnxcam[gpu]" and TensorRT',
        "rocm": "onnxruntime-rocm",
        "migraphx": "onnxruntime-migraphx",
        "openvino": '"onnxcam[openvino]"',
        "directml": "onnxruntime-directml",
        "coreml": "onnxruntime, on macOS",
        "qnn": "onnxruntime-qnn",
        "webgpu": '"onnxcam[webgpu]"',
    }
)
"""What pip installs to get a provider, by its short name: builds of onnxruntime, which overwrite each other's files."""
BESIDE = ("webgpu",)
"""Those of the packages that stand beside a build of onnxruntime: plugins."""
AUTO = ("cuda", "rocm", "migraphx", "directml", "webgpu", "cpu")
"""What `auto` tries, in this order; plugins only where they find a GPU.

TensorRT, OpenVINO and CoreML change numbers or compile for minutes: by name.
"""
RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "enable_cuda_graph": "ask for CUDA graphs with EngineOptions(cuda_graph=True), or --cuda-graph",
        "trt_cuda_graph_enable": "CUDA graphs run on the provider cuda, with EngineOptions(cuda_graph=True)",
        **dict.fromkeys(
            ("trt_fp16_enable", "trt_bf16_enable"),
            "ask for half precision with EngineOptions(half=True), or --half",
        ),
    }
)
"""Options that decide whether runs give the right numbers, and what to do instead of setting them.

What an opening verifies is compared with a wider tolerance in half precision, so onnxcam must know of it.
"""

ProviderSpec = str | tuple[str, Mapping[str, Any]]
"""A provider as a caller gives it: a name, or a name with onnxruntime's options for that provider."""


@dataclass(frozen=True)
class Provider:
    """name: onnxruntime's, or 'auto'. options: the caller's, as the text that onnxruntime takes."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def device_id(self) -> int:
        """Index of the device that the options choose, 0 if they do not. Raises OptionError unless it is a number."""
        index = self.options.get("device_id", "0")
        if not index.isdecimal():
            raise OptionError(f"device_id must be a number from 0 on, not {index!r}")
        return int(index)


def short_name(full: str) -> str:
    """The short name of one of onnxruntime's providers; the full name if it has none."""
    return next((short for short, name in PROVIDERS.items() if name == full), full)


def parse_providers(providers: str | Sequence[ProviderSpec]) -> tuple[Provider, ...]:
    """The caller's providers by onnxruntime's names; unknown names stay as they are.

    Raises OptionError for anything that is neither a name nor a tuple of a name and a dict of options, for options that
    the provider ignores or that onnxcam must set, and for a provider that is listed twice.
    """
    if isinstance(providers, str):
        providers = (providers,)
    if not isinstance(providers, Sequence):
        raise OptionError(f"providers must be a list of names, or of (name, options), not {providers!r}")
    parsed = tuple(_parse(spec) for spec in providers)
    names = [provider.name for provider in parsed]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"the provider {short_name(twice)} is listed twice")
    return parsed


def resolve_providers(providers: Sequence[Provider], available: Sequence[str]) -> list[Provider]:
    """The providers that onnxruntime is to start, in this order.

    available: names of the providers in the installed build, and of installed plugins. TensorRT gets the CUDA provider
    for the operators that it lacks, ahead of the CPU, on its own device. Raises ProviderError for a provider that
    is unknown or not available, and OptionError for TensorRT and CUDA on different devices.
    """
    for provider in providers:
        _check_available(provider.name, available)
    if not providers:
        raise ProviderError(f"no provider given; known: auto, {', '.join(PROVIDERS)}")
    resolved = list(providers)
    names = [provider.name for provider in resolved]
    if TENSORRT not in names:
        return resolved
    tensorrt = resolved[names.index(TENSORRT)]
    device = {key: value for key, value in tensorrt.options.items() if key == "device_id"}
    if CUDA in names:
        place = names.index(CUDA)
        resolved[place] = with_options(resolved[place], device)
        if resolved[place].device_id != tensorrt.device_id:
            raise OptionError(
                f"tensorrt would run on device {tensorrt.device_id} and cuda, which runs what it lacks, on device "
                f"{resolved[place].device_id}; give both the same device_id"
            )
    elif CUDA in available:
        resolved.insert(names.index(TENSORRT) + 1, Provider(CUDA, device))
    return resolved


def is_auto(providers: Sequence[Provider]) -> bool:
    """Whether the best provider that starts is to be taken."""
    return [provider.name for provider in providers] == ["auto"]


def with_options(provider: Provider, defaults: Mapping[str, str]) -> Provider:
    """The provider with these options too; where both set one, the caller's wins."""
    return replace(provider, options={**defaults, **provider.options})


def _parse(spec: ProviderSpec) -> Provider:
    if isinstance(spec, str):
        return Provider(_full_name(spec))
    if not (isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[0], str) and isinstance(spec[1], Mapping)):
        raise OptionError(f"a provider is a name, or a tuple of a name and a dict of options, not {spec!r}")
    name, options = _full_name(spec[0]), spec[1]
    if options and name in ("auto", CPU):
        reason = "name the provider that they are for" if name == "auto" else "onnxruntime would ignore them"
        raise OptionError(f"the provider {short_name(name)} takes no options; {reason}")
    for key, value in options.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float):
            raise OptionError(f"a provider option is a name with a text or number, not {key!r}: {value!r}")
        if key in RESERVED:
            raise OptionError(f"the provider option {key} is set by onnxcam; {RESERVED[key]}")
    return Provider(name, MappingProxyType({key: str(value) for key, value in options.items()}))


def _full_name(name: str) -> str:
    return "auto" if name.lower() == "auto" else PROVIDERS.get(name.lower(), name)


def _check_available(name: str, available: Sequence[str]) -> None:
    if name == "auto":
        raise ProviderError("the provider auto stands alone: it takes the best that starts")
    if name in available:
        return
    if name not in PROVIDERS.values():
        known = "did you mean cuda?" if name.lower() == "gpu" else near(name, [*PROVIDERS, "auto"])
        raise ProviderError(f"no provider is called {name!r}; {known}")
    have = ", ".join(short_name(a) for a in available)
    package = PACKAGES.get(short_name(name))
    source = f"pip gets it with {package}" if package is not None else "a build of onnxruntime with it is needed"
    where = "beside" if short_name(name) in BESIDE else "in place of"
    raise ProviderError(
        f"the provider {short_name(name)} is not in the installed onnxruntime (it has {have}); {source}, "
        f"{where} this build, or use --providers auto"
    )
