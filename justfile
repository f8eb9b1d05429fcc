# The commands of LoRA Lab. `just` alone lists them.

# One profile for everything: tests compute, and a second build of the dependencies costs ten minutes.
cargo := "cargo"
mdbook := "0.5.4"
cargo_deny := "0.20.2"
cargo_fuzz := "0.13.2"
cargo_mutants := "27.1.0"

[private]
default:
    @just --list --unsorted

# Train what an experiment lacks, then print its table: just run exp/dylora_glue.yaml
run experiment *options:
    {{cargo}} run --release -- run {{experiment}} {{options}}

# Report every problem of an experiment; trains nothing
check-experiment +experiments:
    {{cargo}} run --release -- check {{experiments}}

# Print and write an experiment's tables from its records
table experiment *options:
    {{cargo}} run --release -- table {{experiment}} {{options}}

# Draw the figures of every experiment with results, or of those named: just figures dylora_glue
figures *experiments:
    {{cargo}} run --release -- figures {{experiments}}

# Write studies as one HTML file to explore and to send: just report dylora_glue
report +experiments:
    {{cargo}} run --release -- report {{experiments}}

# Compare the studies under results/ with the papers' reported numbers
claims:
    {{cargo}} run --release -- claims

# The former name of `claims`
[private]
paper: claims

# Measure adapters: just analyze phi RUN_A RUN_B --out phi.csv
analyze *arguments:
    {{cargo}} run --release -- analyze {{arguments}}

# Execute the notebooks, or those named, from a clean kernel in a pinned environment; their checks hold every number against the program's tables: just notebooks subspaces
notebooks *names:
    [ -x target/notebooks/bin/python ] || python3 -m venv target/notebooks
    target/notebooks/bin/python -m pip install --quiet --disable-pip-version-check --requirement notebooks/requirements.txt
    target/notebooks/bin/python notebooks/run.py {{names}}

# Run an example of the library, or list them: just example train_a_variant
example *name:
    {{cargo}} run --release --package examples --example {{name}}

# Devices: which are in this build, which are present, and which one `auto` takes
devices:
    {{cargo}} run --release -- devices

# Build with LibTorch for NVIDIA cards, beside the build for the CPU: just setup-gpu, just setup-gpu 2.9.1, just setup-gpu --use-installed
setup-gpu *options:
    bash scripts/setup_gpu.sh {{options}}

# A Python wheel that holds the program, in target/wheel/dist, tried in a bare environment: pip install target/wheel/dist/*.whl
wheel:
    bash scripts/wheel.sh

# The program that setup-gpu built: just gpu run exp/dylora_glue.yaml
gpu *arguments:
    target/gpu/target/release/lora-lab {{arguments}}

# Every test of the workspace
test *options:
    {{cargo}} test --release --workspace {{options}}

# Faults made on purpose, in full: 100 kills at random moments, disks of 40 sizes, cut files, signals; some minutes. `just test` makes a few of each
faults *options:
    LORA_LAB_FAULTS=full {{cargo}} test --release -p cli --test faults {{options}} -- --nocapture --test-threads 2

# Studies of 2,000 cells and of 10,000 records: memory, file handles, unfinished work and seconds
long-haul:
    {{cargo}} test --release -p cli --test long_haul -- --ignored --nocapture --test-threads 1

# Simulate studies whose truth is known: do intervals hold, do tests keep their level? Writes bench/statistics.md, which the guide shows; a minute
simulate:
    LORA_LAB_SIMULATED="$PWD/bench/statistics.md" {{cargo}} test --release -p analysis --test simulation -- --ignored --nocapture

# Simulate 100,000 cells over 1,000 workers, by what the committed runs took: writes bench/scale_out.md, which the guide shows
scale-out:
    LORA_LAB_SCALE_OUT="$PWD/bench/scale_out.md" {{cargo}} test --release -p schedule --test cluster -- --nocapture

# A study over a real Slurm on this machine, under faults; some fifteen minutes. As root on Debian it installs what it needs; says so where it cannot
slurm:
    bash tests/slurm/run.sh

# Open a report in headless Chromium as a reader would, check what happens, and take pictures into target/browser. As root on Debian it installs Chromium; says so where it cannot
browser *options:
    bash scripts/browser/run.sh {{options}}

# How many laws apply to every method, counted by the laws' own tests: writes bench/laws.csv, which the guide shows
laws:
    rm -rf target/laws && mkdir -p target/laws
    LORA_LAB_LAWS="$PWD/target/laws" {{cargo}} test --release -p variants --test laws
    (echo method,laws,of; cat target/laws/* | LC_ALL=C sort | uniq -c | awk -v all="$(ls target/laws | wc -l)" '{print $2 "," $1 "," all}') > bench/laws.csv

# Feed one reader (a name in fuzz/fuzz_targets) random inputs for some seconds: just fuzz table 600. Needs a nightly compiler; installs cargo-fuzz into target/cargo-fuzz
fuzz target seconds="600":
    [ -x target/cargo-fuzz/bin/cargo-fuzz ] || {{cargo}} install cargo-fuzz@{{cargo_fuzz}} --locked --root target/cargo-fuzz
    mkdir -p target/fuzz/{{target}}
    python3 fuzz/found.py unpack {{target}} target/fuzz/{{target}}
    PATH="$PWD/target/cargo-fuzz/bin:$PATH" cargo +nightly fuzz run --sanitizer none {{target}} target/fuzz/{{target}} fuzz/corpus/{{target}} -- -max_total_time={{seconds}} -timeout=20 -rss_limit_mb=2048

# Keep of what the fuzzer found for a reader the fewest inputs that reach all of it, in fuzz/found, where the tests replay them
fuzz-minimise target:
    rm -rf target/fuzz/fewest && mkdir -p target/fuzz/fewest
    PATH="$PWD/target/cargo-fuzz/bin:$PATH" cargo +nightly fuzz run --sanitizer none {{target}} -- -set_cover_merge=1 "$PWD/target/fuzz/fewest" "$PWD/fuzz/corpus/{{target}}" "$PWD/target/fuzz/{{target}}"
    python3 fuzz/found.py pack {{target}} target/fuzz/fewest

# Feed every reader random changes of the fuzzer's corpus, without knowledge of its branches and without a nightly compiler: just mutate 100000
mutate inputs="1000000":
    LORA_LAB_MUTATIONS={{inputs}} {{cargo}} test --release -p cli --test corpus -- --nocapture

# Run the tests of the crates without unsafe code and without kernels in Miri, which finds undefined behaviour in what they call; minutes. Needs a nightly compiler with `miri` and `rust-src`
miri *options:
    MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=2 CARGO_TARGET_DIR=target/miri {{cargo}} +nightly miri test -p suggest -p record -p lowrank --lib {{options}}

# Licences, sources, duplicates and advisories of every dependency; installs cargo-deny into target/cargo-deny the first time
deny:
    [ -x target/cargo-deny/bin/cargo-deny ] || {{cargo}} install cargo-deny@{{cargo_deny}} --locked --root target/cargo-deny
    bash scripts/deny.sh target/cargo-deny/bin/cargo-deny

# The tests that need files: LORA_LAB_GLUE=data/glue LORA_LAB_MINILM=FOLDER LORA_LAB_MINILM_EXPECTED=FILE just test-data
test-data *options:
    {{cargo}} test --release --workspace --test glue --test minilm -- --ignored {{options}}

# The tests that need a card, with LIBTORCH set as scripts/setup_gpu.sh sets it: LORA_LAB_TEST_DEVICE=tch:cuda:0 just test-gpu
test-gpu *options:
    {{cargo}} test --release --workspace --features cli/tch --test device --test libtorch -- --include-ignored {{options}}

# Make the tests' fixtures again with the pinned packages of Python, in a fresh environment (3 GB)
oracle:
    rm -rf target/oracle
    python3 -m venv target/oracle
    target/oracle/bin/python -m pip install --quiet --requirement scripts/oracle/requirements.txt
    target/oracle/bin/python scripts/oracle/all.py

# Read event files and model cards back with TensorBoard and the hub's own library, in a fresh environment of pinned packages (100 MB)
readers *options:
    rm -rf target/readers
    python3 -m venv target/readers
    target/readers/bin/python -m pip install --quiet --requirement scripts/readers/requirements.txt
    {{cargo}} build --release
    target/readers/bin/python scripts/readers/read_back.py {{options}}

# Compile every table of the committed results with LaTeX, from the records into target/latex; says so where there is no TeX
latex *options:
    {{cargo}} build --release
    python3 scripts/latex.py {{options}}

# Compare adapters that travel to PEFT and back with PEFT: just peft --minilm models/all-MiniLM-L6-v2 --glue data/glue
peft *options:
    {{cargo}} build --release --workspace
    target/oracle/bin/python scripts/oracle/peft_both_ways.py --binary target/release/lora-lab {{options}}

# What no compiler checks: module docs, experiments, documents and their links, dependency edges, replaced words
tidy:
    {{cargo}} build --release --workspace && target/release/xtask

# Put the present tables into the documents that show them, and write the guide's pages of methods from the code
documents:
    {{cargo}} build --release --workspace && target/release/xtask documents

# Build the guide as HTML into target/guide; installs mdBook into target/mdbook the first time
guide:
    [ -x target/mdbook/bin/mdbook ] || {{cargo}} install mdbook@{{mdbook}} --locked --no-default-features --root target/mdbook
    target/mdbook/bin/mdbook build docs

# Formatting, lints, tests, documentation, tables: what a change must pass
check: fmt-check lint test doc tidy

# Format every source file, those named inside macros included
fmt:
    git ls-files --cached --others --exclude-standard '*.rs' | xargs rustfmt --edition 2024

fmt-check:
    git ls-files --cached --others --exclude-standard '*.rs' | xargs rustfmt --edition 2024 --check

lint:
    {{cargo}} clippy --release --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" {{cargo}} doc --release --workspace --no-deps

# Seconds per training step of every variant, as ratios to LoRA
bench:
    {{cargo}} bench --workspace --bench step

# Speed of the subspace measures
bench-analysis:
    {{cargo}} bench --workspace --bench subspace

# Whether a test notices when the code is wrong, by rule and by hand; writes mutants/results.md and goes on where it stopped: just mutants variants --jobs 1. Installs cargo-mutants into target/cargo-mutants the first time
mutants *options:
    [ -x target/cargo-mutants/bin/cargo-mutants ] || {{cargo}} install cargo-mutants@{{cargo_mutants}} --locked --root target/cargo-mutants
    {{cargo}} build --release --package xtask
    PATH="$PWD/target/cargo-mutants/bin:$PATH" target/release/xtask ask {{options}}
    PATH="$PWD/target/cargo-mutants/bin:$PATH" target/release/xtask left
    target/release/xtask breaks
    PATH="$PWD/target/cargo-mutants/bin:$PATH" target/release/xtask mutants

# The same mutants by cargo-mutants alone, which compiles each and runs every test of its crate: days. Shards can run on several machines: just mutants-plainly 0/8
mutants-plainly shard="0/1" *options:
    {{cargo}} run --release --package xtask -- tree
    -CARGO_TARGET_DIR="$PWD/target/mutants/build" PATH="$PWD/target/cargo-mutants/bin:$PATH" cargo mutants --workspace --dir target/mutants/tree --shard {{shard}} --output target/mutants/{{replace(shard, "/", "of")}} {{options}}
    PATH="$PWD/target/cargo-mutants/bin:$PATH" {{cargo}} run --release --package xtask -- mutants

# The breaks by hand alone, or those whose name has a word: just breaks gate
breaks *word:
    {{cargo}} run --release --package xtask -- breaks {{word}}

# Make the embedded base model again: hours on a CPU, 8 minutes on an H200 with `--features tch` and `--device tch:cuda:0`
pretrain *options:
    {{cargo}} run --release -- pretrain {{options}}
