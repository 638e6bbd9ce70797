"""The arguments of Explainer(), checked, and as the parts of the library take them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy.typing as npt

from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.providers import ProviderSpec, parse_providers
from onnxcam.explainer.arguments import RULES, check_arguments
from onnxcam.inputs.bands import Bands, check_bands
from onnxcam.inputs.depth import Window, check_window
from onnxcam.inputs.presets import Preset
from onnxcam.limits import SAFE, Limits
from onnxcam.methods.blocks import Method
from onnxcam.network.opening import OpenOptions
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.loading import ModelSource
from onnxcam.types import Arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class OpeningArguments:
    """What a caller gave to Explainer(), whose docstring explains it."""

    model: ModelSource
    method: Method | str | None
    step: ModelSource | None
    providers: str | Sequence[ProviderSpec]
    preset: Preset | str | None
    adjust: Callable[[Preset], Preset] | None
    layer: str | Sequence[str]
    layout: str | None
    image_input: str | None
    size: Sequence[int] | None
    window: Sequence[float] | None
    bands: Sequence[int] | None
    output: str | None
    kind: Kind | str | None
    inputs: Mapping[str, npt.ArrayLike] | None
    labels: Sequence[str] | str | PathLike[str] | None
    batch: int | None
    threads: int | None
    engine: EngineOptions | None
    limits: Limits | None
    cache: bool

    def check(self) -> None:
        """Raises OnnxCamError for a value that makes sense for no model."""
        check_arguments({name: value for name, value in vars(self).items() if name in RULES})
        parse_providers(self.providers)
        check_window(self.window)
        check_bands(self.bands)

    @property
    def effective_limits(self) -> Limits:
        """The limits, or the safe ones."""
        return self.limits if self.limits is not None else SAFE

    @property
    def low_high(self) -> Window | None:
        """The window as two numbers."""
        return check_window(self.window)

    @property
    def rgb_bands(self) -> Bands | None:
        """The numbers of the bands."""
        return check_bands(self.bands)

    def by_name(self, method: Method) -> dict[str, Any]:
        """Arguments of an Explainer in another process, by name. method: the one that was chosen."""
        return vars(replace(self, method=method, limits=self.effective_limits))

    def open_options(self, size: tuple[int, ...] | None, values: Arrays, *, size_is_assumed: bool) -> OpenOptions:
        """How the network is opened, but for the layer. size: the sides chosen. values: of the extra inputs."""
        return OpenOptions(
            layout=self.layout, image_input=self.image_input, size=size, size_is_assumed=size_is_assumed, inputs=values,
            providers=(self.providers,) if isinstance(self.providers, str) else tuple(self.providers),
            threads=self.threads, batch=self.batch, engine=self.engine if self.engine is not None else PLAIN,
            cache=self.cache, limits=self.effective_limits,
        )  # fmt: skip
