"""The registry of batch rules: operator name to the function that rewrites its node for N samples.

The rules are in shaping, indexing, pointwise, products and layers. REFUSED lists the operators that cannot be batched.
"""

from collections.abc import Callable

from onnxcam.surgeon.vmap.task import Results, Task

Rule = Callable[[Task], Results]
"""Rewrites the task's node and returns its outputs in the new graph, each with the position of its batch."""

STANDARD: dict[str, Rule] = {}
"""Rules of the standard ONNX operators."""
FOREIGN: dict[str, Rule] = {}
"""Rules of operators outside the standard (domains com.microsoft, ai.onnx.ml)."""

STATISTICS = "computes its scale over the whole batch"
NUMBER = "gives a number of results that differs from image to image"
SUBGRAPH = "has a subgraph"
DRAWN = "draws random numbers"
REGIONS = "refers to the samples of the batch by number"
REFUSED = {
    "DynamicQuantizeLinear": STATISTICS, "DynamicQuantizeMatMul": STATISTICS, "DynamicQuantizeLSTM": STATISTICS,
    "NonZero": NUMBER, "NonMaxSuppression": NUMBER, "Unique": NUMBER, "Compress": NUMBER,
    "If": SUBGRAPH, "Loop": SUBGRAPH, "Scan": SUBGRAPH, "SequenceMap": SUBGRAPH,
    "RandomNormalLike": DRAWN, "RandomUniformLike": DRAWN, "Bernoulli": DRAWN, "Multinomial": DRAWN,
    "MaxRoiPool": REGIONS, "CropAndResize": REGIONS,
    "QLinearReduceMean": "may compute a mean over the batch",
    "CDist": "compares all samples of the batch with each other",
    "MaxUnpool": "numbers the positions of its maxima over the whole batch",
}  # fmt: skip
"""Operators that cannot be batched, with the reason."""


def rule(names: str, *, foreign: bool = False) -> Callable[[Rule], Rule]:
    """Registers the function as the rule of the operators, whose names are separated by spaces."""

    def register(function: Rule) -> Rule:
        table = FOREIGN if foreign else STANDARD
        for name in names.split():
            assert name not in table, name
            table[name] = function
        return function

    return register
