"""The model in TensorFlow. Variants: `graph` (a tf.function on oneDNN) and `xla` (the same with jit_compile).

Channels last: images are (B, H, W, C) and components (B, K, H, W, C).
"""

import common
import numpy as np
import tensorflow as tf
from common import LOG_VAR_LIMIT, NOTHING

# The optimiser's kernel forms 1 − β from the rounded β, so that the corrections must be those of the rounded one too.
BETA1, BETA2 = float(np.float32(common.BETA1)), float(np.float32(common.BETA2))
ACTIVATIONS = {"relu": tf.nn.relu, "sigmoid": tf.sigmoid, "tanh": tf.tanh, "identity": tf.identity}


class TensorflowTwin:
    peer = "tensorflow"
    separate_tasks = True

    @staticmethod
    def variants(_):
        return ["graph", "xla"]

    @staticmethod
    def versions():
        return {"tensorflow": tf.__version__}

    def __init__(self, case, threads, _, variants):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.case = case
        self.images = [tf.constant(images) for images in case.images]
        self.noise = [tf.constant(noise) for noise in case.noise]
        self.near, self.same = (tf.constant(case.neighbours(radius)) for radius in (case.radius, 0))
        self.centres = tf.constant(case.centres())
        self.weights = {name: tf.Variable(values) for name, values in self.initial().items()}
        self.means = [tf.Variable(tf.zeros_like(weight)) for weight in self.weights.values()]
        self.squares = [tf.Variable(tf.zeros_like(weight)) for weight in self.weights.values()]
        self.place = {"graph": self.placing_by_products, "xla": self.placing_by_gathering}
        self.train, self.infer = (self.function(getattr(self, task), variants[task]) for task in ("train", "infer"))
        self.steps = 0

    def function(self, task, variant):
        place = self.place[variant]() if self.case.glimpse else None
        return tf.function(lambda *inputs: task(place, *inputs), jit_compile=variant == "xla")

    def initial(self):
        """The weights; those of transposed convolutions as (k, k, channels out, channels in)."""
        up = {f"{layer.name}.weight" for layer in self.case.layers if layer.kind == "upconvolution"}
        return {name: np.moveaxis(w, 0, 3) if name in up else w for name, w in self.case.weights.items()}

    def reset(self):
        self.steps = 0
        for name, values in self.initial().items():
            self.weights[name].assign(values)
        for moment in self.means + self.squares:
            moment.assign(tf.zeros_like(moment))

    # ------------------------------------------------------------------------------------------------- the model

    def run(self, layers, x):
        for layer in layers:
            weight, bias = self.weights[f"{layer.name}.weight"], self.weights[f"{layer.name}.bias"]
            x = ACTIVATIONS[layer.activation](tf.nn.bias_add(LINEAR[layer.kind](layer, x, weight), bias))
            if layer.makes_map:
                x = tf.reshape(x, [-1, *layer.output])
        return x

    def posterior(self, parameters):
        """μ, log σ² and the KL from the prior."""
        mean, log_var = tf.split(parameters, 2, -1)
        log_var = tf.clip_by_value(log_var, -LOG_VAR_LIMIT, LOG_VAR_LIMIT)
        return mean, log_var, 0.5 * tf.reduce_sum(tf.exp(log_var) + tf.square(mean) - log_var - 1, -1)

    def select(self, scores):
        """(B, N) → the K best cells that are not near a better one, best first: (B, K)."""
        cells = []
        blocked = kept = tf.zeros_like(scores, tf.bool)
        for _ in range(self.case.entities):
            candidates = tf.where(blocked, -np.inf, scores)
            if self.case.can_run_out:
                rest = tf.where(kept, -np.inf, scores)
                candidates = tf.where(tf.reduce_all(blocked, 1, keepdims=True), rest, candidates)
            cells.append(tf.argmax(candidates, 1, tf.int32))
            blocked |= tf.gather(self.near, cells[-1])
            kept |= tf.gather(self.same, cells[-1])
        return tf.stack(cells, 1)

    def entities(self, images):
        """All posteriors (B, N, 2D), the kept ones (B, K, 2D) and their cells."""
        b, n = images.shape[0], self.case.cells
        parameters = tf.reshape(self.run(self.case.encoder, images), [b, n, -1])
        if self.case.by_brightness:
            means = tf.nn.avg_pool2d(images, self.case.cell, self.case.cell, "VALID")
            scores = tf.reshape(tf.reduce_mean(means, 3), [b, n])
        else:
            scores = self.posterior(tf.stop_gradient(parameters))[2]
        cells = self.select(scores)
        rows = cells + tf.range(b)[:, None] * n
        return parameters, tf.gather(tf.reshape(parameters, [-1, parameters.shape[2]]), rows), cells

    def components(self, place, z, cells):
        """z (B, K, D) → components (B, K, H, W, C)."""
        if self.case.coordinates:
            z = tf.concat([z, tf.gather(self.centres, cells)], 2)
        height, width, _ = self.case.patch
        patches = self.run(self.case.decoder, tf.reshape(z, [-1, z.shape[2]]))
        patches = patches[:, :height, :width]
        if place:
            patches = place(patches, tf.reshape(cells, [-1]))
        return tf.reshape(patches, [*cells.shape, *self.case.image])

    def placing_by_products(self):
        """Patches (B·K, P, P, C) to their places, as products with matrices of zeros and ones."""
        rows, columns = map(tf.constant, self.case.placing_matrices())

        def place(patches, cells):
            y, x = cells // self.case.grid[1], cells % self.case.grid[1]
            ink = tf.transpose(patches - NOTHING, [3, 0, 1, 2])  # of each channel
            placed = tf.matmul(tf.matmul(tf.gather(rows, y), ink), tf.gather(columns, x))
            return tf.transpose(placed, [1, 2, 3, 0]) + NOTHING

        return place

    def placing_by_gathering(self):
        """The same as look-ups. No two pixels of a patch share a place: its gradient is a look-up."""
        forward, backward = (
            tf.constant(table, tf.int32) for table in (self.case.patch_of_pixel(), self.case.pixel_of_patch())
        )

        def look_up(x, indices, otherwise):
            return tf.gather(tf.pad(x, [[0, 0], [0, 1], [0, 0]], constant_values=otherwise), indices, batch_dims=1)

        def place(patches, cells):
            @tf.custom_gradient
            def placed(patches):
                def gradient(dy):
                    return look_up(dy, tf.gather(backward, cells), 0.0)

                return look_up(patches, tf.gather(forward, cells), NOTHING), gradient

            return placed(tf.reshape(patches, [cells.shape[0], -1, self.case.image[2]]))

        return place

    def compose(self, components):
        """Logits of all but a union."""
        return tf.reduce_sum(components, 1) - NOTHING * (self.case.entities - 1)

    def nats(self, components, images):
        """−log p(x|z), summed over the batch."""
        if not self.case.union:
            return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(images, self.compose(components)))
        empty = tf.reduce_sum(tf.math.softplus(components), 1)  # −log Π (1 − p_k)
        ink = tf.maximum(-tf.math.expm1(-empty), np.finfo(np.float32).tiny)
        return tf.reduce_sum(empty - images * (tf.math.log(ink) + empty))

    def loss(self, place, images, noise):
        candidates, entities, cells = self.entities(images)
        mean, log_var, kl = self.posterior(entities)
        z = mean + tf.exp(log_var / 2) * noise
        total = self.nats(self.components(place, z, cells), images) + self.case.beta * tf.reduce_sum(kl)
        if self.case.idle_beta:
            total += self.case.idle_beta * (tf.reduce_sum(self.posterior(candidates)[2]) - tf.reduce_sum(kl))
        if self.case.charge:
            total -= self.case.charge * tf.reduce_sum(tf.math.expm1(-kl / 2))
        return total / images.shape[0]

    # ------------------------------------------------------------------------------------------------- the tasks

    def train(self, place, images, noise, rate, epsilon):
        with tf.GradientTape() as tape:
            loss = self.loss(place, images, noise)
        variables = list(self.weights.values())
        gradients = tape.gradient(loss, variables)
        if self.case.clip:
            gradients, _ = tf.clip_by_global_norm(gradients, self.case.clip)
        for variable, mean, square, gradient in zip(variables, self.means, self.squares, gradients):
            # One fused kernel; the corrections of the bias, which it would make itself, come in with rate and ε.
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=0.0,
                beta2_power=0.0,
                lr=rate,
                beta1=BETA1,
                beta2=BETA2,
                epsilon=epsilon,
                grad=gradient,
            )
        return loss

    def infer(self, place, images):
        """The composed image's probabilities (B, H, W, C), the entities' strengths (B, K, H, W), and components."""
        _, entities, cells = self.entities(images)
        components = self.components(place, self.posterior(entities)[0], cells)
        strengths = tf.sigmoid(tf.reduce_max(components, 4))
        if self.case.union:
            return -tf.math.expm1(-tf.reduce_sum(tf.math.softplus(components), 1)), strengths, components
        return tf.sigmoid(self.compose(components)), strengths, components

    def step(self, i):
        rate, epsilon = (tf.constant(x, tf.float32) for x in self.case.adam(self.steps, BETA1, BETA2))
        self.steps += 1
        i %= len(self.images)
        return float(self.train(self.images[i], self.noise[i], rate, epsilon))

    def decompose(self, i):
        return [x.numpy() for x in self.infer(self.images[0][i : i + 1])]


def dense(_, x, weight):
    return tf.matmul(tf.reshape(x, [x.shape[0], -1]), weight)


def padding(layer):
    """The layer's, by name where it is TensorFlow's own "same": oneDNN is far faster then than with numbers."""
    if all(first == (first + last) // 2 for first, last in layer.padding):
        return "SAME"
    return [[0, 0], *map(list, layer.padding), [0, 0]]


def convolution(layer, x, weight):
    return tf.nn.conv2d(x, weight, layer.stride, padding(layer))


def upconvolution(layer, x, weight):
    return tf.nn.conv2d_transpose(x, weight, [x.shape[0], *layer.output], layer.stride, padding(layer))


LINEAR = {"dense": dense, "convolution": convolution, "upconvolution": upconvolution}

if __name__ == "__main__":
    common.main(TensorflowTwin)
