//! ROUGE-L with stemming, and the reward's text similarity on top of it.

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
    let mut texts = Texts::default();
    let candidate = texts.add(candidate, words);
    let reference = texts.add(reference, words);
    let (candidate, reference) = texts.number(candidate, reference);
    if candidate.is_empty() || reference.is_empty() {
        return Rouge::default();
    }
    let common = longest_common_subsequence(&candidate, &reference) as f64;
    let precision = common / candidate.len() as f64;
    let recall = common / reference.len() as f64;
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

/// The stems of both texts, end to end in one buffer.
#[derive(Default)]
struct Texts {
    stems: Vec<u8>,
    ends: Vec<usize>,
    word: Vec<u8>,
}

impl Texts {
    fn add(&mut self, text: &str, words: Words) -> std::ops::Range<usize> {
        let first = self.ends.len();
        self.stems.reserve(text.len());
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
        first..self.ends.len()
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
        self.stems.append(&mut self.word);
        self.ends.push(self.stems.len());
    }

    /// Replaces words by numbers, equal exactly where the words are.
    fn number(
        &self,
        a: std::ops::Range<usize>,
        b: std::ops::Range<usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        let mut known = IndexMap::with_capacity(self.ends.len());
        let mut number = |i: usize| {
            let start = if i == 0 { 0 } else { self.ends[i - 1] };
            let next = known.len();
            *known
                .entry(&self.stems[start..self.ends[i]])
                .or_insert(next)
        };
        (a.map(&mut number).collect(), b.map(&mut number).collect())
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
fn longest_common_subsequence(a: &[usize], b: &[usize]) -> usize {
    let blocks = b.len().div_ceil(64);
    let symbols = b.iter().max().map_or(0, |max| max + 1);
    let mut positions = vec![0_u64; symbols * blocks];
    for (i, &symbol) in b.iter().enumerate() {
        positions[symbol * blocks + i / 64] |= 1 << (i % 64);
    }
    let mut row = vec![u64::MAX; blocks];
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
            prop_assert_eq!(longest_common_subsequence(&a, &b), plain_lcs(&a, &b));
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
