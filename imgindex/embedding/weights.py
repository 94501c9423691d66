"""Weights of VGG-16: those shipped with the package, torchvision's, a user's file, or seeded random ones."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import threading
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from typing import Any

from imgindex.errors import UsageError, WeightsMismatch, WeightsUnavailable

log = logging.getLogger(__name__)

SHIPPED = "oxford"
TORCHVISION = "IMAGENET1K_V1"
URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
PROBE_SECONDS = 8.0
NPY_HEADER = 1 << 16

WAYS_OUT = (
    f"put vgg16-397923af.pth into {{folder}}, or name a file with --weights FILE, "
    f"or take --recipe vgg16-pool5, whose weights come with imgindex (the file's address: {URL})"
)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Where weights are: a `name` for people, the `source` to find them again, the file's `sha256` (or the seed's)."""

    name: str
    source: str
    sha256: str


def locate(source: str) -> WeightsFile:
    """Find weights without loading them: `oxford`, `IMAGENET1K_V1`, `random:SEED` or a file's path.

    IMAGENET1K_V1 is downloaded by torchvision's own code when it is not in torch's cache.

    Raises WeightsUnavailable when they cannot be had, UsageError for a seed that is no number.
    """
    if source.startswith("random:"):
        seed = _seed(source)
        return WeightsFile(f"random:{seed}", source, hashlib.sha256(f"vgg16 random:{seed}".encode()).hexdigest())
    if source == SHIPPED:
        path = shipped_path()
    elif source == TORCHVISION:
        path = cached_path()
        if not os.path.exists(path):
            download()
    else:
        path = os.path.abspath(source)
        if not os.path.isfile(path):
            raise WeightsUnavailable(f"there is no weights file {source}", hint="check the path given to --weights")
    name = source if source in (SHIPPED, TORCHVISION) else os.path.basename(path)
    return WeightsFile(name, source if source in (SHIPPED, TORCHVISION) else path, _sha256(path))


def available() -> bool:
    """Whether IMAGENET1K_V1 is in torch's cache, or its server answers (asked within about 8 seconds)."""
    return os.path.exists(cached_path()) or reachable()


def holds_fc1(source: str) -> bool:
    """Whether weights reach up to the first fully connected layer. Raises as `locate` and `load` do."""
    weights = locate(source)
    if source == SHIPPED:
        return False
    try:
        load(weights, {"classifier.0.weight": (4096, 25088)})
    except WeightsMismatch as error:
        log.debug("no fc1: %s", error)
        return False
    return True


def load(weights: WeightsFile, shapes: dict[str, tuple[int, ...]]) -> dict[str, object]:
    """Load the tensors that `shapes` names, and no others, as a torch state dict; files are mapped where they can be.

    Raises WeightsMismatch when a tensor is missing, misshapen, not finite numbers, or the file cannot be read.
    """
    import torch

    if weights.source.startswith("random:"):
        return dict(_random(_seed(weights.source), shapes))
    path = shipped_path() if weights.source == SHIPPED else weights.source
    path = cached_path() if weights.source == TORCHVISION else path
    try:
        tensors = _read(path, shapes)
    except WeightsMismatch:
        raise
    except MemoryError as error:
        raise WeightsMismatch(f"{path}, which may be damaged, asks for more memory than there is") from error
    except Exception as error:  # a hostile or damaged file may raise anything
        raise WeightsMismatch(f"cannot read weights from {path}, which may be damaged: {_reason(error)}") from error
    for key, shape in shapes.items():
        tensor = tensors[key]
        if not isinstance(tensor, torch.Tensor):
            raise WeightsMismatch(f"{path}: {key} is no tensor")
        if tuple(tensor.shape) != shape:
            raise WeightsMismatch(f"{path}: {key} has the shape {tuple(tensor.shape)} instead of {shape}")
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise WeightsMismatch(f"{path}: {key} holds {tensor.dtype} instead of floating-point numbers")
        # Smallest and largest: NaN would be both, and nothing of the tensor's size is allocated.
        if not all(bound.isfinite() for bound in tensor.detach().aminmax()):
            raise WeightsMismatch(f"{path}: {key} holds numbers that are not finite")
    return tensors


def shipped_path() -> str:
    """Path of the Oxford VGG-16 convolutions inside the package."""
    return str(resources.files("imgindex.embedding") / "data" / "vgg16_conv_oxford_fp16.safetensors")


def cached_path() -> str:
    """Where torch keeps the download of IMAGENET1K_V1: $TORCH_HOME/hub/checkpoints, by default under ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME") or os.path.join(cache, "torch"))
    return os.path.join(home, "hub", "checkpoints", os.path.basename(URL))


def reachable() -> bool:
    """Whether the server of IMAGENET1K_V1 answers; never takes longer than PROBE_SECONDS."""
    answered = threading.Event()

    def probe() -> None:
        request = urllib.request.Request(URL, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answered.set()
        except (OSError, ValueError, HTTPException) as error:
            log.debug("no weights from the web: %s", error)

    # Looking up a name knows no time-out, so it happens in a thread that may be left behind.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def download() -> None:
    """Download IMAGENET1K_V1 (528 MB) into torch's cache by torchvision's own code, which checks its hash.

    Raises WeightsUnavailable when the server cannot be reached or the download fails.
    """
    hint = WAYS_OUT.format(folder=os.path.dirname(cached_path()))
    if not reachable():
        raise WeightsUnavailable(f"the weights {TORCHVISION} are not on this disk and cannot be downloaded", hint=hint)
    from torchvision.models import VGG16_Weights

    try:
        VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailable(f"downloading {TORCHVISION} failed: {error}", hint=hint) from error


def _seed(source: str) -> int:
    text = source.removeprefix("random:")
    if not text.isdecimal():
        raise UsageError(f"{source!r} does not name a seed", hint="write it as random:0")
    return int(text)


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise WeightsUnavailable(f"cannot read weights from {path}: {error.strerror}") from error


def _read(path: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, object]:
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in _all_there(path, shapes, file.keys())}
    if suffix == ".npz":
        return _read_npz(path, shapes)
    import torch

    # Only the zip form can be mapped; torchvision's file of 2017 is of the older one.
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _refuse_compressed(path)
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    if not isinstance(state, dict):
        raise WeightsMismatch(f"{path} holds no state dict")
    return {key: state[key] for key in _all_there(path, shapes, state)}


def _read_npz(path: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, object]:
    import numpy as np
    import torch

    # Not by np.load: it makes room for whatever an array's header says, and a megabyte may unpack to gigabytes.
    arrays: dict[str, object] = {}
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        for key in _all_there(path, shapes, names):
            member = archive.getinfo(f"{key}.npy")
            shape, dtype = _npy_header(archive, member)
            if shape != shapes[key]:
                raise WeightsMismatch(f"{path}: {key} has the shape {shape} instead of {shapes[key]}")
            if dtype.itemsize > 8:
                raise WeightsMismatch(f"{path}: {key} holds {dtype} instead of floating-point numbers")
            with archive.open(member) as file:
                arrays[key] = torch.from_numpy(np.lib.format.read_array(file, allow_pickle=False))
    return arrays


def _npy_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], Any]:
    """Return the shape and dtype of an array in an npz, having read no more than a header."""
    import numpy as np

    with archive.open(member) as file:
        start = io.BytesIO(file.read(NPY_HEADER))
    version = np.lib.format.read_magic(start)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)
    return shape, dtype


def _refuse_compressed(path: str) -> None:
    """Raise WeightsMismatch for a zip with compressed members: torch writes none, and would unpack one of any size."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise WeightsMismatch(f"{path} is compressed, which torch.save never does")


def _reason(error: Exception) -> str:
    """One line; torch's and numpy's own on a pickle that they refuse would say how to run what is in it."""
    text = str(error).strip()
    if not text or "pickle" in text or isinstance(error, (pickle.UnpicklingError, LookupError)):
        return "it is no state dict of tensors alone"
    return text.splitlines()[0][:200]


def _all_there(path: str, wanted: Iterable[str], found: Iterable[str]) -> list[str]:
    wanted, have = list(wanted), set(found)
    missing = [key for key in wanted if key not in have]
    if missing:
        raise WeightsMismatch(f"{path} lacks {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    return wanted


def _random(seed: int, keys: Iterable[str]) -> dict[str, object]:
    """What `torch.manual_seed(seed); torchvision.models.vgg16()` makes, without touching the caller's generator."""
    import torch
    from torchvision.models import vgg16

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = vgg16(weights=None).state_dict()
    return {key: state[key] for key in keys}
