"""Annotations in Pascal VOC's XML, one file a picture, as VOC and ImageNet have them.

Read with defusedxml: a file that declares entities, which may grow without end or name other files, is refused.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from onnxcam.errors import DataError
from onnxcam.evaluation.readers.upright import Size
from onnxcam.files import ANNOTATION, first_bytes, read_bytes, reason, shown
from onnxcam.limits import brief
from onnxcam.metrics.metric import Box


@dataclass(frozen=True)
class XmlObject:
    """corners: xmin, ymin, xmax, ymax as they are written. line: where the object starts."""

    name: str
    corners: Box
    line: int


@dataclass(frozen=True)
class XmlAnnotation:
    """filename: of the picture, as it is written; may be empty. size: (width, height) if recorded."""

    filename: str
    size: Size | None
    objects: tuple[XmlObject, ...]


class _LinedBuilder(TreeBuilder):
    """Has objects know their line, in the attribute `line`. parser: set by whoever makes it."""

    parser: Any = None

    def start(self, tag: Any, attrs: Any, /) -> Element:
        element = super().start(tag, attrs)
        if tag == "object":
            element.set("line", str(self.parser.parser.CurrentLineNumber))
        return element


@cache
def _defused() -> ModuleType:
    try:
        from defusedxml import ElementTree
    except ImportError:
        raise DataError('annotations in XML need defusedxml: pip install "onnxcam[evaluate]"') from None
    return ElementTree  # type: ignore[no-any-return]


def read_annotation(path: Path) -> XmlAnnotation:
    """The objects of a picture, without their parts. Raises DataError, with the line, for what is no annotation."""
    root = _parsed(path)
    if root.tag != "annotation":
        raise DataError(f"{shown(path)}: its XML is <{root.tag[:40]}>, not <annotation>; move it out of the data set")
    objects = tuple(_object(element, path) for element in root.iterfind("object"))
    size = (_number(root.findtext("size/width")), _number(root.findtext("size/height")))
    recorded = size if all(math.isfinite(side) for side in size) else None
    return XmlAnnotation((root.findtext("filename") or "").strip(), recorded, objects)


def is_annotation(path: Path) -> bool:
    """Whether a file begins as such an annotation."""
    return b"<annotation" in first_bytes(path, 1024)


def _parsed(path: Path) -> Element:
    defused = _defused()
    content = read_bytes(path, ANNOTATION)
    builder = _LinedBuilder()
    parser = defused.DefusedXMLParser(target=builder)
    builder.parser = parser
    try:
        parser.feed(content)
        root: Element = parser.close()
    except ParseError as error:
        raise DataError(
            f"{shown(path)}, line {error.position[0]}: not XML ({reason(error)}); get the file again"
        ) from None
    except (ValueError, LookupError) as error:  # defusedxml's refusals are ValueErrors; unknown encodings
        raise DataError(f"{shown(path)}: its XML is refused ({reason(error)}); write it without") from None
    return root


def _object(element: Element, path: Path) -> XmlObject:
    line = int(element.get("line", "0"))
    box = element.find("bndbox")
    name = (element.findtext("name") or "").strip()
    corners = [_number(None if box is None else box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")]
    if not name or not all(map(math.isfinite, corners)):
        what = "has no name" if not name else "has no bndbox of four numbers, xmin, ymin, xmax and ymax"
        raise DataError(f"{shown(path)}, line {line}: the object {brief(name)} {what}; add it, or remove the object")
    left, top, right, bottom = corners
    if right < left or bottom < top:
        raise DataError(
            f"{shown(path)}, line {line}: the bndbox of {brief(name)} ends before it starts; exchange its sides"
        )
    return XmlObject(name, (left, top, right, bottom), line)


def _number(text: str | None) -> float:
    """NaN for what is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
