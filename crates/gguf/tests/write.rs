//! What the writer writes, the reader reads back; what no reader would take, the writer refuses.

mod common;

use common::{Folder, good};
use gguf::{Array, Gguf, Value, Writer};
use quant::Format;
use rustix::fs::{Mode, OFlags};

#[test]
fn every_value_and_tensor_survives_a_round_trip() {
    let file = Gguf::from_bytes("good.gguf", good()).expect("the file is good");
    assert_eq!(file.version(), 3);
    let mut writer = Writer::new();
    writer.copy_keys(&file).unwrap();
    for tensor in file.tensors() {
        writer.tensor(&tensor.name, tensor.format, &tensor.shape).unwrap();
    }
    let mut body = writer.start(Vec::new()).unwrap();
    for tensor in file.tensors() {
        assert_eq!(body.current(), Some(tensor.name.as_str()));
        body.copy(&file, tensor).unwrap();
    }
    assert_eq!(body.current(), None);
    let again = body.finish().unwrap();
    assert_eq!(writer.file_bytes().unwrap(), again.len() as u64);
    assert!(again == good(), "a copy is the same, byte for byte");

    let keys: Vec<(&str, String)> = file.keys().map(|(k, v)| (k, v.type_name())).collect();
    let names = [
        ("general.architecture", "string"),
        ("a.u8", "u8"),
        ("a.i8", "i8"),
        ("a.u16", "u16"),
        ("a.i16", "i16"),
        ("a.u32", "u32"),
        ("a.i32", "i32"),
        ("a.f32", "f32"),
        ("a.bool", "bool"),
        ("a.u64", "u64"),
        ("a.i64", "i64"),
        ("a.f64", "f64"),
        ("b.strings", "[string; 4]"),
        ("b.f32", "[f32; 2]"),
        ("b.i32", "[i32; 3]"),
        ("b.bool", "[bool; 2]"),
        ("b.u64", "[u64; 0]"),
    ];
    assert_eq!(keys, names.map(|(k, t)| (k, t.to_string())));
    assert_eq!(file.get("a.i64"), Some(&Value::I64(i64::MIN)));
    assert_eq!(file.get("a.f64"), Some(&Value::F64(1e300)));
    assert_eq!(file.strings("b.strings").unwrap().get(2), Some(&b"\xff\xfe"[..]));
}

#[test]
fn every_array_type_survives() {
    let arrays = [
        Array::U8(vec![1, 255]),
        Array::I8(vec![-128, 127]),
        Array::U16(vec![0, 65535]),
        Array::I16(vec![-32768]),
        Array::U32(vec![u32::MAX]),
        Array::I32(vec![i32::MIN]),
        Array::F32(vec![0.1, -0.0]),
        Array::Bool(vec![true, false, true]),
        Array::Str(["a", "", "ü"].iter().collect()),
        Array::U64(vec![u64::MAX]),
        Array::I64(vec![i64::MIN]),
        Array::F64(vec![f64::MIN_POSITIVE]),
    ];
    let mut writer = Writer::new();
    for (i, array) in arrays.iter().enumerate() {
        writer.set(&format!("array.{i}"), array.clone()).unwrap();
    }
    let file = Gguf::from_bytes("arrays.gguf", writer.start(Vec::new()).unwrap().finish().unwrap()).unwrap();
    for (i, array) in arrays.iter().enumerate() {
        assert_eq!(file.get(&format!("array.{i}")), Some(&Value::Array(array.clone())));
    }
}

#[test]
fn strings_longer_than_the_read_window_survive() {
    let long: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut writer = Writer::new();
    writer.set("long", Value::Str(long.clone())).unwrap();
    let list: gguf::StringList = [&long[..700_000], b"", &long[5..]].into_iter().collect();
    writer.set("list", list.clone()).unwrap();
    let wide: Vec<u64> = (0..200_001).map(|i| i * 0x0123_4567_89ab).collect();
    writer.set("wide", wide.clone()).unwrap();
    let file = Gguf::from_bytes("long.gguf", writer.start(Vec::new()).unwrap().finish().unwrap()).unwrap();
    assert!(file.get("long") == Some(&Value::Str(long)));
    assert!(file.get("list") == Some(&list.into()));
    assert!(file.get("wide") == Some(&wide.into()));
}

#[test]
fn alignment_is_kept() {
    let mut writer = Writer::new();
    writer.set("general.alignment", 4096u32).unwrap();
    writer.tensor("a", Format::F32, &[3]).unwrap();
    writer.tensor("b", Format::F32, &[1]).unwrap();
    let mut body = writer.start(Vec::new()).unwrap();
    body.write(&[1; 12]).unwrap();
    body.write(&[2; 4]).unwrap();
    let bytes = body.finish().unwrap();
    assert_eq!(bytes.len(), 3 * 4096);
    assert_eq!(bytes[4096..4108], [1; 12]);
    assert_eq!(bytes[8192..8196], [2; 4]);
    let file = Gguf::from_bytes("aligned.gguf", bytes).unwrap();
    assert_eq!(file.read_all(file.tensor("b").unwrap()).unwrap(), [2; 4]);
}

#[test]
fn what_no_reader_takes_is_refused() {
    let refused = |result: Result<(), gguf::Error>, words: &str| {
        let message = result.expect_err(words).to_string();
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    };
    let mut writer = Writer::new();
    refused(writer.set("", 1u32), "name is empty");
    refused(writer.set("a\u{1b}[31m", 1u32), "control character");
    refused(writer.set("general.alignment", 24u32), "power of two");
    refused(writer.set("general.alignment", 32u64), "u32");
    refused(writer.tensor(&"x".repeat(64), Format::F32, &[1]), "64 bytes");
    refused(writer.tensor("x", Format::F32, &[]), "0 dimensions");
    refused(writer.tensor("x", Format::F32, &[1, 1, 1, 1, 1]), "5 dimensions");
    refused(writer.tensor("x", Format::F32, &[4, 0]), "dimension 1 is 0");
    refused(writer.tensor("x", Format::Q4_K, &[128]), "block of 256");
    refused(writer.tensor("x", Format::F32, &[1 << 62, 8]), "does not fit");
    writer.tensor("x", Format::F32, &[4]).unwrap();
    refused(writer.tensor("x", Format::F32, &[4]), "added before");

    let mut body = writer.start(Vec::new()).unwrap();
    refused(body.write(&[0; 17]), "16 of 16 left");
    body.write(&[0; 10]).unwrap();
    refused(body.finish().map(|_| ()), "10 of its 16 bytes");
    let mut body = writer.start(Vec::new()).unwrap();
    body.write(&[0; 16]).unwrap();
    refused(body.write(&[0]), "more than all tensors");
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = Folder::new("atomic");
    // Where files may have no name, one under way has none: then nothing stays even after SIGKILL.
    let unnamed = rustix::fs::open(folder.path(), OFlags::TMPFILE | OFlags::RDWR, Mode::RWXU).is_ok();
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    let path = folder.path().join("out.gguf");
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    writer.tensor("x", Format::F32, &[4]).unwrap();

    let mut body = writer.create(&path).unwrap();
    assert!(!path.exists(), "unfinished data has no name");
    assert_eq!(entries(), usize::from(!unnamed));
    body.write(&[1; 4]).unwrap();
    let error = body.commit().expect_err("the tensor is not complete").to_string();
    assert!(error.contains("tensor x"), "{error}");
    assert_eq!(entries(), 0, "a file given up is removed");

    let mut body = writer.create(&path).unwrap();
    body.write(&[1; 16]).unwrap();
    body.commit().unwrap();
    assert_eq!(entries(), 1);
    let first = Gguf::open(&path).unwrap();
    assert_eq!(first.file_bytes(), writer.file_bytes().unwrap());

    // A file that is being read can be replaced: its reader goes on with what it opened.
    let mut body = writer.create(&path).unwrap();
    body.write(&[2; 16]).unwrap();
    body.commit().unwrap();
    assert_eq!(first.read_all(&first.tensors()[0]).unwrap(), [1; 16]);
    let second = Gguf::open(&path).unwrap();
    assert_eq!(second.read_all(&second.tensors()[0]).unwrap(), [2; 16]);
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let folder = Folder::new("link");
    let target = folder.file("target.gguf", b"old");
    let link = folder.path().join("link.gguf");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let writer = Writer::new();
    writer.create(&link).unwrap().commit().unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Gguf::open(&target).unwrap().keys().len(), 0);
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let folder = Folder::new("outputs");
    let refused = |path: &std::path::Path, writer: &Writer, words: &str| {
        let error = writer.create(path).map(|_| ()).expect_err(words).to_string();
        assert!(error.contains(words), "{error:?} lacks {words:?}");
        assert!(error.contains(&*path.to_string_lossy()), "{error:?} lacks the path");
    };
    refused(folder.path(), &Writer::new(), "a directory");
    refused(std::path::Path::new("/dev/full"), &Writer::new(), "a device");
    refused(&folder.path().join("none/x.gguf"), &Writer::new(), "No such file");
    let mut huge = Writer::new();
    huge.tensor("x", Format::F32, &[1 << 59]).unwrap();
    let path = folder.path().join("huge.gguf");
    refused(&path, &huge, "free some space");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
