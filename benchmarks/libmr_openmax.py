"""OpenMax with the real libmr on logits of handwritten digits: makes tests/libmr_openmax.npz.

Neither osr nor this project's requirements are used. The stored file was made by libmr 0.1.9 from PyPI, which
needs a compiler, in an environment of its own on Python 3.11:

    python -m venv /tmp/libmr && /tmp/libmr/bin/pip install cython numpy scipy scikit-learn setuptools wheel
    /tmp/libmr/bin/pip install --no-build-isolation libmr==0.1.9
    /tmp/libmr/bin/python benchmarks/libmr_openmax.py

The two programs that are followed fit and look up Weibulls with libmr: Bendale and Boult's (github.com/
abhijitbendale/OSDN, compute_openmax.py; eucos distances, ten classes are revised) and OpenOOD's (v1.5,
openmax_postprocessor.py; euclidean, three are). OSDN brings a libMR of its own, whose `translate_amount` is
10,000 by default (libMR/libmr.cpp); it is 1 in libmr 0.1.9, which OpenOOD installs.
"""

import warnings
from pathlib import Path

import libmr
import numpy as np
from scipy.spatial import distance
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

TARGET = Path(__file__).parents[1] / "tests" / "libmr_openmax.npz"
NUM_CLASSES, TAIL_SIZE = 10, 20


def eucos(a, b):
    """OSDN's distance."""
    return distance.euclidean(a, b) / 200.0 + distance.cosine(a, b)


# Distance, how many classes are revised, translate_amount of libmr.
PROGRAMS = {"bendale_code": (eucos, 10, 10_000), "openood": (distance.euclidean, 3, 1)}


def drawn():
    """Float32 logits and labels of 700 training digits; logits of 40 others and of 20 with colours turned."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    network = MLPClassifier((32,), max_iter=40, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(images[:700], labels[:700])

    def logits(pixels):
        hidden = np.maximum(pixels @ network.coefs_[0] + network.intercepts_[0], 0)
        return (hidden @ network.coefs_[1] + network.intercepts_[1]).astype(np.float32)

    test = np.concatenate([images[1700:1740], 1 - images[1740:1760]])
    return logits(images[:700]), labels[:700], logits(test)


def fitted(train, labels, measure, translate_amount):
    """Mean activation vectors (K, K) and a libmr model of each class, of correctly classified images."""
    means, models = [], []
    for c in range(NUM_CLASSES):
        own = train[(labels == c) & (train.argmax(1) == c)].astype(np.float64)
        means.append(own.mean(0))
        tail = sorted(measure(means[c], logits) for logits in own)[-TAIL_SIZE:]
        models.append(libmr.MR(translate_amount=translate_amount))
        models[c].fit_high(tail, len(tail))
    return means, models


def probabilities(logits, means, models, measure, alpha):
    """(K + 1,) of one image; unknown is last."""
    omega = np.zeros(NUM_CLASSES)
    omega[logits.argsort()[::-1][:alpha]] = [(alpha + 1 - rank) / alpha for rank in range(1, alpha + 1)]
    rejected = np.array(
        [model.w_score(measure(mean, logits)) for mean, model in zip(means, models, strict=True)]
    )
    revised = logits * (1 - rejected * omega)
    powers = np.exp(np.append(revised, (logits - revised).sum()))
    return powers / powers.sum()


def main():
    """Write activations, labels and the probabilities of both programs."""
    train, labels, test = drawn()
    found = {"train_logits": train, "train_labels": labels.astype(np.int64), "test_logits": test}
    for name, (measure, alpha, translate_amount) in PROGRAMS.items():
        means, models = fitted(train, labels, measure, translate_amount)
        rows = [probabilities(row, means, models, measure, alpha) for row in test.astype(np.float64)]
        found[f"probabilities_{name}"] = np.array(rows)
        scale, shape, _, amount, smallest = zip(*(model.get_params() for model in models), strict=True)
        found[f"weibull_{name}"] = np.stack([shape, scale, np.subtract(amount, smallest)], 1)
    np.savez_compressed(TARGET, **found)
    print({key: array.shape for key, array in found.items()}, TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
