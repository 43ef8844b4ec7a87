//! Passphrases: from a file, the environment, or a prompt on the terminal.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// Where a passphrase comes from.
#[derive(Debug, Clone, Default)]
pub struct PassphraseSource {
    /// A file whose first line is the passphrase.
    pub file: Option<PathBuf>,
    /// The name of an environment variable.
    pub variable: &'static str,
}

/// A passphrase cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The file cannot be read.
    #[error("{}: the passphrase file cannot be read", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no terminal to ask on.
    #[error("a passphrase for {what} is needed, and there is no terminal to ask on")]
    NoTerminal {
        /// What it is for.
        what: String,
        /// The environment variable that it may be in; none if empty.
        variable: &'static str,
    },
    /// The prompt failed.
    #[error("the passphrase cannot be read from the terminal")]
    Prompt(#[source] std::io::Error),
    /// The two entries differ.
    #[error("the two passphrases differ")]
    Differ,
    /// An empty one.
    #[error("the passphrase is empty")]
    Empty,
}

impl PassphraseError {
    /// What to do next, if it is known which passphrase it is.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTerminal { variable, .. } if !variable.is_empty() => {
                Some(format!("name a file whose first line it is with {variable}_FILE, or put it into {variable}"))
            }
            _ => None,
        }
    }
}

impl PassphraseSource {
    /// Gets the passphrase of something that exists: file, environment, prompt, in this order.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn get(&self, what: &str) -> Result<SecretString, PassphraseError> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => prompt(&format!("Passphrase for {what}: "), what, self.variable),
        }
    }

    /// Gets the passphrase from file or environment; `None` if neither has one, and a person would have to be asked.
    ///
    /// # Errors
    /// [`PassphraseError`] if the file cannot be read or is empty.
    pub fn given(&self) -> Result<Option<SecretString>, PassphraseError> {
        if let Some(path) = &self.file {
            let fail = |source| PassphraseError::File { path: path.clone(), source };
            let mut text = String::new();
            std::fs::File::open(path).map_err(fail)?.take(64 << 10).read_to_string(&mut text).map_err(fail)?;
            let text = SecretString::from(text);
            let line = text.expose_secret().lines().next().unwrap_or("");
            return if line.is_empty() { Err(PassphraseError::Empty) } else { Ok(Some(line.to_string().into())) };
        }
        if self.variable.is_empty() {
            return Ok(None);
        }
        Ok(std::env::var(self.variable).ok().filter(|v| !v.is_empty()).map(SecretString::from))
    }
}

/// Gets a passphrase for something new: file, environment, or a prompt that asks twice.
///
/// # Errors
/// [`PassphraseError`].
pub fn new_passphrase(source: &PassphraseSource, what: &str) -> Result<SecretString, PassphraseError> {
    if let Some(passphrase) = source.given()? {
        return Ok(passphrase);
    }
    let first = prompt(&format!("New passphrase for {what}: "), what, source.variable)?;
    let second = prompt("The same again: ", what, source.variable)?;
    if first.expose_secret() != second.expose_secret() {
        return Err(PassphraseError::Differ);
    }
    Ok(first)
}

fn prompt(text: &str, what: &str, variable: &'static str) -> Result<SecretString, PassphraseError> {
    if !std::io::stderr().is_terminal() && !std::io::stdin().is_terminal() {
        return Err(PassphraseError::NoTerminal { what: what.into(), variable });
    }
    let entered = rpassword::prompt_password(text).map_err(PassphraseError::Prompt)?;
    if entered.is_empty() { Err(PassphraseError::Empty) } else { Ok(entered.into()) }
}
