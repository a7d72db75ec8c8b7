"""Writes the seeds of tests/fuzz_tokenizer.c: small tokenizers of every kind, each with a text.

python tests/hostile/tokenizer/make_seeds.py
"""

import base64
import json
import os
import zlib

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")
TEXT = "ab ba  a1-\u2581\u00e9<s> x"

CHARACTERS = {c: i for i, c in enumerate(["<unk>", "a", "b", "ab", "\u2581", "\u2581a", "-", "1", "<0xC3>", "<0xA9>", "\u0120", "\u0120b"])}
MERGES = ["a b", "\u2581 a", "\u0120 b"]
BPE = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": CHARACTERS, "merges": MERGES}
AFFIX = {"type": "BPE", "unk_token": "<unk>", "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>",
         "vocab": {"<unk>": 0, "a": 1, "##b</w>": 2, "ab</w>": 3}, "merges": [["a", "##b</w>"]]}  # fmt: skip
UNIGRAM = {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": [["<unk>", 0.0], ["a", -1.5], ["\u2581a", -1.0], ["b", -2.0]]}
WORDPIECE = {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
             "vocab": {"<unk>": 0, "a": 1, "##b": 2, "-": 3}}  # fmt: skip
ADDED = [
    {"id": 20, "content": "<s>", "special": True, "lstrip": True, "rstrip": True, "single_word": True, "normalized": False},
    {"id": 21, "content": "ba", "special": False, "normalized": True},
]
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [20], "tokens": ["<s>"]}},
}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(kind, parts):
    return {"type": "Sequence", kind: parts}


LLAMA = sequence("decoders", [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                              {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}])  # fmt: skip
CASES = {
    "byte-level": (BPE, {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, {"type": "ByteLevel"}, {"type": "NFC"}),
    "llama": (BPE, None, LLAMA, sequence("normalizers", [{"type": "Prepend", "prepend": "\u2581"},
                                                         {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}])),  # fmt: skip
    "split": (BPE, sequence("pretokenizers", [split({"Regex": r"(?i:'s)|[^\s\p{L}]?\p{L}+|\s+(?!\S)|\w{1,3}"}, "MergedWithNext"),
                                              split({"String": "-"}, "Contiguous", True), {"type": "Digits", "individual_digits": True},
                                              {"type": "Punctuation", "behavior": "Removed"}]), None, {"type": "Lowercase"}),  # fmt: skip
    "metaspace": (UNIGRAM, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True},
                  {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}, {"type": "Nmt"}),  # fmt: skip
    "affix": (AFFIX, {"type": "Whitespace"}, {"type": "BPEDecoder", "suffix": "</w>"}, {"type": "Strip", "strip_left": True, "strip_right": True}),
    "bert": (WORDPIECE, {"type": "BertPreTokenizer"}, {"type": "WordPiece", "prefix": "##", "cleanup": True},
             {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}),  # fmt: skip
    "delimiter": (BPE, {"type": "CharDelimiterSplit", "delimiter": "1"}, None, {"type": "StripAccents"}),
    "spaces": (BPE, {"type": "WhitespaceSplit"}, None, {"type": "NFKD"}),
}


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write(name, kind, *parts):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(kind + b"\0".join(parts))


def main():
    config = dump({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": True}, "add_bos_token": True,
                   "added_tokens_decoder": {"22": {"content": "<x>", "special": True}}, "additional_special_tokens": ["<y>"]})  # fmt: skip
    for name, (model, splitter, decoder, normalizer) in CASES.items():
        file = {"version": "1.0", "added_tokens": ADDED, "normalizer": normalizer, "pre_tokenizer": splitter,
                "post_processor": TEMPLATE, "decoder": decoder, "model": model}  # fmt: skip
        write(name, b"j", dump(file), config if name == "llama" else b"", TEXT.encode())
    write("merges", b"m", dump({**CHARACTERS, "<|endoftext|>": 12}), "#version: 0.2\na b\n\u0120 b\n".encode(), TEXT.encode())
    ranks = b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256)) + base64.b64encode(b"ab") + b" 256\n"
    write("ranks", b"r", ranks)
    data = dump({"added_tokens": [], "model": BPE})
    packed = base64.b64encode(zlib.compress(data, 9)).decode()
    write("kept", b"l", dump({"type": "files", "files": [{"name": "tokenizer.json", "size": len(data), "deflate": packed}]}), b"", TEXT.encode())
    write("kept-byte", b"l", b'{"type":"byte"}', b"", TEXT.encode())


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    main()
