"""Seconds of the metrics at the sizes of the field, beside how older libraries compute them.

    python -m benchmarks.metrics.scores [--repeats 5] [--slow]

Codes are a fixed mixture of dSprites' factors with noise, 10 latents of 10,000 samples, so that every metric has
something to do. A metric that draws its own images is given codes that are looked up, so the row is its own cost; the
row with the quickstart's encoder is the FactorVAE score as `python -m deft_jax.evaluate` computes it, compiling
included. Beside it: the images of each batch of 64 indexed in an array and encoded by PyTorch, batch by batch, timed on
a part and multiplied. Beside MIG: np.histogram and scikit-learn's mutual_info_score for each pair.
"""

import numpy as np

from benchmarks import suite
from benchmarks.data import rendering
from benchmarks.training import step
from deft_jax import metrics
from deft_jax.data import factors
from deft_jax.evaluation import encoder
from deft_jax.studies import model_sample
from deft_jax.training import build as training_build

SIZES, LATENTS, SAMPLES = (3, 6, 40, 32, 32), 10, 10_000
SLOW = ("sap", "modularity_explicitness", "infomec", "dci_es")  # seconds each: left out of the quick form
VOTES = {"num_train": 10_000, "num_eval": 5_000, "num_variance": 10_000}


def mixture():
    """Factors [N, F] -> codes [N, D]: half of the latents follow a factor, the others mix them."""
    rng = np.random.default_rng(0)
    weights = np.concatenate([np.eye(5), rng.normal(size=(5, LATENTS - 5))], axis=1)

    def encode(factors_NxF):
        scaled = np.asarray(factors_NxF) / (np.array(SIZES) - 1)
        noise = np.sin(scaled @ rng.permuted(np.full((5, LATENTS), 1e3)))
        return (scaled @ weights + 0.1 * noise).astype(np.float32)

    return encode


def plain_mig(codes, drawn, num_bins=20):
    """MIG with a pass of scikit-learn for each pair of a latent and a factor."""
    from sklearn.metrics import mutual_info_score

    binned = [np.digitize(column, np.histogram(column, num_bins)[1][:-1]) for column in codes.T]
    gaps = []
    for factor in drawn.T:
        information = sorted(mutual_info_score(factor, latent) for latent in binned)
        gaps.append((information[-1] - information[-2]) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def times(function):
    """run(n) of a function without arguments."""

    def run(count):
        for _ in range(count):
            function()

    return run


def _factor_vae_of_a_model(options, notes):
    """The row of the FactorVAE score with the quickstart's encoder."""
    share = 50 if options.quick else 1
    votes = {name: count // share for name, count in VOTES.items()}
    config = step.load("quickstart")
    built = training_build.build(config)
    params = step.start(built).params
    stage = len(built.model.sizes) - 1

    def ours():
        table = encoder.PosteriorCache(built.source, built.encode, params, stage)
        # An untrained encoder's latents vary less than a collapsed one's: none may be left out, or no one votes.
        metrics.get("factor_vae")(
            lambda drawn: table(drawn).mean,
            built.source.factor_sizes,
            variance_threshold=0,
            chunk=model_sample.IMAGES_PER_CALL,
            **votes,
        )
        encoded.append(table.num_encoded)

    encoded = []
    torch, reason = suite.torch_or_reason()
    beside = reason
    if torch is not None:
        beside = _torch_votes(torch, config, built, stage, params, votes)
    drawn = sum(votes.values()) - votes["num_variance"]
    notes.append(
        f"FactorVAE score of a model: {drawn:,} votes of 64 images, each image encoded once, timed once; "
        "PyTorch's time is that of some batches times their number"
    )
    title = f"FactorVAE score with the quickstart's encoder, {drawn:,} votes"
    return suite.Row(title, "score", "PyTorch, batches of 64", suite.Timed(times(ours), once=True), beside)


def _torch_votes(torch, config, built, stage, params, votes):
    """Timed of encoding a batch of 64 and its variances, weighed by the batches of a whole score."""
    images = rendering.part_of_the_set(20_480)
    model, device = step.torch_training(config, built, stage, params)
    rng = np.random.default_rng(0)

    def vote():
        batch = torch.from_numpy(images[rng.integers(len(images), size=64)]).float().unsqueeze(1)
        with torch.no_grad():
            codes = model.vae.encode(batch.to(device), stage)[0].cpu().numpy()
        return np.argmin(codes.var(axis=0, ddof=1))

    batches = votes["num_train"] + votes["num_eval"] + votes["num_variance"] / 64
    return suite.Timed(times(vote), weight=batches)


def rows(options, notes):
    """Rows of all metrics of one model; DCI with trees if `slow`, fewer of them and fewer samples if `quick`."""
    samples = 2_000 if options.quick else SAMPLES
    encode, drawn = mixture(), factors.draw(0, samples, SIZES)
    codes = encode(drawn)
    difference = abs(plain_mig(codes, drawn) - metrics.compute("mig", codes, drawn)["mig"])
    notes.append(f"{samples:,} samples of {LATENTS} latents; the two MIGs differ by {difference:.1e}")

    def timed(name, once=False, **chosen):
        return suite.Timed(times(lambda: metrics.compute(name, codes, drawn, **chosen)), once=once)

    plain = suite.Timed(times(lambda: plain_mig(codes, drawn)))
    rows = [suite.Row("MIG", "score", "scikit-learn, pair by pair", timed("mig"), plain)]
    logvar = np.full_like(codes, -3.0)
    for name, kind in metrics.REGISTRY.items():
        slow = name in SLOW
        if kind == "posteriors":
            rows.append(suite.Row(name, "score", "", timed(name, logvar=logvar)))
        if kind in ("samples", "codes") and name not in ("mig", "dci") and not (slow and options.quick):
            rows.append(suite.Row(name, "score", "", timed(name, once=slow)))
    for name in ("factor_vae", "beta_vae"):
        case = suite.Timed(times(lambda name=name: metrics.get(name)(encode, SIZES)))
        rows.append(suite.Row(f"{name}, codes looked up", "score", "", case))
    rows.append(suite.Row("DCI, linear", "score", "", timed("dci", once=True, model="linear")))
    if options.slow:
        rows.append(suite.Row("DCI, trees", "score", "", timed("dci", once=True)))
    notes.append("metrics of seconds (SAP, modularity, InfoMEC, DCI) are timed once")
    rows.append(_factor_vae_of_a_model(options, notes))
    return rows


if __name__ == "__main__":
    suite.main("metrics.scores", rows)
