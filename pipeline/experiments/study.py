"""Optuna's study of a search: its database, and which trial is next, also after a process that was killed."""

from __future__ import annotations

import platform
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from osr.data.plans import hash_seed
from osr.errors import InputError
from osr.stored.digests import digest_of
from pipeline.experiments.preset import Settings
from pipeline.experiments.space_file import Space
from pipeline.tracking.store import is_alive, owner
from pipeline.workspace.place import workspace_root

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

FOLDER = Path(".osr/search")
DATABASE = "optuna.db"
MISSING = (
    "`osr search` needs Optuna: install the extra `search`, in a clone by uv pip install -e '.[search]'."
)
OWNER = "owner"
_OF_MLFLOW = "experiments"  # a table that Optuna has not
_UNCLAIMED_S = 60.0


def open_study(space: Space, ours: Settings, storage: str | None) -> Study:
    """Optuna's study of this space and these settings; another number of trials is the same study.

    Raises:
        InputError: Optuna is missing, or the database cannot be used.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(MISSING) from None
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = storage or f"sqlite:///{workspace_root() / DATABASE}"
    rest = space.rest.model_dump(mode="json", exclude={"trials"})
    name = f"{space.name}-{digest_of([rest, _of_learning(ours), space.common])[:8]}"
    shown = url.rpartition("@")[2]
    try:
        if _OF_MLFLOW in inspect(create_engine(url)).get_table_names():
            raise InputError(
                f"--storage {shown} is MLflow's database, whose tables Optuna's would break: name another "
                "one on the same server."
            )
        kept = optuna.storages.RDBStorage(url)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=space.rest.prune_after, n_warmup_steps=0)
        return optuna.create_study(
            storage=kept, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
        )
    except (ArgumentError, NoSuchModuleError, ImportError, SQLAlchemyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"--storage {shown} cannot be used as Optuna's database: {reason}.") from None


def _of_learning(ours: Settings) -> Settings:
    return {key: ours[key] for key in ("dataset", "split", "model", "train", "losses", "detectors")}


def next_trial(study: Study, seed: int) -> Trial:
    """A trial that a dead process of this machine left, or a new one.

    The draws of a trial depend on its number and on the trials before it alone, so that a search that was
    ended goes on as it would have.

    Args:
        study: Optuna's.
        seed: of all draws.
    """
    import optuna

    folder = workspace_root() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        left = next((trial for trial in study.trials if _is_left(trial)), None)
        number = len(study.trials) if left is None else left.number
        # The sampler of a left trial draws what is missing of it only.
        study.sampler = optuna.samplers.TPESampler(seed=hash_seed(seed, number) % 2**32)
        trial = study.ask() if left is None else optuna.trial.Trial(study, left._trial_id)
        trial.set_user_attr(OWNER, owner())
    return trial


def _is_left(trial: FrozenTrial) -> bool:
    """Whether a trial is open, and its process on this machine is gone."""
    if trial.state.name != "RUNNING":
        return False
    held = trial.user_attrs.get(OWNER)
    if held is None:  # its process ended before it could say who it is, or is about to say it
        begun = trial.datetime_start
        return begun is None or (datetime.now() - begun).total_seconds() > _UNCLAIMED_S
    return held.startswith(f"{platform.node()}:") and not is_alive(held)
