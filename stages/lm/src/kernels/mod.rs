//! Arithmetic of the decoder on slices, one thread each, the same bytes on every run.
//!
//! A forward kernel and its hand-written backward stand side by side. Every kernel is generic over [`Real`]:
//! `f32` is what runs, `f64` is what tests differentiate numerically. Loops are written over
//! fixed lanes and compiled for several instruction sets by `simd_fn!`; the processor chooses when it runs. Matrix products go to
//! the `gemm` crate, or to `bf16`, on one thread: parallelism belongs to whoever cuts the batch.

pub(crate) mod attention;
pub(crate) mod bf16;
pub(crate) mod embedding;
pub(crate) mod gemm;
pub(crate) mod norm;
pub(crate) mod real;
pub(crate) mod rope;
pub(crate) mod swiglu;
pub(crate) mod vector;

pub use gemm::Precision;
pub use real::Real;

/// Defines a function whose body is compiled for each instruction set and chosen at run time.
///
/// Reference arguments take the lifetime `'a`; what the body calls must be `#[inline(always)]`.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<'a, T: $crate::kernels::Real>($($arg: $ty),*) $(-> $ret)? {
            struct Op<'a, T: $crate::kernels::Real> {
                $($arg: $ty,)*
                marker: std::marker::PhantomData<&'a T>,
            }
            impl<'a, T: $crate::kernels::Real> pulp::WithSimd for Op<'a, T> {
                type Output = simd_fn!(@output $($ret)?);
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _simd: S) -> Self::Output {
                    let Self { $($arg,)* marker: _ } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Op { $($arg,)* marker: std::marker::PhantomData })
        }
    };
    (@output) => { () };
    (@output $ret:ty) => { $ret };
}
pub(crate) use simd_fn;

/// Calls `work` on every item, each once, on up to `threads` threads in contiguous shares.
pub(crate) fn in_parallel<I: Send>(items: Vec<I>, threads: usize, work: impl Fn(I) + Sync) {
    if threads <= 1 || items.len() < 2 * threads {
        items.into_iter().for_each(work);
        return;
    }
    let share = items.len().div_ceil(threads);
    let mut items = items.into_iter();
    std::thread::scope(|scope| {
        loop {
            let part: Vec<I> = items.by_ref().take(share).collect();
            if part.is_empty() {
                break;
            }
            scope.spawn(|| part.into_iter().for_each(&work));
        }
    });
}
