//! Power, from the emulated board's sensor; and the machines that have none.

use cuda::nvml::Nvml;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Set for the process that a test starts of itself: the emulator reads the environment.
const CHILD: &str = "NVML_TEST_CHILD";

/// Runs a test of this file in a process with these variables.
fn with(test: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let output =
        command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").envs(variables.iter().copied());
    let output = output.output().expect("it starts");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn sensor(index: usize) -> Option<Nvml> {
    let library = cuda::lab::emulated_library()?;
    Nvml::open_at(&library, &library, index)
}

#[test]
fn power_and_energy_agree() {
    if cuda::lab::emulated_library().is_none() {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        with("power_and_energy_agree", &[("EMULATED_POWER", "15250")]);
        return;
    }
    let nvml = sensor(0).expect("the board has a sensor");
    assert_eq!(nvml.power_watts(), Some(15.25));
    let (start, before) = (Instant::now(), nvml.energy_joules().expect("it counts"));
    std::thread::sleep(Duration::from_millis(200));
    let joules = nvml.energy_joules().expect("it counts") - before;
    let expected = 15.25 * start.elapsed().as_secs_f64();
    assert!((joules - expected).abs() < 0.1 * expected, "{joules} of {expected}");
    assert!(sensor(1).is_none(), "there is one board, and it is on bus 0");
    // Opened twice, shut down once: the first goes on.
    drop(sensor(0).expect("again"));
    assert_eq!(nvml.power_watts(), Some(15.25));
}

#[test]
fn a_gpu_that_does_not_count_energy_has_power() {
    if cuda::lab::emulated_library().is_none() {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        let variables = [("EMULATED_POWER", "7000"), ("EMULATED_ENERGY", "0")];
        with("a_gpu_that_does_not_count_energy_has_power", &variables);
        return;
    }
    let nvml = sensor(0).expect("the board has a sensor");
    assert_eq!((nvml.power_watts(), nvml.energy_joules()), (Some(7.0), None));
}

#[test]
fn without_a_sensor_there_is_none() {
    let nowhere = Path::new("/nowhere/libnvidia-ml.so.1");
    assert!(Nvml::open_at(nowhere, nowhere, 0).is_none());
    // A library that is no NVML: this very program cannot be opened, libc has none of the functions.
    assert!(Nvml::open_at(Path::new("libc.so.6"), nowhere, 0).is_none());
    if std::env::var_os("EMULATED_POWER").is_none() {
        assert!(sensor(0).is_none(), "a board that says that it cannot tell");
    }
}
