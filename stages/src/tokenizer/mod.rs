//! Tokenizer: makes a published tokenizer usable, for preparing rows without the model's weights.
//!
//! | port        | way | artifact  | holds                                                            |
//! |-------------|-----|-----------|------------------------------------------------------------------|
//! | `from`      | in  | raw       | a folder with `tokenizer.json`, or that file, gzipped or not     |
//! | `tokenizer` | out | tokenizer | `tokenizer.json`, its configuration, and a chat template         |
//!
//! Refuses tokenizers that are not byte-level, and templates that cannot be compiled.

use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{ArtifactType, Input, Output, Ports, Stage, StageContext, StageError};
use starling_lm::tokenizer::Tokenizer;
use starling_text::json::{self, Value};
use starling_text::template::ChatTemplate;

use crate::chat::{Template, lm};

/// The kind `tokenizer`.
pub(crate) struct TokenizerKind;

/// Which template goes with it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// The template to prompt with; left out, the folder's own: `chat_template.jinja`, else the one in
    /// `tokenizer_config.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template: Option<Template>,
}

impl Stage for TokenizerKind {
    const KIND: &'static str = "tokenizer";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "makes a published tokenizer usable, without the model's weights";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Raw, Tokenizer};
        const {
            Ports {
                inputs: &[Input::required(
                    "from",
                    Raw,
                    "a folder with `tokenizer.json`, or that file",
                )],
                outputs: &[Output::new(
                    "tokenizer",
                    Tokenizer,
                    "the tokenizer with its chat template",
                )],
            }
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let from = context.input("from")?;
        let out = context.output("tokenizer");
        std::fs::create_dir_all(&out).map_err(StageError::io("create", &out))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = out.join(name);
            std::fs::write(&path, bytes).map_err(StageError::io("write", &path))
        };
        let folder = from.is_dir().then_some(from);
        let file = folder.map_or_else(|| from.to_owned(), |f| f.join("tokenizer.json"));
        let bytes = unpacked(&file)?;
        let _checked = Tokenizer::from_bytes(&bytes).map_err(lm)?;
        write("tokenizer.json", &bytes)?;
        let config = folder
            .map(|f| f.join("tokenizer_config.json"))
            .filter(|c| c.exists());
        let config = config.map(|path| unpacked(&path)).transpose()?;
        let own = folder
            .map(|f| f.join("chat_template.jinja"))
            .filter(|t| t.exists());
        let template = match (p.chat_template, own) {
            (Some(template), _) => template.source().to_owned(),
            (None, Some(path)) => text(unpacked(&path)?, &path)?,
            (None, None) => config
                .as_deref()
                .and_then(|bytes| json::parse(std::str::from_utf8(bytes).ok()?).ok())
                .and_then(|config| {
                    config
                        .get("chat_template")
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                })
                .ok_or_else(|| {
                    StageError::failed_try(
                        "the tokenizer brings no chat template",
                        "set `chat-template`, for example to `qwen3`",
                    )
                })?,
        };
        let _compiled = ChatTemplate::from_source(&template).map_err(lm)?;
        write("chat_template.jinja", template.as_bytes())?;
        if let Some(config) = config {
            write("tokenizer_config.json", &config)?;
        }
        Ok(())
    }
}

fn text(bytes: Vec<u8>, path: &Path) -> Result<String, StageError> {
    String::from_utf8(bytes)
        .map_err(|_| StageError::input("from", format!("{} is not UTF-8", path.display())))
}

/// The bytes of a file, without gzip around them.
fn unpacked(path: &Path) -> Result<Vec<u8>, StageError> {
    let bytes = std::fs::read(path).map_err(StageError::io("read", path))?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes.as_slice())
        .read_to_end(&mut plain)
        .map_err(StageError::io("decompress", path))?;
    Ok(plain)
}
