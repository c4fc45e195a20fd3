//! The picture as lines: pure, from readings and from what programs say.

use std::fmt::Write as _;

use platform::Readings;
use platform::governor::thermal::Settings;
use serde_json::Value;

use super::Picture;
use crate::screen::{printable, size};

/// How a piece of a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Soft,
    Warn,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "\x1b[1m",
            Style::Soft => "\x1b[2m",
            Style::Warn => "\x1b[33m",
            Style::Bad => "\x1b[31m",
        }
    }
}

/// A line of pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    pub(super) fn new() -> Line {
        Line::default()
    }

    /// A line about something, its name in a column of its own.
    fn about(name: &str) -> Line {
        Line::new().with(Style::Soft, format!("{name:<12}"))
    }

    pub(super) fn with(mut self, style: Style, text: impl Into<String>) -> Line {
        self.0.push((style, text.into()));
        self
    }

    fn plain(self, text: impl Into<String>) -> Line {
        self.with(Style::Plain, text)
    }

    /// As printed, cut after so many characters.
    pub(super) fn drawn(&self, columns: usize, colour: bool) -> String {
        let (mut out, mut left) = (String::new(), columns);
        for (style, text) in &self.0 {
            let cut: String = text.chars().take(left).collect();
            left -= cut.chars().count();
            let code = if colour { style.code() } else { "" };
            let end = if code.is_empty() { "" } else { "\x1b[0m" };
            // Writing to a string cannot fail.
            let _ = write!(out, "{code}{cut}{end}");
        }
        if colour { out } else { out.trim_end().to_owned() }
    }
}

/// All of it. What a machine lacks has no line.
pub(super) fn lines(picture: &Picture) -> Vec<Line> {
    let now = &picture.readings;
    let mut lines = vec![title(now), Line::new()];
    lines.extend(memory(now));
    lines.extend(groups(now));
    lines.extend(swap(picture));
    lines.extend(contiguous(now));
    lines.extend(temperatures(now));
    lines.extend(power(picture));
    lines.extend(mode(now));
    lines.extend(gpu(now));
    lines.extend(emc(now));
    lines.extend(cores(now));
    lines.extend(fan(now));
    lines.push(Line::new());
    lines.extend(programs(&picture.programs));
    lines
}

fn title(now: &Readings) -> Line {
    let board = now.board.model.as_deref().map_or("no Jetson".to_owned(), printable);
    let release = now.board.l4t.as_ref().map_or(String::new(), |l4t| match l4t.jetpack() {
        Some(jetpack) => format!(" · JetPack {jetpack}"),
        None => format!(" · Jetson Linux {l4t}"),
    });
    Line::new().with(Style::Bold, format!("jetson-llm{release} · {board}"))
}

/// A bar of `width` characters, filled to this share.
fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(width - full))
}

fn memory(now: &Readings) -> Option<Line> {
    let (total, available) = (now.memory.total?, now.memory.available?);
    let share = 1.0 - available as f64 / total.max(1) as f64;
    let style = match share {
        0.97.. => Style::Bad,
        0.9.. => Style::Warn,
        _ => Style::Plain,
    };
    let text = format!("{} available of {}  ", size(available), size(total));
    Some(Line::about("memory").plain(text).with(style, format!("{} {:.0} %", bar(share, 24), share * 100.0)))
}

/// The control group that leaves least.
fn groups(now: &Readings) -> Option<Line> {
    let limited = now.groups.iter().filter(|group| group.left().is_some());
    let group = limited.min_by_key(|group| group.left())?;
    let (left, limit) = (group.left()?, group.limit?);
    let style = if left < limit / 32 { Style::Bad } else { Style::Plain };
    let folder = printable(group.folder.trim_start_matches("/sys/fs/cgroup"));
    let folder = if folder.is_empty() { "the root's".to_owned() } else { folder };
    Some(Line::about("  group").with(style, format!("{} left of {} ({folder})", size(left), size(limit))))
}

fn swap(picture: &Picture) -> Option<Line> {
    let memory = &picture.readings.memory;
    let (total, free) = (memory.swap_total?, memory.swap_free?);
    if total == 0 {
        return Some(Line::about("  swap").plain("none"));
    }
    let zram = memory.zram_used.map_or(String::new(), |used| format!(", zram takes {}", size(used)));
    let line = Line::about("  swap").plain(format!(
        "{} used of {}{zram}",
        size(total - free.min(total)),
        size(total)
    ));
    let rate = picture.before.as_ref().and_then(|(before, since)| {
        let pages = memory.pages_swapped_in?.saturating_sub(before.memory.pages_swapped_in?);
        Some(pages as f64 / since.as_secs_f64().max(0.001))
    });
    Some(match rate {
        Some(rate) if rate >= 1.0 => {
            let style = if rate > 1000.0 { Style::Bad } else { Style::Warn };
            line.with(style, format!(", {rate:.0} pages a second come back"))
        }
        _ => line,
    })
}

fn contiguous(now: &Readings) -> Option<Line> {
    let mut parts = Vec::new();
    if let (Some(total), Some(free)) = (now.memory.cma_total, now.memory.cma_free)
        && total > 0
    {
        parts.push(format!("CMA {} free of {}", size(free), size(total)));
    }
    parts.extend(now.nvmap.total.or(now.memory.nvmap_used).map(|bytes| format!("NvMap {}", size(bytes))));
    (!parts.is_empty()).then(|| Line::about("  GPU").plain(parts.join(" · ")))
}

fn temperatures(now: &Readings) -> Option<Line> {
    let limits = Settings::for_board(now.throttle());
    let read: Vec<(&str, f32, bool)> =
        now.zones.iter().filter_map(|zone| Some((&*zone.name, zone.celsius?, zone.is_chip()))).collect();
    if read.is_empty() {
        return None;
    }
    let mut line = Line::about("temperature");
    for (at, (name, celsius, chip)) in read.iter().enumerate() {
        let style = match celsius {
            celsius if *chip && *celsius >= limits.hard => Style::Bad,
            celsius if *chip && *celsius >= limits.backoff => Style::Warn,
            _ => Style::Plain,
        };
        let short = name.trim_end_matches("-thermal").trim_end_matches("-therm");
        let gap = if at == 0 { "" } else { "  " };
        line = line.with(style, format!("{gap}{} {celsius:.1}", printable(short)));
    }
    line = line.plain(" °C");
    let on_board = now.board.is_jetson();
    Some(if on_board { line.with(Style::Soft, format!(", slower from {:.0}", limits.backoff)) } else { line })
}

fn power(picture: &Picture) -> Option<Line> {
    let now = &picture.readings;
    let mut parts = Vec::new();
    parts.extend(now.watts().map(|watts| format!("{watts:.1} W in all")));
    for rail in &now.rails {
        if let Some(milliwatts) = rail.milliwatts {
            parts.push(format!("{} {:.1}", printable(&rail.name), f64::from(milliwatts) / 1000.0));
        }
    }
    parts.extend(picture.gpu_watts.map(|watts| format!("GPU board {watts:.1} W")));
    if parts.is_empty() {
        return None;
    }
    let line = Line::about("power").plain(parts.join("  "));
    let events: u64 = now.over_current.iter().map(|counter| counter.count).sum();
    Some(if events > 0 { line.with(Style::Warn, format!("  over-current {events} times")) } else { line })
}

fn mode(now: &Readings) -> Option<Line> {
    let mode = now.power_mode.current()?;
    let fastest = now.power_mode.fastest().filter(|fastest| fastest.id != mode.id);
    let line = Line::about("power mode").plain(format!("{} (mode {})", printable(&mode.name), mode.id));
    Some(match fastest {
        Some(fastest) => line.with(Style::Soft, format!("  the fastest is {}", printable(&fastest.name))),
        None => line,
    })
}

fn mhz(hz: u64) -> u64 {
    hz / 1_000_000
}

fn gpu(now: &Readings) -> Option<Line> {
    let hz = now.gpu.hz?;
    let most = now.gpu.max_hz.map_or(String::new(), |most| format!(" of {}", mhz(most)));
    let load = now.gpu.load.map_or(String::new(), |load| format!(", busy {:.0} %", load * 100.0));
    Some(Line::about("GPU clock").plain(format!("{}{most} MHz{load}", mhz(hz))))
}

fn emc(now: &Readings) -> Option<Line> {
    let hz = now.emc.hz?;
    let most = now.emc.cap_hz.or(now.emc.hardware_hz);
    let most = most.map_or(String::new(), |most| format!(" of {}", mhz(most)));
    Some(Line::about("EMC clock").plain(format!("{}{most} MHz", mhz(hz))))
}

fn cores(now: &Readings) -> Option<Line> {
    let (all, on) = (now.cores.len(), now.cores.iter().filter(|core| core.online).count());
    if all == 0 {
        return None;
    }
    let clocks = || now.cores.iter().filter(|core| core.online).filter_map(|core| core.hz);
    let clock = match (clocks().min(), clocks().max()) {
        (Some(least), Some(most)) if mhz(least) < mhz(most) => {
            format!(", {} to {} MHz", mhz(least), mhz(most))
        }
        (Some(hz), _) => format!(", {} MHz", mhz(hz)),
        _ => String::new(),
    };
    let limit = now.cores.iter().filter_map(|core| core.max_hz).max();
    let limit = limit.map_or(String::new(), |hz| format!(", {} at most", mhz(hz)));
    Some(Line::about("cores").plain(format!("{on} of {all} on{clock}{limit}")))
}

fn fan(now: &Readings) -> Option<Line> {
    let mut parts = Vec::new();
    parts.extend(now.fan.rpm.map(|rpm| format!("{rpm} rpm")));
    parts.extend(now.fan.pwm.map(|pwm| format!("{} %", u32::from(pwm) * 100 / 255)));
    parts.extend(now.power_mode.fan.as_deref().map(|profile| format!("profile {}", printable(profile))));
    (!parts.is_empty()).then(|| Line::about("fan").plain(parts.join(" · ")))
}

/// One line a program: who runs which model how fast, how much of its cache is used, what limits it.
fn programs(programs: &[Value]) -> Vec<Line> {
    if programs.is_empty() {
        return vec![Line::new().with(Style::Soft, "no jetson-llm runs a model")];
    }
    let head =
        format!("{:>7} {:<6} {:<18} {:<8} {:>8} {:>16}  {}", "PID", "", "MODEL", "", "TOK/S", "KV", "LIMIT");
    let mut lines = vec![Line::new().with(Style::Bold, head)];
    lines.extend(programs.iter().flat_map(program));
    lines
}

fn program(told: &Value) -> Vec<Line> {
    let word = |value: &Value, most: usize| {
        let text = printable(value.as_str().unwrap_or("?"));
        if text.chars().count() <= most {
            return text;
        }
        text.chars().take(most - 1).chain(['…']).collect()
    };
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let phase = told["phase"].as_str().unwrap_or("?");
    let rate = if phase == "prefill" { "prompt_tokens_per_second" } else { "tokens_per_second" };
    let kv = &told["kv"];
    let used = format!(
        "{}/{} {}",
        number(&kv["pages_used"]),
        number(&kv["pages_total"]),
        size(number(&kv["bytes_used"]))
    );
    let text = format!(
        "{:>7} {:<6} {:<18} {:<8} {:>8.1} {used:>16}  ",
        number(&told["pid"]),
        word(&told["command"], 6),
        word(&told["model"], 18),
        word(&told["phase"], 8),
        told[rate].as_f64().unwrap_or(0.0),
    );
    let line = Line::new().plain(text);
    let Some(reason) = told["limit"]["reason"].as_str() else { return vec![line.plain("none")] };
    let pace = told["limit"]["pace"].as_f64().unwrap_or(0.0);
    let style = if pace > 0.0 { Style::Warn } else { Style::Bad };
    let why = Line::new().with(style, format!("{:8}{}", "", printable(reason)));
    vec![line.with(style, format!("{:.0} %", pace * 100.0)), why]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use platform::{Readings, Root};
    use serde_json::json;
    use testkit::board::{JetPack, Model, Tree, board, pc};

    use super::super::Picture;
    use super::{Style, lines};

    fn picture(tree: &Tree) -> Picture {
        let readings = Readings::take(&Root::at(tree.path()).expect("a folder"));
        Picture { readings, before: None, programs: Vec::new(), gpu_watts: None }
    }

    fn text(picture: &Picture) -> Vec<String> {
        lines(picture).iter().map(|line| line.drawn(80, false)).collect()
    }

    #[test]
    fn a_board_is_one_small_window() {
        let told = json!({
            "pid": 4242, "command": "serve", "model": "Llama 3.2 3B Instruct Q4_K_M", "phase": "decode",
            "tokens_per_second": 23.4, "prompt_tokens_per_second": 0.0,
            "kv": {"pages_used": 12, "pages_total": 128, "bytes_used": 45_088_768, "bytes_total": 480_946_858},
            "limit": {"pace": 0.61, "reason": "84.2 °C: at 61 % of full speed"},
        });
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        let picture = Picture { programs: vec![told], ..picture(&tree) };
        assert_eq!(
            text(&picture),
            [
                "jetson-llm · JetPack 6.2.2 · NVIDIA Jetson Orin Nano Engineering Reference Devel",
                "",
                "memory      6.1 GiB available of 7.4 GiB  [####....................] 18 %",
                "  swap      120 KiB used of 3.7 GiB, zram takes 120 KiB",
                "  GPU       CMA 880 MiB free of 960 MiB · NvMap 90.0 MiB",
                "temperature cpu 47.1  gpu 48.8  soc0 46.0  soc1 45.3  soc2 45.8  tj 48.8 °C, slo",
                "power       5.0 W in all  VDD_IN 5.0  VDD_CPU_GPU_CV 1.0  VDD_SOC 1.5",
                "power mode  25W (mode 1)  the fastest is MAXN_SUPER",
                "GPU clock   306 of 918 MHz, busy 0 %",
                "EMC clock   665 of 3199 MHz",
                "cores       6 of 6 on, 729 MHz, 1344 at most",
                "fan         1636 rpm · 29 % · profile quiet",
                "",
                "    PID        MODEL                          TOK/S               KV  LIMIT",
                "   4242 serve  Llama 3.2 3B Inst… decode       23.4  12/128 43.0 MiB  61 %",
                "        84.2 °C: at 61 % of full speed",
            ]
        );
    }

    #[test]
    fn heat_swap_and_a_tight_group_stand_out() {
        let tree = board(Model::OrinNanoSuper, JetPack::Seven);
        tree.write("/sys/devices/virtual/thermal/thermal_zone1/temp", "88000\n");
        tree.write("/sys/devices/virtual/thermal/thermal_zone0/temp", "81000\n");
        tree.write("/proc/self/cgroup", "0::/robot\n");
        for (file, text) in
            [("max", "104857600\n"), ("current", "104000000\n"), ("stat", "inactive_file 0\n")]
        {
            tree.write(&format!("/sys/fs/cgroup/robot/memory.{file}"), text);
        }
        tree.write("/sys/class/hwmon/hwmon7/oc3_event_cnt", "2\n");
        let before = picture(&tree).readings;
        tree.write("/proc/vmstat", "pswpin 5120\n");
        let picture = Picture { before: Some((before, Duration::from_secs(2))), ..picture(&tree) };
        let all = lines(&picture);
        let found = |style: Style, what: &str| {
            all.iter().flat_map(|line| &line.0).any(|(is, text)| *is == style && text.contains(what))
        };
        assert!(found(Style::Bad, "gpu 88.0") && found(Style::Warn, "cpu 81.0"), "{all:?}");
        assert!(found(Style::Bad, "838 KiB left of 100 MiB (/robot)"), "{all:?}");
        assert!(found(Style::Bad, ", 2500 pages a second come back"), "{all:?}");
        assert!(found(Style::Warn, "over-current 2 times"), "{all:?}");
    }

    #[test]
    fn a_pc_shows_what_there_is() {
        let shown = text(&picture(&pc()));
        assert_eq!(
            shown,
            [
                "jetson-llm · no Jetson",
                "",
                "memory      22.9 GiB available of 31.2 GiB  [######..................] 27 %",
                "  swap      none",
                "temperature x86_pkg_temp 91.0 °C",
                "cores       1 of 1 on, 4700 at most",
                "",
                "no jetson-llm runs a model",
            ]
        );
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let told =
            json!({"pid": 1, "command": "r\u{1b}[2J", "model": "\u{1b}]0;x\u{7}", "phase": 5, "kv": 3});
        let picture = Picture { programs: vec![told], ..picture(&pc()) };
        assert!(text(&picture).iter().all(|line| !line.contains('\u{1b}') && !line.contains('\u{7}')));
    }
}
