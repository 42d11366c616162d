"""Scenes of public generators as archives for `mevae evaluate RUN --scenes FILE.npz`.

    python3 examples/to_npz.py pyro multi_mnist_uint8.npz air.npz                     Pyro, pyro.contrib.examples.multi_mnist
    python3 examples/to_npz.py observations multi_mnist_2_50_42.npz air.npz           observations, and SuPAIR after it
    python3 examples/to_npz.py fudanvi mnist.h5 general.npz --split general           FudanVI's compositional scene toolbox

Needs NumPy, and h5py for FudanVI's files. What a file does not tell (Pyro's no masks) is left out, and so are the scores that need it.
Lists of labels are pickled in the first two, and a pickle can run code: convert only files that you made or trust.
"""

import argparse

import numpy as np

NONE = 255  # no object, no label


def labelled(images, labels):
    """Images (n, h, w) and for each a list of its digits' classes."""
    counts = np.array([len(digits) for digits in labels], dtype=np.uint8)
    table = np.full((len(labels), max(1, counts.max(initial=0))), NONE, dtype=np.uint8)
    for row, digits in zip(table, labels):
        row[: len(digits)] = digits
    return {"images": np.asarray(images, dtype=np.uint8), "counts": counts, "labels": table}


def pyro(path, split):
    """`x` (n, 50, 50) and `y`: one set, made of the training digits."""
    if split != "train":
        raise SystemExit("Pyro's file has one split, made of the training digits: leave --split out")
    data = np.load(path, allow_pickle=True)
    return labelled(data["x"], data["y"])


def observations(path, split):
    """`x_train`, `y_train`, `x_test` and `y_test`."""
    data = np.load(path, allow_pickle=True)
    return labelled(data["x_" + split], data["y_" + split])


def layered(group):
    """`image` (n, h, w, c), `segment` (n, h, w) and `layers` (n, k + 1, h, w, c + 1): objects from the top, the ground last."""
    images, layers = np.asarray(group["image"]), np.asarray(group["layers"])
    objects = layers.shape[1] - 1
    segment = np.asarray(group["segment"])
    # A layer without a mask is no object. Those that are take their numbers in order.
    there = layers[:, :objects, ..., -1].any(axis=(2, 3))
    number = np.full((len(there), objects + 1), NONE, dtype=np.uint8)
    number[:, :objects] = np.where(there, there.cumsum(axis=1) - 1, NONE)
    masks = np.take_along_axis(number, segment.reshape(len(segment), -1).astype(np.int64), axis=1)
    if images.shape[-1] == 1 or (images[..., :1] == images).all():
        images = images[..., 0]
    return {"images": images, "masks": masks.reshape(segment.shape), "counts": there.sum(axis=1).astype(np.uint8)}


def fudanvi(path, split):
    import h5py

    with h5py.File(path, "r") as file:
        return layered(file[split])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=["pyro", "observations", "fudanvi"])
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--split", default=None, help="train for pyro, test for the others unless another is named")
    parser.add_argument("--count", type=int, default=None, help="the first so many scenes")
    args = parser.parse_args()
    split = args.split or ("train" if args.format == "pyro" else "test")
    scenes = {"pyro": pyro, "observations": observations, "fudanvi": fudanvi}[args.format](args.source, split)
    np.savez_compressed(args.out, **{name: member[: args.count] for name, member in scenes.items()})
    print(f"{len(scenes['images'][: args.count])} scenes -> {args.out}")


if __name__ == "__main__":
    main()
