#!/usr/bin/env python3
"""Makes peft.bin and the adapters below peft/ with PEFT and PyTorch f64.

Needs torch, transformers, peft and numpy. The models are gpt2 and llama of make_trajectories.py
with the same weights, which trajectories.bin holds. An adapter is PEFT's own in f32, its B moved off
zero and its magnitudes off their initial values, saved by PEFT as peft/CASE. Names in peft.bin, for
each CASE below:

  CASE/options     f64: learning rate, weight decay, LoRA+ ratio
  CASE/logits      f64 [16, vocabulary]: of the first sequence of lm/tokens in trajectories.bin, with
                   the adapter as it was saved
  CASE/merged      f64 [16, vocabulary]: the same after PEFT has merged it into the model
  CASE/loss        f64 [11]: before each of ten AdamW steps over the micro-batches of lm/tokens (betas
                   0.9 and 0.999, eps 1e-8, no clipping), and after them on the batch of an eleventh
  CASE/param/KEY   f64 [4] for every trained parameter by its key in PEFT's file: L2 norm of the first
                   gradient and its dot product with sin(1), sin(2), ..., then those of the parameter
                   after ten steps. Row-major, GPT-2's Conv1D weights [in, out].

GPT-2's key bias counts as zero, as in trajectories.bin: its gradient is rounding noise.
"""

import json
import os
import shutil

import make_trajectories as base
import numpy as np
import torch
from golden_file import GoldenFile
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict

STEPS = 10
CASES = {
    "gpt2_lora": ("gpt2", dict(lr=1e-2), dict(r=4, lora_alpha=8, target_modules=["c_attn"])),
    "gpt2_dora": (
        "gpt2",
        dict(lr=5e-3, weight_decay=0.05),
        dict(
            r=2,
            lora_alpha=6,
            target_modules=["c_attn", "c_fc", "mlp.c_proj"],
            use_dora=True,
            bias="lora_only",
        ),
    ),
    "gpt2_saved": (
        "gpt2",
        dict(lr=3e-3),
        dict(
            r=3,
            target_modules=["attn.c_proj"],
            modules_to_save=["ln_f", "h.1.mlp.c_fc"],
        ),
    ),
    "gpt2_bias": (
        "gpt2",
        dict(lr=3e-3),
        dict(r=1, target_modules=["attn.c_proj"], bias="all", init_lora_weights="gaussian"),
    ),
    "llama_lora": (
        "llama",
        dict(lr=1e-2, weight_decay=0.1),
        dict(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"]),
    ),
    "llama_patterns": (
        "llama",
        dict(lr=2e-3, ratio=4.0),
        dict(
            r=4,
            lora_alpha=8,
            target_modules="all-linear",
            use_rslora=True,
            rank_pattern={"layers.1.self_attn.q_proj": 2, "down_proj": 3, r".*\.0\.mlp\.up_proj": 1},
            alpha_pattern={"v_proj": 5, "layers.1.mlp.(gate|up)_proj": 12},
            modules_to_save=["lm_head", "model.norm"],
        ),
    ),
    "llama_dora": (
        "llama",
        dict(lr=5e-3),
        dict(r=3, lora_alpha=3, target_modules=r".*\.(self_attn|mlp)\.[a-z]+_proj", use_dora=True),
    ),
}


def make_model(name):
    model, _ = {"gpt2": base.make_gpt2, "llama": base.make_llama}[name]()
    base.initialise(model, name)
    return model


def perturb(model):
    """B off zero and magnitudes off the norms, so that everything has an effect from the start."""
    random = np.random.default_rng(5)
    for key, p in model.named_parameters():
        value = torch.tensor(random.standard_normal(tuple(p.shape)), dtype=torch.float32)
        if "lora_B" in key:
            p.data = 0.1 * value
        elif "magnitude" in key:
            p.data *= 1 + 0.1 * value
        elif p.requires_grad and "lora_" not in key:
            p.data += 0.05 * value


def save(model, directory):
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    os.unlink(os.path.join(directory, "README.md"))


def keys_of(model):
    """Key in PEFT's file -> the parameter."""
    state = get_peft_model_state_dict(model)
    by_place = {p.data_ptr(): p for _, p in model.named_parameters() if p.requires_grad}
    return {key: by_place[tensor.data_ptr()] for key, tensor in state.items()}


def numbers(key, v):
    v = v.detach().double().reshape(-1).clone()
    if "attn.c_attn" in key and key.endswith(".bias"):
        third = v.numel() // 3
        v[third : 2 * third] = 0
    wave = torch.sin(torch.arange(1, v.numel() + 1, dtype=torch.float64))
    return [float(v.norm()), float(v @ wave)]


def make_optimizer(trained, o):
    groups = []
    for key, p in trained.items():
        fast = "lora_B" in key or p.ndim == 1
        groups.append(
            {
                "params": [p],
                "lr": o["lr"] * (o.get("ratio", 1.0) if fast else 1.0),
                "weight_decay": o.get("weight_decay", 0.0) if p.ndim > 1 else 0.0,
            }
        )
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, foreach=False)


def run(out, here, name, family, o, options):
    torch.manual_seed(3)
    model = get_peft_model(make_model(family), LoraConfig(task_type="CAUSAL_LM", **options))
    perturb(model)
    save(model, os.path.join(here, "peft", name))
    model = model.double().eval()
    if family == "llama":
        base.exact_norms_and_angles(model)
    trained = keys_of(model)
    tokens, targets = (torch.tensor(x) for x in base.make_tokens())

    out.add(f"{name}/options", [o["lr"], o.get("weight_decay", 0.0), o.get("ratio", 1.0)], "float64")
    out.add(f"{name}/logits", model(input_ids=tokens[0, 0, :1]).logits[0])
    losses, first = [], {}
    optimizer = make_optimizer(trained, o)
    for s in range(STEPS + 1):
        losses.append(base.step_gradients(model, tokens[s], targets[s]))
        if s == 0:
            first = {key: numbers(key, p.grad) for key, p in trained.items()}
        if s < STEPS:
            optimizer.step()
    out.add(f"{name}/loss", losses, "float64")
    for key, p in trained.items():
        out.add(f"{name}/param/{key}", first[key] + numbers(key, p), "float64")

    from peft import PeftModel

    merged = PeftModel.from_pretrained(make_model(family).double(), os.path.join(here, "peft", name))
    merged = merged.double().merge_and_unload()
    if family == "llama":
        base.exact_norms_and_angles(merged)
    out.add(f"{name}/merged", merged.eval()(input_ids=tokens[0, 0, :1]).logits[0])
    print(name, len(trained), "parameters, loss", losses[0], "->", losses[-1])


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = GoldenFile()
    for name, (family, o, options) in CASES.items():
        run(out, here, name, family, o, options)
    print(out.write(os.path.join(here, "peft.bin")), "bytes")


if __name__ == "__main__":
    main()
