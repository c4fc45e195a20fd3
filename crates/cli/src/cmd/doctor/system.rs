//! Checks of what every machine has: the program, memory, the CUDA driver, disks.

use std::fmt::Write;
use std::path::Path;

use cuda::driver::{self, Driver};
use platform::warnings::thrash;
use platform::{Readings, disk, groups};

use super::check::Check;
use crate::screen::size;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The program and the GPU code inside, which only a machine with a GPU misses.
pub(crate) fn program(has_gpu: bool) -> Check {
    let name = "program";
    let version = env!("CARGO_PKG_VERSION");
    let archs: Vec<String> = driver::archs().iter().map(|arch| format!("sm_{arch}")).collect();
    match driver::compiler().filter(|_| !archs.is_empty()) {
        Some(compiler) => {
            Check::ok(name, format!("{version}, GPU kernels for {} by {compiler}", archs.join(", ")))
        }
        None if has_gpu => Check::warn(
            name,
            format!("{version}, built without GPU kernels"),
            "build it with NVRTC_LIB naming a libnvrtc.so.12, or take a release",
        ),
        None => Check::ok(name, format!("{version}, built for cores only")),
    }
}

/// Memory that is free for a model.
pub(crate) fn memory(now: &Readings) -> Check {
    let name = "memory";
    let memory = &now.memory;
    let (Some(total), Some(available)) = (memory.total, memory.available) else {
        return Check::warn(name, "unknown: /proc/meminfo is missing", "mount /proc");
    };
    let mut text = format!("{} of {} available", size(available), size(total));
    if let (Some(free), Some(all)) = (memory.cma_free, memory.cma_total.filter(|&all| all > 0)) {
        let _ = write!(text, "; CMA {} of {} free", size(free), size(all));
    }
    if let Some(held) = now.nvmap.total.filter(|&held| held > 0) {
        let _ = write!(text, "; GPU memory in use {}", size(held));
    }
    let desktop = now.board.desktop == Some(true);
    let fix = match now.nvmap.clients.iter().max_by_key(|client| client.bytes) {
        Some(most) if most.bytes > GIB => {
            format!("kill {}: {} holds {}", most.pid, most.name, size(most.bytes))
        }
        _ if desktop => "sudo systemctl set-default multi-user.target && sudo reboot".to_owned(),
        _ => "end other programs; ps aux --sort=-rss | head lists the largest".to_owned(),
    };
    if available < 512 * MIB {
        Check::fail(name, text, fix)
    } else if available < total / 3 {
        Check::warn(name, text, fix)
    } else {
        Check::ok(name, text)
    }
}

/// The desktop, which a board with little memory can do without.
pub(crate) fn desktop(now: &Readings) -> Check {
    let name = "desktop";
    match now.board.desktop {
        _ if !now.board.is_jetson() => Check::skip(name, "does not apply: no Jetson"),
        Some(true) if now.memory.total.is_some_and(|total| total < 12 * GIB) => Check::warn(
            name,
            "it starts with the board and holds 200 to 900 MB",
            "sudo systemctl set-default multi-user.target && sudo reboot",
        ),
        Some(true) => Check::ok(name, "it starts with the board; there is memory for it"),
        Some(false) => Check::ok(name, "none: its memory is free for models"),
        None => Check::skip(name, "the machine does not say"),
    }
}

/// Swap, zram and whether they are at work.
pub(crate) fn swap(now: &Readings, before: Option<(&Readings, u64)>) -> Check {
    let name = "swap";
    if let Some(warning) = thrash(now, before) {
        return Check::fail(name, warning.to_string(), warning.remedy());
    }
    let memory = &now.memory;
    let Some(total) = memory.swap_total.filter(|&total| total > 0) else {
        return Check::ok(name, "none");
    };
    let used = total.saturating_sub(memory.swap_free.unwrap_or(total));
    let mut text = format!("{} of {} used", size(used), size(total));
    if let (Some(capacity), Some(held)) = (memory.zram_capacity, memory.zram_used) {
        let _ = write!(text, "; zram {} holds {} of memory", size(capacity), size(held));
    }
    // What zram holds is memory that a model cannot have.
    if memory.zram_used.zip(memory.total).is_some_and(|(held, total)| held > total / 16) {
        let fix = "sudo systemctl disable --now nvzramconfig, with a swap file on the disk instead";
        Check::warn(name, text, fix)
    } else if used > total / 2 {
        Check::warn(name, text, "end other programs, or use a smaller model")
    } else {
        Check::ok(name, text)
    }
}

/// Limits of control groups: going over one ends the program.
pub(crate) fn limits(now: &Readings) -> Check {
    let name = "limits";
    let limited = now.groups.iter().filter(|group| group.limit.is_some());
    let Some(tightest) = limited.min_by_key(|group| group.left()) else {
        return Check::ok(name, "no control group limits memory");
    };
    let left = groups::left(&now.groups).unwrap_or(0);
    let text = format!("{} of {} left in {}", size(left), size(tightest.limit.unwrap_or(0)), tightest.folder);
    let fix = "raise it: docker run --memory, or MemoryMax= of the systemd unit";
    if left < 256 * MIB {
        Check::fail(name, text, fix)
    } else if left < GIB {
        Check::warn(name, text, fix)
    } else {
        Check::ok(name, text)
    }
}

/// The CUDA driver and the GPUs it finds.
pub(crate) fn cuda(now: &Readings, library: Option<&Path>) -> Check {
    let name = "cuda";
    match opened(library) {
        Ok(found) => Check::ok(name, found),
        Err(error) => {
            let absent = matches!(error, driver::Error::NoDriver { .. } | driver::Error::NoDevice { .. });
            if absent && library.is_none() && !now.board.is_jetson() {
                return Check::skip(name, "no NVIDIA GPU: models run on the cores");
            }
            // Messages of the driver end with the remedy.
            let text = error.to_string();
            let (cause, remedy) = text.split_once("; ").unwrap_or((&text, "reinstall the NVIDIA driver"));
            Check::fail(name, cause, remedy)
        }
    }
}

fn opened(library: Option<&Path>) -> Result<String, driver::Error> {
    let driver = Driver::open(library)?;
    let (major, minor) = driver.version();
    let mut found = Vec::new();
    for device in driver.devices()? {
        driver::cubins_for(&device)?;
        let (cc_major, cc_minor) = device.capability;
        found.push(format!("{} (sm_{cc_major}{cc_minor}, {} SMs)", device.name, device.sms));
    }
    Ok(format!("driver of CUDA {major}.{minor}: {}", found.join(", ")))
}

/// Room for models.
pub(crate) fn room(folder: &Path) -> Check {
    let name = "disk";
    let here = folder == Path::new(".");
    let shown = if here { "the current folder".to_owned() } else { folder.display().to_string() };
    match disk::free(folder) {
        None => Check::skip(name, format!("{shown} cannot be asked")),
        Some(free) if free < GIB => {
            Check::warn(name, format!("{} free in {shown}", size(free)), "remove what is not needed")
        }
        Some(free) => Check::ok(name, format!("{} free in {shown}", size(free))),
    }
}
