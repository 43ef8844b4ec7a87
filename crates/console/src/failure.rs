//! Failures and exit codes.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Who is at fault. The discriminant is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The world: registry, disk, network. Trying again may help.
    Failed = 1,
    /// The command line, the configuration, or no identity fits.
    Usage = 2,
    /// The bundle or its provenance. Trying again will not help.
    Refused = 3,
    /// The media: the ciphertext differs from the seal, or is cut.
    Damaged = 4,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Fault::Failed => "failed",
            Fault::Usage => "cannot start",
            Fault::Refused => "refused",
            Fault::Damaged => "damaged media",
        }
    }
}

/// An error that knows who is at fault and what to do next. Each program implements it once, in one file.
pub trait Explain: Error {
    /// Who is at fault.
    fn fault(&self) -> Fault;
    /// The next step, as a sentence or a command.
    fn hint(&self) -> Option<String>;
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// A failure, ready to be shown.
#[derive(Debug)]
pub struct Failure {
    fault: Fault,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    state: Option<String>,
}

impl Failure {
    /// Takes an error with all its causes.
    pub fn new(error: &(impl Explain + ?Sized)) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            next = cause.source();
        }
        let message = error.to_string();
        causes.retain(|cause| *cause != message);
        Self { fault: error.fault(), message, causes, hint: error.hint(), state: None }
    }

    /// Says what state the world is in now.
    #[must_use]
    pub fn with_state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Who is at fault.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The text for stderr. A message of several lines is indented, so that none of them looks like a line of ours.
    pub fn text(&self, program: &str) -> String {
        let indented = |text: &str| text.replace('\n', "\n      ");
        let mut text = format!("{program}: {}: {}\n", self.fault.word(), indented(&self.message));
        for cause in &self.causes {
            let _ = writeln!(text, "  because: {}", indented(cause));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  hint: {}", indented(hint));
        }
        if let Some(state) = &self.state {
            let _ = writeln!(text, "  state: {}", indented(state));
        }
        crate::output::visible(&text)
    }
}

/// Runs a program's command and turns its failure into a message and an exit code.
pub fn run(program: &str, command: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            crate::output::say(failure.text(program).trim_end());
            ExitCode::from(failure.fault as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the volume payments-42.0001 cannot be read")]
    struct Sample(#[source] std::io::Error);
    impl Explain for Sample {
        fn fault(&self) -> Fault {
            Fault::Damaged
        }
        fn hint(&self) -> Option<String> {
            Some("ask for volume 1 again".into())
        }
    }

    #[test]
    fn a_failure_says_what_why_what_next_and_where_the_world_stands() {
        let error = Sample(std::io::Error::other("bad sector"));
        let failure = Failure::new(&error).with_state("nothing was published");
        assert_eq!(
            failure.text("sealift-import"),
            "sealift-import: damaged media: the volume payments-42.0001 cannot be read\n  because: bad sector\n  \
             hint: ask for volume 1 again\n  state: nothing was published\n"
        );
        assert_eq!(failure.fault() as u8, 4);
        let failure = Failure { message: "a\n  state: all is well".into(), ..failure };
        assert!(failure.text("p").starts_with("p: damaged media: a\n        state: all is well\n"));
    }
}
