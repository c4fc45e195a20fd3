//! Rapid starts: this program started cold again and again, each answering a few tokens, and what that
//! leaves behind.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::judge::Check;
use super::watch::kib;
use crate::interrupt;
use crate::screen::{printable, size};
use crate::target::Target;

/// Starts of a run that is long enough.
pub(super) const STARTS: usize = 100;
/// Tokens of each answer.
const TOKENS: &str = "4";
/// Most memory that nobody holds may grow by, bytes: a hundred starts that each leave a page table behind
/// would be more.
const MOST_LEFT: u64 = 16 << 20;
/// Between two looks at a start that is under way.
const LOOK: Duration = Duration::from_millis(2);
/// Longest a start may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What could stay behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Traces {
    /// Descriptors of this process.
    descriptors: usize,
    /// Processes of this program.
    processes: usize,
    /// Memory that belongs to no process: shared memory, the kernel's own, the GPU's on a board; bytes.
    nobodys: u64,
    /// Memory that could be taken, bytes.
    available: Option<u64>,
    /// Free memory of a GPU that has its own, bytes.
    gpu: Option<u64>,
}

impl Traces {
    fn take(target: &Target) -> Traces {
        let gpu = match target {
            Target::Gpu { cuda, .. } if !cuda.device().integrated => cuda.free().ok(),
            _ => None,
        };
        Traces {
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            processes: processes(),
            nobodys: nobodys(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            available: crate::free::available(),
            gpu,
        }
    }
}

/// Processes that run this program's file, this one included.
fn processes() -> usize {
    let Ok(own) = fs::read_link("/proc/self/exe") else { return 0 };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = all.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    numbered.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == own)).count()
}

/// Memory of `/proc/meminfo` that ends with no process. Free memory says less: other programs take it.
fn nobodys(meminfo: &str) -> u64 {
    ["Shmem:", "SUnreclaim:", "PageTables:", "KernelStack:", "NvMapMemUsed:"]
        .into_iter()
        .filter_map(|name| kib(meminfo, name))
        .sum()
}

/// One start: how long it took, and what it said if it failed.
struct Start {
    seconds: f64,
    failure: Option<String>,
}

/// What the starts showed.
pub(super) struct Starts {
    pub(super) checks: Vec<Check>,
    pub(super) facts: Value,
    pub(super) tokens: usize,
}

/// Starts the program until it was done [`STARTS`] times or `deadline` has passed, at least `least` times.
pub(super) fn run(
    options: &[OsString],
    target: &Target,
    deadline: Instant,
    least: usize,
    on: &mut dyn FnMut(usize),
) -> anyhow::Result<Starts> {
    let program = std::env::current_exe()?;
    // Once outside the count: what is done for the first time may stay.
    let mut starts = vec![start(&program, options)];
    let before = Traces::take(target);
    while starts.len() < STARTS + 1 && !interrupt::requested() {
        if starts.len() > least && Instant::now() >= deadline {
            break;
        }
        starts.push(start(&program, options));
        on(starts.len() - 1);
    }
    if interrupt::requested() {
        // Ctrl-C ended the last one as well.
        starts.pop();
    }
    let after = settled(target, before);
    Ok(judge(&starts, before, after))
}

/// What is there once the system has cleaned up.
fn settled(target: &Target, before: Traces) -> Traces {
    let mut after = Traces::take(target);
    for _ in 0..20 {
        if after.processes <= before.processes && after.nobodys < before.nobodys + MOST_LEFT / 2 {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        after = Traces::take(target);
    }
    after
}

fn start(program: &Path, options: &[OsString]) -> Start {
    let began = Instant::now();
    let mut command = Command::new(program);
    command.args(["run", "--json", "--raw", "-p", "Once upon a time", "-n", TOKENS]).args(options);
    let ended = finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let failure = match ended {
        Err(error) => Some(error.to_string()),
        Ok(output) => complaint(&output),
    };
    Start { seconds: began.elapsed().as_secs_f64(), failure }
}

/// Waits for a program; one that takes too long is ended.
fn finish(command: &mut Command) -> io::Result<Output> {
    let mut child = command.spawn()?;
    let began = Instant::now();
    // What it prints is a few hundred bytes, which a pipe holds.
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("did not end within {} s", PATIENCE.as_secs())));
        }
        thread::sleep(LOOK);
    }
    child.wait_with_output()
}

/// What is wrong with a start that ended, if anything.
fn complaint(output: &Output) -> Option<String> {
    if let Some(signal) = output.status.signal() {
        return Some(format!("ended by signal {signal}"));
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("nothing said");
        return Some(format!("{}: {}", output.status, printable(last)));
    }
    let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let tokens = answer.and_then(|answer| answer["generated_tokens"].as_u64());
    (tokens.map(|tokens| tokens.to_string()).as_deref() != Some(TOKENS))
        .then(|| format!("answered {} tokens instead of {TOKENS}", tokens.unwrap_or(0)))
}

fn judge(starts: &[Start], before: Traces, after: Traces) -> Starts {
    let count = starts.len().saturating_sub(1);
    let failures: Vec<&str> = starts.iter().filter_map(|start| start.failure.as_deref()).collect();
    let mut seconds: Vec<f64> = starts.iter().skip(1).map(|start| start.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let (median, slowest) =
        (seconds.get(seconds.len() / 2).copied().unwrap_or(0.0), seconds.last().copied().unwrap_or(0.0));
    let mut checks = vec![Check::new("no start fails", failures.is_empty(), {
        let first = failures.first().map_or(String::new(), |first| format!("; the first: {first}"));
        format!("{} of {} failed{first}", failures.len(), starts.len())
    })];
    let criterion = format!("{STARTS} starts");
    let found = format!("{count}, {:.0} ms each (median; slowest {:.0})", 1e3 * median, 1e3 * slowest);
    if count >= STARTS {
        checks.push(Check::new(criterion, true, found));
    } else {
        checks.push(Check::short(criterion, found));
    }
    checks.push(Check::new(
        "no descriptor stays open",
        after.descriptors <= before.descriptors,
        format!("{} before, {} after", before.descriptors, after.descriptors),
    ));
    checks.push(Check::new(
        "no process stays",
        after.processes <= before.processes,
        format!("{} before, {} after", before.processes, after.processes),
    ));
    let grew = after.nobodys as f64 - before.nobodys as f64;
    checks.push(Check::new(
        format!("memory that belongs to no process grows by less than {}", size(MOST_LEFT)),
        grew < MOST_LEFT as f64,
        format!("{} before, {} after", size(before.nobodys), size(after.nobodys)),
    ));
    if let (Some(before), Some(after)) = (before.gpu, after.gpu) {
        checks.push(Check::new(
            format!("the GPU's free memory falls by less than {}", size(MOST_LEFT)),
            after + MOST_LEFT > before,
            format!("{} before, {} after", size(before), size(after)),
        ));
    }
    let facts = json!({
        "starts": count,
        "failed": failures.len(),
        "median_seconds": median,
        "slowest_seconds": slowest,
        "before": as_json(before),
        "after": as_json(after),
    });
    let done = starts.iter().filter(|start| start.failure.is_none()).count();
    Starts { checks, facts, tokens: done * TOKENS.parse::<usize>().unwrap_or(0) }
}

fn as_json(traces: Traces) -> Value {
    json!({
        "descriptors": traces.descriptors,
        "processes": traces.processes,
        "memory_of_no_process": traces.nobodys,
        "available": traces.available,
        "gpu_free": traces.gpu,
    })
}

#[cfg(test)]
mod tests {
    use super::super::judge::Status;
    use super::{MOST_LEFT, STARTS, Start, Traces, judge, nobodys, processes};

    fn starts(count: usize) -> Vec<Start> {
        (0..=count).map(|i| Start { seconds: 0.01 * i as f64, failure: None }).collect()
    }

    const BEFORE: Traces =
        Traces { descriptors: 9, processes: 1, nobodys: 50 << 20, available: Some(1), gpu: Some(1 << 30) };

    fn worst(starts: &[Start], after: Traces) -> Status {
        judge(starts, BEFORE, after).checks.iter().map(|check| check.status).max().expect("checks")
    }

    #[test]
    fn each_thing_left_behind_fails() {
        let all = starts(STARTS);
        assert_eq!(worst(&all, Traces { available: None, ..BEFORE }), Status::Pass);
        assert_eq!(worst(&starts(STARTS - 1), BEFORE), Status::Short);
        assert_eq!(worst(&all, Traces { descriptors: 10, ..BEFORE }), Status::Fail);
        assert_eq!(worst(&all, Traces { processes: 2, ..BEFORE }), Status::Fail);
        assert_eq!(worst(&all, Traces { nobodys: BEFORE.nobodys + MOST_LEFT, ..BEFORE }), Status::Fail);
        assert_eq!(worst(&all, Traces { gpu: Some((1 << 30) - MOST_LEFT), ..BEFORE }), Status::Fail);
        let mut one = starts(STARTS);
        one[3].failure = Some("ended by signal 9".to_owned());
        let judged = judge(&one, BEFORE, BEFORE);
        assert_eq!(judged.checks[0].status, Status::Fail);
        assert_eq!(judged.checks[0].found, "1 of 101 failed; the first: ended by signal 9");
        assert_eq!(judged.tokens, 400);
    }

    #[test]
    fn nobodys_memory_is_what_no_process_holds() {
        let told = "MemFree: 9 kB\nShmem:   8 kB\nSUnreclaim: 4 kB\nPageTables: 2 kB\nKernelStack:  1 kB\n";
        assert_eq!(nobodys(told), 15 << 10);
        assert!(processes() >= 1);
    }
}
