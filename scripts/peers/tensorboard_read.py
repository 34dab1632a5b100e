#!/usr/bin/env python3
"""Reads our event files with TensorBoard's own reader, and checks them against the curves that they come from.

    python3 -m venv venv && venv/bin/pip install tensorboard==2.21.0
    starling run p.toml
    starling tensorboard -p p.toml --out boards         # or: "$(starling tensorboard)", also while a run runs
    venv/bin/python scripts/peers/tensorboard_read.py boards --curve train=.starling/…/curve

Every curve given as STAGE=FILE (JSON lines with `update`) must be there with all of its figures, as floats. Exit 1
when something differs. `--bytes` prints the records that the test of `src/board/tfevents.rs` pins, written by
TensorBoard's writer.
"""

import argparse
import json
import struct
import sys


def records():
    import io

    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    value = summary_pb2.Summary.Value
    scalars = summary_pb2.Summary(
        value=[value(tag="loss", simple_value=0.5), value(tag="reward/mean", simple_value=-3.25)]
    )
    restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    events = {
        "FIRST": event_pb2.Event(wall_time=1.5, file_version="brain.Event:2"),
        "SCALARS": event_pb2.Event(wall_time=2.25, step=300, summary=scalars),
        "RESTART": event_pb2.Event(wall_time=2.5, step=128, session_log=restart),
    }
    for name, event in events.items():
        file = io.BytesIO()
        RecordWriter(file).write(event.SerializeToString())
        yield name, file.getvalue()


def as_float(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def read(folder):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    multiplexer = EventMultiplexer(size_guidance={"scalars": 0, "tensors": 0})
    multiplexer.AddRunsFromDirectory(folder)
    multiplexer.Reload()
    found = {}
    for run, kinds in multiplexer.Runs().items():
        found[run] = {
            tag: [(e.step, e.value) for e in multiplexer.Scalars(run, tag)] for tag in kinds["scalars"]
        }
    return found


def differences(found, stage, curve):
    expected = {}
    with open(curve, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for name, value in row.items():
                if name != "update" and isinstance(value, (int, float)):
                    expected.setdefault(name, []).append((row["update"], as_float(value)))
    tags = found.get(stage)
    if tags is None:
        return [f"no run `{stage}`; there are {sorted(found)}"]
    return [
        f"{stage}: {tag}: {tags.get(tag)} instead of {expected.get(tag)}"
        for tag in sorted(set(tags) | set(expected))
        if tags.get(tag) != expected.get(tag)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="what `tensorboard --logdir` would be given")
    parser.add_argument("--curve", action="append", default=[], metavar="STAGE=FILE")
    parser.add_argument("--bytes", action="store_true")
    arguments = parser.parse_args()
    if arguments.bytes:
        for name, record in records():
            print(f"{name} {record.hex()}")
        return 0
    if arguments.folder is None:
        parser.error("give a folder")
    found = read(arguments.folder)
    for run, tags in sorted(found.items()):
        for tag, points in sorted(tags.items()):
            print(f"{run}  {tag}  {len(points)} points, to step {points[-1][0]}: {points[-1][1]:.6g}")
    wrong = []
    for pair in arguments.curve:
        stage, _, curve = pair.partition("=")
        wrong += differences(found, stage, curve)
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(arguments.curve)} curves compared, {len(wrong)} differences")
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main())
