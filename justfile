# The habits of the house. `just` lists them; `tests/run` is the one test command behind them.

# Lists the recipes.
default:
    @just --list

# Formats, Rust and this file.
fmt:
    cargo fmt
    just --fmt --unstable

# Lints and tests that need Rust alone.
quick:
    tests/run --quick

# Everything: checks, documentation, tests, independent readers.
test:
    tests/run

# What CI runs.
check:
    .ci/run

# Runs simulated schedules for so many minutes, and shortens one that fails.
soak minutes:
    LANDFAST_SIM_SECONDS=$(({{ minutes }} * 60)) cargo test --release --locked --test integration -- simulation::every_schedule

# Kills real processes, so many in each scenario, and counts what is in the tables afterwards.
fire kills:
    tests/fire/run {{ kills }}

# Plants known bugs in a copy of the tree, which the simulation must find.
mutants seconds='60':
    tests/simulation/mutants/run {{ seconds }}

# The library's documentation, opened in a browser.
doc:
    cargo doc --no-deps --locked --open

# Renews docs/config.schema.json and the tables of docs/configuration.md and docs/metrics.md after a change of what describes them.
docs:
    LANDFAST_RENEW_DOCS=1 cargo test --locked --lib current

# Renews what is written down of Terraform's plans: grants, rendered configurations, tables of the READMEs.
terraform-renew:
    tests/terraform/run install .tools/terraform
    tests/terraform/run renew .tools/terraform

# Plants mistakes in Terraform's files, which its tests must find; then lets tflint and checkov look.
terraform-plants:
    tests/terraform/run install .tools/terraform
    tests/terraform/plants .tools/terraform
    tests/terraform/run install-lint .tools/terraform
    tests/terraform/run lint .tools/terraform

# Builds the image as a user would and measures it: root, Debian, half an hour of two cores.
image:
    tests/image/run install .tools/image
    tests/image/run release .tools/image

# Licences, bans and sources of the dependencies.
deny:
    cargo deny --locked check licenses bans sources

# Messages per second, latency, memory, and whether a late commit costs what an early one did.
bench:
    cargo build --release --locked
    benches/push.py
    benches/load.py
    benches/partitions.py
    benches/object.py
    benches/start.py
    cargo bench --locked --bench commits --bench committers --bench ledger --bench decode --bench write
