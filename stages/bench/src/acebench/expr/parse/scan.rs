//! The text under the parser: bytes, blanks, words and brackets.

use std::borrow::Cow;

use unicode_ident::{is_xid_continue, is_xid_start};
use unicode_normalization::UnicodeNormalization;

use super::super::Reject;
use super::Parser;

/// Python's tokenizer gives up beyond this many brackets open at once.
const MAX_BRACKETS: u32 = 200;

/// Whether the byte can be part of a name, as far as a byte can tell.
fn is_word(byte: u8) -> bool {
    WORD[usize::from(byte)]
}

const WORD: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    table
};

/// Whether a name can begin so, as far as a byte can tell.
pub(super) fn begins_name(byte: u8) -> bool {
    is_word(byte) && !byte.is_ascii_digit()
}

/// Whether this is one of Python's reserved words; nothing else is barred from being a name.
pub(crate) fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "False"
            | "None"
            | "True"
            | "and"
            | "as"
            | "assert"
            | "async"
            | "await"
            | "break"
            | "class"
            | "continue"
            | "def"
            | "del"
            | "elif"
            | "else"
            | "except"
            | "finally"
            | "for"
            | "from"
            | "global"
            | "if"
            | "import"
            | "in"
            | "is"
            | "lambda"
            | "nonlocal"
            | "not"
            | "or"
            | "pass"
            | "raise"
            | "return"
            | "try"
            | "while"
            | "with"
            | "yield"
    )
}

impl<'a> Parser<'a> {
    pub(in super::super) fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.pos + ahead).copied()
    }

    /// Length of the line end at `ahead`, if there is one.
    pub(in super::super) fn line_end(&self, ahead: usize) -> Option<usize> {
        match (self.byte(ahead)?, self.byte(ahead + 1)) {
            (b'\r', Some(b'\n')) => Some(2),
            (b'\r' | b'\n', _) => Some(1),
            _ => None,
        }
    }

    /// Skips what may stand between two tokens.
    pub(crate) fn skip(&mut self) {
        while let Some(byte) = self.byte(0) {
            if byte > b'#' && byte != b'\\' {
                return;
            }
            match byte {
                b' ' | b'\t' | 0x0c => self.pos += 1,
                b'\r' | b'\n' if self.brackets > 0 => self.pos += 1,
                b'#' => self.skip_comment(),
                b'\\' => match self.line_end(1) {
                    // Python wants a line after a continuation.
                    Some(length) if self.pos + 1 + length < self.text.len() => {
                        self.pos += 1 + length;
                    }
                    _ => return,
                },
                _ => return,
            }
        }
    }

    fn skip_comment(&mut self) {
        while self
            .byte(0)
            .is_some_and(|byte| byte != b'\n' && byte != b'\r')
        {
            self.pos += 1;
        }
    }

    /// At the start of a line, skips empty and comment lines; an indented line is an error, also a last one
    /// of blanks alone.
    pub(super) fn skip_blank_lines(&mut self) -> Result<(), Reject> {
        loop {
            let indented = self.indentation()? > 0;
            let comment = self.byte(0) == Some(b'#');
            if comment {
                self.skip_comment();
            }
            match self.line_end(0) {
                Some(length) => self.pos += length,
                None if indented && !comment => return Err(Reject),
                None => return Ok(()),
            }
        }
    }

    /// Skips the blanks that a line begins with and gives their column. It may be continued on the next line,
    /// where blanks count unless there were some before.
    fn indentation(&mut self) -> Result<u32, Reject> {
        let (mut column, mut before) = (0, 0);
        while let Some(byte @ (b' ' | b'\t' | 0x0c | b'\\')) = self.byte(0) {
            if byte == b'\\' {
                let length = self.line_end(1).ok_or(Reject)?;
                if self.pos + 1 + length == self.text.len() {
                    return Err(Reject);
                }
                before = if before > 0 { before } else { column };
                self.pos += length;
            }
            column = match byte {
                b'\\' => column,
                0x0c => 0,
                _ => column + 1,
            };
            self.pos += 1;
        }
        Ok(if before > 0 { before } else { column })
    }

    /// Nothing but blank lines and comments may follow.
    pub(super) fn end(&mut self) -> Result<(), Reject> {
        self.skip();
        if let Some(length) = self.line_end(0) {
            self.pos += length;
            self.skip_blank_lines()?;
        }
        if self.pos == self.text.len() {
            Ok(())
        } else {
            Err(Reject)
        }
    }

    /// Skips blanks, then takes `token` if it comes next.
    pub(in super::super) fn take(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.text[self.pos..].starts_with(token);
        if found {
            self.pos += token.len();
        }
        found
    }

    pub(in super::super) fn expect(&mut self, token: &str) -> Result<(), Reject> {
        if self.take(token) {
            Ok(())
        } else {
            Err(Reject)
        }
    }

    pub(in super::super) fn at(&mut self, byte: u8) -> bool {
        self.skip();
        self.byte(0) == Some(byte)
    }

    pub(in super::super) fn open(&mut self) -> Result<(), Reject> {
        self.pos += 1;
        self.brackets += 1;
        if self.brackets > MAX_BRACKETS {
            Err(Reject)
        } else {
            Ok(())
        }
    }

    pub(in super::super) fn close(&mut self, bracket: u8) -> Result<(), Reject> {
        if !self.at(bracket) {
            return Err(Reject);
        }
        self.pos += 1;
        self.brackets -= 1;
        Ok(())
    }

    /// The identifier characters that come next, not yet checked.
    pub(in super::super) fn word(&mut self) -> &'a str {
        self.skip();
        let rest = &self.text[self.pos..];
        let end = rest.bytes().position(|byte| !is_word(byte));
        match rest.as_bytes().first() {
            Some(byte) if !byte.is_ascii_digit() => &rest[..end.unwrap_or(rest.len())],
            _ => "",
        }
    }

    pub(in super::super) fn at_keyword(&mut self, keyword: &str) -> bool {
        self.skip();
        // Asked at every level of every expression: the first byte nearly always answers.
        let rest = &self.text.as_bytes()[self.pos..];
        rest.starts_with(keyword.as_bytes())
            && !rest.get(keyword.len()).is_some_and(|byte| is_word(*byte))
    }

    pub(in super::super) fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        if found {
            self.pos += keyword.len();
        }
        found
    }

    /// A name that is not a keyword, folded by NFKC.
    pub(in super::super) fn name(&mut self) -> Result<Cow<'a, str>, Reject> {
        let word = self.word();
        self.name_of(word)
    }

    /// The same of the word that comes next.
    pub(in super::super) fn name_of(&mut self, word: &'a str) -> Result<Cow<'a, str>, Reject> {
        if word.is_empty() || is_keyword(word) {
            return Err(Reject);
        }
        self.pos += word.len();
        if word.is_ascii() {
            return Ok(Cow::Borrowed(word));
        }
        let mut chars = word.chars();
        let starts = chars.next().is_some_and(|c| c == '_' || is_xid_start(c));
        if !starts || !chars.all(is_xid_continue) {
            return Err(Reject);
        }
        Ok(Cow::Owned(word.nfkc().collect()))
    }
}
