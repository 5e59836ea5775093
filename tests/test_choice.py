"""Which detector is chosen when known classes are left out, by AUROCs made up for it."""

from types import SimpleNamespace

import numpy as np
import pytest

from osr.errors import InputError
from osr.estimation.choice import choose
from osr.estimation.rejection import Estimate

LABELS = ("cat", "dog", "cow", "owl")


def estimate(aurocs, sizes=None):
    """What leaving four classes out found; each detector lists the classes in another order."""
    rows = {
        name: sorted(
            (
                SimpleNamespace(row=SimpleNamespace(name=label), values={"auroc": value})
                for label, value in zip(LABELS, values, strict=True)
            ),
            key=lambda row: row.values["auroc"],
        )
        for name, values in aurocs.items()
    }
    sizes = sizes or dict.fromkeys(aurocs, 0)
    return Estimate(rows, {}, 1.0, 1.0, {"odin": "it needs the network"}, 4, sizes)


def chosen(aurocs, sizes=None):
    return choose(estimate(aurocs, sizes), confidence=0.95, seed=0)


def test_the_best_is_chosen_where_it_is_better_in_each_class() -> None:
    choice = chosen({"msp": [0.5, 0.9, 0.6, 0.7], "knn": [0.6, 1.0, 0.7, 0.8]}, {"msp": 0, "knn": 900})
    assert (choice.detector, choice.alike, choice.sure) == ("knn", ["knn"], 1.0)
    assert [(entry.detector, entry.size) for entry in choice.ranking] == [("knn", 900), ("msp", 0)]
    assert choice.ranking[1].behind == pytest.approx(0.1)
    assert choice.ranking[1].error == pytest.approx(0, abs=1e-12)
    first = choice.ranking[0]
    assert first.auroc == pytest.approx(0.775)
    assert first.low < first.auroc < first.high


def test_the_cheapest_is_taken_of_those_that_do_not_differ() -> None:
    """Classes are compared one by one: msp is behind knn by 0.01, now more, now less than its error."""
    near = {"knn": [0.6, 1.0, 0.7, 0.8], "msp": [0.5, 1.0, 0.8, 0.76], "mav": [0.3, 0.7, 0.4, 0.5]}
    choice = chosen(near, {"knn": 900, "msp": 0, "mav": 5})
    assert (choice.detector, choice.alike) == ("msp", ["knn", "msp"])
    gaps = np.subtract(near["knn"], near["msp"])
    assert choice.ranking[1].error == pytest.approx(gaps.std(ddof=1) / 2)
    assert choice.sure == 1.0
    assert chosen(near, {"knn": 0, "msp": 0, "mav": 0}).detector == "knn"


def test_how_sure_a_choice_is_falls_with_what_classes_disagree() -> None:
    apart = chosen({"knn": [0.9, 0.9, 0.9, 0.5], "msp": [0.6, 0.6, 0.6, 0.6]})
    assert apart.alike == ["knn"]
    assert 0.6 < apart.sure < 1


def test_without_an_estimate_there_is_no_choice() -> None:
    with pytest.raises(InputError, match="none has an estimate: odin: it needs the network"):
        chosen({})
