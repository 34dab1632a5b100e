//! ROUGE-L with stemming, and the reward's text similarity on top of it.

use std::cell::RefCell;

use indexmap::IndexMap;
use starling_text::python;
use unicode_general_category::{GeneralCategory as Category, get_general_category};

use crate::Mode;
use crate::stem::stem_in_place;

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Longest common subsequence over the candidate's words.
    pub precision: f64,
    /// Longest common subsequence over the reference's words.
    pub recall: f64,
    /// `2PR / (P + R)`, 0 when that is 0/0.
    pub f_measure: f64,
}

/// Which characters make words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Words {
    /// Runs of `a–z0–9`; everything else separates, accented letters included.
    #[default]
    Ascii,
    /// Runs of letters, marks and digits of any script; where a script writes no spaces, each character.
    AnyScript,
}

impl From<Mode> for Words {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Faithful | Mode::Fixed => Self::Ascii,
            Mode::Unicode => Self::AnyScript,
        }
    }
}

/// How alike two texts are, in [0, 1]: 1 if identical, else 0 if either is blank, else ROUGE-L's F-measure.
pub fn text_similarity(a: &str, b: &str, words: Words) -> f64 {
    if a == b {
        return 1.0;
    }
    if python::strip(a).is_empty() || python::strip(b).is_empty() {
        return 0.0;
    }
    rouge_l(a, b, words).f_measure
}

/// ROUGE-L of a candidate against a reference. All zeros when either has no words.
///
/// Words are lower-cased; those of more than three characters are stemmed.
///
/// # Source
/// C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004; tokens, stems and the
/// F-measure as in Google's `rouge_score`.
pub fn rouge_l(candidate: &str, reference: &str, words: Words) -> Rouge {
    thread_local! {
        static TEXTS: RefCell<Texts> = RefCell::default();
    }
    TEXTS.with_borrow_mut(|texts| texts.rouge(candidate, reference, words))
}

/// The stems of both texts, end to end in one buffer that is used again for the next pair.
#[derive(Default)]
struct Texts {
    stems: Vec<u8>,
    words: Vec<Word>,
    word: Vec<u8>,
    positions: Vec<u64>,
    row: Vec<u64>,
}

/// A stem in the buffer, and its first eight bytes.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
    head: u64,
}

impl Texts {
    fn rouge(&mut self, candidate: &str, reference: &str, words: Words) -> Rouge {
        self.stems.clear();
        self.words.clear();
        self.add(candidate, words);
        let first = self.words.len();
        self.add(reference, words);
        let second = self.words.len() - first;
        if first == 0 || second == 0 {
            return Rouge::default();
        }
        let common = if second <= 64 {
            self.short_common(first)
        } else {
            let (a, b) = self.numbers(first);
            longest_common_subsequence(&a, &b, &mut self.positions, &mut self.row)
        };
        let common = common as f64;
        let precision = common / first as f64;
        let recall = common / second as f64;
        let sum = precision + recall;
        let f_measure = if sum > 0.0 {
            2.0 * precision * recall / sum
        } else {
            0.0
        };
        Rouge {
            precision,
            recall,
            f_measure,
        }
    }

    fn add(&mut self, text: &str, words: Words) {
        self.stems.reserve(text.len());
        if text.is_ascii() {
            let words = text.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
            for word in words.filter(|word| !word.is_empty()) {
                self.word.extend(word.iter().map(u8::to_ascii_lowercase));
                self.end_word();
            }
            return;
        }
        for c in text.chars() {
            if c.is_ascii() {
                match u8::try_from(c).map(|byte| byte.to_ascii_lowercase()) {
                    Ok(byte) if byte.is_ascii_alphanumeric() => self.word.push(byte),
                    _ => self.end_word(),
                }
            } else {
                c.to_lowercase().for_each(|c| self.push(c, words));
            }
        }
        self.end_word();
    }

    fn push(&mut self, c: char, words: Words) {
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).as_bytes();
        match bytes {
            [byte] if byte.is_ascii_alphanumeric() => self.word.push(*byte),
            [_] => self.end_word(),
            _ if words == Words::AnyScript && is_word_character(c) => {
                let alone = stands_alone(c);
                if alone {
                    self.end_word();
                }
                self.word.extend_from_slice(bytes);
                if alone {
                    self.end_word();
                }
            }
            _ => self.end_word(),
        }
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        if self.word.len() > 3 && self.word.is_ascii() {
            stem_in_place(&mut self.word);
        }
        let mut head = [0; 8];
        let length = self.word.len().min(8);
        head[..length].copy_from_slice(&self.word[..length]);
        let start = self.stems.len();
        self.stems.append(&mut self.word);
        self.words.push(Word {
            start,
            end: self.stems.len(),
            head: u64::from_le_bytes(head),
        });
    }

    /// Whether two stems are the same; most that are not differ in length or in their first letters.
    fn same(&self, a: &Word, b: &Word) -> bool {
        let length = a.end - a.start;
        a.head == b.head
            && length == b.end - b.start
            && (length <= 8 || self.stems[a.start..a.end] == self.stems[b.start..b.end])
    }

    /// The longest common subsequence where the second text has at most 64 words: a bit each.
    fn short_common(&self, first: usize) -> usize {
        let (a, b) = self.words.split_at(first);
        let mut row = u64::MAX;
        for word in a {
            let mut mask = 0;
            for (i, other) in b.iter().enumerate() {
                mask |= u64::from(self.same(word, other)) << i;
            }
            let met = row & mask;
            row = row.wrapping_add(met) | (row & !met);
        }
        // Bits beyond the end of `b` are never cleared: no position is marked there.
        row.count_zeros() as usize
    }

    /// Replaces words by numbers, equal exactly where the words are.
    fn numbers(&self, first: usize) -> (Vec<usize>, Vec<usize>) {
        let mut known = IndexMap::with_capacity(self.words.len());
        let mut number = |word: &Word| {
            let next = known.len();
            *known
                .entry(&self.stems[word.start..word.end])
                .or_insert(next)
        };
        let (a, b) = self.words.split_at(first);
        let a = a.iter().map(&mut number).collect();
        (a, b.iter().map(&mut number).collect())
    }
}

/// Letters, digits and the marks written on them.
fn is_word_character(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(
            get_general_category(c),
            Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark
        )
}

/// Characters of scripts that put no space between words: Thai and its neighbours, kana, ideographs.
fn stands_alone(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF // Thai, Lao
        | 0x1000..=0x109F // Myanmar
        | 0x1780..=0x17FF // Khmer
        | 0x3005..=0x3007 | 0x3021..=0x3029 | 0x3038..=0x303B // ideographic marks and numerals
        | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0xFF66..=0xFF9F // kana
        | 0x3100..=0x312F // Bopomofo
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF // ideographs
        | 0x20000..=0x3FFFF) // further ideographs
}

/// Length of the longest common subsequence of two lists of small numbers.
///
/// # Source
/// H. Hyyrö, "Bit-parallel LCS-length computation revisited", 2004: a bit a word of `b`, so 64 cells of the
/// table are filled at once.
fn longest_common_subsequence(
    a: &[usize],
    b: &[usize],
    positions: &mut Vec<u64>,
    row: &mut Vec<u64>,
) -> usize {
    let blocks = b.len().div_ceil(64);
    let symbols = b.iter().max().map_or(0, |max| max + 1);
    positions.clear();
    positions.resize(symbols * blocks, 0);
    for (i, &symbol) in b.iter().enumerate() {
        positions[symbol * blocks + i / 64] |= 1 << (i % 64);
    }
    row.clear();
    row.resize(blocks, u64::MAX);
    for &symbol in a.iter().filter(|&&symbol| symbol < symbols) {
        let mut carry = false;
        for (v, m) in row.iter_mut().zip(&positions[symbol * blocks..][..blocks]) {
            let u = *v & m;
            let (sum, first) = v.overflowing_add(u);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *v = sum | (*v & !u);
        }
    }
    // Bits beyond the end of `b` are never cleared: no position is marked there.
    row.iter().map(|v| v.count_zeros() as usize).sum()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the expected numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain_lcs(a: &[usize], b: &[usize]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y {
                    diagonal + 1
                } else {
                    above.max(row[j])
                };
                diagonal = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn scripts_without_spaces_count_by_character() {
        assert_eq!(text_similarity("东京天气", "东京地图", Words::Ascii), 0.0);
        assert_eq!(
            text_similarity("东京天气", "东京地图", Words::AnyScript),
            0.5
        );
        assert_eq!(
            text_similarity("café noir", "Café blanc", Words::AnyScript),
            0.5
        );
        assert_eq!(text_similarity("K İ", "k i", Words::Ascii), 1.0);
    }

    proptest! {
        #[test]
        fn bit_parallel_equals_the_table(
            a in prop::collection::vec(0..6_usize, 0..200),
            b in prop::collection::vec(0..6_usize, 0..200),
        ) {
            let (mut positions, mut row) = (Vec::new(), Vec::new());
            let found = longest_common_subsequence(&a, &b, &mut positions, &mut row);
            prop_assert_eq!(found, plain_lcs(&a, &b));
            // As words, short texts take another way to the same number.
            let text = |numbers: &[usize]| {
                numbers.iter().map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ")
            };
            if !a.is_empty() && !b.is_empty() {
                let rouge = rouge_l(&text(&a), &text(&b), Words::Ascii);
                prop_assert_eq!(rouge.precision, plain_lcs(&a, &b) as f64 / a.len() as f64);
            }
        }

        #[test]
        fn similarity_is_symmetric_and_bounded(a in any::<String>(), b in any::<String>()) {
            for words in [Words::Ascii, Words::AnyScript] {
                let similarity = text_similarity(&a, &b, words);
                prop_assert!((0.0..=1.0).contains(&similarity));
                prop_assert!((similarity - text_similarity(&b, &a, words)).abs() < 1e-12);
            }
        }
    }
}
