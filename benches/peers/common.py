"""What the three twins share: the case, the geometry of its model, the tables they look up, and the worker's protocol.

A twin is the same model and the same training step in another framework. Only numpy is needed here.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NOTHING = -16.0  # the logit of "no ink here", around a glimpse
LOG_VAR_LIMIT = 10.0
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Unsupported(Exception):
    """The case asks for something that the twins do not have."""


# ------------------------------------------------------------------------------------------------------ the case


@dataclass(frozen=True)
class Layer:
    """One layer with everything that its neighbours decide; extents are (height, width, channels)."""

    kind: str  # dense, convolution or upconvolution
    name: str
    activation: str
    input: tuple
    output: tuple
    kernel: int = 1
    stride: int = 1

    @property
    def weight_shape(self):
        """In the crate's layout."""
        k, i, o = self.kernel, self.input[2], self.output[2]
        shapes = {
            "dense": (math.prod(self.input), math.prod(self.output)),
            "convolution": (k, k, i, o),
            "upconvolution": (i, k, k, o),
        }
        return shapes[self.kind]

    @property
    def makes_map(self):
        """Whether numbers without a place become a map here."""
        return self.kind == "dense" and self.output[:2] != (1, 1)

    @property
    def padding(self):
        """((above, below), (left, right)) of the larger side: of what "same" takes, the smaller half comes first."""
        k, s = self.kernel, self.stride
        first = max(k - s, 0) // 2
        large = self.output if self.kind == "upconvolution" else self.input
        return tuple((first, max((math.ceil(side / s) - 1) * s + k - side - first, 0)) for side in large[:2])


def dense(extent, name, activation, output):
    return Layer("dense", name, activation, extent, output)


def convolution(extent, name, activation, channels, kernel, stride):
    output = (math.ceil(extent[0] / stride), math.ceil(extent[1] / stride), channels)
    return Layer("convolution", name, activation, extent, output, kernel, stride)


def upconvolution(extent, name, activation, channels, kernel, stride):
    output = (extent[0] * stride, extent[1] * stride, channels)
    return Layer("upconvolution", name, activation, extent, output, kernel, stride)


def stack(prefix, extent, specs):
    """Layers one after the other: each spec is a constructor above and what it wants after its name."""
    layers = []
    for i, (make, *arguments) in enumerate(specs):
        layers.append(make(extent, f"{prefix}.{i}", *arguments))
        extent = layers[-1].output
    return layers


def encoder_specs(config, numbers):
    activation = config.get("activation", "relu")
    if config["kind"] == "dense":
        specs = [(dense, activation, (1, 1, width)) for width in config["hidden"]]
        return specs + [(dense, "identity", (1, 1, numbers))]
    specs = [(convolution, activation, c["channels"], c["kernel"], c["stride"]) for c in config["layers"]]
    return specs + [(convolution, "identity", numbers, 1, 1)]


def decoder_specs(trunk, patch):
    activation = trunk.get("activation", "relu")
    specs = [(dense, activation, (1, 1, width)) for width in trunk["hidden"]]
    if trunk["kind"] == "dense":
        return specs + [(dense, "identity", patch)]
    up = trunk["stride"] * math.prod(c["stride"] for c in trunk["layers"])
    specs.append((dense, activation, (math.ceil(patch[0] / up), math.ceil(patch[1] / up), trunk["base"])))
    specs += [(upconvolution, activation, c["channels"], c["kernel"], c["stride"]) for c in trunk["layers"]]
    return specs + [(upconvolution, "identity", patch[2], trunk["kernel"], trunk["stride"])]


def refuse_the_unknown(config):
    """Names everything that the twins lack, so that no case is measured as something that it is not."""
    encoder, decoder = config["encoder"], config["decoder"]
    convolutional = encoder["kind"] == "convolutional"
    wanted = {
        "latent.kind": (config["latent"]["kind"], ["gaussian"]),
        "selector.rank_by": (config["selector"]["rank_by"], ["kl", "brightness"]),
        "compositor.kind": (config["compositor"]["kind"], ["union", "sum"]),
        "likelihood.kind": (config["likelihood"]["kind"], ["bernoulli"]),
        "encoder.kind": (encoder["kind"], ["dense", "convolutional"]),
        "encoder.posteriors": (encoder.get("posteriors", "per-cell"), ["per-cell"]),
        "encoder.coordinates": (encoder.get("coordinates", False), [False]),
        "encoder.layers.up": (convolutional and any(c.get("up") for c in encoder["layers"]), [False]),
        "decoder.trunk.kind": (decoder["trunk"]["kind"], ["dense", "convolutional"]),
        "decoder.placement.kind": (decoder["placement"]["kind"], ["canvas", "glimpse"]),
    }
    for key, (value, known) in wanted.items():
        if value not in known:
            raise Unsupported(f"model.{key} = {json.dumps(value)}: the twins only have {json.dumps(known)}")


def read_safetensors(path):
    """name → array: a length, a JSON header, and the numbers."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "F64": np.float64}
    tensors = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[first:last], types[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).astype(np.float32)
    return tensors


class Case:
    """A case folder: the model as layers, the run's numbers, weights, images and noise."""

    def __init__(self, folder):
        folder = Path(folder)
        case = json.loads((folder / "case.json").read_text())
        model = case["model"]
        refuse_the_unknown(model)
        self.name = case["name"]
        self.image, self.batch = tuple(case["image"]), case["batch"]
        self.grid, self.cell = tuple(case["grid"]), tuple(case["cell"])
        self.rate, self.beta = case["learning_rate"], case["beta"]
        self.idle_beta, self.charge = case["idle_beta"], case["location_charge"]
        self.clip, self.radius = case["clip"], case["radius"]
        self.entities, self.dimensions = model["entities"], model["latent"]["dimensions"]
        # A union of one and a sum of one are that one.
        self.union = model["compositor"]["kind"] == "union" and self.entities > 1
        self.coordinates = model["decoder"]["coordinates"]
        self.by_brightness = model["selector"]["rank_by"] == "brightness"

        placement = model["decoder"]["placement"]
        self.glimpse = placement["kind"] == "glimpse"
        side = placement.get("patch", 32)
        self.patch = (side, side, self.image[2]) if self.glimpse else self.image
        inputs = (1, 1, self.dimensions + 2 * self.coordinates)
        self.encoder = stack("encoder", self.image, encoder_specs(model["encoder"], 2 * self.dimensions))
        self.decoder = stack("decoder", inputs, decoder_specs(model["decoder"]["trunk"], self.patch))
        self.layers = self.encoder + self.decoder

        tensors = read_safetensors(folder / "case.safetensors")
        self.images, self.noise = tensors.pop("images"), tensors.pop("noise")
        self.weights = {name.removeprefix("weights."): values for name, values in tensors.items()}
        self.check()

    @property
    def cells(self):
        return self.grid[0] * self.grid[1]

    @property
    def can_run_out(self):
        """Whether suppression could leave fewer than K candidates."""
        return (self.entities - 1) * (2 * self.radius + 1) ** 2 >= self.cells

    def check(self):
        """That the geometry written here is the one of whoever wrote the weights."""
        expected = {}
        for layer in self.layers:
            expected[f"{layer.name}.weight"] = layer.weight_shape
            expected[f"{layer.name}.bias"] = layer.weight_shape[-1:]
        found = {name: values.shape for name, values in self.weights.items()}
        if found != expected:
            raise Unsupported(f"weights of shapes {found}, but the model needs {expected}")
        if any(layer.kind == "upconvolution" and layer.kernel < layer.stride for layer in self.layers):
            raise Unsupported("a transposed convolution whose kernel is smaller than its stride")
        if self.encoder[-1].output[:2] != self.grid:
            raise Unsupported(f"a grid of {self.grid}, but the encoder ends in {self.encoder[-1].output[:2]}")
        steps = self.images.shape[0]
        shapes = (steps, self.batch, *self.image), (steps, self.batch, self.entities, self.dimensions)
        if (self.images.shape, self.noise.shape) != shapes:
            raise Unsupported(f"images and noise of shapes {self.images.shape}, {self.noise.shape}, not {shapes}")

    # ----------------------------------------------------------------------------------------- tables to look up

    def neighbours(self, radius):
        """(N, N): whether two cells are within `radius` of each other in the larger of the two directions."""
        y, x = np.divmod(np.arange(self.cells), self.grid[1])
        distance = np.maximum(abs(y[:, None] - y), abs(x[:, None] - x))
        return distance <= radius

    def centres(self):
        """(N, 2): y and x of every cell in [−1, 1]."""
        y, x = np.divmod(np.arange(self.cells), self.grid[1])
        where = [(2 * i + 1) / n - 1 for i, n in zip((y, x), self.grid)]
        return np.stack(where, 1).astype(np.float32)

    def patch_pixels(self):
        """(N, P, 2): rows and columns of the image that a patch at each cell covers, inside the image or not."""
        cells = np.stack(np.divmod(np.arange(self.cells), self.grid[1]), 1)[:, None]
        cell, patch = np.array(self.cell), np.array(self.patch[:2])
        return (2 * cells * cell + cell) // 2 - patch // 2 + np.arange(self.patch[0])[:, None]

    def pixel_of_patch(self):
        """(N, P·P): the pixel of the image on which each pixel of a patch falls; H·W for those that are cut."""
        height, width, _ = self.image
        y, x = np.moveaxis(self.patch_pixels(), 2, 0)
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        pixels = np.where(inside, y[:, :, None] * width + x[:, None], height * width)
        return pixels.reshape(self.cells, -1)

    def patch_of_pixel(self):
        """(N, H·W): the pixel of the patch that falls on each pixel of the image; P·P where none does."""
        to_image = self.pixel_of_patch()
        pixels, covered = self.image[0] * self.image[1], to_image.shape[1]
        table = np.full((self.cells, pixels + 1), covered)
        np.put_along_axis(table, to_image, np.arange(covered)[None], 1)
        return np.ascontiguousarray(table[:, :pixels])

    def placing_matrices(self):
        """R (rows, H, P) and C (columns, P, W) of 0 and 1: R · patch · C is the patch at its place among zeros."""
        y, x = np.moveaxis(self.patch_pixels().reshape(*self.grid, -1, 2), 3, 0)
        rows = y[:, 0, None, :] == np.arange(self.image[0])[:, None]
        columns = x[0, :, :, None] == np.arange(self.image[1])
        return rows.astype(np.float32), columns.astype(np.float32)

    def adam(self, step, beta1=BETA1, beta2=BETA2):
        """r and ε of p −= r · m / (√v + ε), step counted from 0; Adam's corrections of the bias are in them."""
        correction = math.sqrt(1 - beta2 ** (step + 1))
        return self.rate * correction / (1 - beta1 ** (step + 1)), EPSILON * correction


# -------------------------------------------------------------------------------------------------- the protocol


def peak_kb():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return None


class Worker:
    """Obeys the driver's lines with a twin.

    A twin is a class with `peer`, `variants(mode)`, `separate_tasks` (whether training and inference may use different
    variants), `versions()` and a constructor (case, threads, mode, variants). Its objects have `reset()`,
    `step(i) -> loss` and `decompose(i) -> (probabilities, strengths, components)` as numpy arrays. One that can use a GPU says so
    by `devices` and is given `device` and `precision` as well.
    """

    def __init__(self, twin, arguments, answers):
        self.answers, self.steps = answers, 0
        case = Case(arguments.folder)
        variants = choose(twin.variants(arguments.mode), arguments)
        if not twin.separate_tasks:
            variants["infer"] = variants["train"]
        device = {"device": arguments.device, "precision": arguments.precision} if hasattr(twin, "devices") else {}
        if arguments.device not in getattr(twin, "devices", ["cpu"]):
            raise Unsupported(f"{twin.peer} has no {arguments.device} here")
        self.batch, self.twin = case.batch, twin(case, arguments.threads, arguments.mode, variants, **device)
        versions = {"python": platform.python_version(), **twin.versions()}
        ready = {"ready": True, "peer": twin.peer, "versions": versions, "threads": arguments.threads}
        self.answer(**ready, variants=variants)

    def answer(self, **fields):
        print(json.dumps(fields), file=self.answers, flush=True)

    def train(self, count):
        times, losses = [], []
        for _ in range(count):
            start = time.perf_counter()
            losses.append(self.twin.step(self.steps))
            times.append((time.perf_counter() - start) * 1e3)
            self.steps += 1
        self.answer(ms=times, losses=losses)

    def infer(self, count):
        times = []
        for i in range(count):
            start = time.perf_counter()
            probabilities, strengths, _ = self.twin.decompose(i % self.batch)
            times.append((time.perf_counter() - start) * 1e3)
        # Lets the driver see that all decompose alike.
        self.answer(ms=times, ink=[float(probabilities.sum()), float(strengths.sum())])

    def reset(self):
        self.twin.reset()
        self.steps = 0
        self.answer()

    def obey(self, lines):
        for line in lines:
            match line.split():
                case ["train", count]:
                    self.train(int(count))
                case ["infer", count]:
                    self.infer(int(count))
                case ["reset"]:
                    self.reset()
                case ["memory"]:
                    self.answer(peak_kb=peak_kb())
                case ["quit"]:
                    return
                case _:
                    self.answer(error=f"unknown command: {line.strip()}")


def choose(variants, arguments):
    """For each task the fastest of several ways to compute the same.

    Each is tried in a process of its own, so that what the slower ones leave behind does not weigh on the measurement.
    """
    if arguments.variant:
        return {"train": arguments.variant, "infer": arguments.variant}
    if len(variants) == 1:
        return {"train": variants[0], "infer": variants[0]}
    times = {variant: trial(variant) for variant in variants}
    return {task: min(variants, key=lambda variant: times[variant][task]) for task in ("train", "infer")}


def trial(variant):
    """Seconds of one step of each task with one variant; the first ones, which compile, do not count."""
    command = [sys.executable, *sys.argv, "--variant", variant]
    lines = "infer 4\ninfer 10\ntrain 3\ntrain 5\nquit\n"
    output = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=False).stdout
    answers = [json.loads(line) for line in output.splitlines()]
    if len(answers) < 5:  # it died: never the fastest
        return {"train": math.inf, "infer": math.inf}
    return {"infer": statistics.median(answers[2]["ms"]), "train": statistics.median(answers[4]["ms"])}


def main(twin):
    parser = argparse.ArgumentParser(description=f"Worker: {twin.peer}.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--mode", default=None)
    parser.add_argument("--variant", default=None, help="instead of trying which is the fastest")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="full", choices=["full", "tf32", "bf16"], help="of products, on a GPU")
    arguments = parser.parse_args()
    # Answers alone go to stdout: what a framework prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        Worker(twin, arguments, answers).obey(sys.stdin)
    except (Unsupported, OSError) as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        sys.exit(1)
