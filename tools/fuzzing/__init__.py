"""The parts of tools/fuzz.py. Importing it fills the table of mutations of the graph."""

from fuzzing import bombs, interfaces, nodes, weights

__all__ = ["bombs", "interfaces", "nodes", "weights"]
