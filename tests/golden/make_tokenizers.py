"""Golden tokenizers: tokenizer.json files made and run by PyPI's `tokenizers`, with the ids and texts it gives.

    python tests/golden/make_tokenizers.py        # writes tests/golden/tokenizers.json.gz

Each case is a whole tokenizer.json over one of three small vocabularies; together they use every splitter,
behaviour, option of added tokens and post-processor that Quern reads, and byte-pair models of every kind.
"""

import gzip
import json
import os
import random

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))

CORPUS = [
    "The quick brown fox doesn't jump over the lazy dogs; it'll sleep, they've said.",
    "Numbers 12345 and 3.14159, dates 2024-01-31, hex 0xFF and x = y**2 + z_1.",
    "na\u00efve caf\u00e9 Stra\u00dfe \u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \U0001f600",
    "def f(x):\n    return [i for i in range(x)]\r\n\n\n\tpass  # the end",
    "the cat sat on the mat and the rat ran at that hat, then there they were other others",
] * 3

TEXTS = [
    "", " ", "a", "  ", "\n", "\r\n\r\n", " \n x", "x  y   z ", "Hello, world!", "I'M sure they'll say it's fine",
    "don't DON'T 'tis '\u017ftrange", "12345 1 22 333 4444", "the-final--countdown", "-start and end-", "--",
    "caf\u00e9 cafe\u0301 \u00df\u1e9e", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\U0001f600\U0001f44d\U0001f3fd x",
    "<mask>", "a <mask> b", "a<mask>b", "  <mask>  ", "<s>x</s>", "the <r> cat", "<w>", " <w> ", "x<w>y <w>.", "NORM norm n\u00f3rm",
    "\u3000wide\u2003space\u00a0s", "tab\tsep\x0bvt\x0cff\x85nel\u2028ls", "\u180eMVS\u200bZWSP\u200dZWJ", "under_score __init__ a.b.c",
    "HTTPServer getURLFor camelCase \u01c5ungla", "price: $5.00 (50%) \u20ac7 \u00bd \u2167 \u0664\u0662", "\u0928\u092e\u0938\u094d\u0924\u0947 \u05e9\u05dc\u05d5\u05dd",
    "a\n\n\nb\n \n  c", "end with spaces   ", "\ufeffbom", "x\x01\x1f\x7fy", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the the the, there! other\u2581others \u2581", "<0x41> <unk>",
]  # fmt: skip


def random_texts(n):
    rng = random.Random(11)
    parts = list(" \n\t-'.,09azAZ\u00e9\u0301\u4e2d\u2581\U0001f600_/") + ["the", " the", "ing", "<mask>", "<w>", "'ll", "  ", "\r\n", "12", "caf\u00e9"]
    return ["".join(rng.choice(parts) for _ in range(rng.randint(2, 20))) for _ in range(n)]


def train(kind):
    if kind == "byte":
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False))
    else:
        t = Tokenizer(models.BPE(unk_token="<unk>"))
        t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        options = {"suffix": {"end_of_word_suffix": "</w>"}, "prefix": {"continuing_subword_prefix": "##"}}[kind]
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], limit_alphabet=45, show_progress=False, **options)
        t.train_from_iterator(CORPUS, trainer)
    model = json.loads(t.to_str())["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]


def train_spaces():
    """Characters with byte fallback, \u2581 for the space, as in Llama 2."""
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=380, special_tokens=specials, limit_alphabet=50, show_progress=False))
    model = json.loads(t.to_str())["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]


BYTE, SUFFIX, PREFIX, SPACES = train("byte"), train("suffix"), train("prefix"), train_spaces()

GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(regex):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def make(model, splitter, decoder=None, added=(), post=None, normalizer=None):
    t = Tokenizer(model)
    if splitter is not None:
        t.pre_tokenizer = splitter
    if decoder is not None:
        t.decoder = decoder
    if normalizer is not None:
        t.normalizer = normalizer
    for a in added:
        (t.add_special_tokens if a.special else t.add_tokens)([a])
    if post is not None:
        t.post_processor = post(t)
    return t


def bpe(parts, **options):
    return models.BPE(vocab=parts[0], merges=parts[1], **options)


def suffix():
    return bpe(SUFFIX, unk_token="<unk>", end_of_word_suffix="</w>")


ADDED = [
    AddedToken("<mask>", lstrip=True, special=True, normalized=False),
    AddedToken("<r>", rstrip=True, special=True, normalized=False),
    AddedToken("<w>", single_word=True, normalized=False),
    AddedToken("<s>", special=True, normalized=False),
    AddedToken("</s>", special=True, normalized=False),
    AddedToken("norm", normalized=True),
    AddedToken("   ", normalized=False),
]


def bos_eos(t):
    s, e = t.token_to_id("<s>"), t.token_to_id("</s>")
    return processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", s), ("</s>", e)]
    )


def cases():
    yield "gpt2", make(bpe(BYTE), GPT2, decoders.ByteLevel(), post=lambda t: processors.ByteLevel(trim_offsets=False))
    yield "prefix-space", make(bpe(BYTE), pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel(), ADDED, bos_eos)
    ignoring = ({**BYTE[0], "\u0120quick": 340, "hello": 341, "caf\u00c3\u00a9": 342}, BYTE[1])
    both = lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False), bos_eos(t)])
    yield "llama3", make(bpe(ignoring, ignore_merges=True), byte_level(CL100K), decoders.ByteLevel(), ADDED, both)
    yield "qwen", make(bpe(BYTE), byte_level(QWEN), decoders.ByteLevel(), ADDED, normalizer=normalizers.NFC())
    deepseek = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("[\r\n]"), "isolated"),
        pre_tokenizers.Split(Regex(r"\s?\p{L}+"), "isolated"),
        pre_tokenizers.Split(Regex(r"\s?[!-/:-~\uff01-\uff0f\u2018-\u201f\u3000-\u3002]+"), "isolated"),
        pre_tokenizers.Split(Regex(r"\s+$"), "isolated"),
        pre_tokenizers.Split(Regex("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), "isolated"),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    yield "deepseek", make(bpe(BYTE), deepseek, decoders.ByteLevel())
    roberta = lambda t: processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    yield "roberta", make(bpe(BYTE), GPT2, decoders.ByteLevel(), ADDED, roberta)
    bert = lambda t: processors.BertProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    yield "bert-pieces", make(suffix(), pre_tokenizers.BertPreTokenizer(), decoders.BPEDecoder(), ADDED, bert)
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        for invert in [False, True]:
            yield f"split-{behavior}-{invert}", make(suffix(), pre_tokenizers.Split("-", behavior, invert))
    yield "split-regex", make(suffix(), pre_tokenizers.Split(Regex(r"\w+|[^\S\n]"), "merged_with_previous"))
    yield "whitespace", make(suffix(), pre_tokenizers.Whitespace())
    yield "whitespace-split", make(suffix(), pre_tokenizers.WhitespaceSplit())
    yield "digits", make(suffix(), pre_tokenizers.Digits())
    yield "punctuation", make(suffix(), pre_tokenizers.Punctuation("contiguous"))
    yield "delimiter", make(suffix(), pre_tokenizers.CharDelimiterSplit("e"))
    yield "continuing", make(bpe(PREFIX, unk_token="<unk>", continuing_subword_prefix="##", fuse_unk=True), pre_tokenizers.Whitespace())
    yield "dropped", make(bpe(PREFIX, continuing_subword_prefix="##"), pre_tokenizers.Whitespace())
    spaces = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    fallback = lambda: bpe(SPACES, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    yield "llama2", make(fallback(), None, steps, ADDED, bos_eos, spaces)
    yield "metaspace", make(fallback(), pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace(prepend_scheme="first"), ADDED)


def main():
    texts = TEXTS + random_texts(60)
    out = []
    for name, t in cases():
        without = Tokenizer.from_str(t.to_str())
        without.encode_special_tokens = True
        ids = [without.encode(x, add_special_tokens=False).ids for x in texts]
        special = [t.encode(x).ids for x in texts]
        pair = t.encode(texts[8], texts[9])
        decoded = [t.decode(x, skip_special_tokens=False) for x in special]
        skipped = [t.decode(x, skip_special_tokens=True) for x in special]
        out.append({
            "name": name, "file": t.to_str(), "ids": ids, "special": special, "decoded": decoded, "skipped": skipped,
            "pair": pair.ids, "types": pair.type_ids,
        })  # fmt: skip
    golden = {"made_by": f"tokenizers {tokenizers.__version__}", "texts": texts, "cases": out}
    data = json.dumps(golden, separators=(",", ":")).encode()
    with open(os.path.join(HERE, "tokenizers.json.gz"), "wb") as f:
        f.write(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main()
