"""The model in JAX.

Channels last: images are (B, H, W, C) and components (B, K, H, W, C).
"""

from functools import partial

import common
import jax
import jax.numpy as jnp
import numpy as np
from common import BETA1, BETA2, LOG_VAR_LIMIT, NOTHING
from jax import lax

ACTIVATIONS = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "identity": lambda x: x}


class JaxTwin:
    peer = "jax"
    separate_tasks = False

    @staticmethod
    def variants(_):
        return ["jit"]

    @staticmethod
    def versions():
        return {"jax": jax.__version__}

    def __init__(self, case, _threads, _mode, _variants):
        # XLA takes as many threads as the process may use cores.
        self.case = case
        self.images, self.noise = [*map(jnp.asarray, case.images)], [*map(jnp.asarray, case.noise)]
        self.near, self.same = (jnp.asarray(case.neighbours(radius)) for radius in (case.radius, 0))
        self.centres = jnp.asarray(case.centres())
        if case.glimpse:
            self.patch_of_pixel, self.pixel_of_patch = (
                jnp.asarray(table, jnp.int32) for table in (case.patch_of_pixel(), case.pixel_of_patch())
            )
        self.train, self.infer = jax.jit(self.train, donate_argnums=0), jax.jit(self.infer)
        self.reset()

    def reset(self):
        weights = {name: jnp.array(values) for name, values in self.case.weights.items()}
        zeros = [{name: jnp.zeros_like(values) for name, values in weights.items()} for _ in range(2)]
        self.steps, self.state = 0, (weights, *zeros)

    # ------------------------------------------------------------------------------------------------- the model

    def run(self, weights, layers, x):
        for layer in layers:
            weight, bias = weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"]
            x = ACTIVATIONS[layer.activation](LINEAR[layer.kind](layer, x, weight) + bias)
            if layer.makes_map:
                x = x.reshape(-1, *layer.output)
        return x

    def posterior(self, parameters):
        """μ, log σ² and the KL from the prior."""
        mean, log_var = jnp.split(parameters, 2, -1)
        log_var = jnp.clip(log_var, -LOG_VAR_LIMIT, LOG_VAR_LIMIT)
        return mean, log_var, 0.5 * (jnp.exp(log_var) + mean**2 - log_var - 1).sum(-1)

    def select(self, scores):
        """(B, N) → the K best cells that are not near a better one, best first: (B, K)."""
        cells = []
        blocked = kept = jnp.zeros_like(scores, bool)
        for _ in range(self.case.entities):
            candidates = jnp.where(blocked, -jnp.inf, scores)
            if self.case.can_run_out:
                rest = jnp.where(kept, -jnp.inf, scores)
                candidates = jnp.where(blocked.all(1, keepdims=True), rest, candidates)
            cells.append(candidates.argmax(1))
            blocked, kept = blocked | self.near[cells[-1]], kept | self.same[cells[-1]]
        return jnp.stack(cells, 1)

    def entities(self, weights, images):
        """All posteriors (B, N, 2D), the kept ones (B, K, 2D) and their cells."""
        b, n = images.shape[0], self.case.cells
        parameters = self.run(weights, self.case.encoder, images).reshape(b, n, -1)
        if self.case.by_brightness:
            (rows, columns), (height, width) = self.case.grid, self.case.cell
            scores = images.reshape(b, rows, height, columns, width, -1).mean((2, 4, 5)).reshape(b, n)
        else:
            scores = self.posterior(lax.stop_gradient(parameters))[2]
        cells = self.select(scores)
        kept = jnp.take_along_axis(parameters, cells[:, :, None], 1, mode="promise_in_bounds")
        return parameters, kept, cells

    def components(self, weights, z, cells):
        """z (B, K, D) → components (B, K, H, W, C)."""
        if self.case.coordinates:
            z = jnp.concatenate([z, self.centres[cells]], 2)
        height, width, _ = self.case.patch
        patches = self.run(weights, self.case.decoder, z.reshape(-1, z.shape[2]))[:, :height, :width]
        if self.case.glimpse:
            patches = patches.reshape(patches.shape[0], -1, self.case.image[2])
            patches = place(patches, self.patch_of_pixel[cells.ravel()], self.pixel_of_patch[cells.ravel()])
        return patches.reshape(*cells.shape, *self.case.image)

    def compose(self, components):
        """Logits of all but a union."""
        return components.sum(1) - NOTHING * (self.case.entities - 1)

    def nats(self, components, images):
        """−log p(x|z), summed over the batch."""
        if not self.case.union:
            logits = self.compose(components)
            return (jax.nn.softplus(logits) - images * logits).sum()
        empty = jax.nn.softplus(components).sum(1)  # −log Π (1 − p_k)
        ink = jnp.maximum(-jnp.expm1(-empty), np.finfo(np.float32).tiny)
        return (empty - images * (jnp.log(ink) + empty)).sum()

    def loss(self, weights, images, noise):
        candidates, entities, cells = self.entities(weights, images)
        mean, log_var, kl = self.posterior(entities)
        z = mean + jnp.exp(log_var / 2) * noise
        total = self.nats(self.components(weights, z, cells), images) + self.case.beta * kl.sum()
        total += self.case.idle_beta * (self.posterior(candidates)[2].sum() - kl.sum())
        total -= self.case.charge * jnp.expm1(-kl / 2).sum()
        return total / images.shape[0]

    # ------------------------------------------------------------------------------------------------- the tasks

    def train(self, state, images, noise, rate, epsilon):
        weights, means, squares = state
        loss, gradients = jax.value_and_grad(self.loss)(weights, images, noise)
        scale = 1.0
        if self.case.clip:
            norm = jnp.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
            scale = jnp.minimum(1.0, self.case.clip / norm)

        def adam(weight, mean, square, gradient):
            gradient = gradient * scale
            mean = BETA1 * mean + (1 - BETA1) * gradient
            square = BETA2 * square + (1 - BETA2) * gradient**2
            return weight - rate * mean / (jnp.sqrt(square) + epsilon), mean, square

        updated = {name: adam(weights[name], means[name], squares[name], gradients[name]) for name in weights}
        return tuple({name: new[part] for name, new in updated.items()} for part in range(3)), loss

    def infer(self, weights, images):
        """The composed image's probabilities (B, H, W, C), the entities' strengths (B, K, H, W), and components."""
        _, entities, cells = self.entities(weights, images)
        components = self.components(weights, self.posterior(entities)[0], cells)
        strengths = jax.nn.sigmoid(components.max(4))
        if self.case.union:
            return -jnp.expm1(-jax.nn.softplus(components).sum(1)), strengths, components
        return jax.nn.sigmoid(self.compose(components)), strengths, components

    def step(self, i):
        rate, epsilon = (np.float32(x) for x in self.case.adam(self.steps))
        self.steps += 1
        i %= len(self.images)
        self.state, loss = self.train(self.state, self.images[i], self.noise[i], rate, epsilon)
        return float(loss)

    def decompose(self, i):
        return [np.asarray(x) for x in self.infer(self.state[0], self.images[0][i : i + 1])]


@jax.custom_vjp
def place(patches, forward, _backward):
    """Patches (M, P·P, C) on canvases of nothing. No two pixels of a patch share a place: its gradient is a look-up."""
    return look_up(patches, forward, NOTHING)


def look_up(x, indices, otherwise):
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 0)), constant_values=otherwise)
    return jnp.take_along_axis(x, indices[:, :, None], 1, mode="promise_in_bounds")


place.defvjp(
    lambda patches, forward, backward: (look_up(patches, forward, NOTHING), backward),
    lambda backward, gradient: (look_up(gradient, backward, 0.0), None, None),
)


def dense(_, x, weight):
    return x.reshape(x.shape[0], -1) @ weight


# Convolutions. `down` goes from a large map to a small one, `up` is its adjoint, and each is the other's input
# gradient. This is written out because what XLA derives by itself is up to twenty times slower on a CPU. Kernels are
# (k, k, channels of the large map, channels of the small one) here.


def strided(layer, large, weight):
    strides, names = (layer.stride, layer.stride), ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(large, weight, strides, layer.padding, dimension_numbers=names)


def weight_gradient(layer, large, small, weight):
    return jax.vjp(partial(strided, layer, large), weight)[1](small)[0]


def spread(layer, extent, small, weight):
    """The adjoint of `strided`: a convolution that makes all pixels of an s×s cell at once, as s·s·C channels."""
    k, s = layer.kernel, layer.stride
    taps = -(-k // s)  # cells side by side under the kernel; zeros where it does not fill the last one
    weight = jnp.pad(weight, ((0, taps * s - k), (0, taps * s - k), (0, 0), (0, 0)))
    channels = weight.shape[2]
    weight = weight.reshape(taps, s, taps, s, channels, -1)[::-1, :, ::-1]
    weight = weight.transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, -1, s * s * channels)
    reach, names = (taps - 1, taps - 1), ("NHWC", "HWIO", "NHWC")
    cells = lax.conv_general_dilated(small, weight, (1, 1), (reach, reach), dimension_numbers=names)
    b, rows, columns, _ = cells.shape
    large = cells.reshape(b, rows, columns, s, s, channels).transpose(0, 1, 3, 2, 4, 5)
    large = large.reshape(b, rows * s, columns * s, channels)
    (top, _), (left, _) = layer.padding
    return large[:, top : top + extent[0], left : left + extent[1]]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def down(layer, large, weight):
    return strided(layer, large, weight)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def up(layer, small, weight):
    return spread(layer, layer.output, small, weight)


def down_forward(layer, large, weight):
    return down(layer, large, weight), (large, weight)


def down_backward(layer, kept, gradient):
    large, weight = kept
    return spread(layer, layer.input, gradient, weight), weight_gradient(layer, large, gradient, weight)


def up_forward(layer, small, weight):
    return up(layer, small, weight), (small, weight)


def up_backward(layer, kept, gradient):
    small, weight = kept
    return strided(layer, gradient, weight), weight_gradient(layer, gradient, small, weight)


down.defvjp(down_forward, down_backward)
up.defvjp(up_forward, up_backward)

LINEAR = {
    "dense": dense,
    "convolution": down,
    "upconvolution": lambda layer, x, weight: up(layer, x, weight.transpose(1, 2, 3, 0)),
}

if __name__ == "__main__":
    common.main(JaxTwin)
