//! Byte-level BPE training: the same texts give the same vocabulary, byte for byte, on any number of threads.
//!
//! The trainer of the `tokenizers` crate walks maps in random order and lets two queue entries of one pair tie, so
//! its merges can differ between runs. Here counts are exact sums, and ties go to the pair with the smaller ids.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rayon::prelude::*;
use serde_json::json;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizer};

use super::{Tokenizer, TokenizerError, bytes};

/// How the text is cut into words before merging; words never merge with each other.
///
/// # Source
/// Qwen2's `tokenizer.json`.
pub(crate) const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The control tokens of ChatML and tool calling, in the order of Qwen3's ids.
pub const CHAT_TOKENS: [SpecialToken<'static>; 7] = [
    SpecialToken::control("<|endoftext|>"),
    SpecialToken::control("<|im_start|>"),
    SpecialToken::control("<|im_end|>"),
    SpecialToken::visible("<tool_call>"),
    SpecialToken::visible("</tool_call>"),
    SpecialToken::visible("<think>"),
    SpecialToken::visible("</think>"),
];

/// Longer words are counted in pieces of this many bytes, so that one endless word cannot make training quadratic.
const LONGEST_WORD: usize = 512;

/// Texts that are cut into words at a time.
const BATCH: usize = 1024;

/// A token that stands outside the merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialToken<'a> {
    /// Its text.
    pub content: &'a str,
    /// Whether decoding may leave it out. Tags that are part of an answer must stay.
    pub skipped: bool,
}

impl<'a> SpecialToken<'a> {
    /// A token that decoding may leave out.
    pub const fn control(content: &'a str) -> Self {
        Self {
            content,
            skipped: true,
        }
    }

    /// A token that decoding keeps.
    pub const fn visible(content: &'a str) -> Self {
        Self {
            content,
            skipped: false,
        }
    }
}

/// Settings of [`train`].
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions<'a> {
    /// Ids in all: 256 bytes, merges, special tokens. Fewer when the texts have nothing left to merge.
    pub vocab_size: usize,
    /// Pairs seen less often are not merged.
    pub min_frequency: u64,
    /// Tokens that get the last ids, in this order.
    pub special_tokens: &'a [SpecialToken<'a>],
}

/// Trains a byte-level BPE tokenizer with Qwen2's rule for words.
///
/// # Errors
/// [`TokenizerError::Train`] when `vocab_size` has no room for the bytes and the special tokens, or when a special
/// token is empty or listed twice.
pub fn train<I>(texts: I, options: &TrainOptions<'_>) -> Result<Tokenizer, TokenizerError>
where
    I: IntoIterator,
    I::Item: AsRef<str> + Send + Sync,
{
    check(options)?;
    let mut vocabulary = Vocabulary {
        tokens: bytes::alphabet().into_iter().map(String::from).collect(),
        merges: Vec::new(),
    };
    let cutter = assemble(&vocabulary, options.special_tokens, QWEN2_WORDS, true)?;
    let words = count_words(texts, &cutter)?;
    let room = options.vocab_size - options.special_tokens.len();
    Merger::new(words, options).run(&mut vocabulary, room);
    assemble(&vocabulary, options.special_tokens, QWEN2_WORDS, true)
}

/// Tokens by id, and the pairs of them that merge, first to last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary {
    pub(crate) tokens: Vec<String>,
    pub(crate) merges: Vec<(String, String)>,
}

/// Makes a tokenizer of a vocabulary; special tokens that it lacks get the ids after it.
pub(crate) fn assemble(
    vocabulary: &Vocabulary,
    special_tokens: &[SpecialToken<'_>],
    words: &str,
    compose: bool,
) -> Result<Tokenizer, TokenizerError> {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        ids.insert(token, id);
    }
    let mut next = vocabulary.tokens.len();
    let mut added = Vec::new();
    for token in special_tokens {
        let id = ids.get(token.content).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        added.push(
            json!({"id": id, "content": token.content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": token.skipped}),
        );
    }
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": if compose { json!({"type": "NFC"}) } else { json!(null) },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false},
            byte_level,
        ]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": ids, "merges": vocabulary.merges},
    });
    Tokenizer::from_bytes(file.to_string().as_bytes())
}

fn check(options: &TrainOptions<'_>) -> Result<(), TokenizerError> {
    let fail = |reason: String| Err(TokenizerError::Train { reason });
    let least = 256 + options.special_tokens.len();
    if options.vocab_size < least {
        return fail(format!(
            "a vocabulary of {} has no room for 256 bytes and {} special tokens",
            options.vocab_size,
            options.special_tokens.len()
        ));
    }
    let mut seen = BTreeSet::new();
    for token in options.special_tokens {
        if token.content.chars().count() < 2 || !seen.insert(token.content) {
            return fail(format!(
                "special token `{}` is too short or listed twice",
                token.content
            ));
        }
    }
    Ok(())
}

/// How often each word occurs, outside special tokens.
fn count_words<I>(texts: I, cutter: &Tokenizer) -> Result<BTreeMap<String, u64>, TokenizerError>
where
    I: IntoIterator,
    I::Item: AsRef<str> + Send + Sync,
{
    let mut words = BTreeMap::new();
    let mut texts = texts.into_iter();
    loop {
        let batch: Vec<I::Item> = texts.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(words);
        }
        let counted: Vec<BTreeMap<String, u64>> = batch
            .par_iter()
            .map(|text| words_of(text.as_ref(), cutter))
            .collect::<Result<_, _>>()?;
        for (word, count) in counted.into_iter().flatten() {
            *words.entry(word).or_default() += count;
        }
    }
}

fn words_of(text: &str, cutter: &Tokenizer) -> Result<BTreeMap<String, u64>, TokenizerError> {
    let inner = &cutter.inner;
    let mut cut = inner
        .get_added_vocabulary()
        .extract_and_normalize(inner.get_normalizer(), text);
    if let Some(pre_tokenizer) = inner.get_pre_tokenizer() {
        pre_tokenizer
            .pre_tokenize(&mut cut)
            .map_err(|error| TokenizerError::Encode {
                reason: error.to_string(),
            })?;
    }
    let mut words = BTreeMap::new();
    for (word, _, tokens) in cut.get_splits(OffsetReferential::Normalized, OffsetType::None) {
        if tokens.is_none() {
            *words.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(words)
}

type Pair = (u32, u32);

/// A distinct word as the ids it is made of now, and how often it occurs.
struct Word {
    ids: Vec<u32>,
    count: u64,
}

/// The state of merging: words, and for each pair its count and the words that may hold it.
struct Merger<'a> {
    words: Vec<Word>,
    counts: BTreeMap<Pair, u64>,
    places: BTreeMap<Pair, BTreeSet<usize>>,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    options: &'a TrainOptions<'a>,
}

impl<'a> Merger<'a> {
    fn new(counted: BTreeMap<String, u64>, options: &'a TrainOptions<'a>) -> Self {
        let alphabet = bytes::alphabet();
        let id_of = |character: char| {
            let place = alphabet.binary_search(&character);
            place.expect("words are written in stand-ins") as u32
        };
        let mut words = Vec::new();
        for (word, count) in counted {
            let ids: Vec<u32> = word.chars().map(id_of).collect();
            words.extend(ids.chunks(LONGEST_WORD).map(|ids| Word {
                ids: ids.to_vec(),
                count,
            }));
        }
        let mut merger = Self {
            words,
            counts: BTreeMap::new(),
            places: BTreeMap::new(),
            queue: BinaryHeap::new(),
            options,
        };
        for index in 0..merger.words.len() {
            merger.count_word(index);
        }
        let start = merger.counts.iter();
        merger.queue = start
            .map(|(&pair, &count)| (count, Reverse(pair)))
            .collect();
        merger
    }

    /// Adds the pairs of a word.
    fn count_word(&mut self, index: usize) {
        let word = &self.words[index];
        for pair in word.ids.windows(2) {
            let pair = (pair[0], pair[1]);
            *self.counts.entry(pair).or_default() += word.count;
            self.places.entry(pair).or_default().insert(index);
        }
    }

    /// Takes the pairs of a word away; it may stay listed in `places`.
    fn uncount_word(&mut self, index: usize) {
        let word = &self.words[index];
        for pair in word.ids.windows(2) {
            if let Some(count) = self.counts.get_mut(&(pair[0], pair[1])) {
                // Saturating: a pair that may not merge is taken out of the counts and can come back in part.
                *count = count.saturating_sub(word.count);
            }
        }
    }

    /// Merges until there are `room` tokens or no pair is frequent enough.
    fn run(&mut self, vocabulary: &mut Vocabulary, room: usize) {
        let tokens = vocabulary.tokens.iter().cloned().enumerate();
        let mut ids: BTreeMap<String, u32> = tokens.map(|(id, t)| (t, id as u32)).collect();
        while vocabulary.tokens.len() < room {
            let Some((pair, count)) = self.most_frequent() else {
                break;
            };
            if count < self.options.min_frequency.max(1) {
                break;
            }
            let left = vocabulary.tokens[pair.0 as usize].clone();
            let right = vocabulary.tokens[pair.1 as usize].clone();
            let joined = format!("{left}{right}");
            if self.is_special(&joined) {
                self.counts.remove(&pair);
                continue;
            }
            // Two pairs can spell the same token; they share its id and both merge.
            let new = *ids.entry(joined.clone()).or_insert_with(|| {
                vocabulary.tokens.push(joined);
                vocabulary.tokens.len() as u32 - 1
            });
            vocabulary.merges.push((left, right));
            self.merge(pair, new);
        }
    }

    /// Entries of the queue may be out of date: counts only fall without a new entry, so the first entry that is
    /// still true is the greatest.
    fn most_frequent(&mut self) -> Option<(Pair, u64)> {
        while let Some((claimed, Reverse(pair))) = self.queue.pop() {
            let count = self.counts.get(&pair).copied().unwrap_or(0);
            if count == claimed {
                return Some((pair, count));
            }
            if count > 0 && count < claimed {
                self.queue.push((count, Reverse(pair)));
            }
        }
        None
    }

    fn merge(&mut self, pair: Pair, new: u32) {
        let places = self.places.remove(&pair).unwrap_or_default();
        let mut touched = BTreeSet::new();
        for index in places {
            self.uncount_word(index);
            let word = &mut self.words[index];
            word.ids = merged(&word.ids, pair, new);
            let pairs = word.ids.windows(2).map(|pair| (pair[0], pair[1]));
            touched.extend(pairs.filter(|pair| pair.0 == new || pair.1 == new));
            self.count_word(index);
        }
        self.counts.remove(&pair);
        for pair in touched {
            let count = self.counts.get(&pair).copied().unwrap_or(0);
            self.queue.push((count, Reverse(pair)));
        }
    }

    fn is_special(&self, token: &str) -> bool {
        let mut special = self.options.special_tokens.iter();
        special.any(|special| special.content == token)
    }
}

/// The ids with every `pair`, from the left, replaced.
fn merged(ids: &[u32], pair: Pair, new: u32) -> Vec<u32> {
    let mut result = Vec::with_capacity(ids.len());
    let mut rest = ids;
    while let [first, tail @ ..] = rest {
        if tail.first() == Some(&pair.1) && *first == pair.0 {
            result.push(new);
            rest = &tail[1..];
        } else {
            result.push(*first);
            rest = tail;
        }
    }
    result
}
