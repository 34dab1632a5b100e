//! Rows of activations: moved, added and summed (`rows.cu`), normalised (`norm.cu`), gated (`swiglu.cu`).

use super::{Ops, ROW_THREADS, blocks, int, threads};
use crate::cuda::board::{Arg, Buffer, Precision};
use crate::error::LmError;

use Arg::{Address, Float, Long};

/// Rows whose sum one thread makes in one go.
const SLAB: usize = 64;

/// How rows are added up by target: `order[starts[b]..starts[b + 1]]` go to row `targets[b]`.
#[derive(Debug)]
pub(crate) struct Scatter {
    order: Buffer,
    starts: Buffer,
    targets: Buffer,
    count: usize,
}

impl Ops {
    pub(crate) fn gather(
        &self,
        table: u64,
        ids: &Buffer,
        count: usize,
        width: usize,
    ) -> Result<Buffer, LmError> {
        let out = self.values(count * width)?;
        let args = [Address(table), ids.arg(), out.arg(), int(width)];
        self.rows("gather", count, width, &args)?;
        Ok(out)
    }

    /// Lists which rows go to which target.
    pub(crate) fn scatter_of(&self, targets: &[usize]) -> Result<Scatter, LmError> {
        let mut order: Vec<i32> = (0..targets.len() as i32).collect();
        order.sort_by_key(|&row| targets[row as usize]);
        let (mut starts, mut rows) = (Vec::new(), Vec::<i32>::new());
        for (at, &row) in order.iter().enumerate() {
            let target = targets[row as usize] as i32;
            if rows.last() != Some(&target) {
                rows.push(target);
                starts.push(at as i32);
            }
        }
        starts.push(order.len() as i32);
        Ok(Scatter {
            order: self.upload_ints(&order)?,
            starts: self.upload_ints(&starts)?,
            count: rows.len(),
            targets: self.upload_ints(&rows)?,
        })
    }

    /// Adds rows to those of their targets, in activations or (`gradient`) in `f32`.
    pub(crate) fn scatter(
        &self,
        rows: &Buffer,
        scatter: &Scatter,
        table: u64,
        gradient: bool,
        width: usize,
    ) -> Result<(), LmError> {
        let kernel = if gradient {
            "scatter_gradient"
        } else {
            "scatter_rows"
        };
        let args = [
            rows.arg(),
            scatter.order.arg(),
            scatter.starts.arg(),
            scatter.targets.arg(),
            Address(table),
            int(width),
        ];
        self.rows(kernel, scatter.count, width, &args)
    }

    pub(crate) fn add_row(
        &self,
        rows: &Buffer,
        row: u64,
        count: usize,
        width: usize,
    ) -> Result<(), LmError> {
        self.rows(
            "add_row",
            count,
            width,
            &[rows.arg(), Address(row), int(width)],
        )
    }

    /// `f32` numbers as activations.
    pub(crate) fn convert(&self, from: u64, to: u64, count: usize) -> Result<(), LmError> {
        let args = [Address(from), Address(to), Long(count as u64)];
        self.over(&self.name("convert"), count, &args)
    }

    /// Adds the sums of columns to `out`, which is `f32`.
    fn slabs(
        &self,
        rows: usize,
        width: usize,
        out: u64,
        sum: impl FnOnce([u32; 3], u32, &Buffer) -> Result<(), LmError>,
    ) -> Result<(), LmError> {
        if rows == 0 {
            return Ok(());
        }
        let slabs = rows.div_ceil(SLAB);
        let threads = threads(width, ROW_THREADS);
        let across = blocks(width, threads as usize);
        let sums = self.floats(slabs * width)?;
        sum([across, blocks(slabs, 1), 1], threads, &sums)?;
        let args = [sums.arg(), int(slabs), int(width), Address(out)];
        self.run("add_slabs", [across, 1, 1], threads, 0, &args)
    }

    /// Adds the sum of each column to `out`.
    pub(crate) fn column_sums(
        &self,
        values: &Buffer,
        precision: Precision,
        rows: usize,
        width: usize,
        out: u64,
    ) -> Result<(), LmError> {
        let name = format!("slab_sums_{}", precision.suffix());
        self.slabs(rows, width, out, |grid, threads, sums| {
            let args = [values.arg(), int(rows), int(width), int(SLAB), sums.arg()];
            self.run(&name, grid, threads, 0, &args)
        })
    }

    pub(crate) fn rms_norm(
        &self,
        x: &Buffer,
        weight: u64,
        epsilon: f32,
        rows: usize,
        width: usize,
    ) -> Result<(Buffer, Buffer), LmError> {
        let (y, inverse) = (self.values(rows * width)?, self.floats(rows)?);
        let args = [
            x.arg(),
            Address(weight),
            Float(epsilon),
            y.arg(),
            inverse.arg(),
            int(width),
        ];
        self.rows("rms_norm", rows, width, &args)?;
        Ok((y, inverse))
    }

    /// The normalised rows again.
    pub(crate) fn rms_norm_again(
        &self,
        x: &Buffer,
        weight: u64,
        inverse: &Buffer,
        rows: usize,
        width: usize,
    ) -> Result<Buffer, LmError> {
        let y = self.values(rows * width)?;
        let args = [x.arg(), Address(weight), inverse.arg(), y.arg(), int(width)];
        self.rows("rms_norm_again", rows, width, &args)?;
        Ok(y)
    }

    /// Adds the gradient on `x` to `sum` and that on the weight to `dweight`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a backward pass has all of its forward's"
    )]
    pub(crate) fn rms_norm_backward(
        &self,
        x: &Buffer,
        weight: u64,
        inverse: &Buffer,
        dy: &Buffer,
        sum: &Buffer,
        dweight: u64,
        rows: usize,
        width: usize,
    ) -> Result<(), LmError> {
        let args = [
            x.arg(),
            Address(weight),
            inverse.arg(),
            dy.arg(),
            sum.arg(),
            int(width),
        ];
        self.rows("rms_norm_backward", rows, width, &args)?;
        self.slabs(rows, width, dweight, |grid, threads, sums| {
            let args = [
                x.arg(),
                inverse.arg(),
                dy.arg(),
                int(rows),
                int(width),
                int(SLAB),
                sums.arg(),
            ];
            self.run(&self.name("norm_weight_slabs"), grid, threads, 0, &args)
        })
    }

    pub(crate) fn swiglu(
        &self,
        gate_up: &Buffer,
        rows: usize,
        inner: usize,
    ) -> Result<Buffer, LmError> {
        let out = self.values(rows * inner)?;
        let args = [gate_up.arg(), out.arg(), Long(rows as u64), int(inner)];
        self.over(&self.name("swiglu"), rows * inner, &args)?;
        Ok(out)
    }

    pub(crate) fn swiglu_backward(
        &self,
        gate_up: &Buffer,
        dout: &Buffer,
        rows: usize,
        inner: usize,
    ) -> Result<(), LmError> {
        let args = [gate_up.arg(), dout.arg(), Long(rows as u64), int(inner)];
        self.over(&self.name("swiglu_backward"), rows * inner, &args)
    }
}
