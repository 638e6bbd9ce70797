"""A batching rule for every operator: how to compute for N pictures what the node computes for one."""
