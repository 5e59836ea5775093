"""A class with too few images to fit a detector is named, not numbered."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from osr.detectors.classes import TooFewImagesError
from osr.errors import InputError
from pipeline.fit_openmax import _fitted


def test_the_stage_names_the_class():
    detector = Mock()
    detector.fit.side_effect = TooFewImagesError("openmax needs 20 images, but class 1 has 4.", 1)
    with pytest.raises(InputError, match=r"but class 1 has 4\. Class 1 is 'cat'\.$"):
        _fitted(detector, Mock(), SimpleNamespace(known_names=("bird", "cat")))
