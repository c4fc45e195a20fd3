//! G18: files with bits flipped, bytes spliced and numbers replaced open or are refused; they never
//! panic, and what opens can be used. Deterministic, so that a failure can be repeated.

mod common;

use common::{exercise, good};
use gguf::Gguf;

/// Numbers where arithmetic goes wrong.
const INTERESTING: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    13,
    31,
    63,
    64,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 61,
    1 << 62,
    (1 << 62) + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];

/// A small generator of numbers, xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Opens a mutant and, when it opens, uses it. Returns whether it did.
fn run(bytes: Vec<u8>) -> bool {
    match Gguf::from_bytes("mutant.gguf", bytes) {
        Ok(file) => {
            exercise(&file);
            true
        }
        Err(e) => {
            assert!(e.to_string().contains("mutant.gguf"), "{e}");
            false
        }
    }
}

/// One to four changes within the first `header` bytes.
fn mutate(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(header.min(bytes.len()));
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => put(bytes, at, INTERESTING[random.below(INTERESTING.len())], 8),
            3 => put(bytes, at, INTERESTING[random.below(INTERESTING.len())], 4),
            4 => {
                let from = random.below(bytes.len());
                let part = bytes[from..(from + random.below(64)).min(bytes.len())].to_vec();
                let end = (at + part.len() * random.below(2)).min(bytes.len());
                bytes.splice(at..end, part);
            }
            _ => {
                let end = (at + random.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: u64, width: usize) {
    let end = (at + width).min(bytes.len());
    bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
}

#[test]
fn random_mutants_of_a_small_file() {
    let whole = good();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let opened = (0..40_000)
        .filter(|_| {
            let mut bytes = whole.clone();
            mutate(&mut bytes, whole.len(), &mut random);
            run(bytes)
        })
        .count();
    // Both ends of the parser were reached: many changes hit only values or data.
    assert!((2_000..38_000).contains(&opened), "{opened} of 40000 opened");
}

#[test]
fn interesting_numbers_everywhere_in_the_header() {
    let whole = good();
    // Tensor data starts at the last 32-byte boundary before 204 + 32 + 288 + padding bytes.
    let header = whole.len() - 224 - 32 - 288;
    for at in 8..header {
        for value in INTERESTING {
            for width in [4, 8] {
                let mut bytes = whole.clone();
                put(&mut bytes, at, value, width);
                run(bytes);
            }
        }
    }
}

#[test]
fn random_mutants_of_a_real_model() {
    let Some(model) = testkit::shared("fixtures/models/stories260K.gguf") else { return };
    let whole = std::fs::read(model).unwrap();
    let file = Gguf::from_bytes("stories260K.gguf", whole.clone()).unwrap();
    let header = whole.len() - file.tensors().iter().map(|t| t.bytes as usize).sum::<usize>();
    assert!(header < 100_000, "the header is the small part");
    let mut random = Random(0xdead_beef_cafe_f00d);
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        mutate(&mut bytes, header, &mut random);
        run(bytes);
    }
}
