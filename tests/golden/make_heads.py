#!/usr/bin/env python3
"""Makes heads.bin: encoders and heads of transformers in PyTorch f64, ten AdamW steps each.

Needs torch, transformers and numpy; it writes beside itself. The container is told in
golden_file.py. Weights are not in the file: both sides compute them. With h the 64-bit FNV-1a hash
of the parameter's Hugging Face name and s(x) one step of splitmix64 from state x,

  unit(name, i) = (s(h ^ i) >> 48) / 2^15 - 1           for element i, row-major

  a matrix is unit / 4, a norm's weight (its name has "norm" or "ln_") 1 + unit / 8, any other
  vector unit / 8. All of it is exact in f32.

Names in the file, C a case of CASES below:

  tokens, token_types    i32 [10, 4, 9]: steps, batch, time; 0 where documents is -1
  documents              i32 [10, 4, 9]: 0, and -1 for padding, which is at the end
  label                  i32 [10, 4]; token_labels, masked: i32 [10, 4, 9], -100 does not count
  labels                 f32 [10, 4, 3]: zeros and ones; numbers: f32 [10, 4, 1];
  vectors                f32 [10, 4, 12]
  C/logits               f64: what the head gives for the first batch before any step; of a head
                         over tokens, zero at padding
  C/loss                 f64 [10]: before each step
  C/p/NAME               f64 [4] per parameter, by Hugging Face's name: L2 norm of the first
                         gradient and its dot product with unit("wave", i); the same two of the
                         weights after ten steps

The loss is the mean over the targets that count; AdamW with OPTIMIZER below, decay on matrices.
The attention's key bias has an analytically zero gradient, which AdamW blows up: its four numbers
are zero here.
"""

import copy
import os

import numpy as np
import torch
import transformers as hf
from golden_file import GoldenFile
from make_trajectories import exact_norms_and_angles

STEPS, BATCH, TIME, VOCAB, WIDTH, LABELS = 10, 4, 9, 29, 12, 3
OPTIMIZER = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, foreach=False)
DECAY = 0.1
ENCODER = dict(
    vocab_size=VOCAB,
    hidden_size=WIDTH,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=20,
    max_position_embeddings=16,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
BERT = hf.BertConfig(**ENCODER, type_vocab_size=2, pad_token_id=0)
ROBERTA = hf.RobertaConfig(**ENCODER, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5)
GPT2 = hf.GPT2Config(
    vocab_size=VOCAB,
    n_positions=16,
    n_embd=WIDTH,
    n_layer=2,
    n_head=3,
    n_inner=20,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    pad_token_id=0,
    bos_token_id=0,
    eos_token_id=0,
    use_cache=False,
)
LLAMA = hf.LlamaConfig(
    vocab_size=VOCAB,
    max_position_embeddings=16,
    hidden_size=WIDTH,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=1,
    intermediate_size=20,
    rms_norm_eps=1e-5,
    attn_implementation="sdpa",
    use_cache=False,
    pad_token_id=0,
    bos_token_id=0,
    eos_token_id=0,
)


def unit(name, count):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        x = (np.uint64(h) ^ np.arange(count, dtype=np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(48)).astype(np.float64) / 2**15 - 1


def initialise(model):
    for name, p in model.named_parameters():
        value = unit(name, p.numel()).reshape(tuple(p.shape))
        if p.ndim > 1:
            value /= 4
        elif ("norm" in name.lower() or "ln_" in name) and name.endswith("weight"):
            value = 1 + value / 8
        else:
            value /= 8
        p.data = torch.tensor(value, dtype=torch.float64)


class Embedding(torch.nn.Module):
    """The mean of the last hidden states over the tokens that are no padding."""

    def __init__(self, config):
        super().__init__()
        self.bert = hf.BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids, attention_mask, token_type_ids):
        h = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        mask = attention_mask[..., None].to(h.dtype)
        return type("Output", (), {"logits": (h * mask).sum(1) / mask.sum(1)})


def cross_entropy(logits, target):
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), target.reshape(-1).long(), ignore_index=-100
    )


def binary_cross_entropy(logits, target):
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, target.double())


def squared_error(logits, target):
    return torch.nn.functional.mse_loss(logits, target.double())


# name: class, configuration, number of labels, target, loss
CASES = {
    "bert_sequence": (hf.BertForSequenceClassification, BERT, LABELS, "label", cross_entropy),
    "bert_multi": (hf.BertForSequenceClassification, BERT, LABELS, "labels", binary_cross_entropy),
    "bert_regression": (hf.BertForSequenceClassification, BERT, 1, "numbers", squared_error),
    "bert_token": (hf.BertForTokenClassification, BERT, LABELS, "token_labels", cross_entropy),
    "bert_masked_lm": (hf.BertForMaskedLM, BERT, LABELS, "masked", cross_entropy),
    "bert_embedding": (Embedding, BERT, LABELS, "vectors", squared_error),
    "roberta_sequence": (
        hf.RobertaForSequenceClassification,
        ROBERTA,
        LABELS,
        "label",
        cross_entropy,
    ),
    "roberta_token": (
        hf.RobertaForTokenClassification,
        ROBERTA,
        LABELS,
        "token_labels",
        cross_entropy,
    ),
    "roberta_masked_lm": (hf.RobertaForMaskedLM, ROBERTA, LABELS, "masked", cross_entropy),
    "gpt2_sequence": (hf.GPT2ForSequenceClassification, GPT2, LABELS, "label", cross_entropy),
    "gpt2_token": (hf.GPT2ForTokenClassification, GPT2, LABELS, "token_labels", cross_entropy),
    "llama_sequence": (hf.LlamaForSequenceClassification, LLAMA, LABELS, "label", cross_entropy),
    "llama_token": (hf.LlamaForTokenClassification, LLAMA, LABELS, "token_labels", cross_entropy),
}
PROBLEMS = {
    "label": "single_label_classification",
    "labels": "multi_label_classification",
    "numbers": "regression",
}


def make_data():
    random = np.random.default_rng(5)
    shape = (STEPS, BATCH, TIME)
    length = random.integers(3, TIME + 1, shape[:2])
    documents = np.where(np.arange(TIME) < length[..., None], 0, -1).astype(np.int32)
    tokens = np.where(documents < 0, 0, random.integers(2, VOCAB, shape)).astype(np.int32)
    # A second segment from the third token of a text that has one.
    types = np.where((np.arange(TIME) >= 3) & (documents == 0), random.integers(0, 2, shape), 0)
    counted = (documents == 0) & (random.random(shape) < 0.8)
    masked = (documents == 0) & (random.random(shape) < 0.3)
    masked[:, :, 1] = True
    return {
        "tokens": tokens,
        "documents": documents,
        "token_types": types.astype(np.int32),
        "label": random.integers(0, LABELS, shape[:2]).astype(np.int32),
        "token_labels": np.where(counted, random.integers(0, LABELS, shape), -100).astype(np.int32),
        "masked": np.where(masked, random.integers(2, VOCAB, shape), -100).astype(np.int32),
        "labels": random.integers(0, 2, (*shape[:2], LABELS)).astype(np.float32),
        "numbers": random.standard_normal((*shape[:2], 1)).astype(np.float32),
        "vectors": random.standard_normal((*shape[:2], WIDTH)).astype(np.float32),
    }


def inputs_of(name, config, data, step):
    mask = torch.tensor(data["documents"][step] == 0)
    tokens = torch.tensor(data["tokens"][step]).long()
    tokens[~mask] = config.pad_token_id
    inputs = {"input_ids": tokens, "attention_mask": mask.long()}
    if name.startswith("bert"):
        inputs["token_type_ids"] = torch.tensor(data["token_types"][step]).long()
    return inputs


def check_loss(model, inputs, target, loss):
    """Hugging Face's own loss, which it may compute in f32, is this one."""
    if not hasattr(model, "config"):
        return
    labels = target if target.is_floating_point() else target.long()
    own = model(**inputs, labels=labels.double() if labels.is_floating_point() else labels).loss
    assert abs(float(own) - float(loss)) < 1e-5, (float(own), float(loss))


def named(model, gradients=False):
    for name, p in model.named_parameters():
        v = (p.grad if gradients else p).detach().reshape(-1).clone()
        if name.endswith("key.bias"):
            v[:] = 0
        if name.endswith("attn.c_attn.bias"):
            third = v.numel() // 3
            v[third : 2 * third] = 0
        wave = torch.tensor(unit("wave", v.numel()))
        yield name, [float(v.norm()), float(v @ wave)]


def write_case(out, name, data):
    make, config, labels, target_name, loss_of = CASES[name]
    config = copy.deepcopy(config)
    config.num_labels = labels
    config.problem_type = PROBLEMS.get(target_name)
    model = make(config).double().eval()
    if name.startswith("llama"):
        exact_norms_and_angles(model)
    initialise(model)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": DECAY},
            {"params": others, "weight_decay": 0.0},
        ],
        **OPTIMIZER,
    )
    losses, first = [], {}
    for step in range(STEPS):
        inputs = inputs_of(name, config, data, step)
        target = torch.tensor(data[target_name][step])
        logits = model(**inputs).logits
        loss = loss_of(logits, target)
        losses.append(float(loss.detach()))
        model.zero_grad(set_to_none=False)
        loss.backward()
        if step == 0:
            check_loss(model, inputs, target, loss)
            if logits.ndim == 3:
                logits = logits * inputs["attention_mask"][..., None]
            out.add(f"{name}/logits", logits, "float64")
            first = dict(named(model, gradients=True))
        optimizer.step()
    out.add(f"{name}/loss", losses, "float64")
    for key, after in named(model):
        out.add(f"{name}/p/{key}", first[key] + after, "float64")
    print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    out = GoldenFile()
    data = make_data()
    for name, value in data.items():
        out.add(name, value)
    for name in CASES:
        write_case(out, name, data)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "heads.bin")
    print(out.write(path), "bytes")


if __name__ == "__main__":
    main()
