"""Write clustering.json: scikit-learn's indices for random, structured and degenerate labelings.

Run with scikit-learn installed:  python clustering.py

Both indices depend on the two labelings only through how often each pair of labels occurs, so each
case lists `runs`: [first label, second label, number of pixels].
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

DEGENERATE = {
    "empty": ([], []),
    "one pixel": ([0], [7]),
    "two pixels, together and apart": ([0, 0], [0, 1]),
    "two pixels, apart and apart": ([0, 1], [1, 0]),
    "one cluster each": ([3] * 9, [255] * 9),
    "one cluster against two": ([0] * 6, [0, 1] * 3),
    "one cluster against singletons": ([0] * 6, list(range(6))),
    "singletons against singletons": (list(range(12)), list(range(12))[::-1]),
    "singletons against three": (list(range(12)), [0, 1, 2] * 4),
    "crossed": ([0, 0, 1, 1], [0, 1, 0, 1]),
    "crossed, 3 x 4": ([0, 1, 2] * 4, sorted([0, 1, 2, 3] * 3)),
    "renamed": ([0, 0, 1, 1, 2], [9, 9, 4, 4, 255]),
    "one pixel moved": ([0] * 20 + [1] * 20, [0] * 19 + [1] * 21),
    "one split": ([0] * 10 + [1] * 10, [0] * 5 + [1] * 5 + [2] * 10),
    "one merged": ([0] * 5 + [1] * 5 + [2] * 10, [0] * 10 + [1] * 10),
}


def random_cases(rng):
    """Independent, then correlated labelings of many sizes."""
    for pixels in (2, 5, 10, 30, 100, 400, 4096):
        for first, second in ((2, 2), (2, 5), (4, 4), (7, 3)):
            a = rng.integers(first, size=pixels)
            yield f"random {pixels}, {first} x {second}", (a, rng.integers(second, size=pixels))
            noisy = np.where(rng.random(pixels) < 0.3, rng.integers(second, size=pixels), a % second)
            yield f"correlated {pixels}, {first} x {second}", (a, noisy)


def scene_cases(rng):
    """Discs on a background, moved by a few pixels and with pixels flipped: what masks look like."""
    for size, objects, shift in ((32, 2, 1), (64, 3, 2), (64, 8, 3), (128, 5, 0), (256, 10, 5)):
        rows, columns = np.mgrid[:size, :size]
        truth = np.full((size, size), 255)
        for index in range(objects):
            row, column = rng.integers(size, size=2)
            truth[(rows - row) ** 2 + (columns - column) ** 2 < (size / 6) ** 2] = index
        moved = np.roll(truth, shift, axis=1)
        moved = np.where(rng.random((size, size)) < 0.05, 0, moved)
        yield f"discs {size}, {objects} objects", (truth.ravel(), moved.ravel())


def main():
    rng = np.random.default_rng(20240501)
    cases = []
    for name, (first, second) in [*DEGENERATE.items(), *random_cases(rng), *scene_cases(rng)]:
        runs = Counter(zip(map(int, first), map(int, second)))
        cases.append(
            {
                "name": name,
                "runs": [[*labels, count] for labels, count in sorted(runs.items())],
                "ari": float(adjusted_rand_score(first, second)),
                "ami": float(adjusted_mutual_info_score(first, second)),
            }
        )
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"scikit_learn": "{sklearn.__version__}", "cases": [\n{lines}\n]}}\n'
    Path(__file__).with_suffix(".json").write_text(text)


if __name__ == "__main__":
    main()
