#!/usr/bin/env bash
# Holds JSON schemas to the official JSON-Schema-Test-Suite (2020-12): nothing invalid may be written.
# The suite comes with the source of the Python package jsonschema, from PyPI. Needs Python with pip.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$folder" jsonschema==4.26.0
tar -xzf "$folder"/jsonschema-*.tar.gz -C "$folder"
JSON_SCHEMA_TEST_SUITE=$(echo "$folder"/jsonschema-*/json) cargo test -p grammar --test suite -- --nocapture
