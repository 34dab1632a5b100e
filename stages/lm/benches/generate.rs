//! Generation speed, in tokens a second.
//!
//! `cargo bench -p starling-lm --bench generate`. The models have random weights: speed depends on sizes alone.

use std::ops::ControlFlow;

use divan::{Bencher, counter::ItemsCount};
use starling_lm::generate::{Generator, Request, Sampling};
use starling_lm::{Architecture, ModelConfig, Weights};

fn main() {
    divan::main();
}

/// The sizes of the quickstart's model.
fn micro() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 600,
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        max_position_embeddings: 512,
        attention_bias: false,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    }
}

/// The sizes of SmolLM2-135M.
fn smollm2() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        max_position_embeddings: 2048,
        ..micro()
    }
}

fn requests(config: &ModelConfig, count: usize, prompt: usize, samples: usize) -> Vec<Request> {
    let token = |at: usize| (at * 7919 % config.vocab_size) as u32;
    let request = |id: usize| Request {
        samples,
        ..Request::new(id as u64, (id..id + prompt).map(token).collect())
    };
    (0..count).map(request).collect()
}

fn run(
    bencher: Bencher<'_, '_>,
    config: &ModelConfig,
    requests: &[Request],
    sampling: &Sampling,
    threads: usize,
) {
    let weights = Weights::init(config, 0).expect("the sizes fit");
    let generator = Generator::new(config, &weights).expect("the weights fit");
    let samples: usize = requests.iter().map(|request| request.samples).sum();
    bencher
        .counter(ItemsCount::new(samples * sampling.max_new_tokens))
        .bench_local(|| {
            generator
                .generate(requests, sampling, threads, &|_| ControlFlow::Continue(()))
                .expect("the requests are good")
        });
}

/// 64 prompts of 80 tokens, 40 new tokens; samples of each.
#[divan::bench(args = [(1, 1), (2, 1), (1, 4), (2, 4)], sample_count = 5)]
fn micro_model(bencher: Bencher<'_, '_>, (threads, samples): (usize, usize)) {
    let config = micro();
    let sampling = Sampling {
        max_new_tokens: 40,
        ..Sampling::default()
    };
    run(
        bencher,
        &config,
        &requests(&config, 64, 80, samples),
        &sampling,
        threads,
    );
}

/// 64 prompts of 80 tokens, 40 new tokens, the 32 likeliest recorded.
#[divan::bench(sample_count = 5)]
fn micro_model_with_top_32(bencher: Bencher<'_, '_>) {
    let config = micro();
    let sampling = Sampling {
        max_new_tokens: 40,
        top_logprobs: 32,
        ..Sampling::default()
    };
    run(
        bencher,
        &config,
        &requests(&config, 64, 80, 1),
        &sampling,
        2,
    );
}

/// Prompts of 80 tokens, 40 new tokens.
#[divan::bench(args = [(1, 1), (1, 8), (2, 8), (2, 32)], sample_count = 2)]
fn smollm2_135m(bencher: Bencher<'_, '_>, (threads, prompts): (usize, usize)) {
    let config = smollm2();
    let sampling = Sampling {
        max_new_tokens: 40,
        ..Sampling::default()
    };
    run(
        bencher,
        &config,
        &requests(&config, prompts, 80, 1),
        &sampling,
        threads,
    );
}

/// Reading a prompt of 1,024 tokens.
#[divan::bench(sample_count = 2)]
fn smollm2_135m_prompt(bencher: Bencher<'_, '_>) {
    let config = smollm2();
    let sampling = Sampling {
        max_new_tokens: 1,
        ..Sampling::default()
    };
    run(
        bencher,
        &config,
        &requests(&config, 1, 1024, 1),
        &sampling,
        1,
    );
}
