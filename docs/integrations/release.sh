#!/bin/sh
# One release, for any pipeline: every tag is pinned, what was pinned is packed, and the bundle is checked as the courier will.
#
#   release.sh SEQUENCE OUTPUT [IMAGE]...
#
# Where the rest is, variables say: SEALIFT_FILE (release.yaml), SEALIFT_SIGN_KEY, SEALIFT_SIGN_PASSPHRASE_FILE, SEALIFT_STATE,
# REGISTRY_AUTH_FILE; RELEASE_CERTIFICATE (release.asc) is what the check believes. An empty variable counts as none. Run again, it
# goes on with what was pinned, which is kept in SEALIFT_STATE where there is one: the output may be cleaned away.
set -eu
[ $# -ge 2 ] || { echo "usage: release.sh SEQUENCE OUTPUT [IMAGE]..." >&2; exit 2; }
sequence=$1 output=$2
shift 2
file=${SEALIFT_FILE:-release.yaml}
unset SEALIFT_FILE
state=${SEALIFT_STATE:-$output}
# One state folder may be that of several streams.
name=$(sed -n 's/^stream: *"\{0,1\}\([A-Za-z0-9._-]*\).*/\1/p' "$file")
mkdir -p "$output" "$state"
lock=$state/${SEALIFT_STREAM:-${name:-release}}-$sequence.lock.yaml
[ -e "$lock" ] || sealift-export plan --file "$file" --sequence "$sequence" --lock "$lock" "$@"
# What flags and variables add is in it already.
unset SEALIFT_STREAM SEALIFT_LABEL SEALIFT_RECIPIENT SEALIFT_PLATFORM SEALIFT_IMAGES_FILE SEALIFT_ATTACH
sealift-export pack --file "$lock" --sequence "$sequence" --output "$output"
stream=$(sed -n 's/^stream: "\(.*\)"$/\1/p' "$lock")
sealift-export check --trust "${RELEASE_CERTIFICATE:-release.asc}" "$output/$stream-$sequence"
