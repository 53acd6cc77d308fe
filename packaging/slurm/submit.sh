#!/bin/sh
# Plans a job and sends it to Slurm: maps by an array, merging by an array, one cloud at the end.
#
#   submit.sh [--tiles T] [--mesh T] SCENE OUT N [options of `engine infer`]
#
# With --tiles the cloud is made by an array, too: T tiles of space, in N tasks or T where that is less, then joined.
# With --mesh a mesh follows, likewise; MESH_OPTIONS has options of `engine mesh` for it (--to glb --texture).
# Every path must mean the same on all nodes. Options of sbatch go into SBATCH_OPTIONS (partition, account, ...).
# To send what was lost or cancelled once more, run the same line again: what is done is passed over.
set -eu
usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
tiles='' mesh=''
while [ "${1:-}" = --tiles ] || [ "${1:-}" = --mesh ]; do
    [ "$#" -gt 1 ] || usage
    case $2 in '' | 0* | *[!0-9]*) usage ;; esac
    if [ "$1" = --tiles ]; then tiles=$2; else mesh=$2; fi
    shift 2
done
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
tasks() { echo $(($1 < shards ? $1 : shards)); }
if [ -z "$tiles" ]; then
    last=$(after "$merge" "$here/fuse.sbatch" "$out")
    sent="fuse $last"
else
    points=$(after "$merge" --array="1-$(tasks "$tiles")" "$here/tiles.sbatch" "$out" "$tiles")
    last=$(after "$points" "$here/join.sbatch" "$out")
    sent="tiles $points, join $last"
fi
if [ -n "$mesh" ]; then
    surface=$(after "$last" --array="1-$(tasks "$mesh")" "$here/mesh_tiles.sbatch" "$out" "$mesh")
    # shellcheck disable=SC2086 # several options
    joined=$(after "$surface" "$here/mesh_join.sbatch" "$out" ${MESH_OPTIONS:-})
    sent="$sent, mesh $surface, its join $joined"
fi
echo "maps $maps, merge $merge, $sent; engine status $out --watch"
