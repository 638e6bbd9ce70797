"""Targets: what an explanation is about, one file per kind.

A target comes in as a person gives it (a class index or label, an Element, a Box, a Region, a Similarity); its kind
finds the number of the model's output that it means. Out come the feeds of the scoring graph and a ScoredTarget.
kind.py says what a kind is; classes.py, element.py, box.py, region.py and similarity.py are the kinds; registry.py is
the table of them, and resolving.py what the pipeline and the command line do with targets of any kind.
"""
