//! A model in ONNX: read, prepared and computed by tract.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tract_onnx::pb::GraphProto;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Size};
use tract_onnx::pb::type_proto::Value;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoTValue, OutletId,
    TValue, TVec, Tensor as Array, TractError, TractResult, TypedSimplePlan, TypedSimpleState,
};
use tract_onnx::tract_core::plan;
use tract_onnx::tract_hir::internal::{Fact, Factoid};
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use super::tensor::{Tensor, too_large};
use super::{Failure, shortened};
use crate::interfaces::types::Code;
use crate::memory::Reserved;

/// Memory of a model, as a multiple of its file's size. While it is read, there are the file and the weights in it; afterwards, the
/// weights, and the form of them that the operators use.
const COPIES: u64 = 3;

/// The longest name of an open dimension, or formula for one, in bytes. tract parses it by recursion.
const DIMENSION_BYTES: usize = 256;

/// Tensors with the names of a model's inputs or outputs.
pub type NamedTensors = Vec<(String, Tensor)>;

/// A model.
pub struct Model {
    model: InferenceModel,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// For inputs of the shapes that it was last computed with.
    prepared: Mutex<Option<Arc<Prepared>>>,
    _reserved: Reserved,
}

/// A model that is ready to be computed for inputs of certain shapes. Many models cannot be prepared without them: in those
/// of JAX and TensorFlow, operators compute shapes.
struct Prepared {
    shapes: Vec<Vec<usize>>,
    plan: Arc<TypedSimplePlan>,
    /// Memory of the values between the operators at its highest, in bytes. Outputs whose size depends on the values of inputs
    /// are not counted.
    peak: u64,
}

/// Memory of a model whose file has that many bytes, in bytes.
pub fn size(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(COPIES)
}

impl Model {
    /// Reads a model, in memory that is reserved for it. Weights that are in other files are not found, because tract is not given
    /// the path of the model.
    ///
    /// # Errors
    /// If it is not ONNX, or has an operator that tract does not have.
    ///
    /// # Panics
    /// tract panics for some models that are malformed.
    pub fn read(bytes: Vec<u8>, reserved: Reserved) -> Result<Model, Failure> {
        let framework = tract_onnx::onnx();
        let unreadable = failure(Code::InvalidEncoding, "cannot read the model");
        let decoded = framework.proto_model_for_read(&mut bytes.as_slice()).map_err(&unreadable)?;
        drop(bytes);
        if decoded.graph.as_ref().is_some_and(has_long_dimension) {
            let reason = format!("a dimension has a name of more than {DIMENSION_BYTES} bytes");
            return Err(Failure::new(Code::InvalidEncoding, reason));
        }
        let model = framework.model_for_proto_model(&decoded).map_err(&unreadable)?;
        if let Some(node) = model.nodes().iter().find(|node| node.op_is::<UnimplementedOp>()) {
            let name = node.op.name();
            let name = name.trim_start_matches("Unimplemented(").trim_end_matches(')');
            let reason = format!("the operator {:?} is not provided", shortened(name));
            return Err(Failure::new(Code::UnsupportedOperation, reason));
        }
        let name = |outlet: &OutletId| model.node(outlet.node).name.clone();
        let label = |outlet: &OutletId| model.outlet_label(*outlet).map(str::to_owned);
        let inputs = model.inputs.iter().map(name).collect();
        let outputs =
            model.outputs.iter().map(|it| label(it).unwrap_or_else(|| name(it))).collect();
        Ok(Model { model, inputs, outputs, prepared: Mutex::default(), _reserved: reserved })
    }

    /// Computes the model's outputs, in its order. Ends before the next operator if the caller is gone.
    ///
    /// # Errors
    /// If an input is missing, given twice, or has another type or shape than the model's; if there is no room.
    ///
    /// # Panics
    /// tract panics for some models that are malformed.
    pub fn compute(&self, given: NamedTensors, caller: &Weak<()>) -> Result<NamedTensors, Failure> {
        let bytes = given.iter().map(|(_, tensor)| tensor.data().len() as u64).sum();
        let mut reserved = Reserved::default();
        if !reserved.resize(bytes) {
            return Err(too_large());
        }
        let inputs = self.in_order(given)?;
        let prepared = self.prepared(&inputs)?;
        if !reserved.resize(prepared.peak.saturating_add(bytes)) {
            return Err(too_large());
        }
        let failed = failure(Code::RuntimeError, "the model failed");
        let mut state = TypedSimpleState::new(&prepared.plan).map_err(&failed)?;
        let outputs = state.run_plan_with_eval(inputs, |context, state, node, inputs| {
            if caller.strong_count() == 0 {
                return Err(TractError::msg("nobody waits for the result"));
            }
            plan::eval(context, state, node, inputs)
        });
        let outputs = outputs.map_err(&failed)?;
        let named = self.outputs.iter().zip(&outputs);
        named.map(|(name, value)| Ok((name.clone(), Tensor::from_array(value)?))).collect()
    }

    /// Prepares it for inputs of these shapes, if it is not.
    fn prepared(&self, inputs: &[TValue]) -> Result<Arc<Prepared>, Failure> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|it| it.shape().to_vec()).collect();
        // If `prepare` panicked, there is no plan.
        let mut last = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = last.as_ref().filter(|prepared| prepared.shapes == shapes) {
            return Ok(prepared.clone());
        }
        *last = None;
        let unsuitable =
            failure(Code::InvalidArgument, "the model cannot be run with these inputs");
        let prepared = prepare(self.model.clone(), shapes, inputs).map_err(unsuitable)?;
        Ok(last.insert(Arc::new(prepared)).clone())
    }

    /// The inputs in the model's order.
    fn in_order(&self, given: NamedTensors) -> Result<TVec<TValue>, Failure> {
        let invalid = |reason: String| Failure::new(Code::InvalidArgument, reason);
        let known = || self.inputs.iter().map(|it| shortened(it)).collect::<Vec<_>>().join(", ");
        if let Some((name, _)) = given.iter().find(|(name, _)| !self.inputs.contains(name)) {
            let name = shortened(name);
            return Err(invalid(format!("no input is called {name:?}: allowed is {}", known())));
        }
        let inputs = self.inputs.iter().enumerate().map(|(index, wanted)| {
            let mut tensors = given.iter().filter(|(name, _)| name == wanted);
            let (Some((_, tensor)), None) = (tensors.next(), tensors.next()) else {
                return Err(invalid(format!("each input must be given once: {}", known())));
            };
            self.input(index, tensor)
        });
        inputs.collect()
    }

    /// Converts an input: bytes to truth values, and a single value to one without dimensions, where the model has those.
    fn input(&self, index: usize, tensor: &Tensor) -> Result<TValue, Failure> {
        let mut array = tensor.array()?;
        let unsuitable = failure(Code::InvalidArgument, &self.inputs[index]);
        let fact = self.model.input_fact(index).map_err(&unsuitable)?;
        if fact.datum_type() == Some(DatumType::Bool) && array.datum_type() == DatumType::U8 {
            array = array.cast_to::<bool>().map_err(&unsuitable)?.into_owned();
        }
        if fact.shape.concretize().is_some_and(|shape| shape.is_empty()) && array.shape() == [1] {
            array.remove_axis(0).map_err(&unsuitable)?;
        }
        if !matches(fact, &array) {
            let given = InferenceFact::dt_shape(array.datum_type(), array.shape());
            let name = shortened(&self.inputs[index]);
            let reason = format!("the input {name:?} is {fact:?}, not {given:?}");
            return Err(Failure::new(Code::InvalidArgument, reason));
        }
        Ok(array.into_tvalue())
    }
}

/// Whether it has the type and the shape that the model says, as far as it says them.
fn matches(fact: &InferenceFact, array: &Array) -> bool {
    fact.datum_type().is_none_or(|ty| ty == array.datum_type())
        && fact.shape.matches(array, None).unwrap_or(false)
}

fn prepare(
    mut model: InferenceModel,
    shapes: Vec<Vec<usize>>,
    inputs: &[TValue],
) -> TractResult<Prepared> {
    for (index, input) in inputs.iter().enumerate() {
        model.set_input_fact(index, InferenceFact::dt_shape(input.datum_type(), input.shape()))?;
    }
    let plan = TypedSimplePlan::new(model.into_optimized()?)?;
    // Weights are left out, because they are the model's own.
    let steps = plan
        .model()
        .eval_tmp_memory_usage(plan.order_without_consts(), |node| !node.inputs.is_empty())?;
    let bytes = steps.iter().filter_map(|(_, bytes)| bytes.to_i64().ok());
    let peak = bytes.max().map_or(0, |peak| peak.try_into().unwrap_or(u64::MAX));
    Ok(Prepared { shapes, plan, peak })
}

/// Whether a graph, or one within it, has an open dimension with a long name.
fn has_long_dimension(graph: &GraphProto) -> bool {
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    let types = values.filter_map(|value| value.r#type.as_ref()?.value.as_ref());
    let mut shapes = types.filter_map(|Value::TensorType(tensor)| tensor.shape.as_ref());
    let is_long = |dimension: &Dimension| match &dimension.value {
        Some(Size::DimParam(name)) => name.len() > DIMENSION_BYTES,
        _ => false,
    };
    let mut attributes = graph.node.iter().flat_map(|node| &node.attribute);
    shapes.any(|shape| shape.dim.iter().any(is_long))
        || attributes.any(|it| it.g.iter().chain(&it.graphs).any(has_long_dimension))
}

/// An error of tract as one of the interface.
fn failure<E: Display>(code: Code, what: &str) -> impl Fn(E) -> Failure {
    move |error| Failure::new(code, format!("{what}: {error:#}"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
    use tract_onnx::pb::type_proto::Tensor as TensorOf;
    use tract_onnx::pb::{
        AttributeProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
        TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    };

    use super::*;
    use crate::interfaces::types::TensorType;

    fn value(name: &str, dimensions: &[Size]) -> ValueInfoProto {
        let dim = dimensions
            .iter()
            .map(|size| Dimension { value: Some(size.clone()), ..Default::default() });
        let shape = Some(TensorShapeProto { dim: dim.collect() });
        let tensor = TensorOf { elem_type: DataType::Float as i32, shape };
        let r#type =
            Some(TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() });
        ValueInfoProto { name: name.into(), r#type, ..Default::default() }
    }

    /// `sum = rows + weights`, for any number of rows of two.
    fn adding() -> ModelProto {
        let weights = TensorProto {
            name: "weights".into(),
            dims: vec![2],
            data_type: DataType::Float as i32,
            float_data: vec![10.0, 20.0],
            ..Default::default()
        };
        let add = NodeProto {
            op_type: "Add".into(),
            input: vec!["rows".into(), "weights".into()],
            output: vec!["sum".into()],
            ..Default::default()
        };
        let shape = [Size::DimParam("N".into()), Size::DimValue(2)];
        let graph = GraphProto {
            node: vec![add],
            initializer: vec![weights],
            input: vec![value("rows", &shape)],
            output: vec![value("sum", &shape)],
            ..Default::default()
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 13 }];
        ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }
    }

    fn graph(model: &mut ModelProto) -> &mut GraphProto {
        model.graph.as_mut().expect("a graph")
    }

    fn read(model: &ModelProto) -> Result<Model, Failure> {
        Model::read(model.encode_to_vec(), Reserved::default())
    }

    fn floats(dimensions: &[u32], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        Tensor::new(dimensions.to_vec(), TensorType::Fp32, &data)
    }

    fn computed(model: &Model, given: NamedTensors) -> Result<NamedTensors, Failure> {
        let call = Arc::new(());
        model.compute(given, &Arc::downgrade(&call))
    }

    fn refused<T>(done: Result<T, Failure>) -> (Code, String) {
        let failure = done.err().expect("is refused");
        (failure.code, failure.data)
    }

    #[test]
    fn a_model_is_computed_for_any_size_of_an_open_dimension() {
        let model = read(&adding()).expect("a model");
        for rows in [1, 3] {
            let values: Vec<f32> = (0..2 * rows).map(|it| it as f32).collect();
            let given = vec![("rows".into(), floats(&[rows, 2], &values))];
            let computed = computed(&model, given).expect("is computed");
            let [(name, sum)] = computed.as_slice() else { panic!("one output") };
            let expected: Vec<f32> =
                values.chunks(2).flat_map(|it| [it[0] + 10.0, it[1] + 20.0]).collect();
            assert_eq!((name.as_str(), sum.dimensions()), ("sum", &[rows, 2][..]));
            assert_eq!(sum.data(), floats(&[rows, 2], &expected).data());
        }
    }

    #[test]
    fn inputs_that_do_not_suit_the_model_are_refused() {
        let model = read(&adding()).expect("a model");
        let row = || floats(&[1, 2], &[1.0, 2.0]);
        let rows = || "rows".to_owned();
        let bytes = Tensor::new(vec![1, 2], TensorType::U8, &[1, 2]);
        for (given, reason) in [
            (vec![], "each input must be given once: rows"),
            (vec![(rows(), row()), (rows(), row())], "each input must be given once: rows"),
            (
                vec![(rows(), row()), ("columns".into(), row())],
                "no input is called \"columns\": allowed is rows",
            ),
            (vec![(rows(), bytes)], "the input \"rows\" is N,2,F32, not 1,2,U8"),
            (vec![(rows(), floats(&[2], &[1.0, 2.0]))], "not 2,F32"),
            (vec![(rows(), floats(&[1, 3], &[1.0, 2.0, 3.0]))], "not 1,3,F32"),
            (vec![(rows(), floats(&[1, 2], &[1.0]))], "cannot have 4 bytes"),
        ] {
            let (code, data) = refused(computed(&model, given));
            assert!(code == Code::InvalidArgument && data.contains(reason), "{code:?} {data}");
        }
    }

    #[test]
    fn what_is_no_model_or_has_an_unknown_operator_is_refused() {
        for bytes in [b"no model".to_vec(), Vec::new(), adding().encode_to_vec()[..60].to_vec()] {
            let (code, data) = refused(Model::read(bytes, Reserved::default()));
            assert_eq!(code, Code::InvalidEncoding, "{data}");
        }
        let mut unknown = adding();
        graph(&mut unknown).node[0].op_type = "Teleport".into();
        let (code, data) = refused(read(&unknown));
        assert!(code == Code::UnsupportedOperation && data.contains("Teleport"), "{code:?} {data}");
        graph(&mut unknown).node[0].op_type = "a\n\u{1b}".repeat(1000);
        let (_, data) = refused(read(&unknown));
        assert!(data.len() <= 500 && !data.contains(['\n', '\u{1b}']), "{data:?}");
    }

    #[test]
    fn a_model_does_not_read_weights_from_other_files() {
        let mut elsewhere = adding();
        let weights = &mut graph(&mut elsewhere).initializer[0];
        weights.float_data.clear();
        weights.data_location = Some(DataLocation::External as i32);
        let location =
            StringStringEntryProto { key: "location".into(), value: "Cargo.toml".into() };
        weights.external_data = vec![location];
        let (code, data) = refused(read(&elsewhere));
        assert!(code == Code::InvalidEncoding && data.contains("no model path"), "{data}");
    }

    #[test]
    fn a_dimension_with_a_long_name_is_refused_at_any_depth() {
        let long = || value("rows", &[Size::DimParam("N".repeat(DIMENSION_BYTES + 1))]);
        let mut model = adding();
        graph(&mut model).input = vec![long()];
        assert!(refused(read(&model)).1.contains("a dimension has a name"));
        let mut model = adding();
        let inner = GraphProto { value_info: vec![long()], ..Default::default() };
        let attribute = AttributeProto { g: Some(inner), ..Default::default() };
        graph(&mut model).node[0].attribute = vec![attribute];
        assert!(refused(read(&model)).1.contains("a dimension has a name"));
    }

    #[test]
    fn a_model_is_not_computed_for_a_caller_that_is_gone() {
        let model = read(&adding()).expect("a model");
        let given = vec![("rows".into(), floats(&[1, 2], &[1.0, 2.0]))];
        let (code, data) = refused(model.compute(given, &Weak::new()));
        assert!(code == Code::RuntimeError && data.contains("nobody waits"), "{data}");
    }

    #[test]
    fn what_a_model_needs_beside_its_weights_is_known_before_it_is_computed() {
        let model = read(&adding()).expect("a model");
        let peak = |rows: u32| {
            let array =
                floats(&[rows, 2], &vec![0.0; 2 * rows as usize]).array().expect("an array");
            model.prepared(&[array.into_tvalue()]).expect("is prepared").peak
        };
        assert_eq!((peak(1), peak(1000), peak(1)), (8, 8000, 8));
    }
}
