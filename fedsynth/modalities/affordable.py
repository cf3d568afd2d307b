"""What a study can afford to ask of recordings, by public facts alone: the noise that its promise will cost."""

import math

from fedsynth.study import Study

_EVERY_LEAD = 0.0005  # of a mean's bound: least noise's .0025 at 43 features, divided by (125 / 43) ** 1.5


def asks_every_lead(study: Study) -> bool:
    """Return whether beats are asked for lead by lead: of twelve leads three times as many numbers as of a dipole.

    Second moments of so many are told apart from noise where the noise is that low: at epsilon 8 and two labels
    from about 2800 people on, and without privacy.
    """
    return study.signal.modality == "ecg" and expected_noise(study) <= _EVERY_LEAD


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
