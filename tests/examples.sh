#!/usr/bin/env bash
# Builds the examples, runs each twice and compares what it prints with examples/expected. What
# differs from run to run (ids, times, rates, places) is masked. `tests/examples.sh --write` writes
# what is expected anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What is printed must not depend on who runs it.
unset USER

home=$(pwd)
mask() {
    sed -E \
        -e "s#$home#HOME#g" \
        -e 's/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/ID/g' \
        -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+( UTC|Z)?/TIME/g' \
        -e 's#[0-9.]+ rows/s#RATE rows/s#g' \
        -e 's#[^ ]*/examples/([a-z_]+) --#\1 --#g'
}

cargo build --locked --quiet --bins --examples
built=$(cargo metadata --locked --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug

# An example is a program, or a script in a folder of its own.
example() {
    if [ -f "examples/$1/run.sh" ]; then
        ROWMILL="$built/rowmill" bash "examples/$1/run.sh"
    else
        "$built/examples/$1"
    fi
}

failed=0
for source in examples/*.rs examples/*/run.sh; do
    name=${source#examples/}
    name=${name%.rs}
    name=${name%/run.sh}
    [ "${1:-}" = --write ] || [ -f "examples/expected/$name.txt" ] || {
        echo "$name: examples/expected/$name.txt is missing"
        failed=1
    }
    [ "$(wc -l <"$source")" -le 120 ] || {
        echo "$name: an example has at most 120 lines"
        failed=1
    }
    [ "${1:-}" != --write ] || : >>"examples/expected/$name.txt"
done
for expected in examples/expected/*.txt; do
    name=$(basename "$expected" .txt)
    for run in 1 2; do
        found=$(example "$name" | mask) || {
            echo "$name: run $run failed"
            failed=1
            continue
        }
        if [ "${1:-}" = --write ]; then
            printf '%s\n' "$found" >"$expected"
        elif ! diff -u "$expected" <(printf '%s\n' "$found"); then
            echo "$name: run $run printed something else than $expected"
            failed=1
        fi
    done
    [ "$failed" -ne 0 ] || echo "$name: ok"
done
exit "$failed"
