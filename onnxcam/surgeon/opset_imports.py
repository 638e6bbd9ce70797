"""The operator sets that a file imports, each once and with one version. loading.py calls one_version_each().

ONNX calls its own operators "" or "ai.onnx"; onnx's checker takes the two for different domains, and the readers that
come later take one of them.
"""

from collections.abc import Iterable

import onnx

from onnxcam.errors import ModelError
from onnxcam.surgeon.validation import nodes_of

STANDARD, ALIAS = "", "ai.onnx"


def one_version_each(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with each domain imported once, and with nodes of the domain "" where they were of "ai.onnx".

    The model itself where that is so. Raises ModelError where a domain is imported in two versions.
    """
    groups = [[(one.domain, one.version) for one in group.opset_import] for group in (proto, *proto.functions)]
    versions = [_versions(group, name) for group in groups]
    repeated = any(len(group) != len(kept) for group, kept in zip(groups, versions, strict=True))
    alias = any(domain == ALIAS for group in groups for domain, _ in group)  # onnx before 1.22 asks for the name ""
    if not (repeated or alias) and all(node.domain != ALIAS for node in nodes_of(proto)):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for group, kept in zip((copy, *copy.functions), versions, strict=True):
        del group.opset_import[:]
        group.opset_import.extend(onnx.helper.make_opsetid(*one) for one in kept.items())
    defined = {function.name for function in copy.functions if function.domain == ALIAS}
    for node in nodes_of(copy):
        if node.domain == ALIAS and node.op_type not in defined:
            node.domain = STANDARD
    return copy


def _versions(imports: Iterable[tuple[str, int]], name: str) -> dict[str, int]:
    versions: dict[str, int] = {}
    for domain, version in imports:
        domain = STANDARD if domain == ALIAS else domain
        if versions.setdefault(domain, version) != version:
            what = "the standard operators" if domain == STANDARD else f"operators of the domain {domain!r}"
            raise ModelError(
                f"{name}: {what} are imported in two versions, {versions[domain]} and {version}, and nothing says "
                f"which one counts; export again, or delete one of the opset_import entries"
            )
    return versions
