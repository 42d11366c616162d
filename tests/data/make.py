"""Writes the archives of this folder with NumPy: python tests/data/make.py"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent

# Two scenes of 2 x 3 pixels: one object, then two.
IMAGES = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
MASKS = np.array([[[0, 0, 255], [255, 255, 255]], [[0, 255, 1], [0, 255, 1]]], np.uint8)
COUNTS = np.array([1, 2], np.uint8)
LABELS = np.array([[7, 255], [3, 9]], np.uint8)
BOXES = np.array([[[0, 0, 2, 1], [-1] * 4], [[0, 0, 1, 2], [2, 0, 3, 2]]], np.int16)
WHOLE = {"images": IMAGES, "masks": MASKS, "counts": COUNTS, "labels": LABELS, "boxes": BOXES}

np.savez(FOLDER / "plain.npz", **WHOLE)
np.savez_compressed(FOLDER / "compressed.npz", **WHOLE)
np.savez_compressed(
    FOLDER / "wide-types.npz",
    images=IMAGES.astype("<i8"),
    masks=MASKS.astype(">u2"),
    counts=COUNTS.astype(">i4"),
    labels=LABELS.astype("<u4"),
    boxes=BOXES.astype(">i8"),
)
np.savez_compressed(FOLDER / "images-only.npz", images=IMAGES)
np.savez_compressed(FOLDER / "no-counts.npz", images=IMAGES, boxes=BOXES)
np.savez_compressed(FOLDER / "colour.npz", images=np.stack([IMAGES] * 3, axis=-1))

# Refused, each for the reason in its name.
np.savez_compressed(FOLDER / "bad-fortran.npz", images=np.asfortranarray(IMAGES))
np.savez_compressed(FOLDER / "bad-float.npz", images=IMAGES / 255)
np.savez_compressed(FOLDER / "bad-value.npz", images=IMAGES.astype(np.int16) + 250)
np.savez_compressed(FOLDER / "bad-empty.npz", images=IMAGES[:0])
np.savez_compressed(FOLDER / "bad-dimensions.npz", images=IMAGES[0])
np.savez_compressed(FOLDER / "bad-masks.npz", images=IMAGES, masks=MASKS[:1])
np.savez_compressed(FOLDER / "bad-slots.npz", images=IMAGES, labels=LABELS, boxes=BOXES[:, :1])
np.savez_compressed(FOLDER / "bad-owner.npz", images=IMAGES, masks=MASKS, counts=COUNTS - 1)
np.savez_compressed(FOLDER / "bad-missing.npz", pictures=IMAGES)
