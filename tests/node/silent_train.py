"""A train process whose noise is silent and whose draws are everybody, so that an answer can be computed twice.

python silent_train.py SOCKET            the train process
python silent_train.py --fork PARENT     its fork server
"""

import os
import sys
from functools import partial
from pathlib import Path


def silence() -> None:
    """Take the randomness out of what this process computes."""
    import numpy as np
    import torch

    import fedsynth.privacy.allowance as allowance
    import fedsynth.site.worker as worker
    from fedsynth.node import fork_server

    torch.set_num_threads(1)  # sums over several threads round otherwise
    worker.LocalWorker = partial(worker.LocalWorker, noise=lambda count: np.zeros(count, dtype=np.int64))  # type: ignore[assignment, misc]
    allowance.poisson_draw = lambda count, **_: np.arange(count)  # type: ignore[assignment]
    fork_server._reseed = lambda: torch.manual_seed(0)  # type: ignore[assignment]


if __name__ == "__main__":
    if sys.argv[1] == "--fork":
        silence()
        from fedsynth.node import fork_server

        sys.argv = ["", sys.argv[2]]
        fork_server.main()
    else:
        from fedsynth.node.train import TrainServer

        TrainServer(Path(sys.argv[1]), gate_uid=os.geteuid(), program=(__file__, "--fork")).serve()
