"""Write disentanglement.json: MIG, DCI and FactorVAE scores of hand-made codes, by NumPy and scikit-learn.

Run with both installed:  python disentanglement.py

The definitions follow the papers named in src/evaluate/disentanglement/mod.rs with the choices of disentanglement_lib: 20 equally
wide bins and scikit-learn's mutual information for MIG, GradientBoostingClassifier with its defaults for DCI, sample variances and
a majority vote for the FactorVAE score.

GradientBoostingClassifier breaks ties between columns at random, so what it makes of several columns is the mean over twenty seeds;
`alone` are its predictions from one column at a time, which know no chance.
"""

import json
from pathlib import Path

import numpy as np
import sklearn
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score

SIZES = [2, 3, 5]
EXAMPLES, TESTS, VOTES, SHARED = 150, 60, 40, 6
SEEDS = 20


def perfect(v):
    return np.stack([2 - 3 * v[:, 1], v[:, 2] ** 3, v[:, 0] / 2], axis=1)


def entangled(v):
    mixing = np.array([[1.0, 0.6, -0.4], [0.5, -1.0, 0.7], [-0.3, 0.8, 1.0], [0.9, 0.2, 0.4]])
    return v @ mixing.T


def split(v):
    """One factor on two numbers, one number never used, one factor missing."""
    return np.stack([v[:, 2], np.sin(2 * v[:, 2]), np.zeros(len(v)), v[:, 0]], axis=1)


def draw(rng, n):
    return np.stack([rng.integers(size, size=n) for size in SIZES], axis=1)


def encode(code, factors, rng, noise):
    centred = (factors + 0.5) / np.array(SIZES) * 2 - 1
    values = code(centred)
    values = values + noise * rng.standard_normal(values.shape) * (values.std(axis=0) > 0)
    return np.round(values, 4)


def entropy(p, base):
    p = p[p > 0]
    return -np.sum(p * np.log(p)) / np.log(base)


def mig(codes, factors):
    binned = []
    for column in codes.T:
        edges = np.histogram(column, 20)[1]
        binned.append(np.digitize(column, edges[:-1]))
    gaps = []
    for factor in factors.T:
        information = sorted((mutual_info_score(factor, b) for b in binned), reverse=True)
        gaps.append((information[0] - information[1]) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def dci(codes, factors, test_codes, test_factors):
    importances, accuracies = [], []
    for factor, truth in zip(factors.T, test_factors.T):
        models = [GradientBoostingClassifier(random_state=seed).fit(codes, factor) for seed in range(SEEDS)]
        importances.append(np.mean([model.feature_importances_ for model in models], axis=0))
        accuracies.append(np.mean([model.predict(test_codes) == truth for model in models]))
    matrix = np.array(importances).T

    def concentration(rows):
        weights = rows.sum(axis=1) / rows.sum()
        used = rows.sum(axis=1) > 0
        return sum(w * (1 - entropy(r / r.sum(), len(r))) for w, r in zip(weights[used], rows[used]))

    return {
        "importance": matrix.tolist(),
        "disentanglement": float(concentration(matrix)),
        "completeness": float(concentration(matrix.T)),
        "informativeness": float(np.mean(accuracies)),
    }


def alone(codes, factors, test_codes):
    fit = lambda column, factor: GradientBoostingClassifier(random_state=0).fit(codes[:, [column]], factor)
    columns = range(codes.shape[1])
    return [[fit(c, factor).predict(test_codes[:, [c]]).tolist() for c in columns] for factor in factors.T]


def votes(code, rng, noise):
    drawn = []
    for _ in range(VOTES):
        factor = int(rng.integers(len(SIZES)))
        factors = draw(rng, SHARED)
        factors[:, factor] = factors[0, factor]
        drawn.append((factor, encode(code, factors, rng, noise)))
    return drawn


def factor_vae(training, others, codes):
    overall = codes.var(axis=0, ddof=1)
    live = np.flatnonzero(overall > 0)
    still = lambda batch: live[np.argmin(batch.var(axis=0, ddof=1)[live] / overall[live])]
    table = np.zeros((codes.shape[1], len(SIZES)), dtype=int)
    for factor, batch in training:
        table[still(batch), factor] += 1
    majority = table.argmax(axis=1)
    return float(np.mean([majority[still(batch)] == factor for factor, batch in others]))


def case(name, code, noise, seed):
    rng = np.random.default_rng(seed)
    factors, test_factors = draw(rng, EXAMPLES), draw(rng, TESTS)
    codes, test_codes = encode(code, factors, rng, noise), encode(code, test_factors, rng, noise)
    training, others = votes(code, rng, noise), votes(code, rng, noise)
    variances = lambda drawn: [[f, b.var(axis=0, ddof=1).tolist()] for f, b in drawn]
    return {
        "name": name,
        "codes": codes.T.tolist(),
        "factors": factors.T.tolist(),
        "test_codes": test_codes.T.tolist(),
        "test_factors": test_factors.T.tolist(),
        "training_votes": variances(training),
        "other_votes": variances(others),
        "mig": mig(codes, factors),
        "alone": alone(codes, factors, test_codes),
        "dci": dci(codes, factors, test_codes, test_factors),
        "factor_vae": factor_vae(training, others, codes),
        "active": int((codes.var(axis=0, ddof=1) > 0.01).sum()),
    }


def main():
    cases = [
        case("perfect", perfect, 0.02, 1),
        case("perfect, noisy", perfect, 0.4, 2),
        case("entangled", entangled, 0.1, 3),
        case("split and missing", split, 0.1, 4),
    ]
    written = {"numpy": np.__version__, "sklearn": sklearn.__version__, "sizes": SIZES, "cases": cases}
    Path(__file__).with_suffix(".json").write_text(json.dumps(written) + "\n")
    for c in cases:
        print(c["name"], c["mig"], {k: v for k, v in c["dci"].items() if k != "importance"}, c["factor_vae"])


if __name__ == "__main__":
    main()
