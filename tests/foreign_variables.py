"""Variables of the surroundings that lead to a tracking server, row or project other than a test's own."""

import pytest

FOREIGN = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "DVC_ROOT",
)


def forget_foreign(patch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN:
        patch.delenv(name, raising=False)
