//! One line of the doctor's.

use serde_json::{Value, json};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// It does not apply here.
    Skip,
    /// Nothing to do.
    Ok,
    /// Something costs speed or stability.
    Warn,
    /// Something keeps models from running as they should.
    Fail,
}

impl Status {
    /// As printed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Skip => "--",
            Status::Ok => "OK",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        }
    }

    /// As in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Skip => "skip",
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

/// What was looked at, how it is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// What was found.
    pub(crate) found: String,
    /// A command that mends it, or what to do; of a check that went well, what may be better still.
    pub(crate) fix: Option<String>,
}

impl Check {
    /// Nothing to do.
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, status: Status::Ok, found: found.into(), fix: None }
    }

    /// It does not apply, for this reason.
    pub(crate) fn skip(name: &'static str, why: impl Into<String>) -> Check {
        Check { name, status: Status::Skip, found: why.into(), fix: None }
    }

    /// Something costs speed or stability.
    pub(crate) fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { name, status: Status::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    /// Something keeps models from running as they should.
    pub(crate) fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { name, status: Status::Fail, found: found.into(), fix: Some(fix.into()) }
    }

    /// With advice.
    pub(crate) fn or(mut self, fix: impl Into<String>) -> Check {
        self.fix = Some(fix.into());
        self
    }

    /// As an object.
    pub(crate) fn json(&self) -> Value {
        json!({"name": self.name, "status": self.status.name(), "found": self.found, "fix": self.fix})
    }
}
