//! `wasi:nn`: inference with ONNX models on the processor, by the crate tract.
//!
//! Read in this order: the functions here, then `tensor` and `model`. A model comes from the guest's own files, and it is
//! computed in the guest's own process, in memory that counts in the container's limit.
//!
//! `wasmtime-wasi-nn` is not used. It does not compare a tensor's data with its dimensions, counts no memory, and gives each
//! failure of a model the same code. Its backends are libraries in C++ that are loaded at run time.

mod model;
mod tensor;

use std::sync::Arc;

use text::on_one_line;
use tokio::task::spawn_blocking;
use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource};

use super::types::{Code, Encoding, Target};
use super::{log_once, resource};
use crate::host_calls;
use crate::state::State;
use model::{Model, Named};
use tensor::Tensor;

/// How much of a reason is told, in characters.
const REASON_CHARS: usize = 500;

/// `error` of `wasi:nn/errors`.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    data: String,
}

/// `graph` of `wasi:nn/graph`: a model that is loaded.
struct Graph(Arc<Model>);

/// `graph-execution-context` of `wasi:nn/inference`.
struct Context(Arc<Model>);

/// Tensors with the names of a model's inputs or outputs, as the guest has them.
type Handles = Vec<(String, Resource<Tensor>)>;

impl Failure {
    /// The reason may have names of the model in it, which must neither forge lines of the log nor fill it.
    fn new(code: Code, reason: impl AsRef<str>) -> Failure {
        let reason = on_one_line(reason.as_ref());
        let data = reason.chars().filter(|it| !it.is_control()).take(REASON_CHARS).collect();
        Failure { code, data }
    }
}

/// Defines `errors`.
pub fn define_errors(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Failure>(interface, "error")?;
    interface.func_wrap(
        "[method]error.code",
        |mut store: StoreContextMut<'_, State>, (error,): (Resource<Failure>,)| {
            host_calls::enter("wasi:nn/errors [method]error.code");
            Ok((store.data_mut().table().get(&error)?.code,))
        },
    )?;
    interface.func_wrap(
        "[method]error.data",
        |mut store: StoreContextMut<'_, State>, (error,): (Resource<Failure>,)| {
            host_calls::enter("wasi:nn/errors [method]error.data");
            Ok((store.data_mut().table().get(&error)?.data.clone(),))
        },
    )
}

/// Defines `tensor`.
pub fn define_tensor(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Tensor>(interface, "tensor")?;
    interface.func_wrap("[constructor]tensor", |mut store, (dimensions, ty, data)| {
        host_calls::enter("wasi:nn/tensor [constructor]tensor");
        let tensor = Tensor::new(dimensions, ty, data);
        Ok((store.data_mut().table().push(tensor)?,))
    })?;
    interface.func_wrap(
        "[method]tensor.dimensions",
        |mut store: StoreContextMut<'_, State>, (tensor,): (Resource<Tensor>,)| {
            host_calls::enter("wasi:nn/tensor [method]tensor.dimensions");
            Ok((store.data_mut().table().get(&tensor)?.dimensions().to_vec(),))
        },
    )?;
    interface.func_wrap(
        "[method]tensor.ty",
        |mut store: StoreContextMut<'_, State>, (tensor,): (Resource<Tensor>,)| {
            host_calls::enter("wasi:nn/tensor [method]tensor.ty");
            Ok((store.data_mut().table().get(&tensor)?.ty(),))
        },
    )?;
    interface.func_wrap(
        "[method]tensor.data",
        |mut store: StoreContextMut<'_, State>, (tensor,): (Resource<Tensor>,)| {
            host_calls::enter("wasi:nn/tensor [method]tensor.data");
            Ok((store.data_mut().table().get(&tensor)?.data().to_vec(),))
        },
    )
}

/// Defines `graph`.
pub fn define_graph(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Graph>(interface, "graph")?;
    interface.func_wrap_async(
        "load",
        |mut store, (parts, encoding, target): (Vec<Vec<u8>>, Encoding, Target)| {
            host_calls::enter("wasi:nn/graph load");
            Box::new(async move {
                let loaded = match onnx(parts, encoding, target) {
                    Ok(bytes) => apart(move || Model::read(bytes)).await,
                    Err(failure) => Err(failure),
                };
                Ok((handle(&mut store, loaded.map(|model| Graph(Arc::new(model))))?,))
            })
        },
    )?;
    interface.func_wrap("load-by-name", |mut store, (name,): (String,)| {
        host_calls::enter("wasi:nn/graph load-by-name");
        let reason =
            format!("no model is called {name:?}: read one from a file, and pass it to load");
        let none: Result<Graph, _> = Err(Failure::new(Code::NotFound, reason));
        Ok((handle(&mut store, none)?,))
    })?;
    interface.func_wrap(
        "[method]graph.init-execution-context",
        |mut store: StoreContextMut<'_, State>, (graph,): (Resource<Graph>,)| {
            host_calls::enter("wasi:nn/graph [method]graph.init-execution-context");
            let context = Context(store.data_mut().table().get(&graph)?.0.clone());
            Ok((handle(&mut store, Ok(context))?,))
        },
    )
}

/// Defines `inference`.
pub fn define_inference(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Context>(interface, "graph-execution-context")?;
    interface.func_wrap_async(
        "[method]graph-execution-context.compute",
        |mut store: StoreContextMut<'_, State>, (context, inputs): (Resource<Context>, Handles)| {
            host_calls::enter("wasi:nn/inference [method]graph-execution-context.compute");
            Box::new(async move {
                let table = store.data_mut().table();
                let model = table.get(&context)?.0.clone();
                let taken =
                    inputs.into_iter().map(|(name, tensor)| Ok((name, table.delete(tensor)?)));
                let inputs = taken.collect::<wasmtime::Result<Named>>()?;
                let computed = apart(move || model.compute(inputs)).await;
                Ok((outputs(&mut store, computed)?,))
            })
        },
    )
}

/// Puts the outputs of a model into the guest's table.
fn outputs(
    store: &mut StoreContextMut<'_, State>,
    computed: Result<Named, Failure>,
) -> wasmtime::Result<Result<Handles, Resource<Failure>>> {
    let named = match computed {
        Ok(named) => named,
        Err(failure) => return Ok(Err(handle_of(store, failure)?)),
    };
    let table = store.data_mut().table();
    let pushed = named.into_iter().map(|(name, tensor)| Ok((name, table.push(tensor)?)));
    Ok(Ok(pushed.collect::<wasmtime::Result<Handles>>()?))
}

/// Puts a resource into the guest's table, or the failure to make it.
fn handle<T: Send + 'static>(
    store: &mut StoreContextMut<'_, State>,
    made: Result<T, Failure>,
) -> wasmtime::Result<Result<Resource<T>, Resource<Failure>>> {
    Ok(match made {
        Ok(resource) => Ok(store.data_mut().table().push(resource)?),
        Err(failure) => Err(handle_of(store, failure)?),
    })
}

/// A failure as the guest gets it. The line in the log is for a guest that does not report it.
fn handle_of(
    store: &mut StoreContextMut<'_, State>,
    failure: Failure,
) -> wasmtime::Result<Resource<Failure>> {
    log_once(format!("nn {:?}", failure.code), &format!("warning: wasi:nn: {}", failure.data));
    Ok(store.data_mut().table().push(failure)?)
}

/// The only part of a model in the only encoding that can be read.
fn onnx(parts: Vec<Vec<u8>>, encoding: Encoding, target: Target) -> Result<Vec<u8>, Failure> {
    if !matches!(encoding, Encoding::Onnx | Encoding::Autodetect) {
        let reason = format!("a model cannot be in the encoding {encoding:?}: allowed is onnx");
        return Err(Failure::new(Code::InvalidEncoding, reason));
    }
    if target != Target::Cpu {
        let reason = format!("a model cannot run on a {target:?}: allowed is cpu");
        return Err(Failure::new(Code::UnsupportedOperation, reason));
    }
    let count = parts.len();
    let [bytes] = <[Vec<u8>; 1]>::try_from(parts).map_err(|_| {
        Failure::new(Code::InvalidArgument, format!("an ONNX model has one part, not {count}"))
    })?;
    Ok(bytes)
}

/// Does work on a thread of its own: it takes long, and more stack than a guest's. A panic of tract ends there.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Failure::new(Code::RuntimeError, "the model is malformed, or cannot have these inputs"))
    })
}
