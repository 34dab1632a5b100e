//! Cards: NVIDIA devices as a resource that running stages share.
//!
//! Where somebody says how many there are, every process that computes on `cuda` gets one of its own and sees no
//! other, by `CUDA_VISIBLE_DEVICES`. Where nobody does, one stage at a time computes there and the variable stays
//! as it is. Who has which card is asked of the running stages, so none can be lost by a worker that is killed.

use std::ffi::OsStr;

/// What the driver reads to choose devices.
pub(crate) const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// The cards of a run, by the names that the driver takes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Cards(Vec<String>);

impl Cards {
    /// The first `asked` of those that the environment shows, or by number where it does not choose; none when
    /// nobody asked for any, or the environment hides all.
    pub(crate) fn new(asked: Option<usize>, visible: Option<&OsStr>) -> Self {
        let asked = asked.unwrap_or(0);
        let Some(visible) = visible else {
            return Self((0..asked).map(|number| number.to_string()).collect());
        };
        let visible = visible.to_string_lossy();
        // As the driver does: what follows a name that is none is hidden, `-1` and nothing at all among them.
        let names = visible.split(',').map(str::trim);
        let names = names.take_while(|name| !name.is_empty() && !name.starts_with('-'));
        Self(names.take(asked).map(str::to_owned).collect())
    }

    /// Whether each process gets a card of its own.
    pub(crate) fn are_counted(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }

    /// How many nobody has.
    pub(crate) fn free(&self, taken: &[usize]) -> usize {
        self.0.len().saturating_sub(taken.len())
    }

    /// The first that nobody has.
    pub(crate) fn next(&self, taken: &[usize]) -> Option<usize> {
        (0..self.0.len()).find(|card| !taken.contains(card))
    }

    /// The name of a card.
    pub(crate) fn name(&self, card: usize) -> Option<&str> {
        self.0.get(card).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: Option<usize>, visible: Option<&str>) -> Vec<String> {
        Cards::new(asked, visible.map(OsStr::new)).0
    }

    #[test]
    fn the_environment_chooses_among_them() {
        assert_eq!(names(Some(3), None), ["0", "1", "2"]);
        assert_eq!(names(Some(2), Some("3, 1,2")), ["3", "1"]);
        assert_eq!(names(Some(4), Some("GPU-5a,MIG-7")), ["GPU-5a", "MIG-7"]);
        assert_eq!(names(Some(4), Some("2,-1,3")), ["2"]);
        for hidden in ["", "-1", " "] {
            assert!(!Cards::new(Some(2), Some(OsStr::new(hidden))).are_counted());
        }
        assert!(names(None, None).is_empty() && names(None, Some("0,1")).is_empty());
    }

    #[test]
    fn one_that_is_taken_is_not_given() {
        let cards = Cards::new(Some(3), Some(OsStr::new("5,6,7")));
        assert_eq!((cards.free(&[0, 2]), cards.next(&[0, 2])), (1, Some(1)));
        assert_eq!(cards.name(1), Some("6"));
        assert_eq!((cards.free(&[2, 0, 1]), cards.next(&[2, 0, 1])), (0, None));
    }
}
