"""Results that one clone pushed, another pulls: then it runs nothing."""

import shutil
from pathlib import Path

import pytest
from dvc_project import Project, commit_all
from toy_project import create

OFF = {"OSR_TRACKING": "off"}
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose results are committed."""
    project = create(tmp_path_factory.mktemp("remotes") / "toy")
    project.dvc("repro", "-q", **OFF)
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    shutil.copytree(finished.root, tmp_path / "toy", symlinks=True)
    return Project(tmp_path / "toy")


def assert_a_clone_runs_nothing(project: Project, **env: str) -> None:
    """Push; then a new clone has every file, and `dvc repro` starts no stage."""
    commit_all(project, "results and remote")
    project.dvc("push", "-q", **env)
    root = project.root.parent / "clone"
    project.run("git", "clone", "-q", str(project.root), str(root))
    clone = Project(root)
    # Another site cache: DVC must not find the files of the first clone there.
    env = {**env, **OFF, "DVC_SITE_CACHE_DIR": str(project.root.parent / "other site")}
    clone.dvc("pull", "-q", **env)
    for name in ("artifacts/model/model.safetensors", "artifacts/split/split.json", "figures/one.txt"):
        assert (root / name).read_bytes() == (project.root / name).read_bytes()
    assert "Running stage" not in clone.dvc("repro", **env)


def test_a_folder(project: Project) -> None:
    project.dvc("remote", "add", "-q", "-d", "store", str(project.root.parent / "remote"))
    assert_a_clone_runs_nothing(project)


@pytest.mark.slow
def test_s3_storage(project: Project) -> None:
    pytest.importorskip("dvc_s3", reason="needs dvc-s3 (requirements-dev.txt)")
    moto = pytest.importorskip("moto.server", reason="needs moto (requirements-dev.txt)")
    boto3 = pytest.importorskip("boto3", reason="needs dvc-s3 (requirements-dev.txt)")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        names = {key.lower(): value for key, value in KEYS.items()}
        names["region_name"] = names.pop("aws_default_region")
        bucket = boto3.resource("s3", endpoint_url=address, **names).create_bucket(Bucket="results")
        project.dvc("remote", "add", "-q", "-d", "store", "s3://results/osr")
        project.dvc("remote", "modify", "-q", "store", "endpointurl", address)
        assert_a_clone_runs_nothing(project, **KEYS)
        assert len(list(bucket.objects.filter(Prefix="osr/files/md5/"))) > 5
        config = (project.root / ".dvc" / "config").read_text()
        assert not any(secret in config for secret in ("tester", "secret"))
    finally:
        server.stop()
