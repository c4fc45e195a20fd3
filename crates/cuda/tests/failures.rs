//! What users are told when there is no driver, an old one, no device, foreign cubins, no memory, or when
//! the device is lost. On the emulator, which plays these parts by environment variables; each in a process
//! of its own.
#![allow(unsafe_code, reason = "argument structures are promises about kernels")]

use std::path::Path;
use std::process::Command;

use cuda::driver::{Args, Block, Context, Driver, Error, Kernels, Launch, Stream};
use cuda::lab::emulated_library;

/// Set in the child: it plays the scene of this name instead of testing.
const SCENE: &str = "CUDA_TEST_SCENE";

/// What a scene prints when run with these variables; `None` without an emulator.
fn play(scene: &str, variables: &[(&str, &str)]) -> Option<String> {
    emulated_library()?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "scene", "--nocapture"]).env(SCENE, scene).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(told.into_owned())
}

/// `LabCount` of `kernels/lab.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Count {
    out: u64,
    length: u32,
    add: u32,
}
// SAFETY: the kernel's structure. One scene breaks the promise on purpose, within the emulator's red zone.
unsafe impl Args for Count {}

/// Not a test of its own: the child's part.
#[test]
fn scene() {
    let Ok(scene) = std::env::var(SCENE) else { return };
    let Err(error) = act(&scene) else { return eprintln!("told: nothing") };
    eprintln!("told: {error} [lost: {}]", error.is_lost());
}

fn act(scene: &str) -> Result<(), Error> {
    let library = emulated_library().expect("the parent found it");
    let driver = Driver::open(Some(&library))?;
    let devices = driver.devices()?;
    let context = Context::new(&devices[0])?;
    let kernels = Kernels::load(&context)?;
    let stream = Stream::new(&context)?;
    match scene {
        "open" => Ok(()),
        "allocate" => {
            let kept = Block::new(&context, 1 << 20)?;
            let more = Block::new(&context, 3 << 20);
            drop(kept);
            Block::new(&context, 1 << 20)?;
            more.map(drop)
        }
        "overrun" => {
            let block = Block::new(&context, 32 * 4)?;
            let args = Count { out: block.address(), length: 33, add: 1 };
            let launch = Launch { grid: [1, 1, 1], threads: 64, shared_bytes: 0, overlap: false };
            stream.launch(&kernels.function("lab_count")?, launch, &args)
        }
        "lose" => {
            let block = Block::new(&context, 64 * 4)?;
            let args = Count { out: block.address(), length: 64, add: 1 };
            let launch = Launch { grid: [1, 1, 1], threads: 64, shared_bytes: 0, overlap: true };
            let count = kernels.function("lab_count")?;
            stream.launch(&count, launch, &args)?;
            let failed = stream.launch(&count, launch, &args).expect_err("set to fail");
            assert!(failed.is_lost(), "{failed}");
            stream.synchronize()
        }
        other => panic!("no scene is called {other}"),
    }
}

#[test]
fn no_driver() {
    let error = Driver::open(Some(Path::new("/nowhere/libcuda.so.1"))).err().unwrap().to_string();
    assert!(error.starts_with("no CUDA driver: /nowhere/libcuda.so.1 cannot be opened"), "{error}");
    assert!(
        error.contains("No such file") && error.contains("`--device cpu`") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn a_library_that_is_no_driver() {
    let Some(library) = ["libm.so.6", "libc.so.6"]
        .iter()
        .map(Path::new)
        .find(|p| !matches!(Driver::open(Some(p)), Err(Error::NoDriver { .. })))
    else {
        return eprintln!("skipped: no C library to mistake for a driver");
    };
    let error = Driver::open(Some(library)).err().unwrap().to_string();
    assert!(error.contains("lacks the function cuDriverGetVersion"), "{error}");
}

#[test]
fn everything_in_order() {
    let Some(told) = play("open", &[]) else { return };
    assert!(told.contains("told: nothing"), "{told}");
}

#[test]
fn an_old_driver() {
    let Some(told) = play("open", &[("EMULATED_DRIVER", "11040")]) else { return };
    assert!(told.contains("is of version 11.4, at least 12.2 is needed: update to JetPack 6"), "{told}");
    let told = play("open", &[("EMULATED_DRIVER", "12020")]).unwrap();
    assert!(told.contains("told: nothing"), "{told}");
}

#[test]
fn no_device() {
    let Some(told) = play("open", &[("EMULATED_DEVICES", "0")]) else { return };
    assert!(told.contains("told: the CUDA driver finds no GPU (cuInit: no CUDA-capable device"), "{told}");
}

#[test]
fn a_device_without_code() {
    let Some(told) = play("open", &[("EMULATED_CAPABILITY", "7.2")]) else { return };
    assert!(told.contains("no kernels for emulated board (compute capability 7.2)"), "{told}");
    assert!(told.contains("this program contains sm_87 and sm_90"), "{told}");
}

#[test]
fn cubins_of_another_abi() {
    for code in ["200", "209", "222"] {
        let Some(told) = play("open", &[("EMULATED_REFUSE", code)]) else { return };
        assert!(told.contains("refuses the kernels of emulated (sm_87"), "{told}");
        assert!(told.contains("CUDA_ERROR_") && told.contains("build with NVRTC"), "{told}");
    }
}

#[test]
fn no_memory() {
    let whole = [("EMULATED_MEMORY", "3145728")];
    let Some(told) = play("allocate", &whole) else { return };
    assert!(told.contains("no room for 3145728 bytes in one piece (2097152 of 3145728 bytes"), "{told}");
    // Enough is free, yet the driver gives no such piece.
    let told = play("allocate", &[("EMULATED_FAIL_ALLOC_OVER", "2000000")]).unwrap();
    assert!(told.contains("no room for 3145728 bytes in one piece (8588886016 of 8589934592"), "{told}");
    let told = play("allocate", &[]).unwrap();
    assert!(told.contains("told: nothing"), "{told}");
}

#[test]
fn a_kernel_that_writes_beyond_its_block() {
    let Some(told) = play("overrun", &[]) else { return };
    assert!(told.contains("written behind a block of 128 bytes"), "{told}");
    assert!(told.contains("cuLaunchKernel failed: CUDA_ERROR_ILLEGAL_ADDRESS (700)"), "{told}");
    assert!(told.contains("[lost: true]"), "{told}");
}

#[test]
fn a_lost_device_stays_lost() {
    let Some(told) = play("lose", &[("EMULATED_LOSE_AFTER", "1")]) else { return };
    assert!(told.contains("told: cuStreamSynchronize failed: CUDA_ERROR_LAUNCH_FAILED (719)"), "{told}");
    assert!(told.contains("[lost: true]"), "{told}");
}
