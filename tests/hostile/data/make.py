#!/usr/bin/env python3
"""Makes the small IDX and token files beside it: seeds of fuzz_idx and fuzz_tokens, and cases of test_data_hostile.

The name says what a reader owes: ok-* is read, format-* is refused as malformed. `python3 make.py` in this directory.
"""
import os
import struct

here = os.path.dirname(os.path.abspath(__file__))


def put(folder, name, content):
    with open(os.path.join(here, folder, name), "wb") as f:
        f.write(content)


def idx(kind, shape, data, ndim=None):
    return bytes([0, 0, kind, len(shape) if ndim is None else ndim]) + b"".join(struct.pack(">I", n) for n in shape) + data


put("idx", "ok-u8-1", idx(8, [3], b"\x00\x01\x02"))
put("idx", "ok-u8-3", idx(8, [2, 2, 2], bytes(range(8))))
put("idx", "ok-u8-6", idx(8, [1, 2, 1, 2, 1, 2], bytes(range(8))))
put("idx", "ok-i8", idx(9, [2], b"\xff\x7f"))
put("idx", "ok-i16", idx(11, [1, 2], struct.pack(">hh", -2, 258)))
put("idx", "ok-i32", idx(12, [2], struct.pack(">ii", -3, 2**31 - 1)))
put("idx", "ok-f32-nan", idx(13, [2], struct.pack(">ff", 1.5, float("nan"))))
put("idx", "ok-f64-inf", idx(14, [2], struct.pack(">dd", 1.5, float("inf"))))
put("idx", "format-empty", b"")
put("idx", "format-3-bytes", b"\0\0\x08")
put("idx", "format-first-byte", b"\x01\0\x08\x01\0\0\0\x01\x07")
put("idx", "format-second-byte", b"\0\x01\x08\x01\0\0\0\x01\x07")
put("idx", "format-type-0", idx(0, [1], b"\x07"))
put("idx", "format-type-10", idx(10, [1], b"\x07"))
put("idx", "format-type-15", idx(15, [1], b"\x07"))
put("idx", "format-no-axis", idx(8, [], b"\x07"))
put("idx", "format-7-axes", idx(8, [1] * 7, b"\x07"))
put("idx", "format-255-axes", idx(8, [1], b"\x07", 255))
put("idx", "format-header-cut", idx(8, [1, 1], b"")[:-1])
put("idx", "format-axis-0", idx(8, [2, 0], b""))
put("idx", "format-overflow-count", idx(8, [0xFFFFFFFF] * 3, b"\x07"))
put("idx", "format-overflow-bytes", idx(14, [0x7FFFFFFF, 0xFFFFFFFF], b"\x07"))
put("idx", "format-truncated", idx(8, [3], b"\x00\x01"))
put("idx", "format-longer", idx(8, [3], b"\x00\x01\x02\x03"))
put("idx", "format-gzip", bytes.fromhex("1f8b08000000000000036360e0606460600000"))


def llm(magic, version, count, data):
    return struct.pack("<iiI", magic, version, count).ljust(1024, b"\0") + data


def llmq(version, width, count, vocab, mask, data):
    return (b"BIN.TOK\n" + struct.pack("<iiiiI", version, width, count, vocab, mask)).ljust(1023, b"*") + b"\n" + data


def section(content):
    return content.ljust((len(content) + 63) // 64 * 64, b"\0")


def quern(tokens, width=2, vocab=100, documents=(), mask=None, **change):
    data = b"".join(t.to_bytes(width, "little") for t in tokens)
    body, documents_at, mask_at = data, 0, 0
    if documents:
        body = section(body)
        documents_at = 128 + len(body)
        body += b"".join(struct.pack("<Q", d) for d in documents)
    if mask is not None:
        body = section(body)
        mask_at = 128 + len(body)
        body += mask
    field = dict(version=1, width=width, vocab=vocab, count=len(tokens), n_documents=len(documents), tokenizer=7,
                 data_at=128, documents_at=documents_at, mask_at=mask_at, size=128 + len(body), rest=b"")
    field.update(change)
    head = b"QNTOKENS" + struct.pack("<IIQQQQQQQQ", *[field[k] for k in list(field)[:-1]]) + field["rest"]
    return head.ljust(128, b"\0") + body


u16 = lambda n: b"".join(struct.pack("<H", i) for i in range(n))
u32 = lambda n: b"".join(struct.pack("<I", i) for i in range(n))
put("tokens", "ok-llm-v1", llm(20240520, 1, 9, u16(9)))
put("tokens", "ok-llm-v7", llm(20240801, 7, 5, u32(5)))
put("tokens", "ok-llmq", llmq(2, 4, 9, 77, 0, u32(9)))
put("tokens", "ok-llmq-mask", llmq(2, 4, 9, 77, 1, u32(9) + b"\xaa\x01"))
put("tokens", "ok-llmq-older", llmq(2, 4, 9, 77, 0x2A2A2A2A, u32(9)))
put("tokens", "ok-quern-u16", quern(range(9)))
put("tokens", "ok-quern-u32", quern(range(9), width=4))
put("tokens", "ok-quern-documents", quern(range(40), documents=(0, 3, 20)))
put("tokens", "ok-quern-mask", quern(range(9), mask=b"\xff\x01"))
put("tokens", "ok-quern-whole-mask", quern(range(8), mask=b"\x0f"))
put("tokens", "ok-quern-all", quern(range(33), width=4, documents=(0, 32), mask=b"\1\2\3\4\1"))
put("tokens", "format-empty", b"")
put("tokens", "format-llm-header-cut", llm(20240520, 1, 9, b"")[:500])
put("tokens", "format-llm-version", llm(20240520, 7, 9, u16(9)))
put("tokens", "format-llm-v7-version", llm(20240801, 1, 9, u32(9)))
put("tokens", "format-llm-count-0", llm(20240520, 1, 0, b""))
put("tokens", "format-llm-count-negative", llm(20240520, 1, 0x80000000, u16(9)))
put("tokens", "format-llm-count-large", llm(20240520, 1, 0x7FFFFFFF, u16(9)))
put("tokens", "format-llm-truncated", llm(20240520, 1, 9, u16(8)))
put("tokens", "format-llm-longer", llm(20240520, 1, 9, u16(10)))
put("tokens", "format-llmq-version", llmq(1, 4, 9, 77, 0, u32(9)))
put("tokens", "format-llmq-width", llmq(2, 2, 9, 77, 0, u16(9)))
put("tokens", "format-llmq-mask-flag", llmq(2, 4, 9, 77, 2, u32(9) + b"\xaa\x01"))
put("tokens", "format-llmq-mask-missing", llmq(2, 4, 9, 77, 1, u32(9)))
put("tokens", "format-llmq-vocab-0", llmq(2, 4, 9, 0, 0, u32(9)))
put("tokens", "format-llmq-vocab-negative", llmq(2, 4, 9, -1, 0, u32(9)))
put("tokens", "format-quern-header-cut", quern(range(9))[:100])
put("tokens", "format-quern-version", quern(range(9), version=2))
put("tokens", "format-quern-width", quern(range(9), width=3))
put("tokens", "format-quern-vocab-0", quern(range(9), vocab=0))
put("tokens", "format-quern-vocab-huge", quern(range(9), vocab=1 << 63))
put("tokens", "format-quern-count-0", quern(range(0)))
put("tokens", "format-quern-count-huge", quern(range(9), count=1 << 62))
put("tokens", "format-quern-count-more", quern(range(9), count=10))
put("tokens", "format-quern-documents-more-than-tokens", quern(range(9), documents=(0,), n_documents=10))
put("tokens", "format-quern-data-offset", quern(range(9), data_at=192))
put("tokens", "format-quern-documents-offset", quern(range(9), documents=(0, 3), documents_at=128))
put("tokens", "format-quern-mask-offset", quern(range(9), mask=b"\1\1", mask_at=128))
put("tokens", "format-quern-size", quern(range(9), size=1))
put("tokens", "format-quern-truncated", quern(range(9))[:-1])
put("tokens", "format-quern-longer", quern(range(9)) + b"\0")
put("tokens", "format-quern-reserved", quern(range(9), rest=b"\1"))
put("tokens", "format-quern-padding-1", quern(range(9), documents=(0, 3)).replace(b"\x08\0" + bytes(46), b"\x08\0" + b"\1" * 46))
put("tokens", "format-quern-mask-bits", quern(range(9), mask=b"\xff\x03"))
put("tokens", "format-quern-document-first", quern(range(9), documents=(1, 3)))
put("tokens", "format-quern-document-order", quern(range(9), documents=(0, 3, 3)))
put("tokens", "format-quern-document-outside", quern(range(9), documents=(0, 9)))
all_sections = bytearray(quern(range(33), width=4, documents=(0, 32), mask=b"\1\2\3\4\1"))
all_sections[128 + 192 + 20] = 1
put("tokens", "format-quern-padding-2", bytes(all_sections))
