"""Sanity checks and comparisons of explanations."""
