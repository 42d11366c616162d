//! The progress bar: on a terminal a bar with the loss's parts, elsewhere a line per validation.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// How much a training says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Everything.
    All,
    /// A bar, on a terminal: the training is one of several, and their caller says the rest.
    Bar,
    /// Nothing but errors.
    Nothing,
}

impl Talk {
    /// All, unless quiet is wanted.
    pub fn unless(quiet: bool) -> Self {
        if quiet { Self::Nothing } else { Self::All }
    }
}

/// How training is shown.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    lines: bool,
}

impl Progress {
    /// For a training of so many steps, some of them done already.
    pub fn new(steps: u64, done: u64, talk: Talk) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if talk == Talk::Nothing || !terminal { ProgressBar::hidden() } else { ProgressBar::new(steps) };
        let style = ProgressStyle::with_template("{bar:24.cyan/238} {pos}/{len} {msg} · {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌"));
        bar.set_position(done);
        bar.reset_eta();
        Self { bar, plain: !terminal, lines: talk == Talk::All }
    }

    /// After a step.
    pub fn step(&self, step: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(step);
        // Formatting every step would cost more than drawing, which indicatif limits by itself.
        if !self.bar.is_hidden() && step.is_multiple_of(10) {
            self.bar.set_message(message());
        }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match (self.lines, self.plain) {
            (false, _) => {}
            (true, true) => super::common::tell(text),
            (true, false) => self.bar.println(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
