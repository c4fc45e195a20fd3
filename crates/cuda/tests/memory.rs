//! Memory on the emulated GPU: known before loading, exact, given back; and what users are told when there
//! is too little or the device goes away. Each scene in a process of its own, so that nobody else allocates.

mod common;

use common::{deal, device, load, options, run};
use cuda::args::rope::{TYPES, width};
use cuda::{Cuda, CudaOptions};
use gguf::Gguf;
use model::runner::{LoadOptions, PAGE};
use model::{Batch, Device, Error, Plan, Row};
use quant::Format;
use std::process::Command;
use testkit::tiny::Tiny;

/// Set in the child: it plays the scene of this name instead of testing.
const SCENE: &str = "CUDA_TEST_SCENE";

/// What a scene prints when run with these variables; `None` without an emulator.
fn play(scene: &str, variables: &[(&str, &str)]) -> Option<String> {
    cuda::lab::emulated_library()?;
    let mut command = Command::new(std::env::current_exe().expect("a test has a program"));
    command.args(["--exact", "scene", "--nocapture"]).env(SCENE, scene).envs(variables.iter().copied());
    let output = command.output().expect("a child");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(told.into_owned())
}

/// Not a test of its own: the child's part.
#[test]
fn scene() {
    match std::env::var(SCENE).as_deref() {
        Ok("count") => count(),
        Ok("refuse") => refuse(),
        Ok("lose") => lose(),
        Ok("pieces") => pieces(),
        Ok(other) => panic!("no scene is called {other}"),
        Err(_) => {}
    }
}

fn model(tiny: &Tiny) -> (Gguf, Plan) {
    let file = tiny.parts().gguf();
    let (_, plan) = Plan::read(&file, Some(96)).expect("a tiny model");
    (file, plan)
}

fn models() -> Vec<Tiny> {
    vec![
        Tiny { vocab: 67, ..Tiny::new("gemma3", 1) },
        Tiny { vocab: 67, ..Tiny::new("phi3", 1).with_format(Format::Q5_1) },
        Tiny { vocab: 67, ..Tiny::new("llama", 1).with_format(Format::Q4_K) },
    ]
}

/// What is told before loading is what loading takes, to the byte, and all of it comes back.
fn count() {
    for fuse in [true, false] {
        let device = device(fuse, true).expect("the parent found it");
        for tiny in models() {
            let (file, plan) = model(&tiny);
            for (rows, kv) in [1, 5, 40].into_iter().flat_map(|rows| TYPES.map(|kv| (rows, kv))) {
                let options = LoadOptions { rows, logit_rows: 3, slots: 2, pages: 7, kv, threads: 1 };
                let before = device.free().expect("the emulator");
                let cost = device.cost(&plan, &options).expect("a tiny model");
                let mut runner = load(&device, &file, &plan, &options);
                let taken = before - device.free().expect("the emulator");
                assert_eq!(runner.memory(), cost);
                let head = kv.head_bytes(width(plan.shape.head_dim).expect("a size there is"));
                let pages = plan.kv.iter().map(|g| g.layers.len() * options.group_pages(g.window));
                let positions = pages.sum::<usize>() * PAGE;
                assert_eq!(cost.kv, (2 * plan.shape.kv_heads * head * positions) as u64);
                // The emulated board is integrated: pinned memory is its own.
                let pinned = device.pinned(&plan, &options).expect("a tiny model");
                assert_eq!(taken, cost.total() + pinned, "{} of {rows} rows", tiny.family);
                runner.map(0, 0, 0, &[1]);
                (1..plan.kv.len()).for_each(|group| runner.map(0, group, 0, &[1]));
                let row = Row { slot: 0, position: 0, token: 1, logits: true };
                runner.step(&Batch { rows: vec![row] }).expect("the emulator");
                assert_eq!(before - device.free().expect("the emulator"), taken, "a step takes nothing");
                drop(runner);
                assert_eq!(device.free().expect("the emulator"), before);
            }
        }
    }
}

#[test]
fn the_sum_is_known_before_loading_and_exact() {
    play("count", &[]);
}

fn refuse() {
    let options =
        CudaOptions { library: cuda::lab::emulated_library(), reserve: 0, ..CudaOptions::default() };
    let device = Cuda::open(options).expect("the parent found it");
    let (file, plan) = model(&models()[0]);
    let options = LoadOptions::single(96, 1);
    let before = device.free().expect("the emulator");
    let cost = device.cost(&plan, &options).expect("a tiny model").total();
    match device.load(&file, &plan, &options, &mut |_, _| {}) {
        Ok(_) => eprintln!("told: nothing"),
        Err(error @ Error::Memory { .. }) => eprintln!("told: {error} [cost {cost}]"),
        Err(error) => eprintln!("told otherwise: {error}"),
    }
    assert_eq!(device.free().expect("the emulator"), before, "nothing half-loaded");
}

#[test]
fn a_device_too_small_is_told_in_one_line() {
    let Some(told) = play("refuse", &[("EMULATED_MEMORY", "600000")]) else { return };
    assert!(told.contains("told: tiny.gguf with 96 positions on the GPU needs "), "{told}");
    assert!(told.contains(" bytes and 600000 are free; use a smaller model, "), "{told}");
}

/// The driver may grant less than it says is free.
#[test]
fn memory_that_is_not_granted_is_told_too() {
    let Some(told) = play("refuse", &[("EMULATED_FAIL_ALLOC_OVER", "10000")]) else { return };
    assert!(told.contains("told: tiny.gguf on the GPU needs "), "{told}");
    assert!(told.contains("the GPU has no such piece"), "{told}");
}

/// A large allocation fails, the model loads in smaller ones and is the same.
fn pieces() {
    let device = device(true, true).expect("the parent found it");
    // Matrices of a third of a MiB and more, 21 MiB in all.
    let tiny = Tiny { vocab: 16_000, dim: 512, ff: 2048, ..Tiny::new("llama", 2) };
    let (file, plan) = model(&tiny);
    let sequences = vec![vec![3, 1, 4]];
    let mut runner = load(&device, &file, &plan, &options(&sequences, 1));
    (0..plan.kv.len()).for_each(|group| runner.map(0, group, 0, &[0]));
    let logits = run(runner.as_mut(), &sequences, &deal(&sequences, &[1], 1), |_, _| true);
    let sum: f32 = logits.iter().flatten().flatten().sum();
    eprintln!("told: {} bytes, {:08x}", runner.memory().total(), sum.to_bits());
}

#[test]
fn an_arena_of_pieces_is_the_same_model() {
    let Some(whole) = play("pieces", &[]) else { return };
    let limit = (20 << 20).to_string();
    let cut = play("pieces", &[("EMULATED_FAIL_ALLOC_OVER", &limit)]).expect("just played");
    let told = |text: &str| text.lines().find(|line| line.starts_with("told: ")).map(str::to_owned);
    assert!(told(&whole).is_some(), "{whole}");
    assert_eq!(told(&whole), told(&cut));
}

fn lose() {
    let device = device(true, true).expect("the parent found it");
    let (file, plan) = model(&models()[2]);
    let mut runner = load(&device, &file, &plan, &LoadOptions::single(96, 1));
    (0..plan.kv.len()).for_each(|group| runner.map(0, group, 0, &[0, 1, 2]));
    for position in 0..3 {
        let row = Row { slot: 0, position, token: 1, logits: true };
        match runner.step(&Batch { rows: vec![row] }) {
            Ok(()) => eprintln!("step {position} done"),
            Err(lost) => eprintln!("told: {lost}"),
        }
    }
}

#[test]
fn a_lost_device_is_told_and_stays_lost() {
    // The first step of twelve launches passes.
    let Some(told) = play("lose", &[("EMULATED_LOSE_AFTER", "15")]) else { return };
    assert!(told.contains("step 0 done"), "{told}");
    let lost: Vec<&str> = told.lines().filter(|line| line.starts_with("told: ")).collect();
    assert_eq!(lost.len(), 2, "{told}");
    assert_eq!(lost[0], lost[1]);
    assert!(lost[0].contains("told: cuda (emulated board, 8 SMs, sm_87) stopped answering: "), "{told}");
    assert!(lost[0].contains("start again"), "{told}");
}
