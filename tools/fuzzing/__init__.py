"""The fuzzer: damaged and hostile models, the commands that run on them, and the judge of how each command ends.

run.py is the program. seeds.py has the models to start from. mutations.py has the table of changes to a graph, which
nodes.py, weights.py, interfaces.py and bombs.py fill; raw.py has the changes to bytes. verdict.py runs a command in a
process of bounded time and memory and judges its end. comparison.py checks the answers against a plain onnxruntime run.
Importing the package fills the table.
"""

from fuzzing import bombs, interfaces, nodes, weights

__all__ = ["bombs", "interfaces", "nodes", "weights"]
