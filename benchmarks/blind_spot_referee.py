"""The classifier of raw windows, which lives in the product, under the name that benchmarks know it by."""

from fedsynth.evaluation.protocol.classifiers.random_convolutions import auroc as auroc
