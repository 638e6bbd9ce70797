"""Which masks Score-CAM scores, and how their scores become the weights of the feature maps.

That depends on the convention (constructive: keep a region; destructive: remove it) and on the variant (official: class
probabilities, as in the authors' code; paper: a softmax over the channels' logits, as in Algorithm 1)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from onnxcam.methods.blocks import ClassScore, Convention
from onnxcam.methods.estimate import links
from onnxcam.methods.maps import weights_of
from onnxcam.types import AnyMasks, Doubles, Features, Score

Maps = TypeVar("Maps", Features, AnyMasks)


class Variant(StrEnum):
    """The two methods that carry the name Score-CAM."""

    OFFICIAL = "official"
    """The authors' code: weights are class probabilities."""
    PAPER = "paper"
    """Algorithm 1: weights are the softmax over the channels of the logits."""


@dataclass(frozen=True)
class Weighting:
    """What a convention and a variant come to."""

    convention: Convention
    variant: Variant

    @property
    def softmax(self) -> bool:
        return self.variant is Variant.PAPER

    @property
    def score(self) -> Score:
        return Score.LOGIT if self.softmax else Score.PROBABILITY

    @property
    def attribute(self) -> ClassScore:
        return ClassScore(self.score, self.convention)

    @property
    def destructive(self) -> bool:
        return self.convention is Convention.DESTRUCTIVE

    def masks(self, maps: Maps) -> Maps:
        """The masks of these maps; 1 - n(A) = n(-A), so destructive masks are the negative maps."""
        return -maps if self.destructive else maps

    def weights(self, scores: Doubles, originals: Doubles) -> Doubles:
        """(K,T) weights of the maps from the scores (K,T) of their masks and those of the unmasked image (T,)."""
        return weights_of(originals - scores if self.destructive else scores, softmax=self.softmax)

    def link(self, scores: Doubles, original: float) -> links.Link:
        """Between the score of a mask and the weight of its map, for one target's scores (n,)."""
        if self.softmax:
            return links.exponential(scores, -1 if self.destructive else 1)
        link = links.link(scores)
        return links.falling(link, original) if self.destructive else link
