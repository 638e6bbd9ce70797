"""What the mutations of a graph share: their table STRUCTURED, odd values, and access to a model's nodes.

A mutation changes the model in place and returns the change in words, or None if there is nothing to change.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from onnx import ModelProto, NodeProto

from fuzzing.odd import FLOATS as FLOATS
from fuzzing.odd import INTEGERS as INTEGERS
from fuzzing.odd import NAMES as NAMES

Rng = random.Random
Structured = Callable[[Rng, ModelProto], str | None]
STRUCTURED: dict[str, Structured] = {}

DTYPES = (0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 22, 23, 99, -1)
"""TensorProto's numbers: undefined, float to string, bool, halves, complex, 8 and 4 bits, and two that do not exist."""


def structured(change: Structured) -> Structured:
    """Adds the mutation to the table, under its function's name."""
    STRUCTURED[change.__name__] = change
    return change


def graphs(model: ModelProto) -> Iterator[Any]:
    """Everything that holds nodes: the graph, its inner graphs and the functions."""
    stack: list[Any] = [model.graph, *model.functions]
    while stack:
        holder = stack.pop()
        yield holder
        stack += [a.g for n in holder.node for a in n.attribute if a.HasField("g")]


def all_nodes(model: ModelProto) -> list[NodeProto]:
    return [node for holder in graphs(model) for node in holder.node]


def some_nodes(rng: Rng, model: ModelProto) -> Any:
    """The list of nodes of one graph, larger graphs more often; None if there is none."""
    holders = [holder.node for holder in graphs(model) for _ in holder.node]
    return rng.choice(holders) if holders else None


def replace(items: Any, new: Sequence[Any]) -> None:
    """Replaces the items of a repeated field by copies of the new ones."""
    copies = [type(item).FromString(item.SerializeToString()) for item in new]
    del items[:]
    items.extend(copies)


def one(rng: Rng, items: Sequence[Any]) -> Any:
    """One of the items; None if there is none."""
    return rng.choice(items) if len(items) else None
