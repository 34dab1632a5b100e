//! The printable stand-ins by which byte-level tokenizers write bytes as characters.

/// The character that stands for a byte.
///
/// # Source
/// GPT-2's byte-level BPE: printable Latin-1 stands for itself, the other 68 bytes get U+0100 and on, in order.
pub(crate) fn to_char(byte: u8) -> char {
    let rank = match byte {
        0..=0x20 => byte,
        0x7f..=0xa0 => byte - 0x7f + 33,
        0xad => 67,
        _ => return char::from(byte),
    };
    char::from_u32(0x100 + u32::from(rank)).expect("U+0100..U+0144 are characters")
}

/// The byte that a character stands for, if it stands for one.
pub(crate) fn from_char(character: char) -> Option<u8> {
    match u32::from(character) {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(character).ok(),
        code @ 0x100..0x144 => Some(match (code - 0x100) as u8 {
            67 => 0xad,
            rank @ 33.. => rank - 33 + 0x7f,
            rank => rank,
        }),
        _ => None,
    }
}

/// The bytes of a token's text: those it stands for, or, when a character stands for none, its own UTF-8.
pub(crate) fn of_token(token: &str) -> Vec<u8> {
    let stood_for: Option<Vec<u8>> = token.chars().map(from_char).collect();
    stood_for.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// All 256 stand-ins in the order of their code points, the order of every published byte-level vocabulary.
pub(crate) fn alphabet() -> Vec<char> {
    let mut characters: Vec<char> = (0..=u8::MAX).map(to_char).collect();
    characters.sort_unstable();
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        for byte in 0..=u8::MAX {
            assert_eq!(from_char(to_char(byte)), Some(byte));
        }
        assert_eq!(to_char(b' '), 'Ġ');
        assert_eq!(to_char(b'\n'), 'Ċ');
        assert_eq!(to_char(0xad), '\u{143}');
        assert_eq!(from_char('\u{144}'), None);
        assert_eq!(from_char(' '), None);
        let alphabet = alphabet();
        assert_eq!((alphabet.len(), alphabet[0]), (256, '!'));
    }
}
