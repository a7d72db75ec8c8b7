#!/usr/bin/env python3
"""Makes the small files of the folder safetensors beside it: seeds of fuzz_safetensors and cases of test_safetensors.

The name says what a reader owes: ok-* is read, format-* is refused as malformed. `python3 safetensors.py` in this directory.
"""
import os
import struct

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "safetensors")


def put(name, header, data=b"", length=None):
    header = header if isinstance(header, bytes) else header.encode()
    with open(os.path.join(here, name), "wb") as f:
        f.write(struct.pack("<Q", len(header) if length is None else length) + header + data)


def entry(name, dtype, shape, begin, end):
    return '"%s":{"dtype":"%s","shape":%s,"data_offsets":[%s,%s]}' % (name, dtype, shape, begin, end)


def one(dtype="I32", shape="[2,2]", begin=0, end=16):
    return "{" + entry("test", dtype, shape, begin, end) + "}"


put("ok-example", one(), bytes(16))
put("ok-empty", "{}\r \t\n")
put("ok-space-before", "  " + one(), bytes(16))
put("ok-scalar", one("F32", "[]", 0, 4), bytes(4))
put("ok-zero-elements", "{" + entry("a", "F32", "[0]", 0, 0) + "," + entry("b", "F32", "[1]", 0, 4) + "}", bytes(4))
put("ok-four-bits", one("F4", "[2]", 0, 1), b"\x21")
put("ok-six-bits", one("F6_E2M3", "[4]", 0, 3), bytes(3))
put("ok-metadata", '{"__metadata__":{"format":"pt","x":""},' + one()[1:], bytes(16))
put("ok-order", "{" + entry("b", "U8", "[3]", 4, 7) + "," + entry("a", "F32", "[1]", 0, 4) + "}", bytes(7))
put("ok-unaligned", "{" + entry("a", "U8", "[1]", 0, 1) + "," + entry("b", "BF16", "[1]", 1, 3) + "}", b"\x07\x80\x3f")
put("ok-nan", one("F32", "[2]", 0, 8), struct.pack("<ff", float("nan"), float("-inf")))
put("ok-members", '{"a":{"x":null,"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\x01")
for dtype, size in [("BOOL", 1), ("I8", 1), ("F8_E5M2", 1), ("F8_E4M3", 1), ("F8_E8M0", 1), ("F8_E4M3FNUZ", 1),
                    ("F8_E5M2FNUZ", 1), ("I16", 2), ("U16", 2), ("F16", 2), ("U32", 4), ("C64", 8), ("F64", 8),
                    ("I64", 8), ("U64", 8), ("F6_E3M2", 0)]:
    put("ok-dtype-" + dtype, one(dtype, "[1]" if size else "[0]", 0, size), bytes(size))

with open(os.path.join(here, "format-7-bytes"), "wb") as f:
    f.write(b"\x02\0\0\0\0\0\0")
put("format-nothing", b"")
put("format-header-large", "{}", length=100000001)
put("format-header-huge", "{}", length=2**64 - 1)
put("format-header-cut", "{}", length=3)
put("format-utf8", b'{"\xff":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0")
put("format-json", '{"test":')
put("format-array", "[]")
put("format-text-after", one() + "x", bytes(16))
put("format-nul-after", one() + "\0", bytes(16))
put("format-entry", '{"a":[]}')
put("format-dtype", one("I33"), bytes(16))
put("format-dtype-case", one("i32"), bytes(16))
put("format-dtype-missing", '{"a":{"shape":[1],"data_offsets":[0,1]}}', b"\0")
put("format-shape-missing", '{"a":{"dtype":"U8","data_offsets":[0,1]}}', b"\0")
put("format-offsets-missing", '{"a":{"dtype":"U8","shape":[1]}}', b"\0")
put("format-offsets-three", '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}', b"\0")
put("format-shape-negative", one(shape="[-2,-2]"), bytes(16))
put("format-shape-fraction", one(shape="[2.5,2]"), bytes(16))
put("format-shape-real", one(shape="[2.0,2]"), bytes(16))
put("format-shape-text", one(shape='["2",2]'), bytes(16))
put("format-shape-overflow", one(shape="[4294967296,4294967296,2]"), bytes(16))
put("format-bits-overflow", one(shape="[4611686018427387904]"), bytes(16))
put("format-shape-u64", one(shape="[18446744073709551615]"), bytes(16))
put("format-half-byte", one("F4", "[1]", 0, 1), b"\0")
put("format-six-bits", one("F6_E3M2", "[2]", 0, 2), bytes(2))
put("format-size-less", one(end=12), bytes(12))
put("format-size-more", one(end=20), bytes(20))
put("format-end-before-begin", one(begin=16, end=0), bytes(16))
put("format-end-outside", one(), bytes(14))
put("format-first-not-0", one("U8", "[1]", 1, 2), bytes(2))
put("format-gap", "{" + entry("a", "U8", "[1]", 0, 1) + "," + entry("b", "U8", "[1]", 2, 3) + "}", bytes(3))
put("format-overlap", "{" + entry("a", "U8", "[2]", 0, 2) + "," + entry("b", "U8", "[2]", 1, 3) + "}", bytes(3))
put("format-same-place", "{" + entry("a", "U8", "[2]", 0, 2) + "," + entry("b", "U8", "[2]", 0, 2) + "}", bytes(2))
put("format-bytes-after", one(), bytes(16) + b"PK\3\4")
put("format-twice", "{" + entry("a", "U8", "[1]", 0, 1) + "," + entry("a", "U8", "[1]", 1, 2) + "}", bytes(2))
put("format-member-twice", '{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0")
put("format-metadata-number", '{"__metadata__":{"format":1}}')
put("format-metadata-null", '{"__metadata__":null}')
put("format-metadata-list", '{"__metadata__":["pt"]}')
put("format-deep", '{"a":' + "[" * 9 + "]" * 9 + "}")
