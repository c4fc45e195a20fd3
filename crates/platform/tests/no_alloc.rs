//! Sampling and governing allocate nothing: they run between tokens.

use std::alloc::System;

use platform::governor::{Governor, Settings};
use platform::{Root, Sensors};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use testkit::board::{JetPack, Model, board};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let tree = board(Model::AgxOrin, JetPack::Six);
    tree.write("/sys/fs/cgroup/memory.max", "1000000\n");
    tree.write("/sys/fs/cgroup/memory.current", "300\n");
    tree.write("/sys/fs/cgroup/memory.stat", "inactive_file 100\nactive_file 50\n");
    let mut sensors = Sensors::open(&Root::at(tree.path()).expect("a folder"));
    let mut governor = Governor::new(Settings { throttle: Some(99.0), power_budget: Some(15.0) });
    let region = Region::new(ALLOCATOR);
    let mut seen = 0;
    for at in 0..1000 {
        let sample = sensors.sample();
        seen += u64::from(sample.watts.is_some()) + sensors.available().unwrap_or(0);
        governor.update(at * 500, &sample, true);
    }
    let change = region.change();
    assert!(seen > 1000, "the sensors of the fake board answer");
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
    // The counter counts.
    let region = Region::new(ALLOCATOR);
    drop(Sensors::open(&Root::real()));
    assert!(region.change().allocations > 0);
}
