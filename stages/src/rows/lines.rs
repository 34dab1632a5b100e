//! Cutting a stream of bytes into the texts of its rows: a line each, or an element each of one JSON list.

use std::io::{self, BufRead};

/// A row that is longer than this is refused, for a row is held in memory whole.
pub(super) const LONGEST: usize = 256 << 20;

/// What a cut gave.
pub(super) enum Cut {
    /// A row's bytes, and the line that they start on, from 1.
    Row(usize),
    /// There is nothing more.
    End,
    /// The file is broken from this line on.
    Broken(usize, &'static str),
}

/// Reads JSON lines.
pub(super) struct Lines<R> {
    input: R,
    line: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 0 }
    }

    /// Puts the next line that is not blank behind what `row` holds.
    pub(super) fn cut(&mut self, row: &mut Vec<u8>) -> io::Result<Cut> {
        let start = row.len();
        loop {
            row.truncate(start);
            loop {
                let buffer = self.input.fill_buf()?;
                if buffer.is_empty() {
                    break;
                }
                let end = memchr::memchr(b'\n', buffer);
                let taken = end.map_or(buffer.len(), |n| n + 1);
                row.extend_from_slice(&buffer[..taken]);
                self.input.consume(taken);
                if end.is_some() {
                    break;
                }
                if row.len() - start > LONGEST {
                    return Ok(Cut::Broken(self.line + 1, "the line is too long"));
                }
            }
            if row.len() == start {
                return Ok(Cut::End);
            }
            self.line += 1;
            let kept = row[start..].trim_ascii_end().len();
            row.truncate(start + kept);
            if kept > 0 {
                return Ok(Cut::Row(self.line));
            }
        }
    }
}

/// Reads the elements of one JSON list, however it is laid out.
pub(super) struct Elements<R> {
    input: R,
    line: usize,
    state: State,
}

enum State {
    /// The bracket that opens the list was not read yet.
    Start,
    /// Before an element; `true` when one must come.
    Before(bool),
    /// After an element.
    After,
    /// After the list.
    End,
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            line: 1,
            state: State::Start,
        }
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.input.fill_buf()?;
            let Some(&byte) = buffer.first() else {
                return Ok(None);
            };
            self.input.consume(1);
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Ok(Some(byte)),
            }
        }
    }

    /// Puts the text of the next element behind what `row` holds.
    pub(super) fn cut(&mut self, row: &mut Vec<u8>) -> io::Result<Cut> {
        loop {
            let byte = self.next_byte()?;
            match (&self.state, byte) {
                (State::End, None) => return Ok(Cut::End),
                (State::End, Some(_)) => {
                    return Ok(Cut::Broken(self.line, "something follows the list"));
                }
                (_, None) => return Ok(Cut::Broken(self.line, "the file ends inside the list")),
                (State::Start, _) => self.state = State::Before(false),
                (State::Before(false), Some(b']')) | (State::After, Some(b']')) => {
                    self.state = State::End;
                }
                (State::After, Some(b',')) => self.state = State::Before(true),
                (State::After, Some(_)) => {
                    return Ok(Cut::Broken(self.line, "`,` or `]` is missing after a row"));
                }
                (State::Before(_), Some(b',' | b']' | b'}')) => {
                    return Ok(Cut::Broken(self.line, "a row is missing"));
                }
                (State::Before(_), Some(first)) => return self.element(first, row),
            }
        }
    }

    /// Takes an element whose first byte is `first`: up to the comma or bracket that ends it.
    fn element(&mut self, first: u8, row: &mut Vec<u8>) -> io::Result<Cut> {
        let (start, before) = (self.line, row.len());
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        // Says whether the byte belongs to the element.
        let mut takes = |byte: u8| {
            if quoted {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => quoted = false,
                    _ => {}
                }
                return true;
            }
            match byte {
                b'"' => quoted = true,
                b'[' | b'{' => depth += 1,
                b',' | b']' | b'}' if depth == 0 => return false,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            true
        };
        takes(first);
        row.push(first);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(Cut::Broken(self.line, "the file ends inside a row"));
            }
            let end = buffer.iter().position(|&byte| !takes(byte));
            let taken = &buffer[..end.unwrap_or(buffer.len())];
            row.extend_from_slice(taken);
            self.line += memchr::memchr_iter(b'\n', taken).count();
            let taken = taken.len();
            self.input.consume(taken);
            if end.is_some() {
                self.state = State::After;
                return Ok(Cut::Row(start));
            }
            if row.len() - before > LONGEST {
                return Ok(Cut::Broken(start, "the row is too long"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Rows with their lines, and the fault that ended them.
    type Found = (Vec<(usize, String)>, Option<(usize, &'static str)>);

    fn elements(text: &str, capacity: usize) -> Found {
        let mut elements = Elements::new(BufReader::with_capacity(capacity, text.as_bytes()));
        let (mut rows, mut row) = (Vec::new(), Vec::new());
        loop {
            row.clear();
            match elements.cut(&mut row).expect("no disk here") {
                Cut::Row(line) => rows.push((line, String::from_utf8(row.clone()).expect("text"))),
                Cut::End => return (rows, None),
                Cut::Broken(line, why) => return (rows, Some((line, why))),
            }
        }
    }

    #[test]
    fn elements_are_cut_wherever_the_buffer_ends() {
        let text = "[\n {\"a\": \"]},\\\"\"},\n {\"b\":\n [1, {}]} , 3\n]\n";
        for capacity in 1..20 {
            let (rows, broken) = elements(text, capacity);
            assert_eq!(broken, None);
            let found: Vec<(usize, &str)> = rows.iter().map(|(n, t)| (*n, t.trim())).collect();
            assert_eq!(
                found,
                [
                    (2, "{\"a\": \"]},\\\"\"}"),
                    (3, "{\"b\":\n [1, {}]}"),
                    (4, "3")
                ]
            );
        }
        assert_eq!(elements("[]", 8), (Vec::new(), None));
    }

    #[test]
    fn what_is_cut_off_is_said() {
        for (text, line, why) in [
            ("[{\"a\": 1},\n{\"b\"", 2, "the file ends inside a row"),
            ("[{}\n", 2, "the file ends inside a row"),
            ("[{},\n", 2, "the file ends inside the list"),
            ("[{} {}]", 1, ""),
            ("[{},]", 1, "a row is missing"),
            ("[1] 2", 1, "something follows the list"),
        ] {
            let (_, broken) = elements(text, 4);
            if why.is_empty() {
                // The two objects come out as one text, which is no JSON.
                assert_eq!(broken, None);
            } else {
                assert_eq!(broken, Some((line, why)), "{text}");
            }
        }
    }
}
