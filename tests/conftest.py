"""What the tests share: an encoder that one can compute in the head, and images drawn in a temporary folder."""

from __future__ import annotations

import os

# Before numpy, FAISS and torch are imported: several processes run tests, and each would take all cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests fork this process. What gRPC does then may end the child, where a test has used Milvus before.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import contextlib
import gc
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from decoders_here import DecodersHere, work_here
from forking import ForkServer, Run
from grid_mean import GridMean
from hypothesis import settings
from pictures import draw
from ray_nodes import RayNodes, why_not

from imgindex import ImageIndex
from imgindex.decoding.pool import DecoderPool

ROOT = Path(__file__).parent.parent

# Until all tests are collected: what is imported for them stays, and to look for garbage in it takes four seconds.
gc.disable()

# Where imgindex records the files that it writes: not in the home of the person who runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="imgindex-tests-")

# A shell that starts the tests in the background has Ctrl-C ignored, by all processes that they start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, however busy the machine is; `make campaigns` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# `--quick` leaves out tests that use these (other processes, servers, a browser, photos), or that are in these files.
SLOW_FIXTURES = {
    "nodes",
    "run",
    "server",
    "object_store",
    "milvus_folder",
    "mortal_milvus",
    "templates",
    "three",
    "photos",
    "browser",
    "chromium",
    "page",
}
SLOW_FILES = (
    "campaigns/",
    "clustering/test_balanced.py",
    "clustering/test_choose_k.py",
    "clustering/test_kmeans.py",
    "clustering/test_metrics.py",
    "clustering/test_nearest_torch.py",
    "curation/test_disposal.py",
    "curation/test_grouping.py",
    "curation/test_leaks.py",
    "curation/test_lookup.py",
    "curation/test_same_picture.py",
    "curation/test_verification.py",
    "decoding/test_decode_frames.py",
    "decoding/test_pool.py",
    "decoding/test_process.py",
    "decoding/test_thumbnails.py",
    "decoding/test_worker.py",
    "encoders/test_cpu.py",
    "encoders/test_custom.py",
    "encoders/test_efficientnet.py",
    "encoders/test_registry.py",
    "encoders/test_state_dict.py",
    "encoders/test_weights.py",
    "encoders/vgg/",
    "gallery/test_cluster_page.py",
    "ingest/test_reembed.py",
    "ingest/test_run_archives.py",
    "nodes/",
    "search/test_faiss_build.py",
    "search/test_faiss_files.py",
    "search/test_faiss_ivf.py",
    "search/test_lifecycle.py",
    "search/test_search_contract.py",
    "search/test_smoothed.py",
    "sources/archives/test_source_hostile.py",
    "sources/archives/test_tar.py",
    "sources/test_gateway.py",
    "storage/test_checksum.py",
    "storage/test_connection_logs.py",
    "storage/test_lock.py",
    "storage/test_posix_locks.py",
    "storage/test_repair.py",
    "storage/test_salvage.py",
    "storage/test_store_concurrency.py",
    "storage/test_store_machine.py",
    "vectors/test_projection.py",
    "test_article.py",
    "test_bench.py",
    "test_deploy.py",
    "test_docstrings.py",
    "test_index_answers.py",
    "test_index_closed.py",
    "test_index_paths.py",
    "test_photos.py",
    "test_python_guide.py",
    "test_readme.py",
    "test_sklearn.py",
)
# But for these few, by which the command line is tried once.
SMOKE = (
    "test_add_reports_in_json",
    "test_a_second_add_reports",
    "test_similar_answers_in_json",
    "test_cluster_writes_labels",
)


# These come first, so that no worker ends long after the others, and no other takes a part of them and makes what they
# share a second time.
LONGEST = (
    "campaigns/",
    "test_article.py",
    "test_photos.py",
    "curation/test_duplicates_photos.py",
    "gallery/test_html_in_chromium.py",
    "server/test_pages_in_chromium.py",
    "server/test_guard_in_chromium.py",
    "server/test_schema.py",
    "clustering/test_balanced.py",
    "test_index_answers.py",
    "test_readme.py",
    "test_sklearn.py",
    "vectors/test_projection.py",
    "storage/test_store_machine.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="run the fast tests only")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import slow files where `--quick` asks for it: some import torch, which takes seconds."""
    slow = _inside(collection_path).startswith(SLOW_FILES)
    return True if slow and config.getoption("--quick") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests where `--quick` asks for it; begin with those that take longest."""
    if config.getoption("--quick"):
        slow = [item for item in items if _is_slow(item)]
        items[:] = [item for item in items if not _is_slow(item)]
        config.hook.pytest_deselected(items=slow)
    items.sort(key=lambda item: not _file(item).startswith(LONGEST))


def pytest_collection_finish() -> None:
    # What there is by now is never looked at again.
    gc.freeze()
    gc.enable()


def _is_slow(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    slow = not fixtures.isdisjoint(SLOW_FIXTURES) or item.get_closest_marker("slow")
    return bool(slow) and not item.name.startswith(SMOKE)


def _file(item: pytest.Item) -> str:
    return _inside(item.path)


def _inside(path: Path) -> str:
    return Path(os.path.relpath(path, ROOT / "tests")).as_posix()


@pytest.fixture(autouse=True)
def decoding_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in the process of the test: to start others takes longer than most tests. tests/decoding has real ones."""
    monkeypatch.setattr(DecoderPool, "start", lambda decoders: None)
    monkeypatch.setattr(DecoderPool, "work", work_here)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with twelve pictures in two sub-folders: `a/0.png` … `b/11.png`."""
    for number in range(12):
        draw(tmp_path / "pictures" / ("a" if number < 6 else "b") / f"{number}.png", number)
    return tmp_path / "pictures"


@pytest.fixture
def encoder() -> GridMean:
    return GridMean()


@pytest.fixture
def index(tmp_path: Path, encoder: GridMean) -> Iterator[ImageIndex]:
    """An empty index beside the pictures, with the encoder of the tests, which decodes in this process."""
    with ImageIndex.create(tmp_path / "pictures.imgindex", encoder=encoder) as opened:
        opened._decoders = DecodersHere(opened.recipe)
        yield opened


@pytest.fixture
def run(tmp_path: Path, server: ForkServer) -> Run:
    """Run the command line in a process of its own, in the temporary folder, without a way to the web.

    The process is a fork of one that has imported everything. It is a new interpreter with `fresh=True`, and where the
    environment has a variable that an interpreter reads when it starts.
    """

    def run(
        *arguments: str | Path, fresh: bool = False, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        command = [sys.executable, "-m", "imgindex", *map(os.fspath, arguments)]
        environment = {**os.environ, "TORCH_HOME": str(tmp_path / "torch"), "https_proxy": "http://127.0.0.1:9"}
        environment.pop("IMGINDEX_DIR", None)
        environment |= env or {}
        if env and "PYTHONPATH" in env:  # the package need not be installed
            environment["PYTHONPATH"] += os.pathsep + str(ROOT)
        options = {"cwd": tmp_path, "env": environment, "text": True, "errors": "surrogateescape"} | options
        if not fresh and server.can_run_in(environment):
            return server.complete(command, **options)
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(command, check=False, capture_output=True, timeout=300, **options)

    return run


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real labelled photos, CLASS/FILE, that IMGINDEX_TEST_DATA names."""
    data = os.environ.get("IMGINDEX_TEST_DATA")
    if not data or not Path(data, "photos-dev.tar").is_file():
        pytest.skip("IMGINDEX_TEST_DATA names no folder with photos-dev.tar")
    return Path(data)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Runs the command line in processes that need not start first."""
    running = ForkServer(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def templates(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders with 0, 1 and 3 pictures, `pictures/0.png` …, each beside its index, which has a clustering."""
    made = {}
    for number in (0, 1, 3):
        folder = made[number] = tmp_path_factory.mktemp("template")
        (folder / "pictures").mkdir()
        for colour in range(number):
            draw(folder / "pictures" / f"{colour}.png", colour)
        done = server.run("add", "pictures", "--recipe", "vgg16-pool5", "--size", "32", folder=folder)
        assert done.code == 0, done.stderr
        if number:
            assert server.run("cluster", "-k", "1", folder=folder).code == 0
    return made


@pytest.fixture
def three(templates: dict[int, Path], tmp_path: Path) -> Path:
    """A folder of its own with three pictures and their index."""
    shutil.copytree(templates[3], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="session")
def nodes() -> Iterator[RayNodes]:
    """Two real nodes of a Ray cluster, which all tests share; a test that kills one starts it again."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"there can be no nodes of a Ray cluster here: {reason}")
    with contextlib.closing(RayNodes()) as running:
        running.start(0, 1)
        yield running
