//! Progress: bars on a terminal, plain lines elsewhere, nothing when quiet.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{bytes, say};

/// Shows how far the work is. Shared by the threads that do it.
pub struct Progress {
    kind: Kind,
}

enum Kind {
    Quiet,
    Lines(Mutex<Lines>),
    Bars { all: MultiProgress, total: Mutex<Option<ProgressBar>> },
}

struct Lines {
    total: u64,
    done: u64,
    begun: Instant,
    said: Instant,
}

/// Plain lines come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    /// Bars if stderr is a terminal, lines if not, nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let now = Instant::now();
        let kind = if quiet {
            Kind::Quiet
        } else if std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb") {
            Kind::Bars { all: MultiProgress::new(), total: Mutex::new(None) }
        } else {
            Kind::Lines(Mutex::new(Lines { total: 0, done: 0, begun: now, said: now }))
        };
        Self { kind }
    }

    /// Says something, above the bars.
    pub fn say(&self, text: impl Display) {
        let text = text.to_string();
        match &self.kind {
            Kind::Quiet => {}
            Kind::Lines(_) => say(&text),
            Kind::Bars { all, .. } => all.suspend(|| say(&text)),
        }
    }

    /// Says something that must not be missed, even when quiet.
    pub fn warn(&self, text: impl Display) {
        let text = text.to_string();
        match &self.kind {
            Kind::Quiet | Kind::Lines(_) => say(&format!("warning: {text}")),
            Kind::Bars { all, .. } => all.suspend(|| say(&format!("warning: {text}"))),
        }
    }

    /// Begins a stage of a known number of bytes.
    pub fn begin(&self, what: &str, total_bytes: u64) {
        match &self.kind {
            Kind::Quiet => {}
            Kind::Lines(lines) => {
                say(&format!("{what}: {}", bytes(total_bytes)));
                let now = Instant::now();
                if let Ok(mut lines) = lines.lock() {
                    *lines = Lines { total: total_bytes, done: 0, begun: now, said: now };
                }
            }
            Kind::Bars { all, total } => {
                let bar = all.add(ProgressBar::new(total_bytes).with_message(what.to_string()).with_style(style(
                    "{msg:20} {wide_bar} {binary_bytes:>11}/{binary_total_bytes} {binary_bytes_per_sec:>12} {eta:>5} left",
                )));
                if let Ok(mut total) = total.lock()
                    && let Some(old) = total.replace(bar)
                {
                    old.finish_and_clear();
                }
            }
        }
    }

    /// Begins one item of the stage.
    pub fn item(&self, name: &str, size: u64) -> Item<'_> {
        let bar = match &self.kind {
            Kind::Bars { all, .. } => {
                let short: String = name.chars().take(28).collect();
                let bar = ProgressBar::new(size)
                    .with_message(short)
                    .with_style(style("  {msg:28} {bar:20} {binary_bytes:>11}/{binary_total_bytes}"));
                Some(all.insert(0, bar))
            }
            _ => None,
        };
        Item { progress: self, bar }
    }

    /// Ends the stage and takes the bars away.
    pub fn end(&self) {
        if let Kind::Bars { total, .. } = &self.kind
            && let Ok(mut total) = total.lock()
            && let Some(bar) = total.take()
        {
            bar.finish_and_clear();
        }
    }

    /// Adds bytes to the stage.
    pub fn advance(&self, n: u64) {
        match &self.kind {
            Kind::Quiet => {}
            Kind::Bars { total, .. } => {
                if let Ok(total) = total.lock()
                    && let Some(bar) = total.as_ref()
                {
                    bar.inc(n);
                }
            }
            Kind::Lines(lines) => {
                let Ok(mut lines) = lines.lock() else { return };
                lines.done += n;
                if lines.said.elapsed() >= LINE_EVERY {
                    lines.said = Instant::now();
                    let seconds = lines.begun.elapsed().as_secs_f64();
                    let rate = lines.done as f64 / seconds;
                    let left = lines.total.saturating_sub(lines.done) as f64 / rate.max(1.0);
                    say(&format!(
                        "  {} of {}, {}/s, {left:.0} s left",
                        bytes(lines.done),
                        bytes(lines.total),
                        bytes(rate as u64)
                    ));
                }
            }
        }
    }
}

impl Drop for Progress {
    /// What failed half-way leaves no bar behind.
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars(if std::env::var_os("NO_COLOR").is_some() { "=> " } else { "█▉▊▋▌▍▎▏ " })
}

/// One item; gone from the screen when dropped.
pub struct Item<'a> {
    progress: &'a Progress,
    bar: Option<ProgressBar>,
}

impl Item<'_> {
    /// Adds bytes to this item and to the whole.
    pub fn advance(&self, n: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(n);
        }
        self.progress.advance(n);
    }

    /// A reader that counts what passes.
    pub fn reader<R: std::io::Read>(&self, inner: R) -> CountingReader<'_, R> {
        CountingReader { inner, item: self }
    }
}

impl Drop for Item<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// See [`Item::reader`].
pub struct CountingReader<'a, R> {
    inner: R,
    item: &'a Item<'a>,
}

impl<R: std::io::Read> std::io::Read for CountingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.item.advance(n as u64);
        Ok(n)
    }
}
