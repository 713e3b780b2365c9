//! Prints the type of each file that an argument names, which a model of Magika finds by the file's contents.
//!
//! The model and its `config.min.json` are in `/magika`, or in the directory that the variable `MODEL` names. If something
//! fails, stderr says what and the exit code is 1.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "hello", generate_all });
}

use std::process::ExitCode;
use std::{env, fs};

use bindings::wasi::nn::errors::Error;
use bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding, load};
use bindings::wasi::nn::inference::GraphExecutionContext;
use bindings::wasi::nn::tensor::{Tensor, TensorType};
use serde::Deserialize;

/// What the model expects, and what its outputs mean.
#[derive(Deserialize)]
struct Config {
    beg_size: usize,
    end_size: usize,
    block_size: usize,
    padding_token: i32,
    target_labels_space: Vec<String>,
}

fn main() -> ExitCode {
    match name_files() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("hello-nn: {message}");
            ExitCode::FAILURE
        }
    }
}

fn name_files() -> Result<(), String> {
    let directory = env::var("MODEL").unwrap_or_else(|_| "/magika".to_owned());
    let config = read(&format!("{directory}/config.min.json"))?;
    let config: Config = serde_json::from_slice(&config).map_err(|error| error.to_string())?;
    let model = read(&format!("{directory}/model.onnx"))?;
    let graph = load(&[model], GraphEncoding::Onnx, ExecutionTarget::Cpu).map_err(describe)?;
    let context = graph.init_execution_context().map_err(describe)?;
    for file in env::args().skip(1) {
        let (label, score) = label(&context, &config, &read(&file)?)?;
        println!("{file}: {label} ({:.0} %)", score * 100.0);
    }
    Ok(())
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{path}: {error}"))
}

fn describe(error: Error) -> String {
    format!("{:?}: {}", error.code(), error.data())
}

/// The likeliest label, and how likely it is.
fn label<'a>(
    context: &GraphExecutionContext,
    config: &'a Config,
    bytes: &[u8],
) -> Result<(&'a str, f32), String> {
    let input: Vec<u8> = features(config, bytes).iter().flat_map(|it| it.to_le_bytes()).collect();
    let dimensions = [1, (config.beg_size + config.end_size) as u32];
    let input = Tensor::new(&dimensions, TensorType::I32, &input);
    let outputs = context.compute(vec![("bytes".to_owned(), input)]).map_err(describe)?;
    let (_, output) = outputs.into_iter().next().ok_or("the model has no output")?;
    let scores = output.data();
    let scores = scores.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it));
    let labels = config.target_labels_space.iter().map(String::as_str);
    labels.zip(scores).max_by(|a, b| a.1.total_cmp(&b.1)).ok_or("no label".to_owned())
}

/// The first and the last bytes that are no white space, filled up with padding.
fn features(config: &Config, bytes: &[u8]) -> Vec<i32> {
    let block = config.block_size.min(bytes.len());
    let first = bytes[..block].trim_ascii_start();
    let last = bytes[bytes.len() - block..].trim_ascii_end();
    let first = &first[..config.beg_size.min(first.len())];
    let last = &last[last.len() - config.end_size.min(last.len())..];
    let padding = |size: usize, filled: usize| std::iter::repeat_n(config.padding_token, size - filled);
    let number = |byte: &u8| i32::from(*byte);
    let mut features: Vec<i32> = first.iter().map(number).collect();
    features.extend(padding(config.beg_size, first.len()));
    features.extend(padding(config.end_size, last.len()));
    features.extend(last.iter().map(number));
    features
}
