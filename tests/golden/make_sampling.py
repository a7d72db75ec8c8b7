"""Makes sampling.bin: what transformers' logits processors and warpers leave of some logits.

Run with Python packages torch and transformers: python3 make_sampling.py
Per case N: N.logits f64 (V), N.options f64 {temperature, top_k, top_p, min_p, penalty},
N.seen i32, N.probabilities f64 (V): 0 where a token was cut.
"""

import torch
from golden_file import GoldenFile
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

CASES = [  # vocabulary, spread, temperature, top_k, top_p, min_p, penalty, tokens seen
    (11, 2.0, 1.0, 0, 1.0, 0.0, 1.0, 0),
    (50, 3.0, 0.7, 0, 1.0, 0.0, 1.0, 0),
    (50, 3.0, 1.0, 5, 1.0, 0.0, 1.0, 0),
    (50, 3.0, 1.0, 0, 0.8, 0.0, 1.0, 0),
    (50, 2.0, 1.3, 12, 0.6, 0.0, 1.0, 0),
    (50, 2.0, 1.0, 0, 1.0, 0.1, 1.0, 0),
    (50, 2.0, 0.9, 20, 0.9, 0.05, 1.0, 0),
    (50, 2.0, 1.0, 10, 1.0, 0.0, 1.3, 30),
    (50, 2.0, 0.8, 15, 0.95, 0.02, 1.2, 30),
    (3, 1.0, 1.0, 7, 0.01, 0.0, 1.0, 0),
]


def main():
    out = GoldenFile()
    generator = torch.Generator().manual_seed(7)
    for i, (v, spread, temperature, k, p, m, penalty, n) in enumerate(CASES):
        logits = torch.randn(1, v, generator=generator, dtype=torch.float64) * spread
        seen = torch.randint(0, v, (1, n), generator=generator)
        steps = LogitsProcessorList()
        if penalty != 1.0:
            steps.append(RepetitionPenaltyLogitsProcessor(penalty))
        steps.append(TemperatureLogitsWarper(temperature))
        if k > 0:
            steps.append(TopKLogitsWarper(k))
        if p < 1.0:
            steps.append(TopPLogitsWarper(p))
        if m > 0.0:
            steps.append(MinPLogitsWarper(m))
        left = steps(seen, logits.clone())
        out.add(f"{i}.logits", logits[0])
        out.add(f"{i}.options", [temperature, k, p, m, penalty], "float64")
        out.add(f"{i}.seen", seen[0].int())
        out.add(f"{i}.probabilities", torch.softmax(left, -1)[0])
    print(out.write("sampling.bin"), "bytes")


if __name__ == "__main__":
    main()
