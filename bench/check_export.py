#!/usr/bin/env python3
"""Quern's Hugging Face directories beside transformers, both ways. Needs transformers and torch.

For each decoder family a small model: transformers writes it with random weights, in shards, and Quern evaluates it;
Quern fine-tunes it for two steps and exports it in f32, bf16 and f16, and transformers loads the exports and evaluates
them. The checkpoints under QUERN_TEST_DATA/weights are fine-tuned and exported too, and BERT and RoBERTa as classifiers
of texts, with the tokenizers there. Losses are over the same tokens, so they must agree to rounding; no key may be
missing or left over. Prints one JSON object a line and fails if one is off.

  QUERN_TEST_DATA=DIR check_export.py [--quern build/release/quern]
"""

import argparse
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, BertTokenizerFast,
                          PreTrainedTokenizerFast)

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


def load(path, dtype, kind=AutoModelForCausalLM):
    model, info = kind.from_pretrained(path, dtype=dtype, output_loading_info=True)
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


# ---- classifiers -----------------------------------------------------------------------------------------------------

CLASSIFIERS = [("bert", dict(vocab_size=30522)), ("roberta", dict(vocab_size=50265, pad_token_id=1, type_vocab_size=1))]


def tokenizer_of(family, data, folder):
    """A tokenizer of transformers, and the path of its file for Quern; (None, None) without the data."""
    if family == "bert":
        path = os.path.join(data, "tokenizers", "bert-base-uncased", "vocab.txt")
        return (BertTokenizerFast(vocab=path), path) if os.path.exists(path) else (None, None)
    packed = os.path.join(data, "tokenizers", "roberta-base", "tokenizer.json.gz")
    if not os.path.exists(packed):
        return None, None
    path = os.path.join(folder, "tokenizer.json")
    with gzip.open(packed) as f, open(path, "wb") as out:
        out.write(f.read())
    return PreTrainedTokenizerFast(tokenizer_file=path, pad_token="<pad>"), path


def write_texts(path, seed):
    words = "a good bad film story is was not very never dull bright 12 , !".split()
    rng = random.Random(seed)
    rows = [(" ".join(rng.choice(words) for _ in range(rng.randrange(3, 14))), rng.randrange(3)) for _ in range(40)]
    with open(path, "w") as f:
        f.write("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    return rows


def classifier_loss(model, tokenizer, rows):
    total = 0
    with torch.no_grad():
        for text, label in rows:
            batch = tokenizer(text, return_tensors="pt", padding="max_length", max_length=32)
            logits = model(**batch).logits
            total += torch.nn.functional.cross_entropy(logits, torch.tensor([label])).item()
    return total / len(rows)


def check_classifier(quern, folder, data, family, keys):
    kind = AutoModelForSequenceClassification
    tokenizer, path = tokenizer_of(family, data, folder)
    if tokenizer is None:
        print(json.dumps({"skipped": family}))
        return True
    saved, config, trained = (os.path.join(folder, name) for name in ("saved", "c.json", "run"))
    torch.manual_seed(3)
    sizes = dict(SMALL, **keys)
    kind.from_config(AutoConfig.for_model(family, initializer_range=0.2, num_labels=3, **sizes)).save_pretrained(saved)
    write_texts(os.path.join(folder, "x.csv"), 1)
    rows = write_texts(os.path.join(folder, "v.csv"), 2)
    with open(config, "w") as f:
        json.dump({"model": {"pretrained": "./saved", "dropout": 0, "attention_dropout": 0, "embedding_dropout": 0},
                   "data": {"type": "labelled_text", "path": "x.csv", "val_path": "v.csv", "tokenizer": path,
                            "block_size": 32},
                   "optimizer": {"type": "adamw", "lr": 1e-3}, "train": {"max_steps": 2, "batch_size": 4},
                   "device": "cpu"}, f)
    name = family + " classifier"
    ok = report("read", name, "f32", quern_loss(quern, config),
                classifier_loss(load(saved, torch.float32, kind), tokenizer, rows))
    run(quern, "train", config, "--out", trained)
    ours = quern_loss(quern, trained)
    for precision in ("f32", "bf16", "f16"):
        out = os.path.join(folder, "export-" + precision)
        run(quern, "export", trained, "--out", out, "--dtype", precision)
        ok &= report("export", name, precision, ours,
                     classifier_loss(load(out, torch.float32, kind), tokenizer, rows))
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
        for family, keys in CLASSIFIERS:
            place = os.path.join(folder, family)
            os.makedirs(place)
            ok &= check_classifier(quern, place, data, family, keys)
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
