//! The engine of starling: pipelines, plans, runs, reports.
