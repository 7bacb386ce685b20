//! Files on their way here, one after the other.

use super::Look;
use crate::{
    chart::bar,
    number::{bytes, duration},
    sanitize,
};
use std::io::{self, Write};

/// Seconds between two drawings of the bar.
const REDRAW: f64 = 0.1;
/// The rate is that of so many seconds, so that a slow start is forgotten.
const RATE_SECONDS: f64 = 5.0;
/// Columns of the bar at most.
const BAR: usize = 30;

/// Shows how far a transfer of files is: on a terminal with a bar below the lines, elsewhere with
/// one line for each thing that happens.
///
/// Times are in seconds since the transfer began; no clock is read.
///
/// ```
/// use forerunner_report::terminal::{Look, Transfer};
///
/// let mut text = Vec::new();
/// let mut transfer = Transfer::new(&mut text, Look::plain(), 2);
/// transfer.begin(0.0, "a.bin", 4096, 1024)?;
/// transfer.received(0.1, 2048)?;
/// transfer.end("a.bin", "3.0 KiB fetched")?;
/// drop(transfer);
/// let expected = "a.bin: from 1.0 KiB of 4.0 KiB on\n1/2 a.bin: 3.0 KiB fetched\n";
/// assert_eq!(String::from_utf8(text).unwrap(), expected);
/// # std::io::Result::Ok(())
/// ```
pub struct Transfer<W: Write> {
    out: W,
    look: Look,
    n_files: usize,
    n_done: usize,
    file: String,
    bytes: u64,
    /// When how many bytes were here, the last seconds only.
    points: Vec<(f64, u64)>,
    drawn_at: f64,
    on_screen: bool,
}

impl<W: Write> Transfer<W> {
    /// Shows a transfer of so many files on `out`.
    pub fn new(out: W, look: Look, n_files: usize) -> Self {
        Self {
            out,
            look,
            n_files,
            n_done: 0,
            file: String::new(),
            bytes: 0,
            points: Vec::new(),
            drawn_at: f64::NEG_INFINITY,
            on_screen: false,
        }
    }

    /// A file of `total` bytes is on its way, of which `here` are here.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn begin(&mut self, at: f64, file: &str, total: u64, here: u64) -> io::Result<()> {
        file.clone_into(&mut self.file);
        self.bytes = total;
        self.points = vec![(at, here)];
        if self.look.live {
            self.draw(at)
        } else if here > 0 {
            let (here, total) = (bytes(here as f64), bytes(total as f64));
            self.line(&format!("{file}: from {here} of {total} on"))
        } else {
            self.line(&format!("{file}: {}", bytes(total as f64)))
        }
    }

    /// Now `here` bytes of that file are here.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn received(&mut self, at: f64, here: u64) -> io::Result<()> {
        self.points.push((at, here));
        let recent = |&&(then, _): &&(f64, u64)| at - then > RATE_SECONDS;
        let n_old = self.points.iter().take_while(recent).count();
        self.points.drain(..n_old.min(self.points.len() - 1));
        if self.look.live && at - self.drawn_at >= REDRAW {
            return self.draw(at);
        }
        Ok(())
    }

    /// A file is done; `said` is what there is to say about it.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn end(&mut self, file: &str, said: &str) -> io::Result<()> {
        self.n_done += 1;
        let (n_done, n_files) = (self.n_done, self.n_files);
        self.line(&format!("{n_done}/{n_files} {file}: {said}"))
    }

    /// A line of its own, above the bar.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.clear()?;
        writeln!(self.out, "{}", sanitize::line(text))?;
        self.out.flush()
    }

    /// Removes the bar, for example before something else is written there.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.on_screen) {
            write!(self.out, "\r\x1b[K")?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn draw(&mut self, at: f64) -> io::Result<()> {
        self.drawn_at = at;
        self.on_screen = true;
        // The last column stays free: some terminals wrap when it is used.
        let row = self.row(self.look.width.columns() - 1);
        write!(self.out, "\r{row}\x1b[K")?;
        self.out.flush()
    }

    /// The bar with what is known, in at most so many columns.
    fn row(&self, columns: usize) -> String {
        let here = self.points.last().map_or(0, |&(_, here)| here);
        let share = here as f64 / self.bytes.max(1) as f64;
        let mut after = format!(" {:3.0} % of {}", 100.0 * share, bytes(self.bytes as f64));
        if let Some(rate) = self.rate() {
            let left = self.bytes.saturating_sub(here) as f64 / rate;
            after += &format!("  {}/s  {} left", bytes(rate), duration(left));
        }
        let before = format!("{}/{}  {}  ", self.n_done + 1, self.n_files, self.file);
        let room = columns.saturating_sub(before.chars().count() + after.chars().count());
        let bar = bar(share, room.min(BAR));
        format!("{before}{bar}{after}").chars().take(columns).collect()
    }

    /// Bytes per second of late.
    fn rate(&self) -> Option<f64> {
        let ((then, few), (now, many)) = (self.points.first()?, self.points.last()?);
        let rate = many.saturating_sub(*few) as f64 / (now - then);
        (rate.is_finite() && rate > 0.0).then_some(rate)
    }
}

impl<W: Write> Drop for Transfer<W> {
    /// Leaves a clean line behind, also when the transfer ends with an error.
    fn drop(&mut self) {
        // Nobody is left to tell about a terminal that has gone.
        let _ = self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Width;

    #[test]
    fn on_a_terminal_a_bar_goes_below_the_lines() {
        let mut text = Vec::new();
        let look = Look { live: true, width: Width::Columns(72), ..Look::plain() };
        let mut transfer = Transfer::new(&mut text, look, 9);
        transfer.begin(0.0, "a.bin", 200 << 20, 0).unwrap();
        transfer.received(0.05, 1 << 20).unwrap();
        transfer.received(2.0, 50 << 20).unwrap();
        transfer.end("a.bin", "fetched").unwrap();
        drop(transfer);
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<&str> = text.split('\r').collect();
        assert_eq!(rows[1], "1/9  a.bin                                   0 % of 200.0 MiB\x1b[K");
        let expected = "1/9  a.bin  ████▎              25 % of 200.0 MiB  25.0 MiB/s  0:06 left";
        assert_eq!(rows[2].trim_end_matches("\x1b[K"), expected);
        assert_eq!(expected.chars().count(), 71, "the last column stays free");
        assert_eq!(rows[3], "\x1b[K1/9 a.bin: fetched\n", "and nothing is left of it");
        assert_eq!(rows.len(), 4, "a drawing too soon is left out");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut transfer = Transfer::new(Vec::new(), Look::plain(), 1);
        transfer.begin(0.0, "a.bin", 1 << 30, 0).unwrap();
        assert_eq!(transfer.rate(), None);
        transfer.received(100.0, 100).unwrap();
        for second in 1..=20_u64 {
            transfer.received(100.0 + second as f64, 100 + 4096 * second).unwrap();
        }
        assert_eq!(transfer.rate(), Some(4096.0));
    }
}
