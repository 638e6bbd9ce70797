"""Several results together: `Explanations`, what Explainer.explain() and batch() return."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxcam.errors import OptionError
from onnxcam.limits import brief
from onnxcam.outputs.colours import COLORMAP
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.style import ALPHA, THRESHOLD, Style


class Explanations(list[Saliency]):
    """A list of results, which notebooks show as a row of overlays."""

    def save_all(
        self,
        folder: str | os.PathLike[str],
        formats: Sequence[str] = ("png",),
        *,
        colormap: str = COLORMAP,
        alpha: float = ALPHA,
        caption: bool = True,
        threshold: float = THRESHOLD,
        max_size: int | None = None,
    ) -> list[Path]:
        """Writes every map to a folder, which is made, in each format, and returns the paths.

        formats: names as the command line's --format takes them: png, jpg, webp, pdf, svg, heatmap, contour, mask,
        boxes, side-by-side, tiff, npy, npz, json. Files are named after the picture, and after target, method, layer
        and model where these differ; no two are the same, and files of these names are replaced. The options are those
        of Saliency.save(). Raises OptionError for an unknown format, and OutputError for what cannot be written.
        """
        from onnxcam.outputs.saving import save_all

        if not isinstance(formats, list | tuple) or not all(isinstance(name, str) for name in formats):
            raise OptionError(f"formats is a list of names such as ['png', 'json'], not {brief(formats)}")
        style = Style(colormap, alpha, caption, threshold=threshold, max_size=max_size)
        return save_all(self, folder, formats, style)

    def to_rows(self) -> list[dict[str, Any]]:
        """A row of plain values for each map: what was explained, how, and where the map is highest.

        index: as of ScoredTarget; class_index: the class, also of a box. probability is None where the model's own
        number is no probability. hidden: the share of the picture that the model did not see. peak_x, peak_y: the
        middle of the highest pixel, in pixels of the picture, or of the model's input for an image that came
        preprocessed; None for a map that is not of height and width. area: the share of the pixels that are at least
        half as salient as the highest. sha256: of the map's numbers.
        """
        from onnxcam.outputs.rows import row

        return [row(saliency) for saliency in self]

    def to_dataframe(self) -> Any:
        """to_rows() as a pandas DataFrame. Raises OptionError where pandas is not installed."""
        try:
            import pandas as pd
        except ImportError:
            raise OptionError(
                'a table needs pandas, which is not installed: pip install "onnxcam[table]"; to_rows() gives the same '
                "as lists"
            ) from None
        return pd.DataFrame(self.to_rows())

    def _repr_png_(self) -> bytes | None:
        """The overlays in rows, as one picture, for programs that show no HTML. None where there are none."""
        from onnxcam.outputs.notebook import png_of_several

        return png_of_several(self) if self else None

    def _repr_html_(self) -> str:
        """The overlays beside each other, each with its provenance folded below."""
        from onnxcam.outputs.notebook import html

        return html(self)
