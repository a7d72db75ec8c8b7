#!/usr/bin/env python3
"""Makes trajectories.bin: 100 training steps of three small models in PyTorch f64.

Needs torch, transformers and numpy; it writes beside itself. The container is told in
golden_file.py. Names in the file, with M in gpt2, llama, mlp, and R a run of M (RUNS below):

  lm/tokens, lm/targets      i32 [100, 2, 4, 16]: steps, micro-batches, batch, time; shared by
                             gpt2 and llama; target -100 is ignored
  mlp/features, mlp/targets  f32 [100, 2, 16, 20], i32 [100, 2, 16]
  M/config                   f64, in the order of CONFIG below
  M/init/P                   f32: initial value of parameter P, Hugging Face's name and shape (so
                             GPT-2's Conv1D weights are [in, out]); mlp: layers.0.weight, ...
                             gpt2's output head is tied to wte and not listed; llama's is not tied
  M/decay                    i32 per parameter, in the order of M/init: 1 = weight decay applies
  M/grad_l2                  f64 per parameter: L2 norm of the first step's gradient, not clipped
  M/grad_f32_distance        f64 per parameter: |g32 - g64| / |g64| of PyTorch f32
  M/grad_max                 f64 scalar: the largest |g| of any parameter in the first step
  M/R/options                f64, in the order of OPTIONS below
  M/R/lr, loss, norm         f64 [100]: learning rate, loss, gradient norm before clipping
  M/R/at                     i32: numbers of updates done when weights are measured: 1, 10, 50, 100
  M/R/l2, dot                f64 [4, parameters]: L2 norm, and dot product with sin(1), sin(2), ...
                             over the row-major elements
  M/R/f32_distance           f64 per parameter: |w32 - w64| / |w64| of PyTorch f32's final weights
  M/R/spread                 f64 [2]: how far f64 itself moves when only the order of summation
                             changes (micro-batches swapped, rows of a batch reversed): largest
                             relative difference of a loss, and of an L2 norm

GPT-2's key bias, the middle third of c_attn.bias, has an analytically zero gradient: rounding
noise that AdamW blows up. It counts as zero in every norm, dot product and distance of weights
and gradients (not in M/R/norm, which it cannot change).

A step: both micro-batches, loss = sum of cross-entropies / number of valid targets of the whole
step, gradients summed, clipped as torch.nn.utils.clip_grad_norm_ (clip 0 = not clipped), one
update with lr(s). The mlp has GELU (erf) between its linear layers.

Schedules, s = 0 .. 99, w = warmup, peak = lr, min = min_lr, S = 100:
  s < w     lr = peak (s + 1) / w          so that step 0 is not wasted
  constant  lr = peak
  linear    lr = min + (peak - min) (1 - (s - w) / (S - w))
  cosine    lr = min + (peak - min) / 2 (1 + cos(pi (s - w) / (S - w)))
"""

import copy
import math
import os

import numpy as np
import torch
from golden_file import GoldenFile

STEPS, ACCUMULATE, BATCH, TIME, VOCAB = 100, 2, 4, 16, 61
MLP_BATCH, FEATURES, HIDDEN, CLASSES = 16, 20, (32, 24), 5
MEASURED = (1, 10, 50, 100)
OPTIONS = (
    "adamw",
    "schedule",
    "lr",
    "min_lr",
    "warmup",
    "beta1",
    "beta2",
    "eps",
    "weight_decay",
    "momentum",
    "dampening",
    "nesterov",
    "clip",
)
SCHEDULES = {"constant": 0, "linear": 1, "cosine": 2}
CONFIG = {
    "gpt2": ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon"),
    "llama": (
        "vocab_size",
        "max_position_embeddings",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "rms_norm_eps",
        "rope_theta",
    ),
    "mlp": ("features", "hidden1", "hidden2", "classes"),
}
ADAMW = dict(
    adamw=1,
    schedule="cosine",
    lr=3e-3,
    min_lr=3e-4,
    warmup=10,
    beta1=0.9,
    beta2=0.95,
    eps=1e-8,
    weight_decay=0.1,
    clip=1.0,
)
SGD_LINEAR = dict(
    schedule="linear", lr=0.05, min_lr=0.0, warmup=10, momentum=0.9, nesterov=1, clip=1.0
)
SGD_CONSTANT = dict(schedule="constant", lr=0.02, momentum=0.9, weight_decay=0.01)
RUNS = {"adamw": ADAMW, "sgd_linear": SGD_LINEAR, "sgd_constant": SGD_CONSTANT}


# ---- models ----


def exact_norms_and_angles(model):
    """transformers computes RMSNorm and rotary angles in f32 whatever the model's dtype; here they
    follow the dtype, with angles in f64 rounded once."""
    from transformers.models.llama import modeling_llama as hf

    def norm(self, x):
        return self.weight * (
            x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        )

    def angles(self, x, position_ids):
        half = torch.arange(0, HEAD, 2, dtype=torch.float64) / HEAD
        inverse = 1.0 / (10000.0**half)
        freqs = position_ids[:, :, None].to(torch.float64) * inverse
        both = torch.cat((freqs, freqs), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)

    HEAD = model.config.hidden_size // model.config.num_attention_heads
    for module in model.modules():
        if isinstance(module, hf.LlamaRMSNorm):
            module.forward = norm.__get__(module)
        if isinstance(module, hf.LlamaRotaryEmbedding):
            module.forward = angles.__get__(module)


def make_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=TIME,
        n_embd=32,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="eager",
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config), [getattr(config, k) for k in CONFIG["gpt2"]]


def make_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB,
        max_position_embeddings=TIME,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=56,
        rms_norm_eps=1e-5,
        attn_implementation="sdpa",  # eager computes its softmax in f32
        use_cache=False,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    tokens = torch.arange(2 * TIME).reshape(2, TIME) % VOCAB
    before = model(input_ids=tokens).logits
    exact_norms_and_angles(model)
    assert (
        model(input_ids=tokens).logits - before
    ).abs().max() < 1e-5, "the patched model is another model"
    return model, [getattr(config, k) for k in CONFIG["llama"][:-1]] + [10000.0]


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        sizes = (FEATURES, *HIDDEN, CLASSES)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.nn.functional.gelu(layer(x))
        return self.layers[-1](x)


def initialise(model, name):
    """Values that every part of the model feels: norms not one, biases not zero; exact in f32."""
    random = np.random.default_rng({"gpt2": 1, "llama": 2, "mlp": 3}[name])
    for key, p in model.named_parameters():
        value = random.standard_normal(tuple(p.shape))
        if p.ndim > 1:
            value *= 0.3 if name == "mlp" else 0.08
        elif "ln_" in key or "norm" in key:
            value = 1.0 + 0.1 * value if key.endswith("weight") else 0.05 * value
        else:
            value *= 0.05
        p.data = torch.tensor(value, dtype=torch.float32)


# ---- data ----


def make_tokens():
    """A noisy order-1 language, so that the loss falls; targets ignored unevenly, in step 7 a whole
    micro-batch of them."""
    random = np.random.default_rng(11)
    follow = random.permutation(VOCAB)
    sequences = np.empty((STEPS, ACCUMULATE, BATCH, TIME + 1), dtype=np.int32)
    sequences[..., 0] = random.integers(0, VOCAB, sequences.shape[:-1])
    for t in range(TIME):
        noise = random.random(sequences.shape[:-1]) < 0.2
        stray = random.integers(0, VOCAB, sequences.shape[:-1])
        sequences[..., t + 1] = np.where(noise, stray, follow[sequences[..., t]])
    tokens, targets = sequences[..., :-1].copy(), sequences[..., 1:].copy()
    ignored = random.random(targets.shape) < random.random((STEPS, ACCUMULATE, 1, 1)) * 0.7
    ignored[7, 1] = True
    targets[ignored] = -100
    return tokens, targets


def make_features():
    random = np.random.default_rng(12)
    centres = random.standard_normal((CLASSES, FEATURES))
    labels = random.integers(0, CLASSES, (STEPS, ACCUMULATE, MLP_BATCH)).astype(np.int32)
    features = centres[labels] + 0.8 * random.standard_normal((*labels.shape, FEATURES))
    targets = labels.copy()
    targets[random.random(targets.shape) < 0.15] = -100
    return features.astype(np.float32), targets


# ---- training ----


def learning_rate(o, s):
    if s < o["warmup"]:
        return o["lr"] * (s + 1) / o["warmup"]
    part = (s - o["warmup"]) / (STEPS - o["warmup"])
    if o["schedule"] == "linear":
        return o["min_lr"] + (o["lr"] - o["min_lr"]) * (1 - part)
    if o["schedule"] == "cosine":
        return o["min_lr"] + 0.5 * (o["lr"] - o["min_lr"]) * (1 + math.cos(math.pi * part))
    return o["lr"]


def complete(options):
    full = {key: 0 for key in OPTIONS}
    full.update(options)
    return full


def make_optimizer(model, o):
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": o["weight_decay"]},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if o["adamw"]:
        return torch.optim.AdamW(
            groups, lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=o["eps"], foreach=False
        )
    return torch.optim.SGD(
        groups,
        lr=o["lr"],
        momentum=o["momentum"],
        dampening=o["dampening"],
        nesterov=bool(o["nesterov"]),
        foreach=False,
    )


def step_gradients(model, inputs, targets):
    """Sets .grad; returns the loss of the step as a float."""
    valid = int((targets != -100).sum())
    total = 0.0
    model.zero_grad(set_to_none=True)
    for x, y in zip(inputs, targets):
        logits = model(x) if x.is_floating_point() else model(input_ids=x).logits
        loss = (
            torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]),
                y.reshape(-1).long(),
                reduction="sum",
                ignore_index=-100,
            )
            / valid
        )
        loss.backward()
        total += float(loss.detach().double())
    return total


def named(model, gradients=False):
    """(name, values as a flat f64 vector, with the key bias set to zero) per parameter."""
    for name, p in model.named_parameters():
        v = (p.grad if gradients else p).detach().double().reshape(-1).clone()
        if name.endswith("attn.c_attn.bias"):
            third = v.numel() // 3
            v[third : 2 * third] = 0
        yield name, v


def grad_norm(model):
    return math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in model.parameters()))


def measure(model):
    l2, dot = [], []
    for _, w in named(model):
        wave = torch.sin(torch.arange(1, w.numel() + 1, dtype=torch.float64))
        l2.append(float(w.norm()))
        dot.append(float(w @ wave))
    return l2, dot


def train(model, inputs, targets, o):
    optimizer = make_optimizer(model, o)
    log = {"lr": [], "loss": [], "norm": [], "l2": [], "dot": []}
    for s in range(STEPS):
        lr = learning_rate(o, s)
        for group in optimizer.param_groups:
            group["lr"] = lr
        log["loss"].append(step_gradients(model, inputs[s], targets[s]))
        log["norm"].append(grad_norm(model))
        if o["clip"]:
            torch.nn.utils.clip_grad_norm_(model.parameters(), o["clip"], foreach=False)
        optimizer.step()
        log["lr"].append(lr)
        if s + 1 in MEASURED:
            l2, dot = measure(model)
            log["l2"].append(l2)
            log["dot"].append(dot)
    return log


def distances(a, b):
    """Per parameter |a - b| / |b|, of what named() yields."""
    return [float((x - y).norm() / y.norm()) for (_, x), (_, y) in zip(a, b)]


def largest_difference(a, b):
    a, b = np.array(a), np.array(b)
    return float(np.max(np.abs(a - b) / np.abs(b)))


def first_gradients(model, inputs, targets):
    step_gradients(model, inputs[0], targets[0])
    return list(named(model, gradients=True))


def write_model(out, name, model, config, inputs, targets):
    initialise(model, name)
    model.eval()
    double = copy.deepcopy(model).double()
    g64 = first_gradients(
        double, inputs.double() if inputs.is_floating_point() else inputs, targets
    )
    g32 = first_gradients(copy.deepcopy(model), inputs, targets)
    out.add(f"{name}/config", config, "float64")
    for n, p in model.named_parameters():
        out.add(f"{name}/init/{n}", p, "float32")
    out.add(f"{name}/decay", [p.ndim > 1 for p in model.parameters()], "int32")
    out.add(f"{name}/grad_l2", [float(g.norm()) for _, g in g64])
    out.add(f"{name}/grad_max", max(float(g.abs().max()) for _, g in g64))
    out.add(f"{name}/grad_f32_distance", distances(g32, g64))

    wide = inputs.double() if inputs.is_floating_point() else inputs
    for run, options in RUNS.items():
        o = complete(options)
        key = f"{name}/{run}"
        m64, m32, again = (
            copy.deepcopy(model).double(),
            copy.deepcopy(model),
            copy.deepcopy(model).double(),
        )
        log = train(m64, wide, targets, o)
        train(m32, inputs, targets, o)
        other = train(again, wide.flip(1).flip(2), targets.flip(1).flip(2), o)
        out.add(
            f"{key}/options",
            [SCHEDULES[o[k]] if k == "schedule" else o[k] for k in OPTIONS],
            "float64",
        )
        out.add(f"{key}/at", MEASURED, "int32")
        for what in ("lr", "loss", "norm", "l2", "dot"):
            out.add(f"{key}/{what}", log[what], "float64")
        distance = distances(named(m32), named(m64))
        out.add(f"{key}/f32_distance", distance)
        spread = [largest_difference(log[k], other[k]) for k in ("loss", "l2")]
        out.add(f"{key}/spread", spread)
        print(
            f"{key}: loss {log['loss'][0]:.4f} -> {log['loss'][-1]:.4f}, "
            f"f32 distance <= {max(distance):.1e}, "
            f"f64 spread {spread[0]:.1e} {spread[1]:.1e}"
        )


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    out = GoldenFile()
    tokens, targets = make_tokens()
    features, labels = make_features()
    out.add("lm/tokens", tokens)
    out.add("lm/targets", targets)
    out.add("mlp/features", features)
    out.add("mlp/targets", labels)
    for name, make in (("gpt2", make_gpt2), ("llama", make_llama)):
        model, config = make()
        write_model(out, name, model, config, torch.tensor(tokens).long(), torch.tensor(targets))
    write_model(
        out,
        "mlp",
        Mlp(),
        (FEATURES, *HIDDEN, CLASSES),
        torch.tensor(features),
        torch.tensor(labels),
    )
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "trajectories.bin")
    print(out.write(path), "bytes")


if __name__ == "__main__":
    main()
