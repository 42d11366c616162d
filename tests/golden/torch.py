"""Write torch.json: loss, every gradient and ten Adam steps of tiny models, computed by PyTorch in float64.

Run with PyTorch installed:  python torch.py

The models are written here a second time, from the documentation and not from the Rust code: channels-first convolutions,
compositors on probabilities, selection as two loops. Each case carries its configuration (the crate's own serialised
`ModelConfig`), weights in the crate's layouts, images and noise, so that the Rust side needs nothing else.
"""

import json
import math
import sys
from pathlib import Path

# This file has the name of the library it needs.
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != Path(__file__).resolve().parent]

import torch
import torch.nn.functional as F

NOTHING = -16.0
STEPS, RATE = 10, 0.01

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def dense(*hidden, activation="relu"):
    return {"kind": "dense", "hidden": list(hidden), "activation": activation}


def convolution(channels, kernel, stride):
    return {"channels": channels, "kernel": kernel, "stride": stride}


def convolutional(*layers, activation="relu", coordinates=False):
    layers = [convolution(*layer) for layer in layers]
    return {
        "kind": "convolutional",
        "layers": layers,
        "activation": activation,
        "posteriors": "per-cell",
        "coordinates": coordinates,
    }


def upward(hidden, base, layers, kernel, stride, activation):
    return {
        "kind": "convolutional",
        "hidden": hidden,
        "base": base,
        "layers": [convolution(*layer) for layer in layers],
        "kernel": kernel,
        "stride": stride,
        "activation": activation,
    }


def model(encoder, latent, trunk, entities=1, radius=0, patch=None, coordinates=False, compositor="union", deviation=None):
    placement = {"kind": "canvas"} if patch is None else {"kind": "glimpse", "patch": patch}
    likelihood = {"kind": "bernoulli"} if deviation is None else {"kind": "gaussian", "deviation": deviation}
    compositor = {"kind": compositor}
    if compositor["kind"] == "render":
        compositor["features"] = 3
    return {
        "encoder": encoder,
        "latent": latent,
        "selector": {"rank_by": "kl", "radius": float(radius)},
        "entities": entities,
        "decoder": {"placement": placement, "trunk": trunk, "coordinates": coordinates},
        "compositor": compositor,
        "likelihood": likelihood,
    }


def gaussian(dimensions, beta=1.0):
    return {"kind": "gaussian", "dimensions": dimensions, "beta": beta}


POINT = {"kind": "point", "dimensions": 4, "activation": "relu"}
SMALL = convolutional((3, 4, 2), (4, 3, 1))

# Name, image (height, width, channels), batch, weights of the loss (beta, idle beta, location charge), model.
CASES = [
    ("vae", (6, 5, 1), 3, (2.0, 0.0, 0.0), model(dense(7), gaussian(3, 2.0), dense(7))),
    ("autoencoder", (6, 5, 1), 3, (0.0, 0.0, 0.0), model(dense(), POINT, dense())),
    (
        "multi-entity",
        (8, 7, 1),
        2,
        (1.0, 0.0, 0.5),
        model(SMALL, gaussian(3), dense(5), entities=2, radius=1, patch=5),
    ),
    (
        "canvas, transposed convolutions, sum",
        (8, 7, 1),
        2,
        (0.5, 0.25, 0.0),
        model(
            convolutional((3, 4, 2), (4, 3, 1), activation="tanh"),
            gaussian(3, 0.5),
            upward([4], 2, [(3, 4, 2)], 3, 2, "tanh"),
            entities=2,
            radius=1,
            compositor="sum",
        ),
    ),
    (
        "mixture in colour with coordinates",
        (8, 8, 3),
        1,
        (1.0, 0.125, 0.0),
        model(
            convolutional((3, 5, 2), (3, 2, 2), activation="sigmoid", coordinates=True),
            gaussian(2),
            dense(4, activation="sigmoid"),
            entities=3,
            patch=4,
            coordinates=True,
            compositor="mixture",
            deviation=0.25,
        ),
    ),
    ("max", (8, 7, 1), 1, (1.0, 0.0, 0.0), model(SMALL, gaussian(2), dense(), entities=3, patch=6, compositor="max")),
    (
        "render",
        (5, 6, 1),
        1,
        (1.0, 0.5, 0.0),
        model(SMALL, gaussian(2), upward([], 2, [], 4, 2, "relu"), entities=2, compositor="render"),
    ),
]

ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": lambda x: x}


class Weights:
    """Makes parameters the first time they are asked for, rounded so that the file stays short."""

    def __init__(self, generator):
        self.generator, self.all = generator, {}

    def get(self, name, *shape, scale):
        if name not in self.all:
            values = torch.randn(shape, generator=self.generator) * scale
            self.all[name] = (values * 1e4).round().div(1e4).requires_grad_()
        assert self.all[name].shape == shape
        return self.all[name]


class Stack:
    """Layers one after the other on channels-first maps, parameters numbered from 0."""

    def __init__(self, weights, prefix, x):
        self.weights, self.prefix, self.index, self.x = weights, prefix, 0, x

    def parameters(self, shape, outputs, fan_in):
        name = f"{self.prefix}.{self.index}"
        self.index += 1
        weight = self.weights.get(f"{name}.weight", *shape, scale=1.2 / math.sqrt(fan_in))
        return weight, self.weights.get(f"{name}.bias", outputs, scale=0.2)

    def dense(self, outputs, activation):
        # Maps are flattened with the channels last.
        x = self.x.permute(0, 2, 3, 1).flatten(1) if self.x.dim() == 4 else self.x
        weight, bias = self.parameters((x.shape[1], outputs), outputs, x.shape[1])
        self.x = ACTIVATIONS[activation](x @ weight + bias)

    def convolution(self, layer, activation):
        k, s, channels = layer["kernel"], layer["stride"], layer["channels"]
        inputs = self.x.shape[1]
        weight, bias = self.parameters((k, k, inputs, channels), channels, k * k * inputs)
        padding = []
        for side in (self.x.shape[3], self.x.shape[2]):
            first = max(k - s, 0) // 2
            padding += [first, (math.ceil(side / s) - 1) * s + k - side - first]
        y = F.conv2d(F.pad(self.x, padding), weight.permute(3, 2, 0, 1).contiguous(), bias, stride=s)
        self.x = ACTIVATIONS[activation](y)

    def upconvolution(self, layer, activation):
        k, s, channels = layer["kernel"], layer["stride"], layer["channels"]
        b, inputs, height, width = self.x.shape
        weight, bias = self.parameters((inputs, k, k, channels), channels, k * k * inputs / s / s)
        y = F.conv_transpose2d(self.x, weight.permute(0, 3, 1, 2).contiguous(), bias, stride=s)
        first = (k - s) // 2
        self.x = ACTIVATIONS[activation](y[:, :, first : first + height * s, first : first + width * s])

    def reshape(self, height, width, channels):
        self.x = self.x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


def centre(i, n):
    return (2 * i + 1) / n - 1


def encode(config, images, weights):
    """(B, H, W, C) → parameters of the posteriors (B, rows, columns, numbers)."""
    encoder, latent = config["encoder"], config["latent"]
    numbers = latent["dimensions"] * (2 if latent["kind"] == "gaussian" else 1)
    b, h, w, _ = images.shape
    x = images
    if encoder.get("coordinates"):
        grid = torch.tensor([[[centre(y, h), centre(x, w)] for x in range(w)] for y in range(h)])
        x = torch.cat([x, grid.expand(b, h, w, 2)], 3)
    stack = Stack(weights, "encoder", x.permute(0, 3, 1, 2))
    if encoder["kind"] == "dense":
        for width in encoder["hidden"]:
            stack.dense(width, encoder["activation"])
        stack.dense(numbers, "identity")
        return stack.x.reshape(b, 1, 1, numbers)
    for layer in encoder["layers"]:
        stack.convolution(layer, encoder["activation"])
    stack.convolution(convolution(numbers, 1, 1), "identity")
    return stack.x.permute(0, 2, 3, 1)


def select(scores, k, radius, columns):
    """Best first, none near a better one unless there is no other way."""
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], n))
    kept = []
    for n in order:
        near = [max(abs(n // columns - m // columns), abs(n % columns - m % columns)) <= radius for m in kept]
        if len(kept) < k and not any(near):
            kept.append(n)
    return kept + [n for n in order if n not in kept][: k - len(kept)]


def decode(config, z, cells, grid, image, channels, weights):
    """z (B, K, D) → components (B, K, H, W, channels)."""
    decoder = config["decoder"]
    (rows, columns), (h, w) = grid, image
    b, k, _ = z.shape
    if decoder["coordinates"]:
        where = [[[centre(n // columns, rows), centre(n % columns, columns)] for n in kept] for kept in cells]
        z = torch.cat([z, torch.tensor(where)], 2)
    glimpse = decoder["placement"]["kind"] == "glimpse"
    height, width = (decoder["placement"]["patch"],) * 2 if glimpse else image
    trunk = decoder["trunk"]
    stack = Stack(weights, "decoder", z.flatten(0, 1))
    for hidden in trunk["hidden"]:
        stack.dense(hidden, trunk["activation"])
    if trunk["kind"] == "dense":
        stack.dense(height * width * channels, "identity")
        stack.reshape(height, width, channels)
    else:
        up = math.prod(layer["stride"] for layer in trunk["layers"]) * trunk["stride"]
        small = (math.ceil(height / up), math.ceil(width / up), trunk["base"])
        stack.dense(math.prod(small), trunk["activation"])
        stack.reshape(*small)
        for layer in trunk["layers"]:
            stack.upconvolution(layer, trunk["activation"])
        stack.upconvolution(convolution(channels, trunk["kernel"], trunk["stride"]), "identity")
    patches = stack.x.permute(0, 2, 3, 1)[:, :height, :width].reshape(b, k, height, width, channels)
    if not glimpse:
        return patches
    # Corners of patches whose centres are those of the cells; a margin takes what leaves the image.
    sides = [math.prod(layer["stride"] for layer in config["encoder"]["layers"])] * 2
    nothing = 0.0 if config["compositor"]["kind"] == "render" else NOTHING
    margin = max(height, width) + max(sides)
    canvases = []
    for i in range(b):
        for j in range(k):
            y = cells[i][j] // columns * sides[0] + sides[0] // 2 - height // 2
            x = cells[i][j] % columns * sides[1] + sides[1] // 2 - width // 2
            padding = [margin + x, margin + w - x - width, margin + y, margin + h - y - height]
            canvas = F.pad(patches[i, j].permute(2, 0, 1), padding, value=nothing)
            canvases.append(canvas[:, margin : margin + h, margin : margin + w].permute(1, 2, 0))
    return torch.stack(canvases).reshape(b, k, h, w, channels)


def compose(config, components, channels, weights):
    """Components → logits (B, H, W, C)."""
    kind = config["compositor"]["kind"]
    if kind == "union":
        none = F.softplus(components).sum(1)  # −log Π (1 − p_k)
        return torch.log(torch.expm1(none))
    if kind == "sum":
        return NOTHING + (components - NOTHING).sum(1)
    if kind == "max":
        return components.amax(1)
    if kind == "mixture":
        background = weights.get("compositor.background", channels, scale=1.0)
        masks = components[..., channels:]
        shares = torch.softmax(torch.cat([torch.zeros_like(masks[:, :1]), masks], 1), 1)
        ink = shares[:, 0] * torch.sigmoid(background)
        ink = ink + (shares[:, 1:] * torch.sigmoid(components[..., :channels])).sum(1)
        return torch.log(ink) - torch.log1p(-ink)
    stack = Stack(weights, "compositor", components.sum(1).permute(0, 3, 1, 2))
    stack.convolution(convolution(config["compositor"]["features"], 3, 1), "relu")
    stack.convolution(convolution(channels, 3, 1), "identity")
    return stack.x.permute(0, 2, 3, 1)


def loss(config, terms, images, noise, weights):
    """The loss and the cells of the entities that were kept."""
    b, h, w, channels = images.shape
    latent, k = config["latent"], config["entities"]
    d = latent["dimensions"]
    parameters = encode(config, images, weights)
    grid = parameters.shape[1:3]
    parameters = parameters.flatten(1, 2)
    if latent["kind"] == "point":
        mean, kl = ACTIVATIONS[latent["activation"]](parameters), torch.zeros(b, parameters.shape[1])
        z = mean
    else:
        mean, log_var = parameters[..., :d], parameters[..., d:].clamp(-10, 10)
        q = torch.distributions.Normal(mean, (log_var / 2).exp())
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(2)
        z = None
    cells = [select(row.tolist(), k, int(config["selector"]["radius"]), grid[1]) for row in kl.detach()]
    index = torch.tensor(cells)
    kept = lambda x: torch.gather(x, 1, index[..., None].expand(b, k, x.shape[2]))
    z = kept(z) if z is not None else kept(mean) + (kept(log_var) / 2).exp() * noise
    every, kl = kl, torch.gather(kl, 1, index)
    extra = {"mixture": channels + 1, "render": 3}
    component_channels = extra.get(config["compositor"]["kind"], channels)
    components = decode(config, z, cells, grid, (h, w), component_channels, weights)
    logits = compose(config, components, channels, weights)
    if config["likelihood"]["kind"] == "bernoulli":
        nats = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    else:
        p = torch.distributions.Normal(torch.sigmoid(logits), config["likelihood"]["deviation"])
        nats = -p.log_prob(images).sum()
    beta, idle_beta, charge = terms
    total = nats + beta * kl.sum() + idle_beta * (every.sum() - kl.sum()) + charge * (1 - torch.exp(-kl / 2)).sum()
    return total / b, cells


def numbers(tensor):
    return tensor.detach().flatten().tolist()


def main():
    cases = []
    for seed, (name, image, batch, terms, config) in enumerate(CASES):
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand((batch, *image), generator=generator).mul(100).round().div(100)
        noise = torch.randn((batch, config["entities"], config["latent"]["dimensions"]), generator=generator)
        noise = noise.mul(1e4).round().div(1e4)
        weights = Weights(generator)
        first, cells = loss(config, terms, images, noise, weights)
        start = {key: numbers(weight) for key, weight in weights.all.items()}
        first.backward()
        gradients = {key: [float(f"{g:.12g}") for g in numbers(w.grad)] for key, w in weights.all.items()}
        assert all(any(gradient) for gradient in gradients.values()), name
        adam = torch.optim.Adam(weights.all.values(), lr=RATE)
        losses = []
        for _ in range(STEPS):
            adam.zero_grad()
            value, _ = loss(config, terms, images, noise, weights)
            value.backward()
            adam.step()
            losses.append(value.item())
        parameters = {
            key: {"shape": list(weight.shape), "start": start[key], "gradient": gradients[key]}
            for key, weight in sorted(weights.all.items())
        }
        cases.append(
            {
                "name": name,
                "image": image,
                "batch": batch,
                "beta": terms[0],
                "idle_beta": terms[1],
                "location_charge": terms[2],
                "model": config,
                "images": numbers(images),
                "noise": numbers(noise),
                "cells": cells,
                "loss": first.item(),
                "losses": losses,
                "parameters": parameters,
            }
        )
    golden = {"torch": torch.__version__, "rate": RATE, "cases": cases}
    lines = json.dumps(golden, separators=(",", ":")).replace('{"name"', '\n{"name"').replace('"parameters"', '\n"parameters"')
    Path(__file__).with_suffix(".json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
