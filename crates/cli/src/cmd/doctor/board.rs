//! Checks of what only a Jetson has: firmware, power modes, clocks, temperatures, rails.

use platform::Readings;
use platform::governor::thermal::Settings;
use platform::warnings::{Warning, warnings};

use super::check::Check;

/// Jetson Linux of the first JetPack whose driver runs this program's kernels.
const OLDEST_L4T: u32 = 36;

/// Which board, and what runs on it.
pub(crate) fn board(now: &Readings) -> Check {
    let name = now.board.model.as_deref();
    if now.board.is_jetson() {
        Check::ok("board", name.unwrap_or("a Jetson that does not say which"))
    } else {
        Check::skip("board", name.map_or("no Jetson".to_owned(), |name| format!("no Jetson: {name}")))
    }
}

/// A check and its name.
type Named = (&'static str, fn(&Readings, &[Warning]) -> Check);

/// The checks that make sense on a Jetson only.
const ON_JETSON: [Named; 9] = [
    ("release", release),
    ("power mode", power_mode),
    ("super mode", super_mode),
    ("gpu clock", gpu_clock),
    ("memory clock", memory_clock),
    ("cores", cores),
    ("temperature", temperature),
    ("power", power),
    ("over-current", over_current),
];

/// All of them, or one line each that says why not.
pub(crate) fn checks(now: &Readings) -> Vec<Check> {
    if !now.board.is_jetson() {
        return ON_JETSON.iter().map(|(name, _)| Check::skip(name, "does not apply: no Jetson")).collect();
    }
    let found = warnings(now, None);
    ON_JETSON.iter().map(|(_, check)| check(now, &found)).collect()
}

/// A warning as a line.
fn said(name: &'static str, warning: &Warning) -> Check {
    Check::warn(name, warning.to_string(), warning.remedy())
}

fn release(now: &Readings, found: &[Warning]) -> Check {
    let name = "release";
    let Some(l4t) = &now.board.l4t else {
        return Check::warn(
            name,
            "unknown: /etc/nv_tegra_release is missing",
            "in a container, mount it: -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro",
        );
    };
    if let Some(warning) = found.iter().find(|warning| matches!(warning, Warning::RefusesMemory { .. })) {
        return said(name, warning);
    }
    let jetpack = l4t.jetpack().map_or(String::new(), |jetpack| format!("JetPack {jetpack}, "));
    let text = format!("{jetpack}Jetson Linux {l4t}");
    if l4t.release < OLDEST_L4T {
        let why = format!("{text}: its driver is older than CUDA 12.2, so the GPU cannot be used");
        return Check::fail(name, why, "flash JetPack 6.2 or newer");
    }
    Check::ok(name, text)
}

fn power_mode(now: &Readings, found: &[Warning]) -> Check {
    let name = "power mode";
    if let Some(warning) = found.iter().find(|warning| matches!(warning, Warning::SlowMode { .. })) {
        return said(name, warning);
    }
    match (now.power_mode.current(), now.power_mode.id) {
        (Some(mode), _) => Check::ok(name, format!("{} (mode {}), the fastest there is", mode.name, mode.id)),
        (None, Some(id)) => {
            Check::warn(name, format!("mode {id} is not in /etc/nvpmodel.conf"), "sudo nvpmodel -q")
        }
        (None, None) => Check::warn(
            name,
            "unknown: /var/lib/nvpmodel/status is missing",
            "sudo systemctl start nvpmodel; in a container, mount /var/lib/nvpmodel and /etc/nvpmodel.conf",
        ),
    }
}

fn super_mode(now: &Readings, found: &[Warning]) -> Check {
    let name = "super mode";
    if let Some(warning) = found.iter().find(|warning| matches!(warning, Warning::NoSuper { .. })) {
        return said(name, warning);
    }
    if now.board.is_super() {
        Check::ok(name, "the firmware has it")
    } else {
        Check::skip(name, "does not apply to this module")
    }
}

fn gpu_clock(now: &Readings, found: &[Warning]) -> Check {
    let name = "gpu clock";
    if let Some(warning) = found.iter().find(|warning| matches!(warning, Warning::GpuClock { .. })) {
        return said(name, warning);
    }
    let gpu = &now.gpu;
    let (Some(hz), Some(least), Some(most)) = (gpu.hz, gpu.min_hz, gpu.max_hz) else {
        return Check::warn(name, "unknown: /sys/class/devfreq has no GPU", "in a container, mount /sys");
    };
    let mode = if now.mode_gpu_hz().is_some() { ", the mode's maximum" } else { "" };
    if least < most {
        let text = format!("{} MHz now, up to {} MHz{mode}", mhz(hz), mhz(most));
        Check::ok(name, text).or("sudo jetson_clocks holds it there: faster first tokens")
    } else {
        Check::ok(name, format!("held at {} MHz{mode}", mhz(most)))
    }
}

fn memory_clock(now: &Readings, _: &[Warning]) -> Check {
    let name = "memory clock";
    let (Some(hz), Some(hardware)) = (now.emc.hz, now.emc.hardware_hz) else {
        return Check::skip(name, "only root may read it: sudo jetson-llm doctor");
    };
    let mode = now.power_mode.current().and_then(|mode| mode.emc_hz).unwrap_or(hardware);
    match now.emc.cap_hz {
        Some(cap) if cap < mode.min(hardware) => {
            let id = now.power_mode.id.unwrap_or(0);
            let text = format!("capped at {} MHz; the mode allows {} MHz", mhz(cap), mhz(mode));
            Check::warn(name, text, format!("sudo nvpmodel -m {id} && sudo jetson_clocks"))
        }
        _ => Check::ok(name, format!("{} MHz now, up to {} MHz", mhz(hz), mhz(mode.min(hardware)))),
    }
}

fn cores(now: &Readings, _: &[Warning]) -> Check {
    let name = "cores";
    let (all, off) = (now.cores.len(), now.cores.iter().filter(|core| !core.online).count());
    let most = now.cores.iter().filter_map(|core| core.max_hz).max();
    let clock = most.map_or(String::new(), |hz| format!(", up to {} MHz", mhz(hz)));
    let asked = now.power_mode.current().map(|mode| mode.cores_off as usize);
    match asked {
        Some(asked) if off > asked => Check::warn(
            name,
            format!("{off} of {all} are off; the mode switches {asked} off"),
            "sudo reboot: a mode with another number of cores needs one",
        ),
        _ if off > 0 => {
            Check::ok(name, format!("{} of {all}{clock}; the mode switches {off} off", all - off))
        }
        _ => Check::ok(name, format!("{all}{clock}")),
    }
}

fn temperature(now: &Readings, _: &[Warning]) -> Check {
    /// Closer than this to where models are slowed, °C, an idle board is badly cooled.
    const HEADROOM: f32 = 15.0;
    let name = "temperature";
    let Some((zone, celsius)) = now.hottest() else {
        return Check::warn(name, "no sensor answers", "in a container, mount /sys");
    };
    let limits = Settings::for_board(now.throttle());
    let fan = match (now.fan.rpm, now.fan.pwm) {
        (Some(rpm), _) => format!("; fan at {rpm} rpm"),
        (None, Some(pwm)) => format!("; fan at {} %", u32::from(pwm) * 100 / 255),
        (None, None) => String::new(),
    };
    let text = format!("{celsius:.0} °C ({zone}); slower from {:.0} °C{fan}", limits.backoff);
    let fix = "sudo jetson_clocks --fan, or better cooling";
    if celsius >= limits.hard {
        Check::fail(name, text, fix)
    } else if celsius > limits.backoff - HEADROOM {
        Check::warn(name, text, fix)
    } else {
        Check::ok(name, text)
    }
}

fn power(now: &Readings, _: &[Warning]) -> Check {
    let name = "power";
    let Some(watts) = now.watts() else {
        return Check::warn(
            name,
            "no monitor answers: no power budget can be kept",
            "in a container, mount /sys",
        );
    };
    let rail = |rail: &platform::rails::Rail| {
        Some(format!("{} {:.1} W", rail.name, rail.milliwatts? as f32 / 1000.0))
    };
    let rails: Vec<String> = now.rails.iter().filter_map(rail).collect();
    Check::ok(name, format!("{watts:.1} W ({})", rails.join(", ")))
}

fn over_current(now: &Readings, found: &[Warning]) -> Check {
    let name = "over-current";
    let mut events = found.iter().filter(|warning| matches!(warning, Warning::OverCurrent { .. }));
    if let Some(first) = events.next() {
        let all = events.fold(first.to_string(), |all, event| format!("{all}, {event}"));
        return Check::warn(name, format!("{all} since start"), first.remedy());
    }
    if now.over_current.is_empty() {
        Check::skip(name, "the kernel does not count")
    } else {
        Check::ok(name, "never since start")
    }
}

fn mhz(hz: u64) -> u64 {
    hz / 1_000_000
}
