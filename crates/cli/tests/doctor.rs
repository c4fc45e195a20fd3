//! `doctor` on fake boards and on whatever machine runs the tests.

mod common;

use common::{Ran, run};
use serde_json::Value;
use testkit::board::{JetPack, Model, Tree, board, pc};

fn doctor(tree: &Tree, more: &[&str]) -> Ran {
    let folder = tree.path().to_str().expect("temporary paths are UTF-8");
    let mut args = vec!["doctor", "--sysroot", folder];
    args.extend(more);
    run(&args)
}

/// Status and words of a check.
fn check<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().expect("a list");
    let found = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    (found["status"].as_str().expect("a status"), found["found"].as_str().expect("words"))
}

fn fix(report: &Value, name: &str) -> String {
    let checks = report["checks"].as_array().expect("a list");
    let found = checks.iter().find(|check| check["name"] == name).expect("there");
    found["fix"].as_str().unwrap_or_default().to_owned()
}

fn report(tree: &Tree) -> Value {
    doctor(tree, &["--json"]).json()
}

#[test]
fn a_super_board_in_its_fastest_mode_has_nothing_to_mend() {
    for jetpack in [JetPack::Six, JetPack::Seven] {
        let tree = board(Model::OrinNanoSuper, jetpack);
        tree.write("/var/lib/nvpmodel/status", "pmode:0002 fmode:fan_mode_cool\n");
        tree.write("/sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n");
        tree.write("/sys/class/devfreq/17000000.gpu/min_freq", "1020000000\n");
        let report = report(&tree);
        for check in report["checks"].as_array().expect("a list") {
            // Whether this build holds kernels is not the board's doing.
            let good = check["status"] == "ok" || check["name"] == "program";
            let elsewhere = ["cuda", "disk"].iter().any(|name| check["name"] == *name);
            assert!(good || elsewhere && check["status"] == "skip", "{check}");
        }
        assert_eq!(report["jetson"], true);
        let jetpack = if jetpack == JetPack::Six { "6.2.2" } else { "7.2" };
        assert_eq!(report["jetpack"], jetpack);
        assert_eq!(check(&report, "power mode").1, "MAXN_SUPER (mode 2), the fastest there is");
        assert_eq!(check(&report, "gpu clock").1, "held at 1020 MHz, the mode's maximum");
        assert_eq!(check(&report, "power").1, "5.0 W (VDD_IN 5.0 W, VDD_CPU_GPU_CV 1.0 W, VDD_SOC 1.5 W)");
        assert_eq!(report["readings"]["gpu"]["hz"], 306_000_000);
    }
}

#[test]
fn every_fault_is_a_warning_with_its_command() {
    let tree = board(Model::OrinNanoSuper, JetPack::Six);
    tree.write("/sys/class/devfreq/17000000.gpu/max_freq", "624750000\n");
    tree.write("/sys/class/hwmon/hwmon7/oc1_event_cnt", "2\n");
    tree.write("/sys/class/hwmon/hwmon7/oc3_event_cnt", "1\n");
    tree.write("/sys/devices/system/cpu/cpu5/online", "0\n");
    tree.write("/sys/kernel/nvpmodel_emc_cap/emc_iso_cap", "2133000000\n");
    tree.write("/sys/devices/virtual/thermal/thermal_zone8/temp", "71000\n");
    tree.write("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic\n");
    tree.write("/sys/block/zram0/mm_stat", "0 0 900000000 0 0 0 0 0 0\n");
    tree.remove("/etc/systemd/system/default.target");
    tree.link("/etc/systemd/system/default.target", "/lib/systemd/system/graphical.target");
    let report = report(&tree);
    assert_eq!(report["status"], "warn");
    let expected = [
        ("release", "Jetson Linux 36.4.7 refuses GPU memory", "dist-upgrade"),
        ("power mode", "mode 25W is on; MAXN_SUPER is faster", "sudo nvpmodel -m 2"),
        ("gpu clock", "the GPU stops at 624 MHz; mode 25W allows 918 MHz", "sudo nvpmodel -m 1"),
        ("memory clock", "capped at 2133 MHz; the mode allows 3199 MHz", "sudo jetson_clocks"),
        ("cores", "1 of 6 are off; the mode switches 0 off", "sudo reboot"),
        ("temperature", "71 °C (tj-thermal); slower from 80 °C; fan at 1636 rpm", "jetson_clocks --fan"),
        (
            "over-current",
            "under-voltage cut the clocks 2 times, peak current cut the clocks 1 time",
            "supply",
        ),
        ("swap", "zram 3.7 GiB holds 858 MiB of memory", "nvzramconfig"),
        ("desktop", "holds 200 to 900 MB", "sudo systemctl set-default multi-user.target"),
    ];
    for (name, words, command) in expected {
        let (status, found) = check(&report, name);
        assert_eq!(status, "warn", "{name}: {found}");
        assert!(found.contains(words), "{name}: {found}");
        assert!(fix(&report, name).contains(command), "{name}: {}", fix(&report, name));
    }
    let text = doctor(&tree, &[]).ok();
    assert!(text.contains("\nWARN  power mode    mode 25W is on; MAXN_SUPER is faster\n"), "{text}");
    assert!(text.contains("\n                    fix: sudo nvpmodel -m 2\n"), "{text}");
}

#[test]
fn a_failure_is_exit_code_1_and_the_report_is_still_whole() {
    let tree = board(Model::OrinNx16, JetPack::Five);
    tree.write("/sys/devices/virtual/thermal/thermal_zone1/temp", "93500\n");
    tree.write("/sys/fs/cgroup/user.slice/memory.max", "1073741824\n");
    tree.write("/sys/fs/cgroup/user.slice/memory.current", "1000000000\n");
    tree.write("/proc/pressure/memory", "full avg10=60.00 avg60=9.00 avg300=1.00 total=5\n");
    let ran = doctor(&tree, &["--json"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "error: 4 checks failed; their lines say what to do\n");
    let report: Value = serde_json::from_str(&ran.out).expect("still JSON");
    assert_eq!(report["status"], "fail");
    for (name, words) in [
        ("release", "older than CUDA 12.2"),
        ("temperature", "94 °C (gpu-thermal)"),
        ("limits", "70.3 MiB of 1.0 GiB left in /sys/fs/cgroup/user.slice"),
        ("swap", "waited for memory 60 %"),
    ] {
        let (status, found) = check(&report, name);
        assert!(status == "fail" && found.contains(words), "{name}: {status} {found}");
    }
}

#[test]
fn a_board_without_super_firmware_is_told_so() {
    let report = report(&board(Model::OrinNano, JetPack::Six));
    let (status, found) = check(&report, "super mode");
    assert_eq!((status, found), ("warn", "no Super firmware: the GPU ends at 624 MHz of 1020"));
    assert_eq!(check(&report, "power mode").0, "ok");
}

#[test]
fn a_container_that_shows_nothing_is_warned_of() {
    let tree = Tree::new();
    tree.write("/proc/device-tree/compatible", "nvidia,p3767-0000\0nvidia,tegra234\0");
    tree.write("/proc/meminfo", "MemTotal: 400000 kB\nMemAvailable: 300000 kB\n");
    let ran = doctor(&tree, &["--json"]);
    assert_eq!(ran.code, Some(1));
    let report: Value = serde_json::from_str(&ran.out).expect("still JSON");
    for name in ["release", "power mode", "gpu clock", "temperature", "power"] {
        assert_eq!(check(&report, name).0, "warn", "{name}");
    }
    assert_eq!(check(&report, "memory"), ("fail", "293 MiB of 391 MiB available"));
}

#[test]
fn a_pc_is_told_what_does_not_apply() {
    let report = report(&pc());
    assert_eq!(report["jetson"], false);
    for name in ["release", "power mode", "super mode", "gpu clock", "temperature", "power", "over-current"] {
        assert_eq!(check(&report, name), ("skip", "does not apply: no Jetson"));
    }
    assert_eq!(check(&report, "swap"), ("ok", "none"));
    assert_eq!(check(&report, "memory").0, "ok");
}

#[test]
fn this_machine_can_be_asked() {
    let report = run(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&report.out).expect("JSON, whatever the machine");
    assert!(report["readings"]["memory"]["total"].as_u64().is_some_and(|bytes| bytes > 1 << 28));
    let text = run(&["doctor"]).out;
    assert!(text.starts_with("OK    program") || text.starts_with("WARN  program"), "{text}");
    assert_eq!(check(&self::report(&pc()), "program").0, "ok");
}

#[test]
fn what_a_board_says_of_itself_cannot_move_the_cursor() {
    let tree = board(Model::AgxOrin, JetPack::Six);
    tree.write("/proc/device-tree/model", "Jetson \u{1b}[2J\u{9b}x\0");
    let text = doctor(&tree, &[]).ok();
    assert!(text.contains("Jetson \\u{1b}[2J\\u{9b}x"), "{text}");
    let refused = run(&["doctor", "--sysroot", "/no/such/folder"]).refused();
    assert!(refused.contains("/no/such/folder is no folder"), "{refused}");
}

#[test]
fn a_driver_that_is_none_is_a_failure_with_a_remedy() {
    let tree = board(Model::AgxOrin, JetPack::Six);
    let ran = doctor(&tree, &["--cuda-library", "/no/such/libcuda.so", "--json"]);
    assert_eq!(ran.code, Some(1));
    let report: Value = serde_json::from_str(&ran.out).expect("still JSON");
    let (status, found) = check(&report, "cuda");
    assert!(status == "fail" && found.contains("/no/such/libcuda.so"), "{found}");
    assert!(fix(&report, "cuda").starts_with("install the NVIDIA driver"), "{}", fix(&report, "cuda"));
}
