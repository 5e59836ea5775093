"""Where DVC cannot start: no git, an empty lock file."""

import fcntl
import json
import logging
import os
import subprocess

import pytest
from dvc.lock import HardlinkLock

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


def test_who_was_killed_is_taken_out_of_the_lock_file_and_said_in_one_line(here, caplog):
    """DVC would warn of each file; those of a process that lives, and what is no such file, stay."""
    caplog.set_level(logging.INFO, "osr")
    (here / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    lock = here / ".dvc" / "tmp" / "rwlock"
    (here / ".dvc" / "tmp" / "rwlock.lock").touch()  # as DVC leaves it
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, living = ({"pid": pid, "cmd": "dvc repro"} for pid in (ended.pid, os.getpid()))
    held = {
        "read": {"split": [killed, living], "model": [killed]},
        "write": {"scores": killed, "page": living},
    }
    lock.write_text(json.dumps(held))
    check_repository()
    assert json.loads(lock.read_text()) == {"read": {"split": [living]}, "write": {"page": living}}
    assert [record.getMessage() for record in caplog.records] == [
        "an earlier run here was killed: what it had finished stays, and this one does the rest"
    ]
    huge = '{"read": {"split": [{"pid": 36893488147419103232, "cmd": "dvc repro"}]}}'
    for text in (lock.read_text(), "[]", "{", '{"read": {"split": [{"cmd": "dvc repro"}]}}', huge):
        lock.write_text(text)
        check_repository()
        assert lock.read_text() == text
    assert len(caplog.records) == 1


def held_by_the_dead(here, *core):
    """The lock file of DVC that names an ended process, the file that guards it, and text of the first."""
    (here / ".dvc" / "config").write_text("\n    ".join(("[core]", "no_scm = True", *core)) + "\n")
    lock, guard = here / ".dvc" / "tmp" / "rwlock", here / ".dvc" / "tmp" / "rwlock.lock"
    ended = subprocess.Popen(["true"])
    ended.wait()
    held = json.dumps({"write": {"scores": {"pid": ended.pid, "cmd": "dvc repro"}}})
    lock.write_text(held)
    return lock, guard, held


def test_the_lock_file_stays_while_dvc_changes_it(here):
    lock, guard, held = held_by_the_dead(here)
    with guard.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check_repository()
    assert lock.read_text() == held
    check_repository()
    assert json.loads(lock.read_text()) == {"write": {}}


def test_a_guard_that_locks_by_being_there_is_never_made_nor_passed(here):
    """core.hardlink_lock: a guard made here would lock DVC out of the project for good."""
    lock, guard, held = held_by_the_dead(here, "hardlink_lock = true")
    check_repository()
    assert not guard.exists()
    with HardlinkLock(str(guard), tmp_dir=str(guard.parent)):
        check_repository()
        assert lock.read_text() == held
    assert not guard.exists()
