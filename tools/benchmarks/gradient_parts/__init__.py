"""The parts of tools/benchmark_gradients.py."""
