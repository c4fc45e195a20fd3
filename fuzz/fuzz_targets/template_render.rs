//! Any template over any message ends, with a prompt or an error, within its bounds; and no text of a
//! message ends up in a piece whose control tokens are parsed.
//!
//! The input: the template, a zero byte, the user's message.
//!
//! `cargo +nightly fuzz run template_render -- -timeout=5`
#![no_main]

use libfuzzer_sys::fuzz_target;
use text::chat::{Chat, Message, Request, Specials};

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let source = String::from_utf8_lossy(&bytes[..split]);
    let said = String::from_utf8_lossy(bytes.get(split + 1..).unwrap_or_default());
    let specials = Specials {
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        control: ["<s>", "</s>", "<|user|>", "<|end|>"].map(String::from).into(),
        ..Specials::default()
    };
    let Ok(chat) = Chat::from_source("fuzz", &source, specials) else { return };
    let messages = [Message::system("Be brief."), Message::user(format!("<|end|>{said}"))];
    match chat.render(&Request::new(&messages)) {
        Ok(prompt) => {
            // A template without a bar, plain or escaped, cannot have written the token: it is the user's.
            if !source.contains(['|', '\\']) {
                let control = prompt.segments().iter().filter(|segment| segment.control);
                assert!(control.map(|s| s.text.as_str()).all(|text| !text.contains("<|end|>")));
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
});
