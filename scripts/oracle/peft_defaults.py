"""What each release of PEFT added to the configurations that are read here, with the defaults, from the wheels on PyPI: no part of `all.py`.

The releases' own source is read and not run, so that those which no longer install count too. Needs pip and the network. A release's last
patch stands for it; the newest of all adds nothing to its first.
"""

import ast
import dataclasses
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/interop/tests/fixtures/peft_defaults.json"
RELEASES = "0.3.0 0.4.0 0.5.0 0.6.2 0.7.1 0.8.2 0.9.0 0.10.0 0.11.1 0.12.0 0.13.2 0.14.0 0.15.2 0.16.0 0.17.1 0.18.1 0.19.1 0.20.0 0.21.0 0.21.2"
KINDS = {"LORA": "LoraConfig", "ADALORA": "AdaLoraConfig", "VERA": "VeraConfig"}
# PEFT fills the first two in itself and does not save the third.
LEFT_OUT = {"peft_type", "peft_version", "runtime_config"}
NOTE = (
    "What a new configuration of each release of PEFT has that the one before did not: the fields of LoraConfig, AdaLoraConfig and "
    "VeraConfig with their defaults, read from src/peft of github.com/huggingface/peft at the tags. Up to 0.21.2. Fields that PEFT fills in "
    "itself (peft_type, peft_version) and runtime_config, which it does not save, are left out."
)


def wheel(release):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        subprocess.run([*command, f"peft=={release}"], check=True)
        (file,) = pathlib.Path(folder).iterdir()
        return zipfile.ZipFile(io.BytesIO(file.read_bytes()))


def classes(archive):
    """Every class of the release by name."""
    found, names = {}, archive.namelist()
    for name in names:
        # A wheel may carry a module that the package of the same name hides.
        is_hidden = name.removesuffix(".py") + "/__init__.py" in names
        if name.startswith("peft/") and name.endswith(".py") and not is_hidden:
            for node in ast.walk(ast.parse(archive.read(name))):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, node)
    return found


def default(value):
    """The value that a dataclass's field has where nothing sets it."""
    if isinstance(value, ast.Call):
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        if "default_factory" in given:
            return {"dict": {}, "list": []}.get(getattr(given["default_factory"], "id", None), dataclasses.MISSING)
        return default(given["default"])
    return ast.literal_eval(value)


def fields(name, known):
    """Fields of a class in the order of dataclasses: those of its bases first."""
    all_fields = {}
    node = known[name]
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in known:
            all_fields |= fields(base.id, known)
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and line.target.id not in LEFT_OUT:
            if "ClassVar" not in ast.unparse(line.annotation):
                all_fields[line.target.id] = default(line.value)
    return all_fields


def main():
    added = {kind: [] for kind in KINDS}
    before = {kind: {} for kind in KINDS}
    for release in RELEASES.split():
        known = classes(wheel(release))
        for kind, name in KINDS.items():
            if name not in known:
                continue
            now = fields(name, known)
            new = {field: value for field, value in now.items() if field not in before[kind] or before[kind][field] != value}
            before[kind] = now
            if release == "0.21.2":
                assert not new, (kind, new)
            else:
                added[kind].append({"release": release, "new": new})
    lines = [f'  "note": {json.dumps(NOTE)}']
    for kind, releases in added.items():
        lines.append(f'  "{kind}": [\n' + ",\n".join(f"    {json.dumps(release)}" for release in releases) + "\n  ]")
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
