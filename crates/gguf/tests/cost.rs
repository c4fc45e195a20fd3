//! What opening may cost: less than a second and the file's size plus 64 MiB, whatever the file. One
//! test in a process of its own, because it reads the process's peak memory.

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{ARRAY, Folder, Raw, STRING, array, string};
use gguf::{Gguf, StringList, Writer};

const MIB: u64 = 1 << 20;

/// Peak resident memory in bytes, since the last [`reset_peak`].
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("status has a peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB");
    kib << 10
}

/// Lowers the recorded peak to what is resident now; `false` where the system does not allow it.
fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Time this thread has run, in seconds: waiting for other programs' turns does not count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has /proc");
    let ns: f64 = stat.split_whitespace().next().and_then(|n| n.parse().ok()).expect("nanoseconds");
    ns / 1e9
}

/// A file of `len` bytes with `parts` at their offsets and zeros, which take no room, elsewhere.
fn sparse(folder: &Folder, name: &str, len: u64, parts: &[(u64, &[u8])]) -> PathBuf {
    let path = folder.path().join(name);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(len).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, *at).unwrap();
    }
    path
}

/// Opens the file and checks what that cost; returns whether it opened.
fn measure(path: &Path) -> bool {
    let size = path.metadata().unwrap().len();
    let may_compare = reset_peak();
    let (before, start) = (peak(), cpu_seconds());
    let opened = Gguf::open(path);
    let (seconds, memory) = (cpu_seconds() - start, peak() - before);
    let said = opened.as_ref().map_or_else(ToString::to_string, |file| {
        format!("{} keys, {} tensors", file.keys().len(), file.tensors().len())
    });
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    eprintln!("{seconds:.3} s, {:.1} MiB for {:.1} MiB: {said}", mib(memory), mib(size));
    assert!(seconds < 1.0, "{} took {seconds} s", path.display());
    assert!(!may_compare || memory < size + 64 * MIB, "{} took {memory} bytes", path.display());
    opened.is_ok()
}

fn vocabulary() -> Vec<u8> {
    let tokens: StringList = (0..262_144).map(|i| format!("token{i}")).collect();
    let merges: StringList = (0..500_000).map(|i| format!("le{i} ri{}", i % 977)).collect();
    let mut writer = Writer::new();
    writer.set("tokenizer.ggml.tokens", tokens).unwrap();
    writer.set("tokenizer.ggml.merges", merges).unwrap();
    writer.set("tokenizer.ggml.scores", vec![0f32; 262_144]).unwrap();
    writer.set("tokenizer.ggml.token_type", vec![1i32; 262_144]).unwrap();
    writer.start(Vec::new()).unwrap().finish().unwrap()
}

#[test]
fn opening_costs_at_most_the_file() {
    let folder = Folder::new("cost");
    let key = |kind: u32, value: &[u8]| Raw::new().key("k", kind, value).bytes();

    let path = folder.file("vocabulary.gguf", &vocabulary());
    let start = cpu_seconds();
    assert!(measure(&path));
    let seconds = cpu_seconds() - start;
    assert!(seconds < 0.3, "262144 tokens and 500000 merges opened in {seconds} s");
    std::fs::remove_file(path).unwrap();

    // Arrays of zeros that fill the largest header there may be.
    for (name, kind, each) in [("u8s", 0, 1), ("bools", 7, 1), ("u64s", 10, 8), ("strings", STRING, 8)] {
        let head = key(ARRAY, &array(kind, 255 * MIB / each));
        let path = sparse(&folder, name, head.len() as u64 + 255 * MIB, &[(0, &head)]);
        assert!(measure(&path), "{name}");
        std::fs::remove_file(path).unwrap();
    }
    // A million of the strings, then one that claims more than there is: all was read for nothing.
    let head = key(ARRAY, &array(STRING, 20 * MIB));
    let last = head.len() as u64 + 160 * MIB - 8;
    let path = sparse(&folder, "lie", last + 8, &[(0, &head), (last, &u64::MAX.to_le_bytes())]);
    assert!(!measure(&path));
    // One string of 255 MiB, and an array beyond the header's limit in a file that could hold it.
    let head = key(STRING, &(255 * MIB).to_le_bytes());
    assert!(measure(&sparse(&folder, "string", head.len() as u64 + 255 * MIB, &[(0, &head)])));
    let head = key(ARRAY, &array(0, 1 << 40));
    assert!(!measure(&sparse(&folder, "beyond", 1 << 41, &[(0, &head)])));
    // A file of zeros as large as can be after good counts.
    let head = Raw::new().counts(1000, 1000).bytes();
    assert!(!measure(&sparse(&folder, "zeros", 1 << 42, &[(0, &head)])));

    // As many keys and tensors as are read, each as small as can be, and one more of each.
    let mut keys = Raw::new();
    for i in 0..65_536 {
        keys = keys.key(format!("{i:x}"), 0, &[1]);
    }
    assert!(measure(&folder.file("keys", &keys.bytes())));
    assert!(!measure(&folder.file("keys", &keys.key("more", 0, &[1]).bytes())));
    let mut tensors = Raw::new();
    for i in 0..131_072u64 {
        tensors = tensors.tensor(format!("{i:x}"), &[1], 0, i * 32);
    }
    let tensors = tensors.data(131_072 * 32);
    assert!(measure(&folder.file("tensors", &tensors.bytes())));
    assert!(!measure(
        &folder.file("tensors", &tensors.tensor("more", &[1], 0, 131_072 * 32).data(131_073 * 32).bytes())
    ));

    // Strings just longer than a read, many of them: room must not be made for each anew.
    let mut long = array(STRING, 400);
    for _ in 0..400 {
        long.extend(string(&vec![b'x'; 300_000]));
    }
    assert!(measure(&folder.file("long", &key(ARRAY, &long))));
}
