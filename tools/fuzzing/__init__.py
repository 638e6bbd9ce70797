"""The fuzzer: damaged and hostile inputs of every kind, what runs on them, and the judge of how each case ends.

run.py is the program. A subject (subject.py) is a kind of input: pictures.py, arrays.py, texts.py, records.py and
models.py make its cases and check what came out against something independent. kept.py runs the cases in a process of
bounded time and memory, verdict.py judges their ends, shrink.py makes an input that fails smaller. raw.py has changes
to bytes, containers.py to the parts of a picture's file, odd.py the odd values. seeds.py and picture_seeds.py have what
cases start from. mutations.py has the table of changes to a graph, which nodes.py, weights.py, interfaces.py and
bombs.py fill. comparison.py compares a model's answer with a plain onnxruntime run.
"""

from fuzzing import bombs, interfaces, nodes, weights

__all__ = ["bombs", "interfaces", "nodes", "weights"]
