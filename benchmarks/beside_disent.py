"""A training step and four metrics beside disent 0.8 (PyTorch Lightning), on the same data, codes and factors.

    pip install disent
    JAX_PLATFORMS=cpu taskset -c 0 python -m benchmarks.beside_disent --out FOLDER

On one core, since two threads that wait for each other suffer more than one where other programs run as well.

Step: the beta-VAE of both libraries, beta 4, 10 latents, Adam, batches of 64 of XYSquares, which both generate. Theirs
is timed twice: its `training_step`, gradients and Adam on a batch that lies ready in memory, and the whole loop of its
README, `Trainer.fit` over its data set and a DataLoader. Ours draws its batch inside the step in all rows. The networks
are not equal: disent pads each convolution by 2, which gives 5x5 instead of 4x4 last maps; operations are written down.
A third row has the network of deft_jax in plain PyTorch.

Metrics: the codes and factors of benchmarks/metrics/scores.py. MIG of 10,000 samples; SAP, DCI and FactorVAE score in
the sizes of disent's fast settings, with the same rows in the training and test part. The FactorVAE score draws its own
images, others in each library; both are given codes that are looked up, item by item in disent, whose data sets have no
other way, and only those latents that mix factors, since all of them score 1.

All columns are timed in turn (benchmarks/suite.py); medians are written, and the scores of both.
"""

import argparse
import csv
import logging
import math
import pathlib
import time
import warnings

import jax
import numpy as np

from benchmarks import machine, suite
from benchmarks.metrics import scores
from benchmarks.models import flops
from benchmarks.training import step
from deft_jax import metrics
from deft_jax.data import factors
from deft_jax.metrics import held_out, inputs
from deft_jax.studies import presets
from deft_jax.training import build as training_build
from deft_jax.training.runner import Runner

BATCH, LATENTS, BETA, RATE = 64, 10, 4.0, 5e-4
MIG_SAMPLES = 10_000
PARTS = {"sap": (2_000, 1_000), "dci": (1_000, 500)}  # disent's fast settings: rows to train on, rows to test
VOTES = {"num_train": 700, "num_eval": 350}  # the same of the FactorVAE score, with 1,000 for the variances
VARIANCE_SAMPLES = 1_000


# ---- the training step ----


def their_model():
    """disent's beta-VAE and its data set of XYSquares, as its README builds them."""
    from disent.dataset import DisentDataset
    from disent.dataset.data import XYSquaresData
    from disent.dataset.sampling import SingleSampler
    from disent.dataset.transform import ToImgTensorF32
    from disent.frameworks.vae import BetaVae
    from disent.model import AutoEncoder
    from disent.model.ae import DecoderConv64, EncoderConv64

    squares = XYSquaresData()
    data = DisentDataset(dataset=squares, sampler=SingleSampler(), transform=ToImgTensorF32())
    model = AutoEncoder(
        encoder=EncoderConv64(x_shape=squares.x_shape, z_size=LATENTS, z_multiplier=2),
        decoder=DecoderConv64(x_shape=squares.x_shape, z_size=LATENTS),
    )
    options = {"optimizer": "adam", "optimizer_kwargs": {"lr": RATE}, "loss_reduction": "mean_sum", "beta": BETA}
    return lambda loss: BetaVae(model=model, cfg=BetaVae.cfg(recon_loss=loss, **options)), data


def ready_batch(module, data):
    """(Timed of disent's step on a batch in memory, operations of one step by PyTorch's count)."""
    from torch.utils.data import DataLoader
    from torch.utils.flop_counter import FlopCounterMode

    batch = next(iter(DataLoader(data, batch_size=BATCH, shuffle=True)))
    adam = module.configure_optimizers()

    def run(count):
        for index in range(count):
            adam.zero_grad()
            module.training_step(batch, index).backward()
            adam.step()

    with FlopCounterMode(display=False) as counter:
        run(1)
    return suite.Timed(run), counter.get_total_flops()


class WholeLoop(suite.Timed):
    """Timed of `Trainer.fit`; the steps before the first are not counted."""

    warm_up = 3

    def __init__(self, module, data):
        from torch.utils.data import DataLoader

        super().__init__(run=None)
        self.module = module
        self.loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=0)

    def time(self, count):
        """Seconds of a step, over `count` steps of a new fit."""
        import lightning

        ends = []

        class Clock(lightning.Callback):
            def on_train_batch_end(self, *arguments):
                ends.append(time.perf_counter())

        trainer = lightning.Trainer(
            max_steps=count + self.warm_up, callbacks=[Clock()], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(self.module, self.loader)
        return (ends[-1] - ends[self.warm_up - 1]) / count


def step_rows(notes):
    """Rows of the training step."""
    config = presets.baseline("beta_vae", "xy_squares", beta=BETA, learning_rate=RATE).to_dict()
    built = training_build.build(config | {"batch_size": BATCH})
    start = step.start(built)
    ours = step.ours(Runner(built, jax.devices()[:1]), 0, start)
    make, data = their_model()
    loss = {"bernoulli": "bce", "gaussian": "mse"}[built.source.likelihood]
    ready, operations = ready_batch(make(loss), data)
    own = flops.train_step(built.model, 0, BATCH)
    notes.append(f"operations of a step, in units of 1e9: {own / 1e9:.2f} here, {operations / 1e9:.2f} in disent")
    case = f"beta-VAE, XYSquares, batches of {BATCH}"
    rows = [suite.Row(f"{case}: step", "step", "a batch in memory", ours, ready)]
    whole = WholeLoop(make(loss), data)
    rows.append(suite.Row(f"{case}: whole loop", "step", "Trainer.fit with a DataLoader", ours, whole))
    plain, _ = step.torch_columns(
        suite.Options(compile_limit=0), config | {"batch_size": BATCH}, built, 0, start.params
    )
    rows.append(suite.Row(f"{case}: plain PyTorch", "step", "not disent: our network", ours, plain))
    return rows


# ---- the metrics ----


def looked_up(encode):
    """A ground-truth data set of disent whose observations are the codes of its factors."""
    from disent.dataset import DisentDataset
    from disent.dataset.data import GroundTruthData
    from disent.dataset.sampling import SingleSampler

    grid = np.stack(np.unravel_index(np.arange(math.prod(scores.SIZES)), scores.SIZES), axis=1)
    codes = np.concatenate([encode(part) for part in np.array_split(grid, 64)])

    class Codes(GroundTruthData):
        name = "codes"
        factor_names = ("shape", "scale", "orientation", "posX", "posY")
        factor_sizes = scores.SIZES
        img_shape = (1, 1, codes.shape[1])

        def _get_observation(self, idx):
            return codes[idx]

    return DisentDataset(dataset=Codes(), sampler=SingleSampler())


def parts_of(codes, drawn, num_train):
    """Rows of the training and of the test part, as our metrics choose them."""
    groups = inputs.distinct_rows(codes, drawn)
    sample = held_out.split_sample(codes, drawn, None, num_train, 0, groups)
    return sample.train, sample.test


def metric_rows():
    """(Rows of the metrics, name -> (score here, score in disent) as functions of no argument)."""
    from disent.metrics import metric_factor_vae
    from disent.metrics._dci import _compute_dci
    from disent.metrics._mig import _compute_mig
    from disent.metrics._sap import _compute_sap

    encode = scores.mixture()
    pairs = {}

    def sample(count):
        drawn = factors.draw(0, count, scores.SIZES)
        return encode(drawn), drawn

    codes, drawn = sample(MIG_SAMPLES)
    pairs["MIG"] = (
        lambda: metrics.compute("mig", codes, drawn)["mig"],
        lambda: _compute_mig(codes.T, drawn.T)["mig.discrete_score"],
    )
    for name, key, compute in (
        ("SAP", "sap", lambda *parts: _compute_sap(*parts, continuous_factors=False)["sap.score"]),
        ("DCI disentanglement, trees", "dci", lambda *parts: _compute_dci(*parts)["dci.disentanglement"]),
    ):
        num_train, num_test = PARTS[key]
        few, labels = sample(num_train + num_test)
        train, test = parts_of(few, labels, num_train)
        parts = (few[train].T, labels[train].T, few[test].T, labels[test].T)
        score = "sap" if key == "sap" else "disentanglement"
        pairs[name] = (
            lambda few=few, labels=labels, key=key, score=score, count=num_train: metrics.compute(
                key, few, labels, num_train=count
            )[score],
            lambda parts=parts, compute=compute: compute(*parts),
        )

    def mixed(drawn):
        return encode(drawn)[:, len(scores.SIZES) :]

    table = looked_up(mixed)
    pairs["FactorVAE score, codes looked up"] = (
        lambda: metrics.get("factor_vae")(mixed, scores.SIZES, num_variance=VARIANCE_SAMPLES, **VOTES)["factor_vae"],
        lambda: metric_factor_vae(table, lambda observed: observed, num_variance_estimate=VARIANCE_SAMPLES, **VOTES)[
            "factor_vae.eval_accuracy"
        ],
    )
    rows = [
        suite.Row(name, "score", "disent", *(suite.Timed(scores.times(function)) for function in pair))
        for name, pair in pairs.items()
    ]
    return rows, pairs


# ---- the command ----


def write(path, rows):
    """A CSV file of dicts with the same keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _digits(number, count):
    """A number to so many digits, without an exponent."""
    return f"{float(f'{number:.{count}g}'):,.15g}"


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.beside_disent", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="timings of everything (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a timing, at least one call (2)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for timings.csv and agreement.csv")
    args = parser.parse_args()
    try:
        import disent  # noqa: F401
    except ImportError:
        parser.error("disent is not installed: pip install disent")
    if args.repeats < 1 or not args.seconds > 0 or not args.out.is_dir():
        parser.error("--repeats must be at least 1, --seconds above 0, --out an existing folder")
    warnings.filterwarnings("ignore")  # Lightning warns of each log without a trainer
    for name in ("lightning", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    suite.torch_or_reason()
    notes = []
    suite.report("building")
    steps = step_rows(notes)
    measured, pairs = metric_rows()
    suite.measure([*steps, *measured], suite.Options(repeats=args.repeats, seconds=args.seconds))
    timings = []
    for row in [*steps, *measured]:
        ours, theirs = 1e3 * row.seconds("ours"), 1e3 * row.seconds("beside")
        numbers = {"deft_jax": _digits(ours, 3), "disent": _digits(theirs, 3), "ratio": _digits(theirs / ours, 2)}
        timings.append({"case": row.name, "of disent": row.against if row in steps else "", **numbers})
    write(args.out / "timings.csv", timings)
    agreement = [
        {"score": name, "deft_jax": f"{float(ours()):.6f}", "disent": f"{float(theirs()):.6f}"}
        for name, (ours, theirs) in pairs.items()
    ]
    write(args.out / "agreement.csv", agreement)
    for line in (machine.describe(), *notes, *map(str, timings), *map(str, agreement)):
        print(line)


if __name__ == "__main__":
    main()
