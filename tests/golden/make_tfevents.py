#!/usr/bin/env python3
"""Checks an event file written by Quern with TensorBoard's own reader; keeps it as golden bytes.

usage: make_tfevents.py PATH/TO/test_tfevents     (needs: pip install tensorboard)

Runs `test_tfevents --write` in an empty directory, reads the file with EventAccumulator and
with the hparams plugin's own message classes, compares every value with what the test writes,
and copies the file to tfevents.bin beside this script.
"""
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


def hparams(accumulator, tag):
    content = accumulator.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def main():
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.argv[1], "--write", directory], check=True)
        (path,) = pathlib.Path(directory).iterdir()
        reader = event_accumulator.EventAccumulator(directory)
        reader.Reload()

        tags = reader.Tags()["scalars"]
        check("scalar tags", sorted(tags), ["eval/accuracy", "eval/loss", "summary/best_value",
                                            "train/learning_rate", "train/loss"])
        loss = reader.Scalars("train/loss")
        check("train/loss", [(e.step, e.value) for e in loss], [(10, 2.5), (300, 0.5)])
        check("wall times rise", loss[0].wall_time < loss[1].wall_time, True)
        check("eval/loss is NaN", math.isnan(reader.Scalars("eval/loss")[0].value), True)
        check("eval/accuracy", reader.Scalars("eval/accuracy")[0].value, 0.75)
        check("final value", [(e.step, e.value) for e in reader.Scalars("summary/best_value")],
              [(1 << 20, 0.25)])

        text = reader.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
        check("text", text.splitlines()[1], '      "run": {"name": "caf\u00e9", "seed": 1337},')
        check("text plugin", reader.SummaryMetadata("config/text_summary").plugin_data.plugin_name,
              "text")
        notes = reader.Tensors("notes/text_summary")
        check("note", [(e.step, e.tensor_proto.string_val[0]) for e in notes],
              [(301, b"step 301 skipped")])

        start = hparams(reader, "_hparams_/session_start_info").session_start_info
        values = {k: getattr(v, v.WhichOneof("kind")) for k, v in start.hparams.items()}
        check("hyper-parameters", values,
              {"run.name": "caf\u00e9", "run.seed": 1337.0, "optimizer.betas": "[0.9, 0.95]",
               "optimizer.nesterov": True, "optimizer.groups.0.match": "**.bias",
               "optimizer.groups.0.lr": 0.5})
        experiment = hparams(reader, "_hparams_/experiment").experiment
        check("kinds", {i.name: i.type for i in experiment.hparam_infos},
              {"run.name": 1, "run.seed": 3, "optimizer.betas": 1, "optimizer.nesterov": 2,
               "optimizer.groups.0.match": 1, "optimizer.groups.0.lr": 3})
        check("metrics", [i.name.tag for i in experiment.metric_infos],
              ["train/loss", "eval/loss", "summary/best_value"])
        end = hparams(reader, "_hparams_/session_end_info").session_end_info
        check("session end", end.status, 1)

        shutil.copyfile(path, here / "tfevents.bin")
        print(f"read back by TensorBoard; {path.stat().st_size} bytes kept as tfevents.bin")


main()
