"""The dvc.lock of a run that was made by hand: its settings, what its stages hand on, and their metrics."""

import hashlib
from pathlib import Path

from ruamel.yaml import YAML

from osr.settings.reading import read_yaml
from pipeline.workspace.stages import STAGES

ROOT = Path(__file__).parents[1]


def record(root=Path(), *, keep=()):
    """Write what DVC writes when `params.yaml` of the project was run.

    Args:
        root: of the project.
        keep: stages of which dvc.lock says what it said before: they were not run again.
    """
    stages = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    settings, lock = read_yaml(root / "params.yaml"), root / "dvc.lock"
    before = YAML(typ="safe", pure=True).load(lock)["stages"] if keep else {}
    made, digests = {}, {}
    for name, stage in stages.items():
        metrics = root / STAGES[name].metrics
        params = {key: _at(settings, key) for key in stage["params"] if isinstance(key, str)}
        written = {str(path): f"{_md5(repr(params).encode())}.dir" for path in STAGES[name].results[:1]}
        digests |= written
        written[str(STAGES[name].metrics)] = _md5(metrics.read_bytes() if metrics.is_file() else b"")
        read = {path: digests[path] for path in stage["deps"] if path in digests}
        made[name] = {
            "cmd": stage["cmd"],
            "deps": [{"path": path, "hash": "md5", "md5": digest} for path, digest in read.items()],
            "params": {"params.yaml": params},
            "outs": [{"path": path, "md5": digest} for path, digest in written.items()],
        }
    made |= {name: before[name] for name in keep}
    yaml = YAML(pure=True)
    yaml.default_flow_style = False
    yaml.representer.ignore_aliases = lambda _: True
    with lock.open("w") as file:
        yaml.dump({"schema": "2.0", "stages": made}, file)


def _md5(content):
    return hashlib.md5(content).hexdigest()


def _at(settings, key):
    for part in key.split("."):
        settings = settings[part]
    return settings
