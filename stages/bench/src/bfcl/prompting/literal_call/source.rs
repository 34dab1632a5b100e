//! The text of a node, as the package takes it from a Java source.

use tree_sitter::Node;

/// A source whose characters are counted where the tree counts bytes.
///
/// The package cuts texts of characters at places counted in bytes: behind a character beyond ASCII, each text that it
/// takes begins and ends too late.
pub(super) struct Source<'a> {
    text: &'a str,
    /// Where each character begins, and the end; none of ASCII.
    places: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let places = match text.is_ascii() {
            true => Vec::new(),
            false => {
                let starts = text.char_indices().map(|(start, _)| start);
                starts.chain([text.len()]).collect()
            }
        };
        Self { text, places }
    }

    pub(super) fn of(&self, node: Node<'_>) -> &'a str {
        let place = |byte: usize| match self.places.is_empty() {
            true => byte,
            false => self.places.get(byte).copied().unwrap_or(self.text.len()),
        };
        let (start, end) = (place(node.start_byte()), place(node.end_byte()));
        self.text.get(start..end).unwrap_or_default()
    }
}
