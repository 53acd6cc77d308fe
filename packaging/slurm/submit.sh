#!/bin/sh
# Plans a job and sends it to Slurm: maps by an array, merging by an array, one cloud at the end.
#
#   submit.sh [--tiles T] SCENE OUT N [options of `engine infer`]
#
# With --tiles the cloud is made by an array, too: T tiles of space, in N tasks or T where that is less, then joined.
# Every path must mean the same on all nodes. Options of sbatch go into SBATCH_OPTIONS (partition, account, ...).
# To send what was lost or cancelled once more, run the same line again: what is done is passed over.
set -eu
usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
tiles=
if [ "${1:-}" = --tiles ]; then
    [ "$#" -gt 1 ] || usage
    tiles=$2
    case $tiles in '' | 0* | *[!0-9]*) usage ;; esac
    shift 2
fi
[ "$#" -ge 3 ] || usage
here=$(cd "$(dirname "$0")" && pwd)
scene=$1 out=$2 shards=$3
shift 3

engine plan "$scene" -o "$out" --shards "$shards" "$@"
# shellcheck disable=SC2086 # several options
send() { sbatch --parsable ${SBATCH_OPTIONS:-} "$@" | cut -d ';' -f 1; }
after() {
    before=$1
    shift
    send --dependency="afterok:$before" --kill-on-invalid-dep=yes "$@"
}
maps=$(send --array="1-$shards" "$here/maps.sbatch" "$scene" "$out")
merge=$(after "$maps" --array="1-$shards" "$here/merge.sbatch" "$out")
if [ -z "$tiles" ]; then
    fuse=$(after "$merge" "$here/fuse.sbatch" "$out")
    cloud="fuse $fuse"
else
    tasks=$((tiles < shards ? tiles : shards))
    points=$(after "$merge" --array="1-$tasks" "$here/tiles.sbatch" "$out" "$tiles")
    join=$(after "$points" "$here/join.sbatch" "$out")
    cloud="tiles $points, join $join"
fi
echo "maps $maps, merge $merge, $cloud; engine status $out --watch"
