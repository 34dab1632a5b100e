//! Rows of a table by index, and the sum back into them.

use super::Real;
use super::vector::add_assign;

/// Copies the rows `ids` of `table` into `out`.
///
/// # Shapes
/// `table` `[v, h]`, `ids` `[n]`, all `< v`; `out` `[n, h]`.
pub(crate) fn gather<T: Real>(
    table: &[T],
    width: usize,
    ids: impl Iterator<Item = usize>,
    out: &mut [T],
) {
    for (id, out) in ids.zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&table[id * width..][..width]);
    }
}

/// Backward of [`gather`]: adds each row of `dout` to the row of its index.
pub(crate) fn scatter_add<T: Real>(
    dout: &[T],
    width: usize,
    ids: impl Iterator<Item = usize>,
    dtable: &mut [T],
) {
    for (id, dout) in ids.zip(dout.chunks_exact(width)) {
        add_assign(&mut dtable[id * width..][..width], dout);
    }
}
