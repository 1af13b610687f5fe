# Short names for what `./check` and cargo do; nothing is only here.

# What can be typed
default:
    @just --list

# Everything that CI runs
check:
    ./check

# Put the code into its form
fmt:
    cargo fmt

# Warnings are errors
lint:
    ./check fmt lint

# Unit, integration and documentation tests
test:
    ./check test

# The documentation, private items too
doc:
    ./check doc

# The example scripts, with their output compared
example:
    ./check examples

# Rows a second on this machine: `just bench --rows 100000`
bench *args:
    cargo run --release --locked -- bench {{args}}
