//! What a running program says about itself, for `monitor`: one small JSON file a process.
//!
//! The file lies in `$XDG_RUNTIME_DIR/jetson-llm`, else in `/tmp/jetson-llm-UID`, is named after the process
//! and replaced as a whole at most once a second. The loop that makes tokens only counts, in [`Counters`];
//! the thread that looks at the sensors writes. A file outlives a program that is killed, so whoever reads
//! one looks whether its process still is the one that wrote it.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use serde_json::Value;

/// What a program is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for somebody to ask.
    Idle = 0,
    /// Reading a prompt.
    Prefill = 1,
    /// Choosing tokens.
    Decode = 2,
}

/// What the loop that makes tokens counts. Nothing here waits or allocates.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    phase: AtomicU8,
    /// Prompt tokens computed by answers that are done.
    prompts: AtomicU64,
    /// Those of the answer under way.
    prompt: AtomicU64,
    generated: AtomicU64,
    /// Pages of the cache in use, and steps that ran.
    pages: AtomicU64,
}

impl Counters {
    /// What is done now.
    pub(crate) fn phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Whether that is what is done now.
    pub(crate) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// So many tokens of the prompt under way are computed, of `total`.
    pub(crate) fn read(&self, done: usize, total: usize) {
        if done < total {
            self.prompt.store(done as u64, Ordering::Relaxed);
            self.phase(Phase::Prefill);
        } else {
            self.prompt.store(0, Ordering::Relaxed);
            self.prompts.fetch_add(total as u64, Ordering::Relaxed);
            self.phase(Phase::Decode);
        }
    }

    /// So many more tokens were chosen.
    pub(crate) fn chose(&self, tokens: u64) {
        self.generated.fetch_add(tokens, Ordering::Relaxed);
    }

    /// So many pages of the cache are in use.
    pub(crate) fn pages(&self, used: usize) {
        self.pages.store(used as u64, Ordering::Relaxed);
    }

    /// Prompt tokens computed and tokens chosen since the start.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.prompts) + of(&self.prompt), of(&self.generated))
    }

    fn phase_name(&self) -> &'static str {
        if self.is(Phase::Prefill) {
            "prefill"
        } else if self.is(Phase::Decode) {
            "decode"
        } else {
            "idle"
        }
    }
}

/// What does not change while a program runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// `run`, `chat`, `bench`, `serve`.
    pub(crate) command: &'static str,
    /// The model's name.
    pub(crate) model: String,
    /// Where it computes.
    pub(crate) device: String,
}

/// The cache: pages of the tightest group, and bytes of all groups.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cache {
    /// Positions a sequence may have.
    pub(crate) context: usize,
    pub(crate) pages: usize,
    pub(crate) page_bytes: u64,
}

/// What changes, beside the counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    /// Share of full speed that is allowed.
    pub(crate) pace: f32,
    /// Why it is less than 1, in words; empty if it is not.
    pub(crate) limit: String,
    /// Bytes that may be taken above the reserve.
    pub(crate) room: Option<u64>,
    /// What the board draws, W.
    pub(crate) watts: Option<f32>,
}

/// Writes the file of this process, and takes it away when dropped.
pub(crate) struct Publisher {
    path: PathBuf,
    temporary: PathBuf,
    /// The part that does not change.
    head: String,
    cache: Cache,
    text: String,
    written: String,
    /// Tokens and time at the last look, milliseconds.
    last: (u64, u64, u64),
}

impl Publisher {
    /// Begins to tell; `None` where there is no folder that is this user's alone.
    pub(crate) fn begin(folder: &Path, about: &About, cache: Cache) -> Option<Publisher> {
        prepare(folder)?;
        let pid = std::process::id();
        let begun = begun(pid)?;
        sweep(folder);
        let quoted = |text: &str| Value::from(text).to_string();
        let head = format!(
            "{{\"pid\":{pid},\"begun\":{begun},\"command\":{},\"model\":{},\"device\":{},\"context\":{}",
            quoted(about.command),
            quoted(&about.model),
            quoted(&about.device),
            cache.context
        );
        let name = |end: &str| folder.join(format!("{pid}.{end}"));
        Some(Publisher {
            path: name("json"),
            temporary: name("tmp"),
            head,
            cache,
            text: String::new(),
            written: String::new(),
            last: (0, 0, 0),
        })
    }

    /// Tells how it stands at `at_ms`, unless nothing has changed.
    pub(crate) fn tell(&mut self, at_ms: u64, counters: &Counters, now: &Now) {
        let (prompt, generated) = counters.tokens();
        let (before, chosen, then) = self.last;
        self.last = (prompt, generated, at_ms);
        let seconds = at_ms.saturating_sub(then).max(1) as f64 / 1000.0;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let pages = counters.pages.load(Ordering::Relaxed);
        self.text.clear();
        let text = &mut self.text;
        text.push_str(&self.head);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            ",\"phase\":\"{}\",\"prompt_tokens\":{prompt},\"generated_tokens\":{generated},\
             \"prompt_tokens_per_second\":{:.1},\"tokens_per_second\":{:.1},\
             \"kv\":{{\"pages_used\":{pages},\"pages_total\":{},\"bytes_used\":{},\"bytes_total\":{}}},\
             \"limit\":{{\"pace\":{:.2},\"reason\":",
            counters.phase_name(),
            rate(prompt, before),
            rate(generated, chosen),
            self.cache.pages,
            pages * self.cache.page_bytes,
            self.cache.pages as u64 * self.cache.page_bytes,
            now.pace
        );
        // What governors say has neither quotes nor control characters.
        let _ =
            if now.limit.is_empty() { write!(text, "null}}") } else { write!(text, "\"{}\"}}", now.limit) };
        let _ = match now.room {
            Some(room) => write!(text, ",\"room_bytes\":{room}"),
            None => write!(text, ",\"room_bytes\":null"),
        };
        let _ = match now.watts {
            Some(watts) => write!(text, ",\"watts\":{watts:.2}}}"),
            None => write!(text, ",\"watts\":null}}"),
        };
        if self.text == self.written {
            return;
        }
        // A disk that is full is no reason to stop making tokens.
        let done =
            fs::write(&self.temporary, &self.text).and_then(|()| fs::rename(&self.temporary, &self.path));
        if done.is_ok() {
            std::mem::swap(&mut self.text, &mut self.written);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The number of this process's user.
fn user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|process| process.uid())
}

/// Where this user's programs tell.
pub(crate) fn folder(runtime: Option<&Path>) -> PathBuf {
    match runtime {
        Some(runtime) => runtime.join("jetson-llm"),
        None => PathBuf::from(format!("/tmp/jetson-llm-{}", user().unwrap_or(0))),
    }
}

/// Makes the folder if it is not there; only one that is this user's and that nobody else may write to is of
/// use: in `/tmp` anybody could have made it, or a link in its place.
fn prepare(folder: &Path) -> Option<()> {
    let _ = DirBuilder::new().mode(0o700).create(folder);
    let found = fs::symlink_metadata(folder).ok()?;
    let ours = found.is_dir() && Some(found.uid()) == user() && found.permissions().mode() & 0o022 == 0;
    ours.then_some(())
}

/// When a process began, in ticks since the machine did: field 22 of proc_pid_stat(5), the 20th after the name.
fn begun(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

/// The file of a process that still is the one that wrote it.
fn read(path: &Path) -> Option<Value> {
    /// More than is ever written.
    const MOST: u64 = 1 << 16;
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.len() > MOST {
        return None;
    }
    let status: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let pid = u32::try_from(status["pid"].as_u64()?).ok()?;
    let named = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok()) == Some(pid);
    (named && status["begun"].as_u64() == begun(pid)).then_some(status)
}

/// The files of a folder that end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == end)).collect()
}

/// Takes away what programs that were killed have left.
fn sweep(folder: &Path) {
    for path in files(folder, "json") {
        if read(&path).is_none() {
            let _ = fs::remove_file(path);
        }
    }
}

/// What all programs say that may be looked at: this user's, and everybody's for root. In order of process.
pub(crate) fn all(runtime: Option<&Path>) -> Vec<Value> {
    let mut folders = vec![folder(runtime)];
    let inside =
        |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    folders.extend(inside("/run/user").map(|user| user.join("jetson-llm")));
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("jetson-llm-"))
    };
    folders.extend(inside("/tmp").filter(named));
    folders.sort();
    folders.dedup();
    let mut found: Vec<Value> =
        folders.iter().flat_map(|folder| files(folder, "json")).filter_map(|path| read(&path)).collect();
    found.sort_by_key(|status| status["pid"].as_u64());
    found.dedup_by_key(|status| status["pid"].as_u64());
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use testkit::board::Tree;

    use super::{About, Cache, Counters, Now, Phase, Publisher, all, begun, files, folder};

    fn about() -> About {
        About { command: "run", model: "a \"b\"".into(), device: "cores".into() }
    }

    const CACHE: Cache = Cache { context: 320, pages: 10, page_bytes: 1000 };

    #[test]
    fn what_is_told_is_read_and_goes_away() {
        let tree = Tree::new();
        let place = folder(Some(tree.path()));
        let mut publisher = Publisher::begin(&place, &about(), CACHE).expect("the folder is ours");
        let counters = Counters::default();
        let now = Now { pace: 1.0, room: Some(7), ..Now::default() };
        publisher.tell(1000, &counters, &now);
        counters.read(5, 9);
        publisher.tell(2000, &counters, &now);
        counters.read(9, 9);
        counters.chose(6);
        counters.pages(3);
        let limit = "84.2 °C: at 61 % of full speed".to_owned();
        publisher.tell(4000, &counters, &Now { pace: 0.61, limit, watts: Some(11.5), ..now });
        let mine = |status: &serde_json::Value| status["pid"] == std::process::id();
        let told = all(Some(tree.path())).into_iter().find(mine).expect("it was told");
        assert_eq!((&told["model"], &told["phase"]), (&"a \"b\"".into(), &"decode".into()));
        assert_eq!((&told["prompt_tokens"], &told["generated_tokens"]), (&9.into(), &6.into()));
        assert_eq!(
            (told["prompt_tokens_per_second"].as_f64(), told["tokens_per_second"].as_f64()),
            (Some(2.0), Some(3.0))
        );
        assert_eq!(told["kv"]["bytes_used"], 3000);
        assert_eq!((&told["kv"]["pages_total"], told["limit"]["pace"].as_f64()), (&10.into(), Some(0.61)));
        assert_eq!(told["limit"]["reason"], "84.2 °C: at 61 % of full speed");
        counters.phase(Phase::Idle);
        drop(publisher);
        assert_eq!(fs::read_dir(&place).expect("there").count(), 0);
    }

    #[test]
    fn what_a_dead_or_another_process_left_is_not_believed() {
        let tree = Tree::new();
        let place = folder(Some(tree.path()));
        fs::create_dir(&place).expect("a folder can be made");
        let write = |name: &str, text: &str| fs::write(place.join(name), text).expect("written");
        let me = std::process::id();
        let began = begun(me).expect("this process began");
        write("4000000000.json", "{\"pid\":4000000000,\"begun\":5}");
        write(&format!("{me}.json"), &format!("{{\"pid\":{me},\"begun\":{}}}", began + 1));
        write("1.json", &format!("{{\"pid\":{me},\"begun\":{began}}}"));
        write("2.json", "no JSON");
        let ours = |status: &serde_json::Value| status["begun"] == began || status["begun"] == 5;
        assert!(!all(Some(tree.path())).iter().any(ours));
        let publisher = Publisher::begin(&place, &about(), CACHE).expect("the folder is ours");
        assert!(files(&place, "json").is_empty(), "what is stale is swept away");
        drop(publisher);
    }

    #[test]
    fn a_folder_that_is_somebody_elses_doing_is_not_used() {
        let tree = Tree::new();
        let elsewhere = tree.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("a folder can be made");
        let link = folder(Some(tree.path()));
        symlink(&elsewhere, &link).expect("a link can be made");
        assert!(Publisher::begin(&link, &about(), CACHE).is_none());
    }
}
