//! Tables of plain text whose columns line up.

use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr;

/// Where the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table under construction. Cells must be free of control characters.
pub(crate) struct Table {
    heads: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(heads: &[(&str, Side)]) -> Self {
        let heads = heads.iter().map(|(head, side)| ((*head).to_owned(), *side)).collect();
        Self { heads, rows: Vec::new() }
    }

    /// One more row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Leaves out the columns of this name when all their cells are equal.
    pub(crate) fn without_constant(&mut self, names: &[&str]) {
        for name in names {
            let Some(column) = self.heads.iter().position(|(head, _)| head == name) else {
                continue;
            };
            let mut cells = self.rows.iter().map(|row| row.get(column));
            let first = cells.next();
            if cells.all(|cell| Some(cell) == first) {
                self.heads.remove(column);
                for row in self.rows.iter_mut().filter(|row| column < row.len()) {
                    row.remove(column);
                }
            }
        }
    }

    /// The heads and rows, indented by two blanks, one line each. Columns in which nothing stands are
    /// left out.
    pub(crate) fn render(&self) -> String {
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let shown: Vec<usize> = (0..self.heads.len())
            .filter(|column| self.rows.iter().any(|row| !cell(row, *column).is_empty()))
            .collect();
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| head.clone()).collect();
        let lines = || std::iter::once(&heads).chain(&self.rows);
        let widths: Vec<usize> = shown
            .iter()
            .map(|column| lines().map(|row| cell(row, *column).width()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in lines() {
            let mut line = String::new();
            for (column, width) in shown.iter().zip(&widths) {
                let cell = cell(row, *column);
                let blanks = " ".repeat(width - cell.width());
                let (before, after) = match self.heads[*column].1 {
                    Side::Left => (String::new(), blanks),
                    Side::Right => (blanks, String::new()),
                };
                let _ = write!(line, "  {before}{cell}{after}");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut table = Table::new(&[
            ("n", Side::Right),
            ("empty", Side::Left),
            ("same", Side::Left),
            ("who", Side::Left),
            ("last", Side::Left),
        ]);
        table.row(vec!["1".into(), String::new(), "x".into(), "日本".into(), "a b".into()]);
        table.row(vec!["1000".into(), String::new(), "x".into(), "me".into()]);
        assert_eq!(
            table.render(),
            "     n  same  who   last\n     1  x     日本  a b\n  1000  x     me\n"
        );
        table.without_constant(&["same", "who", "nothing"]);
        assert_eq!(table.render(), "     n  who   last\n     1  日本  a b\n  1000  me\n");
    }
}
