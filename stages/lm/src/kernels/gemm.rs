//! Matrix products on one thread, through the `gemm` crate, with bounds checked here.

use gemm::Parallelism;

use super::Real;

/// A matrix in a slice: element (r, c) at `r * row_stride + c * column_stride`.
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Rows one after another.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows `row_stride` apart.
    pub(crate) fn strided(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            fits(data.len(), rows, columns, row_stride),
            "matrix outside its slice"
        );
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// All rows, `count` columns from `first` on; rows must lie in one piece.
    pub(crate) fn part(self, first: usize, count: usize) -> Self {
        assert!(
            self.column_stride == 1 && first + count <= self.columns,
            "columns outside the matrix"
        );
        Self {
            data: self.data.get(first..).unwrap_or_default(),
            columns: count,
            ..self
        }
    }

    /// Values, distance of rows, distance of columns.
    pub(crate) fn parts(self) -> (&'a [T], usize, usize) {
        (self.data, self.row_stride, self.column_stride)
    }

    /// The transpose; nothing is copied.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A matrix to write, its rows `row_stride` apart.
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// Rows one after another.
    pub(crate) fn new(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows `row_stride` apart.
    pub(crate) fn strided(
        data: &'a mut [T],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        assert!(
            fits(data.len(), rows, columns, row_stride),
            "matrix outside its slice"
        );
        Self {
            data,
            rows,
            columns,
            row_stride,
        }
    }
}

impl<T> MatMut<'_, T> {
    /// The values from an element on, and the distance of the rows.
    pub(crate) fn from(&mut self, row: usize, column: usize) -> (&mut [T], usize) {
        (
            &mut self.data[row * self.row_stride + column..],
            self.row_stride,
        )
    }
}

fn fits(length: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    rows == 0
        || columns == 0
        || (row_stride >= columns && (rows - 1) * row_stride + columns <= length)
}

/// What happens to the old values of a product's destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// They are replaced.
    Set,
    /// The product is added to them.
    Add,
}

/// What the products of a model are computed in; what they are made of and what comes out stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    F32,
    /// Both sides of a product are rounded to bfloat16 and summed in `f32`; in `f64`, which is for tests, nothing is
    /// rounded.
    Bf16,
}

/// `dst = a·b` or `dst += a·b`.
///
/// # Panics
/// When the inner or outer sizes disagree.
pub(crate) fn matmul<T: Real>(
    precision: Precision,
    dst: MatMut<'_, T>,
    write: Write,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(
        b.rows == k && dst.rows == m && dst.columns == n,
        "product of [{m}, {k}] and [{}, {n}] into [{}, {}]",
        b.rows,
        dst.rows,
        dst.columns
    );
    if m == 0 || n == 0 {
        return;
    }
    if precision == Precision::Bf16 && k > 0 {
        T::matmul_bf16(dst, write, a, b);
    } else {
        matmul_whole(dst, write, a, b);
    }
}

/// The product without rounding; sizes were checked.
pub(super) fn matmul_whole<T: Real>(
    dst: MatMut<'_, T>,
    write: Write,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let stride =
        |stride: usize| isize::try_from(stride).expect("a slice is shorter than isize::MAX");
    #[expect(
        unsafe_code,
        reason = "gemm takes pointers; constructors checked that all lies inside"
    )]
    // SAFETY: `fits` holds for the three matrices, `dst` is borrowed uniquely, and every value is initialised.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.data.as_mut_ptr(),
            1,
            stride(dst.row_stride),
            write == Write::Add,
            a.data.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_agree_with_sums() {
        let a: Vec<f64> = (0..12).map(f64::from).collect();
        let b: Vec<f64> = (0..20).map(|x| f64::from(x) * 0.5 - 3.0).collect();
        // a as [2, 3] with rows 5 apart; b as [4, 3] with rows 4 apart, transposed
        let mut c = vec![1.0; 2 * 6];
        let product = |r: usize, s: usize| (0..3).map(|k| a[r * 5 + k] * b[s * 4 + k]).sum::<f64>();
        let (left, right) = (Mat::strided(&a, 2, 3, 5), Mat::strided(&b, 4, 3, 4).t());
        matmul(
            Precision::F32,
            MatMut::strided(&mut c, 2, 4, 6),
            Write::Add,
            left,
            right,
        );
        for r in 0..2 {
            for s in 0..6 {
                let expected = if s < 4 { 1.0 + product(r, s) } else { 1.0 };
                assert!((c[r * 6 + s] - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    #[should_panic(expected = "outside its slice")]
    fn a_view_past_the_end_is_refused() {
        Mat::<f32>::strided(&[0.0; 10], 3, 3, 4).t();
    }
}
