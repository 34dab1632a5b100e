//! What a stage is: ports, parameters, context, errors.
