"""The fuzzer: gives onnxcam damaged and hostile inputs. Each must end in a typed error or in a right answer.

    pip install ".[cpu,test]"
    python tools/fuzzing/run.py --count 1000 --keep /tmp/findings           # of each kind
    python tools/fuzzing/run.py --kind pictures,arrays --count 50000 --seed fresh --minutes 20
    python tools/fuzzing/run.py --kind models --seed 7 --first 123 --count 1      # case 123 alone, as in the long run
    python tools/fuzzing/run.py --kind pictures --file picture.png              # a file that was kept

Kinds: pictures, arrays, texts (labels, configurations, metadata), data_sets, records of the cache, models. A case is a
seed with changes; the kind, --seed and the case's index make the same case again. The cases of a kind run one after
another in one process of bounded time and memory, which is started anew when a case ends it. Anything but an
OnnxCamError or a right answer is a failure: its files are made smaller and kept in the folder --keep. --models adds
models: files, or folders, from which *.onnx up to 400 kB are taken, with their external weights. Needs Linux.
Exits with 1 after a failure.
"""

import argparse
import base64
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package's folder, where this file runs as a program

from fuzzing.kept import Kept
from fuzzing.seeds import Files, read_seeds
from fuzzing.shrink import shrunk
from fuzzing.subject import Case, Rng, Subject
from fuzzing.subjects import SUBJECTS
from fuzzing.verdict import Verdict

MOST_SHRUNK = 30
"""Failures of different kinds that are made smaller."""
MOST_PRINTED = 600
"""Bytes of a file that is printed too."""


@dataclass(frozen=True)
class Result:
    """What became of one case. compared: how the comparison of an answer ended, where there is one."""

    kind: str
    index: int
    case: Case
    verdict: Verdict

    @property
    def failed(self) -> bool:
        return self.verdict.outcome == "failure"


def make_case(one: Subject, seeds: dict[str, Files], seed: int, index: int) -> Case:
    """The case of this index. The same seeds, seed and index give the same case on every machine."""
    return one.make(Rng(f"{one.name}/{seed}/{index}"), seeds)


def checked(kept: Kept, case: Case) -> Verdict:
    """The verdict on a case; that an unchanged seed is refused is a failure too."""
    verdict = kept.run(case.files)
    if case.must_answer and verdict.outcome == "error":
        return Verdict("failure", f"what is good is refused: {verdict.kind}", verdict.detail, verdict.seconds)
    return verdict


def run_all(one: Subject, seeds: dict[str, Files], seed: int, indices: range, until: float) -> Iterator[Result]:
    """The results of one kind, in order, until the time (of time.monotonic) is over."""
    kept = Kept(one.check, one.bounds, one.start)
    try:
        for index in indices:
            if time.monotonic() > until:
                return
            case = make_case(one, seeds, seed, index)
            yield Result(one.name, index, case, checked(kept, case))
    finally:
        kept.remove()


@dataclass
class Report:
    """The sums of one kind, and a finding for each way to fail."""

    kind: str
    seed: int
    count: int = 0
    slowest: float = 0.0
    largest: int = 0

    def __post_init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.details: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.simplest: dict[str, Result] = {}
        self.begin = time.monotonic()

    def add(self, result: Result) -> bool:
        """Counts the result. Returns whether it fails in a way that is new."""
        verdict = result.verdict
        self.count += 1
        self.outcomes[verdict.outcome] += 1
        self.slowest, self.largest = max(self.slowest, verdict.seconds), max(self.largest, verdict.peak)
        if verdict.outcome == "error":
            self.errors[verdict.kind] += 1
        elif verdict.outcome == "answer" and verdict.detail:
            self.details[verdict.detail.partition(":")[0]] += 1
        elif result.failed:
            self.failures[verdict.kind] += 1
            is_new = verdict.kind not in self.simplest
            if is_new or len(result.case.changes) < len(self.simplest[verdict.kind].case.changes):
                self.simplest[verdict.kind] = result
            return is_new
        return False

    def lines(self) -> Iterator[str]:
        seconds = time.monotonic() - self.begin
        errors = ", ".join(f"{name} {n}" for name, n in self.errors.most_common())
        details = f" ({', '.join(f'{name} {n}' for name, n in self.details.most_common())})" if self.details else ""
        yield (
            f"{self.kind}: {self.count} cases, {self.count / max(seconds, 1e-9):.0f}/s; "
            f"{self.outcomes['answer']} answers{details}, errors: {errors or 'none'}; "
            f"{sum(self.failures.values())} failures; "
            f"slowest {self.slowest:.1f} s, largest {self.largest / 2**20:.0f} MiB"
        )
        for kind, times in self.failures.most_common():
            one = self.simplest[kind]
            again = f"--kind {self.kind} --seed {self.seed} --first {one.index} --count 1"
            yield f"  FAILURE {kind} ({times} times): {one.case.origin}, {'; '.join(one.case.changes)[:300]}"
            yield f"    again: python tools/fuzzing/run.py {again}"
            yield f"    {one.verdict.detail.strip()[-300:]!r}"


def fuzz(one: Subject, seeds: dict[str, Files], seed: int, indices: range, until: float, keep: Path | None) -> Report:
    """Runs cases of one kind, and keeps what fails, each way to fail once, made smaller."""
    report = Report(one.name, seed)
    for result in run_all(one, seeds, seed, indices, until):
        is_new = report.add(result)
        if result.failed and (is_new or report.count % 500 == 0):
            print(f"  {one.name} {result.index}: {result.verdict.kind}", flush=True)
        if report.count % 1000 == 0:
            print(next(report.lines()), flush=True)
    if keep is not None:
        for result in list(report.simplest.values())[:MOST_SHRUNK]:
            keep_files(one, result, seed, keep)
    return report


def keep_files(one: Subject, result: Result, seed: int, keep: Path) -> None:
    """Writes the case's files, their smaller form and the verdict to a folder of its own."""
    folder = keep / f"{one.name}-{seed}-{result.index:06d}"
    kept = Kept(one.check, one.bounds, one.start)

    def still_fails(files: Files) -> bool:
        return checked(kept, Case("", files, must_answer=result.case.must_answer)).kind == result.verdict.kind

    small = shrunk(result.case.files, still_fails)
    kept.remove()
    for place, files in ((folder / "whole", result.case.files), (folder / "small", small)):
        place.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
    about = {"origin": result.case.origin, "changes": result.case.changes, "verdict": asdict(result.verdict)}
    (folder / "case.json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"  {result.verdict.kind}: kept in {folder}, made smaller", flush=True)
    for name, data in small.items():
        if len(data) <= MOST_PRINTED:
            print(f"    {name}: {base64.b64encode(data).decode()}", flush=True)


def run_file(one: Subject, path: Path) -> Verdict:
    """The verdict on a file, or on the files of a folder."""
    seeds = one.seeds()
    name = next(iter(seeds[min(seeds)]))
    kept_files = [p for p in path.rglob("*") if p.is_file()]
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in kept_files} or {name: path.read_bytes()}
    kept = Kept(one.check, one.bounds, one.start)
    try:
        return kept.run(files)
    finally:
        kept.remove()


def number_of(text: str) -> int:
    """A seed; 'fresh' gives another one at each run."""
    return random.SystemRandom().randrange(10**9) if text == "fresh" else int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default=",".join(SUBJECTS), help="kinds, separated by commas; all by default")
    parser.add_argument("--count", type=int, default=1000, help="cases of each kind")
    parser.add_argument("--first", type=int, default=0, help="index of the first case")
    parser.add_argument("--seed", type=number_of, default=0, help="another seed makes other cases; 'fresh' chooses one")
    parser.add_argument("--minutes", type=float, default=1e6, help="most time of each kind")
    parser.add_argument("--models", type=Path, nargs="+", default=[], help="more models to start from")
    parser.add_argument("--keep", type=Path, help="folder that keeps the files of each failure, made smaller")
    parser.add_argument("--file", type=Path, help="runs this file, or the files of this folder, and nothing else")
    arguments = parser.parse_args()
    chosen = [SUBJECTS[name] for name in arguments.kind.split(",")]
    if arguments.file is not None:
        verdict = run_file(chosen[0], arguments.file)
        print(f"{verdict.outcome} {verdict.kind}\n{verdict.detail}")
        raise SystemExit(int(verdict.outcome == "failure"))
    print(f"seed {arguments.seed}", flush=True)
    reports = []
    for one in chosen:
        seeds = {**one.seeds(), **(read_seeds(arguments.models) if one.name == "models" else {})}
        indices = range(arguments.first, arguments.first + arguments.count)
        until = time.monotonic() + 60 * arguments.minutes
        reports.append(fuzz(one, seeds, arguments.seed, indices, until, arguments.keep))
        print("\n".join(reports[-1].lines()), flush=True)
    raise SystemExit(int(any(report.failures for report in reports)))


if __name__ == "__main__":
    main()
