"""Draw pictures that look alike and are not the same: pages, chats, forms, receipts, plots, slides, skies, sprites …

Every picture of a kind is different from the others of its kind, mostly in a small part. Nothing here is a copy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WORDS = ["lorem", "ipsum", "dolor", "invoice", "total", "amount", "date", "item", "price", "quantity", "name", "street"]
WORDS += ["number", "account", "bank", "tax", "sum", "order", "client", "delivery", "note"]
EACH = 8


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def page(rng: random.Random, number: int) -> Image.Image:
    picture = Image.new("RGB", (1240, 1754), "white")
    pen, y = ImageDraw.Draw(picture), 120
    while y < 1600:
        pen.text((120, y), words(rng, 11), "black", font(28))
        y += 44 + (50 if rng.random() < 0.12 else 0)
    return picture


def page_with_one_other_line(rng: random.Random, number: int) -> Image.Image:
    """One text in which one line differs."""
    same, picture = random.Random(1), Image.new("RGB", (1240, 1754), "white")
    pen = ImageDraw.Draw(picture)
    for line in range(33):
        text = words(same, 11)
        pen.text((120, 120 + 44 * line), words(rng, 11) if line == 12 else text, "black", font(28))
    return picture


def page_with_one_other_digit(rng: random.Random, number: int) -> Image.Image:
    """One text in which one digit differs."""
    same, picture = random.Random(2), Image.new("RGB", (1240, 1754), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((120, 120), f"Invoice 2026-004{number}", "black", font(28))
    for line in range(32):
        pen.text((120, 164 + 44 * line), words(same, 11), "black", font(28))
    return picture


def receipt_with_one_other_price(rng: random.Random, number: int) -> Image.Image:
    same, picture = random.Random(3), Image.new("RGB", (600, 1400), (250, 248, 240))
    pen = ImageDraw.Draw(picture)
    for row in range(22):
        price = same.randrange(50, 2000) / 100 + (number if row == 9 else 0)
        pen.text((50, 100 + 50 * row), same.choice(WORDS), "black", font(28))
        pen.text((450, 100 + 50 * row), f"{price:6.2f}", "black", font(28))
    return picture


def chat(rng: random.Random, number: int) -> Image.Image:
    return _chat([(rng.randrange(300, 800), rng.random() < 0.5, rng.randrange(20, 60), rng) for _ in range(16)])


def chat_with_one_other_bubble(rng: random.Random, number: int) -> Image.Image:
    same = random.Random(7)
    bubbles = [
        (same.randrange(300, 800), same.random() < 0.5, same.randrange(20, 60), random.Random(n)) for n in range(16)
    ]
    width, left, gap, _ = bubbles[9]
    bubbles[9] = width, left, gap, rng
    return _chat(bubbles)


def _chat(bubbles: list[tuple[int, bool, int, random.Random]]) -> Image.Image:
    picture = Image.new("RGB", (1080, 1920), (235, 235, 240))
    pen, y = ImageDraw.Draw(picture), 150
    for width, left, gap, rng in bubbles:
        x = 40 if left else 1040 - width
        pen.rounded_rectangle((x, y, x + width, y + 90), 30, fill="white" if left else (200, 240, 200))
        pen.text((x + 30, y + 22), words(rng, max(1, width // 160)), "black", font(36))
        y += 90 + gap
        if y > 1800:
            break
    return picture


def list_screenshot(rng: random.Random, number: int) -> Image.Image:
    """A list of an application: the same bars and icons, other entries."""
    picture = Image.new("RGB", (1080, 1920), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, 1080, 160), fill=(30, 90, 160))
    pen.text((60, 60), "Contacts", "white", font(52))
    for row in range(14):
        y = 190 + 120 * row
        pen.ellipse((40, y, 130, y + 90), fill=[(200, 80, 60), (60, 160, 90), (90, 90, 200)][row % 3])
        pen.text((170, y + 8), words(rng, 2), "black", font(36))
        pen.text((170, y + 52), f"{rng.randrange(10**9):09}", (120, 120, 120), font(28))
        pen.line((160, y + 108, 1080, y + 108), fill=(220, 220, 220), width=2)
    return picture


def form(rng: random.Random, number: int) -> Image.Image:
    """One form, filled in differently."""
    picture = Image.new("RGB", (1240, 1754), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((120, 100), "Application for a delivery account", "black", font(44))
    for field in range(14):
        y = 240 + 100 * field
        pen.text((120, y), WORDS[field].capitalize(), "black", font(28))
        pen.rectangle((400, y - 12, 1120, y + 48), outline="black", width=2)
        pen.text((420, y), f"{rng.choice(WORDS)} {rng.randrange(1000)}", (20, 20, 120), font(30))
    return picture


def receipt(rng: random.Random, number: int) -> Image.Image:
    picture = Image.new("RGB", (600, 1400), (250, 248, 240))
    pen = ImageDraw.Draw(picture)
    pen.text((180, 50), "CORNER SHOP", "black", font(36))
    pen.text((150, 100), f"2026-11-{1 + number:02} 12:{rng.randrange(60):02}", "black", font(28))
    total = 0.0
    for row in range(20):
        price = rng.randrange(50, 2000) / 100
        total += price
        pen.text((50, 180 + 50 * row), rng.choice(WORDS), "black", font(28))
        pen.text((450, 180 + 50 * row), f"{price:6.2f}", "black", font(28))
    pen.text((50, 1250), f"TOTAL {total:8.2f}", "black", font(40))
    return picture


def plot(rng: random.Random, number: int) -> Image.Image:
    """One diagram with other data."""
    picture = Image.new("RGB", (900, 600), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((80, 40, 860, 540), outline="black", width=2)
    for tick in range(6):
        pen.text((30, 530 - 95 * tick), str(20 * tick), "black", font(20))
        pen.line((80, 540 - 95 * tick, 860, 540 - 95 * tick), fill=(220, 220, 220))
    for colour in ((31, 119, 180), (255, 127, 14)):
        y, points = rng.uniform(200, 400), []
        for x in range(80, 861, 20):
            y = min(530.0, max(50.0, y + rng.uniform(-40, 40)))
            points.append((x, y))
        pen.line(points, fill=colour, width=3)
    return picture


def slide(rng: random.Random, number: int) -> Image.Image:
    """Slides of one template."""
    y, x = np.mgrid[0:720, 0:1280].astype(np.float32)
    ground = np.stack([20 + x / 12, 40 + y / 10, 110 + (x + y) / 20], axis=2).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(ground)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 660, 1280, 720), fill=(240, 170, 40))
    pen.text((40, 672), "Corporation of examples", "black", font(30))
    pen.text((80, 60), words(rng, 3).title(), "white", font(60))
    for line in range(5):
        pen.text((120, 190 + 80 * line), "• " + words(rng, 6), "white", font(36))
    return picture


def night_sky(rng: random.Random, number: int) -> Image.Image:
    noise = np.random.default_rng(number).normal(12, 3, (800, 1200, 3))
    picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(150):
        x, y, size = rng.randrange(1200), rng.randrange(800), rng.choice((1, 1, 1, 2, 3))
        pen.ellipse((x, y, x + size, y + size), fill=(rng.randrange(120, 255),) * 3)
    return picture.filter(ImageFilter.GaussianBlur(0.7))


def gradient(rng: random.Random, number: int) -> Image.Image:
    a, b = (np.array([rng.randrange(256) for _ in range(3)], np.float32) for _ in range(2))
    share = np.linspace(0, 1, 800, dtype=np.float32)[:, None, None]
    return Image.fromarray(np.broadcast_to(a + (b - a) * share, (800, 1000, 3)).astype(np.uint8))


def sprite(rng: random.Random, number: int) -> Image.Image:
    """Arrows and small symmetric figures on transparency: turned and coloured alike."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    if number < 4:
        pen.polygon([(32, 6), (56, 34), (40, 34), (40, 58), (24, 58), (24, 34), (8, 34)], fill=(20, 20, 20, 255))
        return picture.rotate(90 * number)
    cells = [[rng.random() < 0.5 for _ in range(4)] for _ in range(8)]
    for row, line in enumerate(cells):
        for column, on in enumerate([*line, *line[::-1]]):
            if on:
                pen.rectangle((8 * column, 8 * row, 8 * column + 7, 8 * row + 7), fill=(20, 20, 20, 255))
    return picture


def transparent_drawing(rng: random.Random, number: int) -> Image.Image:
    """A few black lines on transparency."""
    picture = Image.new("RGBA", (800, 800), (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    points = [(rng.randrange(800), rng.randrange(800)) for _ in range(7)]
    pen.line(points, fill=(0, 0, 0, 255), width=9, joint="curve")
    pen.ellipse((300 + 10 * number, 300, 500 + 10 * number, 500), outline=(0, 0, 0, 255), width=9)
    return picture


def white_drawing(rng: random.Random, number: int) -> Image.Image:
    """The same in white."""
    _, _, _, alpha = transparent_drawing(rng, number).split()
    white = Image.new("L", alpha.size, 255)
    return Image.merge("RGBA", (white, white, white, alpha))


def map_tile(rng: random.Random, number: int) -> Image.Image:
    picture = Image.new("RGB", (512, 512), (242, 239, 233))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = rng.randrange(512), rng.randrange(512)
        pen.polygon([(x, y), (x + 90, y + 20), (x + 70, y + 110), (x - 20, y + 80)], fill=(200, 220, 190))
    for width, colour in ((12, (250, 250, 250)), (7, (252, 214, 164))):
        for _ in range(5):
            pen.line([(rng.randrange(512), -5), (rng.randrange(512), 256), (rng.randrange(512), 517)], colour, width)
    for _ in range(6):
        pen.text((rng.randrange(400), rng.randrange(490)), rng.choice(WORDS), (90, 90, 90), font(16))
    return picture


def matrix_code(rng: random.Random, number: int) -> Image.Image:
    """Squares with the three marks of a QR code."""
    picture = Image.new("RGB", (330, 330), "white")
    pen = ImageDraw.Draw(picture)
    for row in range(29):
        for column in range(29):
            if rng.random() < 0.5:
                pen.rectangle((20 + 10 * column, 20 + 10 * row, 29 + 10 * column, 29 + 10 * row), fill="black")
    for x, y in ((20, 20), (240, 20), (20, 240)):
        for inset, colour in ((0, "black"), (10, "white"), (20, "black")):
            pen.rectangle((x + inset, y + inset, x + 69 - inset, y + 69 - inset), fill=colour)
    return picture


def barcode(rng: random.Random, number: int) -> Image.Image:
    picture = Image.new("RGB", (600, 300), "white")
    pen, x = ImageDraw.Draw(picture), 40
    while x < 550:
        width = rng.choice((3, 6, 9, 12))
        pen.rectangle((x, 30, x + width - 1, 230), fill="black")
        x += width + rng.choice((3, 6, 9))
    pen.text((150, 245), f"{rng.randrange(10**12):012}", "black", font(32))
    return picture


def blank_scan(rng: random.Random, number: int) -> Image.Image:
    noise = np.random.default_rng(1000 + number).normal(247, 2.5, (1000, 700, 3))
    picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    if number % 2:
        ImageDraw.Draw(picture).text((640, 950), str(number), "black", font(24))
    return picture


def counter(rng: random.Random, number: int) -> Image.Image:
    """Coins of a series: the same picture with another number."""
    picture = Image.new("RGB", (400, 400), "white")
    pen = ImageDraw.Draw(picture)
    for radius in range(180, 0, -4):
        shade = 140 + radius // 3
        pen.ellipse((200 - radius, 200 - radius, 200 + radius, 200 + radius), fill=(shade, shade - 25, 90))
    for angle in range(0, 360, 30):
        x, y = 200 + 160 * math.cos(math.radians(angle)), 200 + 160 * math.sin(math.radians(angle))
        pen.regular_polygon((x, y, 9), 5, fill=(120, 90, 30))
    pen.text((150, 120), str((1, 2, 5, 10, 20, 50, 12, 8)[number]), (90, 60, 20), font(130))
    return picture


def staged_photo(rng: random.Random, number: int) -> Image.Image:
    """A fixed camera: the same textured scene, with a thing that moved."""
    noise = np.random.default_rng(5)
    coarse = Image.fromarray(noise.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize(
        (960, 720), Image.Resampling.BICUBIC
    )
    fine = noise.normal(0, 14, (720, 960, 3))
    scene = Image.fromarray((np.asarray(coarse, np.float32) * 0.6 + 50 + fine).clip(0, 255).astype(np.uint8))
    pen, x = ImageDraw.Draw(scene), 60 + 100 * number
    pen.rectangle((x, 500, x + 130, 570), fill=(170, 30, 30))
    pen.rectangle((x + 25, 465, x + 100, 500), fill=(40, 40, 60))
    for wheel in (x + 15, x + 85):
        pen.ellipse((wheel, 555, wheel + 30, 585), fill=(15, 15, 15))
    return scene


KINDS: dict[str, Callable[[random.Random, int], Image.Image]] = {
    "pages": page,
    "pages, one line": page_with_one_other_line,
    "pages, one digit": page_with_one_other_digit,
    "receipts, one price": receipt_with_one_other_price,
    "chats": chat,
    "chats, one bubble": chat_with_one_other_bubble,
    "lists": list_screenshot,
    "forms": form,
    "receipts": receipt,
    "plots": plot,
    "slides": slide,
    "night skies": night_sky,
    "gradients": gradient,
    "sprites": sprite,
    "drawings, black": transparent_drawing,
    "drawings, white": white_drawing,
    "map tiles": map_tile,
    "matrix codes": matrix_code,
    "barcodes": barcode,
    "blank scans": blank_scan,
    "coins": counter,
    "fixed camera": staged_photo,
}


def each(count: int = EACH) -> Iterator[tuple[str, int, Image.Image]]:
    """Yield kind, number and picture; deterministic."""
    for kind, draw in KINDS.items():
        for number in range(count):
            yield kind, number, draw(random.Random(f"{kind} {number}"), number)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for kind, number, picture in each():
        picture.save(out / f"{kind.replace(', ', '-').replace(' ', '-')}-{number}.png")
