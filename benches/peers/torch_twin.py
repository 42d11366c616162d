"""The model in PyTorch. Modes: `eager`, `compile` for torch.compile, and `graph`, on a GPU: compiled, and the whole step one CUDA graph.

Channels first, as PyTorch has it: images are (B, C, H, W) and components (B, K, C, H, W).
"""

import common
import torch
import torch.nn.functional as F
from common import LOG_VAR_LIMIT, NOTHING

ACTIVATIONS = {"relu": F.relu_, "sigmoid": torch.sigmoid_, "tanh": torch.tanh_, "identity": lambda x: x}
FORMATS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}
# From the crate's layouts to PyTorch's.
WEIGHT_ORDER = {"dense": (0, 1), "convolution": (3, 2, 0, 1), "upconvolution": (0, 3, 1, 2)}


class TorchTwin:
    peer = "torch"
    separate_tasks = False  # the weights, which both use, have one memory format
    devices = ["cpu", "cuda"]

    @staticmethod
    def variants(mode):
        return ["channels_last"] if mode in ("compile", "graph") else ["channels_last", "channels_first"]

    @staticmethod
    def versions():
        return {"torch": torch.__version__, "cuda": torch.version.cuda}

    def __init__(self, case, threads, mode, variants, device, precision):
        torch.set_default_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        # Its casts of weights must not be kept from one step to the next, which a graph would.
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
        torch.backends.cudnn.benchmark = True
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_flush_denormal(True)
        self.case = case
        self.format = FORMATS[variants["train"]]
        self.images = [self.nchw(torch.tensor(images)) for images in case.images]
        self.noise = [torch.tensor(noise) for noise in case.noise]
        self.near, self.same = (torch.tensor(case.neighbours(radius)) for radius in (case.radius, 0))
        self.centres = torch.tensor(case.centres())
        if case.glimpse:
            self.pixels = torch.tensor(case.pixel_of_patch())
        if mode in ("compile", "graph"):
            compiled = torch.compile(fullgraph=True, dynamic=False)
            self.loss, self.infer = compiled(self.loss), compiled(self.infer)
        self.parameters = {name: self.parameter(name) for name in case.weights}
        self.whole_step = mode == "graph"
        self.reset()
        if self.whole_step:
            self.capture()
            self.reset()

    def nchw(self, x):
        return x.permute(0, 3, 1, 2).contiguous(memory_format=self.format)

    def reset(self):
        # In place: a compiled function would be compiled again for other tensors.
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.parameter(name))
        if self.whole_step and hasattr(self, "graph"):
            # What was captured has its addresses.
            for state in self.optimiser.state.values():
                for value in state.values():
                    value.zero_()
            return
        values = self.parameters.values()
        self.optimiser = torch.optim.Adam(values, lr=self.case.rate, fused=True, capturable=self.whole_step)

    def capture(self):
        """Forward, backward, clipping and Adam as one graph over the same buffers, after a few steps that allocate them."""
        self.inputs = self.images[0].clone(), self.noise[0].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.update(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.captured_loss = self.update(*self.inputs)

    def parameter(self, name):
        layer = next(layer for layer in self.case.layers if name.startswith(f"{layer.name}."))
        values = torch.tensor(self.case.weights[name])
        if name.endswith("weight"):
            values = values.permute(WEIGHT_ORDER[layer.kind]).contiguous()
        if values.dim() == 4:
            values = values.contiguous(memory_format=self.format)
        return values.requires_grad_()

    # ------------------------------------------------------------------------------------------------- the model

    def run(self, layers, x):
        for layer in layers:
            weight, bias = self.parameters[f"{layer.name}.weight"], self.parameters[f"{layer.name}.bias"]
            x = ACTIVATIONS[layer.activation](LINEAR[layer.kind](layer, x, weight, bias))
            if layer.makes_map:
                height, width, channels = layer.output
                x = x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        return x.float()  # what autocast has made bf16 of; else as it is

    def encode(self, images):
        """(B, C, H, W) → parameters of the candidates (B, N, 2D)."""
        x = self.run(self.case.encoder, images)
        return x[:, None] if x.dim() == 2 else channels_last(x).flatten(1, 2)

    def posterior(self, parameters):
        """μ, log σ² and the KL from the prior."""
        mean, log_var = parameters.split(self.case.dimensions, -1)
        log_var = log_var.clamp(-LOG_VAR_LIMIT, LOG_VAR_LIMIT)
        return mean, log_var, 0.5 * (log_var.exp() + mean.square() - log_var - 1).sum(-1)

    def select(self, scores):
        """(B, N) → the K best cells that are not near a better one, best first: (B, K)."""
        cells = []
        blocked = kept = torch.zeros_like(scores, dtype=torch.bool)
        for _ in range(self.case.entities):
            candidates = scores.masked_fill(blocked, -torch.inf)
            if self.case.can_run_out:
                rest = scores.masked_fill(kept, -torch.inf)
                candidates = torch.where(blocked.all(1, keepdim=True), rest, candidates)
            cells.append(candidates.argmax(1))
            blocked, kept = blocked | self.near[cells[-1]], kept | self.same[cells[-1]]
        return torch.stack(cells, 1)

    def entities(self, images):
        """All posteriors (B, N, 2D), the kept ones (B, K, 2D) and their cells."""
        parameters = self.encode(images)
        b, n, numbers = parameters.shape
        if self.case.by_brightness:
            scores = F.avg_pool2d(images, self.case.cell).mean(1).flatten(1)
        else:
            scores = self.posterior(parameters.detach())[2]
        cells = self.select(scores)
        rows = cells + torch.arange(b, device=cells.device)[:, None] * n
        return parameters, parameters.reshape(b * n, numbers)[rows.flatten()].reshape(b, -1, numbers), cells

    def components(self, z, cells):
        """z (B, K, D) → components (B, K, C, H, W)."""
        b, k = cells.shape
        if self.case.coordinates:
            z = torch.cat([z, self.centres[cells]], 2)
        height, width, channels = self.case.patch
        patches = self.run(self.case.decoder, z.flatten(0, 1))[:, :, :height, :width]
        if self.case.glimpse:
            patches = self.place(patches, cells)
        return patches.reshape(b, k, channels, *self.case.image[:2])

    def place(self, patches, cells):
        """Patches (B·K, C, P, P) on canvases of nothing; what is cut goes to one pixel too many, which is dropped."""
        pixels = self.case.image[0] * self.case.image[1]
        m, channels = patches.shape[:2]
        index = self.pixels[cells.flatten()][:, None].expand(m, channels, -1)
        canvases = patches.new_full((m, channels, pixels + 1), NOTHING)
        return canvases.scatter(2, index, patches.flatten(2))[:, :, :pixels]

    def compose(self, components):
        """Logits of all but a union."""
        k = self.case.entities
        return components[:, 0] if k == 1 else components.sum(1) - NOTHING * (k - 1)

    def nats(self, components, images):
        """−log p(x|z), summed over the batch."""
        if not self.case.union:
            return F.binary_cross_entropy_with_logits(self.compose(components), images, reduction="sum")
        empty = F.softplus(components).sum(1)  # −log Π (1 − p_k)
        ink = (-torch.expm1(-empty)).clamp_min(torch.finfo(torch.float32).tiny)
        return torch.lerp(empty, -ink.log(), images).sum()

    def loss(self, images, noise):
        candidates, entities, cells = self.entities(images)
        mean, log_var, kl = self.posterior(entities)
        z = mean + (log_var / 2).exp() * noise
        total = self.nats(self.components(z, cells), images) + self.case.beta * kl.sum()
        if self.case.idle_beta:
            total = total + self.case.idle_beta * (self.posterior(candidates)[2].sum() - kl.sum())
        if self.case.charge:
            total = total + self.case.charge * -torch.expm1(-kl / 2).sum()
        return total / images.shape[0]

    def infer(self, images):
        """The composed image's probabilities (B, C, H, W), the entities' strengths (B, K, H, W), and components."""
        _, entities, cells = self.entities(images)
        components = self.components(self.posterior(entities)[0], cells)
        strengths = torch.sigmoid(components.amax(2) if self.case.image[2] > 1 else components[:, :, 0])
        if self.case.union:
            return -torch.expm1(-F.softplus(components).sum(1)), strengths, components
        return torch.sigmoid(self.compose(components)), strengths, components

    # ------------------------------------------------------------------------------------------------- the tasks

    def step(self, i):
        i %= len(self.images)
        if not self.whole_step:
            return self.update(self.images[i], self.noise[i]).item()
        for static, new in zip(self.inputs, (self.images[i], self.noise[i])):
            static.copy_(new)
        self.graph.replay()
        return self.captured_loss.item()

    def update(self, images, noise):
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast:
            loss = self.loss(images, noise)
        loss.backward()
        if self.case.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.case.clip, foreach=True)
        self.optimiser.step()
        return loss.detach()

    def decompose(self, i):
        with torch.inference_mode():
            return [x.cpu().numpy() for x in self.infer(self.images[0][i : i + 1])]


def channels_last(x):
    return x.permute(0, 2, 3, 1)


def dense(layer, x, weight, bias):
    if x.dim() == 4:  # flattened channels last
        x = channels_last(x).flatten(1)
    return torch.addmm(bias, x, weight)


def convolution(layer, x, weight, bias):
    (top, bottom), (left, right) = layer.padding
    if (top, left) == (bottom, right):
        return F.conv2d(x, weight, bias, stride=layer.stride, padding=(top, left))
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride=layer.stride)


def upconvolution(layer, x, weight, bias):
    (top, bottom), (left, right) = layer.padding
    if (top, left) == (bottom, right):
        return F.conv_transpose2d(x, weight, bias, stride=layer.stride, padding=(top, left))
    y = F.conv_transpose2d(x, weight, bias, stride=layer.stride)
    return y[:, :, top : top + layer.output[0], left : left + layer.output[1]]


LINEAR = {"dense": dense, "convolution": convolution, "upconvolution": upconvolution}

if __name__ == "__main__":
    common.main(TorchTwin)
