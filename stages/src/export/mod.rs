//! Export: a model as others load it, with a card that says how it was made.
//!
//! | port         | way | artifact   | holds                                                             |
//! |--------------|-----|------------|-------------------------------------------------------------------|
//! | `model`      | in  | checkpoint | the model                                                         |
//! | `evaluation` | in  | evaluation | optional: its figures, for the card                               |
//! | `comparison` | in  | table      | optional: `table.md`, for the card                                |
//! | `model`      | out | checkpoint | Hugging Face folder, `README.md`, and a GGUF file a precision     |
//!
//! transformers and vLLM load the folder as it is, llama.cpp each GGUF file; tokenizer and chat template go
//! along. Rounding weights to fewer bits is the only change made to them.

mod card;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::load::{GgufPrecision, Precision, SaveOptions, save_gguf};

use self::card::Card;
use crate::chat::lm;
use crate::model::Model;

/// The kind `export`.
pub(crate) struct Export;

/// How the folder's weights are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Dtype {
    /// As they were trained.
    F32,
    /// Half.
    F16,
    /// Brain float, as most models are published.
    #[default]
    Bf16,
}

/// How the weights of a GGUF file are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Gguf {
    /// As they were trained.
    #[serde(rename = "f32")]
    F32,
    /// Half.
    #[serde(rename = "f16")]
    F16,
    /// Brain float.
    #[serde(rename = "bf16")]
    Bf16,
    /// Eight bits, 32 values a scale.
    #[serde(rename = "q8-0")]
    Q8,
    /// Four to six bits; rows must be a multiple of 256 long.
    #[serde(rename = "q4-k-m")]
    Q4,
}

impl Gguf {
    fn precision(self) -> (GgufPrecision, &'static str) {
        match self {
            Self::F32 => (GgufPrecision::F32, "F32"),
            Self::F16 => (GgufPrecision::F16, "F16"),
            Self::Bf16 => (GgufPrecision::Bf16, "BF16"),
            Self::Q8 => (GgufPrecision::Q8_0, "Q8_0"),
            Self::Q4 => (GgufPrecision::Q4KM, "Q4_K_M"),
        }
    }
}

/// What to write.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// The model's name: title of the card, stem of the GGUF files.
    name: String,
    /// How the folder's weights are stored.
    #[serde(default)]
    dtype: Dtype,
    /// GGUF files to write beside it.
    #[serde(default)]
    gguf: Vec<Gguf>,
    /// For the card: the licence, as the hub names it, for example `apache-2.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    license: Option<String>,
    /// For the card: what it was trained on.
    #[serde(default)]
    data: Vec<String>,
    /// For the card: the command that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

impl Stage for Export {
    const KIND: &'static str = "export";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes a model for others: Hugging Face folder, GGUF, model card";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Evaluation, Table};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "the model"),
                    Input::optional("evaluation", Evaluation, "its figures, for the card"),
                    Input::optional("comparison", Table, "a table, for the card"),
                ],
                outputs: &[Output::new(
                    "model",
                    Checkpoint,
                    "Hugging Face folder, card, GGUF files",
                )],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = !p.name.is_empty() && p.name.chars().all(plain) && !p.name.starts_with('.');
        let mut complaints = Vec::new();
        if !good {
            complaints.push(Complaint::new(
                "name",
                "must be letters, digits, `-`, `_` and `.`, not first",
            ));
        }
        if p.license.as_deref().is_some_and(|l| l.contains('\n')) {
            complaints.push(Complaint::new("license", "must be one line"));
        }
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let model = Model::load(context.input("model")?)?;
        let folder = context.output("model");
        std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        let options = SaveOptions {
            precision: match p.dtype {
                Dtype::F32 => Precision::F32,
                Dtype::F16 => Precision::F16,
                Dtype::Bf16 => Precision::Bf16,
            },
            ..SaveOptions::default()
        };
        model.checkpoint.save(&folder, options).map_err(lm)?;
        let mut files = Vec::new();
        for (done, gguf) in p.gguf.iter().enumerate() {
            let (precision, name) = gguf.precision();
            let file = format!("{}-{name}.gguf", p.name);
            save_gguf(&model.checkpoint, &folder.join(&file), precision).map_err(lm)?;
            files.push(file);
            context.progress(
                done as u64 + 1,
                p.gguf.len() as u64,
                "GGUF files",
                String::new(),
            );
        }
        model.lineage.write(&folder)?;
        let card = Card {
            name: &p.name,
            license: p.license.as_deref(),
            data: &p.data,
            command: p.command.as_deref(),
            gguf: &files,
        };
        let text = card.text(
            &model,
            &folder,
            context.optional("evaluation"),
            context.optional("comparison"),
        )?;
        let path = folder.join("README.md");
        std::fs::write(&path, text).map_err(StageError::io("write", &path))
    }
}
