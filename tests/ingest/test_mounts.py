"""An unmounted disk leaves an empty folder, which is not taken for one that was emptied: no image disappears."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import PathNotFound
from imgindex.ingest.mounts import mount_point
from imgindex.types import Progress


class Disk:
    """A folder that `os.path.ismount` takes for a mount point, and whose files come and go with the disk."""

    def __init__(self, mount: Path, away: Path) -> None:
        self.mount, self.away, self.mounted = mount, away, True

    def unmount(self) -> None:
        self.mount.rename(self.away)
        self.mount.mkdir()
        self.mounted = False

    def remount(self) -> None:
        shutil.rmtree(self.mount)
        self.away.rename(self.mount)
        self.mounted = True


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk with three pictures in its folder `photos`."""
    made = Disk(tmp_path / "mnt/usb", tmp_path / "away")
    for number in range(3):
        draw(made.mount / "photos" / f"{number}.png", 50 + number)
    ismount = os.path.ismount

    def patched(path: str) -> bool:
        return made.mounted if Path(path) == made.mount else ismount(path)

    monkeypatch.setattr(os.path, "ismount", patched)
    return made


def test_a_root_whose_disk_is_not_mounted_is_an_error_that_changes_nothing(
    index: ImageIndex, disk: Disk, folder: Path
) -> None:
    index.add([disk.mount])
    draw(folder / "new.png", 90)
    disk.unmount()
    for dry_run in (False, True):
        with pytest.raises(PathNotFound, match="no disk is mounted") as error:
            index.add([folder, disk.mount], dry_run=dry_run)
    assert str(disk.mount) in str(error.value)
    assert f"imgindex remove {disk.mount}" in error.value.hint
    assert len(index) == 3
    disk.remount()
    report = index.add([disk.mount])
    assert (report.unchanged, report.found) == (3, 3)


def test_a_disk_unmounted_in_the_middle_of_a_run_makes_no_image_missing(index: ImageIndex, disk: Disk) -> None:
    draw(disk.mount / "photos/3.png", 60)
    index.add([disk.mount], stop=lambda: len(index) > 0)
    draw(disk.mount / "photos/4.png", 61)
    waiting = [disk.unmount]

    def unmount_after_the_scan(progress: Progress) -> None:
        if waiting and progress.done:
            waiting.pop()()

    report = index.add([disk.mount], on_progress=unmount_after_the_scan)
    assert (report.unchanged, report.failed, report.removed) == (4, 1, 0)
    assert len(index) == 4
    with pytest.raises(PathNotFound, match="no disk is mounted"):
        index.add([disk.mount])
    disk.remount()
    assert index.add([disk.mount]).added == 1


def test_a_marker_in_the_mount_point_makes_no_difference(index: ImageIndex, disk: Disk) -> None:
    index.add([disk.mount])
    disk.unmount()
    (disk.mount / "NOT MOUNTED.txt").touch()
    draw(disk.mount / "written by mistake.png", 91)
    with pytest.raises(PathNotFound, match="no disk is mounted"):
        index.add([disk.mount])
    assert len(index) == 3


def test_a_folder_on_an_unmounted_disk_is_an_error_like_the_disk_itself(index: ImageIndex, disk: Disk) -> None:
    index.add([disk.mount / "photos"])
    disk.unmount()
    with pytest.raises(PathNotFound, match="No such file"):
        index.add([disk.mount / "photos"])
    (disk.mount / "photos").mkdir()
    with pytest.raises(PathNotFound, match="no disk is mounted"):
        index.add([disk.mount / "photos"])
    assert len(index) == 3


def test_images_of_an_emptied_folder_on_a_mounted_disk_are_missing(index: ImageIndex, disk: Disk) -> None:
    index.add([disk.mount])
    shutil.rmtree(disk.mount / "photos")
    assert index.add([disk.mount]).removed == 3
    assert len(index) == 0


def test_images_of_an_emptied_folder_on_the_disk_of_the_index_are_missing(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    shutil.rmtree(folder)
    folder.mkdir()
    assert index.add([folder]).removed == 12
    assert index._store.catalogue.ledger.mounts() == {}


def test_files_copied_from_the_disk_into_its_mount_point_are_its_images(index: ImageIndex, disk: Disk) -> None:
    index.add([disk.mount])
    disk.unmount()
    shutil.copytree(disk.away, disk.mount, dirs_exist_ok=True)
    (disk.mount / "photos/0.png").unlink()
    report = index.add([disk.mount])
    assert (report.unchanged, report.removed) == (2, 1)


def test_a_root_above_the_disk_goes_on_without_it_and_loses_nothing(index: ImageIndex, disk: Disk) -> None:
    above = disk.mount.parent
    draw(above / "here.png", 80)
    draw(above / "gone.png", 81)
    (disk.mount / "photos/broken.png").write_text("broken")
    index.add([disk.mount])
    index.add([above])
    disk.unmount()
    (above / "gone.png").unlink()
    report = index.add([above])
    assert (report.unchanged, report.removed) == (1, 1)
    assert len(index) == 4
    assert [Path(failure.path).name for failure in index.failures()] == ["broken.png"]


def test_images_whose_disk_is_gone_for_good_can_be_taken_out(index: ImageIndex, disk: Disk) -> None:
    index.add([disk.mount])
    disk.unmount()
    assert len(index.remove([disk.mount])) == 3
    draw(disk.mount / "new.png", 90)
    assert index.add([disk.mount]).added == 1


def test_the_mount_point_of_a_path_is_that_of_its_real_path(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(disk.mount / "photos")
    assert mount_point(str(tmp_path / "link")) == str(disk.mount)
    assert mount_point(str(disk.mount)) == str(disk.mount)
    assert mount_point("/") == "/"


REALLY = """
set -e
mount -t tmpfs none mnt
mkdir mnt/photos
cp pictures/0.png pictures/1.png mnt/photos
run() { "$PYTHON" -m imgindex "$@"; }
run add mnt --format csv
umount mnt
run add mnt && exit 9 || test $? = 1
run list --format paths
mount -t tmpfs none mnt
run add mnt --format csv
mkdir pictures/again
mount --bind pictures pictures/again
run add pictures --format csv
mount -o remount,bind,ro pictures/again
run add pictures --format csv
"""


def test_real_mounts_give_the_same_results(three: Path) -> None:
    """A disk that is unmounted, another, empty one in its place, a folder that is bound into itself."""
    options = "-m" if os.getuid() == 0 else "-rm"
    probe = ["unshare", options, "mount", "-t", "tmpfs", "none", str(three)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no mounts can be made here")
    (three / "mnt").mkdir()
    environment = {**os.environ, "PYTHON": sys.executable, "IMGINDEX_DIR": str(three / ".imgindex")}
    done = subprocess.run(
        ["unshare", options, "bash", "-c", REALLY],
        cwd=three,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    counts = [line.split(",")[:9] for line in done.stdout.splitlines() if line[:1].isdigit()]
    #                     found, added, updated, renamed, unchanged, reused, removed, restored, failed
    assert counts[0] == ["2", "0", "0", "0", "0", "2", "0", "0", "0"]
    assert counts[1] == ["0", "0", "0", "0", "0", "0", "2", "0", "0"]
    assert counts[2] == counts[3] == ["3", "0", "0", "0", "3", "0", "0", "0", "0"]
    assert f"no disk is mounted at {three}/mnt" in done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("mnt/")] == [
        "mnt/photos/0.png",
        "mnt/photos/1.png",
    ]
