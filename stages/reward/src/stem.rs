//! The Porter stemmer as extended by NLTK: an exception list and a few more rules than the 1980 original.

/// The stem of a lower-case word of ASCII letters and digits. Other bytes count as consonants.
///
/// # Source
/// M. F. Porter, "An algorithm for suffix stripping", 1980, with NLTK's extensions.
pub fn stem(word: &str) -> String {
    let mut bytes = word.as_bytes().to_vec();
    stem_in_place(&mut bytes);
    // Steps remove and append ASCII only, so what was UTF-8 stays so.
    String::from_utf8(bytes).unwrap_or_else(|_| word.to_owned())
}

/// As [`stem`], on the bytes.
pub(crate) fn stem_in_place(word: &mut Vec<u8>) {
    if let Some(stem) = exception(word) {
        word.clear();
        word.extend_from_slice(stem);
        return;
    }
    if word.len() <= 2 {
        return;
    }
    step_1a(word);
    step_1b(word);
    step_1c(word);
    step_2(word);
    step_3(word);
    step_4(word);
    step_5(word);
}

fn exception(word: &[u8]) -> Option<&'static [u8]> {
    // Most words begin with another letter than the few exceptions.
    if !matches!(
        word.first(),
        Some(b's' | b'd' | b'l' | b't' | b'n' | b'i' | b'o' | b'c' | b'h' | b'p' | b'e')
    ) {
        return None;
    }
    Some(match word {
        b"sky" | b"skies" => b"sky",
        b"dying" => b"die",
        b"lying" => b"lie",
        b"tying" => b"tie",
        b"news" => b"news",
        b"inning" | b"innings" => b"inning",
        b"outing" | b"outings" => b"outing",
        b"canning" | b"cannings" => b"canning",
        b"howe" => b"howe",
        b"proceed" => b"proceed",
        b"exceed" => b"exceed",
        b"succeed" => b"succeed",
        _ => return None,
    })
}

/// Yields whether each letter is a consonant: `y` is one at the start and after a vowel.
fn consonants(word: &[u8]) -> impl Iterator<Item = bool> + '_ {
    let mut previous = false;
    word.iter().map(move |letter| {
        previous = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !previous,
            _ => true,
        };
        previous
    })
}

/// How often a vowel is followed by a consonant.
fn measure(stem: &[u8]) -> usize {
    let mut after_vowel = false;
    let mut measure = 0;
    for consonant in consonants(stem) {
        measure += usize::from(after_vowel && consonant);
        after_vowel = !consonant;
    }
    measure
}

fn has_vowel(stem: &[u8]) -> bool {
    consonants(stem).any(|consonant| !consonant)
}

fn ends_in_consonant(stem: &[u8]) -> bool {
    consonants(stem).last() == Some(true)
}

fn ends_in_double_consonant(stem: &[u8]) -> bool {
    matches!(stem, [.., a, b] if a == b) && ends_in_consonant(stem)
}

/// Ends in consonant, vowel, consonant other than w, x, y; or is a vowel and a consonant alone.
fn ends_in_cvc(stem: &[u8]) -> bool {
    let mut last = [None; 3];
    for consonant in consonants(stem) {
        last = [last[1], last[2], Some(consonant)];
    }
    match last {
        [Some(true), Some(false), Some(true)] => !matches!(stem, [.., b'w' | b'x' | b'y']),
        [None, Some(false), Some(true)] => true,
        _ => false,
    }
}

fn replace(word: &mut Vec<u8>, suffix: &str, by: &str) {
    word.truncate(word.len() - suffix.len());
    word.extend_from_slice(by.as_bytes());
}

/// Replaces the first suffix of the list that the word ends in, if its stem's measure exceeds `above`.
#[inline]
fn apply(word: &mut Vec<u8>, rules: &[(&str, &str)], above: usize) {
    let found = rules
        .iter()
        .find(|(suffix, _)| word.ends_with(suffix.as_bytes()));
    if let Some((suffix, by)) = found
        && measure(&word[..word.len() - suffix.len()]) > above
    {
        replace(word, suffix, by);
    }
}

/// The last letter but one, by which the rules of a step are told apart.
fn penultimate(word: &[u8]) -> u8 {
    match word {
        [.., letter, _] => *letter,
        _ => 0,
    }
}

fn step_1a(word: &mut Vec<u8>) {
    let cut = match word.as_slice() {
        [_, b'i', b'e', b's'] => 1,
        [.., b's', b's', b'e', b's'] | [.., b'i', b'e', b's'] => 2,
        [.., b's', b's'] => 0,
        [.., b's'] => 1,
        _ => 0,
    };
    word.truncate(word.len() - cut);
}

fn step_1b(word: &mut Vec<u8>) {
    if word.ends_with(b"ied") {
        word.truncate(word.len() - if word.len() == 4 { 1 } else { 2 });
        return;
    }
    if word.ends_with(b"eed") {
        if measure(&word[..word.len() - 3]) > 0 {
            word.pop();
        }
        return;
    }
    let cut = ["ed", "ing"].into_iter().find_map(|suffix| {
        let stem = word.strip_suffix(suffix.as_bytes())?;
        has_vowel(stem).then_some(stem.len())
    });
    let Some(length) = cut else { return };
    word.truncate(length);
    if word.ends_with(b"at") || word.ends_with(b"bl") || word.ends_with(b"iz") {
        word.push(b'e');
    } else if ends_in_double_consonant(word) {
        if !matches!(word.last(), Some(b'l' | b's' | b'z')) {
            word.pop();
        }
    } else if measure(word) == 1 && ends_in_cvc(word) {
        word.push(b'e');
    }
}

fn step_1c(word: &mut [u8]) {
    if let [stem @ .., last @ b'y'] = word
        && stem.len() > 1
        && ends_in_consonant(stem)
    {
        *last = b'i';
    }
}

fn step_2(word: &mut Vec<u8>) {
    // The shortened word goes through the step again; each time it loses two letters.
    while word.ends_with(b"alli") && measure(&word[..word.len() - 4]) > 0 {
        word.truncate(word.len() - 2);
    }
    if word.ends_with(b"logi") {
        // The stem is counted with the `l`, so `geologi` qualifies and `logi` does not.
        if measure(&word[..word.len() - 3]) > 0 {
            word.pop();
        }
        return;
    }
    let rules: &[(&str, &str)] = match penultimate(word) {
        b'a' => &[("ational", "ate"), ("tional", "tion")],
        b'c' => &[("enci", "ence"), ("anci", "ance")],
        b'e' => &[("izer", "ize")],
        b'l' => &[
            ("bli", "ble"),
            ("alli", "al"),
            ("entli", "ent"),
            ("eli", "e"),
            ("ousli", "ous"),
            ("fulli", "ful"),
        ],
        b'o' => &[("ization", "ize"), ("ation", "ate"), ("ator", "ate")],
        b's' => &[
            ("alism", "al"),
            ("iveness", "ive"),
            ("fulness", "ful"),
            ("ousness", "ous"),
        ],
        b't' => &[("aliti", "al"), ("iviti", "ive"), ("biliti", "ble")],
        _ => return,
    };
    apply(word, rules, 0);
}

fn step_3(word: &mut Vec<u8>) {
    let rules: &[(&str, &str)] = match penultimate(word) {
        b'a' => &[("ical", "ic")],
        b's' => &[("ness", "")],
        b't' => &[("icate", "ic"), ("iciti", "ic")],
        b'u' => &[("ful", "")],
        b'v' => &[("ative", "")],
        b'z' => &[("alize", "al")],
        _ => return,
    };
    apply(word, rules, 0);
}

fn step_4(word: &mut Vec<u8>) {
    // No other suffix of the step ends a word that ends in `ion`.
    if let Some(stem) = word.strip_suffix(b"ion") {
        if measure(stem) > 1 && matches!(stem, [.., b's' | b't']) {
            word.truncate(word.len() - 3);
        }
        return;
    }
    let rules: &[(&str, &str)] = match penultimate(word) {
        b'a' => &[("al", "")],
        b'c' => &[("ance", ""), ("ence", "")],
        b'e' => &[("er", "")],
        b'i' => &[("ic", "")],
        b'l' => &[("able", ""), ("ible", "")],
        b'n' => &[("ant", ""), ("ement", ""), ("ment", ""), ("ent", "")],
        b'o' => &[("ou", "")],
        b's' => &[("ism", "")],
        b't' => &[("ate", ""), ("iti", "")],
        b'u' => &[("ous", "")],
        b'v' => &[("ive", "")],
        b'z' => &[("ize", "")],
        _ => return,
    };
    apply(word, rules, 1);
}

fn step_5(word: &mut Vec<u8>) {
    if let Some(stem) = word.strip_suffix(b"e") {
        let measure = measure(stem);
        if measure > 1 || measure == 1 && !ends_in_cvc(stem) {
            word.pop();
        }
    }
    if word.ends_with(b"ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}
