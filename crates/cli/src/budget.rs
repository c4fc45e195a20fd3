//! What a run takes, before a byte of it is loaded: the one place that sums weights, cache, buffers and the
//! program itself, and sets the sum against what is free.
//!
//! On cores, and on a GPU that shares their memory, everything is taken from the machine and counted once. A
//! GPU with memory of its own has its own sum and its own free bytes; the machine gives the program and what
//! is pinned.

use gguf::Gguf;
use model::runner::{KvType, LoadOptions, Memory, PAGE};
use model::{Error, Plan};

use crate::args::Machine;
use crate::free::{self, Free};
use crate::model_file;
use crate::screen::size;
use crate::target::Target;

/// Fewer positions than this are of no use to anybody.
const FEWEST: usize = 256;

/// The most that `-c auto` takes: models are seldom good beyond, and nothing is left for others.
pub(crate) const LONGEST: usize = 32_768;

/// Positions for which a finer cache is kept although more would fit in a coarser one.
const PLENTY: usize = 8192;

/// Types of the cache from the finest to the smallest.
pub(crate) const TYPES: [KvType; 3] = [KvType::F16, KvType::Int8, KvType::Int4];

/// Rows of a step that are offered where more do not fit: prompts are read in smaller bites.
const FEWER_ROWS: [usize; 4] = [256, 128, 64, 16];

/// What the program itself still takes once a model is loaded: code that is first run then, and what an
/// engine and a sampler allocate. Measured, see `bench/NOTES.md`.
const PROGRAM: u64 = 3 << 19;

/// What a thread's stack and its part of the heap come to.
const THREAD: u64 = 128 << 10;

/// What a run takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Of the memory that the model lies in.
    pub(crate) memory: Memory,
    /// Of the machine's memory for talking with a GPU.
    pub(crate) pinned: u64,
    /// What the program takes beside the model from now on.
    pub(crate) runtime: u64,
    /// What a GPU's driver takes by itself of the machine's memory: recorded graphs, printing, local memory.
    pub(crate) driver: u64,
    /// What the program holds already: itself, the file's header, the vocabulary.
    pub(crate) held: u64,
    /// Whether the model lies in a GPU's own memory.
    apart: bool,
}

impl Sum {
    /// What is still to be taken of the machine's memory.
    pub(crate) fn host(&self) -> u64 {
        self.pinned + self.runtime + self.driver + if self.apart { 0 } else { self.memory.total() }
    }

    /// What is still to be taken of a GPU's own memory.
    pub(crate) fn device(&self) -> u64 {
        if self.apart { self.memory.total() } else { 0 }
    }

    /// The most the process will ever hold of the machine's memory.
    pub(crate) fn peak(&self) -> u64 {
        self.held + self.host()
    }
}

/// A model on a device, and what is free for it.
pub(crate) struct Budget<'a> {
    name: String,
    plan: &'a Plan,
    target: &'a Target,
    free: Free,
    /// Bytes that a GPU's driver gives out.
    device_free: Option<u64>,
    /// Bytes of a GPU's own memory left to others.
    device_reserve: u64,
    held: u64,
    /// Bytes of the program's file that loading reads.
    inside: u64,
    integrated: bool,
}

impl<'a> Budget<'a> {
    /// Of `plan`, read from `file`, on `target`. Memory is read now: the file's header and the vocabulary,
    /// if it is wanted, are held already.
    pub(crate) fn new(
        file: &Gguf,
        plan: &'a Plan,
        target: &'a Target,
        machine: &Machine,
    ) -> anyhow::Result<Budget<'a>> {
        let (gpu, integrated) = match target {
            Target::Gpu { cuda, .. } => (Some(cuda), cuda.device().integrated),
            Target::Plain(_) => (None, false),
        };
        let device_free = gpu.and_then(|cuda| cuda.free().ok());
        let apart = gpu.is_some() && !integrated;
        Ok(Budget {
            name: file.name().to_owned(),
            plan,
            target,
            free: Free::read(&machine.root()?, integrated, machine.reserve),
            device_free,
            device_reserve: machine.reserve.filter(|_| apart).unwrap_or(0),
            held: free::held().unwrap_or(0),
            inside: if model_file::is_built_in(file) { file.file_bytes() } else { 0 },
            integrated,
        })
    }

    /// What is free of the machine's memory.
    pub(crate) fn free(&self) -> &Free {
        &self.free
    }

    /// What is free of a GPU's own memory, if the model would lie there.
    pub(crate) fn device_free(&self) -> Option<u64> {
        self.device_free.filter(|_| self.is_apart()).map(|free| free.saturating_sub(self.device_reserve))
    }

    /// Whether the model lies in memory of a GPU's own.
    pub(crate) fn is_apart(&self) -> bool {
        matches!(self.target, Target::Gpu { .. }) && !self.integrated
    }

    /// Whether a GPU takes the machine's memory.
    pub(crate) fn is_shared(&self) -> bool {
        self.integrated
    }

    /// The sum of a run with some sizes.
    ///
    /// # Errors
    /// What the device cannot run, by name.
    pub(crate) fn sum(&self, options: &LoadOptions) -> Result<Sum, Error> {
        let cost = self.target.cost(self.plan, options)?;
        Ok(Sum {
            memory: cost.memory,
            pinned: cost.pinned,
            runtime: PROGRAM + cost.threads * THREAD + cost.loading + self.inside,
            driver: if self.integrated { cost.driver } else { 0 },
            held: self.held,
            apart: self.is_apart(),
        })
    }

    /// Whether a sum leaves the reserve. What the system does not tell is taken to be enough.
    pub(crate) fn has_room(&self, sum: &Sum) -> bool {
        self.has_room_beside(sum, self.free.reserve)
    }

    fn has_room_beside(&self, sum: &Sum, reserve: u64) -> bool {
        let host = self.free.bytes.is_none_or(|free| sum.host() <= free.saturating_sub(reserve));
        host && self.device_needs(sum).is_none_or(|(needed, free)| needed <= free)
    }

    /// What a GPU's driver must give, and what it has: on shared memory a second limit beside the machine's.
    fn device_needs(&self, sum: &Sum) -> Option<(u64, u64)> {
        let needed = sum.memory.total() + if self.is_apart() { 0 } else { sum.pinned };
        Some((needed, self.device_free?.saturating_sub(self.device_reserve)))
    }

    /// Whether a run fits. What the device cannot run does not.
    pub(crate) fn fits(&self, options: &LoadOptions) -> bool {
        self.sum(options).is_ok_and(|sum| self.has_room(&sum))
    }

    /// The most positions up to `limit` that fit with these options, in whole pages unless all do.
    pub(crate) fn longest(&self, options: &LoadOptions, limit: usize) -> Option<usize> {
        longest(limit, &|positions| self.fits(&sized(options, options.rows, positions)))
    }

    /// The best type of cache and context up to `limit`: the first of `types` in which the whole context or
    /// [`PLENTY`] of it fits, else the one in which most does.
    pub(crate) fn best(
        &self,
        options: &LoadOptions,
        types: &[KvType],
        limit: usize,
    ) -> Option<(KvType, usize)> {
        best(types, limit, &|kv| self.longest(&LoadOptions { kv, ..*options }, limit))
    }

    /// What to tell about a run that does not fit; `None` if it does, or if the device has to say itself why
    /// it cannot run it.
    pub(crate) fn refusal(&self, options: &LoadOptions) -> Option<String> {
        let sum = self.sum(options).ok()?;
        if self.has_room(&sum) {
            return None;
        }
        let place = if self.target.is_gpu() { " on the GPU" } else { "" };
        let what = format!("{} with {} positions{place}", self.name, self.plan.context);
        let host = self.free.bytes.map(|free| (sum.host(), self.free.reserve, free));
        let device = self.device_needs(&sum).map(|(needed, free)| (needed, 0, free));
        // Of the two the one that is further from enough.
        let short = |&(needed, reserve, free): &(u64, u64, u64)| (needed + reserve).saturating_sub(free);
        let (needed, reserve, free) = [device, host].into_iter().flatten().max_by_key(short)?;
        Some(too_little(&what, needed, reserve, free, &self.remedy(options)))
    }

    /// What a user may change so that it fits.
    fn remedy(&self, options: &LoadOptions) -> String {
        let sentence = offers(options, &|options| self.fits(options));
        if let Some(offers) = sentence {
            return format!("{offers} fits");
        }
        let sum = self.sum(options).ok().filter(|sum| self.has_room_beside(sum, 0));
        if let Some(left) = sum.and_then(|sum| self.free.bytes?.checked_sub(sum.host())) {
            return format!("--reserve {}M fits", left >> 20);
        }
        let elsewhere = if self.target.is_gpu() { ", or --device cpu" } else { "" };
        let or = if elsewhere.is_empty() { " or" } else { "," };
        format!("use a smaller model{or} one quantized to fewer bits{elsewhere}")
    }
}

/// What needs how much beside what is left to others, what is free and what would fit, in one line.
fn too_little(what: &str, needed: u64, reserve: u64, free: u64, remedy: &str) -> String {
    let beside =
        if reserve > 0 { format!(" beside the {} in reserve", size(reserve)) } else { String::new() };
    let (need, left) = (size(needed), size(free));
    if need == left {
        // Rounded to the same: only bytes tell them apart.
        return format!("{what} needs {needed} bytes{beside} and {free} are free; {remedy}");
    }
    format!("{what} needs {need}{beside} and {left} is free; {remedy}")
}

/// The options of fewer rows and positions, as the program makes them.
pub(crate) fn sized(options: &LoadOptions, rows: usize, positions: usize) -> LoadOptions {
    let rows = rows.min(positions).max(1);
    LoadOptions {
        rows,
        logit_rows: options.logit_rows.min(rows),
        pages: positions.div_ceil(PAGE),
        ..*options
    }
}

/// The most positions up to `limit` that fit, in whole pages unless all do; `None` if not even a useful
/// number does.
fn longest(limit: usize, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
    if fits(limit) {
        return Some(limit);
    }
    let (mut low, mut high) = (FEWEST / PAGE, limit.div_ceil(PAGE));
    if low >= high || !fits(low * PAGE) {
        return None;
    }
    // `low` pages fit, `high` do not.
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if fits(middle * PAGE) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low * PAGE)
}

fn best(
    types: &[KvType],
    limit: usize,
    longest: &dyn Fn(KvType) -> Option<usize>,
) -> Option<(KvType, usize)> {
    let mut best: Option<(KvType, usize)> = None;
    for &kv in types {
        let Some(positions) = longest(kv) else { continue };
        if positions >= limit.min(PLENTY) {
            return Some((kv, positions));
        }
        if best.is_none_or(|(_, most)| positions > most) {
            best = Some((kv, positions));
        }
    }
    best
}

/// What may be changed so that it fits, each by itself if that is enough, as words of a command line: `-c
/// 4096 or --kv int8`. `None` if nothing helps.
fn offers(options: &LoadOptions, fits: &dyn Fn(&LoadOptions) -> bool) -> Option<String> {
    let positions = |options: &LoadOptions| {
        let shorter = |positions| fits(&sized(options, options.rows, positions));
        longest(options.pages * PAGE, &shorter).filter(|&positions| positions < options.pages * PAGE)
    };
    let smaller = || {
        let at = TYPES.iter().position(|&kv| kv == options.kv).map_or(0, |at| at + 1);
        TYPES[at..].iter().map(|&kv| LoadOptions { kv, ..*options })
    };
    let fewer = |options: &LoadOptions| {
        let (options, most) = (*options, options.rows);
        let rows = FEWER_ROWS.into_iter().filter(move |&rows| rows < most);
        rows.map(move |rows| LoadOptions { rows, logit_rows: options.logit_rows.min(rows), ..options })
    };
    let mut offers: Vec<String> = Vec::new();
    offers.extend(positions(options).map(|positions| format!("-c {positions}")));
    offers
        .extend(smaller().find(|options| fits(options)).map(|options| format!("--kv {}", options.kv.name())));
    offers.extend(fewer(options).find(|options| fits(options)).map(|o| format!("--batch-size {}", o.rows)));
    if offers.is_empty() {
        // Only less of several.
        let both = |with: &LoadOptions| fewer(with).find_map(|less| Some((less.rows, positions(&less)?)));
        offers.extend(both(options).map(|(rows, positions)| format!("--batch-size {rows} -c {positions}")));
    }
    if offers.is_empty() {
        let kinds = smaller().find_map(|with| {
            let rows = fewer(&with).find(|less| fits(less)).map(|less| (less.rows, None));
            let shorter = || fewer(&with).find_map(|less| Some((less.rows, Some(positions(&less)?))));
            let (rows, positions) = rows.or_else(shorter)?;
            Some((with.kv, rows, positions))
        });
        offers.extend(kinds.map(|(kv, rows, positions)| {
            let context = positions.map_or(String::new(), |positions| format!(" -c {positions}"));
            format!("--kv {} --batch-size {rows}{context}", kv.name())
        }));
    }
    (!offers.is_empty()).then(|| offers.join(" or "))
}
