"""Makes tests/golden/tokenizer_models/: small SentencePiece models and what sentencepiece makes of texts
with them; normalizers, decoders, whole tokenizers and trained merges as Hugging Face's tokenizers
has them. Read by tests/test_tokenizer_reference.c and tests/test_tokenizer_train.c.

    pip install sentencepiece==0.2.1 tokenizers==0.23.3
    python3 tests/golden/make_tokenizer_models.py

sentencepiece after 0.2.1 adds path scores in 64 bits and may cut differently where two ways to cut
have equal scores.
"""

import json
import os
import random
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import (Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

OUT = Path(__file__).resolve().parent / "tokenizer_models"

WORDS = """the of and to in is that it was for on are with as his they be at one have this from or
had by hot but some what there we can out other were all your when up use word how said an each she
which their time if will way about many then them would write like so these her long make thing see
him two has look more day could go come did my sound no most number who over know water than call
first people may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form
über naïve café Straße Österreich façade señor el niño привет мир как дела это слово
日本語 東京 大阪 の は に を 私 中国 한국어 서울 αβγ δέλτα""".split()


def corpus():
    draw = random.Random(7)
    for _ in range(1500):
        words = [draw.choice(WORDS) for _ in range(draw.randrange(3, 14))]
        if draw.random() < 0.3:
            words.insert(draw.randrange(len(words)), str(draw.randrange(10000)))
        if draw.random() < 0.3:
            words[0] = words[0].capitalize()
        yield " ".join(words) + draw.choice([".", "!", "?", "...", ", and so on", ""])


def texts():
    draw = random.Random(11)
    fixed = ["", " ", "  ", "a", " a ", "Hello  world", "the way of the\twater\n", "<x>", "a<x>b",
             "<x> <x>the", "▁", "▁▁the", "the▁of", "ｆｕｌｌ ﬁne ㎏", "été e\u0301te\u0301",
             "日本語の東京", "привет мир", "👋🌍 q", "\u0000x", "zzzz qqqq", "12345 00", "   lead",
             "trail   ", "a\u00a0b\u3000c", "<s>the</s>", "<unk>", "<0x41>", "ﬃ①½", "한국어",
             "I'm 5 years old... aren't you?", "...........", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 3]
    out = [t for t in fixed if "\0" not in t]
    pool = WORDS + list(" \t.,!?-_▁'é日ßΩжfi①") + ["  ", "<x>", "▁▁", "☃", "\U0001f600"]
    for _ in range(150):
        out.append("".join(draw.choice(pool) + draw.choice(["", " "])
                           for _ in range(draw.randrange(1, 16))))
    return out


def sentencepiece_models():
    rules = {"ﬁ": "fi", "ﬂ": "fl", "㎏": "kg", "①": "1", "½": "1/2", "\t": " ", "\n": " ",
             "\u00a0": " ", "\u3000": " ", "e\u0301": "é", "t\u0301": "", "ａ": "a"}
    rules |= {chr(0xFF41 + i): chr(0x61 + i) for i in range(26)}
    with tempfile.TemporaryDirectory() as folder:
        tsv, text = f"{folder}/rules.tsv", f"{folder}/text.txt"
        with open(tsv, "w", encoding="utf-8") as f:
            for a, b in rules.items():
                f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" +
                        " ".join(f"{ord(c):X}" for c in b) + "\n")
        with open(text, "w", encoding="utf-8") as f:
            f.write("\n".join(corpus()))
        common = dict(input=text, hard_vocab_limit=False, num_threads=1, minloglevel=2)
        kinds = {
            "unigram": dict(model_type="unigram", vocab_size=300, normalization_rule_tsv=tsv,
                            user_defined_symbols=["<x>"], character_coverage=0.98),
            "unigram_bytes": dict(model_type="unigram", vocab_size=560, byte_fallback=True,
                                  normalization_rule_name="identity", add_dummy_prefix=False,
                                  remove_extra_whitespaces=False),
            "bpe_bytes": dict(model_type="bpe", vocab_size=640, byte_fallback=True,
                              normalization_rule_name="identity", remove_extra_whitespaces=False,
                              user_defined_symbols=["<x>", "▁▁"]),
            "bpe_suffix": dict(model_type="bpe", vocab_size=360, treat_whitespace_as_suffix=True,
                               normalization_rule_tsv=tsv, character_coverage=0.98),
            "bpe_across": dict(model_type="bpe", vocab_size=400, split_by_whitespace=False,
                               normalization_rule_name="identity", character_coverage=0.98),
        }
        for name, options in kinds.items():
            sentencepiece.SentencePieceTrainer.train(model_prefix=f"{folder}/m", **common, **options)
            data = Path(f"{folder}/m.model").read_bytes()
            (OUT / f"{name}.model").write_bytes(data)
            sp = sentencepiece.SentencePieceProcessor(model_proto=data)
            rows = []
            for t in texts():
                ids = sp.encode(t)
                rows.append([t, ids, sp.decode(ids)])
            write(f"{name}.json", {"cases": rows})


def write(name, value):
    with open(OUT / name, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def component(value):
    tokenizer = Tokenizer(models.BPE())
    kind = "normalizer" if isinstance(value, normalizers.Normalizer) else "decoder"
    setattr(tokenizer, kind, value)
    return json.loads(tokenizer.to_str())[kind]


def steps():
    inputs = ["", "a", "Hello World", " \t x \n", "é e\u0301 ÀÉ ñ", "ﬁ ① ½ ㎏ ｆ", "a\u0323\u0307 a\u0307\u0323",
              "Å Å A\u030a", "각 \u1100\u1161\u11a8", "İstanbul ΣΑΣ ẞ ǅ", "x\u200by\ufeffz\u2028w\x7f\x1f",
              "中文字 and 日本", "\u0915\u093c \u0958", "''a''b", "  two  spaces  ", "q\u0307\u0323\u0301\u0316",
              "\ufb2c \u2126 \u212b", "tab\there", "a\u0305\u0301 e\u0316\u0301", "1\u0661\u06f1", "ab\u00adcd\ufffd", "\u00a0\u3000nbsp"]
    step = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(),
            normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Nmt(),
            normalizers.Strip(), normalizers.Strip(left=False), normalizers.Strip(right=False),
            normalizers.Prepend("▁"), normalizers.Replace("a", "bb"),
            normalizers.Replace(Regex(r"\s+"), "_"), normalizers.Replace("''", '"'),
            normalizers.BertNormalizer(), normalizers.BertNormalizer(lowercase=False),
            normalizers.BertNormalizer(clean_text=False, strip_accents=False),
            normalizers.BertNormalizer(handle_chinese_chars=False, lowercase=False, strip_accents=True),
            normalizers.ByteLevel(),
            normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])]
    norm = [{"json": component(s), "cases": [[t, s.normalize_str(t)] for t in inputs]} for s in step]
    tokens = [["▁Hello", "▁wor", "ld", "▁▁", "!"], ["un", "##able", "to", "do", "n't", "?", "'", "s"],
              ["▁", "<0xE2>", "<0x98>", "<0x83>", "a", "<0xE2>", "<0x98>", "b"], ["<0xFF>", "<0x41>"],
              [" a", "  b", " c "], ["hel", "lo</w>", "wor", "ld</w>"], ["ĠHello", "Ãī", "Ċ"],
              ["▁a▁b", "c▁"], ["do", "not", ".", "he", "'ve", "##x"]]
    chain = [decoders.Metaspace(), decoders.Metaspace(prepend_scheme="never"), decoders.WordPiece(),
             decoders.WordPiece(cleanup=False), decoders.BPEDecoder(), decoders.ByteLevel(),
             decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
             decoders.Strip(" ", 1, 1), decoders.Replace("▁", " "),
             decoders.Replace(Regex("[ab]"), "-"),
             decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                decoders.Strip(" ", 1, 0)]),
             decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 1),
                                decoders.Replace("o", "0")])]
    rows = []
    for d in chain:
        cases = [[t, d.decode(t)] for t in tokens if not (isinstance(d, decoders.ByteLevel) and t[0] != "ĠHello")
                 and not (isinstance(d, decoders.Strip) and "" in t)]
        rows.append({"json": component(d), "cases": cases})
    write("steps.json", {"normalizers": norm, "decoders": rows})


def whole():
    """Tokenizers trained by the reference, with their ids and texts."""
    rows = []
    lines = list(corpus())

    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    unigram.decoder = decoders.Metaspace(prepend_scheme="first")
    unigram.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=250, special_tokens=["<unk>", "<x>"], unk_token="<unk>", show_progress=False))

    bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer()
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    bert.train_from_iterator(lines, trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<x>"],
        limit_alphabet=80, show_progress=False))
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])

    for tokenizer in unigram, bert:
        cases = []
        for t in texts():
            ids = tokenizer.encode(t).ids
            cases.append([t, ids, tokenizer.decode(ids, skip_special_tokens=False)])
        rows.append({"tokenizer": json.loads(tokenizer.to_str()), "cases": cases})
    write("whole.json", {"rows": rows})


def trained():
    """Merges of Hugging Face's trainer."""
    rows = []
    pattern = r"\w+|[^\w\s]+"
    sets = [("", dict(vocab_size=400, min_frequency=2, special_tokens=[])),
            ("", dict(vocab_size=2000, min_frequency=0, special_tokens=["<s>", "a", "</s>"])),
            (pattern, dict(vocab_size=500, min_frequency=3, special_tokens=["<|endoftext|>"]))]
    text = "\n".join(list(corpus())[:150]) + "\n" + "a" * 33 + " " + "ab" * 20 + "\n\n  x\n"
    for regex, options in sets:
        tokenizer = Tokenizer(models.BPE())
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not regex)
        tokenizer.pre_tokenizer = level if not regex else pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(regex), "isolated"), level])
        tokenizer.train_from_iterator([text], trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, **options))
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        rows.append({"pattern": regex, "merges": [" ".join(m) for m in merges], **options})
    write("trained.json", {"text": text, "rows": rows})


os.environ["TOKENIZERS_PARALLELISM"] = "false"
OUT.mkdir(exist_ok=True)
sentencepiece_models()
steps()
whole()
trained()
for path in sorted(OUT.iterdir()):
    print(path.name, path.stat().st_size)
