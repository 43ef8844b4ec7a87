#!/bin/sh
# One release, for any pipeline: every tag is pinned, what was pinned is packed, and the bundle is checked as the courier will.
#
#   release.sh SEQUENCE OUTPUT [IMAGE]...
#
# Where the rest is, variables say: SEALIFT_FILE (release.yaml), SEALIFT_SIGN_KEY, SEALIFT_SIGN_PASSPHRASE_FILE, SEALIFT_STATE,
# REGISTRY_AUTH_FILE; RELEASE_CERTIFICATE (release.asc) is what the check believes. Run again, it goes on with what was pinned.
set -eu
[ $# -ge 2 ] || { echo "usage: release.sh SEQUENCE OUTPUT [IMAGE]..." >&2; exit 2; }
sequence=$1 output=$2
shift 2
file=${SEALIFT_FILE:-release.yaml}
unset SEALIFT_FILE
mkdir -p "$output"
lock=$output/release-$sequence.lock.yaml
[ -e "$lock" ] || sealift-export plan --file "$file" --sequence "$sequence" --lock "$lock" "$@"
# What flags and variables add is in it already.
unset SEALIFT_LABEL SEALIFT_RECIPIENT SEALIFT_PLATFORM SEALIFT_IMAGES_FILE
sealift-export pack --file "$lock" --sequence "$sequence" --output "$output"
stream=$(sed -n 's/^stream: "\(.*\)"$/\1/p' "$lock")
sealift-export check --trust "${RELEASE_CERTIFICATE:-release.asc}" "$output/$stream-$sequence"
