"""Seconds a trial of the annealing test: all trials in one program, against PyTorch, one trial after another.

    python -m benchmarks.annealing.trials [--num_trials 20] [--steps 200] [--repeats 5] [--compile_limit 60]

The trials are those of configs/ifp_dsprites.py. Methods:
  JAX, all trials in one program    what the annealing test runs,
  JAX, one trial after another      the same program on one trial, the first of each bucket,
  PyTorch                           that trial as a plain training loop, on its own pixels without padding,
  PyTorch with torch.compile        its batch, loss and gradient compiled, Adam not; left out, with a line that states
                                    so, where it does not compile within --compile_limit seconds (0: not tried).
PyTorch gets one thread or one a core, whichever is faster in a short test: its operations here are small.
Methods that take one trial at a time are timed on one trial of each bucket; their mean weighs a bucket by its trials.
Before anything is timed, the gradient that JAX's first update used is compared with PyTorch's, on the same batch.
Repeats of all methods are interleaved, and medians are printed; compiling is timed apart.
"""

import argparse
import importlib.util
import pathlib
import statistics
import time

import jax
import numpy as np

from benchmarks import machine, suite
from deft_jax import data
from deft_jax.annealing import instrument, trial_plan, trial_program
from deft_jax.annealing.config import parse_annealing

B1, B2 = 0.9, 0.99  # of Adam, as in trials.py
TOLERANCE = 1e-4  # of the largest entry of each gradient
TOGETHER, ALONE = "JAX, all trials in one program", "JAX, one trial after another"
EAGER, COMPILED = "PyTorch", "PyTorch with torch.compile"


def load(num_trials):
    """(sweep, source, buckets, number of trials) of configs/ifp_dsprites.py."""
    path = pathlib.Path(__file__).parents[2] / "configs" / "ifp_dsprites.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = parse_annealing(module.get_config())
    source = data.get(config.data.name, only=config.data.only, **config.data.options)
    sizes = zip(source.factor_names, source.factor_sizes, strict=True)
    names = config.trials.factors or tuple(name for name, size in sizes if size > 1)
    buckets = trial_plan.plan(source, names, num_trials or config.trials.num_trials, config.seed)
    top = max(float(bucket.bound.max()) for bucket in buckets)
    beta_max = config.trials.beta_max or instrument.HEADROOM * top
    return trial_program.Sweep(config.trials, beta_max), source, buckets, len(names) * config.trials.num_trials


class JaxTrials:
    """Trials of some buckets as one program; `compile_seconds` is what its first call took, which makes no step."""

    def __init__(self, sweep, source, buckets):
        self.runner = trial_program.TrialRunner(sweep, source, buckets, jax.local_devices()[:1])
        self.state, self.times = self.runner.init(), []
        jax.block_until_ready(self.state)
        self.compile_seconds = self.run(0)

    def run(self, steps):
        """Seconds of as many updates of every trial."""
        start = time.perf_counter()
        self.state = self.runner.run(self.state, steps)
        jax.block_until_ready(self.state)
        return time.perf_counter() - start

    def time(self, steps):
        self.times.append(self.run(steps) / steps)


def torch_layout(tree, pixels):
    """Weights (or gradients) of a bucket of one trial by PyTorch's names and axes, without the padded pixels."""
    named = {}
    for part, layers in tree.items():
        for layer, leaves in layers.items():
            for kind, leaf in leaves.items():
                name = f"{part}.{layer}.{'weight' if kind == 'kernel' else 'bias'}"
                named[name] = np.array(leaf[0]).T
    named["encoder.first.weight"] = named["encoder.first.weight"][:, :pixels]
    named["decoder.out.weight"] = named["decoder.out.weight"][:pixels]
    named["decoder.out.bias"] = named["decoder.out.bias"][:pixels]
    return named


class TorchTrial:
    """The one trial of a bucket in PyTorch, from the weights that JAX starts it with."""

    def __init__(self, torch, sweep, bucket, weights, seed):
        self.torch, self.sweep, self.config = torch, sweep, sweep.config
        on_gpu = jax.devices()[0].platform == "gpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        pixels, self.size = int(bucket.mask.sum()), int(bucket.size[0])
        self.images = self._tensor(bucket.images[0, : self.size, :pixels])
        self.mean = self._tensor(bucket.mean[0, :pixels])
        hidden, latents = self.config.hidden, self.config.latents
        linear, group = torch.nn.Linear, torch.nn.ModuleDict
        encoder = {"first": linear(pixels, hidden + 2 * latents), "out": linear(hidden, 2 * latents, bias=False)}
        decoder = {"hidden": linear(latents, hidden), "out": linear(hidden + latents, pixels)}
        self.model = group({"encoder": group(encoder), "decoder": group(decoder)}).to(self.device)
        self.model.load_state_dict({name: self._tensor(value) for name, value in weights.items()})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.learning_rate, betas=(B1, B2))
        self.generator = torch.Generator(self.device).manual_seed(seed)
        root = 2.0
        for _ in range(64):
            root = (1 + root) ** (1 / (1 + latents))
        count = self.config.batch_size // 2
        steps = np.array([1 / count, *(root ** -np.arange(1, 1 + latents))])
        self.lattice = self._tensor(np.arange(count)[:, None] * steps)
        falling = np.log(self.config.beta_min / sweep.beta_max) * np.arange(sweep.steps) / sweep.steps
        self.betas = self._tensor(sweep.beta_max * np.exp(falling))
        self.kl = torch.zeros(self.config.points, device=self.device)
        self.step, self.times, self.loss = 0, [], self.eager_loss

    def _tensor(self, values):
        return self.torch.tensor(np.ascontiguousarray(values, np.float32), device=self.device)

    def eager_loss(self, shift, beta):
        """Mean loss and KL of the batch on the lattice with this shift, at this beta."""
        torch, latents, hidden = self.torch, self.config.latents, self.config.hidden
        gelu = torch.nn.functional.gelu
        place = (self.lattice + shift) % 1.0
        value = (place[:, 0] * self.size).long().clamp(max=self.size - 1)
        noise = torch.special.ndtri(place[:, 1:].clamp(1e-6, 1 - 1e-6))
        noise = torch.cat([noise, -noise])
        x = self.images[value]
        x = torch.cat([x, x])
        encoder, decoder = self.model["encoder"], self.model["decoder"]
        both = encoder["first"](x - self.mean)
        out = both[:, hidden:] + encoder["out"](gelu(both[:, :hidden], approximate="tanh"))
        mean, logvar = out[:, :latents], out[:, latents:]
        z = mean + torch.exp(0.5 * logvar) * noise
        h = gelu(decoder["hidden"](z), approximate="tanh")
        logits = decoder["out"](torch.cat([h, z], dim=1))
        pixel_losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
        kl = 0.5 * (torch.exp(logvar) + mean**2 - 1 - logvar).sum(1)
        return (pixel_losses.sum(1) + beta * kl).mean(), kl.mean()

    def gradient(self, shift):
        """Gradient of the loss of the first step by the names of the weights."""
        self.optimizer.zero_grad()
        self.loss(self._tensor(shift), self.betas[0])[0].backward()
        return {name: value.grad.cpu().numpy() for name, value in self.model.named_parameters()}

    def compile(self):
        """Compiles the loss and its gradient; -> seconds."""
        start = time.perf_counter()
        self.loss = self.torch.compile(self.eager_loss, dynamic=False)
        self.run(1)
        return time.perf_counter() - start

    def run(self, steps):
        """Seconds of as many updates."""
        torch, every, last = self.torch, self.sweep.steps_per_point, self.sweep.steps - 1
        start = time.perf_counter()
        for _ in range(steps):
            step = min(self.step, last)
            shift = torch.rand(1 + self.config.latents, generator=self.generator, device=self.device)
            self.optimizer.zero_grad()
            loss, kl = self.loss(shift, self.betas[step])
            loss.backward()
            self.optimizer.step()
            self.kl[step // every] += kl.detach() / every
            self.step += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def time(self, steps):
        self.times.append(self.run(steps) / steps)


def one_trial(bucket):
    """The first trial of a bucket as a bucket of its own."""
    return jax.tree.map(lambda leaf: leaf[:1], bucket)


def disagreement(sweep, source, bucket, torch_trial):
    """Largest difference of the two gradients of the first step, relative to the largest entry of each weight's.

    JAX's is read off its optimiser, whose first moment is (1 - b1) times the gradient after one update.
    """
    with jax.default_matmul_precision("highest"):
        runner = trial_program.TrialRunner(sweep, source, (bucket,), jax.local_devices()[:1])
        state = runner.host(runner.run(runner.init(), 1))
    moment = jax.tree.map(lambda leaf: leaf / (1 - B1), state.opt_state[0][0].mu)
    key_lattice, _ = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(bucket.key[0]), 1))
    theirs = torch_trial.gradient(np.array(jax.random.uniform(key_lattice, (1 + sweep.config.latents,))))
    ours = torch_layout(moment, int(bucket.mask.sum()))
    if ours.keys() != theirs.keys():
        raise SystemExit(f"different weights: {sorted(ours)} and {sorted(theirs)}")
    return max(float(np.abs(ours[name] - theirs[name]).max() / np.abs(ours[name]).max()) for name in ours)


def choose_threads(torch, trials):
    """Sets PyTorch's threads to one or one a core, whichever is faster; returns a line with the time of each."""
    took = {}
    for threads in sorted({torch.get_num_threads(), 1}, reverse=True):
        torch.set_num_threads(threads)
        for trial in trials:
            trial.run(5)
        took[threads] = sum(trial.run(20) / 20 for trial in trials) / len(trials)
    torch.set_num_threads(min(took, key=took.get))
    times = ", ".join(f"{1e3 * seconds:.2f} ms a step with {threads}" for threads, seconds in took.items())
    return f"PyTorch threads: {torch.get_num_threads()} ({times})"


def prepare(num_trials, compile_limit, torch, notes):
    """(sweep, counts of trials, columns) of the comparison; adds to `notes` how methods were made comparable.

    columns: name -> (cases, weight of each in a sum of trial-steps, seconds to compile all), or why there are none.
    Raises ValueError where the gradients of JAX and PyTorch differ.
    """
    sweep, source, buckets, _ = load(num_trials)
    if source.likelihood != "bernoulli" or sweep.config.fall != "geometric" or any(b.images is None for b in buckets):
        raise ValueError("the PyTorch trial is written for Bernoulli pixels, a geometric fall and images without noise")
    counts = [len(bucket) for bucket in buckets]
    singles = [one_trial(bucket) for bucket in buckets]
    columns = {}
    if torch is None:
        columns[EAGER] = columns[COMPILED] = "PyTorch is not installed"
    else:
        weights = []
        for bucket in singles:
            params = trial_program.init_state(sweep, source.likelihood, (bucket,)).params[0]
            weights.append(torch_layout(params, int(bucket.mask.sum())))

        def make_torch():
            cases = enumerate(zip(singles, weights, strict=True))
            return [TorchTrial(torch, sweep, bucket, start, seed) for seed, (bucket, start) in cases]

        eager, compiled = make_torch(), make_torch()
        pairs = zip(singles, eager, strict=True)
        torch.set_float32_matmul_precision("highest")  # for the comparison, in both libraries
        difference = max(disagreement(sweep, source, bucket, trial) for bucket, trial in pairs)
        torch.set_float32_matmul_precision("high" if jax.default_backend() == "gpu" else "highest")  # JAX's default
        notes.append(f"gradients of JAX and PyTorch agree to {difference:.1e}")
        if not difference <= TOLERANCE:
            raise ValueError(f"{notes[-1]}, not to {TOLERANCE:g}: they would not be the same computation")
        notes.append(choose_threads(torch, eager))
        columns[EAGER] = eager, counts, 0.0
        begin = time.perf_counter()
        failed = suite.compiled_or_reason(lambda: [trial.compile() for trial in compiled], compile_limit)
        columns[COMPILED] = failed or (compiled, counts, time.perf_counter() - begin)
    together = JaxTrials(sweep, source, buckets)
    single_cases = [JaxTrials(sweep, source, (bucket,)) for bucket in singles]
    columns[TOGETHER] = [together], [1], together.compile_seconds
    columns[ALONE] = single_cases, counts, sum(case.compile_seconds for case in single_cases)
    return sweep, singles, counts, columns


def rows(options, notes):
    """Rows of the suite: all trials in one program, and one after another, beside PyTorch. A unit is a trial-step."""
    torch, _ = suite.torch_or_reason()
    _, _, counts, columns = prepare(2 if options.quick else 0, options.compile_limit, torch, notes)
    notes.append("one trial after another: timed on the first of each bucket, which is weighed by its trials")
    timed = {}
    for name, column in columns.items():
        if isinstance(column, str):
            timed[name] = column
            continue
        cases, weights, _ = column
        timed[name] = tuple(
            suite.Timed(case.run, weight / sum(counts)) for case, weight in zip(cases, weights, strict=True)
        )
    title = f"{sum(counts)} trials"
    return [
        suite.Row(f"{title}, one program", "trial-step", EAGER, timed[TOGETHER], timed[EAGER], timed[COMPILED]),
        suite.Row(f"{title}, one after another", "trial-step", EAGER, timed[ALONE], timed[EAGER], timed[COMPILED]),
    ]


def main():
    """Prints the tables."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--num_trials", type=int, default=0, help="trials a factor; 0: as the config")
    parser.add_argument("--steps", type=int, default=200, help="steps of a timing")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile_limit", type=int, default=60, help="seconds for torch.compile; 0: leave it out")
    args = parser.parse_args()
    torch, reason = suite.torch_or_reason()
    if torch is None:
        raise SystemExit(f"this benchmark compares with PyTorch: {reason}")
    notes = []
    sweep, singles, counts, columns = prepare(args.num_trials, args.compile_limit, torch, notes)
    full = load(0)[-1]
    print(machine.describe())
    print(f"{sum(counts)} trials, batch {sweep.config.batch_size}, {args.repeats} timings of {args.steps} steps each\n")
    print("\n".join([*notes, *(f"{name} left out: {why}" for name, why in columns.items() if isinstance(why, str))]))
    methods = {name: columns[name] for name in (TOGETHER, ALONE, EAGER, COMPILED)}
    methods = {name: column for name, column in methods.items() if not isinstance(column, str)}
    for cases, _, _ in methods.values():
        for case in cases:  # the first steps pay for fresh memory
            case.time(10)
            case.times.clear()
    for _ in range(args.repeats):
        for cases, _, _ in methods.values():
            for case in cases:
                case.time(args.steps)

    seconds = {}  # a step of one trial
    for name, (cases, weights, _) in methods.items():
        medians = [statistics.median(case.times) for case in cases]
        total = sum(weight * median for weight, median in zip(weights, medians, strict=True))
        seconds[name] = total / sum(counts)
    print(f"\n| method | trial-steps a second | s a trial of {sweep.steps:,} steps | s for {full} trials | "
          "PyTorch / method | compiling, s |\n|---|---:|---:|---:|---:|---:|")
    for name, (_, _, compiling) in methods.items():
        step = seconds[name]
        trial = sweep.steps * step
        print(f"| {name} | {1 / step:,.0f} | {trial:.2f} | {full * trial:,.0f} | {seconds['PyTorch'] / step:.2f} | "
              f"{compiling:.1f} |")
    one_by_one = [name for name in methods if name != TOGETHER]
    print("\nms a step of the one trial of each bucket:\n\n| pixels | padded to | trials | "
          + " | ".join(one_by_one) + " |\n|---:|---:|---:|" + "---:|" * len(one_by_one))
    for index, bucket in enumerate(singles):
        times = [f"{1e3 * statistics.median(methods[name][0][index].times):.3f}" for name in one_by_one]
        head = f"| {int(bucket.mask.sum())} | {bucket.mask.shape[1]} | {counts[index]} | "
        print(head + " | ".join(times) + " |")


if __name__ == "__main__":
    main()
