"""Run inside the peers' environment: from a table of bins to synthetic rows, by MST or AIM of smartnoise-synth.

python marginals_worker.py GIVEN.npz MADE.npz
"""

import sys

import numpy as np
import pandas as pd
from snsynth.aim import AIMSynthesizer
from snsynth.mst import MSTSynthesizer
from snsynth.transform import LabelTransformer, TableTransformer

AIM_ROUNDS = 60  # the package's default, 16 for each column, takes hours; fewer rounds mean less noise in each


def main(given: str, made: str) -> None:
    """Fit and draw."""
    with np.load(given) as file:
        table, sizes, mechanism = file["table"], file["sizes"], str(file["mechanism"])
        epsilon, delta, seed, rows = (
            float(file["epsilon"]),
            float(file["delta"]),
            int(file["seed"]),
            int(file["rows"]),
        )
    # The domain is public: every bin exists, drawn or not.
    names = [f"c{number}" for number in range(len(sizes))]
    transformers = []
    for size in sizes:
        transformer = LabelTransformer(nullable=False)
        transformer.fit(list(range(int(size))))
        transformers.append(transformer)
    domain = TableTransformer(transformers)
    np.random.seed(seed)  # noqa: NPY002  # the package draws from the global generator
    if mechanism == "mst":
        synthesizer = MSTSynthesizer(epsilon=epsilon, delta=delta)
    else:
        synthesizer = AIMSynthesizer(epsilon=epsilon, delta=delta, rounds=AIM_ROUNDS, max_model_size=8)
    synthesizer.fit(pd.DataFrame(table, columns=names), transformer=domain)
    drawn = np.array([[int(cell) for cell in row] for row in np.asarray(synthesizer.sample(rows))])
    np.savez(made, table=drawn)


if __name__ == "__main__":
    main(*sys.argv[1:])
