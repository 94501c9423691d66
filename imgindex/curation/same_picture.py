"""Whether two pictures show the same: they are aligned, and then compared everywhere.

Two pages of text, or two chats, are nearly equal on average. So an average decides nothing here: two pictures are
copies if every part of one has the same structure in the other, and no small place differs more than compression
explains.
docs/duplicates.md gives the figures that were measured with these bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from imgindex.types import Pixels

# Pixels in colour or grey.
Values = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]

# Increased when the same pixels may be judged differently: stored judgements of another method are not used.
METHOD = 4
# The longer side in pixels at which pictures are compared, and how far smaller ones are smoothed.
SIDE, SMOOTHING = 768, 0.53
# Features (Lowe, SIFT, IJCV 2004; Arandjelović, RootSIFT, CVPR 2012) at this longer side, at most so many.
FEATURES_SIDE, FEATURES = 320, 300
SMALLEST_FEATURES_SIDE = 160
RATIO, LEAST_MATCHES = 0.8, 8
# Angles in degrees by which a copy may be rotated; others count as turned.
UPRIGHT = 20
# A picture of which less than this share is in the other shows something else.
LEAST_SHARE, LEAST_COVERED = 0.4, 0.9
# Blocks are this share of the longer side; a block with less variance of grey values than TEXTURE has no structure.
BLOCK, TEXTURE, NOISE = 1 / 24, 100.0, 40.0
LEAST_BLOCKS = 12
# Below it the structure of a block is another one; and how far the worst block may be below the others.
LEAST_STRUCTURE, OUTLIER, OUTLIER_FACTOR = 0.65, 0.02, 4.0
# The longer side of the small version of a picture, and what half of its blocks must have in common at least.
SMALL, LEAST_MEDIAN = 128, 0.8
# The longer side at which colours are compared.
COLOURS = 64
# Different pixels in a window of 11 × 11.
WINDOW, MOST_DIFFERENT = 11, 24
# Text across a picture: the share of pixels that it may cover, how thick its lines may be (of the longer side), how far
# its pixels may be from one of two grey values, and how much of the picture may be of even colours.
MOST_COVERED, THICKEST, TEXT_VALUES, MOST_EVEN = 0.15, 0.04, 30, 0.35
# In smaller pictures a numeral is not told from a text across, and in yet smaller ones not from another numeral: two
# coins of a series would be copies.
TEXT_SIDE, DETAIL_SIDE = 200, 72
# The structure that blocks without text must have in common.
LEAST_BESIDE_TEXT = 0.75
GREYS = np.arange(256.0)
KERNEL, FIVE, NINE = (np.ones((side, side), np.uint8) for side in (3, 5, 9))
HALF = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], dtype=np.float64)
LESS_HALF = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two pictures are copies of each other; share: how much of the larger one the other shows, 0…1."""

    copy: bool
    share: float


DIFFERENT = Comparison(False, 0.0)


@dataclass(frozen=True, slots=True)
class Features:
    """Points (n, 2) of a picture, and their SIFT descriptors, uint8 (n, 128), which are whole numbers."""

    points: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.uint8]

    @property
    def roots(self) -> npt.NDArray[np.float32]:
        """The descriptors as RootSIFT compares them."""
        values = self.descriptors.astype(np.float32)
        roots: npt.NDArray[np.float32] = np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))
        return roots


class View:
    """A picture ready to be compared; pixels: uint8 (height, width, 3), neither side longer than SIDE.

    others: the same picture on other backgrounds, if it has transparent parts. features: if they are known already.
    """

    def __init__(self, pixels: Pixels, others: Sequence[View] = (), features: Features | None = None) -> None:
        self.pixels, self.others, self.known_features = pixels, others, features
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        if max(grey.shape) < SIDE:
            # It is at its own size, and has details that its blurred and enlarged copies lack.
            grey = cv2.GaussianBlur(grey, (3, 3), SMOOTHING)
        self.grey: Grey = grey.astype(np.uint8, copy=False)

    @property
    def bytes(self) -> int:
        """How much memory the picture takes: three bytes a pixel, one for its grey value, one for its texture."""
        return 5 * self.grey.size + sum(one.bytes for one in self.others)

    def changed(self, change: Callable[[Pixels], Pixels]) -> View:
        """Return the view of the changed picture."""
        return View(change(self.pixels), [one.changed(change) for one in self.others])

    @cached_property
    def box(self) -> Box:
        """Left, top, right and bottom of the picture without borders of one colour."""
        return content_box(self.pixels)

    @property
    def features(self) -> Features:
        """The features of the picture, computed when they are first needed: most of the time of a comparison."""
        if self.known_features is None:
            self.known_features = self._find_features()
        return self.known_features

    def _find_features(self) -> Features:
        longer = max(self.grey.shape)
        scale = max(min(longer, FEATURES_SIDE), SMALLEST_FEATURES_SIDE) / longer
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(self.grey, None, fx=scale, fy=scale, interpolation=way)
        found, descriptors = _sift().detectAndCompute(small, None)
        if descriptors is None:
            return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
        ratio = np.array([small.shape[1] / self.grey.shape[1], small.shape[0] / self.grey.shape[0]], np.float32)
        points = (np.array([point.pt for point in found], np.float32) + 0.5) / ratio - 0.5
        return Features(points, descriptors.astype(np.uint8))

    @cached_property
    def texture(self) -> Grey:
        """Not 0 where the picture has structure."""
        return (_variance(self.grey, (15, 15)) > 36).view(np.uint8)


def content_box(pixels: Pixels, tolerance: int = 20) -> Box:
    """Return left, top, right and bottom of a picture without borders of one colour; the whole of it without any."""
    height, width, _ = pixels.shape
    box = [0, 0, width, height]
    for _ in range(2):  # a frame within a frame
        for side in range(4):
            left, top, right, bottom = box
            if right - left < 16 or bottom - top < 16:
                return 0, 0, width, height
            part = pixels[top:bottom, left:right]
            lines = part if side % 2 else cv2.transpose(part).astype(np.uint8, copy=False)
            count = _border_lines(lines if side < 2 else lines[::-1], tolerance)
            box[side] += count if side < 2 else -count
    left, top, right, bottom = box
    return (0, 0, width, height) if right - left < 16 or bottom - top < 16 else (left, top, right, bottom)


def _border_lines(lines: Pixels, tolerance: int) -> int:
    """Return how many lines, from the first one on, have the usual colour of the first one; 0 if all have it.

    Most pictures have no border, so few lines are looked at: all would take longer than the rest of a comparison.
    """
    colour = np.median(lines[0], axis=0)
    low, high = np.ceil(colour - tolerance), np.floor(colour + tolerance)
    start, length = 0, 4
    while start < len(lines):
        near = cv2.inRange(lines[start : start + length], low, high)
        other = cv2.reduce(near, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel() < 0.98 * 255
        if other.any():
            return start + int(other.argmax())
        start, length = start + length, 2 * length
    return 0


def compare(a: View, b: View) -> Comparison:
    """Return whether b shows the picture of a: scaled, cropped, framed, brighter, in grey, rotated by a few degrees.

    A picture with transparent parts is compared on every background with one without them.
    """
    pairs = [(a, b)]
    if not (a.others and b.others):
        pairs += [*((one, b) for one in a.others), *((a, one) for one in b.others)]
    return next((found for found in (_compare(*pair) for pair in pairs) if found.copy), DIFFERENT)


def _compare(a: View, b: View) -> Comparison:
    for find in (_by_boxes, _by_features):
        matrix = find(a, b)
        if matrix is None:
            continue
        if _is_plainly_different(a, b, matrix):
            continue
        share = _share_in_common(a, b, matrix)
        if share >= LEAST_SHARE and _are_equal_where_aligned(a, b, matrix):
            return Comparison(True, share)
    return DIFFERENT


def _by_boxes(a: View, b: View) -> Matrix | None:
    """Return the map of a's pixels to b's that takes the content of one to that of the other; None if none can."""
    (left, top, right, bottom), (left_b, top_b, right_b, bottom_b) = a.box, b.box
    x, y = (right_b - left_b) / (right - left), (bottom_b - top_b) / (bottom - top)
    if not 0.95 < x / y < 1.05:
        return None
    return np.array([[x, 0, left_b - x * left + (x - 1) / 2], [0, y, top_b - y * top + (y - 1) / 2]])


def _by_features(a: View, b: View) -> Matrix | None:
    """Return the map of a's pixels to b's that most features agree with; None if too few do."""
    points, points_b = a.features.points, b.features.points
    if min(len(points), len(points_b)) < LEAST_MATCHES:
        return None
    near = cv2.BFMatcher(cv2.NORM_L2).knnMatch(a.features.roots, b.features.roots, k=2)
    good = [(one.queryIdx, one.trainIdx) for one, other in near if one.distance < RATIO * other.distance]
    if len(good) < LEAST_MATCHES:
        return None
    i, j = np.array(good).T
    within = max(b.grey.shape) / 130
    matrix, inliers = cv2.estimateAffinePartial2D(points[i], points_b[j], ransacReprojThreshold=within)
    if matrix is None or inliers.sum() < LEAST_MATCHES:
        return None
    agree = inliers[:, 0] > 0
    matrix, _ = cv2.estimateAffinePartial2D(points[i][agree], points_b[j][agree], method=cv2.LMEDS)
    if matrix is None or not 0.1 < np.hypot(matrix[0, 0], matrix[1, 0]) < 10:
        return None
    if abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) > UPRIGHT:
        return None
    return np.asarray(matrix, np.float64)


def _is_plainly_different(a: View, b: View, matrix: Matrix) -> bool:
    """Whether most blocks differ in a small version of both: most pairs of different pictures are found so, quickly."""
    grey, grey_b, inside = _aligned(a.grey, b.grey, matrix, side=SMALL)
    structure, _ = _structure(grey, grey_b, inside, np.zeros_like(inside))
    return len(structure) >= LEAST_BLOCKS and bool(structure[len(structure) // 2] < LEAST_MEDIAN)


def _are_equal_where_aligned(a: View, b: View, matrix: Matrix) -> bool:
    grey, grey_b, inside = _aligned(a.grey, b.grey, matrix)
    if cv2.countNonZero(inside) < 200:
        return False
    one, other, difference = _tone_matched(grey, grey_b, inside)
    low, high = _percentiles(_histogram(other, inside), (1, 99))
    base = 10 + 0.12 * (high - low)
    marks: Grey = cv2.morphologyEx(_above(difference, base, inside), cv2.MORPH_CLOSE, KERNEL).astype(
        np.uint8, copy=False
    )
    structure, unmarked = _structure(one, other, inside, marks)
    if len(structure) < LEAST_BLOCKS or max(grey.shape) < DETAIL_SIDE:
        return _are_equal(a, b, matrix)
    if _is_even(structure):
        (noise,) = _percentiles(_histogram(difference, inside), (97,))
        different = _above(difference, max(base, 3 * noise), inside)
        window = cv2.boxFilter(different, cv2.CV_32F, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT)
        if window.max() <= MOST_DIFFERENT:
            return _same_colours(a, b, matrix)
    enough = max(grey.shape) >= TEXT_SIDE and len(unmarked) >= max(LEAST_BLOCKS, len(structure) / 5)
    is_text = enough and unmarked[0] >= LEAST_BESIDE_TEXT and _is_text_on_picture(one, other, marks, inside > 0)
    return bool(is_text and _same_colours(a, b, matrix))


def _above(values: Grey, bound: float, inside: Grey) -> Grey:
    """Return 1 where values inside are above the bound, and 0 elsewhere."""
    above = cv2.threshold(values, float(np.floor(bound)), 1, cv2.THRESH_BINARY)[1]
    return cv2.bitwise_and(above, above, mask=inside).astype(np.uint8, copy=False)


def _histogram(values: Grey, inside: Grey) -> Counts:
    """Return how often each of the 256 values is inside."""
    return cv2.calcHist([values], [0], inside, [256], [0, 256]).ravel().astype(np.float64)


def _percentiles(counts: Counts, shares: Sequence[float]) -> list[float]:
    """Return what numpy.percentile does, of a histogram."""
    ends = np.cumsum(counts)
    found = []
    for share in shares:
        place = (ends[-1] - 1) * share / 100
        below = np.floor(place)
        low, high = np.searchsorted(ends, [below, min(below + 1, ends[-1] - 1)], "right").tolist()
        found.append(low + (high - low) * float(place - below))
    return found


def _is_even(structure: Counts) -> bool:
    """Whether all blocks have the same structure, and none is much worse than the others; structure: ascending."""
    usual = float(structure[len(structure) // 20])
    return bool(structure[0] >= LEAST_STRUCTURE and 1 - structure[0] <= OUTLIER + OUTLIER_FACTOR * (1 - usual))


def _share_in_common(a: View, b: View, matrix: Matrix) -> float:
    """Return how much of the larger picture is in the other one, 0…1; 0 if neither lies nearly whole in the other."""
    back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    shares = []
    for view, other, map in ((a, b, matrix), (b, a, back)):
        covered = _covered(view.grey.shape, other.grey.shape, map, margin=0.5)
        left, top, right, bottom = view.box
        of_box = cv2.mean(covered[top:bottom, left:right])[0]
        of_texture = cv2.mean(covered, mask=view.texture)[0]
        shares.append(max(of_box, of_texture))
    return min(shares) if max(shares) >= LEAST_COVERED else 0.0


def _covered(shape: tuple[int, ...], other: tuple[int, ...], matrix: Matrix, margin: float) -> Grey:
    """Return 1 in each pixel of a shape that a map takes into another shape, and 0 elsewhere.

    margin: how far beyond the centres of its outermost pixels the other shape goes.
    """
    right, bottom = other[1] - 1 + margin, other[0] - 1 + margin
    corners = np.array([[-margin, -margin], [right, -margin], [right, bottom], [-margin, bottom]])
    back = cv2.invertAffineTransform(matrix)
    points = np.rint((corners @ back[:, :2].T + back[:, 2]) * 256).astype(np.int32)
    return cv2.fillConvexPoly(np.zeros(shape[:2], np.uint8), points, 1, shift=8).astype(np.uint8, copy=False)


def _aligned(a: Values, b: Values, matrix: Matrix, side: int = SIDE) -> tuple[Values, Values, Grey]:
    """Return both pictures in the frame of a, at the resolution of the coarser one, and 1 where both are.

    side: the longer side that a then has at most.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    of_a = min(1.0, scale, side / max(a.shape))
    pixels, to_a = _shrunk(a, of_a)
    pixels_b, to_b = _shrunk(b, min(1.0, of_a / scale))
    # Scaling takes corners of pixels to corners, the other maps take centres to centres.
    whole = LESS_HALF @ to_b @ HALF @ np.vstack([matrix, [0, 0, 1]]) @ LESS_HALF @ np.linalg.inv(to_a) @ HALF
    size, flags = (pixels.shape[1], pixels.shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(pixels_b, whole[:2], size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.erode(_covered(pixels.shape, pixels_b.shape, np.asarray(whole[:2]), margin=0.0), KERNEL, borderValue=1)
    return pixels, warped.astype(np.uint8, copy=False), inside.astype(np.uint8, copy=False)


def _shrunk(pixels: Values, scale: float) -> tuple[Values, Matrix]:
    if scale > 0.97:
        return pixels, np.eye(3)
    height, width = pixels.shape[:2]
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return small, np.diag([size[0] / width, size[1] / height, 1.0])


def _tone_matched(a: Grey, b: Grey, inside: Grey) -> tuple[Grey, Grey, Grey]:
    """Return grey values of both with the same brightness and contrast, and how far they differ beside edges.

    One picture is mapped to the other by a monotone curve: from the one that was not clipped, whichever that is.
    """
    together = cv2.calcHist([a, b], [0, 1], inside, [256, 256], [0, 256, 0, 256]).astype(np.float64)
    best: tuple[float, Grey, Grey, Grey] | None = None
    for one, other, joint in ((a, b, together), (b, a, together.T)):
        mapped: Grey = cv2.LUT(one, _tone_curve(joint)).astype(np.uint8, copy=False)
        difference = _beyond_edges(mapped, other)
        contrast = max(20.0, _deviation(joint.sum(axis=0)))
        mean = cv2.mean(difference, mask=inside)[0] / contrast
        if best is None or mean < best[0]:
            best = mean, mapped, np.asarray(other, np.uint8), difference
    assert best is not None
    return best[1:]


def _tone_curve(joint: Counts) -> Grey:
    """Return the monotone map of 256 grey values that is nearest to others; joint: how often each pair occurs."""
    kernel = np.exp(-0.5 * (np.arange(-24, 25) / 6.0) ** 2)
    count = np.convolve(joint.sum(axis=1), kernel, "same")
    total = np.convolve(joint @ GREYS, kernel, "same")
    known = np.flatnonzero(count > count.sum() * 1e-6)
    curve = np.maximum.accumulate(np.interp(GREYS, known, total[known] / count[known]))
    return np.clip(np.rint(curve), 0, 255).astype(np.uint8)


def _deviation(counts: Counts) -> float:
    """Return the standard deviation of values by their histogram."""
    mean = counts @ GREYS / counts.sum()
    return float(np.sqrt(counts @ (GREYS - mean) ** 2 / counts.sum()))


def _beyond_edges(a: Grey, b: Grey) -> Grey:
    """Return how far each pixel of either is outside of the values around the same place in the other."""
    over = cv2.max(cv2.subtract(b, cv2.dilate(a, KERNEL)), cv2.subtract(cv2.erode(a, KERNEL), b))
    under = cv2.max(cv2.subtract(a, cv2.dilate(b, KERNEL)), cv2.subtract(cv2.erode(b, KERNEL), a))
    return cv2.max(over, under).astype(np.uint8, copy=False)


def _structure(a: Grey, b: Grey, inside: Grey, marks: Grey) -> tuple[Counts, Counts]:
    """Return the structure that blocks have in common, ascending; of all blocks with structure, and of those unmarked.

    The structural term of SSIM (Wang et al., Image quality assessment, IEEE TIP 2004).
    """
    side = max(9, round(max(a.shape) * BLOCK)) | 1
    step = max(2, side // 2)
    # At the very edge, a rotated copy is blended with what is beside it.
    first = step // 2
    if min(a.shape) < first + side:
        return np.empty(0), np.empty(0)

    def means(sums: npt.NDArray[Any]) -> Counts:
        """Return the averages of whole blocks from the sums of all that is above and left of each place."""
        ends, starts = sums[first + side :: step], sums[first:-side:step]
        rows = (ends - starts).astype(np.float64)
        found: Counts = (rows[:, first + side :: step] - rows[:, first:-side:step]) / side**2
        return found

    x, y = (cv2.blur(grey, (2, 2)) for grey in (a, b))
    (sums_x, squares_x), (sums_y, squares_y) = cv2.integral2(x), cv2.integral2(y)
    mean_x, mean_y = means(sums_x), means(sums_y)
    of_x = np.maximum(means(squares_x) - mean_x * mean_x, 0)
    of_y = np.maximum(means(squares_y) - mean_y * mean_y, 0)
    common = means(cv2.integral(cv2.multiply(x, y, dtype=cv2.CV_32F))) - mean_x * mean_y
    value = (common + NOISE) / np.sqrt((of_x + NOISE) * (of_y + NOISE))
    chosen = (means(cv2.integral(inside)) > 0.99) & (np.maximum(of_x, of_y) > TEXTURE)
    around = means(cv2.integral(cv2.dilate(marks, NINE)))
    return np.sort(value[chosen]), np.sort(value[chosen & (around < 0.01)])


def _is_text_on_picture(a: Grey, b: Grey, marks: Grey, mask: Mask) -> bool:
    """Whether all that differs are thin lines of one or two grey values in one picture, across structure of the other.

    So a text across a photograph is part of a copy; another text on a page, or on an even ground, is not.
    """
    chosen = (marks > 0) & mask
    if not 0 < chosen.sum() <= MOST_COVERED * mask.sum():
        return False
    padded = cv2.copyMakeBorder(marks, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    if cv2.distanceTransform(padded, cv2.DIST_L2, 3).max() > THICKEST * max(marks.shape):
        return False
    for text, picture in ((a, b), (b, a)):
        even = cv2.subtract(cv2.dilate(picture, FIVE), cv2.erode(picture, FIVE)) <= 6
        if even[mask].mean() <= MOST_EVEN and _share_of_two_values(text[chosen]) >= 0.8:
            return True
    return False


def _share_of_two_values(values: Grey) -> float:
    """Return the share of grey values near the two most frequent ones."""
    counts = np.bincount(values, minlength=256).astype(np.float64)
    near = np.convolve(counts, np.ones(2 * TEXT_VALUES + 1), "same")
    first = int(near.argmax())
    counts[max(0, first - TEXT_VALUES) : first + TEXT_VALUES + 1] = 0
    return float(near[first] + np.convolve(counts, np.ones(2 * TEXT_VALUES + 1), "same").max()) / len(values)


def _same_colours(a: View, b: View, matrix: Matrix) -> bool:
    """Whether the colours of both agree up to saturation and tint, or one of the pictures is grey."""
    *small, inside = _aligned(a.pixels, b.pixels, matrix, side=COLOURS)
    mask = inside > 0
    values = [pixels.astype(np.float32) for pixels in small]
    colours = [np.stack([one[..., 0] - one[..., 1], one[..., 2] - one[..., 1]], axis=2)[mask] for one in values]
    x, y = (one - one.mean(axis=0) for one in colours)
    strength, strength_b = float(np.sqrt((x**2).mean())), float(np.sqrt((y**2).mean()))
    if min(strength, strength_b) < 4:  # grey, or of one tint
        return True
    return float((x * y).mean()) / (strength * strength_b) > 0.5


def _are_equal(a: View, b: View, matrix: Matrix) -> bool:
    """Whether the colours are equal up to compression, for pictures with too little structure to compare."""
    pixels, pixels_b, inside = _aligned(a.pixels, b.pixels, matrix)
    mask = inside > 0
    difference = cv2.absdiff(cv2.blur(pixels, (3, 3)), cv2.blur(pixels_b, (3, 3))).max(axis=2)[mask]
    has_detail = pixels[mask].std(axis=0).max() > 4
    return bool(has_detail and difference.max() <= 10 and difference.mean() <= 2.5)


def _sift() -> Any:
    sift: Any = cv2  # its stubs lack SIFT
    return sift.SIFT_create(FEATURES, contrastThreshold=0.02)


def _variance(grey: Grey, block: tuple[int, int]) -> npt.NDArray[np.float32]:
    values = grey.astype(np.float32)
    mean = cv2.blur(values, block)
    return (cv2.blur(values * values, block) - mean * mean).astype(np.float32, copy=False)
