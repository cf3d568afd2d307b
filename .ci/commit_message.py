"""Hold a commit's message against CONTRIBUTING.md ("A commit"); run by pre-commit with the message's file."""

import re
import sys
from pathlib import Path

LONGEST_SUBJECT = 72
SCISSORS = "# ------------------------ >8 ------------------------"
PRIVACY = re.compile(r"Privacy: (none|mechanism|accounting)\b")


def faults(message: str) -> list[str]:
    """Return what is wrong with a message; what git itself leaves out does not count."""
    written = message.split(SCISSORS)[0].splitlines()
    lines = "\n".join(line for line in written if not line.startswith("#")).strip().splitlines()
    if not lines:
        return ["the message is empty; say what is different now"]
    subject, *rest = lines
    found = []
    if len(subject) > LONGEST_SUBJECT:
        found.append(f"the subject has {len(subject)} characters, {LONGEST_SUBJECT} at most; say more in the body")
    if rest and rest[0].strip():
        found.append("the second line is not empty; part subject and body")
    if not any(PRIVACY.match(line) for line in rest):
        found.append('no line of the body begins "Privacy: " and says none, mechanism or accounting; add one')
    return found


if __name__ == "__main__":
    said = faults(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stderr.write("".join(f"{fault}\n" for fault in said))
    sys.exit(bool(said))
