//! The driver layer, on the emulator and on a GPU: copies, launches, graphs, events, pinned memory.
#![allow(unsafe_code, reason = "argument structures are promises about kernels")]

use cuda::driver::{Args, Block, Error, Event, Launch, Pinned};
use cuda::lab::Lab;

/// `LabCount` of `kernels/lab.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Count {
    out: u64,
    length: u32,
    add: u32,
}
// SAFETY: the kernel's structure; tests keep `out` alive and `count` within it.
unsafe impl Args for Count {}

/// `LabTurn` of `kernels/lab.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Turn {
    input: u64,
    output: u64,
    sums: u64,
}
// SAFETY: the kernel's structure; tests keep the blocks alive and as long as the grid needs.
unsafe impl Args for Turn {}

/// The launch of `lab_count` over `count` elements.
fn over(count: u32) -> Launch {
    Launch { grid: [count.div_ceil(256), 1, 1], threads: 256, shared_bytes: 0, overlap: false }
}

#[test]
fn copies_come_back_and_stay_within_blocks() {
    for lab in Lab::all() {
        let values: Vec<u32> = (0..1000).map(|i| i * 7919).collect();
        let block = lab.upload(&values);
        assert_eq!(lab.download::<u32>(&block), values, "{}", lab.name());
        block.write(&lab.stream, 40, &[1_u32, 2]).unwrap();
        let mut part = [0_u32; 4];
        block.read(&lab.stream, 36, &mut part).unwrap();
        assert_eq!(part, [values[9], 1, 2, values[12]]);

        let refused = block.write(&lab.stream, 3996, &[1_u32, 2]).unwrap_err();
        assert!(matches!(refused, Error::Range { offset: 3996, bytes: 8, length: 4000 }), "{refused}");
        let other = lab.poisoned::<u32>(10);
        assert!(lab.download::<f32>(&other).iter().all(|f| f.is_nan()));
        other.copy_later(&lab.stream, 8, &block, 36, 16).unwrap();
        other.fill_later(&lab.stream, 0, 8, 0).unwrap();
        let after = [0, 0, values[9], 1, 2, values[12], !0, !0, !0, !0];
        assert_eq!(lab.download::<u32>(&other), after);
        assert!(other.copy_later(&lab.stream, 0, &block, 0, 41).is_err());
        assert!(block.fill_later(&lab.stream, usize::MAX, 2, 0).is_err());
    }
}

#[test]
fn a_block_of_nothing_is_one() {
    for lab in Lab::all() {
        let block = Block::new(&lab.context, 0).unwrap();
        block.write::<u8>(&lab.stream, 0, &[]).unwrap();
        assert!(lab.download::<u8>(&block).is_empty());
    }
}

#[test]
fn pinned_memory_is_seen_from_both_sides() {
    for lab in Lab::all() {
        let mut pinned = Pinned::<u32>::new(&lab.context, 300).unwrap();
        assert!(pinned.as_slice().iter().all(|&v| v == 0));
        pinned.as_mut_slice().fill(5);
        pinned.set(7, 50);
        let args = Count { out: pinned.address(), length: 300, add: 1 };
        let count = lab.kernels.function("lab_count").unwrap();
        lab.stream.launch(&count, over(300), &args).unwrap();
        lab.wait();
        assert_eq!((pinned.get(6), pinned.get(7), pinned.get(299)), (12, 58, 305), "{}", lab.name());

        let block = lab.zeroed::<u32>(8);
        block.write_later(&lab.stream, 4, &pinned, 6..8).unwrap();
        assert_eq!(lab.download::<u32>(&block), [0, 12, 58, 0, 0, 0, 0, 0]);
        block.read_later(&lab.stream, 8, &pinned, 0..1).unwrap();
        lab.wait();
        assert_eq!(pinned.get(0), 58);
        assert!(block.write_later(&lab.stream, 0, &pinned, 299..301).is_err());
    }
}

#[test]
fn threads_meet_in_shared_memory_and_warps() {
    for lab in Lab::all() {
        let values: Vec<f32> = (0..256).map(|i| ((i * 37) % 101) as f32).collect();
        let (input, output) = (lab.upload(&values), lab.poisoned::<f32>(256));
        let sums = lab.poisoned::<f32>(8);
        let args = Turn { input: input.address(), output: output.address(), sums: sums.address() };
        lab.launch("lab_turn", [2, 1, 1], 128, 512, &args);
        let turned: Vec<f32> = values.chunks(128).flat_map(|c| c.iter().rev().copied()).collect();
        let summed: Vec<f32> = values.chunks(32).map(|c| c.iter().sum()).collect();
        assert_eq!(lab.download::<f32>(&output), turned, "{}", lab.name());
        assert_eq!(lab.download::<f32>(&sums), summed);
    }
}

#[test]
fn a_graph_repeats_what_was_recorded() {
    for lab in Lab::all() {
        let block = lab.zeroed::<u32>(1000);
        let count = lab.kernels.function("lab_count").unwrap();
        let graph = lab.stream.capture(|stream| {
            for add in [10, 20] {
                // The structure is gone when the graph runs: the driver keeps a copy.
                let args = Count { out: block.address(), length: 1000, add };
                stream.launch(&count, Launch { overlap: true, ..over(1000) }, &args)?;
            }
            block.fill_later(stream, 4, 4, 0)
        });
        let graph = graph.unwrap_or_else(|e: Error| panic!("{e}"));
        assert_eq!(lab.download::<u32>(&block)[..3], [0, 0, 0], "recording runs nothing");
        for _ in 0..3 {
            graph.launch(&lab.stream).unwrap();
        }
        let values = lab.download::<u32>(&block);
        assert_eq!((values[0], values[1], values[999]), (90, 0, 90 + 6 * 999), "{}", lab.name());
    }
}

#[test]
fn a_failure_while_recording_is_told_and_ends_the_recording() {
    for lab in Lab::all() {
        let failed = lab.stream.capture(|_| Err(Error::NoKernel { name: "mine".to_owned() }));
        assert!(matches!(failed, Err(Error::NoKernel { name }) if name == "mine"));
        // The stream works on.
        assert_eq!(lab.download::<u32>(&lab.upload(&[3_u32])), [3]);
        let refused = lab.stream.capture(|stream| Block::new(stream.context(), 64).map(drop));
        assert!(refused.is_err(), "{}: allocation while recording", lab.name());
        assert_eq!(lab.download::<u32>(&lab.upload(&[4_u32])), [4]);
    }
}

#[test]
fn events_measure_time() {
    for lab in Lab::all() {
        let (before, after) = (Event::new(&lab.context).unwrap(), Event::new(&lab.context).unwrap());
        let block = lab.zeroed::<u32>(4096);
        before.record(&lab.stream).unwrap();
        let args = Count { out: block.address(), length: 4096, add: 0 };
        lab.launch("lab_count", [16, 1, 1], 256, 0, &args);
        after.record(&lab.stream).unwrap();
        after.synchronize().unwrap();
        let milliseconds = after.since(&before).unwrap();
        assert!(milliseconds > 0.0 && milliseconds < 10_000.0, "{milliseconds}");
        lab.stream.wait(&after).unwrap();
        lab.wait();
    }
}

#[test]
fn kernels_tell_what_they_need() {
    for lab in Lab::all() {
        let turn = lab.kernels.function("lab_turn").unwrap();
        assert_eq!(turn.local_bytes().unwrap(), 0);
        assert_eq!(turn.static_shared().unwrap(), 0);
        assert!(turn.registers().unwrap() <= 64 && turn.max_threads().unwrap() >= 128);
        assert!(turn.blocks_per_sm(128, 512).unwrap() >= 8);
        assert!(turn.args_bytes().is_none_or(|bytes| bytes == 24));
        turn.allow_shared(100 << 10).unwrap();
        assert!(turn.allow_shared(1 << 20).is_err());
    }
}

#[test]
fn launches_that_cannot_be_are_refused() {
    for lab in Lab::all() {
        let unknown = lab.kernels.function("lab_missing").err().unwrap().to_string();
        assert!(unknown.contains("no kernel is called lab_missing"), "{unknown}");

        let block = lab.zeroed::<u32>(32);
        let count = lab.kernels.function("lab_count").unwrap();
        if count.args_bytes().is_some() {
            let wrong = Turn { input: 0, output: 0, sums: 0 };
            let error = lab.stream.launch(&count, over(32), &wrong).unwrap_err().to_string();
            assert!(error.contains("lab_count takes 16 bytes of arguments, 24 were given"), "{error}");
        }
        let args = Count { out: block.address(), length: 32, add: 0 };
        let error = lab.stream.launch(&count, Launch { grid: [0, 1, 1], ..over(32) }, &args).unwrap_err();
        assert!(matches!(error, Error::Call { code: 1, .. }) && !error.is_lost(), "{error}");
        let too_much = Launch { shared_bytes: 49 << 10, ..over(32) };
        assert!(lab.stream.launch(&count, too_much, &args).is_err());
        // None of this harms the context.
        lab.stream.launch(&count, over(32), &args).unwrap();
        assert_eq!(lab.download::<u32>(&block)[31], 31);
    }
}

#[test]
fn memory_is_counted() {
    for lab in Lab::all() {
        let device = lab.context.device();
        assert!(device.sms >= 1 && device.l2 > 0 && device.shared_per_block >= 99 << 10, "{}", device.name);
        let (free, total) = lab.context.memory().unwrap();
        assert!(free <= total && total <= device.memory, "{free} {total}");
        let error = Block::new(&lab.context, total + (1 << 20)).err().unwrap();
        assert!(error.is_out_of_memory(), "{error}");
        assert!(error.to_string().contains("shorter context"), "{error}");
    }
}
