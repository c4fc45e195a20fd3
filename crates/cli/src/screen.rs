//! What people see: progress, notes, and text made safe for a terminal.

use std::fmt::Display;
use std::io::{self, Cursor, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::Config;

/// Whether an answer on the terminal stands in the middle of a line.
static MID_LINE: AtomicBool = AtomicBool::new(false);

/// Says whether an answer on the terminal stands in the middle of a line.
pub(crate) fn set_mid_line(mid_line: bool) {
    MID_LINE.store(mid_line, Ordering::Relaxed);
}

/// Whether it does.
pub(crate) fn is_mid_line() -> bool {
    MID_LINE.load(Ordering::Relaxed)
}

/// Where output goes and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Stdout is a terminal.
    pub(crate) answer_on_terminal: bool,
    /// Stderr is a terminal that understands cursor movement and nobody asked for quiet.
    pub(crate) progress: bool,
    /// No notes either.
    quiet: bool,
}

impl Screen {
    /// Looks at the standard streams.
    pub(crate) fn new(config: &Config, quiet: bool) -> Screen {
        Screen {
            answer_on_terminal: io::stdout().is_terminal(),
            progress: io::stderr().is_terminal() && !config.plain && !quiet,
            quiet,
        }
    }

    /// A line on stderr, unless quiet was asked for. A closed stderr is not an error.
    pub(crate) fn note(self, line: &str) {
        self.remark(&line);
    }

    /// The same for what is not text yet.
    pub(crate) fn remark(self, line: &dyn Display) {
        if !self.quiet {
            self.warn(line);
        }
    }

    /// A line on stderr, whatever was asked for. It comes as a whole beside an answer, in a line of its own,
    /// and takes no memory: it may be said because there is none.
    pub(crate) fn warn(self, line: &dyn Display) {
        let mut buffer = [0; 512];
        let mut text = Cursor::new(&mut buffer[..]);
        let same = self.answer_on_terminal && io::stderr().is_terminal();
        let begin = if same && MID_LINE.swap(false, Ordering::Relaxed) { "\n" } else { "" };
        let _ = if writeln!(text, "{begin}{line}").is_ok() {
            let length = text.position() as usize;
            io::stderr().write_all(&buffer[..length])
        } else {
            writeln!(io::stderr(), "{begin}{line}")
        };
    }

    /// Progress over bytes.
    pub(crate) fn bytes(self, what: &'static str, bytes: u64) -> Progress {
        self.progress(what, bytes, "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// Progress over steps of some unit.
    pub(crate) fn steps(self, what: &'static str, steps: u64) -> Progress {
        self.progress(what, steps, "{msg} {bar:30} {pos}/{len} {eta}")
    }

    fn progress(self, what: &'static str, total: u64, template: &str) -> Progress {
        let style = ProgressStyle::with_template(template).expect("the templates above are valid");
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what);
        Progress { bar, started: Instant::now(), drawn: !self.progress }
    }
}

/// A bar that is drawn only once the work has taken long enough to be noticed.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    /// Nothing is left to turn on.
    drawn: bool,
}

impl Progress {
    /// Says how much is done.
    pub(crate) fn set(&mut self, done: u64, total: u64) {
        const NOTICED: Duration = Duration::from_millis(400);
        self.bar.set_length(total);
        self.bar.set_position(done);
        if !self.drawn && self.started.elapsed() > NOTICED {
            self.drawn = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
    }

    /// Says that more is done.
    pub(crate) fn add(&mut self, more: u64) {
        self.set(self.bar.position() + more, self.bar.length().unwrap_or(0));
    }

    /// Changes the words beside the bar.
    pub(crate) fn say(&self, words: String) {
        self.bar.set_message(words);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Text of a file made safe to print: control characters and direction overrides escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_unprintable(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// Characters that move the cursor, change its direction or hide.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The model's text as it may be sent to a terminal: without control characters except line feed
/// and tab, so that no model can move the cursor or change the title.
pub(crate) fn for_terminal(text: &str) -> String {
    text.chars().filter(|&c| c == '\n' || c == '\t' || !c.is_control()).collect()
}

/// Bytes in the unit people use: `812 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count as people read it: `1.24 B`.
pub(crate) fn count(value: u64) -> String {
    match value {
        0..1_000_000 => value.to_string(),
        1_000_000..1_000_000_000 => format!("{:.2} M", value as f64 / 1e6),
        _ => format!("{:.2} B", value as f64 / 1e9),
    }
}

/// Most memory this process ever held, in bytes, or `None` where the system does not say.
pub(crate) fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// A line of `/proc/self/status` that counts memory, in bytes.
pub(crate) fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::{count, for_terminal, peak_memory, printable, size};

    #[test]
    fn escapes_never_reach_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(for_terminal("a\x1b[31m\r\n\tb\u{9b}c"), "a[31m\n\tbc");
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(size(812 << 20), "812 MiB");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(7), "7 bytes");
        assert_eq!(count(1_235_814_432), "1.24 B");
        assert_eq!(count(260_032), "260032");
    }

    #[test]
    fn the_peak_is_at_least_a_mebibyte() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
