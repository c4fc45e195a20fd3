//! A small model whose cache is large, so that a short answer takes hundreds of megabytes.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use gguf::{Gguf, Writer};
use quant::Format;

const DIM: u64 = 64;
const LAYERS: u64 = 8;
const HEADS: u64 = 32;
const HEAD: u64 = 128;
const FF: u64 = 128;
/// Positions it is made for.
pub(crate) const CONTEXT: u64 = 4096;
/// Bytes a position of its cache takes in single floats.
pub(crate) const POSITION: u64 = 2 * LAYERS * HEADS * HEAD * 4;

/// Its keys, with the built-in model's vocabulary, and its tensors.
fn header(ff: u64, layers: u64) -> (Writer, Vec<(String, Vec<u64>)>) {
    let done = "the writer takes what a reader takes";
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/chat-7m.gguf");
    let built_in = Gguf::open(&assets).expect("the built-in model is there");
    let vocab = match built_in.get("tokenizer.ggml.tokens") {
        Some(gguf::Value::Array(tokens)) => tokens.len() as u64,
        _ => panic!("the built-in model has a vocabulary"),
    };
    let mut writer = Writer::new();
    for (key, value) in built_in.keys().filter(|(key, _)| key.starts_with("tokenizer.")) {
        writer.set(key, value.clone()).expect(done);
    }
    writer.remove("tokenizer.chat_template");
    writer.set("general.architecture", "llama").expect(done);
    let keys = [
        ("context_length", CONTEXT),
        ("embedding_length", DIM),
        ("block_count", layers),
        ("feed_forward_length", ff),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", HEADS),
        ("attention.key_length", HEAD),
        ("attention.value_length", HEAD),
        ("rope.dimension_count", HEAD),
        ("vocab_size", vocab),
    ];
    for (key, value) in keys {
        writer.set(&format!("llama.{key}"), value as u32).expect(done);
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32).expect(done);
    let mut tensors =
        vec![("token_embd".to_owned(), vec![DIM, vocab]), ("output_norm".to_owned(), vec![DIM])];
    for layer in 0..layers {
        let mut tensor = |name: &str, shape: &[u64]| {
            tensors.push((format!("blk.{layer}.{name}"), shape.to_vec()));
        };
        tensor("attn_norm", &[DIM]);
        for name in ["attn_q", "attn_k", "attn_v"] {
            tensor(name, &[DIM, HEADS * HEAD]);
        }
        tensor("attn_output", &[HEADS * HEAD, DIM]);
        tensor("ffn_norm", &[DIM]);
        tensor("ffn_gate", &[DIM, ff]);
        tensor("ffn_up", &[DIM, ff]);
        tensor("ffn_down", &[ff, DIM]);
    }
    for (name, shape) in &tensors {
        let format = if shape.len() == 1 { Format::F32 } else { Format::F16 };
        writer.tensor(&format!("{name}.weight"), format, shape).expect(done);
    }
    (writer, tensors)
}

/// Writes it.
pub(crate) fn write(path: &Path) {
    let (writer, tensors) = header(FF, LAYERS);
    let mut body = writer.create(path).expect("the folder can be written");
    let mut state = 7u64;
    for (_, shape) in &tensors {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let count: u64 = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| 0.2 * next()).collect();
        let format = if shape.len() == 1 { Format::F32 } else { Format::F16 };
        let row = shape[0] as usize;
        let mut bytes = vec![0; format.row_bytes(row).expect("whole blocks") * (values.len() / row)];
        format.encode(&values, &mut bytes).expect("it has an encoder");
        body.write(&bytes).expect("the tensor's size");
    }
    body.commit().expect("the folder can be written");
}

/// Writes one of eight gigabytes that takes none on the disk: all but its header is a hole.
pub(crate) fn write_huge(path: &Path) {
    let (writer, tensors) = header(1 << 20, 20);
    let file = File::create(path).expect("the folder can be written");
    drop(writer.start(BufWriter::new(&file)).expect("the folder can be written"));
    (&file).flush().expect("the folder can be written");
    let elements: u64 = tensors.iter().map(|(_, shape)| shape.iter().product::<u64>()).sum();
    let header = file.metadata().expect("it was just made").len();
    // No tensor takes more than two bytes an element but the vectors, which are short.
    file.set_len(header + 2 * elements + (1 << 20)).expect("holes take no room");
}
