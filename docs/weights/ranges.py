"""Make the ranges of int8, imgindex/encoders/data/vgg16_conv_oxford_ranges.npz, from photographs.

    python docs/weights/ranges.py PHOTOS.tar

The tar holds images; each is taken as the recipe takes it, at every side in SIDES. The file holds the greatest number
in each channel after each ReLU of the network in fp32, as float16, by the layer's name. It also holds the output in
fp32 for a drawn picture of each side of a mean, with which int8 is compared on each machine.
"""

from __future__ import annotations

import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgindex.decoding.decode import decode
from imgindex.decoding.transforms import prepare
from imgindex.encoders.cpu import CpuEncoder, drawn_pictures
from imgindex.encoders.vgg.graph import RANGES, VggGraphs
from imgindex.encoders.vgg.layers import convolution_names
from imgindex.encoders.weights import locate_weights
from imgindex.recipe import POOL5_MEANS, get_recipe

TARGET = Path(__file__).parents[2] / "imgindex" / "encoders" / "data" / RANGES
SIDES = (128, 224, 320)


def main(tar: str) -> None:
    """Write the ranges of the images in a tar."""
    recipe = get_recipe()
    graphs = VggGraphs(recipe, locate_weights(recipe.weights))
    with tarfile.open(tar) as archive:
        files = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
        images = [decode(file.read(), alpha=recipe.alpha).image for file in files if file is not None]
    maxima = []
    for side in SIDES:
        pictures = np.stack([prepare(image, replace(recipe, side=side)) for image in images])
        maxima.append(graphs.channel_maxima(pictures))
    greatest = [np.max(channels, axis=0).astype(np.float16) for channels in zip(*maxima, strict=True)]
    outputs = {}
    for side in POOL5_MEANS:
        encoder = CpuEncoder(replace(recipe, side=side), graphs, "fp32")
        outputs[f"output.{side}"] = encoder.outputs(drawn_pictures(1, side))[0]
    np.savez(TARGET, **dict(zip(convolution_names(), greatest, strict=True)), **outputs)
    print(f"{TARGET}: {len(images)} images at {', '.join(map(str, SIDES))} px")


if __name__ == "__main__":
    main(sys.argv[1])
