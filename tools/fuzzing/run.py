"""The fuzzer: runs onnxcam on damaged and hostile model files. Each must give a typed error or a right answer.

    pip install ".[cpu]"
    python tools/fuzzing/run.py --count 2000 --json fuzz.json --keep /tmp/fuzz
    python tools/fuzzing/run.py --first 123 --count 1 --keep /tmp/fuzz      # case 123 alone, as in the long run

A case is a model with changes to its bytes or its graph. --seed and the case's index make the same case again. The
commands explain, inspect and rewrite run on it, each in a process of bounded time and memory. An answer is also
compared with a plain onnxruntime run of the same file. --models adds models: files, or folders, from which *.onnx up to
400 kB are taken, with their external weights. Needs Linux. Exits with 1 if there is a failure; --keep FOLDER keeps the
files of each failure.
"""

import argparse
import importlib
import json
import multiprocessing
import pkgutil
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package's folder, where this file runs as a program

from fuzzing.comparison import COMMANDS, command, compared, fault_of
from fuzzing.mutations import STRUCTURED, Rng
from fuzzing.raw import RAW
from fuzzing.seeds import MODEL, TEXTS, Files, built_in, read_seeds
from fuzzing.verdict import Limits, Verdict, judge, sandboxed

WORKERS = 2
UNCHANGED = 50
"""Every 50th case is an unchanged model. If it is a built-in one, explain must answer: a check of the fuzzer itself."""


@dataclass(frozen=True)
class Case:
    """One model with its changes, described in words."""

    index: int
    model: str
    files: Files = field(repr=False)
    changes: tuple[str, ...]


def make_case(seeds: dict[str, Files], seed: int, index: int) -> Case:
    """The case of this index. The same seeds, seed and index give the same case on every machine."""
    rng = Rng(f"{seed}/{index}")
    name = rng.choice(sorted(seeds))
    files = dict(seeds[name])
    changes: list[str] = []
    if index % UNCHANGED == 0:
        return Case(index, name, files, ())
    kind = rng.random()  # below 0.2 bytes change, above 0.25 the graph, between them both
    if kind > 0.2:
        model = ModelProto.FromString(files[MODEL])
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
            changes.append(change_structure(rng, model))
        files[MODEL] = model.SerializeToString()
    if kind < 0.25 and files[MODEL]:
        which = rng.choice(sorted(RAW))
        target = rng.choice([*files, MODEL, MODEL])
        files[target], change = RAW[which](rng, files[target])
        changes.append(f"{which}: {target} {change}")
    return Case(index, name, files, tuple(changes))


def change_structure(rng: Rng, model: ModelProto) -> str:
    """Changes the model by one mutation that applies to it. Returns the change in words."""
    while True:
        name = rng.choice(sorted(STRUCTURED))
        change = STRUCTURED[name](rng, model)
        if change is not None:
            return f"{name}: {change}"


@dataclass(frozen=True)
class Result:
    """What the commands did with one case. seconds, peak (bytes): the largest of all commands."""

    index: int
    model: str
    changes: tuple[str, ...]
    verdicts: dict[str, Verdict]
    comparison: str
    seconds: float
    peak: int

    @property
    def failures(self) -> dict[str, Verdict]:
        return {name: v for name, v in self.verdicts.items() if v.outcome == "failure"}


def run_case(case: Case, limits: Limits, keep: Path | None = None) -> Result:
    """Runs the commands in one folder, in a user's order, and judges them. A failure's files go to `keep`."""
    verdicts: dict[str, Verdict] = {}
    seconds, peak, comparison = 0.0, 0, ""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for file, data in {**case.files, "picture.png": picture()}.items():
            (folder / file).write_bytes(data)
        for what, words in COMMANDS.items():
            ended = sandboxed(command(*words), folder, limits)
            verdicts[what] = judge(ended, lambda what=what, ended=ended: fault_of(what, folder, ended))
            seconds, peak = max(seconds, ended.seconds), max(peak, ended.peak)
        if verdicts["explain"].outcome == "answer":
            comparison = compared(folder, limits)
            if comparison.startswith("differs"):
                verdicts["explain"] = Verdict("failure", "wrong answer: differs from a plain run", comparison)
    if not case.changes and case.model in TEXTS and verdicts["explain"].outcome != "answer":
        verdicts["explain"] = Verdict("failure", "the unchanged model is not explained", verdicts["explain"].detail)
    result = Result(case.index, case.model, case.changes, verdicts, comparison, seconds, peak)
    if keep is not None and result.failures:
        keep_files(case, result, keep)
    return result


def picture() -> bytes:
    """A PNG of 48x40 pixels: a soft pattern with an edge."""
    y, x = np.mgrid[:40, :48]
    pixels = np.stack([5 * x, 6 * y, 120 + 60 * np.sin(x / 5) + 60 * (y > 20)], axis=-1).clip(0, 255).astype(np.uint8)
    with tempfile.SpooledTemporaryFile() as file:
        Image.fromarray(pixels).save(file, "PNG")
        file.seek(0)
        return file.read()


def keep_files(case: Case, result: Result, keep: Path) -> None:
    """Writes the case's files and its result to a folder named after its index."""
    folder = keep / f"{case.index:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in case.files.items():
        (folder / file).write_bytes(data)
    (folder / "picture.png").write_bytes(picture())
    (folder / "case.json").write_text(json.dumps(asdict(result), indent=2) + "\n")


def warm_up() -> None:
    """Imports what every case needs. Opens no session, because a fork would lose its threads."""
    import onnxcam

    for module in pkgutil.walk_packages(onnxcam.__path__, "onnxcam."):
        importlib.import_module(module.name)
    importlib.import_module("onnxruntime")


def run_all(
    seeds: dict[str, Files], seed: int, indices: Sequence[int], limits: Limits, keep: Path | None = None
) -> Iterator[Result]:
    """The results as they come. The workers are fresh interpreters: a fork would lose threads and sessions."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=start_worker, initargs=(seeds,)) as pool:
        futures = [pool.submit(run_seeded, seed, index, limits, keep) for index in indices]
        for done in as_completed(futures):
            yield done.result()


SEEDS: dict[str, Files] = {}
"""The models of a worker, which are sent to it once."""


def start_worker(seeds: dict[str, Files]) -> None:
    SEEDS.update(seeds)
    warm_up()


def run_seeded(seed: int, index: int, limits: Limits, keep: Path | None) -> Result:
    return run_case(make_case(SEEDS, seed, index), limits, keep)


def summary(results: Sequence[Result], console: Console) -> None:
    """Prints the sums, the failures and the noise."""
    table = Table("command", "answers", "errors by class", "failures")
    for name in COMMANDS:
        verdicts = [r.verdicts[name] for r in results]
        errors = Counter(v.kind for v in verdicts if v.outcome == "error").most_common()
        count = Counter(v.outcome for v in verdicts)
        table.add_row(name, str(count["answer"]), ", ".join(f"{k} {n}" for k, n in errors), str(count["failure"]))
    console.print(table)
    reasons = Counter(re.split(r"[:;]", r.comparison)[0] for r in results if r.comparison).most_common()
    console.print(f"answers against a plain run: {', '.join(f'{k} {n}' for k, n in reasons) or 'none'}")
    slowest, largest = max(r.seconds for r in results), max(r.peak for r in results)
    console.print(f"slowest command {slowest:.1f} s, largest {largest / 2**20:.0f} MB", highlight=False)
    failures = [(f"{v.kind}", name, r) for r in results for name, v in r.failures.items()]
    noises = [(shortened(v.noise), name, r) for r in results for name, v in r.verdicts.items() if v.noise]
    for title, events in (("failure", failures), ("noise on standard error (no failure)", noises)):
        if events:
            console.print(grouped(title, events))


def shortened(noise: str) -> str:
    """The first line, with # for numbers."""
    return re.sub(r"\d+", "#", noise.strip().splitlines()[0])[:100] if noise.strip() else "an empty line"


def grouped(title: str, events: Sequence[tuple[str, str, Result]]) -> Table:
    """(kind, command, result) counted by kind and command: the most frequent first, each with its simplest case."""
    table = Table(title, "command", "times", "simplest case", "its changes")
    for (kind, name), times in Counter((kind, name) for kind, name, _ in events).most_common():
        simplest = min((r for k, n, r in events if (k, n) == (kind, name)), key=lambda r: len(r.changes))
        changes = f"{simplest.model}: {'; '.join(simplest.changes) or 'none'}"
        table.add_row(escape(kind), name, str(times), str(simplest.index), escape(changes[:300]))
    return table


def size(text: str) -> int:
    """Bytes of a text such as 3G."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
    match = re.fullmatch(r"([\d.]+)([KMG]?)", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"not a size: {text!r}; e.g. 3G")
    return int(float(match[1]) * units[match[2]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="number of cases")
    parser.add_argument("--first", type=int, default=0, help="index of the first case")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other cases")
    parser.add_argument(
        "--models", type=Path, nargs="+", default=[], help="more models to start from: files, or folders"
    )
    parser.add_argument("--seconds", type=float, default=20, help="time limit of one command")
    parser.add_argument("--memory", type=size, default=size("3G"), help="address space of one command, such as 3G")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--keep", type=Path, help="folder that keeps the files of each failure")
    arguments = parser.parse_args()
    limits, seeds = Limits(arguments.seconds, arguments.memory), {**built_in(), **read_seeds(arguments.models)}
    indices = range(arguments.first, arguments.first + arguments.count)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[Result] = []
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{len(seeds)} models", total=len(indices))
        for result in run_all(seeds, arguments.seed, indices, limits, arguments.keep):
            results.append(result)
            failed = sum(bool(r.failures) for r in results)
            bar.update(task, advance=1, description=f"{len(seeds)} models, {failed} failures")
    results.sort(key=lambda r: r.index)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    summary(results, Console(width=160))
    raise SystemExit(int(any(r.failures for r in results)))


if __name__ == "__main__":
    main()
