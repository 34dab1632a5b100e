//! A plan as a picture: who reads whom, and what the store already holds.
//!
//! A status is a shape *and* a colour *and* a word, so that neither colours nor a legend are needed to read
//! it. Names come from authors: everything that goes into a picture is escaped for its format.

mod layout;
mod mermaid;
mod svg;

use super::{Plan, Status};
use crate::pipeline::Pipeline;

pub use mermaid::mermaid;
pub use svg::svg;

/// What a picture says of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Cached,
    Ready,
    Blocked,
    Missing,
}

impl Look {
    const ALL: [Self; 4] = [Self::Cached, Self::Ready, Self::Blocked, Self::Missing];

    fn of(status: &Status) -> Self {
        match status {
            Status::Cached(_) => Self::Cached,
            Status::Ready(_) => Self::Ready,
            Status::Blocked { .. } => Self::Blocked,
            Status::Missing { .. } => Self::Missing,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Ready => "ready",
            Self::Blocked => "blocked",
            Self::Missing => "missing",
        }
    }

    /// Inside and border; text on the inside is nearly black.
    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Cached => ("#d7f0d9", "#2b7a33"),
            Self::Ready => ("#d6e6fb", "#1f5fae"),
            Self::Blocked => ("#ececec", "#6b6b6b"),
            Self::Missing => ("#fbd9d6", "#b3261e"),
        }
    }
}

/// Who reads whom: writer, reader, and the ports of the reader; each pair once.
fn edges(pipeline: &Pipeline) -> Vec<(usize, usize, Vec<String>)> {
    let mut edges: Vec<(usize, usize, Vec<String>)> = Vec::new();
    for (reader, stage) in pipeline.stages.iter().enumerate() {
        let first = edges.len();
        for input in &stage.inputs {
            let port = input.path();
            match edges[first..].iter_mut().find(|e| e.0 == input.stage) {
                Some((_, _, ports)) => ports.push(port),
                None => edges.push((input.stage, reader, vec![port])),
            }
        }
    }
    edges
}

/// The statuses that occur.
fn looks(plan: &Plan) -> Vec<Look> {
    plan.stages.iter().map(|s| Look::of(&s.status)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use starling_cache::KeyFields;

    use super::*;
    use crate::pipeline::read;
    use crate::plan::{Cause, Cost, PlannedStage};
    use crate::testing::registry;

    fn plan() -> (Pipeline, Plan) {
        let text = "\
[stage.letters]
kind = 'letters'
text = 'a'
[stage.large]
kind = 'upper'
inputs.rows = 'letters.rows'
inputs.extra = 'letters.rows'
[matrix.axes]
letters.text = ['a<b>&\"', 'c']
";
        let pipeline = read("p.toml", Path::new(""), text, &[], &registry()).expect("right");
        let planned = |status| PlannedStage {
            status,
            key: None,
            fields: KeyFields::new("k", 1, serde_json::json!({}), vec![]),
            same_as: None,
        };
        let blocked = |n| Status::Blocked {
            waits: vec![n],
            cause: Cause::First,
        };
        let stages = pipeline.stages.iter().map(|s| match s.inputs.first() {
            Some(input) => planned(blocked(input.stage)),
            None => planned(Status::Ready(Cause::First)),
        });
        let plan = Plan {
            stages: stages.collect(),
            cost: Cost::default(),
        };
        (pipeline, plan)
    }

    #[test]
    fn mermaid_is_readable() {
        let (pipeline, plan) = plan();
        insta::assert_snapshot!(mermaid(&pipeline, &plan), @r##"
        flowchart LR
          s0["letters@text=#35;1<br/><small>letters · ready</small>"]:::ready
          s1["letters@text=c<br/><small>letters · ready</small>"]:::ready
          s2{{"large@text=#35;1<br/><small>upper · blocked</small>"}}:::blocked
          s3{{"large@text=c<br/><small>upper · blocked</small>"}}:::blocked
          s0 -->|"rows, extra"| s2
          s1 -->|"rows, extra"| s3
          classDef ready fill:#d6e6fb,stroke:#1f5fae,color:#111
          classDef blocked fill:#ececec,stroke:#6b6b6b,color:#111,stroke-dasharray:5 3
        "##);
    }

    #[test]
    fn svg_is_well_formed() {
        let (mut pipeline, plan) = plan();
        pipeline.stages[0].name = "<&\">'".to_owned();
        let svg = svg(&pipeline, &plan);
        assert!(svg.contains("&lt;&amp;&quot;&gt;&#39;"), "{svg}");
        let mut open: Vec<&str> = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("closed");
            assert!(!tag.contains('&') || tag.contains(';'), "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().expect("a name"));
            }
        }
        assert!(open.is_empty(), "{open:?}");
        for word in ["ready", "blocked"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
