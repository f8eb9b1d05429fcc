#!/usr/bin/env bash
# Builds lora-lab with LibTorch, the backend for NVIDIA cards, and shows the devices it has then.
#
#   scripts/setup_gpu.sh [VERSION]          torch VERSION (2.9 to 2.11, 2.11.0 by default) into a Python environment under target/gpu
#   scripts/setup_gpu.sh --use-installed    the torch that the python3 of this shell imports
#
# The program goes to target/gpu/target/release/lora-lab, beside the build for the CPU and not over it. It finds LibTorch by itself.
# GPU_TARGET chooses another folder for the build, PYTHON another interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/target/gpu
target=${GPU_TARGET:-$root/target}
python=${PYTHON:-python3}

say() { printf 'setup-gpu: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

usage="give a version of torch from 2.9 to 2.11, such as 2.11.0, or --use-installed"
use_installed=false
version=2.11.0
[ $# -le 1 ] || fail "$usage"
case "${1-}" in
'') ;;
--use-installed) use_installed=true ;;
-*) fail "unknown option \`$1\`; $usage" ;;
*) version=$1 ;;
esac
# The versions whose interface our C++ is written for; another one fails at compile time, or, worse, later.
is_known() { [[ $1 =~ ^2\.(9|10|11)(\.[0-9]+)?([+].*)?$ ]]; }

[ "$(uname -s)" = Linux ] || fail "this is for Linux; elsewhere see README, GPUs"
command -v cargo >/dev/null || fail "cargo is not on the PATH; https://rustup.rs installs it"
command -v c++ >/dev/null || fail "there is no C++ compiler (c++) on the PATH; on Debian: apt-get install g++"
command -v "$python" >/dev/null || fail "there is no \`$python\` on the PATH; set PYTHON to an interpreter of Python 3"

if ! $use_installed; then
    is_known "$version" || fail "version is \`$version\`; $usage"
    venv=$root/python
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        say "making a Python environment in $venv"
        "$python" -m venv "$venv" || fail "\`$python -m venv\` failed; on Debian: apt-get install python3-venv"
    fi
    python=$venv/bin/python
    # What is there already in this version is not loaded again.
    say "installing torch $version with its CUDA libraries (about 3 GB, the first time)"
    "$python" -m pip install --quiet "torch==$version" || fail "pip could not install torch $version; its message is above"
fi

# Where torch lies, its version, and the CUDA it was built for.
facts=$("$python" - <<'PYTHON'
import importlib.util
import pathlib
import sys

spec = importlib.util.find_spec("torch")
if spec is None:
    sys.exit("setup-gpu: torch is not installed")
folder = pathlib.Path(spec.origin).parent
# Read, not imported: an import takes seconds and needs every library.
found = {}
exec((folder / "version.py").read_text(), found)
print(folder, found["__version__"], found.get("cuda") or "-", sep="\n")
PYTHON
) || fail "\`$python\` has no torch that can be used; leave --use-installed out to install one"
{ read -r torch; read -r found; read -r cuda; } <<<"$facts"
is_known "$found" || fail "\`$python\` has torch $found; $usage"
say "torch $found, built for CUDA $cuda, in $torch"
[ -f "$torch/lib/libtorch_cpu.so" ] || fail "$torch/lib has no libtorch_cpu.so; is this a torch wheel?"

# The headers of the CUDA runtime. torch brings one half of them, a package of the compiler's the other.
nvidia=$(dirname "$torch")/nvidia
holding() { # HEADER FOLDER.. prints the first folder that has it
    local header=$1 folder
    shift
    for folder in "$@"; do
        if [ -n "$folder" ] && [ -f "$folder/$header" ]; then printf '%s\n' "$folder"; return; fi
    done
}
if [ ! -f "$torch/lib/libtorch_cuda.so" ]; then
    say "note: this torch is one for the CPU; the program will have tch:cpu and no tch:cuda"
else
    [[ $cuda =~ ^1[23]\.[0-9]+ ]] || fail "this torch was built for CUDA $cuda; 12 or 13 is wanted"
    case $cuda in 12.*) package=nvidia-cuda-nvcc-cu12 part=cuda_nvcc ;; *) package=nvidia-cuda-crt part=cu13 ;; esac
    folders=("${CUDA_INCLUDE-}" "${CUDA_HOME:+$CUDA_HOME/include}" "$nvidia/cu13/include" "$nvidia/cuda_runtime/include"
        "$nvidia/cuda_nvcc/include" /usr/local/cuda/include)
    if [ -z "$(holding cuda_runtime_api.h "${folders[@]}")" ]; then
        fail "no headers of the CUDA runtime (cuda_runtime_api.h) beside torch; install the CUDA toolkit and set CUDA_HOME, or set \
CUDA_INCLUDE to their folder"
    fi
    if [ -z "$(holding crt/host_defines.h "${folders[@]}")" ]; then
        # Into a folder of our own: an environment that was only to be used stays as it is.
        own=$root/headers-$cuda
        if [ ! -f "$own/nvidia/$part/include/crt/host_defines.h" ]; then
            say "installing $package for its headers"
            "$python" -m pip install --quiet --no-deps --upgrade --target "$own" "$package==$cuda.*" ||
                fail "pip could not install $package $cuda; install the CUDA toolkit and set CUDA_HOME"
        fi
        export CUDA_INCLUDE=$own/nvidia/$part/include
    fi
    say "headers: $(holding cuda_runtime_api.h "${folders[@]}"), $(holding crt/host_defines.h "${CUDA_INCLUDE-}" "${folders[@]}")"
fi

# torch's libraries find those of CUDA by themselves, through paths of their own, but the program must find torch's: its rpath. The linker
# may not drop libtorch_cuda, which registers itself when it is loaded and which no symbol asks for, and need not find what torch's
# libraries need in turn.
flags="-C link-arg=-Wl,--no-as-needed -C link-arg=-Wl,--allow-shlib-undefined -C link-arg=-Wl,-rpath,$torch/lib"
say "building in $target (ten minutes and more the first time)"
# Without LIBTORCH_BYPASS_VERSION_CHECK the Rust binding takes 2.9.0 alone; our tests hold the others against composed operations.
LIBTORCH="$torch" LIBTORCH_BYPASS_VERSION_CHECK=1 RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }$flags" CARGO_TARGET_DIR="$target" \
    cargo build --release --features tch

program=$target/release/lora-lab
say "done: $program"
"$program" devices
