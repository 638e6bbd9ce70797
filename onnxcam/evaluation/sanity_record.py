"""A sanity check as plain JSON values."""

from typing import Any

from onnxcam.evaluation.sanity_report import MethodSanity, SanityReport, SanityStep, Spread
from onnxcam.outputs.record import plain
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.versions import versions


def sanity_record(report: SanityReport) -> dict[str, Any]:
    """All numbers of a report; an undefined one is None, and its reason stands beside it."""
    options = report.options
    return {
        "verdict": str(report.verdict),
        "rule": report.rule,
        "model": {"name": report.model, "sha256": report.model_sha256},
        "pictures": list(report.pictures),
        "order": str(options.order),
        "redraw": str(options.redraw),
        "seeds": list(options.seeds),
        "preset": _preset(report),
        "layers": report.layers,
        "layers_kept": report.kept,
        "notes": list(report.notes),
        "methods": [_method(method) for method in report.methods],
        "seconds": round(report.seconds, 3),
        "versions": dict(versions()),
    }


def _preset(report: SanityReport) -> dict[str, Any] | None:
    """The preprocessing as the record of an explanation holds it."""
    if report.preset is None:
        return None
    preset: dict[str, Any] = plain({**report.preset.to_json(), "origin": report.preset_origin})
    return preset


def _method(method: MethodSanity) -> dict[str, Any]:
    return {
        "method": method.method,
        "options": {name: _plain(value) for name, value in method.options.items()},
        "verdict": str(method.verdict),
        "reason": method.reason,
        "spearman": _spread(method.spearman),
        "hog": _spread(method.hog),
        "null": {"spearman": _spread(method.null), "hog": _spread(method.null_hog)},
        "other_classes": _spread(method.other_classes) if method.other_classes is not None else None,
        "complexity_rise": _spread(method.complexity_rise),
        "targets": [_target(target) for target in method.targets],
        "left_out": list(method.left_out),
        "steps": [_step(step) for step in method.steps],
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "mean": spread.mean,
        "lowest": spread.lowest,
        "highest": spread.highest,
        "count": spread.count,
        "undefined": spread.undefined,
    }


def _target(target: ScoredTarget | None) -> dict[str, Any] | None:
    if target is None:
        return None
    return {"kind": str(target.kind), "index": target.index, "label": target.label, "probability": target.probability}


def _step(step: SanityStep) -> dict[str, Any]:
    return {
        "seed": step.seed,
        "depth": step.depth,
        "layer": step.layer,
        "spearman": list(step.spearman),
        "hog": list(step.hog),
        "probability": list(step.probabilities),
        "reasons": list(step.reasons),
    }
