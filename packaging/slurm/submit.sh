#!/bin/sh
# Plans a job and sends it to Slurm: maps by an array, merging by an array, one cloud at the end.
#
#   submit.sh SCENE OUT N [options of `engine infer`]
#
# Every path must mean the same on all nodes. Options of sbatch go into SBATCH_OPTIONS (partition, account, ...).
# To send what was lost or cancelled once more, run the same line again: views that are done are passed over.
set -eu
if [ "$#" -lt 3 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
scene=$1 out=$2 shards=$3
shift 3

engine plan "$scene" -o "$out" --shards "$shards" "$@"
# shellcheck disable=SC2086 # several options
send() { sbatch --parsable ${SBATCH_OPTIONS:-} "$@" | cut -d ';' -f 1; }
maps=$(send --array="1-$shards" "$here/maps.sbatch" "$scene" "$out")
merge=$(send --array="1-$shards" --dependency="afterok:$maps" --kill-on-invalid-dep=yes "$here/merge.sbatch" "$out")
fuse=$(send --dependency="afterok:$merge" --kill-on-invalid-dep=yes "$here/fuse.sbatch" "$out")
echo "maps $maps, merge $merge, fuse $fuse; engine status $out --watch"
