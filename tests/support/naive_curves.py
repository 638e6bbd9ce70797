"""Deletion and insertion one picture after the other, and RISE's own evaluation; nothing of onnxcam's is used."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime

Score = Callable[[np.ndarray], float]
"""Gives the score of an image (C,*size)."""


def softmax_of(model: onnx.ModelProto, target: int, layout: str = "NCHW", dtype: type = np.float32) -> Score:
    """The softmax of a target, in float64, of one plain run of the file."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (first, *_) = session.get_inputs()
    nchw = "NC" + layout.replace("N", "").replace("C", "")

    def score(image: np.ndarray) -> float:
        batch = image[None].transpose([nchw.index(letter) for letter in layout]).astype(dtype)
        logits = session.run(None, {first.name: batch})[0].astype(np.float64).ravel()
        e = np.exp(logits - logits.max())
        return float(e[target] / e.sum())

    return score


def curve(score: Score, image: np.ndarray, fill: np.ndarray, saliency: np.ndarray, step: int, insert: bool) -> tuple:
    """(counts, scores): from the image to the fill, or back, `step` pixels at a time in descending order of the map."""
    now, end = (fill.copy(), image) if insert else (image.copy(), fill)
    places = sorted(np.ndindex(saliency.shape), key=lambda place: -saliency[place])  # Python's sort is stable
    counts, scores = [0], [score(now)]
    for start in range(0, len(places), step):
        chunk = places[start : start + step]
        for place in chunk:
            now[(slice(None), *place)] = end[(slice(None), *place)]
        counts.append(start + len(chunk))
        scores.append(score(now))
    return counts, scores


def trapezoid(counts: list[int], scores: list[float]) -> float:
    """The area under the scores over the fraction of the pixels."""
    steps = zip(counts, counts[1:], scores, scores[1:], strict=False)
    return sum((b - a) / counts[-1] * (s + t) / 2 for a, b, s, t in steps)


def rise_kernel() -> np.ndarray:
    """(11,11) an impulse smoothed by a Gaussian of sigma 5 that is cut after 20 pixels, the impulse mirrored there."""
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    mirrored = np.pad(impulse, 20, mode="symmetric")
    taps = np.exp(-(np.arange(-20, 21) ** 2) / 50)
    window = np.outer(taps, taps) / taps.sum() ** 2
    return np.array([[(mirrored[i : i + 41, j : j + 41] * window).sum() for j in range(11)] for i in range(11)])


def rise_blur(image: np.ndarray) -> np.ndarray:
    """A convolution of each channel of (C,H,W) with that kernel, over zeros beyond the image."""
    height, width = image.shape[1:]
    padded, kernel = np.pad(image.astype(np.float64), ((0, 0), (5, 5), (5, 5))), rise_kernel()
    shifts = [(i, j) for i in range(11) for j in range(11)]
    return sum(kernel[i, j] * padded[:, i : i + height, j : j + width] for i, j in shifts).astype(np.float32)


def rise_evaluation(score: Score, image: np.ndarray, saliency: np.ndarray, mode: str, step: int) -> float:
    """RISE's causal metric: 'del' from the image to zero, 'ins' from its blur to the image; equal steps in the area.

    The order is that of a flipped ascending sort, in which ties run backwards.
    """
    blank = np.zeros_like(image)
    start, finish = (image.copy(), blank) if mode == "del" else (rise_blur(image), image)
    pixels = saliency.size
    order = np.flip(np.argsort(saliency.reshape(pixels)))
    scores = []
    for i in range(-(-pixels // step) + 1):
        scores.append(score(start))
        chosen = order[step * i : step * (i + 1)]
        flat, other = start.reshape(len(image), pixels), finish.reshape(len(image), pixels)
        flat[:, chosen] = other[:, chosen]
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)
