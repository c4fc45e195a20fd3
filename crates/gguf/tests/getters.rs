//! Typed getters: what they take, and what their errors name.

mod common;

use common::good;
use gguf::{Gguf, Value};

fn file() -> Gguf {
    Gguf::from_bytes("good.gguf", good()).expect("the file is good")
}

#[test]
fn integers_of_any_type_that_fit() {
    let f = file();
    assert_eq!(f.u32("a.u8").unwrap(), 200);
    assert_eq!(f.u32("a.u16").unwrap(), 60000);
    assert_eq!(f.u32("a.u32").unwrap(), 4_000_000_000);
    assert_eq!(f.u64("a.u64").unwrap(), u64::MAX);
    assert_eq!(f.opt_u32("a.u8").unwrap(), Some(200));
    assert_eq!(f.i32s("b.i32").unwrap(), &[1, -2, 3][..]);
    assert_eq!(f.u32s("b.u64").unwrap(), &[][..]);
}

#[test]
fn floats_bools_strings() {
    let f = file();
    assert_eq!(f.f32("a.f32").unwrap().to_bits(), 1e-5f32.to_bits());
    assert!(f.f32("a.f64").unwrap().is_infinite(), "1e300 is beyond f32");
    assert!(f.bool("a.bool").unwrap());
    assert_eq!(f.str("general.architecture").unwrap(), "llama");
    assert_eq!(f.f32s("b.f32").unwrap(), &[1.5, f32::NEG_INFINITY][..]);
    assert_eq!(f.bools("b.bool").unwrap(), [true, false]);
    let strings = f.strings("b.strings").unwrap();
    assert_eq!(strings.len(), 4);
    assert_eq!(&strings[0], b"<s>");
    assert_eq!(strings.get(4), None);
    let all: Vec<&[u8]> = strings.iter().collect();
    assert_eq!(all, [&b"<s>"[..], b"", b"\xff\xfe", "größe".as_bytes()]);
}

#[test]
fn absent_is_none_and_wrong_is_an_error() {
    let f = file();
    assert_eq!(f.opt_u32("none").unwrap(), None);
    assert_eq!(f.opt_str("none").unwrap(), None);
    assert!(f.opt_strings("none").unwrap().is_none());
    let says = |result: Result<(), gguf::Error>, words: &[&str]| {
        let message = result.expect_err(words[0]).to_string();
        for word in words.iter().chain(&["good.gguf"]) {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    };
    says(f.u32("none").map(|_| ()), &["key none is missing"]);
    says(f.u32("a.i8").map(|_| ()), &["key a.i8 is the i8 -7", "0 to 4294967295"]);
    says(f.u32("a.u64").map(|_| ()), &["key a.u64 is the u64 18446744073709551615"]);
    says(f.opt_u32("a.f32").map(|_| ()), &["key a.f32 is the f32 0.00001", "an integer"]);
    says(f.opt_u32("a.bool").map(|_| ()), &["key a.bool is the bool true"]);
    says(f.u64("a.i64").map(|_| ()), &["key a.i64 is the i64 -9223372036854775808"]);
    says(f.f32("a.u8").map(|_| ()), &["key a.u8 is the u8 200", "a float"]);
    says(f.finite_f32("a.f64").map(|_| ()), &["key a.f64", "finite"]);
    says(f.bool("a.u8").map(|_| ()), &["a bool is needed"]);
    says(f.str("b.strings").map(|_| ()), &["key b.strings is an array of 4 string", "a string"]);
    says(f.strings("b.i32").map(|_| ()), &["an array of 3 i32", "an array of strings"]);
    says(f.opt_u32s("b.i32").map(|_| ()), &["an array of 3 i32", "0 to 4294967295"]);
    says(f.i32s("b.f32").map(|_| ()), &["an array of 2 f32"]);
    says(f.f32s("a.f32").map(|_| ()), &["an array of floats is needed"]);
    says(Err(f.wrong("a.u8", "a multiple of 64")), &["the u8 200; a multiple of 64 is needed"]);
}

#[test]
fn values_are_shown_on_one_safe_line() {
    assert_eq!(Value::from("a\u{1b}[31m\nb").to_string(), "a\\u{1b}[31m\\nb");
    assert_eq!(Value::from(vec![1u32, 2]).to_string(), "[1, 2]");
    assert_eq!(Value::from((0..100).collect::<Vec<u32>>()).to_string(), "[0, 1, 2, 3, 4, 5, … 100 in all]");
    let long = Value::from("x".repeat(10_000)).to_string();
    assert!(long.len() < 200 && long.contains('…'));
}
