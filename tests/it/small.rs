//! A world, its rows and a teacher, at a size of seconds: what pipelines of several tests begin with.

/// From the world to the stage `teacher`, whose table is open for more parameters.
pub(crate) const BEGINNING: &str = r#"
[stage.world]
kind = "world"
base-rows = 40
train-rows = 120
test-rows = 16

[stage.tokenizer]
kind = "tokenizer-train"
inputs.rows.train = "world.train"
vocab-size = 420
chat-template = "compact"

[stage.rows]
kind = "trainset"
inputs.rows = "world.train"
inputs.tokenizer = "tokenizer.tokenizer"

[stage.held-out]
kind = "trainset"
inputs.rows = "world.test"
inputs.tokenizer = "tokenizer.tokenizer"

[stage.init]
kind = "model-init"
inputs.tokenizer = "tokenizer.tokenizer"
layers = 2
hidden = 48
heads = 4
kv-heads = 2

[stage.teacher]
kind = "sft"
inputs.model = "init.model"
inputs.rows = "rows.rows"
updates = 160
batch = 16
optimizer.lr = 1e-2
"#;
