//! `chat` from a pipe: each line a turn.

mod common;

use common::{Folder, run_with};

fn chat(args: &[&str], lines: &str) -> common::Ran {
    run_with(&[&["chat", "--temp", "0"], args].concat(), lines.as_bytes())
}

#[test]
fn earlier_turns_are_remembered() {
    let said = chat(&[], "Hi! My name is Kim.\nWhat is 17 + 25?\nWhat is my name?\n").ok();
    // The model's card has these turns.
    assert_eq!(said, "Nice to meet you, Kim!\n17 + 25 = 42.\nYour name is Kim.\n");
}

#[test]
fn what_was_computed_is_used_again() {
    let ran = chat(&[], "Hi! My name is Kim.\nWhat is my name?\n/stats\n");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let stats = ran.err.lines().find(|line| line.starts_with("prompt ")).expect("/stats prints the summary");
    assert!(stats.contains("more were cached)"), "{stats}");
    assert!(ran.err.contains("of 1024 positions"), "{}", ran.err);
}

#[test]
fn clear_forgets_and_regen_repeats() {
    let said = chat(&[], "Hi! My name is Kim.\n/clear\nWhat is 2+2?\n/regen\n").ok();
    assert_eq!(said, "Nice to meet you, Kim!\n2 + 2 = 4.\n2 + 2 = 4.\n");
    assert!(chat(&[], "/regen\n").refused().contains("there is no answer to give again yet"));
}

#[test]
fn the_system_message_can_be_changed() {
    let json = "/system Answer only in JSON with the key \"answer\".\nHow many legs does a spider have?\n";
    assert_eq!(chat(&[], json).ok(), "{\"answer\": \"eight\"}\n");
    let flag = ["-s", "Answer only in JSON with the key \"answer\"."];
    assert_eq!(chat(&flag, "How many legs does a spider have?\n").ok(), "{\"answer\": \"eight\"}\n");
}

#[test]
fn a_conversation_is_saved_and_loaded() {
    let folder = Folder::new();
    let file = folder.arg("talk.json");
    chat(&[], &format!("Hi! My name is Kim.\n/save {file}\n")).ok();
    let saved: serde_json::Value = serde_json::from_slice(&folder.read("talk.json")).expect("JSON");
    assert_eq!(saved[0]["role"], "user");
    assert_eq!(saved[1]["content"], "Nice to meet you, Kim!");
    let said = chat(&[], &format!("/load {file}\nWhat is my name?\n")).ok();
    assert_eq!(said, "Your name is Kim.\n");
    let bad = folder.write("bad.json", b"[{\"role\": \"wizard\", \"content\": \"x\"}]");
    assert!(chat(&[], &format!("/load {bad}\n")).refused().contains("message 0 needs a known role"));
    assert!(chat(&[], "/save\n").refused().contains("/save needs the name of a file"));
}

#[test]
fn a_long_conversation_forgets_its_beginning() {
    let ran = chat(&["-c", "96"], &"What is 17 + 25?\n".repeat(6));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.out, "17 + 25 = 42.\n".repeat(6));
    assert!(ran.err.contains("[kv] evicted the oldest 2 messages ("), "{}", ran.err);
}

#[test]
fn commands_are_helped() {
    let ran = chat(&[], "/help\n/exit\nWhat is 2+2?\n");
    assert!(ran.err.contains("/regen") && ran.err.contains("/save FILE"), "{}", ran.err);
    assert_eq!(ran.ok(), "", "nothing after /exit");
    assert!(chat(&[], "/hlep\n").refused().contains("there is no command /hlep; /help lists them"));
}
