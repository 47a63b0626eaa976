"""Writes one readable digit of each chosen class as an 8x8 grayscale PNG file into models/digits/.

The rows are from the test half of digits.csv.gz (898..1797): the row of each class that lies nearest, among the
test rows, to the mean image of its class. A pixel is round(value * 255 / 16), so that reading the file back and
dividing by 255 gives value / 16 to within 1/510, which is how the models take their input.

Needs NumPy and Pillow:  python make_pngs.py
"""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
TEST_ROWS = slice(898, 1797)
CLASSES = (0, 3, 5, 7)


def typical_row(pixels: np.ndarray) -> np.ndarray:
    """The row of `pixels` [n, 64] nearest to their mean."""
    distance = ((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1)
    return pixels[distance.argmin()]


def main() -> None:
    with gzip.open(HERE / "digits.csv.gz", "rt", encoding="ascii") as text:
        rows = np.loadtxt(text, delimiter=",")[TEST_ROWS]
    pixels, labels = rows[:, :64], rows[:, 64].astype(int)
    for digit in CLASSES:
        image = np.round(typical_row(pixels[labels == digit]) * 255 / 16).astype(np.uint8)
        Image.fromarray(image.reshape(8, 8)).save(HERE.parent / "digits" / f"digit-{digit}.png")


if __name__ == "__main__":
    main()
