//! `monitor`: how the machine and the programs that run models on it stand, once a second.

mod terminal;
mod view;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use cuda::nvml::Nvml;
use platform::governor::thermal::Settings;
use platform::{Readings, Root};
use serde_json::{Value, json};

use crate::config::Config;
use crate::failure::bad_input;
use crate::{interrupt, json, status};
use terminal::{Key, Terminal};
use view::Line;

const EXAMPLES: &str = "\
Examples:
  jetson-llm monitor
  jetson-llm monitor --once
  jetson-llm monitor --json | jq '.programs[].tokens_per_second'

q or Ctrl-C ends it. Some readings are root's only, and so are other users' programs.";

/// Between two pictures.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the keyboard, the window's size and Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

/// Watch memory, heat, power, clocks and running models
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Print one picture and end, as it does where stdout is no terminal
    #[arg(long)]
    once: bool,
    /// Print one JSON object, all readings included, and end
    #[arg(long)]
    json: bool,
    /// A folder with the files of a machine, instead of this one's
    #[arg(long, value_name = "DIR", hide = true)]
    sysroot: Option<PathBuf>,
}

/// What is shown.
struct Picture {
    readings: Readings,
    /// The readings of the picture before, and how long ago that was.
    before: Option<(Readings, Duration)>,
    /// What programs say of themselves.
    programs: Vec<Value>,
    /// Power of a GPU with a board of its own, W.
    gpu_watts: Option<f64>,
}

/// Who looks.
struct Looker<'a> {
    root: Root,
    config: &'a Config,
    nvml: Option<Nvml>,
    last: Option<(Readings, Instant)>,
}

impl Looker<'_> {
    fn look(&mut self) -> Picture {
        let readings = Readings::take(&self.root);
        let last = self.last.replace((readings.clone(), Instant::now()));
        Picture {
            before: last.map(|(readings, at)| (readings, at.elapsed())),
            programs: status::all(self.config.runtime.as_deref()),
            gpu_watts: self.nvml.as_ref().and_then(Nvml::power_watts),
            readings,
        }
    }
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let root = match &command.sysroot {
        None => Root::real(),
        Some(folder) => Root::at(folder).map_err(|error| bad_input(error.to_string()))?,
    };
    // Boards have no NVML for their own GPU.
    let nvml = if root.is_real() { Nvml::open(0) } else { None };
    let mut looker = Looker { root, config, nvml, last: None };
    if command.json {
        return json::print(&as_json(&looker.look()));
    }
    if command.once || !io::stdout().is_terminal() {
        return print(&view::lines(&looker.look()));
    }
    interrupt::listen();
    if config.dumb { without_cursor(&mut looker) } else { live(&mut looker, config) }
}

/// Lines without colour or limits.
fn print(lines: &[Line]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.drawn(usize::MAX, false))?;
    }
    Ok(())
}

/// One picture after the other, for terminals whose cursor cannot be moved.
fn without_cursor(looker: &mut Looker) -> anyhow::Result<()> {
    while !interrupt::requested() {
        print(&view::lines(&looker.look()))?;
        writeln!(io::stdout())?;
        let shown = Instant::now();
        while shown.elapsed() < EVERY && !interrupt::requested() {
            thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// Pictures in place until a key or Ctrl-C ends it; the window may change its size at any time.
fn live(looker: &mut Looker, config: &Config) -> anyhow::Result<()> {
    let mut terminal = Terminal::open()?;
    loop {
        let lines = view::lines(&looker.look());
        let (shown, mut size) = (Instant::now(), None);
        while shown.elapsed() < EVERY {
            let now = Terminal::size();
            if size.replace(now) != Some(now) {
                Terminal::draw(&lines, now, !config.plain)?;
            }
            match terminal.key(LOOK) {
                Some(Key::Leave) => return Ok(()),
                Some(Key::Again) => break,
                None if interrupt::requested() => return Ok(()),
                None => {}
            }
        }
    }
}

fn as_json(picture: &Picture) -> Value {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let readings = &picture.readings;
    let limits = Settings::for_board(readings.throttle());
    json!({
        "at": since.map_or(0.0, |since| (since.as_secs_f64() * 10.0).round() / 10.0),
        "jetson": readings.board.is_jetson(),
        "available_bytes": readings.memory.available,
        "hottest_celsius": readings.hottest().map(|(_, celsius)| celsius),
        "slower_from_celsius": limits.backoff,
        "stop_at_celsius": limits.hard,
        "watts": readings.watts(),
        "gpu_board_watts": picture.gpu_watts,
        "power_mode": readings.power_mode.current().map(|mode| mode.name.as_str()),
        "programs": picture.programs,
        "readings": readings,
    })
}
