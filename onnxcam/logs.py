"""The loggers of the library: one a module, called as the module is, and silent until a program adds a handler.

Levels. WARNING: a result may be wrong, or something failed and another way was taken. INFO: what was chosen, once a
model or a process. DEBUG: each session and each picture. A line holds names of files, tensors and classes, never
pixels, numbers of a map or values of inputs. What models and files say of themselves goes through %r, so that it stays
in its line.
"""

import logging

logging.getLogger("onnxcam").addHandler(logging.NullHandler())  # else Python prints warnings that no handler takes


def module_logger(name: str) -> logging.Logger:
    """The logger of a module. name: its __name__."""
    return logging.getLogger(name)
