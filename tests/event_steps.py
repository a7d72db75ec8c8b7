#!/usr/bin/env python3
"""Prints `step tag` for every scalar in TensorBoard event files, in the order of their names.

    tests/event_steps.py FOLDER

Reads records (length, check, data, check) and the three protocol-buffer levels Event, Summary and
Summary.Value with nothing but the standard library.
"""
import pathlib
import struct
import sys


def fields(data):
    """(number, value) of each field; integers as int, the rest as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield key >> 3, data[at:at + size]
        at += size


def records(data):
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        assert at + 16 + size <= len(data), "the file ends inside a record"
        yield data[at + 12:at + 12 + size]
        at += 16 + size


for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for record in records(path.read_bytes()):
        event = dict(fields(record))
        for number, value in fields(event.get(5, b"")):
            if number == 1:
                print(event.get(2, 0), dict(fields(value))[1].decode())
