"""OpenCV, and what to do where it cannot be imported. Whatever uses cv2 gets it from here, when it needs it."""

from functools import cache
from importlib import import_module
from types import ModuleType

from onnxcam.errors import RuntimeMissing

HEADLESS = (
    "on a machine without a display `pip uninstall opencv-python opencv-python-headless`, "
    "then `pip install opencv-python-headless`"
)


@cache
def opencv() -> ModuleType:
    """Imports and returns cv2. Raises RuntimeMissing, which says how to install it.

    opencv-python needs libGL, which servers and containers often lack; opencv-python-headless does not.
    """
    try:
        cv2 = import_module("cv2")
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "cv2"
        if absent:
            raise RuntimeMissing(
                "OpenCV is not installed: `pip install opencv-python`, or opencv-python-headless"
            ) from None
        raise RuntimeMissing(f"OpenCV cannot be imported ({error}): {HEADLESS}") from None
    except AttributeError as error:  # cv2's own start, on files of two builds
        raise _broken(error) from None
    if not hasattr(cv2, "imdecode"):  # one of two builds was removed: its files were the other's too
        raise _broken("some of its files are missing")
    return cv2


def _broken(why: object) -> RuntimeMissing:
    return RuntimeMissing(
        f"OpenCV is broken, perhaps since two builds overwrote each other ({why}): `pip uninstall opencv-python "
        "opencv-python-headless`, then install one of them"
    )
