"""Where DVC cannot start: no git, an empty lock file."""

import os
import subprocess

import pytest

from osr.errors import InputError
from pipeline.workspace import repository
from pipeline.workspace.repository import check_repository


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(repository, "_WRITING_S", 0.0)
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    analytics = false\n['remote \"a\"']\n    url = x%y\n"
    )
    return tmp_path


@pytest.mark.usefixtures("here")
def test_a_zip_without_git_is_told_what_to_type():
    with pytest.raises(InputError, match=r"is in no git repository.*type `(.*)` here") as error:
        check_repository()
    who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    typed = str(error.value).split("`")[1]
    subprocess.run(["bash", "-ec", typed], check=True, env={**os.environ, **who}, capture_output=True)
    check_repository()


def test_a_project_without_git_by_its_own_settings(here):
    (here / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    check_repository()


def test_an_empty_lock_file_is_removed_and_another_stays(here, caplog):
    (here / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    lock = here / ".dvc" / "tmp" / "rwlock"
    lock.write_text("{}")
    check_repository()
    assert lock.exists()
    lock.write_text("")
    check_repository()
    assert not lock.exists()
    assert "was empty, as a full disk leaves it" in caplog.text
