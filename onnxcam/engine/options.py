"""How a device computes: EngineOptions, one value that travels from the caller to every session.

It becomes settings of onnxruntime's providers. An option that has no effect on the provider that runs is an error.
"""

import re
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.engine.precision import Precision, check_processor
from onnxcam.engine.providers import CUDA, OPENVINO, TENSORRT
from onnxcam.errors import OptionError
from onnxcam.limits import brief, is_whole

UNITS = {"": 1, "b": 1, **{f"{p}b": 10 ** (3 * i) for i, p in enumerate("kmgt", 1)}}
UNITS |= {f"{p}ib": 2 ** (10 * i) for i, p in enumerate("kmgt", 1)}
"""Bytes by unit: GB counts in thousands, GiB in 1024s."""
MOST_BYTES = 2**63 - 1
"""Of a memory cap: what onnxruntime can read."""
UNDERSTOOD = {
    "cuda": ("gpu_mem", "half", "tf32", "cuda_graph"),
    "tensorrt": ("gpu_mem", "half"),
    "openvino": ("half", "precision"),
}
"""Options by provider. Every other provider but the CPU's understands `half` alone."""


@dataclass(frozen=True)
class MemoryCap:
    """Upper limit on the device memory that a graph may take.

    amount: in bytes, from 1 on. share: of the free bytes, in (0,1]. Raises OptionError unless exactly one of the two is
    set, and in its range.
    """

    amount: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        if (self.amount is None) == (self.share is None):
            raise OptionError("a memory cap is either an amount in bytes or a share of the free memory")
        if self.amount is not None:
            _check_amount(self.amount)
        if self.share is not None:
            _check_share(self.share)

    def limit(self, free: int | None) -> int:
        """The limit in bytes. Raises OptionError for a share of an unknown amount (free is None)."""
        if self.amount is not None:
            return self.amount
        assert self.share is not None
        if free is None:
            raise OptionError("the free device memory cannot be read here; give --gpu-mem an amount, as in 4GB")
        return max(1, int(self.share * free))

    def __str__(self) -> str:
        return f"{self.share:.4g} of the free memory" if self.share is not None else f"{self.amount} bytes"


def _check_amount(amount: int) -> None:
    if not is_whole(amount):
        raise OptionError(
            f"the amount of a memory cap is a whole number of bytes, such as MemoryCap(4 * 10**9), not {brief(amount)}"
        )
    if not 1 <= amount <= MOST_BYTES:
        raise OptionError(f"the memory cap must be 1 to {MOST_BYTES} bytes; write 4GB, or MemoryCap(4 * 10**9)")


def _check_share(share: float) -> None:
    if not isinstance(share, int | float | np.integer | np.floating) or isinstance(share, bool):
        raise OptionError(
            f"the share of a memory cap is a number above 0 and at most 1, such as MemoryCap(share=0.5), not "
            f"{brief(share)}"
        )
    if not 0 < share <= 1:
        raise OptionError("the memory cap must be above 0 % and at most 100 %; write 50%, or MemoryCap(share=0.5)")


def memory_cap(text: str) -> MemoryCap:
    """Parses '4GB', '512MiB', '3000000000' (bytes) or '50%' (of what is free). Raises OptionError."""
    if not isinstance(text, str):
        raise OptionError(f"an amount of memory is a text such as '4GB' or '50%', not {brief(text)}")
    share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if share is not None:
        return MemoryCap(share=float(share[1]) / 100)
    amount = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if amount is None or amount[2] not in UNITS:
        raise OptionError(f"{brief(text)} is no amount of memory; write 4GB, 512MiB, or 50% of what is free")
    count = float(amount[1]) * UNITS[amount[2]]
    if count > MOST_BYTES:
        raise OptionError(f"{brief(text)} is more memory than a cap can be; write 4GB, 512MiB, or 50% of what is free")
    return MemoryCap(amount=int(count))


@dataclass(frozen=True)
class EngineOptions:
    """How a GPU computes, and OpenVINO. The CPU's own provider refuses all of these.

    gpu_mem: upper limit on the memory of each open graph. half: the scoring graph computes in float16. tf32: float32
    products with a mantissa of 10 bits. cuda_graph: chunks of one size are recorded once and replayed. precision: of
    the masked passes, a Precision or its name; 'bf16' runs on OpenVINO's CPU. Raises OptionError for other values, and
    for half with bf16.
    """

    gpu_mem: MemoryCap | None = None
    half: bool = False
    tf32: bool = False
    cuda_graph: bool = False
    precision: Precision | str = Precision.F32

    def __post_init__(self) -> None:
        if self.gpu_mem is not None and not isinstance(self.gpu_mem, MemoryCap):
            raise OptionError(
                f"gpu_mem is a MemoryCap, such as MemoryCap(4 * 10**9) or MemoryCap(share=0.5), not "
                f"{brief(self.gpu_mem)}"
            )
        for name, value in (("half", self.half), ("tf32", self.tf32), ("cuda_graph", self.cuda_graph)):
            if not isinstance(value, bool):
                raise OptionError(f"{name} is True or False, not {brief(value)}")
        if not isinstance(self.precision, str) or self.precision not in list(Precision):
            raise OptionError(f"no precision is called {brief(self.precision)}; known: {', '.join(Precision)}")
        object.__setattr__(self, "precision", Precision(self.precision))
        if self.half and self.reduced:
            raise OptionError("half and precision bf16 exclude each other; leave one out")

    @property
    def reduced(self) -> bool:
        """Whether masked passes are computed in less than the rest."""
        return self.precision is not Precision.F32

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the options that are not at their default."""
        values = {
            "gpu_mem": self.gpu_mem, "half": self.half, "tf32": self.tf32, "cuda_graph": self.cuda_graph,
            "precision": self.reduced,
        }  # fmt: skip
        return tuple(name for name, value in values.items() if value)

    @property
    def recorded(self) -> dict[str, str]:
        """The changed options as text, for notes and provenance."""
        texts = {"gpu_mem": str(self.gpu_mem), "precision": str(self.precision)}
        return {name: texts.get(name, "on") for name in self.changed}

    def check(self, provider: str) -> None:
        """Raises OptionError for options that do nothing on the provider that runs, given by its short name."""
        understood = UNDERSTOOD.get(provider, () if provider == "cpu" else ("half",))
        if self.reduced and "precision" not in understood:
            raise OptionError(
                f"precision {self.precision} does nothing on the provider {provider}; use --providers openvino (pip "
                f'installs "onnxcam[openvino]" in place of this build), or leave it out'
            )
        if self.reduced:
            check_processor()
        idle = [name.replace("_", "-") for name in self.changed if name not in understood]
        if idle:
            raise OptionError(
                f"{', '.join(idle)} would do nothing on the provider {provider}; leave it out, or use --providers cuda"
            )

    @property
    def without_cuda_graph(self) -> "EngineOptions":
        """The same options without CUDA graphs, for graphs whose chunks differ in size."""
        return replace(self, cuda_graph=False)

    def provider_options(self, name: str, cap: int | None, threads: int = 1) -> dict[str, str]:
        """Options for onnxruntime's provider of this full name. cap: bytes, None for no limit. threads: of one run."""
        if name == CUDA:
            # https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#configuration-options
            options = {
                "use_tf32": str(int(self.tf32)),  # onnxruntime sets it by default
                "arena_extend_strategy": "kSameAsRequested",  # a power of two more than needed breaks a cap
                # Not EXHAUSTIVE, which tries every algorithm anew for each size of a chunk.
                "cudnn_conv_algo_search": "HEURISTIC",
                "enable_cuda_graph": str(int(self.cuda_graph)),
            }
            return options if cap is None else {**options, "gpu_mem_limit": str(cap)}
        if name == TENSORRT:
            options = {"trt_fp16_enable": str(self.half)}
            return options if cap is None else {**options, "trt_max_workspace_size": str(cap)}
        if name == OPENVINO:
            # Most devices would compute in half precision or bfloat16. A hint in the caller's load_config wins over it.
            return {"precision": "FP32", "num_of_threads": str(threads)}
        return {}


PLAIN = EngineOptions()
