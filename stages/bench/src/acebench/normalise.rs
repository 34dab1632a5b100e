//! Text normalisation: what the comparison of texts does not see.

/// Appends `text` without ` `, `,`, `.`, `/`, `-`, `_`, `*` and `^`, lower-cased, `'` turned into `"`.
pub(super) fn normalise_into(out: &mut String, text: &str) {
    if text.is_ascii() {
        out.reserve(text.len());
        for byte in text.bytes() {
            let kept = NORMAL[usize::from(byte & 0x7f)];
            if kept != 0 {
                out.push(char::from(kept));
            }
        }
        return;
    }
    // Lower-casing looks at neighbours (a final sigma), so the characters go first.
    let kept: String = text.chars().filter(|c| !IGNORED.contains(c)).collect();
    out.push_str(&kept.to_lowercase().replace('\'', "\""));
}

/// The normalised text.
pub(super) fn normalise(text: &str) -> String {
    let mut out = String::new();
    normalise_into(&mut out, text);
    out
}

const IGNORED: [char; 8] = [' ', ',', '.', '/', '-', '_', '*', '^'];

/// What becomes of an ASCII character; zero: nothing.
const NORMAL: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 1_u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b' ' | b',' | b'.' | b'/' | b'-' | b'_' | b'*' | b'^' => 0,
            b'\'' => b'"',
            _ => byte.to_ascii_lowercase(),
        };
        byte += 1;
    }
    table
};
