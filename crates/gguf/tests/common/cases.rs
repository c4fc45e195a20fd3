//! The catalogue: files by hand, each with the words its error must hold, or none if it must open.

use super::*;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Words that the error holds; empty for a file that must open.
    pub(crate) words: Vec<&'static str>,
}

fn bad(name: &'static str, bytes: Vec<u8>, words: &[&'static str]) -> Case {
    Case { name, bytes, words: words.to_vec() }
}

fn fine(name: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, bytes, words: Vec::new() }
}

/// All of it. Names start with the catalogue's numbers.
pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(first_bytes());
    all.extend(counts());
    all.extend(keys());
    all.extend(values());
    all.extend(alignments());
    all.extend(names());
    all.extend(shapes());
    all.extend(formats());
    all.extend(offsets());
    all.extend(splits());
    all
}

/// G1, G2: too short, other formats, other versions.
fn first_bytes() -> Vec<Case> {
    let head = Raw::new().bytes();
    let magic = |magic: &[u8; 4]| Raw { magic: *magic, ..Raw::new() }.bytes();
    let version = |version: u32| Raw { version, ..Raw::new() }.bytes();
    vec![
        bad("g1-empty", vec![], &["is empty"]),
        bad("g1-1-byte", head[..1].to_vec(), &["cut short"]),
        bad("g1-3-bytes", head[..3].to_vec(), &["cut short"]),
        bad("g1-4-bytes", head[..4].to_vec(), &["cut short"]),
        bad("g1-8-bytes", head[..8].to_vec(), &["byte 8", "number of tensors"]),
        bad("g1-23-bytes", head[..23].to_vec(), &["byte 16", "number of keys"]),
        fine("g1-24-bytes", head),
        bad("g2-magic-0", magic(b"XGUF"), &["not a GGUF file"]),
        bad("g2-magic-1", magic(b"GXUF"), &["not a GGUF file"]),
        bad("g2-magic-2", magic(b"GGXF"), &["not a GGUF file"]),
        bad("g2-magic-3", magic(b"GGUX"), &["not a GGUF file"]),
        bad("g2-swapped-magic", magic(b"FUGG"), &["byte-swapped"]),
        bad("g2-ggjt", magic(b"tjgg"), &["before GGUF"]),
        bad("g2-zip", magic(b"PK\x03\x04"), &["zip archive"]),
        bad("g2-gzip", magic(b"\x1f\x8b\x08\0"), &["gzip"]),
        bad("g2-safetensors", b"\x40\x01\0\0\0\0\0\0{\"__metadata__\":{}}".to_vec(), &["safetensors"]),
        bad("g2-lfs", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), &["git lfs pull"]),
        bad("g2-html", b"<!DOCTYPE html><html>".to_vec(), &["web page"]),
        bad("g2-version-0", version(0), &["version 0"]),
        bad("g2-version-1", version(1), &["version 1"]),
        fine("g2-version-2", version(2)),
        bad("g2-version-4", version(4), &["version 4"]),
        bad("g2-version-max", version(u32::MAX), &["version 4294967295"]),
        bad("g2-big-endian-2", version(2u32.swap_bytes()), &["big-endian"]),
        bad("g2-big-endian-3", version(3u32.swap_bytes()), &["big-endian"]),
    ]
}

/// G3: counts of tensors and keys.
fn counts() -> Vec<Case> {
    let with = |tensors, keys| Raw::new().counts(tensors, keys).bytes();
    // One tensor or key fewer than claimed, and counts that wrap when multiplied by an entry's size.
    let short =
        |tensors, keys| Raw::new().u32("a", 1).tensor("x", &[8], 0, 0).data(32).counts(tensors, keys).bytes();
    let tensors = ["byte 8", "number of tensors"];
    let keys = ["byte 16", "number of keys"];
    vec![
        bad("g3-tensors-minus-1", with(u64::MAX, 0), &tensors),
        bad("g3-tensors-2-63", with(1 << 63, 0), &tensors),
        bad("g3-tensors-wrap", with(u64::MAX / 33 + 1, 0), &tensors),
        bad("g3-tensors-more-than-file", with(100, 0), &tensors),
        bad("g3-keys-minus-1", with(0, u64::MAX), &keys),
        bad("g3-keys-2-63", with(0, 1 << 63), &keys),
        bad("g3-keys-wrap", with(0, u64::MAX / 14 + 1), &keys),
        bad("g3-keys-more-than-file", with(0, 50), &keys),
        bad("g3-one-tensor-too-many", short(2, 1), &["tensor 1"]),
        bad("g3-one-key-too-many", short(1, 2), &["tensor 0"]),
        bad("g3-one-key-too-few", short(1, 0), &["tensor a"]),
    ]
}

/// G4: keys.
fn keys() -> Vec<Case> {
    let key = |name: &[u8]| Raw::new().u32("first", 1).key(name, U32, &[0; 4]).bytes();
    // A key whose length is a lie; 64 zeros follow.
    let claim = |len: u64| {
        let mut bytes = Raw::new().counts(0, 1).bytes();
        bytes.extend(len.to_le_bytes());
        bytes.extend([0; 64]);
        bytes
    };
    vec![
        bad("g4-empty", key(b""), &["key 1", "name is empty"]),
        bad("g4-length-max", claim(u64::MAX), &["byte 24", "key 0", "18446744073709551615 bytes"]),
        bad("g4-length-1-gib", claim(1 << 30), &["byte 24", "key 0", "1073741824 bytes"]),
        bad("g4-length-past-end", claim(65), &["byte 24", "key 0"]),
        bad("g4-length-65536", key(&[b'k'; 65536]), &["key 1", "65536 bytes"]),
        fine("g4-length-65535", key(&[b'k'; 65535])),
        bad("g4-not-utf8", key(b"a\xff"), &["key 1", "a\\xff", "not UTF-8"]),
        bad("g4-nul", key(b"a\0b"), &["key 1", "control character"]),
        bad("g4-newline", key(b"a\nb"), &["key 1", "a\\nb", "control character"]),
        bad("g4-escape", key(b"\x1b[2J"), &["key 1", "\\u{1b}[2J", "control character"]),
        bad("g4-right-to-left", key("a\u{202e}b".as_bytes()), &["key 1", "\\u{202e}", "control character"]),
        bad("g4-duplicate", key(b"first"), &["key first", "given before"]),
        fine("g4-not-ascii", key("größe".as_bytes())),
    ]
}

/// G5: values.
fn values() -> Vec<Case> {
    let value = |kind: u32, bytes: &[u8]| Raw::new().key("k", kind, bytes).bytes();
    let of = |kind: u32, count: u64| value(ARRAY, &array(kind, count));
    let mut nested = Vec::new();
    for _ in 0..100_000 {
        nested.extend(array(ARRAY, 1));
    }
    let mut strings = array(STRING, 2);
    strings.extend((1u64 << 62).to_le_bytes());
    strings.extend((1u64 << 62).to_le_bytes());
    let mut second = array(STRING, 2);
    second.extend(string(b"good"));
    second.extend(u64::MAX.to_le_bytes());
    let mut bools = array(BOOL, 3);
    bools.extend([0, 1, 2]);
    vec![
        bad("g5-type-13", value(13, &[0; 8]), &["key k", "type 13"]),
        bad("g5-type-2-31", value(1 << 31, &[0; 8]), &["key k", "type 2147483648"]),
        bad("g5-type-minus-1", value(u32::MAX, &[0; 8]), &["key k", "type 4294967295"]),
        bad("g5-nested", value(ARRAY, &nested), &["key k", "array of arrays"]),
        bad("g5-element-type", of(13, 1), &["key k", "type 13 of its elements"]),
        bad("g5-array-2-63", of(0, 1 << 63), &["key k", "9223372036854775808"]),
        bad("g5-array-max-u64", of(U64, u64::MAX), &["key k"]),
        bad("g5-array-wrap", of(U64, (1 << 61) + 1), &["key k"]),
        bad("g5-strings-2-61", of(STRING, 1 << 61), &["key k"]),
        bad("g5-strings-no-data", of(STRING, 1000), &["key k"]),
        bad(
            "g5-strings-2-62-each",
            value(ARRAY, &strings),
            &["key k", "element 0", "4611686018427387904 bytes"],
        ),
        bad("g5-second-string", value(ARRAY, &second), &["key k", "element 1"]),
        bad("g5-string-past-end", value(STRING, &9u64.to_le_bytes()), &["key k", "9 bytes"]),
        bad("g5-string-max", value(STRING, &u64::MAX.to_le_bytes()), &["key k"]),
        bad("g5-bool-2", value(BOOL, &[2]), &["key k", "bool is 0 or 1"]),
        bad("g5-bools-2", value(ARRAY, &bools), &["key k", "byte 51", "bool is 0 or 1"]),
        bad("g5-cut-value", value(U64, &[0; 7]), &["key k", "8 bytes", "7 are left"]),
        bad(
            "g5-cut-type",
            Raw::new().counts(0, 1).bytes().into_iter().chain(string(b"key")).chain([0, 0]).collect(),
            &["number of keys"],
        ),
        fine("g5-empty-array", of(U32, 0)),
        fine("g5-empty-string", value(STRING, &string(b""))),
        fine("g5-string-not-utf8", value(STRING, &string(b"\xff\x1b[2J"))),
    ]
}

/// G6: alignment.
fn alignments() -> Vec<Case> {
    let key = "general.alignment";
    let with = |n: u32| Raw::new().u32(key, n).tensor("x", &[8], 0, 0).data(8 * 4).bytes();
    let other = |kind: u32, bytes: &[u8]| Raw::new().key(key, kind, bytes).bytes();
    let wide = Raw { alignment: 1 << 20, ..Raw::new() };
    vec![
        bad("g6-0", with(0), &[key, "u32 0"]),
        bad("g6-1", with(1), &[key, "u32 1"]),
        bad("g6-3", with(3), &[key, "u32 3"]),
        bad("g6-7", with(7), &[key, "u32 7"]),
        bad("g6-2-31", with(1 << 31), &[key, "u32 2147483648"]),
        bad("g6-max", with(u32::MAX), &[key]),
        bad("g6-u64", other(U64, &32u64.to_le_bytes()), &[key, "u64 32", "a u32"]),
        bad("g6-2-63", other(U64, &(1u64 << 63).to_le_bytes()), &[key, "a u32"]),
        bad("g6-string", other(STRING, &string(b"32")), &[key, "string \"32\"", "a u32"]),
        bad("g6-float", other(6, &32f32.to_le_bytes()), &[key, "f32 32", "a u32"]),
        bad("g6-unmet", with(256), &["tensor x", "cut short"]),
        fine("g6-8", Raw { alignment: 8, ..Raw::new() }.u32(key, 8).tensor("x", &[2], 0, 0).data(8).bytes()),
        fine("g6-1-mib", wide.u32(key, 1 << 20).tensor("x", &[8], 0, 0).data(32).bytes()),
        fine("g6-missing", Raw::new().tensor("x", &[8], 0, 0).data(32).bytes()),
    ]
}

/// G7: tensor names.
fn names() -> Vec<Case> {
    let name =
        |name: &[u8]| Raw::new().tensor("first", &[8], 0, 0).tensor(name, &[8], 0, 32).data(64).bytes();
    let mut claim = u64::MAX.to_le_bytes().to_vec();
    claim.extend([0; 64]);
    vec![
        bad("g7-64", name(&[b'n'; 64]), &["tensor 1", "64 bytes"]),
        bad("g7-1000", name(&[b'n'; 1000]), &["tensor 1", "1000 bytes"]),
        bad("g7-max", Raw::new().tensor_bytes(&claim).bytes(), &["tensor 0", "18446744073709551615 bytes"]),
        bad("g7-empty", name(b""), &["tensor 1", "empty"]),
        bad("g7-duplicate", name(b"first"), &["tensor first", "given before"]),
        bad("g7-escape", name(b"\x1b]0;x\x07"), &["tensor 1", "\\u{1b}]0;x\\u{7}", "control character"]),
        bad("g7-not-utf8", name(b"\xc3("), &["tensor 1", "\\xc3(", "not UTF-8"]),
        fine("g7-63", name(&[b'n'; 63])),
        // Harmless: names never become paths.
        fine("g7-path", name(b"../x")),
    ]
}

/// G8: dimensions and sizes.
fn shapes() -> Vec<Case> {
    let shape = |dims: &[u64], format: u32| Raw::new().tensor("x", dims, format, 0).data(64).bytes();
    let claim = |dims: u32| {
        let mut entry = string(b"x");
        entry.extend(dims.to_le_bytes());
        entry.extend([1; 64]);
        Raw::new().tensor_bytes(&entry).bytes()
    };
    let two = |first: u64, second: u64, offset: u64| {
        Raw::new().tensor("x", &[first], 0, 0).tensor("y", &[second], 0, offset).data(64).bytes()
    };
    let x = "tensor x";
    vec![
        bad("g8-dims-0", shape(&[], 0), &[x, "0 dimensions"]),
        bad("g8-dims-5", shape(&[1; 5], 0), &[x, "5 dimensions"]),
        bad("g8-dims-max", claim(u32::MAX), &[x, "4294967295 dimensions"]),
        bad("g8-dim-0", shape(&[0], 0), &[x, "dimension 0 is 0"]),
        bad("g8-last-dim-0", shape(&[4, 1, 1, 0], 0), &[x, "dimension 3 is 0"]),
        bad("g8-negative", shape(&[u64::MAX - 31], 0), &[x, "does not fit"]),
        bad("g8-2-63", shape(&[1 << 63], 0), &[x, "does not fit"]),
        bad("g8-product-wraps-to-0", shape(&[1 << 32, 1 << 32], 0), &[x, "does not fit"]),
        bad("g8-product-wraps-small", shape(&[(1 << 32) + 4, 1 << 32, 1 << 32], 0), &[x, "does not fit"]),
        bad("g8-bytes-wrap", shape(&[(1 << 62) + 1], 0), &[x, "does not fit"]),
        // SIZE_MAX / 4: size within 31 of 2^64, so padding it wraps.
        bad("g8-padding-wraps", shape(&[u64::MAX / 4], 0), &[x, "does not fit"]),
        // Q8_0, 34 bytes a block: 2^64 / 34 blocks and one more would wrap to a few bytes.
        bad("g8-quantized-wraps", shape(&[32, u64::MAX / 34 + 1], 8), &[x, "does not fit"]),
        // Q2_K holds more weights than bytes: bytes fit where the count of weights does not.
        bad("g8-weights-wrap", shape(&[256, 1 << 56], 10), &[x, "does not fit"]),
        bad("g8-larger-than-file", shape(&[1 << 40], 0), &[x, "cut short"]),
        bad("g8-sum-wraps", two(8, (1 << 61) - 8, 32), &["tensor y"]),
        bad("g8-offset-plus-size-wraps", two(8, 8, u64::MAX - 31), &["tensor y", "cut short"]),
        fine("g8-4-dims", shape(&[2, 2, 2, 2], 0)),
    ]
}

/// G9: formats.
fn formats() -> Vec<Case> {
    let format = |cols: u64, id: u32| Raw::new().tensor("x", &[cols], id, 0).data(1024).bytes();
    let unknown = ["tensor x", "not supported"];
    vec![
        bad("g9-unknown", format(256, 99), &[&unknown[..], &["99"]].concat()),
        bad("g9-minus-1", format(256, u32::MAX), &[&unknown[..], &["4294967295"]].concat()),
        bad("g9-removed-4", format(256, 4), &[&unknown[..], &["4 ("]].concat()),
        bad("g9-removed-5", format(256, 5), &unknown),
        bad("g9-removed-31", format(256, 31), &unknown),
        bad("g9-removed-33", format(256, 33), &unknown),
        bad("g9-removed-36", format(256, 36), &unknown),
        bad("g9-removed-38", format(256, 38), &unknown),
        bad("g9-iq2-xxs", format(256, 16), &[&unknown[..], &["IQ2_XXS"]].concat()),
        bad("g9-tq1-0", format(256, 34), &[&unknown[..], &["TQ1_0"]].concat()),
        bad("g9-block-32", format(33, 8), &["tensor x", "33 columns", "Q8_0", "32"]),
        bad("g9-block-256", format(128, 12), &["tensor x", "128 columns", "Q4_K", "256"]),
        fine("g9-q4-k", format(256, 12)),
    ]
}

/// G10: offsets and truncation.
fn offsets() -> Vec<Case> {
    let at = |offset: u64, data: usize| Raw::new().tensor("x", &[8], 0, offset).data(data).bytes();
    let pair =
        |second: u64| Raw::new().tensor("x", &[16], 0, 0).tensor("y", &[8], 0, second).data(96).bytes();
    let cut = |bytes: Vec<u8>, by: usize| bytes[..bytes.len() - by].to_vec();
    vec![
        bad("g10-unaligned", at(1, 64), &["tensor x", "offset 1", "alignment 32"]),
        bad("g10-half-aligned", at(16, 64), &["tensor x", "offset 16", "alignment 32"]),
        bad("g10-overlap", pair(32), &["tensor y", "overlaps", "tensor x"]),
        bad("g10-same-place", pair(0), &["overlaps"]),
        bad("g10-at-end", at(64, 64), &["tensor x", "cut short"]),
        bad("g10-past-end", at(1 << 40, 64), &["tensor x", "cut short"]),
        bad("g10-wraps", at(u64::MAX - 31, 64), &["tensor x", "cut short"]),
        bad("g10-no-data", at(0, 0), &["tensor x", "cut short"]),
        bad("g10-one-byte-short", cut(at(0, 32), 1), &["tensor x", "cut short"]),
        fine("g10-trailing", at(0, 1000)),
        fine("g10-gap", pair(64)),
        fine("g10-any-order", Raw::new().tensor("x", &[8], 0, 32).tensor("y", &[8], 0, 0).data(64).bytes()),
    ]
}

/// G14, as far as one file shows it.
fn splits() -> Vec<Case> {
    let split = |no: u16, count: u16| {
        Raw::new().key("split.no", 2, &no.to_le_bytes()).key("split.count", 2, &count.to_le_bytes()).bytes()
    };
    vec![
        // What merging leaves behind.
        fine("g14-count-0", split(0, 0)),
        fine("g14-count-1", split(0, 1)),
        bad("g14-number-of-none", split(1, 0), &["split.no", "u16 1"]),
        bad("g14-number-past-count", split(3, 3), &["split.no", "u16 3"]),
        bad("g14-count-max", split(0, u16::MAX), &["split.count", "65535"]),
        bad(
            "g14-count-string",
            Raw::new().key("split.count", STRING, &string(b"2")).bytes(),
            &["split.count"],
        ),
        bad(
            "g14-no-number",
            Raw::new().key("split.count", 2, &2u16.to_le_bytes()).bytes(),
            &["split.no", "missing"],
        ),
        bad("g14-in-memory", split(0, 2), &["one of 2 shards"]),
    ]
}
