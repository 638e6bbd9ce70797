"""The table of rules, filled by the modules that hold them."""

from collections.abc import Callable

from onnxcam.surgeon.vmap.task import Results, Task

Rule = Callable[[Task], Results]

STANDARD: dict[str, Rule] = {}
FOREIGN: dict[str, Rule] = {}
"""Operators of a runtime's own domains."""

STATISTICS = "computes its scale over the whole batch"
NUMBER = "gives a number of results that differs from picture to picture"
SUBGRAPH = "has a subgraph of its own"
DRAWN = "draws random numbers"
REGIONS = "names the pictures of its regions by number"
REFUSED = {
    "DynamicQuantizeLinear": STATISTICS, "DynamicQuantizeMatMul": STATISTICS, "DynamicQuantizeLSTM": STATISTICS,
    "NonZero": NUMBER, "NonMaxSuppression": NUMBER, "Unique": NUMBER, "Compress": NUMBER,
    "If": SUBGRAPH, "Loop": SUBGRAPH, "Scan": SUBGRAPH, "SequenceMap": SUBGRAPH,
    "RandomNormalLike": DRAWN, "RandomUniformLike": DRAWN, "Bernoulli": DRAWN, "Multinomial": DRAWN,
    "MaxRoiPool": REGIONS, "RoiAlign": REGIONS, "CropAndResize": REGIONS,
    "QLinearReduceMean": "may compute a mean over the batch",
    "CDist": "compares all rows of the batch with each other",
    "MaxUnpool": "numbers the places of its maxima over the whole batch",
}  # fmt: skip
"""Operators that no rule can exist for, and why."""


def rule(names: str, *, foreign: bool = False) -> Callable[[Rule], Rule]:
    """Registers the function for each of the operators, named with blanks between them."""

    def register(function: Rule) -> Rule:
        table = FOREIGN if foreign else STANDARD
        for name in names.split():
            assert name not in table, name
            table[name] = function
        return function

    return register
