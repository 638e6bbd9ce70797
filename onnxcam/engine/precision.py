"""bfloat16 for masked passes, on processors that multiply it: Precision, and the providers that compute in it.

Only onnxruntime's OpenVINO provider does so on a CPU. Scores that are shown never come from such a session: the network
keeps one in float32 beside it (network/scorer.py).
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from onnxcam.engine.providers import OPENVINO, Provider, ProviderSpec, parse_providers, with_options
from onnxcam.errors import OptionError

FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""What Linux calls the instructions that multiply bfloat16. Without them it would be slower than float32."""
CPU_INFO = Path("/proc/cpuinfo")
HINT = '{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}'
"""https://onnxruntime.ai/docs/execution-providers/OpenVINO-ExecutionProvider.html: it wins over `precision`."""


class Precision(StrEnum):
    """In what the masked passes of a method are computed."""

    F32 = "f32"
    """float32, like everything else."""
    BF16 = "bf16"
    """bfloat16: 8 bits of mantissa. The map says by how much it may be off."""


def check_processor() -> None:
    """Raises OptionError on a processor without instructions for bfloat16, and where the system does not list them."""
    try:
        listed = CPU_INFO.read_text(errors="replace")
    except OSError:
        listed = ""
    if FLAGS.isdisjoint(listed.split()):
        raise OptionError(
            f"precision bf16 needs a processor with {' or '.join(sorted(FLAGS))}, and this system lists neither; "
            f"leave it out"
        )


def in_bfloat16(providers: Sequence[ProviderSpec]) -> tuple[ProviderSpec, ...]:
    """The providers with the option by which OpenVINO computes in bfloat16.

    Raises OptionError for another device of OpenVINO than the CPU, and for a load_config of the caller's.
    """
    return tuple(
        (p.name, _configured(p).options if p.name == OPENVINO else p.options) for p in parse_providers(providers)
    )


def _configured(provider: Provider) -> Provider:
    device = provider.options.get("device_type", "CPU")
    if device != "CPU":
        raise OptionError(f"precision bf16 is of OpenVINO's CPU, not of {device}; leave one of the two out")
    if "load_config" in provider.options:
        raise OptionError("precision bf16 sets OpenVINO's load_config; leave one of the two out")
    return with_options(provider, {"load_config": HINT})
