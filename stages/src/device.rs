//! Where a stage computes.

use starling_contract::{StageContext, StageError};
use starling_lm::kernels::Precision;
use starling_lm::place::Place;

/// The places that kinds with a model compute on in this binary.
pub(crate) const PLACES: &[&str] = starling_lm::place::PLACES;

/// The place that the pipeline names.
///
/// # Errors
/// [`StageError::Device`] when it is not there, before anything slow has begun.
pub(crate) fn place(context: &StageContext<'_>) -> Result<Place, StageError> {
    Place::named(context.device()).map_err(|error| StageError::Device(error.to_string()))
}

/// The same for training, where the pipeline says what products of matrices are computed in.
///
/// # Errors
/// As [`place`].
pub(crate) fn training_place(
    context: &StageContext<'_>,
    precision: Precision,
) -> Result<Place, StageError> {
    Place::computing_in(context.device(), precision)
        .map_err(|error| StageError::Device(error.to_string()))
}
