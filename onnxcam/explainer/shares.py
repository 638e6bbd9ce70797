"""Reports the forward passes of several parts, such as fused layers or metrics, as those of a whole."""

from dataclasses import dataclass, field

from onnxcam.types import Progress


@dataclass(eq=False)
class Shares:
    """Reports the progress of several parts as that of a whole.

    each: the forward passes that are expected of a part that has not begun; None: as many as of the longest so far.
    """

    progress: Progress
    parts: int
    each: int | None = None
    reported: dict[int, tuple[int, int]] = field(default_factory=dict)

    def part(self, i: int) -> Progress:
        """What the i-th part reports to."""

        def report(done: int, expected: int) -> None:
            self.reported[i] = done, expected
            begun = list(self.reported.values())
            each = self.each if self.each is not None else max(e for _, e in begun)
            still = (self.parts - len(begun)) * each
            self.progress(sum(d for d, _ in begun), sum(e for _, e in begun) + still)

        return report

    def finish(self, i: int) -> None:
        """Counts the i-th part as done, with what it reported: one that took no pass or failed reports no end."""
        done, expected = self.reported.get(i, (0, 0))
        if i in self.reported and done == expected:
            return
        self.reported[i] = done, done
        if any(expected for _, expected in self.reported.values()):
            self.part(i)(done, done)
