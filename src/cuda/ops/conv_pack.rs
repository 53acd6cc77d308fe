//! Weights of a convolution in the order in which the lanes of a warp read them: B fragments for `mma.sync`
//! (`kernels/conv.cu`).

use crate::cpu::ops::conv_backward::ConvGeometry;

/// The output channel of column `j` in the `tile`-th fragment of a group: a lane's two columns of each fragment are
/// neighbouring channels.
fn channel_of(group: usize, tile: usize, j: usize) -> usize {
    j / 2 * (group / 4) + 2 * tile + j % 2
}

/// B fragments: [groups, KD, chunks, steps, fragment pairs, lanes, fragments of the pair, k and k + 8, two of k].
pub(super) fn pack_tiles(geometry: &ConvGeometry, weights: &[f32], chunk: usize, group: usize) -> Vec<f32> {
    let ((ci, co), [kd, kh, kw]) = (geometry.channels, geometry.kernel);
    let taps = kh * kw;
    let steps = if chunk == 8 { taps.div_ceil(2) } else { taps * chunk / 16 };
    let (groups, chunks) = (co.div_ceil(group), ci.div_ceil(chunk));
    let mut packed = vec![0.0; groups * kd * chunks * steps * group * 16];
    let mut blocks = packed.chunks_exact_mut(group * 16);
    for g in 0..groups {
        for plane in 0..kd {
            for part in 0..chunks {
                for step in 0..steps {
                    let Some(block) = blocks.next() else { return packed };
                    for tile in 0..group / 8 {
                        for lane in 0..32 {
                            for half in 0..4 {
                                let k = 2 * (lane % 4) + half % 2 + half / 2 * 8;
                                let (tap, i) = if chunk == 8 {
                                    (2 * step + k / 8, part * 8 + k % 8)
                                } else {
                                    let per_tap = chunk / 16;
                                    (step / per_tap, part * chunk + step % per_tap * 16 + k)
                                };
                                let o = g * group + channel_of(group, tile, lane / 4);
                                if tap < taps && i < ci && o < co {
                                    let at = if group == 8 {
                                        lane * 4 + half
                                    } else {
                                        (tile / 2 * 32 + lane) * 8 + tile % 2 * 4 + half
                                    };
                                    block[at] = weights[((o * ci + i) * kd + plane) * taps + tap];
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    packed
}

/// [groups, steps of 32, 16 or 8 channels, fragments, lanes, the lane's channels].
pub(super) fn pack_pointwise(geometry: &ConvGeometry, weights: &[f32], group: usize) -> Vec<f32> {
    let (ci, co) = geometry.channels;
    let mut packed = Vec::with_capacity(co.next_multiple_of(group) * ci);
    for g in 0..co.div_ceil(group) {
        let mut first = 0;
        while first < ci {
            let step = [32, 16].into_iter().find(|step| first + step <= ci).unwrap_or(8);
            for tile in 0..group / 8 {
                for lane in 0..32 {
                    let o = g * group + channel_of(group, tile, lane / 4);
                    let own = first + lane % 4 * (step / 4)..;
                    packed.extend(own.take(step / 4).map(|i| if o < co { weights[o * ci + i] } else { 0.0 }));
                }
            }
            first += step;
        }
    }
    packed
}

// ---- the direct kernel
