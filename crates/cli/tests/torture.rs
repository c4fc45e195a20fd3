//! Memory is taken away while a model runs: answers end early, whole, and nothing is killed.
//!
//! In a memory control group, which takes root: elsewhere these tests say that they were skipped. By default
//! a few runs of each kind; `TORTURE_RUNS=50` is what `bench/memory/torture.sh` asks for, `TORTURE_LOG` names
//! a file that gets one JSON object a run.

mod common;
#[path = "torture/group.rs"]
mod group;
#[path = "torture/model.rs"]
mod model;

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::{Folder, program, run};
use group::Group;
use serde_json::json;

const MIB: u64 = 1 << 20;
/// Groups are allowed this much before it is taken away.
const ROOM: u64 = CACHE + 512 * MIB;
/// What the whole cache takes.
const CACHE: u64 = model::CONTEXT * model::POSITION;
const PROMPT: &str = "Once upon a time";
/// Longest a run may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// One at a time: each is about all the memory there is in its group, and times matter.
static TURN: Mutex<()> = Mutex::new(());

fn runs() -> usize {
    env::var("TORTURE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(2)
}

/// Numbers that differ from run to run and not from time to time.
struct Numbers(u64);

impl Numbers {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        least + (self.0 >> 33) % (most - least + 1)
    }
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    /// The exit code, or the signal as a negative number.
    code: i32,
    out: String,
    err: String,
    kills: u64,
    hits: u64,
    /// Seconds from the moment memory became short to the end.
    seconds: f64,
    /// Most that the group held, MiB.
    held: u64,
}

/// The generation that everything here disturbs.
fn generation(model: &str) -> Command {
    let seed = ["--seed", "7", "-n", "-1", "--ignore-eos", "--kv", "f32"];
    let fixed = ["-m", model, "--raw", "-p", PROMPT, "-c", "4096", "--device", "cpu", "-t", "1"];
    program(&[&fixed[..], &seed].concat())
}

/// The answer of `tokens` tokens that nothing disturbs.
fn undisturbed(model: &str, tokens: usize) -> String {
    let mut command = generation(model);
    command.args(["-n", &tokens.to_string(), "--quiet"]);
    common::Ran::from(command.output().expect("it starts")).ok()
}

/// A program under way, its output read as it comes.
struct Run {
    child: Child,
    out: thread::JoinHandle<String>,
    err: thread::JoinHandle<String>,
}

impl Run {
    fn begin(group: &Group, command: &Command) -> Run {
        let mut child = group
            .member(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let read = |from: &mut dyn std::io::Read| {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Run { child, out: thread::spawn(move || read(&mut out)), err: thread::spawn(move || read(&mut err)) }
    }

    /// Waits until the group holds `bytes`: so much of the cache is in use.
    fn grown(&mut self, group: &Group, bytes: u64) -> Result<(), String> {
        let began = Instant::now();
        while group.held() < bytes {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return Err(format!("it ended before its cache had grown: {status}"));
            }
            if began.elapsed() > PATIENCE {
                return Err("its cache does not grow".to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn end(mut self, group: &Group) -> Ended {
        let (began, mut held) = (Instant::now(), 0);
        let status = loop {
            held = held.max(group.held());
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                break status;
            }
            if began.elapsed() > PATIENCE {
                self.child.kill().expect("it is ours");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let seconds = began.elapsed().as_secs_f64();
        Ended {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            out: self.out.join().expect("reading does not panic"),
            err: self.err.join().expect("reading does not panic"),
            kills: group.kills(),
            hits: group.hits(),
            seconds,
            held: held / MIB,
        }
    }
}

/// The number in a line such as `[oom_guard] Stopping at token 812: …`.
fn stopped_at(err: &str) -> Option<usize> {
    let rest = err.lines().find_map(|line| line.strip_prefix("[oom_guard] Stopping at token "))?;
    rest.split(':').next()?.parse().ok()
}

/// The numbers of the summary line: tokens of the prompt, tokens generated.
fn counted(err: &str) -> Option<(usize, usize)> {
    let line = err.lines().find(|line| line.starts_with("prompt ") && line.contains("generated "))?;
    let after = |word: &str| line.split_once(word)?.1.split(' ').next()?.parse().ok();
    Some((after("prompt ")?, after("generated ")?))
}

/// What is wrong with how a run ended; nothing if it ended as it should.
fn complaint(ended: &Ended, whole: &str) -> Option<String> {
    if ended.kills > 0 {
        return Some(format!("the kernel killed {}", ended.kills));
    }
    if ended.code != 0 {
        return Some(format!("ended with {}", ended.code));
    }
    let Some(token) = stopped_at(&ended.err) else {
        return Some("it does not say why it stopped".to_owned());
    };
    let Some((prompt, generated)) = counted(&ended.err) else { return Some("no summary".to_owned()) };
    if token != prompt + generated {
        return Some(format!("stopped at token {token}, but {prompt} and {generated} were counted"));
    }
    let text = ended.out.trim_end_matches('\n');
    let same = if text.len() < whole.len() { whole.starts_with(text) } else { text.starts_with(whole) };
    if text.is_empty() || !same {
        return Some(format!("the text is not the beginning of the whole: {} bytes", text.len()));
    }
    None
}

/// Runs `disturb` many times and says which runs did not end as they should.
fn torture(kind: &str, disturb: &dyn Fn(&mut Run, &Group, &mut Numbers) -> Result<String, String>) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match Group::new(ROOM) {
        Err(why) => return eprintln!("skipped: {why}"),
        Ok(_) if free() < ROOM + CACHE / 2 => {
            return eprintln!("skipped: too little memory for a group of {} MiB", ROOM / MIB);
        }
        Ok(_) => {}
    }
    let folder = Folder::new();
    model::write(&folder.path("cache.gguf"));
    let model = folder.arg("cache.gguf");
    let whole = undisturbed(&model, 300);
    let whole = whole.trim_end_matches('\n');
    let mut failures = Vec::new();
    for i in 0..runs() {
        let group = Group::new(ROOM).expect("there was one a moment ago");
        let mut numbers = Numbers(i as u64 * 7919 + 1);
        let mut run = Run::begin(&group, &generation(&model));
        let grown = run.grown(&group, 60 * MIB + numbers.between(0, 100) * MIB);
        let disturbed = grown.and_then(|()| disturb(&mut run, &group, &mut numbers));
        let ended = run.end(&group);
        let how = disturbed.clone().unwrap_or_default();
        let wrong = disturbed.err().or_else(|| complaint(&ended, whole));
        log(kind, i, &how, &ended, wrong.as_deref());
        if let Some(wrong) = wrong {
            failures.push(format!("run {i} ({how}): {wrong}; {} hits, stderr: {}", ended.hits, ended.err));
        }
    }
    assert!(failures.is_empty(), "{} of {} runs failed\n{}", failures.len(), runs(), failures.join("\n"));
}

/// Memory of the machine that could be taken.
fn free() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn log(kind: &str, i: usize, how: &str, ended: &Ended, wrong: Option<&str>) {
    let Some(path) = env::var_os("TORTURE_LOG") else { return };
    let line = json!({
        "kind": kind,
        "run": i,
        "how": how,
        "ok": wrong.is_none(),
        "wrong": wrong,
        "code": ended.code,
        "killed": ended.kills,
        "limit_hits": ended.hits,
        "stopped_at_token": stopped_at(&ended.err),
        "text_bytes": ended.out.len(),
        "seconds_to_end": ended.seconds,
        "held_mib": ended.held,
    });
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    writeln!(file.expect("TORTURE_LOG can be written"), "{line}").expect("TORTURE_LOG can be written");
}

/// The limit falls to a little more than what is in use, at once, or to so much that the cache still grows.
#[test]
fn a_limit_that_is_tightened_ends_the_answer() {
    torture("tightened", &|_, group, numbers| {
        let more = match numbers.between(0, 3) {
            0 => numbers.between(100, 180),
            1 => numbers.between(40, 100),
            _ => numbers.between(12, 40),
        };
        // Not below what is in use, and meanwhile that grows.
        for _ in 0..100 {
            if group.limit(group.held() + more * MIB).is_ok() {
                return Ok(format!("{more} MiB above use"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err("the limit could not be set".to_owned())
    });
}

/// A second program takes what there is, at some speed, and leaves a few megabytes.
#[test]
fn a_program_that_eats_memory_ends_the_answer() {
    torture("eaten", &|_, group, numbers| {
        let (floor, rate) = (numbers.between(12, 40), numbers.between(100, 1500));
        let mut eater = Eater::begin(group);
        let began = Instant::now();
        let mut eaten = 0;
        while group.left() > (floor + 8) * MIB {
            eater.eat(8)?;
            eaten += 8;
            let due = Duration::from_secs_f64(eaten as f64 / rate as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        // It holds what it has until the group goes away.
        std::mem::forget(eater);
        Ok(format!("{eaten} MiB at {rate} MiB/s, {floor} MiB left"))
    });
}

/// A program that takes memory when told to: this one, once more.
struct Eater {
    child: Child,
    orders: ChildStdin,
}

impl Eater {
    fn begin(group: &Group) -> Eater {
        let mut command = Command::new(env::current_exe().expect("it runs"));
        command.args(["--exact", "the_one_who_eats", "--nocapture"]).env("TORTURE_EATS", "1");
        let mut child = group
            .member(&command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let orders = child.stdin.take().expect("a pipe");
        Eater { child, orders }
    }

    /// Takes `mib` more, and waits until it has.
    fn eat(&mut self, mib: u8) -> Result<(), String> {
        let gone = |_| "who eats was killed".to_owned();
        self.orders.write_all(&[mib]).map_err(gone)?;
        let out = self.child.stdout.as_mut().expect("a pipe");
        // The harness of tests writes lines of its own first.
        let mut byte = [0];
        while byte[0] != b'!' {
            out.read_exact(&mut byte).map_err(gone)?;
        }
        Ok(())
    }
}

impl Drop for Eater {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test but what [`Eater`] starts.
#[test]
fn the_one_who_eats() {
    if env::var_os("TORTURE_EATS").is_none() {
        return;
    }
    let (mut eaten, mut order) = (Vec::new(), [0]);
    while std::io::stdin().read_exact(&mut order).is_ok() {
        // Not zeros: those would be no memory yet.
        eaten.push(vec![order[0]; usize::from(order[0]) << 20]);
        let mut out = std::io::stdout();
        out.write_all(b"!").and_then(|()| out.flush()).expect("who orders listens");
    }
    drop(std::hint::black_box(eaten));
}

/// What cannot fit is refused before a byte of it is read.
#[test]
fn what_cannot_fit_is_refused_at_once() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = Folder::new();
    model::write_huge(&folder.path("huge.gguf"));
    let huge = folder.arg("huge.gguf");
    let refused = |ended: common::Ran, seconds: f64| {
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
        assert!(ended.err.contains("needs ") && ended.err.contains(" free; "), "{}", ended.err);
        assert!(seconds < 1.0, "refused after {seconds} s");
    };
    // A context that no machine holds.
    let began = Instant::now();
    let ended = run(&["-p", PROMPT, "-c", "16777216", "--device", "cpu"]);
    if free() < 1 << 36 {
        refused(ended, began.elapsed().as_secs_f64());
    }
    match Group::new(256 * MIB) {
        Err(why) => eprintln!("skipped: {why}"),
        Ok(group) => {
            let began = Instant::now();
            let mut command = group.member(&program(&["-m", &huge, "-p", PROMPT, "--device", "cpu"]));
            let ended = command.stdin(Stdio::null()).output().expect("it starts");
            refused(ended.into(), began.elapsed().as_secs_f64());
            assert_eq!(group.kills(), 0);
        }
    }
}

/// The harness itself must see a kill: one who eats more than there is.
#[test]
fn a_kill_is_seen() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let group = match Group::new(64 * MIB) {
        Err(why) => return eprintln!("skipped: {why}"),
        Ok(group) => group,
    };
    let mut eater = Eater::begin(&group);
    let eaten = (0..32).take_while(|_| eater.eat(8).is_ok()).count();
    assert!((2..9).contains(&eaten), "{eaten}");
    assert_eq!(group.kills(), 1);
    assert!(group.hits() > 0 && Path::new("/proc/self").exists());
}
