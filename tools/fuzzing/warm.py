"""Imports what every case needs, once for all processes. Opens no session, because a fork would lose its threads."""

import importlib
import pkgutil

import onnxcam

for module in pkgutil.walk_packages(onnxcam.__path__, "onnxcam."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in ("onnxruntime", "cv2", "PIL.Image", "fuzzing.subjects"):
    importlib.import_module(name)
