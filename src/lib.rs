//! The engine of starling: pipelines, plans, runs, reports.

pub mod report;
