//! `wasi:nn`: inference with ONNX models on the processor, by the crate tract.
//!
//! Read in this order: the functions here, then `tensor` and `model`. A model comes from the guest's own files, and it is
//! computed in the guest's own process, on a thread of its own. What it takes is reserved in the guest's part of the
//! container's memory limit, as far as it is known before.
//!
//! `wasmtime-wasi-nn` is not used. It does not compare a tensor's data with its dimensions, counts no memory, and gives each
//! failure of a model the same code. Its backends are libraries in C++ that are loaded at run time.

mod hypot;
mod model;
mod tensor;

use std::sync::{Arc, LazyLock, Weak};
use std::thread::available_parallelism;

use text::on_one_line;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, WasmList, WasmStr};

use super::types::{Code, Encoding, Target, TensorType};
use super::{log_once, resource};
use crate::host_calls;
use crate::memory::Reserved;
use crate::state::State;
use model::{Model, NamedTensors};
use tensor::{RANK, Tensor, too_large};

/// The longest text of an error, in characters.
const REASON_CHARS: usize = 500;

/// How much of a name an error repeats, in characters.
const NAME_CHARS: usize = 80;

/// The right to read or compute a model. As many can be had as there are processors, so that requests that were given up and
/// whose work has not ended yet do not use up the threads that files need.
static TURNS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))));

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
type NamedHandles = Vec<(String, Resource<Tensor>)>;

impl Failure {
    /// The reason may have names of the model in it, which must neither forge lines of the log nor fill it.
    fn new(code: Code, reason: impl AsRef<str>) -> Failure {
        let beginning: String = reason.as_ref().chars().take(REASON_CHARS).collect();
        let data = on_one_line(&beginning).chars().filter(|it| !it.is_control()).collect();
        Failure { code, data }
    }
}

/// Defines `errors`.
pub fn define_errors(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Failure>(interface, "error")?;
    getter(interface, "wasi:nn/errors [method]error.code", |error: &Failure| error.code)?;
    getter(interface, "wasi:nn/errors [method]error.data", |error: &Failure| error.data.clone())
}

/// Defines `tensor`.
pub fn define_tensor(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Tensor>(interface, "tensor")?;
    interface.func_wrap(
        "[constructor]tensor",
        |mut store: StoreContextMut<'_, State>,
         (dimensions, ty, data): (WasmList<u32>, TensorType, WasmList<u8>)| {
            host_calls::enter("wasi:nn/tensor [constructor]tensor");
            // More than are allowed are not copied, but seen.
            let dimensions = dimensions.as_le_slice(&store).iter().take(RANK + 1);
            let dimensions = dimensions.map(|it| u32::from_le(*it)).collect();
            let tensor = Tensor::new(dimensions, ty, data.as_le_slice(&store));
            Ok((store.data_mut().table().push(tensor)?,))
        },
    )?;
    getter(interface, "wasi:nn/tensor [method]tensor.dimensions", |tensor: &Tensor| {
        tensor.dimensions().to_vec()
    })?;
    getter(interface, "wasi:nn/tensor [method]tensor.ty", Tensor::ty)?;
    getter(interface, "wasi:nn/tensor [method]tensor.data", |tensor: &Tensor| {
        tensor.data().to_vec()
    })
}

/// Defines a method that returns something of a resource. The call has the interface's name and the method's.
fn getter<T: Send + 'static, R: ComponentType + Lower + 'static>(
    interface: &mut LinkerInstance<'_, State>,
    call: &'static str,
    get: fn(&T) -> R,
) -> wasmtime::Result<()> {
    let method = call.split_once(' ').map_or(call, |(_, method)| method);
    let host = move |mut store: StoreContextMut<'_, State>, (resource,): (Resource<T>,)| {
        host_calls::enter(call);
        Ok((get(store.data_mut().table().get(&resource)?),))
    };
    interface.func_wrap(method, host)
}

/// Defines `graph`.
pub fn define_graph(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Graph>(interface, "graph")?;
    interface.func_wrap_async(
        "load",
        |mut store, (parts, encoding, target): (Vec<WasmList<u8>>, Encoding, Target)| {
            host_calls::enter("wasi:nn/graph load");
            let onnx = onnx(&store, &parts, encoding, target);
            Box::new(async move {
                let loaded = match onnx {
                    Ok((bytes, reserved)) => {
                        on_a_thread(move |_| Model::read(bytes, reserved)).await
                    }
                    Err(failure) => Err(failure),
                };
                Ok((push(&mut store, loaded.map(|model| Graph(Arc::new(model))))?,))
            })
        },
    )?;
    interface.func_wrap(
        "load-by-name",
        |mut store: StoreContextMut<'_, State>, (name,): (WasmStr,)| {
            host_calls::enter("wasi:nn/graph load-by-name");
            let reason = format!(
                "no model is called {:?}: read one from a file, and pass it to load",
                shortened(&name.to_str(&store)?),
            );
            let none: Result<Graph, _> = Err(Failure::new(Code::NotFound, reason));
            Ok((push(&mut store, none)?,))
        },
    )?;
    interface.func_wrap(
        "[method]graph.init-execution-context",
        |mut store: StoreContextMut<'_, State>, (graph,): (Resource<Graph>,)| {
            host_calls::enter("wasi:nn/graph [method]graph.init-execution-context");
            let context = Context(store.data_mut().table().get(&graph)?.0.clone());
            Ok((push(&mut store, Ok(context))?,))
        },
    )
}

/// Defines `inference`.
pub fn define_inference(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Context>(interface, "graph-execution-context")?;
    interface.func_wrap_async(
        "[method]graph-execution-context.compute",
        |mut store: StoreContextMut<'_, State>,
         (context, inputs): (Resource<Context>, NamedHandles)| {
            host_calls::enter("wasi:nn/inference [method]graph-execution-context.compute");
            Box::new(async move {
                let table = store.data_mut().table();
                let model = table.get(&context)?.0.clone();
                let taken =
                    inputs.into_iter().map(|(name, tensor)| Ok((name, table.delete(tensor)?)));
                let inputs = taken.collect::<wasmtime::Result<NamedTensors>>()?;
                let computed = on_a_thread(move |caller| model.compute(inputs, caller)).await;
                Ok((push_outputs(&mut store, computed)?,))
            })
        },
    )
}

/// Puts the outputs of a model into the guest's table.
fn push_outputs(
    store: &mut StoreContextMut<'_, State>,
    computed: Result<NamedTensors, Failure>,
) -> wasmtime::Result<Result<NamedHandles, Resource<Failure>>> {
    let outputs = match computed {
        Ok(outputs) => outputs,
        Err(failure) => return Ok(Err(push_failure(store, failure)?)),
    };
    let table = store.data_mut().table();
    let pushed = outputs.into_iter().map(|(name, tensor)| Ok((name, table.push(tensor)?)));
    Ok(Ok(pushed.collect::<wasmtime::Result<NamedHandles>>()?))
}

/// Puts a resource into the guest's table, or the failure to make it.
fn push<T: Send + 'static>(
    store: &mut StoreContextMut<'_, State>,
    made: Result<T, Failure>,
) -> wasmtime::Result<Result<Resource<T>, Resource<Failure>>> {
    Ok(match made {
        Ok(resource) => Ok(store.data_mut().table().push(resource)?),
        Err(failure) => Err(push_failure(store, failure)?),
    })
}

/// Puts a failure into the guest's table. The line in the log is for a guest that does not report it.
fn push_failure(
    store: &mut StoreContextMut<'_, State>,
    failure: Failure,
) -> wasmtime::Result<Resource<Failure>> {
    log_once(format!("nn {:?}", failure.code), &format!("warning: wasi:nn: {}", failure.data));
    Ok(store.data_mut().table().push(failure)?)
}

/// Copies the only part of a model in the only encoding that can be read, into memory that is reserved for the model.
fn onnx(
    store: &StoreContextMut<'_, State>,
    parts: &[WasmList<u8>],
    encoding: Encoding,
    target: Target,
) -> Result<(Vec<u8>, Reserved), Failure> {
    if !matches!(encoding, Encoding::Onnx | Encoding::Autodetect) {
        let reason = format!("a model cannot be in the encoding {encoding:?}: allowed is onnx");
        return Err(Failure::new(Code::InvalidEncoding, reason));
    }
    if target != Target::Cpu {
        let reason = format!("a model cannot run on a {target:?}: allowed is cpu");
        return Err(Failure::new(Code::UnsupportedOperation, reason));
    }
    let [part] = parts else {
        let reason = format!("an ONNX model has one part, not {}", parts.len());
        return Err(Failure::new(Code::InvalidArgument, reason));
    };
    let bytes = part.as_le_slice(store);
    let mut reserved = Reserved::default();
    match reserved.resize(model::size(bytes.len())) {
        true => Ok((bytes.to_vec(), reserved)),
        false => Err(too_large()),
    }
}

/// Does work that takes long, and in which tract may panic. The work can see whether its caller still exists.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce(&Weak<()>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    // The semaphore is never closed.
    let turn = TURNS.clone().acquire_owned().await;
    let call = Arc::new(());
    let caller = Arc::downgrade(&call);
    let done = spawn_blocking(move || {
        let done = work(&caller);
        drop(turn);
        done
    })
    .await;
    drop(call);
    done.unwrap_or_else(|_| {
        Err(Failure::new(Code::RuntimeError, "the model is malformed, or cannot have these inputs"))
    })
}

/// The beginning of a name of the guest or of a model.
fn shortened(name: &str) -> String {
    name.chars().take(NAME_CHARS).collect()
}
