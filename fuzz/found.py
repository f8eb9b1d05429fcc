"""Inputs that the fuzzer found, one file per reader: found.py pack|unpack KIND FOLDER.

A minimised corpus has hundreds of inputs of some hundred bytes, so they lie together in `fuzz/found/KIND.safetensors`, each a tensor of
bytes under the start of its SHA-256. `crates/cli/tests/corpus.rs` replays them; `just fuzz` goes on from them.
"""

import hashlib
import json
import pathlib
import struct
import sys

FOUND = pathlib.Path(__file__).resolve().parent / "found"


def pack(file: pathlib.Path, folder: pathlib.Path) -> None:
    contents = [path.read_bytes() for path in folder.iterdir() if path.is_file()]
    inputs = {hashlib.sha256(content).hexdigest()[:16]: content for content in contents if content}
    header, end = {}, 0
    for name in sorted(inputs):
        start, end = end, end + len(inputs[name])
        header[name] = {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(inputs[name] for name in sorted(inputs)))
    print(f"{file}: {len(inputs)} inputs of {end} bytes")


def unpack(file: pathlib.Path, folder: pathlib.Path) -> None:
    if not file.exists():
        return
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    data = content[8 + length :]
    for name, tensor in json.loads(content[8 : 8 + length]).items():
        start, end = tensor["data_offsets"]
        (folder / name).write_bytes(data[start:end])


if __name__ == "__main__":
    command, kind, folder = sys.argv[1:]
    {"pack": pack, "unpack": unpack}[command](FOUND / f"{kind}.safetensors", pathlib.Path(folder))
