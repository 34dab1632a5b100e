//! Text normalisation: what the comparison of texts does not see.

/// Appends `text` without ` `, `,`, `.`, `/`, `-`, `_`, `*` and `^`, lower-cased, `'` turned into `"`. What is appended
/// is text.
pub(super) fn normalise_into(out: &mut Vec<u8>, text: &str) {
    if text.is_ascii() {
        ascii_into(out, text.as_bytes());
        return;
    }
    // Lower-casing a sigma looks at its neighbours, after the characters that are ignored have gone.
    if text.contains('\u{3a3}') {
        let kept: String = text.chars().filter(|c| !IGNORED.contains(c)).collect();
        out.extend(kept.to_lowercase().replace('\'', "\"").as_bytes());
        return;
    }
    out.reserve(text.len());
    let mut rest = text;
    while let Some(&byte) = rest.as_bytes().first() {
        if byte < 0x80 {
            let kept = NORMAL[usize::from(byte & 0x7f)];
            if kept != NOTHING {
                out.push(kept);
            }
            rest = &rest[1..];
        } else if CASELESS[usize::from(byte)] {
            let run = rest
                .bytes()
                .position(|byte| byte < 0x80 || (byte >= 0xc0 && !CASELESS[usize::from(byte)]));
            let (run, after) = rest.split_at(run.unwrap_or(rest.len()));
            out.extend(run.as_bytes());
            rest = after;
        } else {
            let mut chars = rest.chars();
            let mut utf8 = [0; 4];
            for c in chars.next().into_iter().flat_map(char::to_lowercase) {
                out.extend(c.encode_utf8(&mut utf8).as_bytes());
            }
            rest = chars.as_str();
        }
    }
}

/// The same for ASCII: every byte is written, and what is ignored is written over.
fn ascii_into(out: &mut Vec<u8>, text: &[u8]) {
    let start = out.len();
    out.extend(text);
    let mut length = start;
    for &byte in text {
        let kept = NORMAL[usize::from(byte & 0x7f)];
        out[length] = kept;
        length += usize::from(kept != NOTHING);
    }
    out.truncate(length);
}

/// The normalised text.
pub(super) fn normalise(text: &str) -> String {
    let mut out = Vec::new();
    normalise_into(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

const IGNORED: [char; 8] = [' ', ',', '.', '/', '-', '_', '*', '^'];

/// Stands for nothing in [`NORMAL`]; no ASCII character is it.
const NOTHING: u8 = 0xff;

/// What becomes of an ASCII character.
const NORMAL: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b' ' | b',' | b'.' | b'/' | b'-' | b'_' | b'*' | b'^' => NOTHING,
            b'\'' => b'"',
            _ => byte.to_ascii_lowercase(),
        };
        byte += 1;
    }
    table
};

/// First bytes of characters that have no case: U+3000 to U+9FFF, where Chinese and Japanese are.
const CASELESS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0xe3;
    while byte <= 0xe9 {
        table[byte] = true;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{IGNORED, normalise};

    #[test]
    fn is_python_s_lower_without_what_is_ignored() {
        let plain = |text: &str| {
            let kept: String = text.chars().filter(|c| !IGNORED.contains(c)).collect();
            kept.to_lowercase().replace('\'', "\"")
        };
        let mut all = String::new();
        for c in '\0'..=char::MAX {
            let text = format!("A_{c}'中{c}{c} b");
            assert_eq!(normalise(&text), plain(&text), "{c:?}");
            all.push(c);
        }
        assert_eq!(normalise(&all), plain(&all));
        for text in ["ΑΣ", "ΑΣ.", "中ΑΣ-Α", "İ中Ｗ", "", "，。A"] {
            assert_eq!(normalise(text), plain(text));
        }
    }
}
