//! Malformed files: each opens or is refused with words that name the place, and nothing else happens.

mod common;

use std::path::PathBuf;

use common::cases::cases;
use common::{Folder, exercise, good};
use gguf::Gguf;

#[test]
fn the_catalogue() {
    let mut failed = Vec::new();
    for case in cases() {
        match (Gguf::from_bytes("case.gguf", case.bytes), case.words.is_empty()) {
            (Ok(file), true) => exercise(&file),
            (Ok(_), false) => failed.push(format!("{} was accepted", case.name)),
            (Err(e), true) => failed.push(format!("{} was refused: {e}", case.name)),
            (Err(e), false) => {
                let message = e.to_string();
                for word in case.words.iter().chain(&["case.gguf"]).filter(|w| !message.contains(*w)) {
                    failed.push(format!("{}: {message:?} lacks {word:?}", case.name));
                }
                if message.chars().any(char::is_control) || message.len() > 700 {
                    failed.push(format!("{}: {message:?} is not fit for a terminal", case.name));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// `tests/corpus` holds the catalogue as files, where fuzzers start from, with the messages beside them
/// so that a change of wording shows in review. `UPDATE_CORPUS=1` writes it anew.
#[test]
fn the_corpus_says_what_it_said() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let list = folder.join("messages.txt");
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("good.gguf"), good()).unwrap();
        for case in cases().iter().filter(|case| case.bytes.len() < 2000) {
            std::fs::write(folder.join(format!("{}.gguf", case.name)), &case.bytes).unwrap();
        }
    }
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| *path != list);
    paths.sort();
    assert!(paths.len() > 100, "the corpus is there");
    let mut messages = String::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let told = match Gguf::from_bytes(&name, std::fs::read(&path).unwrap()) {
            Ok(file) => {
                exercise(&file);
                format!("{name} opens: {} keys, {} tensors", file.keys().len(), file.tensors().len())
            }
            Err(e) => e.to_string(),
        };
        messages.push_str(&told);
        messages.push('\n');
    }
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        std::fs::write(&list, &messages).unwrap();
    }
    assert_eq!(messages, std::fs::read_to_string(&list).unwrap());
}

/// G10: cut at every byte of the header and every 64th part of the data.
#[test]
fn no_truncation_opens() {
    let whole = good();
    let last_tensor = 288; // blk.0.ffn_up.weight: 2 rows of Q4_K blocks of 144 bytes
    let data_end = (0..whole.len()).rfind(|&len| Gguf::from_bytes("cut", whole[..len].to_vec()).is_err());
    let data_end = data_end.expect("an empty file does not open") + 1;
    assert!(data_end > last_tensor && whole.len() - data_end < 32, "only padding may be missing");
    for len in 0..data_end {
        let error = Gguf::from_bytes("cut.gguf", whole[..len].to_vec())
            .map(|_| ())
            .expect_err("it is cut")
            .to_string();
        assert!(error.contains("cut.gguf"), "{error}");
    }
    let Some(model) = testkit::shared("fixtures/models/stories260K.gguf") else { return };
    let bytes = std::fs::read(model).unwrap();
    for part in 0..64 {
        let cut = bytes[..bytes.len() * part / 64].to_vec();
        assert!(Gguf::from_bytes("cut.gguf", cut).is_err(), "{part}/64 of the file");
    }
}

/// G1: what is no regular file is refused without being read.
#[test]
fn special_files_are_refused() {
    let folder = Folder::new("special");
    let path = |name: &str| folder.path().join(name);
    let refused = |path: PathBuf, words: &str| {
        let error = Gguf::open(&path).map(|_| ()).expect_err(words).to_string();
        assert!(error.contains(words), "{error:?} lacks {words:?}");
    };
    refused(folder.path().to_path_buf(), "a directory");
    refused("/dev/zero".into(), "a device");
    refused("/dev/random".into(), "a device");
    refused("/dev/full".into(), "a device");
    // A pipe without a writer would block whoever opens it.
    let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
    if made.is_ok_and(|status| status.success()) {
        refused(path("pipe"), "a pipe");
    }
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    refused(path("socket"), "a socket");
    std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
    refused(path("loop"), "symbolic link");
    refused(path("missing.gguf"), "No such file");
    refused(path("missing\u{1b}[31m\n.gguf"), "missing\\u{1b}[31m\\n.gguf");
    refused(path(&"n".repeat(5000)), "too long");
    refused(path(&"n/".repeat(2040)), "cannot open");
    refused(path(""), "a directory");
    refused(PathBuf::new(), "cannot open");
    refused(folder.file("empty.gguf", b""), "empty.gguf is empty");
    // Reading a file without permission fails, except for a user who may read all.
    let secret = folder.file("secret.gguf", &good());
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::read(&secret).is_err() {
        refused(secret, "ermission denied");
    }
}

/// G15: the file changes while it is open.
#[test]
fn a_changing_file_is_an_error_at_most() {
    let folder = Folder::new("changing");
    let path = folder.file("model.gguf", &good());
    let file = Gguf::open(&path).unwrap();
    let last = file.tensors().last().unwrap();
    let before = file.read_all(last).unwrap();

    // Replaced by renaming, then unlinked: what was opened is still there.
    let other = folder.file("other.gguf", b"something else");
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(file.read_all(last).unwrap(), before);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file.read_all(last).unwrap(), before);

    let path = folder.file("model.gguf", &good());
    let file = Gguf::open(&path).unwrap();
    let last = file.tensors().last().unwrap();
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut f| std::io::Write::write_all(&mut f, &[0; 99]))
        .unwrap();
    assert_eq!(file.read_all(last).unwrap(), before, "a growing file is read as it was");
    let handle = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for len in [good().len() as u64 - 100, 24, 0] {
        handle.set_len(len).unwrap();
        let error = file.read_all(last).expect_err("its data is gone").to_string();
        assert!(error.contains("model.gguf") && error.contains("became shorter"), "{error}");
    }
    file.forget(last);
}

#[test]
fn reading_outside_a_tensor_is_an_error() {
    let file = Gguf::from_bytes("good.gguf", good()).unwrap();
    let tensor = file.tensor("norm.weight").unwrap();
    assert_eq!((tensor.bytes, tensor.cols(), tensor.rows()), (20, 5, 1));
    let mut out = [0; 8];
    file.read(tensor, 12, &mut out).unwrap();
    assert_eq!(out, [12, 13, 14, 15, 16, 17, 18, 19]);
    for offset in [13, 20, 21, u64::MAX, u64::MAX - 7] {
        let error = file.read(tensor, offset, &mut out).expect_err("outside").to_string();
        assert!(error.contains("norm.weight has 20 bytes"), "{error}");
    }
    file.read(tensor, 20, &mut []).unwrap();
}
