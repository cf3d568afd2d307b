"""The demo behind `make demo`: rehearse the toy study, release it, verify it, and say what came out."""

import subprocess
import sys
from pathlib import Path

from fedsynth.coordinator.run_folder import RunFolder

HERE = Path(__file__).resolve().parent


def main(out: Path) -> None:
    """Run the three commands that a reader would type, then sum up."""
    command = [sys.executable, "-m", "fedsynth"]
    study, run, release = HERE / "toy" / "study.toml", out / "run", out / "release"
    _say("fedsynth rehearse examples/toy/study.toml --cohort toy --out demo/run")
    subprocess.run([*command, "rehearse", str(study), "--cohort", "toy", "--out", str(run)], check=True)
    _say("fedsynth release demo/run --out demo/release")
    subprocess.run([*command, "release", str(run), "--out", str(release)], check=True)
    _say("fedsynth verify demo/release")
    subprocess.run([*command, "verify", str(release)], check=True)
    folder = RunFolder(run)
    scores = {score.name: score for score in folder.scores()}
    auroc = [score for name, score in scores.items() if name.startswith("AUROC") and "trained on" in name]
    print()
    print(folder.statement().sentence())
    for score in auroc:
        print(f"  {score.name}: {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]")
    print(f"Report: {release / 'report' / 'index.html'}")


def _say(text: str) -> None:
    print(f"\n$ {text}", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
