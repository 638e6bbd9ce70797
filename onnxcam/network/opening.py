"""Opens a model: from its file to a Network that is ready for images. Start reading at `open_model`.

as stored by an earlier opening (warm.py), where one is: nothing is analysed, and onnx is not loaded
else analysed, rewritten and verified (first_opening.py), and stored for the next one
"""

import time
from collections.abc import Callable
from dataclasses import replace

from onnxcam.engine.providers import TENSORRT, parse_providers
from onnxcam.errors import ModelError, OutOfMemory
from onnxcam.logs import module_logger
from onnxcam.network import warm
from onnxcam.network.open_options import OpenOptions as OpenOptions
from onnxcam.network.opened import OpenedModel as OpenedModel
from onnxcam.network.selection import refused_if_not_led_back
from onnxcam.surgeon.loading import ModelFile

logger = module_logger(__name__)


def open_model(file: ModelFile, options: OpenOptions) -> OpenedModel:
    """Opens the model of a file, verified and ready to run.

    Raises ModelError, OptionError, PresetError (a layout or size that does not fit), ProviderError, RuntimeMissing,
    InferenceError, OutOfMemory, or UndefinedSaliency.
    """
    return _timed(file, options, _opened)


def _timed(
    file: ModelFile, options: OpenOptions, opened_by: Callable[[ModelFile, OpenOptions], OpenedModel]
) -> OpenedModel:
    """The model as it is opened by this function, within the limits from now on. Raises as open_model()."""
    timed = options.limits
    if not any(provider.name == TENSORRT for provider in parse_providers(options.providers)):
        timed = timed.begin(f"opening {file.name}")
    start = time.perf_counter()
    try:
        with refused_if_not_led_back():
            opened = opened_by(file, replace(options, limits=timed))
            _log_opened(file, opened, time.perf_counter() - start)
            return replace(opened, options=replace(opened.options, limits=options.limits))
    except MemoryError:
        raise OutOfMemory("the model or its input does not fit into memory") from None
    except RecursionError:
        raise ModelError(f"{file.name}: the graph is nested too deep to be read") from None


def _log_opened(file: ModelFile, opened: OpenedModel, seconds: float) -> None:
    image, features = opened.anatomy.image, opened.anatomy.features
    logger.info(
        "opened %r in %.2f s on %s: input %r of %s, layer %r (%r), output %r, batches %s (%r)",
        file.name, seconds, opened.network.provider, image.name, "x".join(map(str, opened.size)), features.tensor,
        features.reason, opened.output, opened.batching.mode, opened.batching.reason,
    )  # fmt: skip


def _opened(file: ModelFile, options: OpenOptions) -> OpenedModel:
    lasting = replace(options, limits=options.limits.lasting)  # graphs may be asked for long after this opening
    opened = warm.open_stored(file, options, lambda: _timed(file, lasting, _first))
    if opened is not None:
        return opened
    opened, name = _first(file, options), warm.opening_key(file, options)
    if name is not None:
        warm.store_opening(name, opened)
    return replace(opened, stored_as=name or "", scoring=b"")


def _first(file: ModelFile, options: OpenOptions) -> OpenedModel:
    from onnxcam.network.first_opening import open_first

    return open_first(file, options)
