"""Draws sample images of five kinds from a seed, for the demo, the tests and the benchmarks.

    python benchmarks/sample_images.py data/test --count 75 --seed 7 --sample data/sample_submission.csv

The kinds share their palettes, so that colour alone does not distinguish them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Rng = np.random.Generator
Colour = tuple[int, ...]

MARK = b"drawn by imgindex benchmarks/sample_images.py"
SHARPER = 2  # drawn larger, then scaled down: Pillow's lines and polygons have no soft edges of their own

# Each from dark to light.
PALETTES = (
    ("#2d1b3d", "#7b3f61", "#d96b6b", "#f6b26b", "#fde7c0"),
    ("#0b2545", "#13547a", "#3a9fbf", "#8dd3c7", "#eef6ee"),
    ("#1c2b1e", "#3d5a3c", "#7d9d5b", "#c9c27a", "#f4efd6"),
    ("#2b1410", "#7a2e1d", "#c8553d", "#f0a35e", "#fbe8cf"),
    ("#1d2a44", "#4a6fa5", "#8fb8de", "#cfe3f1", "#fbfdff"),
    ("#3b1c54", "#b03a8c", "#ff6f91", "#ffc75f", "#fff3d1"),
    ("#12343b", "#2d6a6a", "#66b2a0", "#cde7c9", "#fdf6e3"),
    ("#22223b", "#4a4e69", "#9a8c98", "#c9ada7", "#f2e9e4"),
    ("#102a43", "#d64545", "#f29e4c", "#f1c453", "#efea9a"),
    ("#1a1423", "#372549", "#774c60", "#b75d69", "#eacdc2"),
)


def palette(rng: Rng) -> np.ndarray:
    """Return five colours (5, 3) from dark to light, a little off one of the palettes."""
    chosen = PALETTES[rng.integers(len(PALETTES))]
    colours = np.array([[int(code[at : at + 2], 16) for at in (1, 3, 5)] for code in chosen], dtype=float)
    return np.clip(colours + rng.normal(0, 9, 3) + rng.normal(0, 5, (5, 3)), 0, 255)


def mix(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Return the colour that lies at `share` (0…1) between two."""
    return first * (1 - share) + second * share


def ink(colour: np.ndarray) -> Colour:
    """Return the colour as Pillow expects it."""
    return tuple(int(value) for value in np.clip(colour, 0, 255))


def gradient(size: tuple[int, int], first: np.ndarray, second: np.ndarray, slant: float = 0.0) -> Image.Image:
    """Return a picture that goes from one colour at the top to another at the bottom."""
    width, height = size[0] // 4, size[1] // 4
    down, right = np.linspace(0, 1, height)[:, None], np.linspace(-0.5, 0.5, width)[None, :]
    share = np.clip(down + slant * right, 0, 1)[..., None]
    small = Image.fromarray((first * (1 - share) + second * share).astype(np.uint8))
    return small.resize(size, Image.Resampling.BILINEAR)


def glow(picture: Image.Image, centre: tuple[float, float], radius: float, colour: np.ndarray) -> None:
    """Draw a disc of light with its halo."""
    side = int(radius * 8)
    halo, x, y = Image.new("L", (side, side)), side / 2, side / 2
    draw = ImageDraw.Draw(halo)
    for step in range(12, 0, -1):
        reach = radius * (1 + 0.22 * step)
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=int(95 * (1 - step / 13) ** 2))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=245)
    picture.paste(ink(colour), (int(centre[0] - x), int(centre[1] - y)), halo)


def skyline(rng: Rng, width: int, roughness: float) -> np.ndarray:
    """Return a fractal line of `width` heights, between about -1 and 1."""
    line, points, reach = np.zeros(width), int(rng.integers(3, 6)), 1.0
    while points < width:
        line += reach * np.interp(np.linspace(0, points, width), np.arange(points + 1), rng.uniform(-1, 1, points + 1))
        points, reach = points * 2, reach * roughness
    return line / 1.6


def stars(rng: Rng, draw: ImageDraw.ImageDraw, size: tuple[int, int], colour: np.ndarray) -> None:
    """Sprinkle stars over the upper part."""
    for x, y, bright in rng.random((int(rng.integers(40, 130)), 3)):
        radius = 1 + 2 * bright**4
        place = (x * size[0], y * size[1] * 0.6)
        box = (place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius)
        draw.ellipse(box, fill=ink(colour * (0.6 + 0.4 * bright)))


def mountains(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Ridge behind ridge under a sky, by day, dusk or night; now and then with firs in front."""
    width, height = size
    colours = palette(rng)
    night = rng.random() < 0.3
    top, low = (colours[0] * 0.7, colours[1]) if night else (colours[rng.integers(1, 4)], colours[4])
    picture = gradient(size, top, low)
    if night:
        stars(rng, ImageDraw.Draw(picture), size, colours[4])
    place = (rng.uniform(0.15, 0.85) * width, rng.uniform(0.12, 0.4) * height)
    glow(
        picture, place, rng.uniform(0.035, 0.085) * min(size), colours[4] if night else mix(colours[3], colours[4], 0.6)
    )
    draw = ImageDraw.Draw(picture)
    ridges = int(rng.integers(3, 6))
    first, last = rng.uniform(0.35, 0.5), rng.uniform(0.8, 0.92)
    rough = rng.uniform(0.42, 0.55)
    for number in range(ridges):
        near = number / (ridges - 1)
        base = height * (first + (last - first) * near)
        line = base + skyline(rng, width, rough) * height * rng.uniform(0.1, 0.2) * (1 - 0.5 * near)
        colour = mix(mix(low, colours[1], 0.35), colours[0] * 0.75, near)
        draw.polygon([(0, height), *enumerate(line), (width, height)], fill=ink(colour))
        if number == 0 and rng.random() < 0.6:
            snow(rng, draw, line, (colours[4] * 0.6 + 100, height))
    if rng.random() < 0.55:
        firs(rng, draw, size, ink(colours[0] * 0.45))
    return picture


def snow(rng: Rng, draw: ImageDraw.ImageDraw, line: np.ndarray, paint: tuple[np.ndarray, int]) -> None:
    """Cover the ridge above a wavering height with snow."""
    colour, height = paint
    limit = np.percentile(line, 45) + skyline(rng, len(line), 0.75) * height * 0.035
    for x in np.flatnonzero(line < limit):
        draw.line((x, line[x], x, limit[x]), fill=ink(colour))


def firs(rng: Rng, draw: ImageDraw.ImageDraw, size: tuple[int, int], colour: Colour) -> None:
    """Draw a row of firs at the lower edge."""
    width, height = size
    for x in np.sort(rng.uniform(0, width, int(rng.integers(6, 28)))):
        tall = height * rng.uniform(0.08, 0.24)
        foot = height * 1.01
        for tier in range(5):
            top = foot - tall * (1 - 0.17 * tier)
            wide = tall * (0.07 + 0.05 * tier)
            draw.polygon([(x, top), (x - wide, top + tall * 0.3), (x + wide, top + tall * 0.3)], fill=colour)


def city(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Rows of houses with windows, lit at night and dark by day."""
    width, height = size
    colours = palette(rng)
    night = rng.random() < 0.5
    top, low = (colours[0] * 0.6, colours[rng.integers(1, 3)]) if night else (colours[rng.integers(2, 4)], colours[4])
    picture = gradient(size, top, low)
    if night:
        stars(rng, ImageDraw.Draw(picture), size, colours[4])
    if rng.random() < 0.6:
        place = (rng.uniform(0.1, 0.9) * width, rng.uniform(0.08, 0.25) * height)
        glow(picture, place, rng.uniform(0.03, 0.07) * min(size), mix(colours[3], colours[4], 0.7))
    draw = ImageDraw.Draw(picture)
    rows = int(rng.integers(2, 4))
    for row in range(rows):
        near = (row + 1) / rows
        shade = mix(low, colours[0] * (0.55 if night else 0.9), 0.25 + 0.7 * near)
        x = -rng.uniform(0, 0.1) * width
        while x < width:
            wide = rng.uniform(0.09, 0.22) * width
            tall = rng.uniform(0.35, 0.85) * height * (1.05 - 0.4 * near)
            wall = shade if night or rng.random() < 0.4 else mix(shade, colours[rng.integers(1, 5)], 0.6)
            lamp = mix(colours[3], colours[4], rng.random()) if night else mix(colours[0], colours[1], 0.3)
            house(rng, draw, (x, height - tall, x + wide, height), (wall, lamp, 0.55 if night else 0.95))
            x += wide * rng.uniform(0.95, 1.25)
    return picture


def house(
    rng: Rng,
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    paint: tuple[np.ndarray, np.ndarray, float],
) -> None:
    """Draw one house: a wall, something on the roof, a grid of windows of which a share is lit."""
    left, top, right, bottom = box
    wall, lamp, lit = paint
    wide = right - left
    crown = rng.integers(4)
    if crown == 0:
        draw.line((left + wide / 2, top - wide * 0.6, left + wide / 2, top), fill=ink(wall), width=4)
    elif crown == 1:
        draw.polygon([(left, top), (left + wide / 2, top - wide * 0.35), (right, top)], fill=ink(wall))
    elif crown == 2:
        draw.rectangle((left + wide * 0.2, top - wide * 0.18, right - wide * 0.2, top), fill=ink(wall))
    draw.rectangle(box, fill=ink(wall))
    draw.rectangle((right - wide * 0.08, top, right, bottom), fill=ink(wall * 0.8))
    columns = int(rng.integers(3, 7))
    cell = wide * 0.86 / columns
    tall = cell * rng.uniform(1.1, 1.8)
    pane = (cell * rng.uniform(0.45, 0.7), tall * rng.uniform(0.45, 0.65))
    for row in range(int((bottom - top) / tall)):
        for column in range(columns):
            x = left + wide * 0.05 + column * cell
            y = top + tall * (row + 0.35)
            colour = lamp * rng.uniform(0.85, 1.0) if rng.random() < lit else wall * 0.75
            draw.rectangle((x, y, x + pane[0], y + pane[1]), fill=ink(colour))


def balloons(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Balloons on strings, few and large or many and small, before a sky, a wall or blurred lights."""
    width, height = size
    colours = palette(rng)
    others = palette(rng)
    ends = rng.choice(5, 2, replace=False)
    picture = gradient(size, colours[ends[0]], colours[ends[1]], slant=rng.uniform(-0.5, 0.5))
    if rng.random() < 0.5:
        lights(rng, picture, colours)
    count = int(rng.integers(4, 15))
    radius = min(size) * rng.uniform(0.75, 1.0) / (count + 2) ** 0.5 / 2
    hand = (rng.uniform(0.3, 0.7) * width, height * 1.1)
    places = rng.uniform((0.08, 0.06), (0.92, 0.74), (count, 2)) * size
    shades = np.concatenate([colours[1:], others[1:]])
    for place in places:
        r = radius * rng.uniform(0.8, 1.25)
        string(rng, picture, (place[0], place[1] + r * 1.2), hand)
        ball(picture, (place[0], place[1], r), shades[rng.integers(len(shades))])
    return picture


def lights(rng: Rng, picture: Image.Image, colours: np.ndarray) -> None:
    """Lay soft discs of light over the picture, as a lens out of focus makes them."""
    layer = picture.copy()
    draw = ImageDraw.Draw(layer)
    for _ in range(int(rng.integers(8, 30))):
        x, y = rng.random(2) * picture.size
        radius = min(picture.size) * rng.uniform(0.02, 0.1)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink(colours[rng.integers(5)]))
    soft = layer.resize((picture.width // 8, picture.height // 8)).filter(ImageFilter.GaussianBlur(2))
    picture.paste(Image.blend(picture, soft.resize(picture.size, Image.Resampling.BICUBIC), 0.6))


def string(rng: Rng, picture: Image.Image, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a balloon's string, slightly swung."""
    along = np.linspace(0, 1, 24)
    swing = np.sin(along * math.pi) * rng.normal(0, 0.05) * picture.width
    x, y = start[0] + (end[0] - start[0]) * along + swing, start[1] + (end[1] - start[1]) * along
    ImageDraw.Draw(picture).line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(245, 240, 235), width=3)


def ball(picture: Image.Image, place: tuple[float, float, float], colour: np.ndarray) -> None:
    """Draw a balloon, shaded as by a lamp at its upper left."""
    x, y, r = place
    knot = [(x - r * 0.1, y + r * 1.28), (x, y + r * 1.1), (x + r * 0.1, y + r * 1.28)]
    ImageDraw.Draw(picture).polygon(knot, fill=ink(colour * 0.7))
    reach = int(r * 1.25) + 1
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1] / r
    taper = 1.18 + 0.02 * down
    depth = 1 - right**2 * (1 + 0.12 * down) - (down / taper) ** 2
    normal = np.sqrt(np.clip(depth, 0, 1))
    light = np.clip(0.45 + 0.45 * normal - 0.22 * right - 0.22 * down, 0.25, 1.15)
    shine = np.exp(-((right + 0.38) ** 2 + (down + 0.5) ** 2) / 0.022)[..., None]
    pixels = colour * light[..., None] * (1 - 0.85 * shine) + 255 * 0.85 * shine
    body = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    mask = Image.fromarray((np.clip(depth * r / 2, 0, 1) * 240).astype(np.uint8))
    picture.paste(body, (int(x) - reach, int(y) - reach), mask)


def flowers(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Rosettes of petals among leaves, one large or a meadow of small ones."""
    colours, others = palette(rng), palette(rng)
    ends = rng.choice(5, 2, replace=False)
    picture = gradient(size, colours[ends[0]], colours[ends[1]], slant=rng.uniform(-0.5, 0.5))
    lights(rng, picture, colours)
    draw = ImageDraw.Draw(picture)
    count = int(rng.integers(1, 9))
    radius = min(size) * rng.uniform(0.8, 1.0) / count**0.5 / 2
    form = (int(rng.integers(5, 14)), rng.uniform(0.5, 0.95), int(rng.integers(1, 4)))
    leaf = mix(colours[0], colours[rng.integers(1, 3)], 0.6)
    places = spread(rng, size, count)
    for place in places:
        for angle in rng.uniform(0, 2 * math.pi, 3):
            petal(draw, (*place, angle), (radius * 1.25, 0.4), leaf * rng.uniform(0.7, 1.1))
    shades = np.concatenate([colours[1:], others[2:]])
    for place in places:
        tint, heart = shades[rng.integers(len(shades))], others[rng.integers(5)]
        rosette(rng, draw, (*place, radius * rng.uniform(0.75, 1.1)), (form, tint, heart))
    return picture


def spread(rng: Rng, size: tuple[int, int], count: int) -> np.ndarray:
    """Return `count` places (count, 2) that keep away from each other."""
    places = [rng.uniform(0.3, 0.7, 2) * size]
    while len(places) < count:
        tries = rng.uniform(0.1, 0.9, (20, 2)) * size
        gaps = np.linalg.norm(tries[:, None] - np.array(places)[None], axis=2).min(axis=1)
        places.append(tries[gaps.argmax()])
    return np.array(places)


def petal(
    draw: ImageDraw.ImageDraw, place: tuple[float, float, float], form: tuple[float, float], colour: np.ndarray
) -> None:
    """Draw a petal or leaf from `place` (x, y, angle), of a length and a width relative to it, with its vein."""
    x, y, angle = place
    length, wide = form
    along = np.linspace(0, 1, 20)
    across = wide * length / 2 * np.sin(math.pi * along**1.3)
    cos, sin = math.cos(angle), math.sin(angle)
    for shrink, shade in ((1.0, 0.72), (0.88, 1.0)):
        out = np.concatenate([along, along[::-1]]) * length * (1 + shrink) / 2
        side = np.concatenate([across, -across[::-1]]) * shrink
        points = np.stack([x + out * cos - side * sin, y + out * sin + side * cos], axis=1)
        draw.polygon([tuple(point) for point in points.tolist()], fill=ink(colour * shade))
    draw.line((x, y, x + 0.8 * length * cos, y + 0.8 * length * sin), fill=ink(colour * 0.82), width=3)


def rosette(
    rng: Rng,
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float, float],
    paint: tuple[tuple[int, float, int], np.ndarray, np.ndarray],
) -> None:
    """Draw a flower: rings of petals, each lighter and smaller than the one below, and a dotted heart."""
    x, y, radius = place
    (count, wide, rings), tint, heart = paint
    for ring in range(rings):
        reach = radius * (1 - 0.27 * ring)
        turn = rng.uniform(0, 2 * math.pi)
        for number in range(count):
            angle = turn + 2 * math.pi * number / count
            shade = np.clip(tint * (1 + 0.16 * ring) * rng.uniform(0.92, 1.05), 0, 255)
            petal(draw, (x, y, angle), (reach, wide * 6.0 / count + 0.12), shade)
    core = radius * 0.2
    draw.ellipse((x - core, y - core, x + core, y + core), fill=ink(heart * 0.8))
    for angle, out in zip(rng.uniform(0, 2 * math.pi, 40), np.sqrt(rng.random(40)) * core * 0.9, strict=True):
        dot = core * 0.1
        at = (x + out * math.cos(angle), y + out * math.sin(angle))
        draw.ellipse((at[0] - dot, at[1] - dot, at[0] + dot, at[1] + dot), fill=ink(heart * 1.3))


def fabric(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Tartans: coloured threads crossing in a twill, laid at an angle, with soft folds."""
    colours, others = palette(rng), palette(rng)
    shades = np.concatenate([colours, others[2:4]])
    threads = []
    for _ in range(int(rng.integers(5, 9))):
        threads += [rng.integers(len(shades))] * int(rng.choice((3, 4, 6, 9, 14)))
    sett = shades[np.concatenate([threads, threads[::-1]])].astype(np.float32)
    width, height = size
    down, right = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    angle, scale = rng.uniform(-0.5, 0.5), min(size) / rng.uniform(260, 400)
    waves = rng.uniform(4, 9) / min(size)
    fold = np.sin(down * (math.sin(angle + 0.9) * waves) + right * (math.cos(angle + 0.9) * waves))
    bend = fold * rng.uniform(1, 4) + 9999  # beyond zero, so that cutting the fraction off rounds down everywhere
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    u = (right * cos + down * sin + bend).astype(np.uint16)
    v = (down * cos - right * sin + bend).astype(np.uint16)
    top = np.where((u + v) % 4 < 2, u, v) % len(sett)
    pixels = sett[top] * (0.93 + 0.1 * fold)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[Rng, tuple[int, int]], Image.Image]] = {
    "mountains": mountains,
    "city": city,
    "balloons": balloons,
    "flowers": flowers,
    "fabric": fabric,
}


def draw(kind: str, rng: Rng) -> Image.Image:
    """Return an RGB picture of one of KINDS, 300 to 800 pixels a side, landscape or portrait."""
    long = int(rng.integers(460, 801))
    short = int(long * rng.uniform(0.66, 1.0))
    size = (long, short) if rng.random() < 0.5 else (short, long)
    large = KINDS[kind](rng, (size[0] * SHARPER, size[1] * SHARPER))
    return large.reduce(SHARPER)


def write(folder: str | Path, count: int, seed: int) -> dict[str, str]:
    """Draw `count` pictures into a folder as 0.jpg, 1.jpg, … and return the kind of each by its name.

    There are equally many of each kind, shuffled by the seed. The folder is made if it does not exist.

    Raises FileExistsError, before anything is written, when the folder holds other files than the pictures of earlier
    runs: only files with the mark of this script are overwritten.
    """
    folder = Path(folder)
    names = [f"{number}.jpg" for number in range(count)]
    check(folder, names)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = np.random.default_rng(seed).permutation([list(KINDS)[number % len(KINDS)] for number in range(count)])
    for number, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        picture = draw(kind, np.random.default_rng([seed, number]))
        picture.save(folder / name, quality=88, comment=MARK)
    return dict(zip(names, map(str, kinds), strict=True))


def check(folder: Path, names: Sequence[str]) -> None:
    """Raise FileExistsError when writing these names could overwrite, or mix with, files of other origin."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is not a folder")
    for file in sorted(folder.iterdir()):
        if file.name not in names:
            raise FileExistsError(f"{folder} holds {file.name}, which is none of the {len(names)} names to be written")
        if not is_ours(file):
            raise FileExistsError(f"{folder} holds a {file.name} that this script did not draw")


def is_ours(file: Path) -> bool:
    """Return whether a file is a picture that this script wrote."""
    try:
        with Image.open(file) as picture:
            return picture.info.get("comment") == MARK
    except Exception:  # Pillow may raise anything for a file of other origin
        return False


def sample(count: int) -> str:
    """Return the CSV for `count` pictures: their ids in order, each with the label 0."""
    return "ImageID,label\n" + "".join(f"{number},0\n" for number in range(count))


def main() -> None:
    """Write the pictures, and the CSV if --sample names one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the pictures go; must not hold other files")
    parser.add_argument("--count", type=int, default=75)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sample", type=Path, help="where to write the CSV ImageID,label")
    options = parser.parse_args()
    text = sample(options.count)
    if options.sample and options.sample.exists() and options.sample.read_text(encoding="utf-8") != text:
        sys.exit(f"error: {options.sample} exists and is another file; move it away or choose another name")
    try:
        write(options.folder, options.count, options.seed)
    except FileExistsError as error:
        sys.exit(f"error: {error}; choose an empty folder")
    if options.sample:
        options.sample.parent.mkdir(parents=True, exist_ok=True)
        options.sample.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
