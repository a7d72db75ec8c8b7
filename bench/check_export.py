#!/usr/bin/env python3
"""Quern's Hugging Face directories beside transformers, both ways. Needs transformers and torch.

For each decoder family a small model: transformers writes it with random weights (in shards, in f32, bf16 and f16) and
Quern evaluates it; Quern fine-tunes it for two steps and exports it, and transformers loads the export and evaluates
it. The checkpoints under QUERN_TEST_DATA/weights are fine-tuned and exported too. Losses are over the same tokens, so
they must agree to rounding; no key may be missing or left over. Prints one JSON object a line and fails if one is off.

  QUERN_TEST_DATA=DIR check_export.py [--quern build/release/quern]
"""

import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = dict(vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
             max_position_embeddings=64)
GPT2 = dict(vocab_size=97, n_embd=32, n_layer=3, n_head=4, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0)
LLAMA3 = dict(rope_type="llama3", rope_theta=1e4, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=2.0, original_max_position_embeddings=32)
MODELS = [
    ("gpt2", GPT2),
    ("gpt2", dict(GPT2, tie_word_embeddings=False, activation_function="relu")),
    ("llama", dict(SMALL, num_key_value_heads=2)),
    ("llama", dict(SMALL, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3)),
    ("mistral", dict(SMALL, num_key_value_heads=2, sliding_window=7)),
    ("qwen2", dict(SMALL, num_key_value_heads=2, use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    ("qwen2", dict(SMALL, num_key_value_heads=4, rope_parameters=YARN)),
    ("qwen3", dict(SMALL, num_key_value_heads=2, head_dim=12, tie_word_embeddings=True)),
]
REAL = ["llama_tinystories_656k", "gpt2_capp_236k"]
BLOCK, TOKENS = 16, 1 + 16 * 40
# largest relative difference of the losses: rounding of f32; of weights and activations in 8 or 11 bits
ALLOWED = {"f32": 1e-6, "bf16": 2e-2, "f16": 2e-3}


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def write_tokens(path, vocab):
    rng = random.Random(1)
    ids = [rng.randrange(vocab) for _ in range(TOKENS)]
    with open(path, "wb") as f:
        f.write(struct.pack(f"<{len(ids)}H", *ids))
    return ids


def write_config(path, model, tokens, vocab):
    config = {"model": {"pretrained": model},
              "data": {"type": "tokens", "dtype": "u16", "vocab_size": vocab, "path": tokens, "val_path": tokens + ".val",
                       "block_size": BLOCK},
              "optimizer": {"type": "adamw", "lr": 1e-3},
              "train": {"max_steps": 2, "batch_size": 4}, "device": "cpu"}
    with open(path, "w") as f:
        json.dump(config, f)


def quern_loss(quern, what):
    return json.loads(run(quern, "eval", what, "--json"))["eval/loss"]


def reference_loss(model, ids):
    """The mean over windows of BLOCK targets, in the model's own dtype."""
    total = count = 0
    with torch.no_grad():
        for at in range(0, len(ids) - BLOCK, BLOCK):
            logits = model(torch.tensor([ids[at:at + BLOCK]])).logits[0].float()
            targets = torch.tensor(ids[at + 1:at + BLOCK + 1])
            total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            count += len(targets)
    return total / count


def load(path, dtype):
    model, info = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, output_loading_info=True)
    wrong = {k: sorted(map(str, v)) for k, v in info.items() if v}
    if wrong:
        sys.exit(f"{path}: {wrong}")
    return model.eval()


def report(what, model, precision, ours, theirs):
    error = abs(ours - theirs) / theirs
    ok = error <= ALLOWED[precision]
    print(json.dumps({"what": what, "model": model, "weights": precision, "quern": ours, "transformers": theirs,
                      "relative": float(f"{error:.2g}"), "ok": ok}), flush=True)
    return ok


def check(quern, folder, name, model, vocab, ids):
    """A directory that transformers has written: evaluated, fine-tuned, exported, read again."""
    tokens, config = os.path.join(folder, "x.bin"), os.path.join(folder, "c.json")
    write_config(config, model, tokens, vocab)
    ok = report("read", name, "f32", quern_loss(quern, config), reference_loss(load(model, torch.float32), ids))
    trained = os.path.join(folder, "run")
    run(quern, "train", config, "--out", trained, "--overwrite")
    ours = quern_loss(quern, trained)
    for precision, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16), ("f16", torch.float16)):
        out = os.path.join(folder, "export-" + precision)
        run(quern, "export", trained, "--out", out, "--dtype", precision)
        # weights rounded to the type, computed in f32
        ok &= report("export", name, precision, ours, reference_loss(load(out, torch.float32), ids))
        stored = AutoConfig.from_pretrained(out).dtype
        if stored != dtype:
            sys.exit(f"{out}: config.json says {stored}")
    return ok


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quern", default=os.path.join(ROOT, "build", "release", "quern"))
    quern = os.path.abspath(parser.parse_args().quern)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(json.dumps({"quern": run(quern, "--version").strip(), "transformers": transformers.__version__,
                      "torch": torch.__version__}))
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        def fresh(name, vocab):
            place = os.path.join(folder, name)
            os.makedirs(place)
            ids = write_tokens(os.path.join(place, "x.bin"), vocab)
            with open(os.path.join(place, "x.bin.val"), "wb") as f:
                f.write(struct.pack(f"<{len(ids)}H", *reversed(ids)))
            return place, ids[::-1]

        for i, (family, keys) in enumerate(MODELS):
            place, ids = fresh(f"{i}", keys["vocab_size"])
            torch.manual_seed(i)
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, initializer_range=0.1, **keys))
            saved = os.path.join(place, "saved")
            model.save_pretrained(saved, max_shard_size="30KB")
            ok &= check(quern, place, f"{family} {i}", saved, keys["vocab_size"], ids)
        data = os.environ.get("QUERN_TEST_DATA", os.path.join(ROOT, "..", "shared", "data"))
        for name in REAL:
            model = os.path.join(data, "weights", name)
            if not os.path.isdir(model):
                print(json.dumps({"skipped": model}))
                continue
            vocab = AutoConfig.from_pretrained(model).vocab_size
            place, ids = fresh(name, vocab)
            ok &= check(quern, place, name, model, vocab, ids)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
