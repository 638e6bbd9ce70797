"""Runs the methods of several pictures in lockstep, so that their masks share forward passes of the network.

Where a method asks for scores, scheduling.py answers the requests of all pictures together before each goes on. So a
method is written for one picture. A picture that is alone needs no scheduler.
"""

from collections.abc import Sequence

from onnxcam.errors import OnnxCamError
from onnxcam.methods.blocks import Method, Need, run
from onnxcam.methods.maps import Outcome
from onnxcam.network.probe import ImageProbe
from onnxcam.network.scorer import Network
from onnxcam.network.selection import refused_if_not_led_back

MOST = 8
"""Pictures of one group. The feature maps of each are in memory, and those of the group that comes next."""


def group_size(method: Method, network: Network) -> int:
    """The number of pictures that fill the network together; 1 where they would share no run."""
    in_flight = network.in_flight
    if method.searches:
        return 1 if network.fixed is not None else max(1, min(MOST, in_flight // (method.smallest_batch or in_flight)))
    if in_flight == 1 or not network.can_pack or method.needs & {Need.TAIL, Need.GRADIENT}:
        return 1
    # Even of many masks the last ones do not fill a run, so two pictures share one.
    return max(2, min(MOST, -(-in_flight // (method.smallest_batch or in_flight))))


def run_lockstep(method: Method, probes: Sequence[ImageProbe]) -> list[list[Outcome] | OnnxCamError]:
    """Runs the method for each picture: its outcomes, or its error, in order. The probes are of one network."""
    results: list[list[Outcome] | OnnxCamError] = [[] for _ in probes]

    def search(i: int, probe: ImageProbe) -> None:
        try:
            with refused_if_not_led_back():
                results[i] = run(method, probe)
            probe.count.finish()
        except OnnxCamError as error:
            results[i] = error

    if len(probes) == 1:
        search(0, probes[0])
    else:
        from onnxcam.explainer.scheduling import side_by_side

        side_by_side(search, probes)
    return results
