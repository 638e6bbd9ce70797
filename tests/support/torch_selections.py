"""Small detectors in PyTorch that choose their detections themselves, by the usual ways. Import only in `torch` tests.

Written from the papers and the form of the published exports. Each stores `candidates` (N,rows,classes), the scores
before the selection, and `maps`, the feature maps of the last run.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES, DETECTIONS = 5, 10
SUPPRESSION = (torch.tensor([DETECTIONS]), torch.tensor([0.5]), torch.tensor([0.2]))


class Suppress(torch.autograd.Function):
    """ONNX's NonMaxSuppression, as exports with an end-to-end head write it; in PyTorch it returns placeholders."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, most: Tensor, overlap: Tensor, least: Tensor) -> Tensor:
        return torch.stack([torch.zeros(7), torch.zeros(7), torch.arange(7.0)], 1).long()

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, most: Any, overlap: Any, least: Any) -> Any:
        return g.op("NonMaxSuppression", boxes, scores, most, overlap, least)


class TwoScales(nn.Module):
    """Maps of 8x8 and 4x4 cells, and candidates with sides (N,rows,4) and scores (N,rows,classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1),
            nn.Tanh(),
            nn.Conv2d(12, 16, 3, 2, 1),
            nn.Tanh(),
            nn.Conv2d(16, 16, 3, 2, 1),
            nn.Tanh(),
        )
        self.coarse = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.Tanh())
        self.heads = nn.ModuleList(nn.Conv2d(c, 4 + CLASSES, 1) for c in (16, 24))
        self.maps: list[Tensor] = []
        self.candidates = torch.zeros(0)

    def trunk(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x)
        self.maps = [fine, self.coarse(fine)]
        return self.maps

    def table(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw = torch.cat([head(m).flatten(2) for head, m in zip(self.heads, self.trunk(x), strict=True)], 2)
        sides, scores = raw.split([4, CLASSES], 1)
        points = torch.cat([_centres(8, 8.0), _centres(4, 16.0)], 1)
        size = functional.softplus(sides[:, 2:]) * 12
        centre = points[None] + sides[:, :2] * 4
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1)
        joined = torch.cat([boxes, (scores * 4).sigmoid()], 1).transpose(1, 2)
        boxes, self.candidates = joined.split([4, CLASSES], 2)
        return boxes, self.candidates


def _centres(side: int, stride: float) -> Tensor:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([(x.flatten() + 0.5) * stride, (y.flatten() + 0.5) * stride])


class TopKTwice(TwoScales):
    """YOLOv10 and later: the best rows, then the best of their numbers, as one table."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.table(x)
        index = scores.amax(-1).topk(DETECTIONS)[1].unsqueeze(-1)
        boxes = boxes.gather(1, index.repeat(1, 1, 4))
        scores = scores.gather(1, index.repeat(1, 1, CLASSES))
        best, k = scores.flatten(1).topk(DETECTIONS)
        image = torch.arange(x.shape[0])[..., None]
        return torch.cat([boxes[image, k // CLASSES], best[..., None], (k % CLASSES)[..., None].float()], -1)


class TopKFlat(TwoScales):
    """The best of all numbers, as three outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores = self.table(x)
        best, k = scores.flatten(1).topk(DETECTIONS)
        return boxes.gather(1, (k // CLASSES).unsqueeze(-1).repeat(1, 1, 4)), best, k % CLASSES


class Suppressed(TwoScales):
    """YOLOv7's end-to-end export: one class for each box, suppression over all classes, (D,7)."""

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.table(x)
        best, label = scores.max(2, keepdim=True)
        chosen = Suppress.apply(boxes + label.float() * 100, best.transpose(1, 2).contiguous(), *SUPPRESSION)
        image, row = chosen[:, 0], chosen[:, 2]
        parts = [image.unsqueeze(1).float(), boxes[image, row, :], label[image, row, :].float(), best[image, row, :]]
        return torch.cat(parts, 1)


class SuppressedPerClass(TwoScales):
    """Suppression within each class, then the best; boxes, scores and labels as three outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores = self.table(x)
        by_class = scores.transpose(1, 2)
        chosen = Suppress.apply(boxes, by_class, *SUPPRESSION)
        image, label, row = chosen[:, 0], chosen[:, 1], chosen[:, 2]
        best, k = by_class[image, label, row].topk(5)
        return boxes[image, row][k], best, label[k]


class PerLevel(TwoScales):
    """RetinaNet as torchvision exports it: of one image the best of each level above a threshold."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores = self.table(x)
        chosen: list[list[Tensor]] = [[], [], []]
        for level, sides in zip(scores.split([64, 16], 1), boxes.split([64, 16], 1), strict=True):
            numbers = level[0].flatten()
            keep = numbers > 0.1
            numbers, index = numbers[keep], torch.where(keep)[0]
            best, k = numbers.topk(4)
            k = index[k]
            for values, more in zip(chosen, (sides[0][k // CLASSES], best, k % CLASSES), strict=True):
                values.append(more)
        return torch.cat(chosen[0]), torch.cat(chosen[1]), torch.cat(chosen[2])


class Peaks(TwoScales):
    """CenterNet: the peaks of a heat map, chosen by TopK."""

    def __init__(self) -> None:
        super().__init__()
        self.heat, self.extent = nn.Conv2d(16, CLASSES, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        (fine, _) = self.trunk(x)
        heat, extent = (self.heat(fine) * 4).sigmoid(), self.extent(fine)
        n, _, h, w = heat.shape
        self.candidates = heat.flatten(2).transpose(1, 2)
        heat = heat * (functional.max_pool2d(heat, 3, 1, 1) == heat).float()
        best, k = heat.view(n, -1).topk(DETECTIONS)
        label, k = (k // (h * w)).float(), k % (h * w)
        half = extent.permute(0, 2, 3, 1).reshape(n, -1, 2).gather(1, k[..., None].expand(n, DETECTIONS, 2)) / 2
        centre = torch.stack([(k % w).float(), (k // w).float()], -1)
        return torch.cat([centre - half, centre + half, best[..., None], label[..., None]], -1)


class Queries(TwoScales):
    """RT-DETR and Deformable DETR with two stages: queries that TopK chooses among the cells of both maps."""

    width = 16

    def __init__(self) -> None:
        super().__init__()
        d = self.width
        self.project = nn.ModuleList(nn.Conv2d(c, d, 1) for c in (16, 24))
        self.propose, self.place = nn.Linear(d, CLASSES), nn.Linear(d, 4)
        self.among = nn.MultiheadAttention(d, 2, batch_first=True)
        self.across = nn.MultiheadAttention(d, 2, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(d, d), nn.Tanh())
        self.classify, self.correct = nn.Linear(d, CLASSES), nn.Linear(d, 4)

    def decoded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.maps = [p(m) for p, m in zip(self.project, self.trunk(x), strict=True)]
        cells = torch.cat([m.flatten(2).transpose(1, 2) for m in self.maps], 1)
        index = (self.propose(cells) * 4).max(-1).values.topk(DETECTIONS, 1)[1].unsqueeze(-1)
        query = cells.gather(1, index.repeat(1, 1, self.width))
        near = self.place(cells).gather(1, index.repeat(1, 1, 4))
        query = query + self.among(query, query, query, need_weights=False)[0]
        query = query + self.across(query, cells, cells, need_weights=False)[0]
        query = query + self.mix(query)
        self.candidates = self.classify(query) * 3
        return self.candidates, (self.correct(query) + near).sigmoid()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoded(x)


class QueriesChosen(Queries):
    """The same with its post-processing: the best of all numbers, as labels, boxes and scores."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        logits, sides = self.decoded(x)
        self.candidates = logits.sigmoid()
        centre, size = sides.split(2, -1)
        best, k = self.candidates.flatten(1).topk(DETECTIONS)
        boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
        return k % CLASSES, boxes.gather(1, (k // CLASSES).unsqueeze(-1).repeat(1, 1, 4)), best


class PoolRegions(torch.autograd.Function):
    """ONNX's RoiAlign, 2x2 with two points to a side; in PyTorch it returns placeholders."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, regions: Tensor) -> Tensor:
        return x.new_zeros(len(regions), x.shape[1], 2, 2)

    @staticmethod
    def symbolic(g: Any, x: Any, regions: Any) -> Any:
        first = g.op("Slice", regions, *(g.op("Constant", value_t=torch.tensor([i])) for i in (0, 1, 1)))
        samples = g.op("Cast", g.op("Squeeze", g.op("Mul", first, g.op("Constant", value_t=torch.zeros(1))),
                                    g.op("Constant", value_t=torch.tensor([1]))), to_i=7)  # fmt: skip
        sizes = {"output_height_i": 2, "output_width_i": 2, "sampling_ratio_i": 2, "spatial_scale_f": 1 / 8}
        return g.op("RoiAlign", x, regions, samples, coordinate_transformation_mode_s="half_pixel", **sizes)


def pooled_by_grid(x: Tensor, regions: Tensor) -> Tensor:
    """What PoolRegions stands for, by PyTorch's grid_sample. The regions lie within the map."""
    share = (torch.arange(4) + 0.5) / 4
    left, top, right, bottom = (regions / 8 - 0.5).unsqueeze(-1).unbind(1)
    columns, rows = left + (right - left) * share, top + (bottom - top) * share
    size = x.shape[-1] - 1
    grid = torch.stack([columns[:, None].expand(-1, 4, 4), rows[:, :, None].expand(-1, 4, 4)], -1) / size * 2 - 1
    every = x.expand(len(regions), -1, -1, -1)
    points = functional.grid_sample(every, grid, padding_mode="border", align_corners=True)
    return functional.avg_pool2d(points, 2)


class Proposed(TwoScales):
    """Faster R-CNN: regions that suppression chose are pooled, classified and chosen from again.

    The first suppression removes no overlap, so that it is TopK in PyTorch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.propose, self.classify = nn.Conv2d(16, 5, 1), nn.Linear(16 * 4, 1 + CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (fine, _) = self.trunk(x)
        objectness, sides = self.propose(fine).flatten(2).split([1, 4], 1)
        size = functional.softplus(sides[:, 2:]) * 12
        centre = _centres(8, 8.0)[None] + sides[:, :2] * 4
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1).clamp(0, 64).transpose(1, 2)
        if torch.onnx.is_in_onnx_export():
            limits = (torch.tensor([DETECTIONS]), torch.tensor([1.0]), torch.tensor([0.0]))
            chosen = Suppress.apply(boxes, objectness.sigmoid(), *limits)[:, 2]
            regions = boxes[0][chosen]
            pooled = PoolRegions.apply(fine, regions)
        else:
            regions = boxes[0][objectness[0, 0].topk(DETECTIONS)[1]].detach()
            pooled = pooled_by_grid(fine, regions)
        self.candidates = (self.classify(pooled.flatten(1)) * 4).softmax(-1)[:, 1:]
        by_class = self.candidates.t()[None]
        kept = Suppress.apply(regions[None], by_class, *SUPPRESSION)
        image, label, row = kept.unbind(1)
        best, k = by_class[image, label, row].topk(3)
        return regions[row][k], best, label[k]


LISTS, TABLE = ["boxes", "scores", "labels"], ["output0"]
OUTPUTS = {
    "TopKTwice": TABLE, "TopKFlat": LISTS, "Suppressed": TABLE, "SuppressedPerClass": LISTS, "PerLevel": LISTS,
    "Proposed": LISTS, "Peaks": TABLE, "Queries": ["logits", "pred_boxes"], "QueriesChosen": ["labels", "boxes", "scores"],
}  # fmt: skip


def detector(name: str) -> TwoScales:
    torch.manual_seed(0)
    model: TwoScales = globals()[name]().eval()
    for parameter in model.parameters():
        parameter.data *= 1.5
    return model


def best_candidate(model: TwoScales, x: Tensor) -> tuple[float, dict[tuple[int, ...], npt.NDArray[np.float32]]]:
    """(the best score before the selection, its Grad-CAM before ReLU on each feature map, by the map's sides)."""
    model(x)
    score = model.candidates.max()
    gradients = torch.autograd.grad(score, model.maps, allow_unused=True)
    maps = {}
    for features, gradient in zip(model.maps, gradients, strict=True):
        if gradient is not None:
            weighed = (features * gradient.mean((2, 3), keepdim=True)).sum(1)[0]
            maps[tuple(weighed.shape)] = weighed.detach().numpy()
    return float(score), maps


def export(model: nn.Module, path: Any, outputs: list[str], *, opset: int, dynamo: bool, dynamic: bool) -> None:
    options: dict[str, Any] = {"opset_version": opset, "input_names": ["images"], "output_names": outputs}
    if dynamic:
        options["dynamic_axes"] = {name: {0: "batch"} for name in ("images", *outputs)}
    torch.onnx.export(model, (torch.rand(1, 3, 64, 64),), path, dynamo=dynamo, **options)
