//! G14: files split into shards.

mod common;

use std::path::{Path, PathBuf};

use common::Folder;
use gguf::{Gguf, Value, Writer};
use quant::Format;

/// What one shard holds; `None` leaves a key out.
#[derive(Clone)]
struct Shard {
    number: Option<Value>,
    count: Option<Value>,
    arch: Option<&'static str>,
    tensors: Vec<&'static str>,
    told: Option<i32>,
}

/// Three good shards of two, one and one tensors.
fn good() -> Vec<Shard> {
    let shard = |number: u16, tensors: &[&'static str]| Shard {
        number: Some(number.into()),
        count: Some(3u16.into()),
        arch: (number == 0).then_some("llama"),
        tensors: tensors.to_vec(),
        told: Some(4),
    };
    vec![shard(0, &["a", "b"]), shard(1, &["c"]), shard(2, &["d"])]
}

fn write(folder: &Path, shards: &[Shard]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (i, shard) in shards.iter().enumerate() {
        let mut writer = Writer::new();
        let keys = [
            ("general.architecture", shard.arch.map(Value::from)),
            ("split.no", shard.number.clone()),
            ("split.count", shard.count.clone()),
            ("split.tensors.count", shard.told.map(Value::from)),
        ];
        for (key, value) in keys {
            if let Some(value) = value {
                writer.set(key, value).unwrap();
            }
        }
        for name in &shard.tensors {
            writer.tensor(name, Format::F32, &[3]).unwrap();
        }
        let path = folder.join(format!("m-{:05}-of-00003.gguf", i + 1));
        let mut body = writer.create(&path).unwrap();
        for name in &shard.tensors {
            body.write(&[name.as_bytes()[0]; 12]).unwrap();
        }
        body.commit().unwrap();
        paths.push(path);
    }
    paths
}

fn refused(path: &Path, words: &[&str]) {
    let error = Gguf::open(path).map(|_| ()).expect_err(words[0]).to_string();
    for word in words {
        assert!(error.contains(word), "{error:?} lacks {word:?}");
    }
}

/// Good shards but for one change, and the words of the error.
fn changed(name: &str, words: &[&str], change: impl FnOnce(&mut Vec<Shard>)) {
    let folder = Folder::new(name);
    let mut shards = good();
    change(&mut shards);
    let paths = write(folder.path(), &shards);
    refused(&paths[0], words);
}

#[test]
fn any_shard_opens_all() {
    let folder = Folder::new("split-good");
    for path in write(folder.path(), &good()) {
        let file = Gguf::open(&path).unwrap();
        assert_eq!(file.name(), "m-00001-of-00003.gguf");
        assert_eq!(file.shards(), 3);
        assert_eq!(file.str("general.architecture").unwrap(), "llama");
        let names: Vec<&str> = file.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        for tensor in file.tensors() {
            assert_eq!(file.read_all(tensor).unwrap(), [tensor.name.as_bytes()[0]; 12]);
            file.forget(tensor);
        }
        let sizes =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        assert_eq!(file.file_bytes(), sizes.sum::<u64>());
    }
}

#[test]
fn a_merged_copy_is_whole() {
    let folder = Folder::new("split-merge");
    let paths = write(folder.path(), &good());
    let file = Gguf::open(&paths[0]).unwrap();
    let mut writer = Writer::new();
    writer.copy_keys(&file).unwrap();
    for tensor in file.tensors() {
        writer.tensor(&tensor.name, tensor.format, &tensor.shape).unwrap();
    }
    let mut body = writer.start(Vec::new()).unwrap();
    for tensor in file.tensors() {
        body.copy(&file, tensor).unwrap();
    }
    let merged = Gguf::from_bytes("merged.gguf", body.finish().unwrap()).unwrap();
    assert_eq!(merged.tensors().len(), 4);
    assert_eq!(merged.get("split.count"), None);
    assert_eq!(merged.read_all(merged.tensor("d").unwrap()).unwrap(), [b'd'; 12]);
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    changed("split-number", &["m-00002-of-00003.gguf", "shard 1 of 3", "shard 2 of 3"], |s| {
        s[1].number = Some(0u16.into());
    });
    changed("split-count", &["m-00003-of-00003.gguf", "shard 3 of 4"], |s| s[2].count = Some(4u16.into()));
    changed("split-whole", &["m-00002-of-00003.gguf", "no shard"], |s| {
        (s[1].number, s[1].count) = (None, None);
    });
    changed("split-negative", &["split.no", "i32 -1"], |s| s[0].number = Some((-1i32).into()));
    changed("split-past", &["split.no", "u16 3"], |s| s[0].number = Some(3u16.into()));
    changed("split-huge", &["split.count", "65535"], |s| s[0].count = Some(u16::MAX.into()));
    changed("split-text", &["split.count", "string"], |s| s[0].count = Some("3".into()));
    changed("split-arch", &["m-00002-of-00003.gguf", "general.architecture"], |s| s[1].arch = Some("qwen2"));
    changed("split-duplicate", &["m-00003-of-00003.gguf", "tensor a", "given before"], |s| {
        s[2].tensors = vec!["a"];
    });
    changed("split-told", &["split.tensors.count is 5", "4 tensors"], |s| s[0].told = Some(5));
    changed("split-lost", &["split.tensors.count is 4", "3 tensors"], |s| s[1].tensors.clear());
}

#[test]
fn shards_that_are_not_there_are_named() {
    let folder = Folder::new("split-missing");
    let paths = write(folder.path(), &good());
    std::fs::remove_file(&paths[1]).unwrap();
    refused(&paths[0], &["cannot open", "m-00002-of-00003.gguf", "No such file"]);
    refused(&paths[2], &["m-00002-of-00003.gguf"]);
    std::fs::create_dir(&paths[1]).unwrap();
    refused(&paths[0], &["m-00002-of-00003.gguf", "a directory"]);
    let renamed = folder.path().join("model.gguf");
    std::fs::rename(&paths[0], &renamed).unwrap();
    refused(&renamed, &["model.gguf", "shard 1 of 3", "-00001-of-00003.gguf"]);
}
