//! Characters by their Unicode names, as Python's `\N{...}` looks them up.
//!
//! Names and the formal aliases count as spelt: no space, hyphen or underscore more or less, while case does not matter
//! but in the two families of names that Python computes.

/// `ALIAS;CODE` a line, from the Unicode Character Database; see the README beside it.
const ALIASES: &str = include_str!("../../../../data/unicode/name-aliases.txt");

/// Names that are computed are compared with regard to case.
const SYLLABLE: &str = "HANGUL SYLLABLE ";
const IDEOGRAPH: &str = "CJK UNIFIED IDEOGRAPH-";

/// The character of a name or alias.
pub(in super::super) fn character(name: &str) -> Option<char> {
    match name.strip_prefix(IDEOGRAPH) {
        Some(code) => ideograph(code),
        None => named(name).or_else(|| aliased(name)),
    }
}

fn own_name(c: char) -> Option<String> {
    unicode_names2::name(c).map(|name| name.to_string())
}

/// The ideograph of a code, which has four or five digits, a leading zero too.
fn ideograph(code: &str) -> Option<char> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    if !matches!(code.len(), 4 | 5) || !code.bytes().all(digit) {
        return None;
    }
    let c = char::from_u32(u32::from_str_radix(code, 16).ok()?)?;
    own_name(c)?.starts_with(IDEOGRAPH).then_some(c)
}

fn named(name: &str) -> Option<char> {
    // The lookup is loose: what it finds must have the very name.
    let found = unicode_names2::character(name)?;
    let own = own_name(found)?;
    let same = match own.starts_with(SYLLABLE) || own.starts_with(IDEOGRAPH) {
        true => own == name,
        false => own.eq_ignore_ascii_case(name),
    };
    same.then_some(found)
}

fn aliased(name: &str) -> Option<char> {
    let mut aliases = ALIASES.lines().filter_map(|line| line.split_once(';'));
    let (_, code) = aliases.find(|(alias, _)| alias.eq_ignore_ascii_case(name))?;
    u32::from_str_radix(code, 16).ok().and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::character;

    #[test]
    fn aliases_count_as_spelt() {
        assert_eq!(character("BEL"), Some('\u{7}'));
        assert_eq!(character("bel"), Some('\u{7}'));
        assert_eq!(character("New Line"), Some('\n'));
        assert_eq!(character("NEW  LINE"), None);
        assert_eq!(character("NEW_LINE"), None);
        assert_eq!(character("BEL "), None);
        assert_eq!(character("VS256"), Some('\u{e01ef}'));
    }

    #[test]
    fn names_count_as_spelt() {
        assert_eq!(character("bell"), Some('\u{1f514}'));
        assert_eq!(character("EN-DASH"), None);
        assert_eq!(character("HANGUL JUNGSEONG O-E"), Some('\u{1180}'));
        assert_eq!(character("HANGUL JUNGSEONG OE"), Some('\u{116c}'));
        assert_eq!(character("HANGUL SYLLABLE GA"), Some('가'));
        assert_eq!(character("hangul syllable ga"), None);
        assert_eq!(character("CJK UNIFIED IDEOGRAPH-4E00"), Some('一'));
        assert_eq!(character("CJK UNIFIED IDEOGRAPH-04E00"), Some('一'));
        assert_eq!(character("CJK UNIFIED IDEOGRAPH-4e00"), None);
        assert_eq!(character("CJK UNIFIED IDEOGRAPH-+E00"), None);
        assert_eq!(character("CJK UNIFIED IDEOGRAPH-F900"), None);
        assert_eq!(character("LATIN SMALL LETTER ſ"), None);
    }
}
