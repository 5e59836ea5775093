"""Every detector in plain float64 numpy, written from the papers; nothing of osr.detectors is used here."""

from dataclasses import replace

import numpy as np
from activation_references import ash, dice, fdbd, react, scale, wide
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import expit, log_softmax, logsumexp, softmax
from scipy.stats import genpareto

TINY = float(np.finfo(np.float32).tiny)  # KL matching counts smaller probabilities as this


def odds(logits):
    """(1 - max p) / max p and the gaps to the largest logit."""
    gaps = logits.max(1, keepdims=True) - logits
    return np.exp(-np.sort(gaps, axis=1)[:, 1:]).sum(1), gaps


def class_means(values, labels, num_classes):
    return np.stack([values[labels == label].mean(0) for label in range(num_classes)])


def right_ones(images):
    logits, features, labels, *_ = wide(images)
    keep = logits.argmax(1) == labels
    return logits[keep], features[keep], labels[keep], logits.shape[1]


def msp(_, test):
    rest, _ = odds(wide(test)[0])
    return rest / (1 + rest)


def entropy(_, test):
    rest, gaps = odds(wide(test)[0])
    return np.log1p(rest) + (softmax(-gaps, axis=1) * gaps).sum(1)


def gen(_, test, *, gamma, num_top):
    logits = wide(test)[0]
    rest, _ = odds(logits)
    p = np.sort(softmax(logits, axis=1), axis=1)[:, ::-1][:, :num_top]
    others = 1 - p
    others[:, 0] = rest / (1 + rest)
    return ((p * others) ** gamma).sum(1)


def gradnorm(_, test):
    logits, features, *_ = wide(test)
    return -np.abs(features).sum(1) * np.abs(logits.shape[1] * softmax(logits, axis=1) - 1).sum(1)


def kplus1(_, test):
    both = np.concatenate([wide(test)[0], test.extra_logits.astype(float)], axis=1)
    return softmax(both, axis=1)[:, -1]


def mav(train, test, *, space):
    logits, features, labels, count = right_ones(train)
    values, judged = (logits, wide(test)[0]) if space == "logits" else (features, wide(test)[1])
    return cdist(judged, class_means(values, labels, count)).min(1)


def weibull(sample):
    """Shape and scale by maximum likelihood: the root of the profile likelihood's derivative."""
    y = np.log(sample / sample.max())

    def slope(shape):
        power = np.exp(shape * y)
        return (y * power).sum() / power.sum() - 1 / shape - y.mean()

    shape = brentq(slope, 1e-3 / -y.mean(), 1e3 / -y.mean(), xtol=1e-15, rtol=1e-14)
    return shape, sample.max() * np.exp(np.log(np.exp(shape * y).mean()) / shape)


def openmax(train, test, *, tail_size, alpha):
    """Logits, euclidean, the published code's weights."""
    logits, _, labels, count = right_ones(train)
    means = class_means(logits, labels, count)
    fits = [
        weibull(np.sort(np.linalg.norm(logits[labels == label] - means[label], axis=1))[-tail_size:])
        for label in range(count)
    ]
    judged = wide(test)[0]
    unknown = []
    for row in judged:
        moved = np.zeros(count)
        for rank, label in enumerate(np.argsort(-row)[: min(alpha, count)]):
            shape, scale = fits[label]
            far = 1 - np.exp(-((np.linalg.norm(row - means[label]) / scale) ** shape))
            moved[label] = row[label] * far * (min(alpha, count) - rank) / min(alpha, count)
        unknown.append(softmax(np.append(row - moved, moved.sum()))[-1])
    return np.array(unknown)


def cosines(train, test):
    _, x, labels, *_ = wide(train)
    return unit(wide(test)[1]) @ unit(class_means(x, labels, train.num_classes)).T


def cosine(train, test):
    return -cosines(train, test).max(1)


def rcos(train, test):
    return -softmax(cosines(train, test), axis=1).max(1)


def nci(train, test, *, alpha):
    logits, features, _, weight, _ = wide(test)
    centred = features - wide(train)[1].mean(0)
    along = (weight[logits.argmax(1)] * centred).sum(1) / np.linalg.norm(centred, axis=1)
    return -(along + alpha * np.abs(features).sum(1))


def pnml(train, test):
    """Powers of p by logarithms: the sum of t over the other classes minus 1 - t of the predicted one."""
    x, v, logits = unit(wide(train)[1]), unit(wide(test)[1]), wide(test)[0]
    leverage = np.square(v @ np.linalg.pinv(x, rcond=1e-8)).sum(1)
    power = (leverage / (1 + leverage))[:, None]
    log_p = np.sort(log_softmax(logits, axis=1), axis=1)
    rest = np.exp(log_p[:, :-1]).sum(1, keepdims=True)
    others = expit((1 - power) * log_p[:, :-1] - np.log(-np.expm1(log_p[:, :-1])))
    lost = (
        rest * np.exp(power * log_p[:, -1:]) / (np.exp(log_p[:, -1:]) + rest * np.exp(power * log_p[:, -1:]))
    )
    return np.log1p(others.sum(1) - lost[:, 0]) / np.log(logits.shape[1])


def relation(train, test, *, power, threshold=0.03):
    """All training images are the bank; just above the threshold a relation comes in."""
    near = np.maximum(unit(wide(test)[1]) @ unit(wide(train)[1]).T, 0)
    related = near * (softmax(wide(test)[0], axis=1) @ softmax(wide(train)[0], axis=1).T)
    counted = np.interp(related, [threshold, 1.001 * threshold], [0, 1])
    return -(related**power * counted).sum(1)


def squares(gaps, covariance):
    return (gaps * np.linalg.solve(covariance, gaps.T).T).sum(1)


def mahalanobis(train, test, *, ridge, normalize=False):
    if normalize:
        train, test = of_length_1(train), of_length_1(test)
    _, x, labels, *_ = wide(train)
    means = class_means(x, labels, train.num_classes)
    centred = x - means[labels]
    covariance = centred.T @ centred / len(x)
    covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return np.min([squares(wide(test)[1] - mean, covariance) for mean in means], axis=0)


def rmds(train, test, *, ridge, normalize=False):
    """Both covariances get the same addition; a constant feature a share of each one's mean variance."""
    if normalize:
        train, test = of_length_1(train), of_length_1(test)
    _, x, labels, *_ = wide(train)
    centred = x - class_means(x, labels, train.num_classes)[labels]
    common = ridge * np.square(centred).sum() / centred.size
    free = x - x.mean(0)
    total = free.T @ free / len(x)
    added = np.where(np.ptp(x, axis=0) == 0, ridge * np.trace(total) / len(total), common)
    own = mahalanobis(train, test, ridge=ridge)
    return own - squares(wide(test)[1] - x.mean(0), total + np.diag(added))


def of_length_1(images):
    return replace(images, features=unit(wide(images)[1]))


def unit(rows):
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros(rows.shape), where=length > 0)


def knn(train, test, *, num_neighbors):
    gaps = cdist(unit(wide(test)[1]), unit(wide(train)[1]))
    return np.partition(gaps, num_neighbors - 1, axis=1)[:, num_neighbors - 1]


def nnguide(train, test, *, num_neighbors):
    """All training images are the bank."""
    bank = unit(wide(train)[1]) * logsumexp(wide(train)[0], axis=1)[:, None]
    nearest = np.sort(unit(wide(test)[1]) @ bank.T, axis=1)[:, -num_neighbors:]
    return -nearest.mean(1) * logsumexp(wide(test)[0], axis=1)


def vim(train, test, *, dimension):
    logits, x, _, weight, bias = wide(train)
    offset = 0 if logits.max(1).mean() > 0 else logits.mean()
    origin = -np.linalg.pinv(weight, rcond=1e-4) @ (bias - offset)
    minor = np.linalg.eigh((x - origin).T @ (x - origin))[1][:, : x.shape[1] - dimension]
    alpha = (logits.max(1).mean() - offset) / np.linalg.norm((x - origin) @ minor, axis=1).mean()
    residual = np.linalg.norm((wide(test)[1] - origin) @ minor, axis=1)
    return alpha * residual - logsumexp(wide(test)[0], axis=1)


def residual(train, test, *, dimension):
    _, x, _, weight, bias = wide(train)
    origin = -np.linalg.pinv(weight, rcond=1e-4) @ bias
    minor = np.linalg.svd(x - origin)[2][dimension:]
    return np.linalg.norm((wide(test)[1] - origin) @ minor.T, axis=1)


def neco(train, test, *, dimension, by_maxlogit):
    x = wide(train)[1]
    spread = np.where(np.ptp(x, axis=0) == 0, 1, x.std(0))
    standard, judged = (x - x.mean(0)) / spread, (wide(test)[1] - x.mean(0)) / spread
    major = np.linalg.svd(standard, full_matrices=False)[2][:dimension]
    share = np.linalg.norm(judged @ major.T, axis=1) / np.linalg.norm(judged, axis=1)
    return -share * (wide(test)[0].max(1) if by_maxlogit else 1)


def pareto(y):
    """Scale and shape by maximum likelihood, shapes of -1 and more."""
    top = y.max()

    def at(place):
        shape = np.log1p(place * y / top).mean()
        return shape / place, shape, np.log(shape / place) + shape if shape > -1 else 9.0

    places = np.concatenate([-1 + np.geomspace(1e-8, 1 - 1e-3, 400), np.geomspace(1e-3, 1e4, 400)])
    best = int(np.argmin([at(place)[2] for place in places]))
    ends = places[max(best - 1, 0)], places[min(best + 1, len(places) - 1)]
    place = minimize_scalar(
        lambda place: at(place)[2], bounds=ends, method="bounded", options={"xatol": 1e-12}
    ).x
    scale, shape, cost = at(place)
    return (scale * top, shape) if cost < -1 else (top, -1.0)


def postmax(train, test):
    """Linear where the distribution is 0 or 1."""
    logits, features, *_ = right_ones(train)
    values = logits.max(1) / np.linalg.norm(features, axis=1)
    scale, shape = pareto(np.setdiff1d(values, values.min(), assume_unique=True) - values.min())
    excess = (wide(test)[0].max(1) / np.linalg.norm(wide(test)[1], axis=1) - values.min()) / scale
    tail = genpareto.sf(excess, shape) - np.minimum(excess, 0)
    return tail - (np.maximum(excess + 1 / shape, 0) if shape < 0 else 0)


def klm(train, test):
    p, predicted = softmax(wide(train)[0], axis=1), wide(train)[0].argmax(1)
    templates = np.stack([p[predicted == label].mean(0) for label in np.unique(predicted)])
    log_q = log_softmax(wide(test)[0], axis=1)
    log_templates = np.log(np.maximum(templates, TINY))
    divergences = [(np.exp(log_q) * (log_q - row)).sum(1) for row in log_templates]
    return np.maximum(np.min(divergences, axis=0), 0)


def she(train, test):
    _, features, labels, count = right_ones(train)
    means = class_means(features, labels, count)
    return -(wide(test)[1] * means[wide(test)[0].argmax(1)]).sum(1)


def ensemble(train, test, *, num_neighbors):
    """Of maxlogit and knn."""
    near = [knn(train, images, num_neighbors=num_neighbors) for images in (test, train)]
    top = [-wide(images)[0].max(1) for images in (test, train)]
    return sum((new - seen.mean()) / seen.std() for new, seen in (near, top)) / 2


REFERENCES = {
    "msp": msp,
    "maxlogit": lambda _, test: -wide(test)[0].max(1),
    "energy": lambda _, test: -logsumexp(wide(test)[0], axis=1),
    "odin": lambda _, test: test.odin[:, 0],
    "rotpred": lambda _, test: (
        test.rotation[:, 0] + np.mean(wide(test)[0] - logsumexp(wide(test)[0], axis=1)[:, None], axis=1)
    ),
} | {
    reference.__name__: reference
    for reference in (
        *(entropy, gen, gradnorm, kplus1, mav, openmax, mahalanobis, rmds, knn, nnguide, vim, klm, she),
        *(react, ash, scale, dice, fdbd, nci, cosine, rcos, pnml, relation, neco, residual),
        *(postmax, ensemble),
    )
}
