//! The kernels that profiles stand on: reading reads everything once, holding computes what it says.

use cuda::args::roof::{HoldArgs, RoofArgs};
use cuda::lab::Lab;
use cuda::{Cuda, CudaOptions};

#[test]
fn every_word_is_read_once() {
    for lab in Lab::all() {
        // Neither whole rounds of eight loads nor whole blocks, and less than a round.
        for count in [1_usize, 511, 16 * 512 * 9 + 77, 40_000] {
            let values: Vec<u32> =
                (0..4 * count as u32).map(|i| i.wrapping_mul(0x9E37_79B9) ^ i >> 3).collect();
            let from = lab.upload(&values);
            let launch = RoofArgs::launch(3);
            let sums = lab.poisoned::<u32>((launch.grid[0] * RoofArgs::WARPS) as usize);
            let args = RoofArgs { from: from.address(), sums: sums.address(), count: count as u64 };
            lab.launch(RoofArgs::KERNEL, launch.grid, launch.threads, 0, &args);
            let sum = |values: &[u32]| values.iter().fold(0_u32, |sum, &value| sum.wrapping_add(value));
            assert_eq!(sum(&lab.download::<u32>(&sums)), sum(&values), "{count} on {}", lab.name());
        }
    }
}

#[test]
fn holding_multiplies_as_often_as_asked() {
    for lab in Lab::all() {
        let to = lab.poisoned::<u32>(1);
        let args = HoldArgs { to: to.address(), turns: 1000, seed: 7 };
        lab.launch(HoldArgs::KERNEL, [1, 1, 1], 32, 0, &args);
        let next = |x: u32, _| x.wrapping_mul(1664525).wrapping_add(1013904223);
        assert_eq!(lab.download::<u32>(&to), [(0..1000).fold(7, next)], "{}", lab.name());
    }
    // 2 µs at 1 GHz are 2000 clocks.
    assert_eq!(HoldArgs::lasting(2000, 1_000_000).turns, 500);
    assert_eq!(HoldArgs::lasting(u64::MAX, 1_000_000).turns, 5_000_000);
}

#[test]
fn arguments_are_as_long_as_the_kernels_take() {
    let Some(lab) = Lab::emulated() else { return };
    let bytes = |kernel| lab.kernels.function(kernel).expect("it is there").args_bytes();
    assert_eq!(bytes(RoofArgs::KERNEL), Some(size_of::<RoofArgs>()));
    assert_eq!(bytes(HoldArgs::KERNEL), Some(size_of::<HoldArgs>()));
}

#[test]
fn the_roof_is_a_speed() {
    let Some(library) = cuda::lab::emulated_library() else { return };
    let options = CudaOptions { library: Some(library), ..CudaOptions::default() };
    let cuda = Cuda::open(options).unwrap_or_else(|error| panic!("{error}"));
    let roof = cuda.read_roof().expect("the emulator");
    assert_eq!(roof.bytes, 4 << 20);
    assert!(roof.bytes_per_second >= roof.median && roof.median > 1e6, "{roof:?}");
}
