//! Small changes of texts: characters and pieces taken out, doubled, swapped, or taken from other texts.

/// A stream of changed texts, the same for the same seed.
pub(crate) struct Mutator<'a> {
    texts: &'a [String],
    state: u64,
}

/// Pieces that parsers look at.
const PIECES: [&str; 40] = [
    "'",
    "\"",
    "\\",
    "\n",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "=",
    "<tool_call>\n",
    "\n</tool_call>",
    "</think>",
    "<think>",
    "**",
    "*",
    "-",
    "not ",
    "lambda:",
    "None",
    "True",
    "NaN",
    "1e999",
    "99999999999999999999",
    "0x",
    "'''",
    "\\N{",
    "\\u",
    "\0",
    "\u{feff}",
    "é",
    "\u{1d7d8}",
    "%s",
    "f'",
    " if ",
    "#",
    "..",
];

impl<'a> Mutator<'a> {
    pub(crate) fn new(texts: &'a [String], seed: u64) -> Self {
        Self {
            texts,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A number below `bound` (xorshift).
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % bound.max(1) as u64) as usize
    }

    fn text(&mut self) -> Vec<char> {
        let at = self.below(self.texts.len());
        self.texts[at].chars().collect()
    }

    /// A piece of a text, at most 30 characters.
    fn piece(&mut self, text: &[char]) -> std::ops::Range<usize> {
        let start = self.below(text.len() + 1);
        let end = (start + self.below(30)).min(text.len());
        start..end
    }

    /// The next text.
    pub(crate) fn next(&mut self) -> String {
        let mut text = self.text();
        for _ in 0..=self.below(6) {
            let piece = self.piece(&text);
            match self.below(6) {
                0 => drop(text.drain(piece)),
                1 => {
                    let copy: Vec<char> = text[piece.clone()].to_vec();
                    let times = 1 + self.below(20);
                    let copies = std::iter::repeat_n(copy, times).flatten();
                    drop(text.splice(piece.start..piece.start, copies));
                }
                2 => {
                    let other = self.text();
                    let from = self.piece(&other);
                    drop(text.splice(piece, other[from].iter().copied()));
                }
                3 => {
                    let at = self.below(PIECES.len());
                    drop(text.splice(piece.start..piece.start, PIECES[at].chars()));
                }
                4 => {
                    let at = self.below(PIECES.len());
                    drop(text.splice(piece, PIECES[at].chars()));
                }
                _ => {
                    let code = 1 + self.below(0x2_ffff) as u32;
                    let c = char::from_u32(code).unwrap_or('x');
                    text.insert(piece.start, c);
                }
            }
        }
        // What is longer teaches nothing new, and takes longer.
        text.truncate(4_000);
        text.into_iter().collect()
    }
}
