#!/usr/bin/env python3
"""Quern's kernels and training beside PyTorch's, in one process, on the same tensors, interleaved.

  gpu_torch.py LIBRARY products|attention|rows|update   kernels: time and error, one JSON line each
  gpu_torch.py LIBRARY losses     GPT-2, 20 steps from the same weights: both sides' losses
  gpu_torch.py LIBRARY speed      GPT-2, tokens/s of Quern, eager and (--compile) compiled PyTorch

Random values and weights; needs torch and libquern_gpu.so (bench/gpu_build.sh). --device cpu with a
library built with --cpu, and --tiny, try everything out without a GPU. Before each timed call on a
GPU 256 MiB are read, so that neither side finds its operands in the L2 cache and the host is ahead.
"""

import argparse
import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F

import gpu_library as q
from torch_gpt import GPT

DTYPES = {torch.float32: q.F32, torch.float64: q.F64, torch.bfloat16: q.BF16, torch.int32: q.I32, torch.int64: q.I64}
BF16, F32 = torch.bfloat16, torch.float32


def as_quern(t):
    return None if t is None else q.tensor(t.data_ptr(), DTYPES[t.dtype], tuple(t.shape), tuple(t.stride()))


def relative(got, want):
    got, want = got.double(), want.double()
    return float((got - want).norm() / want.norm().clamp_min(1e-300))


def digits(v):
    return float(f"{v:.4g}")


class Bench:
    def __init__(self, o):
        self.o, self.cuda = o, o.device == "cuda"
        self.library = q.Library(o.library, o.device)
        self.flush = torch.ones(64 << 20, device="cuda") if self.cuda else None
        torch.manual_seed(0)

    def normal(self, *shape, dtype=BF16, std=0.02):
        return (torch.randn(*shape, device=self.o.device, dtype=F32) * std).to(dtype)

    def empty(self, *shape, dtype=BF16):
        return torch.full(shape, float("nan"), device=self.o.device, dtype=dtype)

    def op(self, name, inputs, outputs, attrs=None, accumulate=0):
        return self.library.op(name, [as_quern(t) for t in inputs], [as_quern(t) for t in outputs], attrs, accumulate)

    def once(self, run):
        """Seconds of one call; on a GPU, a pair of events to be read later."""
        if not self.cuda:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        self.flush.sum()
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        run()
        b.record()
        return a, b

    def interleaved(self, sides):
        """Median and least microseconds of each side, taken in turn."""
        times = {name: [] for name in sides}
        for round_ in range(-2, self.o.repeats):
            for name, run in sides.items():
                t = self.once(run)
                if round_ >= 0:
                    times[name].append(t)
        if self.cuda:
            torch.cuda.synchronize()
            times = {name: [a.elapsed_time(b) * 1e-3 for a, b in list_] for name, list_ in times.items()}
        return {name: (statistics.median(t) * 1e6, min(t) * 1e6) for name, t in times.items()}

    def compare(self, kernel, shape, call, references, errors):
        """references: name -> function; errors: pairs (got, function giving what is wanted)."""
        stream = torch.cuda.current_stream().cuda_stream if self.cuda else None
        sides = {"quern": lambda: call.run(stream)}
        call.run(stream)
        try:
            error = max(relative(got, want()) for got, want in errors)
        except torch.OutOfMemoryError:
            error = None  # the scores of a long sequence in f32
        for name, run in references.items():
            try:
                run()
                sides[name] = run
            except Exception as e:  # a backend that refuses the shape is no reason to stop
                print(f"{kernel} {shape}: {name}: {e}", file=sys.stderr)
        times = self.interleaved(sides)
        bytes_, flops = call.cost()
        median, least = times.pop("quern")
        best = min(times, key=lambda n: times[n][0]) if times else None
        print(json.dumps(dict(
            kernel=kernel, shape=shape, median_us=round(median, 2), min_us=round(least, 2),
            tflops=digits(flops / median * 1e-6), gbps=digits(bytes_ / median * 1e-3), error=error and digits(error),
            reference=best, reference_us=round(times[best][0], 2) if best else None,
            ratio=round(times[best][0] / median, 3) if best else None,
            others={n: round(t[0], 2) for n, t in times.items()}, device=self.library.description)), flush=True)
        call.close()


# ---- kernels: each function yields what `compare` takes ------------------------------------------


def products(b, tiny):
    shapes = [(16384, 2304, 768), (16384, 768, 768), (16384, 3072, 768), (16384, 768, 3072), (8192, 4096, 4096),
              (8192, 28672, 4096), (8192, 4096, 14336), (8192, 8192, 8192), (16384, 50304, 768), (1000, 1000, 1000)]
    for m, n, k in [(64, 96, 32), (33, 17, 40)] if tiny else shapes:
        x, w, bias, dy = b.normal(m, k), b.normal(n, k), b.normal(n), b.normal(m, n)
        y, dx, dw = b.empty(m, n), b.empty(m, k), b.empty(n, k, dtype=F32)
        shape = f"{m}x{n}x{k}"
        yield ("linear", shape + " bias", b.op("linear", [x, w, bias, None], [y], q.LinearAttrs(0)),
               {"F.linear": lambda: F.linear(x, w, bias)},
               [(y, lambda: F.linear(x.float(), w.float(), bias.float()))])
        if (m, n, k) in ((16384, 3072, 768), (64, 96, 32)):
            pre = b.empty(m, n)
            yield ("linear", shape + " gelu", b.op("linear", [x, w, bias, None], [y, pre], q.LinearAttrs(q.GELU_TANH)),
                   {"F.gelu(F.linear)": lambda: F.gelu(F.linear(x, w, bias), approximate="tanh")},
                   [(y, lambda: F.gelu(F.linear(x.float(), w.float(), bias.float()), approximate="tanh"))])
        yield ("linear_bwd_input", shape, b.op("linear_bwd_input", [dy, w], [dx]),
               {"torch.mm": lambda: torch.mm(dy, w)}, [(dx, lambda: dy.float() @ w.float())])
        yield ("linear_bwd_weight", shape, b.op("linear_bwd_weight", [x, dy], [dw]),
               {"torch.mm": lambda: torch.mm(dy.t(), x)}, [(dw, lambda: dy.t().float() @ x.float())])


def attention(b, tiny):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    shapes = [(16, 12, 12, 1024, 64, True), (4, 32, 8, 2048, 128, True), (1, 32, 8, 8192, 128, True),
              (4, 16, 16, 4096, 128, False), (16, 25, 25, 1024, 64, True)]
    backends = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION} if b.cuda else \
        {"math": SDPBackend.MATH}
    for batch, h, g, t, d, causal in [(1, 2, 1, 40, 32, True), (2, 2, 2, 17, 32, False)] if tiny else shapes:
        q_, k_, v_, do = b.normal(batch, t, h, d, std=1.0), b.normal(batch, t, g, d, std=1.0), \
            b.normal(batch, t, g, d, std=1.0), b.normal(batch, t, h, d)
        o, lse = b.empty(batch, t, h, d), b.empty(batch, h, t, dtype=F32)
        shape = f"{batch}x{h}x{g}x{t}x{d} " + ("causal" if causal else "full")
        heads = [x.transpose(1, 2).detach().requires_grad_() for x in (q_, k_, v_)]

        def sdpa(inputs, backend):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(*inputs, is_causal=causal, enable_gqa=h != g)

        def wanted():
            """In f32, one batch entry at a time: the scores of all of them need not fit."""
            outs = [sdpa([x[i:i + 1].float() for x in heads], SDPBackend.MATH) for i in range(batch)]
            return torch.cat(outs).transpose(1, 2)

        def wanted_grads():
            grads = []
            for i in range(batch):
                inputs = [x[i:i + 1].detach().float().requires_grad_() for x in heads]
                out = sdpa(inputs, SDPBackend.MATH)
                grads.append(torch.autograd.grad(out, inputs, do[i:i + 1].transpose(1, 2).float()))
            return [torch.cat(g_).transpose(1, 2) for g_ in zip(*grads)]

        attrs = q.AttentionAttrs(0.0, 0.0, causal)
        with torch.no_grad():
            yield ("attention", shape, b.op("attention", [q_, k_, v_], [o, lse], attrs),
                   {n: lambda k=k: sdpa(heads, k) for n, k in backends.items()}, [(o, wanted)])
        grads = [b.empty(*x.shape) for x in (q_, k_, v_)]
        call = b.op("attention_bwd", [q_, k_, v_, None, None, None, o, lse, do], grads, attrs)
        references = {}
        for n, k in backends.items():
            try:
                out = sdpa(heads, k)
                references[n] = lambda out=out: torch.autograd.grad(out, heads, do.transpose(1, 2), retain_graph=True)
            except RuntimeError as e:
                print(f"attention {shape}: {n}: {e}", file=sys.stderr)
        want = []

        def grad(i):
            if not want:
                want.extend(wanted_grads())
            return want[i]

        yield ("attention_bwd", shape, call, references, [(g_, lambda i=i: grad(i)) for i, g_ in enumerate(grads)])


def rows(b, tiny):
    n, c, v, inner = (8, 96, 129, 64) if tiny else (16384, 768, 50304, 3072)
    x, r, w, bias, dy = b.normal(n, c), b.normal(n, c), b.normal(c, std=1.0), b.normal(c), b.normal(n, c)
    y, h = b.empty(n, c), b.empty(n, c)
    mean, rstd = b.empty(n, dtype=F32), b.empty(n, dtype=F32)

    def norm32(t):
        return F.layer_norm(t.float(), (c,), w.float(), bias.float())

    yield ("layernorm", f"{n}x{c}", b.op("layernorm", [x, None, w, bias], [y, None, mean, rstd], q.NormAttrs(1e-5)),
           {"F.layer_norm": lambda: F.layer_norm(x, (c,), w, bias)}, [(y, lambda: norm32(x))])
    yield ("layernorm", f"{n}x{c} residual", b.op("layernorm", [x, r, w, bias], [y, h, mean, rstd], q.NormAttrs(1e-5)),
           {"F.layer_norm(x + r)": lambda: F.layer_norm(x + r, (c,), w, bias)}, [(y, lambda: norm32(x + r))])
    mean_, rstd_ = x.float().mean(1), (x.float().var(1, unbiased=False) + 1e-5).rsqrt()
    dx, dw, db = b.empty(n, c), b.empty(c, dtype=F32), b.empty(c, dtype=F32)
    backward = torch.ops.aten.native_layer_norm_backward
    masks, column = [True, True, True], (mean_[:, None], rstd_[:, None])
    yield ("layernorm_bwd", f"{n}x{c}", b.op("layernorm_bwd", [dy, x, w, mean_, rstd_], [dx, dw, db]),
           {"native_layer_norm_backward": lambda: backward(dy, x, (c,), *column, w, bias, masks)},
           [(t, lambda i=i: backward(dy.float(), x.float(), (c,), *column, w.float(), bias.float(), masks)[i])
            for i, t in enumerate((dx, dw, db))])
    yield ("rmsnorm", f"{n}x{c}", b.op("rmsnorm", [x, None, w], [y, None, rstd], q.NormAttrs(1e-5)),
           {"F.rms_norm": lambda: F.rms_norm(x, (c,), w, 1e-5)},
           [(y, lambda: F.rms_norm(x.float(), (c,), w.float(), 1e-5))])
    a, u, z = b.normal(n, inner, std=1.0), b.normal(n, inner, std=1.0), b.empty(n, inner)
    yield ("activation", f"{n}x{inner} gelu", b.op("activation", [a], [z], q.ActivationAttrs(q.GELU_TANH)),
           {"F.gelu": lambda: F.gelu(a, approximate="tanh")}, [(z, lambda: F.gelu(a.float(), approximate="tanh"))])
    yield ("swiglu", f"{n}x{inner}", b.op("swiglu", [a, u], [z]), {"F.silu(a) * u": lambda: F.silu(a) * u},
           [(z, lambda: F.silu(a.float()) * u.float())])
    yield ("copy", f"{n}x{inner}", b.op("copy", [a], [z]), {"copy_": lambda: z.copy_(a)}, [(z, lambda: a)])
    yield ("softmax", f"{n}x{inner}", b.op("softmax", [a], [z]), {"torch.softmax": lambda: torch.softmax(a, -1)},
           [(z, lambda: torch.softmax(a.float(), -1))])
    del a, u, z
    ids = torch.randint(0, v, (n,), device=b.o.device, dtype=torch.int32)
    table, long = b.normal(v, c), ids.long()
    yield ("embedding", f"{n}x{v}x{c}", b.op("embedding", [ids, table, None, None], [y]),
           {"F.embedding": lambda: F.embedding(long, table)}, [(y, lambda: F.embedding(long, table))])
    logits, dlogits = b.normal(n, v, std=1.0), b.empty(n, v)
    inv, loss = torch.full((), 1.0 / n, device=b.o.device), torch.empty((), device=b.o.device)
    leaf = logits.detach().requires_grad_()

    def both(t):
        out = F.cross_entropy(t, long)
        return torch.autograd.grad(out, t)[0]

    yield ("cross_entropy", f"{n}x{v} with gradient",
           b.op("cross_entropy", [logits, ids, inv], [loss, dlogits], q.LossAttrs(-100, 0.0, 0)),
           {"F.cross_entropy + backward": lambda: both(leaf)},
           [(loss, lambda: F.cross_entropy(logits.float(), long)),
            (dlogits[:256], lambda: both(logits[:256].float().requires_grad_()) if n <= 256 else
             (torch.softmax(logits[:256].float(), -1) - F.one_hot(long[:256], v)) / n)])


def update(b, tiny):
    n = 1000 if tiny else 124439808
    p, g = b.normal(n, dtype=F32), b.normal(n, dtype=F32)
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    hyper = torch.tensor([1e-3, 0.0], dtype=torch.float64, device=b.o.device)
    guard = torch.ones(8, dtype=torch.float64, device=b.o.device)
    segment = q.Segment(0, n, 1.0, 0.1)
    attrs = q.UpdateAttrs(0.9, 0.95, 1e-8, n_segments=1, segments=q.c.pointer(segment))
    leaf = torch.nn.Parameter(p.clone())
    leaf.grad = g
    optimizer = torch.optim.AdamW([leaf], lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    optimizer.step()
    after = leaf.detach().clone()
    yield ("adamw", f"{n}", b.op("adamw", [p, None, g, m, v, hyper, guard, None], [p, None, m, v, hyper], attrs),
           {"AdamW(fused=True)": optimizer.step}, [(p, lambda: after)])
    norm = torch.empty((), device=b.o.device)
    yield ("grad_norm", f"{n}", b.op("grad_norm", [g], [norm], attrs),
           {"vector_norm": lambda: torch.linalg.vector_norm(g)}, [(norm, lambda: g.double().norm())])


KERNELS = dict(products=products, attention=attention, rows=rows, update=update)


def kernels(b, what):
    torch.backends.cuda.matmul.allow_tf32 = False
    for case in KERNELS[what](b, b.o.tiny):
        try:
            b.compare(*case)
        except q.Failure as e:
            print(json.dumps(dict(kernel=case[0], shape=case[1], failed=str(e))), flush=True)
            if e.lost:
                raise
        except torch.OutOfMemoryError as e:
            print(f"{case[0]} {case[1]}: {e}", file=sys.stderr)


# ---- training ------------------------------------------------------------------------------------

NAMES = {"c_attn": "attn.c_attn", "proj": "attn.c_proj", "fc": "mlp.c_fc", "down": "mlp.c_proj"}


def hugging_face_name(name):
    parts = name.split(".")
    return "transformer." + ".".join(NAMES.get(p, p) for p in parts)


class Pair:
    """The same GPT-2 on both sides."""

    def __init__(self, b, batch, precision):
        tiny = b.o.tiny
        self.b, self.batch, self.precision = b, batch, precision
        self.sizes = dict(vocab_size=65, hidden_size=64, layers=2, heads=2, positions=32) if tiny else \
            dict(vocab_size=50304, hidden_size=768, layers=12, heads=12, positions=1024)
        s, opt = self.sizes, dict(lr=6e-4, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8)
        torch.manual_seed(1)
        self.model = GPT(s["vocab_size"], s["positions"], s["hidden_size"], s["layers"], s["heads"], True, "tanh")
        self.quern = q.Training(b.library, precision, batch_size=batch, accumulate=1, clip_norm=1.0, seed=1, **s, **opt)
        weights = {hugging_face_name(n): p.detach().float().contiguous() for n, p in self.model.named_parameters()}
        for i, name, _, count in self.quern.parameters():
            self.quern.set(i, weights[name].data_ptr(), count)
        self.model.to(b.o.device)
        decay = [p for p in self.model.parameters() if p.dim() > 1]
        plain = [p for p in self.model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW([dict(params=decay, weight_decay=0.1), dict(params=plain, weight_decay=0.0)],
                                           lr=6e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.run = self.model

    def data(self, seed):
        """Tokens that can be learned a little: each mostly follows from the one before."""
        s = self.sizes
        g = torch.Generator().manual_seed(seed)
        x = torch.randint(0, s["vocab_size"], (self.batch, s["positions"] + 1), generator=g)
        for t in range(1, s["positions"] + 1):
            keep = torch.rand(self.batch, generator=g) < 0.7
            x[:, t] = torch.where(keep, (x[:, t - 1] * 7 + 3) % s["vocab_size"], x[:, t])
        return x[:, :-1].to(torch.int32).contiguous(), x[:, 1:].to(torch.int32).contiguous()

    def torch_step(self, tokens, targets):
        with torch.autocast(self.b.o.device, dtype=BF16, enabled=self.precision == "bf16"):
            loss = self.run(tokens, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss

    def on_device(self, batch):
        return [t.long().to(self.b.o.device) for t in batch]


def losses(b):
    torch.backends.cuda.matmul.allow_tf32 = False
    for precision in ("f32", "bf16"):
        pair = Pair(b, 2 if b.o.tiny else 4, precision)
        ours, theirs = [], []
        for step in range(20):
            batch = pair.data(step)
            ours.append(pair.quern.step(batch[0].data_ptr(), batch[1].data_ptr())[0])
            theirs.append(pair.torch_step(*pair.on_device(batch)).item())
        gap = max(abs(a - t) for a, t in zip(ours, theirs))
        print(json.dumps(dict(kernel="gpt2 losses", shape=str(pair.sizes), dtype=precision, steps=20, largest_gap=gap,
                              quern=[round(v, 5) for v in ours], torch=[round(v, 5) for v in theirs],
                              device=b.library.description)), flush=True)
        pair.quern.close()
        if not all(map(math.isfinite, ours)):
            sys.exit("a loss is not finite")


def speed(b):
    steps, rounds = (2, 2) if b.o.tiny else (10, 5)
    for batch in ([2] if b.o.tiny else [16, 64]):
        pair = Pair(b, batch, "bf16")
        tokens, targets = pair.data(0)
        device = pair.on_device((tokens, targets))

        def eager():
            start = time.perf_counter()
            for _ in range(steps):
                pair.torch_step(*device)
            if b.cuda:
                torch.cuda.synchronize()
            return time.perf_counter() - start

        def compiled():
            pair.run = torch.compile(pair.model)
            seconds = eager()
            pair.run = pair.model
            return seconds

        sides = {"quern": lambda: pair.quern.steps(tokens.data_ptr(), targets.data_ptr(), steps), "torch eager": eager}
        if b.o.compile:
            sides["torch compiled"] = compiled
        rates = {name: [] for name in sides}
        for round_ in range(-1, rounds):
            for name, side in sides.items():
                seconds = side()
                if round_ >= 0:
                    rates[name].append(steps * batch * pair.sizes["positions"] / seconds)
        rates = {name: round(statistics.median(r)) for name, r in rates.items()}
        peak = torch.cuda.max_memory_allocated() if b.cuda else None
        print(json.dumps(dict(kernel="gpt2 training", shape=f"B={batch} {pair.sizes}", dtype="bf16",
                              tokens_per_second=rates["quern"], others=rates,
                              ratio=round(rates["quern"] / max(r for n, r in rates.items() if n != "quern"), 3),
                              quern_bytes=pair.quern.memory(), torch_peak_bytes=peak,
                              device=b.library.description)), flush=True)
        pair.quern.close()
        del pair


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("library")
    a.add_argument("what", choices=[*KERNELS, "losses", "speed"])
    a.add_argument("--device", default="cuda")
    a.add_argument("--tiny", action="store_true")
    a.add_argument("--compile", action="store_true")
    a.add_argument("--repeats", type=int, default=21)
    o = a.parse_args()
    b = Bench(o)
    if o.what in KERNELS:
        kernels(b, o.what)
    else:
        dict(losses=losses, speed=speed)[o.what](b)


main()
