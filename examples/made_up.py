"""Write the recordings of made-up hospitals into a folder, to try the commands on: nobody in them ever lived.

python examples/made_up.py FOLDER                 EEG of four hospitals: EDF files beside a participants.tsv
python examples/made_up.py FOLDER --kind ecg      two-lead ECG: WFDB records beside a recordings.tsv
"""

import argparse
import sys
from pathlib import Path

from fedsynth.errors import FedsynthError
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.study import load_study

STUDIES = {"eeg": "toy", "ecg": "toy-ecg"}


def main(words: list[str]) -> int:
    """Write the cohort of a toy study; return an exit code."""
    asked = argparse.ArgumentParser(description="Write made-up hospitals' recordings into a new folder.")
    asked.add_argument("folder", type=Path, help="to be made")
    asked.add_argument("--kind", choices=sorted(STUDIES), default="eeg", help="what is recorded (eeg)")
    asked.add_argument("--people", type=float, default=0.4, help="share of the 560 people of the demo (0.4)")
    given = asked.parse_args(words)
    if given.folder.exists():
        print(f"{given.folder} is there already; name another folder, or remove it", file=sys.stderr)
        return 1
    study = load_study(Path(__file__).resolve().parent / STUDIES[given.kind] / "study.toml")
    try:
        write_toy_cohort(given.folder, study=study, people=given.people)
    except FedsynthError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for place in sorted(given.folder.iterdir()):
        count = sum(1 for path in place.iterdir() if path.suffix in (".edf", ".hea"))
        print(f"{place}: {count} recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
