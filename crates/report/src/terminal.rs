//! A run on a terminal, as it happens.
//!
//! [`Live`] turns events into lines. Plain, it writes one line for each important event and
//! nothing else: stable, readable, without colours, fit for a log file. Live, the same lines
//! scroll above a block of status that is drawn again in place.

mod line;
mod log;
mod look;
mod status;
mod transfer;

pub(crate) use line::shorten;
pub use look::{Look, Stream, Width};
pub use transfer::Transfer;

use forerunner_runtime::event::{Event, EventKind};
use line::Line;
use status::Status;
use std::io::{self, Write};

/// Seconds between two drawings of the status, so that a fast run does not spend its time on it.
const REDRAW: f64 = 0.1;

/// Shows a run while it goes on.
///
/// ```
/// use forerunner_report::terminal::{Live, Look};
/// use forerunner_runtime::event::{Event, EventKind};
///
/// let mut text = Vec::new();
/// let mut live = Live::new(&mut text, Look::plain());
/// live.event(&Event { at: 61.0, kind: EventKind::Warning { message: "disk is filling".into() } })?;
/// drop(live);
/// assert_eq!(String::from_utf8(text).unwrap(), "    1:01  warning     disk is filling\n");
/// # std::io::Result::Ok(())
/// ```
pub struct Live<W: Write> {
    out: W,
    look: Look,
    status: Status,
    /// Rows of status that are on the screen now.
    rows: usize,
    drawn_at: f64,
    over: bool,
}

impl<W: Write> Live<W> {
    /// Shows events on `out`.
    pub fn new(out: W, look: Look) -> Self {
        let drawn_at = f64::NEG_INFINITY;
        Self { out, look, status: Status::new(), rows: 0, drawn_at, over: false }
    }

    /// Takes in an event of an earlier session without showing it, so that a resumed run knows
    /// its best program, its frontier and its failures from the start.
    pub fn replay(&mut self, event: &Event) {
        self.status.take_in(event);
    }

    /// Shows an event.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        // The line compares with what was best before this event.
        let line = log::line(event, &self.status, self.look.quiet);
        self.status.take_in(event);
        self.over = matches!(event.kind, EventKind::RunFinished(_));
        self.show(line.as_ref(), event.at)
    }

    /// Lets time pass without an event: redraws the status when it is due. `at` is in seconds
    /// since the run started, like [`Event::at`].
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn tick(&mut self, at: f64) -> io::Result<()> {
        self.status.pass(at);
        self.show(None, at)
    }

    /// Removes the status from the screen, for example before something else is written there.
    /// The next event draws it again.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.rows > 0 {
            let erase = self.erase();
            self.out.write_all(erase.as_bytes())?;
            self.out.flush()?;
        }
        self.drawn_at = f64::NEG_INFINITY;
        Ok(())
    }

    fn show(&mut self, line: Option<&Line>, at: f64) -> io::Result<()> {
        let due = self.look.live && at - self.drawn_at >= REDRAW;
        if line.is_none() && !due && !self.over {
            return Ok(());
        }
        let mut text = self.erase();
        if let Some(line) = line {
            text.push_str(&line.render(self.look.colour, None));
            text.push('\n');
        }
        if self.look.live && !self.over {
            let columns = self.look.width.columns();
            let rows = self.status.rows();
            self.rows = rows.len();
            self.drawn_at = at;
            for row in rows {
                // The last column stays free: some terminals wrap when it is used.
                text.push_str(&row.render(self.look.colour, Some(columns.saturating_sub(1))));
                text.push('\n');
            }
        }
        if self.look.live {
            // One synchronized update: terminals that know it do not flicker, others ignore it.
            text = format!("\x1b[?2026h{text}\x1b[?2026l");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// What moves the cursor to the first row of the status and erases from there to the end.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.rows) {
            0 => String::new(),
            rows => format!("\r\x1b[{rows}A\x1b[J"),
        }
    }
}

impl<W: Write> Drop for Live<W> {
    /// Leaves a clean screen behind, also when the run ends with an error.
    fn drop(&mut self) {
        // Nobody is left to tell about a terminal that has gone.
        let _ = self.clear();
    }
}

#[cfg(test)]
mod tests;
