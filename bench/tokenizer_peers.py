"""Quern's tokenizers beside PyPI's: the same ids, and how fast.

    cmake --build build/release --target bench_tokenizer
    python bench/tokenizer_peers.py ids [NAME...] [--texts N] [--seed S]
    python bench/tokenizer_peers.py speed [NAME...] [--repeats N]
    python bench/tokenizer_peers.py train [--repeats N]

Needs the packages tokenizers, tiktoken and sentencepiece, and the shared data (QUERN_TEST_DATA). `ids`
encodes lines of real text and random, adversarial Unicode on both sides and exits 1 if ids or decoded
texts differ; code points that a package's version of Unicode and Quern's see differently are listed and
left out. `speed` encodes the same text on both sides in turn, one thread each, and counts processor time.
"""

import argparse
import base64
import gzip
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tiktoken
import tiktoken.load
import tiktoken_ext.openai_public as published
import tokenizers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get("QUERN_TEST_DATA", os.path.join(ROOT, "../shared/data"))
BINARY = os.path.join(ROOT, "build/release/bench/bench_tokenizer")


class Quern:
    """The other end of bench_tokenizer's pipe."""

    def __init__(self, path, special=False):
        command = [BINARY, path] + (["special"] if special else [])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def request(self, count, data):
        self.process.stdin.write(struct.pack("<i", count) + data)
        self.process.stdin.flush()
        self.ns, n = struct.unpack("<qi", self.process.stdout.read(12))
        return n

    def encode(self, text):
        data = text.encode()
        n = self.request(len(data), data)
        if n < 0:
            return None
        return list(struct.unpack(f"<{n}i", self.process.stdout.read(4 * n)))

    def decode(self, ids):
        n = self.request(-len(ids), struct.pack(f"<{len(ids)}i", *ids)) if ids else 0
        return self.process.stdout.read(n).decode() if n >= 0 else None


# ---- the other sides ---------------------------------------------------------------------------


def shared(name):
    return os.path.join(DATA, "tokenizers", name)


def unpacked(name):
    with gzip.open(shared(name)) as f:
        return f.read()


class HuggingFace:
    """The package tokenizers, from the same tokenizer.json; special tokens are text."""

    def __init__(self, text):
        self.tokenizer = tokenizers.Tokenizer.from_str(text)
        self.tokenizer.encode_special_tokens = True

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False)


class Tiktoken:
    def __init__(self, name, pattern):
        ranks = {}
        for line in unpacked(name).splitlines():
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
        self.encoding = tiktoken.Encoding("shared", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    def encode(self, text):
        return self.encoding.encode_ordinary(text)

    def decode(self, ids):
        return self.encoding.decode(ids)


class SentencePiece:
    def __init__(self, name):
        import sentencepiece

        self.processor = sentencepiece.SentencePieceProcessor(model_file=shared(name))

    def encode(self, text):
        return self.processor.encode(text)

    def decode(self, ids):
        return self.processor.decode(ids)


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def o200k_pattern():
    load = tiktoken.load.load_tiktoken_bpe
    published.load_tiktoken_bpe = lambda *a, **k: {}
    try:
        return published.o200k_base()["pat_str"]
    finally:
        published.load_tiktoken_bpe = load


def json_file(name):
    if name.endswith(".gz"):
        return lambda: HuggingFace(unpacked(name).decode())
    return lambda: HuggingFace(open(shared(name), encoding="utf-8").read())


# name: (Quern's file, what makes the other side)
PAIRS = {
    "gpt2": ("gpt2/tokenizer.json.gz", json_file("gpt2/tokenizer.json.gz")),
    "gpt2-merges": ("gpt2/encoder.json.gz", json_file("gpt2/tokenizer.json.gz")),
    "roberta": ("roberta-base/tokenizer.json.gz", json_file("roberta-base/tokenizer.json.gz")),
    "phi-2": ("phi-2/tokenizer.json.gz", json_file("phi-2/tokenizer.json.gz")),
    "phi-3": ("phi-3-mini/tokenizer.json.gz", json_file("phi-3-mini/tokenizer.json.gz")),
    "tiny-qwen": ("tiny_bpe/tiny_bpe_tokenizer.json", json_file("tiny_bpe/tiny_bpe_tokenizer.json")),
    "bert": ("bert-base-uncased/tokenizer.json.gz", json_file("bert-base-uncased/tokenizer.json.gz")),
    "t5": ("t5/tokenizer.json.gz", json_file("t5/tokenizer.json.gz")),
    "r50k": ("tiktoken/r50k_base.tiktoken.gz", lambda: Tiktoken("tiktoken/r50k_base.tiktoken.gz", published.r50k_pat_str)),
    "cl100k": ("tiktoken/cl100k_base.tiktoken.gz", lambda: Tiktoken("tiktoken/cl100k_base.tiktoken.gz", CL100K)),
    "o200k": ("tiktoken/o200k_base.tiktoken.gz", lambda: Tiktoken("tiktoken/o200k_base.tiktoken.gz", o200k_pattern())),
    "llama3": ("llama3/tokenizer.model.tiktoken.gz", lambda: Tiktoken("llama3/tokenizer.model.tiktoken.gz", CL100K)),
    "llama2-sp": ("llama2/tokenizer.model", lambda: SentencePiece("llama2/tokenizer.model")),
    "mistral1-sp": ("mistral/tokenizer.model.v1.model", lambda: SentencePiece("mistral/tokenizer.model.v1.model")),
    "mistral3-sp": ("mistral/tokenizer.model.v3.model", lambda: SentencePiece("mistral/tokenizer.model.v3.model")),
    "t5-sp": ("t5/spiece.model", lambda: SentencePiece("t5/spiece.model")),
}

# ---- texts -------------------------------------------------------------------------------------


def real_text():
    parts = []
    folder = os.path.join(DATA, "text_misc")
    for name in sorted(os.listdir(folder)):
        if name.endswith(".gz"):
            with gzip.open(os.path.join(folder, name)) as f:
                data = f.read()
        elif name.endswith((".txt", ".jsonl", ".json")):
            with open(os.path.join(folder, name), "rb") as f:
                data = f.read()
        else:
            continue
        parts.append(data.decode("utf-8", "replace"))
    return parts


TELLING = (
    list(" \n\r\t'.,/-_#@!?()[]{}<>|09azAZsStT \u2581\u00a0\u180e\u200b\u200d\u2028\u3000\ufeff\ufffd")
    + list("\u00e9\u00c9\u0301\u0345\u017f\u212a\u01c5\u02b0\u05d0\u0660\u2160\u00bd\u4e2d\u65e5\uac00")
    + ["\U0001f600", "\U0001f468\u200d\U0001f469", "\u0928\u093f", "\x00", "\x01", "\x85", "\x1c"]
    + ["'s", "'LL", "'ve", "  ", "   \n", "\r\n", "<|endoftext|>", "</s>", "[MASK]", "<0x41>", "don't"]
    + ["\u0130", "\ufb01", "\uff21", "\u1e9b\u0323", "\u0f77", "\u1100\u1161\u11a8", "\U0001d15e", "\U0010ffff"]
)


def random_text(rng, left_out):
    parts = []
    for _ in range(rng.randint(1, 24)):
        kind = rng.random()
        if kind < 0.6:
            parts.append(rng.choice(TELLING))
        elif kind < 0.8:
            parts.append("".join(rng.choice("etaoin shrdlu") for _ in range(rng.randint(1, 9))))
        else:
            while True:
                c = rng.randrange(0x110000 if rng.random() < 0.3 else 0x3100)
                if not 0xD800 <= c < 0xE000 and chr(c) not in left_out:
                    break
            parts.append(chr(c))
    return "".join(parts)


# ---- comparing ---------------------------------------------------------------------------------


def find_exceptions(quern, other):
    """Code points for which the two sides disagree on short texts around them, by general category."""
    found = []
    for c in list(range(0x80, 0x32000)) + list(range(0xE0000, 0xE0200)):
        if 0xD800 <= c < 0xE000 or 0x3400 < c < 0x9FF0 or 0xAC10 < c < 0xD790 or 0x17010 < c < 0x187F0:
            continue
        text = f"a{chr(c)}1{chr(c)}b {chr(c)}\u0301{chr(c)}c"
        if quern.encode(text) != other.encode(text):
            found.append(chr(c))
    return found


def ranges(characters):
    out = []
    for c in sorted(map(ord, characters)):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return " ".join(f"U+{a:04X}" if a == b else f"U+{a:04X}-{b:04X}" for a, b in out)


def unexplained(characters):
    """Those that Python's Unicode, older than both sides', has assigned."""
    return [c for c in characters if unicodedata.category(c) != "Cn"]


def compare(name, texts, seed):
    path, make = PAIRS[name]
    quern, other = Quern(shared(path)), make()
    exceptions = find_exceptions(quern, other)
    if exceptions:
        print(f"{name}: differ: {len(exceptions)} code points: {ranges(exceptions)}")
        print(f"{name}: assigned in Unicode {unicodedata.unidata_version} already: {ranges(unexplained(exceptions))}")
    rng = random.Random(seed)
    left_out = set(exceptions)
    corpus = [line for part in real_text() for line in part.split("\n")]
    corpus = [line for line in corpus if not left_out & set(line)]
    corpus += ["\n".join(corpus[i : i + 40]) for i in range(0, len(corpus), 40)]
    corpus += [random_text(rng, left_out) for _ in range(texts)]
    wrong = 0
    for text in corpus:
        got, want = quern.encode(text), other.encode(text)
        back, back_want = (quern.decode(want), other.decode(want)) if want else ("", "")
        if got != want or back != back_want:
            wrong += 1
            if wrong <= 5:
                print(f"{name}: {text[:200]!r}: found {got[:40] if got else got}, expected {want[:40]}; text {back[:80]!r}, expected {back_want[:80]!r}")
    print(f"{name}: {len(corpus)} texts, {wrong} differ")
    return wrong


# ---- timing ------------------------------------------------------------------------------------


def speed(name, repeats):
    path, make = PAIRS[name]
    quern, other = Quern(shared(path)), make()
    lines = "\n".join(real_text()).split("\n")
    pieces = ["\n".join(lines[i : i + 20]) for i in range(0, len(lines), 20)]
    size = sum(len(p.encode()) for p in pieces)
    ours, theirs = [], []
    for _ in range(repeats + 1):
        total = 0
        for p in pieces:
            quern.encode(p)
            total += quern.ns
        ours.append(total / 1e9)
        start = time.process_time()
        for p in pieces:
            other.encode(p)
        theirs.append(time.process_time() - start)
    first = theirs[0] / ours[0]
    ours, theirs = ours[1:], theirs[1:]
    a, b = statistics.median(ours), statistics.median(theirs)
    row = {
        "tokenizer": name, "bytes": size, "texts": len(pieces), "quern_mb_s": size / a / 1e6,
        "other_mb_s": size / b / 1e6, "ratio": b / a, "first_ratio": first, "quern_s": [min(ours), max(ours)], "other_s": [min(theirs), max(theirs)],
    }
    print(json.dumps(row), flush=True)


# ---- training ----------------------------------------------------------------------------------

QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
# vocabulary, least count, special tokens, pattern, cut in lines
TRAINED = [
    (8000, 2, ["<|endoftext|>"], None, False),
    (30000, 0, [], None, True),
    (50000, 2, ["<s>", "a", "</s>"], QWEN, False),
    (5000, 1, [], r"\w+", False),
]


def train_theirs(files, size, least, special, pattern, lines):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = level
    if pattern:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), "isolated"), level])
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=least, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    start = time.perf_counter()
    if lines:
        tokenizer.train(files, trainer)
    else:
        tokenizer.train_from_iterator([open(f, newline="").read() for f in files], trainer)
    return time.perf_counter() - start, json.loads(tokenizer.to_str())["model"]


def train_ours(files, folder, size, least, special, pattern, lines):
    command = [os.path.join(ROOT, "build/release/quern"), "tokenizer-train", "--out", folder,
               "--vocab-size", str(size), "--min-frequency", str(least)]
    command += ["--special", ",".join(special)] if special else []
    command += (["--pattern", pattern] if pattern else []) + (["--lines"] if lines else []) + files
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - start
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
        return took, json.load(f)["model"]


def train(repeats):
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, text in enumerate(real_text()):
            files.append(os.path.join(folder, f"{i}.txt"))
            with open(files[-1], "w", newline="", encoding="utf-8") as f:
                f.write(text)
        for row in TRAINED:
            ours, theirs = [], []
            for _ in range(repeats):
                took, mine = train_ours(files, folder, *row)
                ours.append(took)
                took, other = train_theirs(files, *row)
                theirs.append(took)
            equal = (mine["vocab"] == other["vocab"]
                     and [tuple(m) for m in mine["merges"]] == [tuple(m) for m in other["merges"]])
            wrong += not equal
            print(json.dumps({
                "vocab_size": row[0], "pattern": row[3], "lines": row[4], "equal": equal,
                "bytes": sum(map(os.path.getsize, files)), "merges": len(mine["merges"]),
                "quern_s": statistics.median(ours), "other_s": statistics.median(theirs),
                "ratio": statistics.median(theirs) / statistics.median(ours)}))
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["ids", "speed", "train"])
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--texts", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    a = parser.parse_args()
    print(f"tokenizers {tokenizers.__version__}, tiktoken {tiktoken.__version__}")
    wrong = 0
    if a.what == "train":
        sys.exit(1 if train(a.repeats) else 0)
    for name in a.names or PAIRS:
        if a.what == "ids":
            wrong += compare(name, a.texts, a.seed)
        else:
            speed(name, a.repeats)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
