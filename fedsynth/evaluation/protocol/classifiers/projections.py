"""The Bonn seed's classifiers: two principal or independent components, or one discriminant, and a perceptron.

saumitkunder/EEG-DATA-SYNTHESIS-USING-GANS, code1.ipynb: hidden layers of 15, 10 and 5. Not as there: the scaler is
fitted on training windows alone.
"""

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, FastICA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedsynth.errors import RefusedError
from fedsynth.evaluation.protocol.classifiers.training import Setting, Training, as_table

Projection = Literal["PCA", "ICA", "LDA"]
_HIDDEN = (15, 10, 5)
_LARGEST = 4096  # samples of a window, all channels together


def projected(
    training: Training, test: NDArray[np.float32], *, setting: Setting, how: Projection
) -> NDArray[np.float64]:
    """Train on flat windows and answer for others, shape (window, label); labels are not weighted.

    Raises:
        RefusedError: windows of more than 4096 samples, which two components say nothing of.
    """
    flat, asked = (some.reshape(len(some), -1) for some in (training.windows.signal, test))
    if flat.shape[1] > _LARGEST:
        raise RefusedError(
            f"a projection of whole windows takes {_LARGEST} samples at most, these have {flat.shape[1]}; leave "
            f"{how} with MLP out"
        )
    seed = setting.seed_for(how)
    by_name: dict[str, Any] = {
        "PCA": PCA(2, random_state=seed),
        "ICA": FastICA(2, random_state=seed, max_iter=500, tol=1e-3),
        "LDA": LinearDiscriminantAnalysis(n_components=1),
    }
    perceptron = MLPClassifier(_HIDDEN, random_state=seed, max_iter=max(setting.size.steps, 100))
    model = make_pipeline(StandardScaler(), by_name[how], StandardScaler(), perceptron)
    with warnings.catch_warnings():
        # The seed's perceptron stops after as many steps, whether or not it has converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(flat, training.windows.labels)
    return as_table(model.predict_proba(asked), model.classes_, setting.shape.n_labels)
