"""What a study can afford to ask of recordings, by public facts alone: the noise that its promise will cost."""

import math

from fedsynth.study import Study

_EVERY_LEAD = 0.00024  # of a mean's bound: least noise's .0025 at 43 features, divided by (205 / 43) ** 1.5

_RAW_WINDOWS = 0.005  # of a bound on a label's mean
_HELD_OUT = 120  # units, declared

_RESPONSES = 0.001  # of a bound on a label's mean


def asks_every_lead(study: Study) -> bool:
    """Return whether beats are asked for lead by lead: of twelve leads five times as many numbers as of a dipole.

    Second moments of so many are told apart from noise where the noise is that low: at epsilon 8 and two labels
    from about 5800 people on, and without privacy.
    """
    return study.signal.modality == "ecg" and expected_noise(study) <= _EVERY_LEAD


def compares_raw_windows(study: Study) -> bool:
    """Return whether held-out units are asked what raw windows tell beside features.

    Every histogram more makes the noise of all louder. With as many units held out and noise as low as this, the
    interval of an AUROC grows by a tenth at most (docs/decisions/0049-raw-windows-against-features.md).
    """
    cohort = study.cohort
    units = cohort.expected_units * (len(cohort.sites) or cohort.least_sites)
    enough = units * study.training.held_out >= _HELD_OUT
    return not study.privacy.is_private or (enough and expected_noise(study) < _RAW_WINDOWS)


def asks_raw_views(study: Study) -> bool:
    """Return whether those who train are asked for random views of their windows, to teach a classifier of them."""
    asks = study.training.anchor and study.training.estimator == "moments"
    return asks and compares_raw_windows(study)


def asks_responses(study: Study) -> bool:
    """Return whether a label's mean response of a thousand random convolutions is asked for.

    With two labels at epsilon 8 from about 1400 people on, and without privacy
    (docs/decisions/0053-moved-until-convolutions-agree.md).
    """
    return study.training.responses and expected_noise(study) < _RESPONSES


def expected_noise(study: Study) -> float:
    """Return the noise that one sum over everybody would put on a label's mean, in units of its bound.

    By the conversion of zero-concentrated differential privacy (Bun and Steinke 2016, proposition 1.3), which is a
    little too high; a choice of constants needs no more.
    """
    privacy, cohort = study.privacy, study.cohort
    if not privacy.is_private:
        return 0.0
    log_delta = math.log(1 / privacy.delta)
    sigma = (math.sqrt(log_delta + privacy.epsilon) + math.sqrt(log_delta)) / (math.sqrt(2) * privacy.epsilon)
    sites = len(cohort.sites) or cohort.least_sites
    louder = 1 if privacy.trust == "aggregate" else math.sqrt(sites)
    return sigma * louder * len(study.labels.names) / (cohort.expected_units * sites)
