//! Attention and what stores its cache, against f64 over what the cache's own codes stand for.
//!
//! Everything a kernel must not read is NaN: cache positions that are not there, behind a window or in
//! pages of others, and outputs before they are written.

mod page;
mod world;

use cuda::args::attend::{AttendArgs, Kind, NOWHERE, QueryTile};
use cuda::args::rope::TYPES;
use cuda::lab::Lab;
use half::f16;
use model::runner::KvType;
use testkit::golden::relative_error;
use world::{Case, Noise, Run, There, World};

/// Of the root mean square: the kernels round queries and weights to f16, 2^-12 each on average.
const TOLERANCE: f64 = 1e-3;
/// Of the largest single error, in the root mean square of all.
const WORST: f64 = 6e-3;

fn check(got: &[f32], truth: &[f32], what: &dyn std::fmt::Debug) {
    let rms = (truth.iter().map(|x| f64::from(x * x)).sum::<f64>() / truth.len() as f64).sqrt();
    let off = relative_error(got, truth);
    let worst = got.iter().zip(truth).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max) / rms;
    assert!(off < TOLERANCE && worst < WORST, "{off:.1e}, worst {worst:.1e}: {what:?}");
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

const HEAD_DIMS: [usize; 8] = [16, 32, 48, 64, 80, 96, 128, 256];
const GROUPS: [usize; 7] = [1, 2, 3, 4, 8, 16, 20];
const LENGTHS: [usize; 7] = [1, 31, 32, 33, 64, 95, 300];

/// Every type of cache and head size with every group; all else in turn.
fn cases(runs: impl Fn(&mut Noise) -> Vec<Run>) -> Vec<Case> {
    let mut noise = Noise(7);
    let mut cases = vec![];
    let sizes = TYPES.iter().flat_map(|&kv| HEAD_DIMS.map(|head_dim| (kv, head_dim)));
    for (kv, head_dim) in sizes {
        for group in GROUPS {
            let i = cases.len() % (HEAD_DIMS.len() * GROUPS.len());
            cases.push(Case {
                kv,
                head_dim,
                group,
                kv_heads: 1 + i % 2,
                runs: runs(&mut noise),
                window: [None, None, Some(1), Some(20), Some(32), Some(70)][i % 6],
                cap: [0.0, 0.0, 3.0][i % 3],
                norms: i % 4 == 1,
                half: [head_dim / 2, 0, head_dim / 4, head_dim / 2, 5][i % 5],
                splits: [1, 2, 5][i / 2 % 3],
                min_pages: [1, 8][i / 3 % 2],
            });
        }
    }
    cases
}

#[test]
fn rope_store_turns_queries_and_fills_the_cache() {
    let runs = |noise: &mut Noise| {
        (0..2).map(|_| Run { cached: LENGTHS[noise.below(7)] - 1, new: 1 + noise.below(34) }).collect()
    };
    for lab in Lab::all() {
        for (i, case) in cases(runs).into_iter().enumerate() {
            let world = World::new(&case, i as u64);
            let there = There::new(&lab, &world);
            there.store();
            let q = world.queries();
            let got: Vec<f32> = lab.download(&there.q);
            for (got, q) in got.iter().zip(&q) {
                assert!((f64::from(*got) - q).abs() < 1e-5 * (1.0 + q.abs()), "{got} for {q}: {case:?}");
            }
            there.truth();
        }
    }
}

#[test]
fn decode_of_several_slots_in_one_launch_or_two() {
    let runs =
        |noise: &mut Noise| (0..3).map(|_| Run { cached: LENGTHS[noise.below(7)] - 1, new: 1 }).collect();
    for lab in Lab::all() {
        for (i, case) in cases(runs).into_iter().enumerate() {
            let world = World::new(&case, 100 + i as u64);
            let (one, two) = (There::new(&lab, &world), There::new(&lab, &world));
            let fused = AttendArgs { fused: 1, ..one.args(1) };
            let first = one.attend(fused);
            two.store();
            let second = two.attend(two.args(1));
            check(&first, &one.truth(), &case);
            assert_eq!(bits(&first), bits(&second), "fused and apart: {case:?}");
            assert_eq!(
                lab.download::<u8>(&one.cache),
                lab.download::<u8>(&two.cache),
                "caches, fused and apart: {case:?}"
            );
            let again = one.attend(fused);
            assert_eq!(bits(&first), bits(&again), "two runs: {case:?}");
        }
    }
}

#[test]
fn rows_of_one_slot_share_tiles() {
    let runs = |noise: &mut Noise| vec![Run { cached: LENGTHS[noise.below(7)] - 1, new: 2 + noise.below(9) }];
    for lab in Lab::all() {
        for (i, case) in cases(runs).into_iter().enumerate() {
            let world = World::new(&case, 200 + i as u64);
            let there = There::new(&lab, &world);
            there.store();
            let args = there.args(world.shape().tile_rows(Kind::Attend));
            check(&there.attend(args), &there.truth(), &case);
        }
    }
}

#[test]
fn long_contexts_go_round_every_warp_and_split() {
    for lab in Lab::all() {
        let sizes = TYPES.iter().flat_map(|&kv| [(kv, 64, 1), (kv, 128, 3), (kv, 256, 7)]);
        for (kv, head_dim, splits) in sizes {
            let case = Case {
                kv,
                head_dim,
                kv_heads: 2,
                group: 4,
                runs: vec![Run { cached: 2099, new: 1 }, Run { cached: 5, new: 1 }],
                window: None,
                cap: 0.0,
                norms: true,
                half: head_dim / 2,
                splits,
                min_pages: 4,
            };
            let world = World::new(&case, 500);
            let there = There::new(&lab, &world);
            let got = there.attend(AttendArgs { fused: 1, ..there.args(1) });
            check(&got, &there.truth(), &case);
        }
    }
}

/// Tiles of at most `most` rows that keep runs apart.
fn tiles(case: &Case, most: usize) -> Vec<QueryTile> {
    let mut tiles = vec![];
    let mut at = 0;
    for run in &case.runs {
        for first in (0..run.new).step_by(most) {
            tiles.push(QueryTile { first: (at + first) as u32, rows: most.min(run.new - first) as u32 });
        }
        at += run.new;
    }
    tiles
}

/// The order of columns within 32 in which `matmul` takes halves: matrix m, then pairs of t.
fn permuted(column: usize) -> usize {
    let (high, t, r) = (column / 16, column / 4 % 4, column % 4);
    8 * (2 * high + r % 2) + 2 * t + r / 2
}

#[test]
fn prefill_of_several_slots_in_floats_and_in_halves() {
    let runs = |noise: &mut Noise| {
        (0..2).map(|_| Run { cached: LENGTHS[noise.below(7)] - 1, new: 1 + noise.below(40) }).collect()
    };
    for lab in Lab::all() {
        for (i, mut case) in cases(runs).into_iter().enumerate() {
            case.kv_heads = 1;
            let world = World::new(&case, 300 + i as u64);
            let there = There::new(&lab, &world);
            there.store();
            let (shape, truth) = (world.shape(), there.truth());
            let (cols, most) = (shape.heads * case.head_dim, shape.tile_rows(Kind::Prefill));
            let stride = cols.next_multiple_of(256);
            let list = tiles(&case, most);
            let tiles = lab.upload(&list);
            let out = lab.poisoned::<f32>(truth.len());
            let halves = lab.zeroed::<u16>(world.rows * stride);
            let args = AttendArgs {
                tiles: tiles.address(),
                tile_count: list.len() as u32,
                out: out.address(),
                out_halves: halves.address(),
                halves_stride: stride as u32,
                ..there.args(most)
            };
            there.prefill(&args);
            let got: Vec<f32> = lab.download(&out);
            check(&got, &truth, &case);
            let halves: Vec<u16> = lab.download(&halves);
            for (row, got) in got.chunks(cols).enumerate() {
                for (column, &got) in got.iter().enumerate() {
                    let half = halves[row * stride + column / 32 * 32 + permuted(column % 32)];
                    assert_eq!(half, f16::from_f32(got).to_bits(), "row {row} column {column}: {case:?}");
                }
            }
        }
    }
}

#[test]
fn only_wanted_rows_are_written() {
    TYPES.into_iter().for_each(only_wanted_rows_of);
}

fn only_wanted_rows_of(kv: KvType) {
    let case = Case {
        kv,
        head_dim: 64,
        kv_heads: 2,
        group: 4,
        runs: vec![Run { cached: 40, new: 40 }, Run { cached: 0, new: 9 }],
        window: None,
        cap: 0.0,
        norms: false,
        half: 32,
        splits: 2,
        min_pages: 1,
    };
    for lab in Lab::all() {
        let world = World::new(&case, 400);
        let there = There::new(&lab, &world);
        there.store();
        let (shape, truth) = (world.shape(), there.truth());
        let cols = shape.heads * case.head_dim;
        let mut rows = vec![NOWHERE; world.rows];
        (rows[39], rows[48], rows[3]) = (0, 1, 2);
        let expected: Vec<f32> =
            [39, 48, 3].iter().flat_map(|&row| truth[row * cols..][..cols].iter().copied()).collect();
        let output_row = lab.upload(&rows);
        for kind in [Kind::Attend, Kind::Prefill] {
            let most = shape.tile_rows(kind);
            let list = tiles(&case, most);
            let tiles = lab.upload(&list);
            let args = AttendArgs {
                tiles: tiles.address(),
                tile_count: list.len() as u32,
                output_row: output_row.address(),
                ..there.args(most)
            };
            let got = match kind {
                Kind::Attend => there.attend(args),
                Kind::Prefill => {
                    let out = lab.poisoned::<f32>(truth.len());
                    there.prefill(&AttendArgs { out: out.address(), ..args });
                    lab.download(&out)
                }
            };
            check(&got[..3 * cols], &expected, &kind);
            assert!(got[3 * cols..].iter().all(|x| x.is_nan()), "nothing else is written: {kind:?}");
        }
    }
}
