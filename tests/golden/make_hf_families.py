#!/usr/bin/env python3
"""Makes hf_families.bin: tiny decoders of Hugging Face's transformers, computed in f64.

Needs torch and transformers; it writes beside itself. The container is told in golden_file.py.
Weights are not stored: element k of the parameter called N is a function of k and N (weight()
below), computed without rounding here and in the test. In the file, with C one of CASES:

  tokens, targets    i32 [10, 2, 12]: steps, batch, time; target -100 is ignored
  C/config           f64, in the order of CONFIG below; the family is C up to the first dot
  C/logits           f64 [2, 12, 31], of the first step's tokens and the initial weights
  C/names            i32 [parameters]: FNV-1a of the parameter's name; the order of what follows
  C/gradient         f64 [parameters, 2]: of the first step's loss, L2 norm and dot product with
                     sin(1), sin(2), ... over the row-major elements
  C/weight           f64 [parameters, 2]: the same of the weights after ten steps
  C/loss             f64 [10]

A step: loss = mean cross-entropy over the targets that count; AdamW with lr 1e-2, betas 0.9 and
0.95, eps 1e-8, weight decay 0.1 except for norms and biases; no clipping. GPT-2's key bias (the
middle third of c_attn.bias) has a gradient of zero but for rounding: it counts as zero.

The modules of transformers ask for torch.float32 inside (rotary angles, norms, softmax). Here
that name stands for torch.float64, so that the reference is exact.
"""

import math
import os

import torch
from golden_file import GoldenFile
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

STEPS, BATCH, TIME, VOCAB = 10, 2, 12, 31
CONFIG = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "norm_eps",
    "rope_theta",
    "rope_type",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "beta_fast",
    "beta_slow",
    "truncate",
    "sliding_window",
    "max_window_layers",
    "sliding_layers",  # bit i: layer i has the window; -1: max_window_layers says
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
)
ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")
FAMILIES = {
    "gpt2": (GPT2Config, GPT2LMHeadModel),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
SLIDING = {"use_sliding_window": True, "sliding_window": 4}
CASES = {
    "gpt2.plain": {},
    "gpt2.by_layer": {"scale_attn_by_inverse_layer_idx": True},
    "gpt2.unscaled": {"scale_attn_weights": False},
    "llama.plain": {},
    "llama.biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    "llama.linear": {"rope": {"rope_type": "linear", "factor": 2.5}},
    "llama.dynamic": {
        "rope": {"rope_type": "dynamic", "factor": 3.0},
        "max_position_embeddings": 8,
    },
    "llama.llama3": {
        "rope": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "llama.yarn": {"rope": YARN},
    "llama.yarn_mscale": {
        "rope": {
            **YARN,
            "mscale": 1.0,
            "mscale_all_dim": 0.7,
            "beta_fast": 4.0,
            "beta_slow": 0.5,
            "truncate": False,
        }
    },
    "llama.yarn_attention": {"rope": {**YARN, "attention_factor": 1.3}, "theta": 1000.0},
    "mistral.full": {"sliding_window": None, "head_dim": 4},
    "mistral.window": {"sliding_window": 5},
    "qwen2.full": {"tie_word_embeddings": True},
    "qwen2.window": {**SLIDING, "max_window_layers": 1},
    "qwen3.full": {"tie_word_embeddings": True},
    "qwen3.window": {
        **SLIDING,
        "attention_bias": True,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "qwen3.yarn": {"rope": YARN, "theta": 1e6, "head_dim": 16},
}


def fnv1a(name):
    h = 2166136261
    for b in name.encode():
        h = (h ^ b) * 16777619 % 2**32
    return h


def weight(name, shape):
    """Multiples of 2^-16 in (-1/4, 1/4); about 1 for norms."""
    n = math.prod(shape)
    k = torch.arange(n, dtype=torch.int64)
    x = (k * 2654435761 + fnv1a(name)) % 2**32
    x = (x ^ (x >> 15)) * 2246822519 % 2**32
    w = ((x >> 17) - 16384).double() / 65536
    norm = len(shape) == 1 and name.endswith("weight")
    return (w + 1 if norm else w).reshape(shape)


def full_config(family, options):
    """transformers' keywords, and the numbers the file holds."""
    c = dict(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        tie_word_embeddings=family == "gpt2",
    )
    options = dict(options)
    rope, theta = options.pop("rope", {"rope_type": "default"}), options.pop("theta", 1e4)
    c.update(options)
    c.setdefault("head_dim", 8 if family == "qwen3" else 4)
    told = {name: 0.0 for name in CONFIG}
    told.update(scale_attn_weights=1, truncate=1, norm_eps=1e-5, rope_theta=theta, sliding_layers=-1)
    told.update({k: v for k, v in c.items() if k in told and v is not None})
    told.update({k: v for k, v in rope.items() if k in told})
    told["rope_type"] = ROPE_TYPES.index(rope["rope_type"])
    if "layer_types" in c:
        sliding = [kind.startswith("sliding") for kind in c["layer_types"]]
        told["sliding_layers"] = sum(1 << i for i, s in enumerate(sliding) if s)
    if family == "gpt2":
        told.update(num_key_value_heads=4, intermediate_size=64)
        keep = ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "vocab_size")
        c = {k: v for k, v in c.items() if k in keep}
        c.update(n_embd=16, n_layer=2, n_head=4, n_positions=32, attn_pdrop=0.0)
        c.update(embd_pdrop=0.0, resid_pdrop=0.0)
    else:
        c.update(rms_norm_eps=1e-5, rope_parameters={**rope, "rope_theta": theta})
    return c, told


def measured(name, t):
    t = t.detach().reshape(-1).clone()
    if name.endswith("c_attn.bias"):
        t[t.numel() // 3 : 2 * t.numel() // 3] = 0
    k = torch.arange(1, t.numel() + 1, dtype=torch.float64)
    return [t.norm().item(), (t * k.sin()).sum().item()]


def run(g, case, options, tokens, targets):
    family = case.split(".")[0]
    keywords, told = full_config(family, options)
    config, model = FAMILIES[family]
    model = model(config(**keywords, attn_implementation="eager"))
    assert next(model.parameters()).dtype == torch.float64
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(weight(name, p.shape))
    decay = [p for n, p in parameters.items() if p.dim() > 1]
    rest = [p for n, p in parameters.items() if p.dim() == 1]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in range(STEPS):
        logits = model(input_ids=tokens[step], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[step].flatten().long())
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            g.add(f"{case}/logits", logits)
            gradient = [measured(n, p.grad) for n, p in parameters.items()]
        optimizer.step()
    g.add(f"{case}/config", [float(told[name]) for name in CONFIG], "float64")
    hashes = [fnv1a(n) - (2**32 if fnv1a(n) >= 2**31 else 0) for n in parameters]
    g.add(f"{case}/names", hashes, "int32")
    g.add(f"{case}/gradient", gradient, "float64")
    g.add(f"{case}/weight", [measured(n, p) for n, p in parameters.items()], "float64")
    g.add(f"{case}/loss", losses, "float64")
    print(f"{case}: loss {losses[0]:.6f} to {losses[-1]:.6f}")


def main():
    torch.manual_seed(20)
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    tokens = torch.randint(VOCAB, (STEPS, BATCH, TIME), dtype=torch.int32)
    targets = torch.randint(VOCAB, (STEPS, BATCH, TIME), dtype=torch.int32)
    targets[torch.rand(targets.shape) < 0.2] = -100
    g = GoldenFile()
    g.add("tokens", tokens)
    g.add("targets", targets)
    for case, options in CASES.items():
        run(g, case, options, tokens, targets)
    here = os.path.dirname(os.path.abspath(__file__))
    print(g.write(os.path.join(here, "hf_families.bin")), "bytes")


if __name__ == "__main__":
    main()
