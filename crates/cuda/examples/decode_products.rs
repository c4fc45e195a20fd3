//! The products of one decoded token, alone and as a chain, in the shapes of published models: how close the
//! stream of weights comes to the memory's bandwidth before anything else is added.
//!
//! `decode_products [--sms N] [--blocks N] [--brief] [MODEL …]`: multiprocessors to spread
//! over (default: the device's), blocks on each of them (default 1), only whole tokens.
#![allow(unsafe_code, clippy::print_stdout, reason = "a measuring program")]

use cuda::args::matvec::MatvecArgs;
use cuda::args::{Epilogue, Matrix, Output, Source};
use cuda::driver::{Block, Event, Graph, Launch};
use cuda::lab::Lab;
use cuda::tile::TileFormat::{self, Q4K, Q6K};

struct Shape {
    name: &'static str,
    layers: usize,
    dim: usize,
    q: usize,
    kv: usize,
    ff: usize,
    vocab: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "llama-3.2-1b", layers: 16, dim: 2048, q: 2048, kv: 512, ff: 8192, vocab: 128_256 },
    Shape { name: "llama-3.2-3b", layers: 28, dim: 3072, q: 3072, kv: 1024, ff: 8192, vocab: 128_256 },
    Shape { name: "llama-3.1-8b", layers: 32, dim: 4096, q: 4096, kv: 1024, ff: 14_336, vocab: 128_256 },
];

struct Bench {
    lab: Lab,
    sms: u32,
    brief: bool,
    x: Block,
    out: Block,
}

/// One launch and the bytes of weights it reads.
#[derive(Clone, Copy)]
struct Step {
    args: MatvecArgs,
    kernel: &'static str,
    launch: Launch,
    bytes: u64,
}

impl Bench {
    fn step(
        &self,
        weights: &mut Weights,
        shapes: &[(TileFormat, usize)],
        cols: usize,
        epilogue: Epilogue,
    ) -> Step {
        let mut bytes = 0;
        let outputs: Vec<Output> = shapes
            .iter()
            .map(|&(format, rows)| {
                let size = rows.div_ceil(16) * format.row_tile_bytes(cols);
                bytes += size as u64;
                let matrix = Matrix::new(weights.take(size), rows, cols, format);
                Output { matrix, bias: 0, to: self.out.address(), stride: rows as u32, unused: 0 }
            })
            .collect();
        let norm = if epilogue == Epilogue::Add { 0 } else { self.x.address() };
        let source = Source { x: self.x.address(), norm, cols: cols as u32, eps: 1e-5, ..Source::default() };
        let mut args = MatvecArgs::new(&outputs, source, epilogue, 0.0);
        let (kernel, launch) = args.spread(self.sms);
        Step { args, kernel, launch, bytes }
    }

    fn graph(&self, steps: &[Step], overlap: bool) -> Graph {
        let captured = self.lab.stream.capture(|stream| {
            for step in steps {
                let function = self.lab.kernels.function(step.kernel)?;
                function.allow_shared(step.launch.shared_bytes as usize)?;
                stream.launch(&function, Launch { overlap, ..step.launch }, &step.args)?;
            }
            Ok::<(), cuda::driver::Error>(())
        });
        captured.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Median microseconds of one run.
    fn time(&self, graph: &Graph) -> f64 {
        let context = &self.lab.context;
        let [from, to] = [(); 2].map(|()| Event::new(context).unwrap_or_else(|error| panic!("{error}")));
        let run = |times: usize| {
            (|| {
                from.record(&self.lab.stream)?;
                (0..times).try_for_each(|_| graph.launch(&self.lab.stream))?;
                to.record(&self.lab.stream)?;
                to.synchronize()?;
                to.since(&from)
            })()
            .unwrap_or_else(|error: cuda::driver::Error| panic!("{error}"))
        };
        run(3);
        let mut all: Vec<f64> = (0..7).map(|_| f64::from(run(5)) * 1000.0 / 5.0).collect();
        all.sort_by(f64::total_cmp);
        all[3]
    }
}

/// A large block handed out piece by piece, round and round.
struct Weights {
    block: Block,
    at: usize,
}

impl Weights {
    fn take(&mut self, size: usize) -> u64 {
        if self.at + size > self.block.bytes() {
            self.at = 0;
        }
        let address = self.block.address() + self.at as u64;
        self.at += size.next_multiple_of(256);
        address
    }
}

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    let (mut sms, mut blocks, mut brief, mut only) = (None, 1, false, vec![]);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse::<u32>().ok()).expect("a number");
        match arg.as_str() {
            "--sms" => sms = Some(number()),
            "--blocks" => blocks = number(),
            "--brief" => brief = true,
            name => only.push(name.to_owned()),
        }
    }
    let Some(lab) = Lab::real() else { return };
    let device = lab.context.device().clone();
    let sms = sms.unwrap_or(device.sms) * blocks;
    println!("{}: {} SMs, spread over {sms} blocks", device.name, device.sms);
    let x: Vec<f32> = (0..16_384).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let bench = Bench { x: lab.upload(&x), out: lab.zeroed::<f32>(262_144), sms, brief, lab };
    for shape in SHAPES.iter().filter(|shape| only.is_empty() || only.iter().any(|name| name == shape.name)) {
        // Random bytes; scales come out as all kinds of halves, speed does not depend on them.
        let size = 6usize << 30;
        let block = Block::new(&bench.lab.context, size.min(device.memory / 2)).expect("memory");
        block.fill_later(&bench.lab.stream, 0, block.bytes(), 0x2b).expect("fill");
        let mut weights = Weights { block, at: 0 };
        let Shape { dim, q, kv, ff, vocab, .. } = *shape;
        let layer = |w: &mut Weights, six: bool| {
            let high = if six { Q6K } else { Q4K };
            [
                bench.step(w, &[(Q4K, q), (Q4K, kv), (high, kv)], dim, Epilogue::Store),
                bench.step(w, &[(Q4K, dim)], q, Epilogue::Add),
                bench.step(w, &[(Q4K, ff), (Q4K, ff)], dim, Epilogue::GateSilu),
                bench.step(w, &[(high, dim)], ff, Epilogue::Add),
            ]
        };
        let mut chain = vec![];
        for i in 0..shape.layers {
            chain.extend(layer(&mut weights, i % 2 == 0));
        }
        chain.push(bench.step(&mut weights, &[(Q6K, vocab)], dim, Epilogue::Store));
        // Each product of its own, over as many copies as pass through the second cache.
        for (i, name) in
            ["qkv", "o", "gate+up", "down", "qkv q4", "o", "gate+up", "down q4"].iter().enumerate()
        {
            if i == 5 || i == 6 {
                continue;
            }
            let steps: Vec<Step> = chain[..chain.len() - 1].iter().skip(i).step_by(8).copied().collect();
            report(&bench, &format!("{} {name}", shape.name), &steps, device.sms, device.clock_khz);
        }
        report(
            &bench,
            &format!("{} head", shape.name),
            &chain[chain.len() - 1..],
            device.sms,
            device.clock_khz,
        );
        report(&bench, &format!("{} token", shape.name), &chain, device.sms, device.clock_khz);
    }
}

fn report(bench: &Bench, name: &str, steps: &[Step], sms: u32, khz: u32) {
    let bytes: u64 = steps.iter().map(|step| step.bytes).sum();
    if bench.brief && !name.ends_with("token") {
        return;
    }
    for overlap in [false, true] {
        let us = bench.time(&bench.graph(steps, overlap));
        let gbs = bytes as f64 / us / 1e3;
        println!(
            "{name:24} {:3} launches {:9.1} us {:7.2} us each {gbs:8.0} GB/s {:6.1} B/clk/SM split {:2}{}",
            steps.len(),
            us,
            us / steps.len() as f64,
            gbs * 1e6 / f64::from(khz) / f64::from(sms),
            steps[0].args.split,
            if overlap { " overlapping" } else { "" }
        );
    }
}
