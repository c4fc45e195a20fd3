//! Any bytes open or are refused; what opens can be used in full, and copied to an equal file.
//!
//! `cargo +nightly fuzz run gguf_parse fuzz/corpus/gguf_parse crates/gguf/tests/corpus`
#![no_main]

use gguf::{Gguf, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Gguf::from_bytes("fuzz.gguf", bytes.to_vec()) else { return };
    for (key, value) in file.keys() {
        let shown = value.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?} moves the cursor");
        let _ = (file.str(key).is_ok(), file.u32(key).is_ok(), file.u64(key).is_ok(), file.f32(key).is_ok());
        let _ =
            (file.bool(key).is_ok(), file.f32s(key).is_ok(), file.i32s(key).is_ok(), file.u32s(key).is_ok());
        if let Ok(strings) = file.strings(key) {
            assert_eq!(strings.iter().map(<[u8]>::len).sum::<usize>(), strings.total_bytes());
        }
    }
    let mut writer = Writer::new();
    writer.copy_keys(&file).expect("what was read can be written");
    for tensor in file.tensors() {
        assert_eq!(
            file.read_all(tensor).expect("an accepted tensor lies in the file").len() as u64,
            tensor.bytes
        );
        writer.tensor(&tensor.name, tensor.format, &tensor.shape).expect("what was read can be written");
    }
    let mut body = writer.start(Vec::new()).expect("memory takes the header");
    for tensor in file.tensors() {
        body.copy(&file, tensor).expect("the tensor is read and written");
    }
    let copy = Gguf::from_bytes("copy.gguf", body.finish().expect("all tensors are there"));
    let copy = copy.expect("what was written can be read");
    let kept = file.keys().filter(|(key, _)| !key.starts_with("split.")).map(|(key, _)| key);
    assert!(copy.keys().map(|(key, _)| key).eq(kept));
    for (tensor, again) in file.tensors().iter().zip(copy.tensors()) {
        assert_eq!((&tensor.name, &tensor.shape), (&again.name, &again.shape));
        assert_eq!(file.read_all(tensor).ok(), copy.read_all(again).ok());
    }
});
