"""Small detectors in PyTorch with random weights: the heads of the usual families over one backbone of three scales.

Written from the papers and the form of the published exports; they share no code with these. Import only in tests
marked `torch`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (8, 12, 16)
STRIDES = (8, 16, 32)
SIDE = 64


def conv(c1: int, c2: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c1, c2, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(c2), nn.SiLU()
    )


class Trunk(nn.Module):
    """A backbone with a top-down path: maps of strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, stride=2), conv(8, 8, stride=2))
        self.stages = nn.ModuleList([conv(8, CHANNELS[0], stride=2), conv(8, 12, stride=2), conv(12, 16, stride=2)])
        self.up = nn.ModuleList([conv(16 + 12, CHANNELS[1]), conv(12 + 8, CHANNELS[0])])
        self.down = nn.ModuleList([conv(8, 8, stride=2), conv(12, 12, stride=2)])
        self.out = nn.ModuleList([conv(8 + 12, CHANNELS[1]), conv(12 + 16, CHANNELS[2])])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        a = self.stages[0](x)
        b = self.stages[1](a)
        c = self.stages[2](b)
        up = functional.interpolate
        p4 = self.up[0](torch.cat([up(c, scale_factor=2.0), b], 1))
        p3 = self.up[1](torch.cat([up(p4, scale_factor=2.0), a], 1))
        n4 = self.out[0](torch.cat([self.down[0](p3), p4], 1))
        n5 = self.out[1](torch.cat([self.down[1](n4), c], 1))
        return [p3, n4, n5]


class Detector(nn.Module):
    """A trunk and a head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = Trunk(), head

    def forward(self, x: Tensor) -> Any:
        return self.head(self.trunk(x))

    def grad_cam(self, x: Tensor, output: int, place: int, scale: int) -> tuple[float, Any]:
        """(score, (h,w) map before the ReLU) of a number of an output, by autograd at the map of a scale.

        The map is what enters the branches of its scale: the trunk's, or what the head makes of it first.
        """
        before = getattr(self.head, "before", None)
        maps = self.trunk(x)
        maps = maps if before is None else [layer(m) for layer, m in zip(before, maps, strict=True)]
        for m in maps:
            m.retain_grad()
        results = self.head.predict(maps) if before is not None else self.head(maps)
        score = (results if isinstance(results, tuple) else (results,))[output].reshape(-1)[place]
        score.backward()
        gradient = maps[scale].grad[0]
        return float(score.detach()), (gradient.mean((1, 2))[:, None, None] * maps[scale][0]).sum(0).detach().numpy()


def anchor_points(maps: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(1,2,boxes) centres of the cells, and (1,boxes) their strides."""
    points, strides = [], []
    for x, stride in zip(maps, STRIDES, strict=True):
        h, w = x.shape[2:]
        sy, sx = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        points.append(torch.stack((sx, sy)).reshape(1, 2, -1).to(x.dtype))
        strides.append(torch.full((1, h * w), float(stride), dtype=x.dtype))
    return torch.cat(points, 2), torch.cat(strides, 1)


class V8(nn.Module):
    """YOLOv8's decoupled head with a distribution over the distance to each side (DFL).

    extras: further numbers for each box from a branch of their own. kind: 'detect', 'segment', 'pose' or 'obb'.
    light: YOLO11's class branch of depthwise convolutions.
    """

    bins = 4

    def __init__(self, classes: int = 5, kind: str = "detect", extras: int = 0, light: bool = False) -> None:
        super().__init__()
        self.classes, self.kind, self.extras = classes, kind, extras
        self.sides = nn.ModuleList(
            nn.Sequential(conv(c, 8), conv(8, 8), nn.Conv2d(8, 4 * self.bins, 1)) for c in CHANNELS
        )

        def branch(c: int) -> nn.Sequential:
            if light:
                first = nn.Sequential(conv(c, c, groups=c), conv(c, 8, 1))
                return nn.Sequential(first, conv(8, 8, groups=8), conv(8, 8, 1), nn.Conv2d(8, classes, 1))
            return nn.Sequential(conv(c, 8), conv(8, 8), nn.Conv2d(8, classes, 1))

        self.scores = nn.ModuleList(branch(c) for c in CHANNELS)
        self.more = nn.ModuleList(nn.Sequential(conv(c, 8), nn.Conv2d(8, extras, 1)) for c in CHANNELS if extras)
        self.expectation = nn.Conv2d(self.bins, 1, 1, bias=False).requires_grad_(False)
        self.expectation.weight.data[:] = torch.arange(float(self.bins)).view(1, self.bins, 1, 1)
        self.prototypes = nn.Sequential(conv(CHANNELS[0], 8), nn.Upsample(scale_factor=2), conv(8, max(extras, 1)))

    def forward(self, maps: list[Tensor]) -> Any:
        b = maps[0].shape[0]
        raw = [torch.cat((box(x), score(x)), 1) for box, score, x in zip(self.sides, self.scores, maps, strict=True)]
        joined = torch.cat([r.view(b, self.classes + 4 * self.bins, -1) for r in raw], 2)
        sides, scores = joined.split((4 * self.bins, self.classes), 1)
        points, strides = anchor_points(maps)
        distances = self.expectation(sides.view(b, 4, self.bins, -1).transpose(2, 1).softmax(1)).view(b, 4, -1)
        extras = torch.cat([m(x).view(b, self.extras, -1) for m, x in zip(self.more, maps, strict=False)] or [sides], 2)
        near, far = distances.chunk(2, 1)
        if self.kind == "obb":
            angle = (extras.sigmoid() - 0.25) * torch.pi
            cos, sin = torch.cos(angle), torch.sin(angle)
            xf, yf = ((far - near) / 2).split(1, 1)
            centre = torch.cat([xf * cos - yf * sin, xf * sin + yf * cos], 1) + points
            boxes = torch.cat([centre, near + far], 1) * strides
            return torch.cat([boxes, scores.sigmoid(), angle], 1)
        low, high = points - near, points + far
        boxes = torch.cat(((low + high) / 2, high - low), 1) * strides
        if self.kind == "segment":
            return torch.cat([boxes, scores.sigmoid(), extras], 1), self.prototypes(maps[0])
        if self.kind == "pose":
            points3 = extras.view(b, self.extras // 3, 3, -1)
            place = (points3[:, :, :2] * 2.0 + (points - 0.5)) * strides
            keypoints = torch.cat((place, points3[:, :, 2:3].sigmoid()), 2).view(b, self.extras, -1)
            return torch.cat([boxes, scores.sigmoid(), keypoints], 1)
        return torch.cat([boxes, scores.sigmoid()], 1)


class V5(nn.Module):
    """YOLOv5's coupled head with three anchors a cell and an objectness. raw: the outputs of the scales, undecoded.

    masks: coefficients of prototypes behind the classes, which pass no sigmoid, and the prototypes.
    """

    anchors = 3

    def __init__(self, classes: int = 5, raw: bool = False, masks: int = 0) -> None:
        super().__init__()
        self.classes, self.raw, self.masks = classes, raw, masks
        self.out = nn.ModuleList(nn.Conv2d(c, (classes + 5 + masks) * self.anchors, 1) for c in CHANNELS)
        self.sizes = nn.Parameter(torch.rand(3, 1, self.anchors, 1, 1, 2) * 20 + 5, requires_grad=False)
        self.prototypes = nn.Sequential(conv(CHANNELS[0], 8), nn.Upsample(scale_factor=2), conv(8, max(masks, 1)))

    def forward(self, maps: list[Tensor]) -> Any:
        tables, outputs = [], []
        for layer, x, stride, anchor in zip(
            self.out, maps, STRIDES, [self.sizes[k] for k in range(len(STRIDES))], strict=True
        ):
            b, _, h, w = x.shape
            y = layer(x).view(b, self.anchors, 5 + self.classes + self.masks, h, w).permute(0, 1, 3, 4, 2).contiguous()
            outputs.append(y)
            sy, sx = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack((sx, sy), 2).to(x.dtype).expand(1, self.anchors, h, w, 2) - 0.5
            parts = (5 + self.classes, self.masks) if self.masks else (5 + self.classes,)
            y, *mask = y.split(parts, 4)
            xy, wh, conf = y.sigmoid().split((2, 2, self.classes + 1), 4)
            y = torch.cat(((xy * 2 + grid) * stride, (wh * 2) ** 2 * anchor, conf, *mask), 4)
            tables.append(y.view(b, self.anchors * h * w, -1))
        if self.raw:
            return tuple(outputs)
        table = torch.cat(tables, 1)
        return (table, self.prototypes(maps[0])) if self.masks else table


class YoloX(nn.Module):
    """YOLOX' decoupled head: an objectness from a layer of its own, (N, boxes, 5 + classes)."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.before = nn.ModuleList(conv(c, 8, 1) for c in CHANNELS)
        self.class_branch = nn.ModuleList(nn.Sequential(conv(8, 8), conv(8, 8)) for _ in CHANNELS)
        self.side_branch = nn.ModuleList(nn.Sequential(conv(8, 8), conv(8, 8)) for _ in CHANNELS)
        self.classes = nn.ModuleList(nn.Conv2d(8, classes, 1) for _ in CHANNELS)
        self.sides = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in CHANNELS)
        self.objects = nn.ModuleList(nn.Conv2d(8, 1, 1) for _ in CHANNELS)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.predict([layer(x) for layer, x in zip(self.before, maps, strict=True)])

    def predict(self, maps: list[Tensor]) -> Tensor:
        outputs = []
        for k, x in enumerate(maps):
            c, s = self.class_branch[k](x), self.side_branch[k](x)
            outputs.append(torch.cat([self.sides[k](s), self.objects[k](s).sigmoid(), self.classes[k](c).sigmoid()], 1))
        table = torch.cat([o.flatten(start_dim=2) for o in outputs], 2).permute(0, 2, 1)
        points, strides = anchor_points(maps)
        points, strides = points.transpose(1, 2), strides.unsqueeze(2)
        return torch.cat([(table[..., :2] + points) * strides, table[..., 2:4].exp() * strides, table[..., 4:]], -1)


class TwoOutputs(nn.Module):
    """Scores and sides as two outputs, with shared towers and nine anchors a cell, as EfficientDet and RetinaNet.

    softmax: scores of classes that compete, the background first, as SSD; drop: without the background's column.
    """

    def __init__(self, classes: int = 5, anchors: int = 9, softmax: bool = False, drop: bool = False) -> None:
        super().__init__()
        self.before = nn.ModuleList(nn.Conv2d(c, 8, 1) for c in CHANNELS)
        self.score_tower, self.side_tower = conv(8, 8), conv(8, 8)
        self.scores, self.sides = nn.Conv2d(8, classes * anchors, 3, 1, 1), nn.Conv2d(8, 4 * anchors, 3, 1, 1)
        self.classes, self.softmax, self.drop = classes, softmax, drop

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.predict([layer(x) for layer, x in zip(self.before, maps, strict=True)])

    def predict(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        scores, sides = [], []
        for x in maps:
            b = x.shape[0]
            s = self.scores(self.score_tower(x)).permute(0, 2, 3, 1).reshape(b, -1, self.classes)
            scores.append(s)
            sides.append(self.sides(self.side_tower(x)).permute(0, 2, 3, 1).reshape(b, -1, 4))
        joined = torch.cat(scores, 1)
        joined = joined.softmax(-1) if self.softmax else joined.sigmoid()
        return joined[..., 1:] if self.drop else joined, torch.cat(sides, 1)


class Transposed(nn.Module):
    """A head whose table lists the boxes along the other axis."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.head(maps).transpose(1, 2)


def detector(head: Callable[[], nn.Module], seed: int = 0) -> Detector:
    """A detector in evaluation mode, with weights and running statistics that depend on the seed alone."""
    torch.manual_seed(seed)
    model = Detector(head()).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.3, 0.8)
    return model


def export(model: nn.Module, path: Any, outputs: list[str], *, opset: int, dynamo: bool, dynamic: bool = False) -> None:
    """Writes the detector as ONNX, by TorchScript or by dynamo, with a fixed or a dynamic batch."""
    x = torch.rand(2 if dynamic and dynamo else 1, 3, SIDE, SIDE).to(next(model.parameters()).dtype)
    options: dict[str, Any] = {"opset_version": opset, "input_names": ["images"], "output_names": outputs}
    if dynamic and dynamo:
        options["dynamic_shapes"] = {"x": {0: torch.export.Dim("batch")}}
    elif dynamic:
        options["dynamic_axes"] = {name: {0: "batch"} for name in ("images", *outputs)}
    torch.onnx.export(model, (x,), path, dynamo=dynamo, **options)
