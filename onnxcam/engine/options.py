"""How a GPU is used: one value that travels from the caller to every session."""

import re
from dataclasses import dataclass, replace

from onnxcam.errors import OptionError

UNITS = {"": 1, "b": 1, **{f"{p}b": 10 ** (3 * i) for i, p in enumerate("kmgt", 1)}}
UNITS |= {f"{p}ib": 2 ** (10 * i) for i, p in enumerate("kmgt", 1)}
"""GB counts in thousands, GiB in 1024s."""
UNDERSTOOD = {"cuda": ("gpu_mem", "half", "tf32", "cuda_graph"), "tensorrt": ("gpu_mem", "half")}
"""Options by provider; every other one but the CPU's understands half alone."""
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@dataclass(frozen=True)
class MemoryCap:
    """The most of the device's memory that a graph may take: bytes, or a share (0,1] of the free ones.

    Raises OptionError unless exactly one of the two is given, and in its range.
    """

    amount: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        if (self.amount is None) == (self.share is None):
            raise OptionError("a memory cap is either an amount in bytes or a share of the free memory")
        if self.amount is not None and self.amount < 1:
            raise OptionError(f"the memory cap must be 1 byte or more, not {self.amount}")
        if self.share is not None and not 0 < self.share <= 1:
            raise OptionError(f"the memory cap must be above 0 % and at most 100 %, not {self.share:.0%}")

    def limit(self, free: int | None) -> int:
        """Bytes. Raises OptionError for a share of an unknown amount."""
        if self.amount is not None:
            return self.amount
        assert self.share is not None
        if free is None:
            raise OptionError(
                "how much device memory is free cannot be asked here; give --gpu-mem an amount, as in 4GB"
            )
        return max(1, int(self.share * free))

    def __str__(self) -> str:
        return f"{self.share:.4g} of the free memory" if self.share is not None else f"{self.amount} bytes"


def memory_cap(text: str) -> MemoryCap:
    """'4GB', '512MiB', '3000000000' or '50%'; raises OptionError."""
    share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if share is not None:
        return MemoryCap(share=float(share[1]) / 100)
    amount = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if amount is None or amount[2] not in UNITS:
        raise OptionError(f"{text!r} is no amount of memory; write 4GB, 512MiB, or 50% of what is free")
    return MemoryCap(amount=int(float(amount[1]) * UNITS[amount[2]]))


@dataclass(frozen=True)
class EngineOptions:
    """What changes how a GPU computes; nothing of it means anything on a CPU, where it is refused.

    gpu_mem: a cap on the memory of each open graph. half: the scoring graph computes in float16 (surgeon/half.py).
    tf32: float32 products with a mantissa of 10 bits. cuda_graph: chunks of one size are recorded once and replayed.
    """

    gpu_mem: MemoryCap | None = None
    half: bool = False
    tf32: bool = False
    cuda_graph: bool = False

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the options that are not at their default."""
        given = {"gpu_mem": self.gpu_mem, "half": self.half, "tf32": self.tf32, "cuda_graph": self.cuda_graph}
        return tuple(name for name, value in given.items() if value)

    @property
    def recorded(self) -> dict[str, str]:
        """For a result's provenance."""
        return {name: str(self.gpu_mem) if name == "gpu_mem" else "on" for name in self.asked}

    def check(self, provider: str) -> None:
        """provider: the short name of the one that runs. Raises OptionError for what would do nothing on it."""
        understood = UNDERSTOOD.get(provider, () if provider == "cpu" else ("half",))
        idle = [name.replace("_", "-") for name in self.asked if name not in understood]
        if idle:
            raise OptionError(
                f"{', '.join(idle)} would do nothing on the provider {provider}; leave it out, or use --providers cuda"
            )

    @property
    def uncaptured(self) -> "EngineOptions":
        """For graphs whose chunks differ in size: without CUDA graphs."""
        return replace(self, cuda_graph=False)

    def of_provider(self, name: str, cap: int | None) -> dict[str, str]:
        """What onnxruntime's provider of this full name is told; cap: bytes, None for no limit."""
        if name == CUDA:
            # https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#configuration-options
            found = {
                "use_tf32": str(int(self.tf32)),  # on unless told otherwise
                "arena_extend_strategy": "kSameAsRequested",  # a power of two more than needed breaks a cap
                # Not EXHAUSTIVE, which tries every algorithm anew for each size of a chunk.
                "cudnn_conv_algo_search": "HEURISTIC",
                # Runs that are not waited for must not overtake each other: they share buffers.
                "use_ep_level_unified_stream": "1",
                "enable_cuda_graph": str(int(self.cuda_graph)),
            }
            return found if cap is None else {**found, "gpu_mem_limit": str(cap)}
        if name == TENSORRT:
            found = {"trt_fp16_enable": str(self.half)}
            return found if cap is None else {**found, "trt_max_workspace_size": str(cap)}
        return {}


PLAIN = EngineOptions()
