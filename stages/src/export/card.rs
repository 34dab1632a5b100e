//! The model card: data, recipe, figures with their intervals, command, digests.

use std::fmt::Write as _;
use std::path::Path;

use starling_cache::Digest;
use starling_contract::StageError;

use crate::evaluation::Evaluation;
use crate::model::Model;

/// What the card is told.
pub(super) struct Card<'a> {
    pub(super) name: &'a str,
    pub(super) license: Option<&'a str>,
    pub(super) data: &'a [String],
    pub(super) command: Option<&'a str>,
    pub(super) gguf: &'a [String],
}

impl Card<'_> {
    /// The card of the model in `folder`.
    pub(super) fn text(
        &self,
        model: &Model,
        folder: &Path,
        evaluation: Option<&Path>,
        comparison: Option<&Path>,
    ) -> Result<String, StageError> {
        let mut text = String::from("---\n");
        if let Some(license) = self.license {
            let _ = writeln!(text, "license: {license}");
        }
        text.push_str("pipeline_tag: text-generation\ntags:\n- function-calling\n---\n\n");
        let config = model.config();
        let _ = writeln!(text, "# {}\n", self.name);
        let _ = writeln!(
            text,
            "A function-calling model of {:.1} million parameters: {} layers, hidden size {}, {} tokens in the \
             vocabulary.\n",
            model.parameters() as f64 / 1e6,
            config.num_hidden_layers,
            config.hidden_size,
            config.vocab_size
        );
        if !self.data.is_empty() {
            text.push_str("## Data\n\n");
            for line in self.data {
                let _ = writeln!(text, "- {line}");
            }
            text.push('\n');
        }
        self.recipe(model, &mut text);
        if let Some(folder) = evaluation {
            figures(&Evaluation::read(folder)?, &mut text);
        }
        if let Some(folder) = comparison {
            let path = folder.join("table.md");
            let table = std::fs::read_to_string(&path).map_err(StageError::io("read", &path))?;
            let _ = writeln!(text, "## Comparison\n\n{}\n", table.trim());
        }
        files(folder, &mut text)?;
        Ok(text)
    }

    fn recipe(&self, model: &Model, text: &mut String) {
        text.push_str("## Recipe\n\n");
        if let Some(command) = self.command {
            let _ = writeln!(text, "```sh\n{command}\n```\n");
        }
        text.push_str(
            "| step | trained tokens | sampled tokens | read tokens | parameters | TFLOP |\n",
        );
        text.push_str(
            "|------|---------------:|---------------:|------------:|-----------:|------:|\n",
        );
        for work in model.lineage.works() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.2} |",
                work.kind,
                work.trained_tokens,
                work.generated_tokens,
                work.read_tokens,
                work.parameters,
                work.tflop()
            );
        }
        let _ = writeln!(
            text,
            "\n{:.2} TFLOP in all, everything counted that went into the weights.\n",
            model.lineage.tflop()
        );
        if !self.gguf.is_empty() {
            let _ = writeln!(text, "GGUF files: {}.\n", self.gguf.join(", "));
        }
    }
}

fn figures(evaluation: &Evaluation, text: &mut String) {
    let _ = writeln!(
        text,
        "## Figures\n\n{} items; brackets are 95 % intervals.\n\n| figure | value |\n|--------|------:|",
        evaluation.items
    );
    for metric in &evaluation.metrics {
        let (e, scale, unit) = if metric.percent {
            (metric.estimate, 100.0, " %")
        } else {
            (metric.estimate, 1.0, "")
        };
        let _ = writeln!(
            text,
            "| {} | {:.3}{unit} [{:.3}, {:.3}] |",
            metric.name,
            scale * e.value,
            scale * e.low,
            scale * e.high
        );
    }
    text.push('\n');
}

/// SHA-256 of every file, as `sha256sum` prints them.
fn files(folder: &Path, text: &mut String) -> Result<(), StageError> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(StageError::io("list", folder))? {
        let entry = entry.map_err(StageError::io("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    text.push_str("## Files\n\n```\n");
    for name in names {
        let path = folder.join(&name);
        let (digest, _) = Digest::of_file(&path).map_err(|e| StageError::failed(e.to_string()))?;
        let _ = writeln!(text, "{digest}  {name}");
    }
    text.push_str("```\n");
    Ok(())
}
