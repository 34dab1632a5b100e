//! Models as files: written, read back, and refused.

use super::*;
use crate::config::Architecture;
use crate::weights::tests::tiny;

fn checkpoint(architecture: Architecture) -> Checkpoint {
    let config = tiny(architecture);
    let weights = Weights::init(&config, 7).unwrap();
    let mut files = BTreeMap::new();
    files.insert("chat_template.jinja".to_owned(), b"{{ x }}".to_vec());
    Checkpoint {
        config,
        weights,
        files,
    }
}

fn all_values(weights: &Weights) -> BTreeMap<String, Vec<f32>> {
    let values = |name: &String| (name.clone(), weights.values(name).unwrap());
    weights.0.keys().map(values).collect()
}

fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let named = entries.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    });
    named.collect()
}

#[test]
fn a_saved_model_loads_to_itself_and_saves_to_the_same_bytes() {
    let small = SaveOptions {
        shard_bytes: 3000,
        ..SaveOptions::default()
    };
    for architecture in [
        Architecture::Qwen3,
        Architecture::Qwen2,
        Architecture::Llama,
    ] {
        for options in [SaveOptions::default(), small] {
            let saved = checkpoint(architecture);
            let folder = tempfile::tempdir().unwrap();
            saved.save(folder.path(), options).unwrap();
            let loaded = Checkpoint::load(folder.path()).unwrap();
            assert_eq!(loaded.config, saved.config);
            assert_eq!(all_values(&loaded.weights), all_values(&saved.weights));
            assert_eq!(loaded.chat_template().unwrap(), "{{ x }}");

            let again = tempfile::tempdir().unwrap();
            loaded.save(again.path(), options).unwrap();
            let bytes = bytes_of(folder.path());
            assert_eq!(bytes, bytes_of(again.path()));
            let sharded = options.shard_bytes == 3000;
            assert_eq!(bytes.contains_key("model.safetensors.index.json"), sharded);
        }
    }
}

#[test]
fn bf16_is_rounded_once_and_named() {
    let saved = checkpoint(Architecture::Qwen3);
    let folder = tempfile::tempdir().unwrap();
    let options = SaveOptions {
        precision: Precision::Bf16,
        ..SaveOptions::default()
    };
    saved.save(folder.path(), options).unwrap();
    let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert!(text.contains("\"torch_dtype\": \"bfloat16\""), "{text}");
    let loaded = all_values(&Checkpoint::load(folder.path()).unwrap().weights);
    for (name, values) in all_values(&saved.weights) {
        let rounded = values.iter().map(|&v| half::bf16::from_f32(v).to_f32());
        assert!(rounded.eq(loaded[&name].iter().copied()), "{name}");
    }
}

#[test]
fn end_tokens_of_the_generation_config_join_those_of_the_config() {
    let mut saved = checkpoint(Architecture::Qwen3);
    let text = br#"{"eos_token_id": [1, 5], "temperature": 0.6}"#;
    saved
        .files
        .insert(GENERATION_FILE.to_owned(), text.to_vec());
    let folder = tempfile::tempdir().unwrap();
    saved.save(folder.path(), SaveOptions::default()).unwrap();
    let loaded = Checkpoint::load(folder.path()).unwrap();
    assert_eq!(loaded.config.eos_token_ids, [1, 5]);
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(Architecture::Qwen3)
        .save(folder.path(), SaveOptions::default())
        .unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let error = || Checkpoint::load(folder.path()).unwrap_err().to_string();
    for length in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(
            error().contains("model.safetensors"),
            "{length}: {}",
            error()
        );
    }
    std::fs::write(&path, &whole).unwrap();

    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("\"hidden_size\": 12", "\"hidden_size\": 16"),
    )
    .unwrap();
    let message = error();
    assert!(
        message.contains("model.safetensors") && message.contains("expected"),
        "{message}"
    );
    std::fs::write(
        &config,
        text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
    )
    .unwrap();
    assert!(error().contains("model.layers.2"), "{}", error());
    std::fs::write(&config, "{").unwrap();
    assert!(error().contains("config.json"), "{}", error());
    std::fs::remove_file(&config).unwrap();
    assert!(error().contains("config.json"), "{}", error());
}

#[test]
fn an_index_cannot_point_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let options = SaveOptions {
        shard_bytes: 3000,
        ..SaveOptions::default()
    };
    checkpoint(Architecture::Llama)
        .save(folder.path(), options)
        .unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("model-00001", "../model-00001")).unwrap();
    let message = Checkpoint::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("plain file name"), "{message}");
    std::fs::write(&index, "{}").unwrap();
    assert!(Checkpoint::load(folder.path()).is_err());
}

/// A checkpoint with a tokenizer that covers some of the embedding.
fn with_tokenizer(architecture: Architecture) -> Checkpoint {
    use crate::tokenizer::{CHAT_TOKENS, TokenizerConfig, TrainOptions, train};
    let options = TrainOptions {
        vocab_size: 300,
        min_frequency: 1,
        special_tokens: &CHAT_TOKENS,
    };
    let tokenizer = train(["the cat and the hat and the bat"], &options).unwrap();
    let settings = TokenizerConfig {
        eos_token: Some("<|im_end|>".to_owned()),
        pad_token: Some("<|im_end|>".to_owned()),
        model_max_length: None,
        chat_template: Some("{{ messages }}".to_owned()),
    };
    let config = ModelConfig {
        vocab_size: 310,
        hidden_size: 64,
        intermediate_size: 256,
        num_hidden_layers: 9,
        head_dim: 16,
        eos_token_ids: vec![tokenizer.token_to_id("<|im_end|>").unwrap()],
        rope_scaling: (architecture == Architecture::Llama).then_some(crate::config::RopeScaling {
            factor: 4.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        }),
        ..tiny(architecture)
    };
    let mut files = tokenizer.files(&settings).unwrap();
    files.insert(GENERATION_FILE.to_owned(), b"{}".to_vec());
    Checkpoint {
        weights: Weights::init(&config, 3).unwrap(),
        config,
        files,
    }
}

#[test]
fn a_gguf_file_gives_back_what_was_written() {
    for architecture in [
        Architecture::Qwen3,
        Architecture::Qwen2,
        Architecture::Llama,
    ] {
        let saved = with_tokenizer(architecture);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        for (precision, limit) in [
            (GgufPrecision::F32, 0.0),
            (GgufPrecision::F16, 5e-4),
            (GgufPrecision::Bf16, 4e-3),
            (GgufPrecision::Q8_0, 1e-2),
            (GgufPrecision::Q4KM, 0.15),
        ] {
            save_gguf(&saved, &path, precision).unwrap();
            let loaded = load_gguf(&path).unwrap();
            // GGUF keeps these two as f32
            let theta = saved.config.rope_theta as f32;
            let epsilon = saved.config.rms_norm_eps as f32;
            let expected = ModelConfig {
                rope_theta: f64::from(theta),
                rms_norm_eps: f64::from(epsilon),
                ..saved.config.clone()
            };
            assert_eq!(loaded.config, expected);
            for (name, expected) in all_values(&saved.weights) {
                let found = loaded.weights.values(&name).unwrap();
                let size = expected.iter().map(|x| x * x).sum::<f32>().sqrt();
                let pairs = found.iter().zip(&expected);
                let apart = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
                assert!(
                    apart <= limit * size,
                    "{architecture:?} {precision:?} {name}: {apart} of {size}"
                );
            }
            let (before, after) = (saved.tokenizer().unwrap(), loaded.tokenizer().unwrap());
            let text = "the hat<|im_end|>\nA bat, 42 cats\u{e9}";
            assert_eq!(after.encode(text).unwrap(), before.encode(text).unwrap());
            assert_eq!(after.vocab_size(), before.vocab_size());
            assert_eq!(loaded.chat_template().unwrap(), "{{ messages }}");
            let again = folder.path().join("again.gguf");
            save_gguf(&saved, &again, precision).unwrap();
            let bytes = |path: &Path| std::fs::read(path).unwrap().len();
            assert_eq!(bytes(&again), bytes(&path));
        }
    }
}

#[test]
fn what_gguf_cannot_tell_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let error =
        |saved: &Checkpoint, precision| save_gguf(saved, &path, precision).unwrap_err().to_string();
    let mut saved = checkpoint(Architecture::Qwen3);
    assert!(error(&saved, GgufPrecision::F32).contains("needs a tokenizer"));
    saved = with_tokenizer(Architecture::Qwen3);
    let large = candle_core::Tensor::full(1e6_f32, (64, 64), &candle_core::Device::Cpu).unwrap();
    saved
        .weights
        .0
        .insert("model.layers.3.self_attn.o_proj.weight".to_owned(), large);
    let message = error(&saved, GgufPrecision::F16);
    assert!(
        message.contains("blk.3.attn_output.weight") && message.contains("bf16"),
        "{message}"
    );
    let options = SaveOptions {
        precision: Precision::F16,
        ..SaveOptions::default()
    };
    let message = saved
        .save(&folder.path().join("hf"), options)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("layers.3.self_attn.o_proj") && message.contains("bfloat16"),
        "{message}"
    );
}

#[test]
fn a_cut_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    save_gguf(
        &with_tokenizer(Architecture::Llama),
        &path,
        GgufPrecision::Q8_0,
    )
    .unwrap();
    let whole = std::fs::read(&path).unwrap();
    let lengths = (0..200).chain((200..whole.len()).step_by(997));
    for length in lengths.chain([whole.len() - 33]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = load_gguf(&path).unwrap_err().to_string();
        assert!(message.contains("model.gguf"), "{length}: {message}");
    }
}

#[test]
fn a_cut_safetensors_file_is_an_error_that_names_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let saved = checkpoint(Architecture::Qwen3);
    saved.save(folder.path(), SaveOptions::default()).unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let error = |length: usize| {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Checkpoint::load(folder.path()).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error} {}", cause.unwrap_or_default())
    };
    for length in (0..header).step_by(97).chain([7, 8, header - 1]) {
        let message = error(length);
        assert!(message.contains("model.safetensors"), "{length}: {message}");
    }
    for length in (header..whole.len()).step_by(9973).chain([whole.len() - 1]) {
        let message = error(length);
        assert!(
            message.starts_with("tensor `") && message.contains("it is cut"),
            "{length}: {message}"
        );
        assert!(message.contains("model.safetensors"), "{length}: {message}");
    }
}

#[test]
fn a_wrong_configuration_is_an_error_that_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let saved = checkpoint(Architecture::Qwen3);
    saved.save(folder.path(), SaveOptions::default()).unwrap();
    let path = folder.path().join("config.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    for (from, to, words) in [
        (
            "Qwen3ForCausalLM",
            "MambaForCausalLM",
            "architecture `MambaForCausalLM` is none of",
        ),
        ("{", "", "not JSON"),
    ] {
        std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let message = Checkpoint::load(folder.path()).unwrap_err().to_string();
        let named = message.contains(&path.display().to_string());
        assert!(named && message.contains(words), "{message}");
    }
}

mod damage {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of a small model as one safetensors file, and of its configuration.
    fn safetensors() -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let saved = checkpoint(Architecture::Qwen2);
        saved.save(folder.path(), SaveOptions::default()).unwrap();
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        (read("model.safetensors"), read("config.json"))
    }

    fn gguf() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut saved = with_tokenizer(Architecture::Llama);
        saved.config.num_hidden_layers = 1;
        saved.weights = Weights::init(&saved.config, 3).unwrap();
        save_gguf(&saved, &path, GgufPrecision::Q4KM).unwrap();
        std::fs::read(&path).unwrap()
    }

    /// Where bits flip: the headers, which say what the rest is, get most of them.
    fn places() -> impl Strategy<Value = Vec<(f64, u8)>> {
        let place = prop_oneof![4 => 0.0..0.02_f64, 2 => 0.0..0.2_f64, 1 => 0.0..1.0_f64];
        prop::collection::vec((place, 0..8_u8), 1..4)
    }

    fn flipped(bytes: &[u8], places: &[(f64, u8)]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for &(place, bit) in places {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] ^= 1 << bit;
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn flipped_bits_of_gguf_never_panic(places in places()) {
            static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let whole = WHOLE.get_or_init(gguf);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.gguf");
            std::fs::write(&path, flipped(whole, &places)).unwrap();
            // a flip in a weight or a word gives another model; a flip elsewhere an error
            if let Err(error) = load_gguf(&path) {
                prop_assert!(error.to_string().contains("model.gguf"), "{error}");
            }
        }

        #[test]
        fn flipped_bits_of_safetensors_never_panic(places in places(), of_config in places()) {
            static WHOLE: std::sync::OnceLock<(Vec<u8>, Vec<u8>)> = std::sync::OnceLock::new();
            let (weights, config) = WHOLE.get_or_init(safetensors);
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("model.safetensors"), flipped(weights, &places)).unwrap();
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            if let Err(error) = Checkpoint::load(folder.path()) {
                prop_assert!(error.to_string().contains("model.safetensors"), "{error}");
            }
            std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
            std::fs::write(folder.path().join("config.json"), flipped(config, &of_config)).unwrap();
            drop(Checkpoint::load(folder.path()));
        }
    }
}
