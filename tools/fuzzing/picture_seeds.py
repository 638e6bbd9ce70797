"""Pictures to start from: small ones in every format that onnxcam reads, made by code."""

import importlib.util
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image

SIDES = (24, 20)
"""Width and height."""


def pattern() -> Any:
    """(height, width, 3) bytes: a soft pattern with an edge."""
    width, height = SIDES
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([9 * x, 11 * y, 120 + 60 * np.sin(x / 3) + 60 * (y > 10)], axis=-1)
    return pixels.clip(0, 255).astype(np.uint8)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """Every seed by its name, which begins with its format."""
    return {name: data for make in (png, jpeg, gif, tiff, others, arrays_of_tiff, dicom) for name, data in make()}


def images() -> dict[str, Image.Image]:
    rgb = Image.fromarray(pattern())
    alpha = Image.fromarray((np.arange(SIDES[0] * SIDES[1]) % 256).astype(np.uint8).reshape(SIDES[::-1]))
    clear = rgb.copy()
    clear.putalpha(alpha)
    deep = (np.asarray(rgb.convert("L")).astype(np.uint16) * 257 + 3).astype(np.uint16)
    return {
        "rgb": rgb, "grey": rgb.convert("L"), "clear": clear, "grey-clear": clear.convert("LA"),
        "palette": rgb.quantize(40), "mask": rgb.convert("1"), "deep": Image.fromarray(deep),
        "cmyk": rgb.convert("CMYK"),
        "float": Image.fromarray(np.asarray(rgb.convert("L"), np.float32) / 255),
    }  # fmt: skip


def exif(orientation: int) -> Image.Exif:
    values = Image.Exif()
    values[0x0112] = orientation
    return values


def png() -> Iterator[tuple[str, bytes]]:
    one = images()
    for name in ("rgb", "grey", "clear", "grey-clear", "palette", "mask", "deep"):
        yield f"png-{name}", saved(one[name], "PNG")
    yield "png-turned", saved(one["rgb"], "PNG", exif=exif(6), dpi=(72, 72))
    yield "png-key", saved(one["rgb"], "PNG", transparency=(9, 11, 120))
    yield "png-palette-clear", saved(one["palette"], "PNG", transparency=bytes(range(40)))
    yield "png-animated", saved(one["rgb"], "PNG", save_all=True, append_images=[one["rgb"].rotate(90)] * 2)
    _, encoded = cv2.imencode(".png", np.asarray(one["clear"]).astype(np.uint16) * 257)
    yield "png-deep-clear", encoded.tobytes()
    yield "png-text", saved(one["grey"], "PNG", icc_profile=b"none" * 9)
    yield "png-interlaced", interlaced()


def interlaced() -> bytes:
    """Adam7, which Pillow does not write."""
    pixels = pattern()
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    lines = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    header = struct.pack(">IIBBBBB", *SIDES, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def jpeg() -> Iterator[tuple[str, bytes]]:
    one = images()
    yield "jpeg-plain", saved(one["rgb"], "JPEG", quality=90)
    yield "jpeg-grey", saved(one["grey"], "JPEG")
    yield "jpeg-cmyk", saved(one["cmyk"], "JPEG")
    yield "jpeg-progressive", saved(one["rgb"], "JPEG", progressive=True, quality=80)
    yield "jpeg-restarts", saved(one["rgb"], "JPEG", restart_marker_blocks=1, subsampling=0)
    yield "jpeg-turned", saved(one["rgb"], "JPEG", exif=exif(6), icc_profile=b"none" * 9, comment=b"words")
    yield "jpeg-large", saved(one["rgb"].resize((120, 100)), "JPEG", quality=60)
    yield "jpeg-several", saved(one["rgb"], "MPO", save_all=True, append_images=[one["rgb"].rotate(180)])


def gif() -> Iterator[tuple[str, bytes]]:
    one = images()
    yield "gif-plain", saved(one["palette"], "GIF")
    yield "gif-interlaced", saved(one["rgb"], "GIF", interlace=1)
    yield "gif-clear", saved(one["clear"], "GIF")
    frames = [one["palette"].rotate(90 * k) for k in range(1, 4)]
    yield "gif-animated", saved(one["palette"], "GIF", save_all=True, append_images=frames, loop=0, comment=b"words")


def tiff() -> Iterator[tuple[str, bytes]]:
    one = images()
    for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"tiff-{how}", saved(one["rgb"], "TIFF", compression=None if how == "raw" else how)
    for name in ("grey", "clear", "palette", "deep", "float", "cmyk"):
        yield f"tiff-{name}", saved(one[name], "TIFF")
    yield "tiff-mask", saved(one["mask"], "TIFF", compression="group4")
    yield "tiff-turned", saved(one["rgb"], "TIFF", exif=exif(6))
    yield "tiff-pages", saved(one["rgb"], "TIFF", save_all=True, append_images=[one["grey"], one["rgb"]])
    yield "tiff-big", saved(one["rgb"], "TIFF", big_tiff=True)


def others() -> Iterator[tuple[str, bytes]]:
    one = images()
    for name in ("rgb", "clear"):
        for lossless in (False, True):
            yield f"webp-{name}-{'lossless' if lossless else 'lossy'}", saved(one[name], "WEBP", lossless=lossless)
    yield "webp-turned", saved(one["rgb"], "WEBP", exif=exif(6))
    yield "webp-animated", saved(one["rgb"], "WEBP", save_all=True, append_images=[one["rgb"].rotate(90)] * 2)
    for name in ("rgb", "grey", "palette", "mask", "clear"):
        yield f"bmp-{name}", saved(one[name], "BMP")
    for name in ("rgb", "grey", "mask", "deep", "float"):
        yield f"pnm-{name}", saved(one[name], "PPM")
    yield "pnm-words", f"P3 4 3 255 {' '.join(str(7 * i) for i in range(36))}\n".encode()
    for name in ("rgb", "grey", "clear"):
        yield f"jp2-{name}", saved(one[name], "JPEG2000")
    yield "jp2-codestream", saved(one["rgb"], "JPEG2000", no_jp2=True)
    if "AVIF" in Image.SAVE:
        yield "avif-rgb", saved(one["rgb"], "AVIF", quality=60, speed=10)
        yield "avif-clear", saved(one["clear"], "AVIF", quality=60, speed=10)


def arrays_of_tiff() -> Iterator[tuple[str, bytes]]:
    """TIFF files with many bands; only where tifffile is installed."""
    if importlib.util.find_spec("tifffile") is None:
        return
    import tifffile

    bands = np.stack([pattern()[..., k % 3] for k in range(5)])
    for name in ("planar", "zlib", "tiled", "pages"):
        file = BytesIO()
        array = bands if name in ("planar", "pages") else np.moveaxis(bands, 0, -1)
        kind = "separate" if name == "planar" else "contig" if name != "pages" else None
        options: Any = {"zlib": {"compression": "zlib"}, "tiled": {"tile": (16, 16)}}.get(name, {})
        tifffile.imwrite(file, array, photometric="minisblack", planarconfig=kind, **options)
        yield f"bands-{name}", file.getvalue()


def dicom() -> Iterator[tuple[str, bytes]]:
    """DICOM files; only where pydicom is installed."""
    if importlib.util.find_spec("pydicom") is None:
        return
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

    pixels = pattern()
    for name in ("grey", "window", "inverted", "implicit", "rgb", "rle"):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if name == "implicit" else ExplicitVRLittleEndian
        data.Columns, data.Rows = SIDES
        colour = name == "rgb"
        data.SamplesPerPixel, data.PixelRepresentation = (3 if colour else 1), 0
        data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME1" if name == "inverted" else "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 8 if colour else 16
        data.HighBit = data.BitsStored - 1
        if colour:
            data.PlanarConfiguration = 0
        else:
            data.RescaleSlope, data.RescaleIntercept = "2", "-1024"
        if name in ("window", "rle"):
            data.WindowCenter, data.WindowWidth = "40", "400"
        values = pixels if colour else pixels[..., 0].astype(np.uint16) * 5
        data.PixelData = values.tobytes()
        data["PixelData"].VR = "OB" if colour else "OW"
        if name == "rle":
            data.compress(RLELossless, values, generate_instance_uid=False)
        file = BytesIO()
        data.save_as(file, enforce_file_format=True)
        yield f"dicom-{name}", file.getvalue()
