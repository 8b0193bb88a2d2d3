"""A disk that is full, a folder that cannot be written or goes away: one line, exit 2, the work kept."""

import os
import resource
import shutil
import subprocess

import pytest

from assay.benchmarks.chaos.victim import (
    Moment,
    assert_one_line,
    assert_resumes,
    assert_sound,
    environment,
    killed,
    run,
    start,
)


def mount(place, *words):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run(["mount", *words, place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A disk of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, "-t", "tmpfs", "-o", "size=16m", "tmpfs")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk, left):
    """Leave this many bytes of the disk."""
    free = shutil.disk_usage(disk).free
    with (disk / "ballast").open("wb") as file:
        file.write(b"x" * max(0, free - left))
        file.flush()


def empty(disk):
    (disk / "ballast").unlink()


def test_the_disk_is_full_before_the_first_cell_or_after_some(disk, small):
    """Again and again, with a little more room each time, in which it goes on as far as it comes."""
    folder = disk / "run"
    for left in (0, 20_000, 150_000, 400_000):
        fill(disk, left)
        assert_one_line(run(folder, small.words), 2, "cannot be")
        empty(disk)
        assert_sound(folder, small)
    assert_resumes(folder, small)


def test_the_disk_is_full_when_the_tables_are_written(disk, small):
    """Those of the try before are taken away, so that each has to write them all."""
    folder = disk / "run"
    killed(folder, small, Moment("scores.csv", 0))
    for left in (0, 40_000, 200_000, 260_000):
        for table in (*folder.glob("*.csv"), *folder.glob("*.md")):
            table.unlink()
        fill(disk, left)
        assert_one_line(run(folder, small.words), 2, "cannot be")
        empty(disk)
        assert_sound(folder, small)
    assert_resumes(folder, small)


def test_files_may_not_grow(tmp_path, small):
    """A quota on the size of a file, which needs no root."""
    folder = tmp_path / "run"
    for limit in (50_000, 200_000, 400_000):
        quota = (resource.RLIMIT_FSIZE, (limit, limit))
        victim = run(folder, small.words, preexec_fn=lambda quota=quota: resource.setrlimit(*quota))
        assert_one_line(victim, 2, "cannot be")
        assert_sound(folder, small)
    assert_resumes(folder, small)


def remount(disk, how):
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def test_the_disk_may_only_be_read(disk, tiny):
    """A run that has something to write is refused; one that is finished shows what it has."""
    folder = disk / "run"
    remount(disk, "ro")
    assert_one_line(run(folder, tiny.words), 2, "cannot be")
    remount(disk, "rw")
    assert_resumes(folder, tiny)
    remount(disk, "ro")
    victim = run(folder, tiny.words)
    assert (victim.process.returncode, victim.said) == (0, "")
    assert "0 to compute" in victim.out.read_text()
    assert_one_line(run(folder, [*tiny.words, "--fresh"]), 2, "cannot be")
    remount(disk, "rw")
    assert_resumes(folder, tiny)


def test_the_folder_is_somebody_else_s(tmp_path, tiny):
    if os.geteuid() != 0:
        pytest.skip("only root can run as somebody else")
    folder = tmp_path / "run"
    killed(folder, tiny, Moment("writes", 30))  # one that is finished could be shown to anybody
    for part in [tmp_path, *tmp_path.parents][:4]:
        part.chmod(part.stat().st_mode | 0o055)
    home = environment(HOME="/nonexistent", PYTHONDONTWRITEBYTECODE="1")
    try:
        victim = run(folder, tiny.words, preexec_fn=lambda: os.setuid(65534), env=home, cwd="/")
    except PermissionError:
        pytest.skip("another user cannot run this Python")
    if "assay" in victim.said.partition("error:")[0]:
        pytest.skip("another user cannot read this installation")
    assert_one_line(victim, 2, "cannot be", "--out")
    assert_resumes(folder, tiny)


def test_the_folder_is_a_file(tmp_path, tiny):
    (tmp_path / "run").write_text("mine")
    assert_one_line(run(tmp_path / "run", tiny.words), 2, "cannot be written", "--out")
    assert (tmp_path / "run").read_text() == "mine"


def test_the_folder_is_a_link_to_nothing(tmp_path, tiny):
    (tmp_path / "run").symlink_to(tmp_path / "gone" / "further")
    victim = run(tmp_path / "run", tiny.words)
    assert_one_line(victim, 2, "cannot be written", "--out")


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_the_folder_goes_away_in_the_middle(tmp_path, small, how):
    """What was moved away is sound, and can be gone on with where it is now."""
    folder, away = tmp_path / "run", tmp_path / "away"
    victim = start(folder, small.words)
    assert victim.at(Moment("journal", 0.1), small.seconds)
    folder.rename(away)
    if how == "removed":
        shutil.rmtree(away)
    assert_one_line(victim, 2, "cannot be")
    if how == "moved":
        assert_sound(away, small)
        assert_resumes(away, small)
