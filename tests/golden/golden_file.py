"""Writes a golden file: named tensors, little endian, read by tests/harness_golden.c.

bytes 0-7     "QNGOLD1\\0"
u32           number of tensors
u32           bytes of the index that follows
index, per tensor, in the order they were added:
    u16       length of the name
    u8        dtype: 0 f32, 1 f64, 4 i32, 5 i64 (the values of qn_dtype)
    u8        number of axes
    i64[]     shape
    u64       place of the data, from the start of the file; a multiple of 8
    bytes     the name
data, row-major
"""

import struct

import numpy as np

DTYPES = {"float32": 0, "float64": 1, "int32": 4, "int64": 5}


class GoldenFile:
    def __init__(self):
        self.tensors = {}

    def add(self, name, value, dtype=None):
        """value: anything numpy understands, or a torch tensor."""
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        array = np.array(value, dtype=dtype, order="C")
        if name in self.tensors:
            raise ValueError(f"{name} was added twice")
        if array.dtype.name not in DTYPES:
            raise ValueError(f"{name}: dtype {array.dtype} has no place in the format")
        self.tensors[name] = array

    def write(self, path):
        size = sum(12 + 8 * a.ndim + len(n.encode()) for n, a in self.tensors.items())
        place = -(-(16 + size) // 8) * 8
        index, data = b"", b""
        for name, a in self.tensors.items():
            text = name.encode()
            index += struct.pack("<HBB", len(text), DTYPES[a.dtype.name], a.ndim)
            index += struct.pack(f"<{a.ndim}qQ", *a.shape, place + len(data)) + text
            data += a.tobytes()
            data += b"\0" * (-len(data) % 8)
        assert len(index) == size
        head = b"QNGOLD1\0" + struct.pack("<II", len(self.tensors), len(index))
        with open(path, "wb") as f:
            f.write((head + index).ljust(place, b"\0") + data)
        return place + len(data)
