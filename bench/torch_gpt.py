"""GPT-2 as nanoGPT writes it, trained by PyTorch on the batches bench_batches wrote.

Used by compare_torch.py; alone: torch_gpt.py BATCHES --layers 4 --heads 4 --width 128 ...
Prints one JSON object: tokens per second per window, losses, validation loss.
"""

import argparse
import json
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, c, heads, bias, approximate):
        super().__init__()
        self.heads, self.approximate = heads, approximate
        self.ln_1 = nn.LayerNorm(c, bias=bias)
        self.c_attn = nn.Linear(c, 3 * c, bias=bias)
        self.proj = nn.Linear(c, c, bias=bias)
        self.ln_2 = nn.LayerNorm(c, bias=bias)
        self.fc = nn.Linear(c, 4 * c, bias=bias)
        self.down = nn.Linear(4 * c, c, bias=bias)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).view(b, t, 3 * self.heads, c // self.heads).transpose(1, 2).chunk(3, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.fc(self.ln_2(x)), approximate=self.approximate))


class GPT(nn.Module):
    def __init__(self, vocab, t, c, layers, heads, bias, approximate):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, c), nn.Embedding(t, c)
        self.h = nn.ModuleList(Block(c, heads, bias, approximate) for _ in range(layers))
        self.ln_f = nn.LayerNorm(c, bias=bias)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                residual = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(p, 0, 0.02 / math.sqrt(2 * layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe.weight[: idx.shape[1]]
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.view(-1), ignore_index=-100)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("batches")
    for name, default in dict(layers=4, heads=4, width=128, steps=0, seed=0, threads=2, warmup=100, window=50).items():
        a.add_argument("--" + name, type=int, default=default)
    for name, default in dict(lr=1e-3, min_lr=1e-4, wd=0.1, beta2=0.99, clip=1.0).items():
        a.add_argument("--" + name, type=float, default=default)
    a.add_argument("--bias", action="store_true")
    a.add_argument("--tanh", action="store_true")
    a.add_argument("--bf16", action="store_true")
    a.add_argument("--compile", action="store_true")
    a.add_argument("--val", action="store_true")
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    raw = np.fromfile(o.batches, dtype=np.int32)
    steps, b, t, vocab, n_val = (int(v) for v in raw[:5])
    body = raw[5:]
    train = torch.from_numpy(body[: steps * 2 * b * t].reshape(steps, 2, b, t).astype(np.int64))
    val = torch.from_numpy(body[steps * 2 * b * t :].reshape(2, n_val, t).astype(np.int64))
    total, steps = steps, o.steps or steps
    model = GPT(vocab, t, o.width, o.layers, o.heads, o.bias, "tanh" if o.tanh else "none")
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [dict(params=decay, weight_decay=o.wd), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=o.lr, betas=(0.9, o.beta2), fused=True)
    run = torch.compile(model) if o.compile else model
    losses, rates, start = [], [], time.perf_counter()
    for s in range(steps):
        p = (s - o.warmup) / max(1, total - o.warmup)
        lr = o.lr * (s + 1) / o.warmup if s < o.warmup else o.min_lr + 0.5 * (o.lr - o.min_lr) * (1 + math.cos(math.pi * p))
        for g in optimizer.param_groups:
            g["lr"] = lr
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.bf16):
            loss = run(train[s, 0], train[s, 1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), o.clip)
        optimizer.step()
        losses.append(loss.item())
        if (s + 1) % o.window == 0:
            now = time.perf_counter()
            rates.append(o.window * b * t / (now - start))
            start = now
    result = dict(tokens_per_second=rates, first=losses[0], last=losses[-1])
    if o.val:
        with torch.no_grad():
            total_loss, count = 0.0, 0
            for i in range(0, n_val, b):
                n = int((val[1, i : i + b] != -100).sum())
                total_loss += float(model(val[0, i : i + b], val[1, i : i + b])) * n
                count += n
        result["val"] = total_loss / count
    print(json.dumps(result))


if __name__ == "__main__":
    main()
