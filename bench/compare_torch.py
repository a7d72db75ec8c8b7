#!/usr/bin/env python3
"""Quern beside PyTorch on one machine, interleaved in one run. Needs torch and numpy.

  compare_torch.py char-speed   tokens/s of configs/shakespeare_char.json, eager (and --compile)
  compare_torch.py char-loss    best validation loss of 3 seeds each, on the same batches
  compare_torch.py gpt2         GPT-2 124M, B=4 T=256, f32 and bf16, tokens/s
  compare_torch.py matmul       GFLOP/s of the step's matrix products on both sides
  compare_torch.py mnist        accuracy of configs/mnist_mlp.json on the test images, 3 seeds (Quern only)

QUERN_DATA names the data directory. Prints one JSON object a line.
Batches come from bench_batches, so both sides train on the same tokens in the same order.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "release")
CHAR = os.path.join(ROOT, "configs", "shakespeare_char.json")
GPT2 = os.path.join(ROOT, "configs", "gpt2_124m.json")
MNIST = os.path.join(ROOT, "configs", "mnist_mlp.json")


def command(args, **env):
    done = subprocess.run(args, capture_output=True, text=True, env={**os.environ, **env})
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def rows(run):
    with open(os.path.join(run, "metrics.jsonl")) as f:
        return [json.loads(line) for line in f]


def quern(config, run, *sets):
    args = [os.path.join(BUILD, "quern"), "train", config, "--out", run, "--overwrite"]
    command(args + [x for s in sets for x in ("--set", s)], OMP_WAIT_POLICY="active")
    return rows(run)


def quern_speed(config, run, steps, window, *sets):
    """Tokens per second of each window but the first."""
    log = quern(
        config, run, f"train.max_steps={steps}", f"log.every={window}", "eval.every=0", "eval.batches=1",
        "checkpoint.save_final=false", "checkpoint.every=0", "log.tensorboard=false", *sets
    )
    return [r["perf/tokens_per_second"] for r in log if "perf/tokens_per_second" in r][1:]


def torch_gpt(batches, *options):
    out = command([sys.executable, os.path.join(ROOT, "bench", "torch_gpt.py"), batches, *options])
    return json.loads(out.splitlines()[-1])


def dump(config, steps, path, *sets):
    command([os.path.join(BUILD, "bench", "bench_batches"), config, str(steps), path, *sets])


def char_speed(o, folder):
    batches = os.path.join(folder, "char.bin")
    dump(CHAR, 400, batches)
    ours, eager, compiled = [], [], []
    for _ in range(o.rounds):
        ours += quern_speed(CHAR, os.path.join(folder, "run"), 400, 50, "scheduler.decay_steps=2000")
        eager += torch_gpt(batches)["tokens_per_second"][1:]
        if o.compile:
            compiled += torch_gpt(batches, "--compile")["tokens_per_second"][2:]
    result = dict(quern=statistics.median(ours), torch_eager=statistics.median(eager))
    result["ratio_to_eager"] = result["quern"] / result["torch_eager"]
    if compiled:
        result["torch_compile"] = statistics.median(compiled)
        result["ratio_to_compile"] = result["quern"] / result["torch_compile"]
    return [dict(bench="char-speed", unit="tokens/s", **result)]


def char_loss(o, folder):
    """The whole validation split every 250 steps on our side; at the end on PyTorch's."""
    results = []
    for seed in (1, 2, 3):
        log = quern(CHAR, os.path.join(folder, "run"), f"run.seed={seed}")
        ours = [r["eval/loss"] for r in log if "eval/loss" in r]
        batches = os.path.join(folder, "char.bin")
        dump(CHAR, 2000, batches, f"run.seed={seed}")
        theirs = torch_gpt(batches, "--val", "--seed", str(seed))["val"]
        results.append(dict(bench="char-loss", seed=seed, quern_best=min(ours), quern_last=ours[-1], torch=theirs))
        print(json.dumps(results[-1]), flush=True)
    mean = {k: statistics.mean(r[k] for r in results) for k in ("quern_best", "quern_last", "torch")}
    return [dict(bench="char-loss", seed="mean", **mean)]


def gpt2(o, folder):
    import numpy as np

    tokens, batches = os.path.join(folder, "tokens.bin"), os.path.join(folder, "gpt2.bin")
    rng = np.random.default_rng(0)
    (rng.zipf(1.3, 200_000) % 50257).astype(np.uint16).tofile(tokens)
    os.environ["QUERN_TOKENS"] = tokens
    dump(GPT2, 8, batches)
    shape = ["--layers", "12", "--heads", "12", "--width", "768", "--lr", "6e-4", "--beta2", "0.95", "--bias", "--tanh"]
    results = []
    for precision in ("f32", "bf16"):
        ours, theirs = [], []
        for _ in range(o.rounds):
            ours += quern_speed(GPT2, os.path.join(folder, "run"), 5, 1, f"precision={precision}", "scheduler.warmup_steps=1",
                                "scheduler.decay_steps=1000")
            extra = ["--bf16"] if precision == "bf16" else []
            theirs += torch_gpt(batches, *shape, "--steps", "5", "--window", "1", *extra)["tokens_per_second"][1:]
        result = dict(bench="gpt2-124m", precision=precision, quern=statistics.median(ours), torch=statistics.median(theirs))
        result["ratio"] = result["quern"] / result["torch"]
        result["quern_gflops"] = result["quern"] / 1024 * 779.178
        results.append(result)
        print(json.dumps(result), flush=True)
    return []


def matmul(o, folder):
    import torch

    results = [json.loads(line) for line in command([os.path.join(BUILD, "bench", "bench_matmul"), "2"]).splitlines()]
    results = [dict(bench="matmul", side="quern", **r) for r in results]
    torch.set_num_threads(2)
    for dtype in (torch.float32, torch.bfloat16):
        for n, k, m in ((1024, 768, 768), (1024, 768, 3072), (1024, 3072, 768), (768, 128, 512)):
            x, w = torch.randn(n, k, dtype=dtype), torch.randn(m, k, dtype=dtype)
            best = min(timed(torch.nn.functional.linear, x, w) for _ in range(10))
            results.append(dict(bench="matmul", side="torch", shape=f"{n}x{k}x{m}", dtype=str(dtype), threads=2,
                                forward=round(2e-9 * n * k * m / best, 1)))
    return results


def timed(f, *args):
    start = time.perf_counter()
    f(*args)
    return time.perf_counter() - start


def mnist(o, folder):
    results = []
    for seed in (1, 2, 3):
        run = os.path.join(folder, "mnist")
        quern(MNIST, run, f"run.seed={seed}", "log.every=1000")
        test = json.loads(command([os.path.join(BUILD, "quern"), "eval", run, "--split", "test", "--json"]))
        results.append(dict(bench="mnist", seed=seed, accuracy=test["eval/accuracy"], best_step=test["step"]))
        print(json.dumps(results[-1]), flush=True)
    return [dict(bench="mnist", seed="worst", accuracy=min(r["accuracy"] for r in results))]


BENCHES = {"char-speed": char_speed, "char-loss": char_loss, "gpt2": gpt2, "matmul": matmul, "mnist": mnist}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("bench", choices=BENCHES)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--compile", action="store_true", help="time torch.compile too")
    o = a.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for result in BENCHES[o.bench](o, folder):
            print(json.dumps(result), flush=True)


main()
