"""The parts of tools/benchmarks/gradients.py, each a function of the command line's arguments that returns rows.

subjects.py has the networks on both sides, searches.py has Opti-CAM step by step on both sides, timing.py takes times.
speed.py, numbers.py, precision.py and peer.py have the parts.
"""
