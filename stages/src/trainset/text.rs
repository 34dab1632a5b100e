use starling_reward::END_OF_TURN;
use starling_text::json::Value;
use starling_text::template::{ChatTemplate, Options};
pub(crate) struct Text { pub(crate) inputs: String, pub(crate) targets: String }
pub(crate) fn training_row(row: &Value, template: &ChatTemplate) -> Result<Text, String> {
    let messages = crate::rows::list(row, "messages");
    let Some((last, before)) = messages.split_last() else { return Err("no messages".into()) };
    let options = Options { enable_thinking: Some(false), ..Options::prompt() };
    let inputs = template.render(before, crate::rows::field(row, "tools"), &options).map_err(|e| e.to_string())?;
    let alone = template.render(std::slice::from_ref(last), None, &Options::default()).map_err(|e| e.to_string())?;
    let body = alone.strip_prefix("<|im_start|>assistant\n").ok_or("not the assistant's")?;
    let body = body.strip_suffix("<|im_end|>\n").ok_or("no end")?;
    Ok(Text { inputs, targets: format!("{body}{END_OF_TURN}") })
}
