"""Fuzz the readers: `python -m fuzzing --cases 1000000 --seed 1 --part 1/8 [--only edf,bdf]`.

It begins in tests/recordings. A case is a seed's files with a few mutations, and is the same again for the same
seed and number. Faults are written as folders below `--keep`, to be made into tests.
"""

import argparse
import collections
import faulthandler
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from fuzzing.attempt import FaultError, attempt, limit_memory, study_of
from fuzzing.mutate import mutated
from fuzzing.seeds import SEEDS

SLOW = {"fif": 3, "eeglab": 4, "parquet": 2}
"""Kinds of which only every so many-th case is run, since reading one takes as much longer."""


def main() -> int:
    """Run the cases of a part and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", default="1/1", help="which part of how many, as in 3/8")
    parser.add_argument("--only", default=",".join(SEEDS))
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    part, parts = (int(x) for x in options.part.split("/"))
    kinds = [kind for kind in SEEDS if kind in options.only.split(",")]
    sites = {kind: SEEDS[kind][1]() for kind in kinds}
    studies = {kind: study_of(SEEDS[kind][0]) for kind in kinds}
    turns = [kind for turn in range(12) for kind in kinds if turn % SLOW.get(kind, 1) == 0]
    answers: collections.Counter[tuple[str, str]] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    faulthandler.enable()
    options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for kind in kinds:  # libraries are loaded before memory is limited
            said = attempt(sites[kind], study=studies[kind], folder=Path(folder) / "site")
            assert said == "read", f"{kind}: {said}"
        limit_memory()
        for number in range(part - 1, options.cases, parts):
            kind = turns[number % len(turns)]
            if number // parts % 1000 == 0:
                (options.keep / f"at-{options.seed}-{part}").write_text(f"{number}\n")  # for a crash
            site = mutated(sites[kind], np.random.default_rng([options.seed, number]))
            try:
                answer = attempt(site, study=studies[kind], folder=Path(folder) / "site")
                answers[kind, "read" if answer == "read" else "refused"] += 1
            except FaultError as fault:
                answers[kind, "FAULT"] += 1
                cause = fault.__cause__
                last = traceback.extract_tb(cause.__traceback__)[-1] if cause else None
                where = f"{Path(last.filename).name}:{last.lineno}" if last else ""
                said = f"{kind}: {re.sub(r'[0-9]+', '#', str(fault))[:150]} {where}"
                faults[said] += 1
                if faults[said] == 1:
                    print(f"case {number} of seed {options.seed}: {kind}: {fault} {where}"[:400], flush=True)
                    for name, data in site.items():
                        path = options.keep / f"{options.seed}-{number}" / name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(data)
    total = sum(answers.values())
    print(
        f"{total} cases in {time.monotonic() - began:.0f} s, {sum(faults.values())} faults of {len(faults)} kinds"
    )
    for kind in kinds:
        print(f"  {kind:14} " + ", ".join(f"{what} {answers[kind, what]}" for what in ("read", "refused", "FAULT")))
    for said, count in faults.most_common():
        print(f"  {count} x {said}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
