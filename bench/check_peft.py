#!/usr/bin/env python3
"""Trains adapters with a built `quern`, then loads what it exports with PEFT and transformers.

    check_peft.py QUERN MODELS        MODELS: a folder with llama_tinystories_656k and gpt2_capp_236k

For each case: `quern train` with an adapter, `quern export` and `quern merge`; PEFT must load the
adapter, whose keys are those PEFT would save, transformers the merged model; on the validation tokens
the losses of both and of `quern eval` must agree within 1e-5 (1e-2 in bf16), and the logits of PEFT
and of the merged model within 1e-4 of the largest (5e-2: two passes of transformers in bf16, the
largest of 40,000 to 1.6 million differences). Needs torch, transformers and peft; not part of the
tests, which have no such packages.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

BLOCK = 24
CASES = {
    "lora": dict(targets=["q_proj", "v_proj"], r=4),
    "rslora": dict(targets="all-linear", r=4, use_rslora=True, patterns=[
        {"match": "down_proj", "r": 2}, {"match": "layers.0.self_attn.q_proj", "alpha": 3}]),
    "dora": dict(targets="all-linear", r=3, use_dora=True),
    "saved": dict(targets="o_proj", r=2, modules_to_save=["norm", "layers.1.mlp.gate_proj"]),
    "gpt2_lora": dict(targets="c_attn", r=4),
    "gpt2_dora": dict(targets="all-linear", r=2, use_dora=True, bias="lora_only"),
    "gpt2_bias": dict(targets=["attn.c_proj"], r=2, bias="all", modules_to_save=["h.0.mlp.c_fc"]),
}


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout


def losses(model, rows):
    x = torch.tensor(rows.astype(np.int64))
    with torch.no_grad():
        logits = model(input_ids=x[:, :-1]).logits.float()
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]),
                                             x[:, 1:].reshape(-1))
    return float(loss), logits


def case(quern, base, name, adapter, precision):
    vocab = json.load(open(os.path.join(base, "config.json")))["vocab_size"]
    tokens = np.random.default_rng(1).integers(0, vocab, 3200 + 33 * BLOCK + 1).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        path = lambda x: os.path.join(folder, x)
        tokens[:3200].tofile(path("train.bin"))
        tokens[3200:].tofile(path("val.bin"))
        config = {
            "device": "cpu", "precision": precision,
            "model": {"pretrained": base, "dropout": 0},
            "adapter": {"type": "lora", "alpha": 8, **adapter},
            "data": {"type": "tokens", "path": "train.bin", "val_path": "val.bin", "dtype": "u16",
                     "vocab_size": vocab, "block_size": BLOCK},
            "train": {"max_steps": 30, "batch_size": 8},
            "optimizer": {"lr": 5e-3},
            "early_stopping": {"enabled": False},
        }
        json.dump(config, open(path("c.json"), "w"))
        run(quern, "train", path("c.json"), "--out", path("run"))
        ours = json.loads(run(quern, "eval", path("run"), "--json"))["eval/loss"]
        run(quern, "export", path("run"), "--out", path("adapter"))
        run(quern, "merge", path("run"), "--out", path("merged"))
        run(quern, "merge", path("adapter"), "--base", base, "--out", path("merged2"))

        rows = tokens[3200:]
        n = (len(rows) - 1) // BLOCK
        rows = np.stack([rows[i * BLOCK : i * BLOCK + BLOCK + 1] for i in range(n)])
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        model = PeftModel.from_pretrained(model, path("adapter")).eval()
        stored = load_file(path("adapter/adapter_model.safetensors"))
        wanted = get_peft_model_state_dict(model)
        copies = {k for k in wanted if ".original_module." in k or ".modules_to_save." in k}
        assert set(stored) == set(wanted) - copies, set(stored) ^ set(wanted)
        peft, logits = losses(model, rows)
        tolerance, loss_tolerance = (1e-4, 1e-5) if precision == "f32" else (5e-2, 1e-2)
        for other in ("merged", "merged2"):
            merged = AutoModelForCausalLM.from_pretrained(path(other), dtype="auto").eval()
            loss, again = losses(merged, rows)
            far = float((logits - again).abs().max() / logits.abs().max())
            print(f"{name} {precision} {other}: loss {ours:.6f} here, {peft:.6f} in PEFT, {loss:.6f} "
                  f"merged; logits within {far:.1e}")
            assert abs(ours - peft) <= loss_tolerance * ours
            assert abs(ours - loss) <= loss_tolerance * ours
            assert far <= tolerance


def main():
    quern, models = sys.argv[1:3]
    for name, adapter in CASES.items():
        base = "gpt2_capp_236k" if name.startswith("gpt2") else "llama_tinystories_656k"
        for precision in ("f32", "bf16"):
            case(quern, os.path.join(os.path.abspath(models), base), name, adapter, precision)


if __name__ == "__main__":
    main()
