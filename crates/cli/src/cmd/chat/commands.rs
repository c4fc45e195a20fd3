//! What can be typed instead of a message: `/help` and its like.

use std::fs;
use std::path::Path;

use engine::Summary;
use serde_json::Value;
use text::chat::Message;

use super::conversation::Conversation;
use crate::failure::bad_input;
use crate::screen::printable;
use crate::{input, session};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Help,
    Exit,
    Clear,
    Regenerate,
    System(&'a str),
    Save(&'a str),
    Load(&'a str),
    Stats,
    Unknown(&'a str),
}

/// What follows a command.
#[derive(Debug)]
pub(super) enum Next {
    Leave,
    Answer,
    Say(String),
}

/// Names with what they take and do, in the order of `/help`.
const HELP: &[(&str, &str)] = &[
    ("/help", "show this"),
    ("/exit", "leave (also Ctrl-D)"),
    ("/clear", "forget the conversation"),
    ("/regen", "answer the last message again"),
    ("/system TEXT", "change what the model is told to be; without TEXT take it away"),
    ("/save FILE", "write the conversation as JSON"),
    ("/load FILE", "go on with a saved conversation"),
    ("/stats", "numbers of the last answer and of the context"),
    ("\\", "at the end of a line: the message goes on in the next"),
    ("\"\"\"", "around a message of several lines"),
];

/// The command a line is, if it is one.
pub(super) fn parse(line: &str) -> Option<Command<'_>> {
    let line = line.trim();
    if !line.starts_with('/') || line.contains('\n') {
        return None;
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    Some(match name {
        "/help" | "/?" => Command::Help,
        "/exit" | "/quit" | "/bye" => Command::Exit,
        "/clear" => Command::Clear,
        "/regen" => Command::Regenerate,
        "/system" => Command::System(rest),
        "/save" => Command::Save(rest),
        "/load" => Command::Load(rest),
        "/stats" => Command::Stats,
        _ => Command::Unknown(name),
    })
}

pub(super) fn run(
    command: &Command<'_>,
    conversation: &mut Conversation<'_>,
    last: Option<&Summary>,
) -> anyhow::Result<Next> {
    let said = match command {
        Command::Exit => return Ok(Next::Leave),
        Command::Regenerate => return Ok(Next::Answer),
        Command::Help => {
            let lines: Vec<String> = HELP.iter().map(|(name, does)| format!("  {name:<13} {does}")).collect();
            lines.join("\n")
        }
        Command::Clear => {
            conversation.clear();
            "the conversation is forgotten".to_owned()
        }
        Command::System(text) => {
            conversation.set_system(text);
            if text.is_empty() { "there is no system message any more" } else { "the system message is set" }
                .to_owned()
        }
        Command::Save(file) => save(Path::new(needed(file, "/save")?), conversation.messages())?,
        Command::Load(file) => {
            let messages = load(Path::new(needed(file, "/load")?))?;
            let said = format!("{} messages read", messages.len());
            conversation.replace(messages);
            said
        }
        Command::Stats => {
            let context = format!("context {} of {} positions", conversation.used(), conversation.context());
            last.map_or(context.clone(), |last| format!("{}\n{context}", session::summary_line(last)))
        }
        Command::Unknown(name) => {
            return Err(bad_input(format!("there is no command {}; /help lists them", printable(name))));
        }
    };
    Ok(Next::Say(said))
}

fn needed<'a>(file: &'a str, command: &str) -> anyhow::Result<&'a str> {
    if file.is_empty() { Err(bad_input(format!("{command} needs the name of a file"))) } else { Ok(file) }
}

fn save(path: &Path, messages: &[Message]) -> anyhow::Result<String> {
    let objects: Vec<Value> = messages.iter().map(|message| message.fields().clone().into()).collect();
    let name = printable(&path.to_string_lossy());
    let text = serde_json::to_string_pretty(&Value::from(objects))? + "\n";
    fs::write(path, text).map_err(|error| bad_input(format!("cannot write {name}: {error}")))?;
    Ok(format!("{} messages written to {name}", messages.len()))
}

/// Messages as OpenAI's chat format has them.
fn load(path: &Path) -> anyhow::Result<Vec<Message>> {
    let name = printable(&path.to_string_lossy());
    let wrong = |what: String| bad_input(format!("{name} is not a saved conversation: {what}"));
    let text = input::read_text(path)?;
    let messages: Vec<Value> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let message = |(i, value): (usize, Value)| match value {
        Value::Object(fields) => {
            let message = Message::from(fields);
            let known = matches!(message.role(), Some("system" | "user" | "assistant" | "tool"));
            if known && message.content().is_some() {
                Ok(message)
            } else {
                Err(wrong(format!("message {i} needs a known role and a content")))
            }
        }
        _ => Err(wrong(format!("message {i} is not an object"))),
    };
    messages.into_iter().enumerate().map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};

    #[test]
    fn commands_are_lines_that_start_with_a_slash() {
        assert_eq!(parse("/help"), Some(Command::Help));
        assert_eq!(parse(" /system  Be brief. "), Some(Command::System("Be brief.")));
        assert_eq!(parse("/hlep"), Some(Command::Unknown("/hlep")));
        assert_eq!(parse("What is 1/2?"), None);
        assert_eq!(parse("/etc/hosts\nis a file"), None);
    }
}
