#!/bin/sh
# listing.sh DIR: lists a directory in a fixed order: names, types, modes, owners, times, targets of
# links, and of each file its length, its number of names and the sum of its bytes. Two directories are equal if this is.
set -eu
export LC_ALL=C
cd -- "$1"
find . -printf '%p|%y|%m|%U:%G|%T+|%l' \( -type f -printf '|%s|%n\n' -o -printf '\n' \) | sort
find . -type f -exec sha256sum -- {} + | sort
