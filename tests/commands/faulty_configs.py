"""Configurations with faults: what is changed in one that is accepted, and the field that each line must name."""

import tiny

NAN, INF = float("nan"), float("inf")


def steps(**changes):
    return {"stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 4} | changes}


def exponential(**changes):
    fall = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 15.0, "thresholds": (12.0,)}
    return {"stages": fall | changes}


def periodic(**metrics):
    return {"periodic_metrics": metrics}


def data(name, **options):
    return {"data": {"name": name} | options}


TRAININGS = [
    ({"seed": -1}, "seed"),
    ({"seed": 2**40}, "seed"),
    ({"seed": "zero"}, "seed"),
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": 1.5}, "batch_size"),
    ({"batch_size": 7}, "batch_size"),  # two devices
    ({"total_steps": 10**12}, "total_steps"),
    ({"total_steps": 4}, "total_steps"),  # ends before the last stage starts
    ({"num_seeds": 0}, "num_seeds"),
    ({"seed": 2**31 - 1, "num_seeds": 3}, "num_seeds"),
    ({"num_seeds": 1.5}, "num_seeds"),
    ({"batchsize": 3}, "batchsize"),
    ({"optimizer": {4: 4}}, "names of fields are text"),
    ({"log_every": NAN}, "log_every"),
    ({"evaluation": {"num_samples": -5}}, "evaluation.num_samples"),
    ({"evaluation": {"every": 0}}, "evaluation.every"),
    ({"evaluation": 5}, "evaluation"),
    ({"checkpoints": {"every": -1}}, "checkpoints.every"),
    ({"checkpoints": {"keep": 0}}, "checkpoints.keep"),
    ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate"),
    ({"optimizer": {"learning_rate": INF}}, "optimizer.learning_rate"),
    ({"optimizer": {"decoder_learning_rate": "fast"}}, "optimizer.decoder_learning_rate"),
    ({"optimizer": {"gamma": 1.5}}, "optimizer.gamma"),
    ({"optimizer": {"gamma": None}}, "optimizer.gamma"),
    ({"optimizer": {"b1": 1.0}}, "optimizer.b1"),
    ({"optimizer": {"decay": "linear"}}, "optimizer.decay"),
    ({"optimizer": {"momentum": 0.9}}, "momentum"),
    (steps(betas=(2.0, 8.0)), "stages.betas"),
    (steps(betas=(8.0, 8.0)), "stages.betas"),
    (steps(betas=(8.0, NAN)), "stages.betas[1]"),
    (steps(betas=(NAN,), steps=4), "stages.betas[0]"),
    (steps(betas=()), "stages.betas"),
    (steps(betas="8, 2"), "stages.betas"),
    (steps(betas=8.0), "stages.betas"),
    (steps(steps=0), "stages.steps"),
    (steps(steps=(4, 0)), "stages.steps[1]"),
    (steps(steps=(4, 4, 4)), "stages.steps"),
    (steps(steps=None), "stages.steps"),
    (steps(betas=(8.0, 4.0, 2.0), steps=2), "model.groups"),
    (steps(open_groups=False), "stages.open_groups"),  # of a model of two groups
    (steps(length=4), "length"),
    *((steps(rotation_every=every), "stages.rotation_every") for every in (0, 2.5, True)),
    ({"stages": {"rule": "steps", "betas": (8.0, 2.0)}}, "steps"),
    ({"stages": {"betas": (8.0, 2.0), "steps": 4}}, "rule"),
    ({"stages": {"rule": "linear"}}, "stages.rule"),
    ({"stages": {"rule": ("steps",)}}, "stages.rule"),
    ({"stages": (8.0, 2.0)}, "stages"),
    (exponential(thresholds=(0.5,)), "stages.thresholds"),
    (exponential(thresholds=(80.0,)), "stages.thresholds"),
    (exponential(rate=0.0), "stages.rate"),
    (exponential(start=INF), "stages.start"),
    (exponential(start=3e38, end=3e38, thresholds=()), "stages.start"),
    ({"model": {"latents": 0}}, "model.latents"),
    ({"model": {"latents": 5}}, "model.groups"),
    ({"model": {"groups": (1, 2)}}, "model.groups"),
    ({"model": {"groups": 0}}, "model.groups"),
    ({"model": {"width": (2, 2, 2)}}, "model.width"),
    ({"model": {"hidden": "wide"}}, "model.hidden"),
    ({"model": {"calibrate": "yes"}}, "model.calibrate"),
    ({"model": {"depth": 3}}, "depth"),
    (data("mnist"), "data"),
    (data("os:getcwd"), "Source"),
    (data("numpy:pi"), "function"),
    ({"data": {"side": 3}}, "side"),
    (data("correlated(shape=star)"), "shape"),
    (data("dsprites(shape=star)"), "star"),
    (data("dsprites(posX=32)"), "posX"),
    (data("dsprites(posX)"), "posX"),
    (data("translation", grid="hexagonal"), "grid"),
    (data("xy_squares", spacing=3), "spacing"),
    (data("archive"), "path"),
    (data("archive", path="nowhere.npz"), "nowhere.npz"),
    (data("archive", path="cut.npz"), "cut.npz"),
    (data("archive", path="pickles.npz"), "pickled"),
    (data("folder", path="empty"), "empty"),
    (data("folder", path="nowhere"), "nowhere"),
    ({"objective": {"name": "gan"}}, "objective"),
    ({"objective": {"gamma": 3.0}}, "gamma"),
    ({"objective": {"name": "annealed_vae", "capacity": -1.0}}, "objective.capacity"),
    ({"objective": {"name": "control_vae", "period": 0}}, "objective.period"),
    ({"objective": {"name": "dip_vae_i", "lambda_od": "x"}}, "objective.lambda_od"),
    (periodic(mgi={"every": 4}), "periodic_metrics"),
    (periodic(dci={"every": 0}), "periodic_metrics.dci.every"),
    (periodic(dci={}), "every"),
    (periodic(mig={"every": 4, "bins": 3}), "bins"),
    (periodic(mig={"every": 4, "num_bins": "many"}), "periodic_metrics.mig.num_bins"),
    (periodic(udr={"every": 4}), "periodic_metrics.udr"),
    (periodic(mig={"every": 4, "num_bins": 10**6}), "periodic_metrics.mig.num_bins"),
    (periodic(dci={"every": 4, "model": "forest"}), "periodic_metrics.dci.model"),
    (periodic(sap={"every": 4, "num_train": 64}), "periodic_metrics.sap.num_train"),  # of 64 samples
    (periodic(factor_vae={"every": 4, "variance_threshold": -1.0}), "periodic_metrics.factor_vae.variance_threshold"),
    (periodic(factor_vae={"every": 4}) | data("squares(size=0, posX=0)"), "factor_vae needs two factors"),
    (periodic(dci_es={"every": 4, "depths": (3, 1)}), "periodic_metrics.dci_es"),
    # Faults that only the devices, the data set, the objective and the labels show: a line for each
    (
        {"batch_size": 7, "objective": {"name": "qlae"}} | steps(rotation_every=2)
        | periodic(mig_posterior={"every": 4, "average_over": (3,)}, sap={"every": 4, "continuous": (True,)}),
        "batch_size",
        "stages.rotation_every",
        "periodic_metrics.mig_posterior",
        "periodic_metrics.sap",
    ),
    ({"data": {"name": "squares", "only": {"size": 9}}}, "data: size"),
    # Faults in several sections: a line for each
    (
        {
            "seed": -1,
            "batch_size": "many",
            "optimizer": {"gamma": 2.0},
            "stages": {"rule": "steps", "betas": (8.0, -2.0), "steps": 4},
            "evaluation": {"evry": 3},
        },
        "seed",
        "batch_size",
        "optimizer.gamma",
        "stages.betas[1]",
        "evry",
    ),
    (
        {"model": {"width": 0}, "objective": {"name": "gan"}} | periodic(mgi={"every": 4}) | data("mnist"),
        "model.width",
        "objective",
        "mgi",
        "data",
    ),
]

REQUIRED = [("seed",), ("stages",), ("model", "latents"), ("objective", "name"), ("data", "name"),
            ("optimizer", "gamma"), ("evaluation", "num_samples"), ("log_every",)]  # fmt: skip


def training(number):
    """The configuration of a number in TRAININGS."""
    return tiny.config(**TRAININGS[number][0])


def without_required(number):
    """The configuration without a field of REQUIRED."""
    *sections, field = REQUIRED[number]
    config = tiny.config()
    del (config[sections[0]] if sections else config)[field]
    return config


_STUDY = {"runs": {"one": tiny.config()}, "seeds": (0,), "metrics": ("mig",), "num_samples": 64}
STUDIES = [  # tests/studies has the others
    *(({"runs": {name: tiny.config()}}, "runs") for name in ("/one", "one//two", "")),
    ({"runs": {"one": tiny.config(), "one/seed_0": tiny.config()}}, "one/seed_0"),
    ({"metrics": {"sap": {"num_train": 32}}}, "metrics.sap"),
    ({"runs": {"one": tiny.config(objective={"name": "gan"})}, "seeds": (-1,)}, "one", "seeds"),
]


def study(number):
    """The study of a number in STUDIES."""
    return _STUDY | STUDIES[number][0]


def trials(**changes):
    return {"instruments": ("spectrum", "trials"), "trials": tiny.annealing()["trials"] | changes}


TESTS = [  # tests/annealing has the others
    ({"data": {}}, "name"),
    ({"spectrum": 3}, "spectrum"),
    ({"whole": {"model": 3}}, "batch_size", "total_steps", "log_every", "beta_min", "evaluation", "checkpoints",
     "optimizer", "whole.model"),
    (trials(points=0, beta_min=-1.0) | {"seed": "x"}, "seed", "trials.points", "trials.beta_min"),
]  # fmt: skip


def annealing_test(number):
    """The annealing test of a number in TESTS."""
    return tiny.annealing(instruments=("spectrum",), betas={"source": "spectrum"}) | TESTS[number][0]
