//! A model in ONNX: read, prepared and computed by tract.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::Onnx;
use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoTValue, OutletId,
    TValue, TVec, Tensor as Array, TractResult, TypedSimplePlan,
};
use tract_onnx::tract_hir::internal::{Fact, Factoid};
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use super::Failure;
use super::tensor::{Tensor, no_room};
use crate::interfaces::types::Code;
use crate::memory::Reserved;

/// How many times the bytes of its file a model takes: while it is read, those bytes and the weights in them; afterwards, the
/// weights and the form of them that the operators use.
const COPIES: u64 = 3;

/// Tensors with the names of a model's inputs or outputs.
pub type Named = Vec<(String, Tensor)>;

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
    /// The most that the values between the operators take at a time, in bytes. Operators whose outputs depend on the values
    /// of their inputs are not counted.
    most: u64,
}

/// Refuses parts of a model that are in other files, because they would be opened without a look at the grants.
struct NoFiles;

impl ModelDataResolver for NoFiles {
    fn read_bytes_from_path(
        &self,
        _: &mut Vec<u8>,
        _: &Path,
        _: usize,
        _: Option<usize>,
    ) -> TractResult<()> {
        Err(tract_onnx::prelude::tract_data::TractError::msg("weights must be in the model itself"))
    }
}

impl Model {
    /// Reads a model.
    ///
    /// # Errors
    /// If it is not ONNX, has an operator that tract does not have, or finds no room.
    ///
    /// # Panics
    /// tract does for some models that are malformed.
    pub fn read(bytes: Vec<u8>) -> Result<Model, Failure> {
        let mut reserved = Reserved::default();
        if !reserved.resize((bytes.len() as u64).saturating_mul(COPIES)) {
            return Err(no_room());
        }
        let framework = Onnx { provider: Arc::new(NoFiles), ..tract_onnx::onnx() };
        let model = framework.model_for_read(&mut bytes.as_slice());
        let model = model.map_err(failure(Code::InvalidEncoding, "this is no model of ONNX"))?;
        if let Some(node) = model.nodes().iter().find(|node| node.op_is::<UnimplementedOp>()) {
            let reason = format!("the operator {} is not provided", node.op.name());
            return Err(Failure::new(Code::UnsupportedOperation, reason));
        }
        let name = |outlet: &OutletId| model.node(outlet.node).name.clone();
        let label = |outlet: &OutletId| model.outlet_label(*outlet).map(str::to_owned);
        let inputs = model.inputs.iter().map(name).collect();
        let outputs =
            model.outputs.iter().map(|it| label(it).unwrap_or_else(|| name(it))).collect();
        Ok(Model { model, inputs, outputs, prepared: Mutex::default(), _reserved: reserved })
    }

    /// Computes the outputs, of which there is one for each of the model's, in its order.
    ///
    /// # Errors
    /// If an input is missing, given twice, or has another type or shape than the model's; if there is no room.
    ///
    /// # Panics
    /// tract does for some models that are malformed.
    pub fn compute(&self, given: Named) -> Result<Named, Failure> {
        let inputs = self.arranged(given)?;
        let prepared = self.prepared(&inputs)?;
        let bytes = inputs.iter().map(|it| it.as_bytes().len() as u64).sum();
        let mut reserved = Reserved::default();
        if !reserved.resize(prepared.most.saturating_add(bytes)) {
            return Err(no_room());
        }
        let outputs =
            prepared.plan.run(inputs).map_err(failure(Code::RuntimeError, "the model failed"))?;
        let named = self.outputs.iter().zip(&outputs);
        named.map(|(name, value)| Ok((name.clone(), Tensor::of(value)?))).collect()
    }

    /// Prepares it for inputs of these shapes, if it is not.
    fn prepared(&self, inputs: &[TValue]) -> Result<Arc<Prepared>, Failure> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|it| it.shape().to_vec()).collect();
        // A panic in between has left none.
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
    fn arranged(&self, given: Named) -> Result<TVec<TValue>, Failure> {
        let invalid = |reason: String| Failure::new(Code::InvalidArgument, reason);
        let known = || self.inputs.join(", ");
        if let Some((name, _)) = given.iter().find(|(name, _)| !self.inputs.contains(name)) {
            return Err(invalid(format!(
                "the model has no input {name:?}: allowed is {}",
                known()
            )));
        }
        let arranged = self.inputs.iter().enumerate().map(|(index, wanted)| {
            let mut tensors = given.iter().filter(|(name, _)| name == wanted);
            let (Some((_, tensor)), None) = (tensors.next(), tensors.next()) else {
                return Err(invalid(format!("each input must be given once: {}", known())));
            };
            self.suitable(index, tensor)
        });
        arranged.collect()
    }

    /// A tensor as the model wants it: a truth value instead of a byte, a single value without a dimension.
    fn suitable(&self, index: usize, tensor: &Tensor) -> Result<TValue, Failure> {
        let mut array = tensor.array()?;
        let unsuitable = failure(Code::InvalidArgument, &self.inputs[index]);
        let fact = self.model.input_fact(index).map_err(&unsuitable)?;
        if fact.datum_type() == Some(DatumType::Bool) && array.datum_type() == DatumType::U8 {
            array = array.cast_to::<bool>().map_err(&unsuitable)?.into_owned();
        }
        if fact.shape.concretize().is_some_and(|shape| shape.is_empty()) && array.shape() == [1] {
            array.remove_axis(0).map_err(&unsuitable)?;
        }
        if !suits(fact, &array) {
            let given = InferenceFact::dt_shape(array.datum_type(), array.shape());
            let reason = format!("the input {:?} is {fact:?}, not {given:?}", self.inputs[index]);
            return Err(Failure::new(Code::InvalidArgument, reason));
        }
        Ok(array.into_tvalue())
    }
}

/// Whether it has the type and the shape, as far as the model says which.
fn suits(fact: &InferenceFact, array: &Array) -> bool {
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
    let most = bytes.max().map_or(0, |most| most.try_into().unwrap_or(u64::MAX));
    Ok(Prepared { shapes, plan, most })
}

/// An error of tract as one of the interface.
fn failure<E: Display>(code: Code, what: &str) -> impl Fn(E) -> Failure {
    move |error| Failure::new(code, format!("{what}: {error:#}"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
    use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Size};
    use tract_onnx::pb::type_proto::{Tensor as TensorOf, Value};
    use tract_onnx::pb::{
        GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
        TensorShapeProto, TypeProto, ValueInfoProto,
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
        Model::read(model.encode_to_vec())
    }

    fn floats(dimensions: &[u32], values: &[f32]) -> Tensor {
        let data = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        Tensor::new(dimensions.to_vec(), TensorType::Fp32, data)
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
            let computed = model.compute(given).expect("is computed");
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
        let bytes = Tensor::new(vec![1, 2], TensorType::U8, vec![1, 2]);
        for (given, reason) in [
            (vec![], "each input must be given once: rows"),
            (vec![(rows(), row()), (rows(), row())], "each input must be given once: rows"),
            (
                vec![(rows(), row()), ("columns".into(), row())],
                "no input \"columns\": allowed is rows",
            ),
            (vec![(rows(), bytes)], "the input \"rows\" is N,2,F32, not 1,2,U8"),
            (vec![(rows(), floats(&[2], &[1.0, 2.0]))], "not 2,F32"),
            (vec![(rows(), floats(&[1, 3], &[1.0, 2.0, 3.0]))], "not 1,3,F32"),
            (vec![(rows(), floats(&[1, 2], &[1.0]))], "cannot have 4 bytes"),
        ] {
            let (code, data) = refused(model.compute(given));
            assert!(code == Code::InvalidArgument && data.contains(reason), "{code:?} {data}");
        }
    }

    #[test]
    fn what_is_no_model_or_has_an_unknown_operator_is_refused() {
        for bytes in [b"no model".to_vec(), Vec::new(), adding().encode_to_vec()[..60].to_vec()] {
            let (code, data) = refused(Model::read(bytes));
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
        assert!(code == Code::InvalidEncoding, "{code:?} {data}");
    }

    #[test]
    fn what_a_model_needs_beside_its_weights_is_known_before_it_is_computed() {
        let model = read(&adding()).expect("a model");
        let most = |rows: u32| {
            let array =
                floats(&[rows, 2], &vec![0.0; 2 * rows as usize]).array().expect("an array");
            model.prepared(&[array.into_tvalue()]).expect("is prepared").most
        };
        assert_eq!((most(1), most(1000), most(1)), (8, 8000, 8));
    }
}
